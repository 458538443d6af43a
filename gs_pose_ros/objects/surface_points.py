"""Where an object's surface is, from posed views: fused depth, or the visual hull of the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, KDTree, QhullError
from scipy.spatial.distance import pdist

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3

# Lowest and highest corner, m.
Box = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class MaskedView:
    """A checked view: frame blackened outside its mask."""

    frame: RGBDFrame
    mask: NDArray[np.bool_]
    T_cam_obj: NDArray[np.float64]
    session: int

    @property
    def depth(self) -> NDArray[np.float32] | None:
        """[H, W] m, 0 where unknown and outside the mask."""
        return self.frame.depth


def surface_points(
    object_id: str, views: Sequence[MaskedView], points_across: int, box: Box | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Surface points [N, 3] m, their colours [N, 3] and their spacing m.

    From depth, where at least half of the views have it, else from the masks.

    Raises:
        GsPoseError: the views show no surface; the message names the object.

    """
    with_depth = [view for view in views if view.depth is not None]
    if len(with_depth) >= len(views) / 2:
        points, colors = _fused_depth(with_depth)
        if len(points) < 100:
            raise GsPoseError(f'{object_id}: only {len(points)} depth pixels inside the masks')
        points, colors, spacing = _thinned(points, colors, points_across)
    else:
        points, colors, spacing = _visual_hull(object_id, views, points_across, box)
    if box is not None:
        low, high = np.asarray(box)
        inside = ((points >= low) & (points <= high)).all(1)
        points, colors = points[inside], colors[inside]
    if len(points) < 50:
        raise GsPoseError(
            f'{object_id}: {len(points)} surface points are left; check box and poses'
        )
    return points, colors, spacing


def _fused_depth(views: Sequence[MaskedView]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, colors = [], []
    for view in views:
        assert view.depth is not None
        # Depth at the rim of a mask mixes object and background.
        inner = cv2.erode(view.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        valid = inner & (view.depth > 0)
        p = view.frame.camera.point_map(view.depth)[valid]
        points.append(se3.transform(se3.inverse(view.T_cam_obj), p))
        colors.append(view.frame.color[valid])
    return np.concatenate(points), np.concatenate(colors).astype(np.float64)


def _thinned(
    points: NDArray[np.float64], colors: NDArray[np.float64], points_across: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """One mean point a voxel; voxels hit by few pixels or far from the rest are noise."""
    middle = np.median(points, axis=0)
    radius = np.percentile(np.linalg.norm(points - middle, axis=1), 98) * 1.5
    near = np.linalg.norm(points - middle, axis=1) < radius
    points, colors = points[near], colors[near]
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    spacing = float(np.linalg.norm(high - low)) / points_across
    _, voxel, count = np.unique(
        np.floor(points / spacing).astype(np.int64),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    voxel = voxel.ravel()

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.bincount(voxel, values[:, k]) / count for k in range(3)], 1)

    kept = count >= max(2, np.median(count) * 0.05)
    points, colors = means(points)[kept], means(colors)[kept]
    clean = _outlier_free(points, spacing)
    return points[clean], colors[clean], spacing


def _outlier_free(points: NDArray[np.float64], spacing: float) -> NDArray[np.bool_]:
    distance, _ = KDTree(points).query(points, k=min(7, len(points)))
    return distance[:, -1] < 4 * spacing


def without_outliers(points: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """The points [M, 3] that have neighbours; all of them where too few are left."""
    kept = points[_outlier_free(points, spacing)]
    return kept if len(kept) > 50 else points


def _visual_hull(
    object_id: str, views: Sequence[MaskedView], points_across: int, box: Box | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Surface of the space that projects into (almost) every mask (Laurentini 1994)."""
    if box is not None:
        low, high = (np.asarray(corner, np.float64) for corner in box)
    else:
        low, high = _box_from_masks(views)
    # Two passes: the first finds the object in the box, the second resolves it.
    for cells in (48, points_across):
        spacing = float((high - low).max()) / cells
        axes = [
            np.arange(a - spacing, b + 2 * spacing, spacing)
            for a, b in zip(low, high, strict=True)
        ]
        grid = np.stack(np.meshgrid(*axes, indexing='ij'), -1)
        inside = _inside_masks(grid.reshape(-1, 3), views).reshape(grid.shape[:3])
        if not inside.any():
            raise GsPoseError(
                f'{object_id}: no point lies inside the masks of 90 % of the views; '
                'the masks and the poses contradict each other'
            )
        found = grid[inside]
        low, high = found.min(0) - spacing, found.max(0) + spacing
    eroded = inside.copy()
    for axis in range(3):
        eroded &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    points = grid[inside & ~eroded]
    return points, _mean_colors(points, views), spacing


def _box_from_masks(
    views: Sequence[MaskedView],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A cube around the point nearest to all rays through the masks' centres."""
    A, b, rays = np.zeros((3, 3)), np.zeros(3), []
    for view in views:
        rows, cols = np.nonzero(view.mask)
        T_obj_cam = se3.inverse(view.T_cam_obj)
        ray = T_obj_cam[:3, :3] @ view.frame.camera.back_project([cols.mean(), rows.mean()], 1.0)
        ray /= np.linalg.norm(ray)
        P = np.eye(3) - np.outer(ray, ray)
        A += P
        b += P @ T_obj_cam[:3, 3]
        rays.append(max(np.ptp(rows), np.ptp(cols)) / view.frame.camera.fx)
    center = np.linalg.solve(A, b)
    z = np.array([(v.T_cam_obj[:3, :3] @ center + v.T_cam_obj[:3, 3])[2] for v in views])
    if np.median(z) <= 0:
        raise GsPoseError('the views look away from the object: is T_cam_obj inverted?')
    half = 0.75 * float(np.max(np.array(rays) * z))
    return np.asarray(center - half, np.float64), np.asarray(center + half, np.float64)


def _inside_masks(
    points: NDArray[np.float64], views: Sequence[MaskedView], share: float = 0.9
) -> NDArray[np.bool_]:
    hits, seen = np.zeros(len(points)), np.zeros(len(points))
    for view in views:
        uv, inside = _pixels(points, view)
        hits[inside] += view.mask[uv[inside, 1], uv[inside, 0]]
        seen[inside] += 1
    return (hits >= share * seen) & (seen >= len(views) / 3)


def _pixels(points: NDArray, view: MaskedView) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    p = se3.transform(view.T_cam_obj, points)
    z = np.maximum(p[:, 2:], 1e-6)
    uv = np.round(view.frame.camera.project(np.concatenate([p[:, :2], z], 1))).astype(np.int64)
    camera = view.frame.camera
    inside = (p[:, 2] > 0) & (uv >= 0).all(1) & (uv < [camera.width, camera.height]).all(1)
    return uv, inside


def _mean_colors(points: NDArray[np.float64], views: Sequence[MaskedView]) -> NDArray[np.float64]:
    total, count = np.zeros((len(points), 3)), np.zeros((len(points), 1))
    for view in views:
        uv, inside = _pixels(points, view)
        total[inside] += view.frame.color[uv[inside, 1], uv[inside, 0]]
        count[inside, 0] += view.mask[uv[inside, 1], uv[inside, 0]]
    return total / np.maximum(count, 1)


def diameter_of(points: NDArray[np.float64]) -> float:
    """Largest distance between two points (the BOP definition)."""
    try:
        points = points[ConvexHull(points).vertices]
    except QhullError:  # flat or thinner than a tetrahedron
        points = points[:: max(1, len(points) // 2000)]
    return float(pdist(points).max())
