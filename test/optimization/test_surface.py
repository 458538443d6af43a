"""What is seen at a pixel of a moved surface, against the surface itself."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.optimization.levenberg_marquardt import move_about
from gs_pose_ros.optimization.surface import surface_jacobian

FX, FY = 300.0, 260.0
POINT = np.array([0.2, -0.3, 1.5])
CENTER = np.array([0.1, 0.2, 1.8])
SURFACE = (tuple(POINT), tuple(POINT - CENTER), (FX, FY))
NORMAL = np.array([0.3, -0.4, -1.0])  # of the plane through POINT
COLORS = np.array([0.7, -1.1, 0.4])  # gradient of a colour over the points of the plane, 1/m


def at_pixel(T: np.ndarray, u: float, v: float) -> tuple[float, float]:
    """Depth and colour of the plane, moved by T, at (u, v) px from the principal point."""
    normal, point = T[:3, :3] @ NORMAL, T[:3, :3] @ POINT + T[:3, 3]
    ray = np.array([u / FX, v / FY, 1.0])
    z = (normal @ point) / (normal @ ray)
    return z, COLORS @ (T[:3, :3].T @ (z * ray - T[:3, 3]))


def differences(value: int, xi: np.ndarray) -> float:
    """By how much the depth (0) or the colour (1) at the pixel of POINT grows along xi."""
    u, v = POINT[:2] / POINT[2] * (FX, FY)
    ahead, behind = (at_pixel(move_about(np.eye(4), CENTER, s * xi), u, v) for s in (1, -1))
    return (ahead[value] - behind[value]) / 2


@pytest.mark.parametrize('value', [0, 1], ids=['depth', 'colour'])
def test_it_is_what_a_moved_plane_shows_at_the_pixel(value: int) -> None:
    u, v = POINT[:2] / POINT[2] * (FX, FY)
    slopes = [
        (at_pixel(np.eye(4), u + du, v + dv)[value] - at_pixel(np.eye(4), u - du, v - dv)[value])
        / 0.02
        for du, dv in ((0.01, 0), (0, 0.01))
    ]
    # The depth grows by what the surface moves away, its colour does not.
    J = surface_jacobian((*slopes, 1.0 - value), SURFACE)
    numeric = [differences(value, 1e-5 * axis) / 1e-5 for axis in np.eye(6)]
    np.testing.assert_allclose(J, numeric, rtol=1e-4, atol=1e-6)


def test_what_has_no_slope_changes_with_the_distance_alone() -> None:
    J = surface_jacobian((0.0, 0.0, 1.0), SURFACE)
    x, y, _ = POINT - CENTER
    np.testing.assert_allclose(J, [0, 0, 1, y, -x, 0])
