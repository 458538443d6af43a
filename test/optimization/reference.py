"""The mathematics of the kernels as one reads it, in plain numpy; for tests that compare."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def tukey(r: float, cut: float) -> tuple[float, float]:
    """Weight and cost of a residual."""
    if abs(r) >= cut:
        return 0.0, cut**2 / 6
    q = 1 - (r / cut) ** 2
    return q**2, cut**2 / 6 * (1 - q**3)


def point_at(K: Array, x: int, y: int, z: float) -> Array:
    """The point [3] at a depth, seen at a pixel."""
    fx, fy, cx, cy = K
    return np.array([(x - cx) / fx * z, (y - cy) / fy * z, z])


def seen_jacobian(
    slopes: tuple[float, float], grows: float, point: Array, center: Array, K: Array
) -> Array:
    """Jacobian [6] of what is seen at a pixel, as the surface moves under it.

    `slopes` is by how much it grows per pixel to the right and down, `grows` by how much per metre
    that the surface moves away.
    """
    fx, fy, _, _ = K
    z = point[2]
    a, b, c = point - center
    motion = np.hstack([np.eye(3), [[0, c, -b], [-c, 0, a], [b, -a, 0]]])  # t + w x arm
    du = fx / z * (motion[0] - point[0] / z * motion[2])
    dv = fy / z * (motion[1] - point[1] / z * motion[2])
    return grows * motion[2] - slopes[0] * du - slopes[1] * dv
