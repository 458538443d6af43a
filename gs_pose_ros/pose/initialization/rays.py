"""From the optical axis to the ray an object stands on: allocentric and egocentric rotation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry import se3


def ray_rotations(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest rotations [N, 3, 3] that turn the optical axis to the rays of points [N, 3].

    An object that looks the same in the middle of the image and at `points` (allocentric
    rotation) has the egocentric rotation `ray_rotations(points) @ R`.
    """
    ray = points / np.linalg.norm(points, axis=1, keepdims=True)
    axis = np.cross(np.broadcast_to([0.0, 0.0, 1.0], ray.shape), ray)
    sine = np.linalg.norm(axis, axis=1)
    angle = np.arctan2(sine, ray[:, 2])
    scale = np.where(sine > 1e-12, angle / np.where(sine > 1e-12, sine, 1), 1.0)
    tangent = np.concatenate([np.zeros_like(axis), axis * scale[:, None]], 1)
    return se3.exp(tangent)[:, :3, :3]
