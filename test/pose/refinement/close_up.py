"""An object drawn large, so that a small finite step moves its splats by many of their widths."""

from __future__ import annotations

import numpy as np

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering.numba_rasterizer import rasterize
from test.synthetic import reference

NEUTRAL = np.array([1.0, 1, 1, 0, 0, 0])  # gain and offset of the colours, as they are
CLOSE_UP = Camera(420.0, 400.0, 46.0, 49.5, 96, 96)


def close_up_pose() -> np.ndarray:
    R = se3.exp([0, 0, 0, 2.0, 0.5, -0.4])[:3, :3]
    return se3.from_rotation_translation(R, [0.01, -0.01, 0.55] - R @ reference().box.mean(0))


def render_planes(T: np.ndarray) -> np.ndarray:
    return rasterize(reference().gaussians, CLOSE_UP, T)
