"""The depth along the body of flat Gaussians: that of the surface they lie in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering import render
from gs_pose_ros.rendering.numba_rasterizer import Splats, draw, rasterize, view_of, work_for
from gs_pose_ros.rendering.projection import SLOPED

CAMERA = Camera(130.0, 130.0, 39.5, 29.5, 80, 60)
DISTANCE = 2.0
SPACING = 0.02


def plane(tilt_deg: float, axis: str = 'x') -> tuple[Gaussians, NDArray[np.float64]]:
    """Flat Gaussians on a plane 2 m ahead, tilted about an axis of the camera, and its normal."""
    half = np.radians(tilt_deg) / 2
    sin, cos = np.sin(2 * half), np.cos(2 * half)
    along = np.array([1.0, 0, 0]) if axis == 'x' else np.array([0.0, 1, 0])
    other = np.array([0, cos, sin]) if axis == 'x' else np.array([cos, 0, -sin])
    i, j = np.mgrid[-75:76, -75:76].reshape(2, -1, 1) * SPACING
    points = i * along + j * other + [0, 0, DISTANCE]
    gaussians = Gaussians.from_points(points, np.full(points.shape, 0.5), SPACING / 2, 0.99, 0)
    gaussians.log_scales[:, 2] = np.log(0.03 * SPACING / 2)
    turn = (
        [np.cos(half), np.sin(half), 0, 0] if axis == 'x' else [np.cos(half), 0, np.sin(half), 0]
    )
    gaussians.quats[:] = torch.tensor(turn)
    return gaussians, np.cross(along, other)


def drawn(gaussians: Gaussians, sloped: bool, camera: Camera = CAMERA) -> NDArray[np.float32]:
    """As `rasterize`."""
    splats = Splats.of(gaussians)
    image = np.empty((camera.height, 5, camera.width), np.float32)
    starts, view = np.array([0, len(splats)]), view_of(camera, np.eye(4), sloped)[None]
    needed = 0
    while True:
        work = work_for(splats, camera, needed)
        needed = draw(splats.prepared, splats.sh, starts, view, work, image)
        if needed <= work.pairs.shape[1]:
            return image


def depth_of(gaussians: Gaussians, sloped: bool, camera: Camera = CAMERA) -> NDArray[np.float32]:
    image = drawn(gaussians, sloped, camera)
    return image[:, 3] / np.maximum(image[:, 4], 1e-6)


def exact(normal: NDArray[np.float64], camera: Camera = CAMERA) -> NDArray[np.float64]:
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.back_project(np.stack([u, v], -1), np.ones(camera.shape))
    return DISTANCE * normal[2] / (rays @ normal)


MIDDLE = np.s_[20:40, 30:50]


@pytest.mark.parametrize('axis', ['x', 'y'])
@pytest.mark.parametrize('tilt_deg', [0, 30, -30, 60])
def test_flat_gaussians_show_the_plane_they_lie_in(tilt_deg: float, axis: str) -> None:
    gaussians, normal = plane(tilt_deg, axis)
    error = (depth_of(gaussians, sloped=True) - exact(normal))[MIDDLE]
    assert np.abs(error).max() < 3e-4


def test_without_slope_a_tilted_plane_is_too_near() -> None:
    gaussians, normal = plane(30)
    error = (depth_of(gaussians, sloped=False) - exact(normal))[MIDDLE]
    assert error.mean() < -0.005


def test_without_tilt_the_slope_changes_nothing_in_the_middle() -> None:
    gaussians, _ = plane(0)
    np.testing.assert_allclose(
        depth_of(gaussians, True)[MIDDLE], depth_of(gaussians, False)[MIDDLE], atol=1e-5
    )


def test_balls_have_no_slope() -> None:
    r = np.random.default_rng(0)
    points = r.uniform([-0.05, -0.05, 1.9], [0.05, 0.05, 2.1], (40, 3))
    gaussians = Gaussians.from_points(points, np.full((40, 3), 0.5), 0.05, 0.9, 0)
    camera = Camera(130.0, 130.0, 3.5, 3.5, 8, 8)
    # Up to the perspective: the depth on the ridge of a ball beside the axis.
    np.testing.assert_allclose(
        depth_of(gaussians, True, camera), depth_of(gaussians, False, camera), atol=5e-3
    )


def test_a_gaussian_seen_edge_on_has_a_finite_depth() -> None:
    for tilt_deg in (89.9, 90.0, 90.1):
        gaussians, _ = plane(tilt_deg)
        gaussians.means[:, 1] += 0.01
        assert np.isfinite(drawn(gaussians, sloped=True)).all()


def test_pictures_with_gradients_are_drawn_without_slopes() -> None:
    gaussians, _ = plane(30)
    assert view_of(CAMERA, np.eye(4))[SLOPED] == 0
    assert view_of(CAMERA, np.eye(4), sloped=True)[SLOPED] == 1
    flat = depth_of(gaussians, sloped=False)
    image = rasterize(gaussians, CAMERA, np.eye(4))
    np.testing.assert_array_equal(image, drawn(gaussians, sloped=False))
    T = torch.eye(4, dtype=torch.float64, requires_grad=True)
    depth = render(gaussians, CAMERA, T).depth
    np.testing.assert_allclose(depth.detach().numpy(), flat, rtol=1e-5)
    depth[MIDDLE].mean().backward()
    assert T.grad is not None
    assert T.grad[2, 3] == pytest.approx(1, abs=0.05)
