"""A depth image as another camera would have taken it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry.camera import Camera

# Colour pixels that one depth pixel may cover, a side: of a surface right before the colour camera
# it could be all, and the time with it. More than four times the pixels of a depth camera a side
# is not made.
_LARGEST = 32
# A depth pixel whose neighbours are further off than this share of the depth is an edge: its
# surface is taken to face the camera. 0.1: one pixel of a camera with f = 600 px sees a surface of
# 0.1 z within a pixel at 89 degrees only.
_EDGE = 0.1


def register_depth(
    depth: NDArray[np.float32],
    camera: Camera,
    color_camera: Camera,
    T_color_depth: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Depth [h, w] (m) of `camera` in the pixels of `color_camera`: [H, W] m, 0 where unknown.

    `T_color_depth` [4, 4] maps points of the depth camera into the colour camera. Each pixel is a
    small plane, as steep as its flatter neighbours say, and covers all it can be seen in; where
    several meet, the nearest hides the others. What the depth camera did not see stays 0.
    """
    valid = np.isfinite(depth) & (depth > 0)
    z = np.where(valid, depth, 0).astype(np.float64)
    rows, columns = np.nonzero(valid)
    out = np.full(color_camera.height * color_camera.width, np.inf)
    if not len(rows):
        return np.zeros(color_camera.shape, np.float32)
    # A plane's inverse depth is linear in the picture: 1/z = a + b u + c v.
    inverse = np.where(valid, 1 / np.where(valid, z, 1), 0)
    b = _slope(inverse, valid, 1)[rows, columns]
    c = _slope(inverse, valid, 0)[rows, columns]
    w = inverse[rows, columns]
    x, y = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    # normal . X = 1 for the points X of the plane: 1/z = normal . (x, y, 1).
    normal = np.stack(
        [b * camera.fx, c * camera.fy, w - b * camera.fx * x - c * camera.fy * y], -1
    )
    R, t = T_color_depth[:3, :3], T_color_depth[:3, 3]
    n_color = normal @ R.T
    scale = 1 + n_color @ t  # normal . R^T (X - t) = 1
    corners = []
    for du, dv in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)):
        z_corner = 1 / (w + b * du + c * dv)
        ray = np.stack([x + du / camera.fx, y + dv / camera.fy, np.ones_like(x)], -1)
        corners.append((ray * z_corner[:, None]) @ R.T + t)
    points = np.stack(corners)  # [4, N, 3]
    ahead = (points[..., 2] > 1e-6).all(0)
    if not ahead.any():
        return np.zeros(color_camera.shape, np.float32)
    points, n_color, scale = points[:, ahead], n_color[ahead], scale[ahead]
    uv = color_camera.project(points)
    near, far = points[..., 2].min(0), points[..., 2].max(0)
    # All pixels whose centre is inside; the sliver keeps rounding from opening a seam.
    low = np.ceil(uv.min(0) - 1e-6).clip(-1e9, 1e9).astype(np.int64)
    high = np.floor(uv.max(0) + 1e-6).clip(-1e9, 1e9).astype(np.int64)
    sizes = (high - low + 1).clip(max=_LARGEST)
    low = low.clip(min=0)
    high = np.minimum(low + sizes - 1, np.minimum(high, np.array(color_camera.shape[::-1]) - 1))
    across, down = (high - low + 1).clip(min=0).T
    for row in range(int(down.max(initial=0))):
        for column in range(int(across.max(initial=0))):
            at = np.nonzero((across > column) & (down > row))[0]
            if not len(at):
                continue
            u, v = low[at, 0] + column, low[at, 1] + row
            right, below = (
                (u - color_camera.cx) / color_camera.fx,
                (v - color_camera.cy) / color_camera.fy,
            )
            n = n_color[at]
            down_ray = n[:, 0] * right + n[:, 1] * below + n[:, 2]
            on_plane = scale[at] / np.where(down_ray == 0, 1, down_ray)
            np.minimum.at(out, v * color_camera.width + u, np.clip(on_plane, near[at], far[at]))
    return np.where(np.isfinite(out), out, 0).reshape(color_camera.shape).astype(np.float32)


def _slope(
    inverse: NDArray[np.float64], valid: NDArray[np.bool_], axis: int
) -> NDArray[np.float64]:
    """How much the inverse depth changes a pixel along an axis: of both sides the smaller.

    Where they disagree in sign, where a side is missing or an edge is between, it is flat there.
    """
    step = np.diff(inverse, axis=axis)
    both = np.logical_and(*(np.take(valid, _range(inverse, axis, k), axis) for k in (0, 1)))
    size = np.maximum(*(np.take(inverse, _range(inverse, axis, k), axis) for k in (0, 1)))
    step = np.where(both & (np.abs(step) < _EDGE * size), step, np.nan)
    padding = [(0, 0), (0, 0)]
    padding[axis] = (1, 0)
    before = np.pad(step, padding, constant_values=np.nan)
    padding[axis] = (0, 1)
    after = np.pad(step, padding, constant_values=np.nan)
    before, after = (
        np.where(np.isnan(before), after, before),
        np.where(np.isnan(after), before, after),
    )
    smaller = np.where(np.abs(before) < np.abs(after), before, after)
    return np.where(before * after > 0, smaller, 0.0)


def _range(image: NDArray[np.float64], axis: int, first: int) -> NDArray[np.int64]:
    return np.arange(first, image.shape[axis] - 1 + first)
