"""Make an object reference from posed pictures (GS-Pose, Sec. 3.1): geometry, splat, views."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, KDTree, QhullError
from scipy.spatial.distance import pdist

from gs_pose_ros.bounds import Bounds, Count, CountOrNone, CropSize, Extent
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame, warp_window, window_coverage
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews
from gs_pose_ros.objects.gaussian_fitting import (
    FittingView,
    GaussianFitting,
    LitGaussians,
    heldout_psnr,
)
from gs_pose_ros.objects.sources import RegistrationView


class RegistrationCancelled(GsPoseError):
    """The caller asked to stop; nothing was made."""


@dataclass(frozen=True)
class RegistrationProgress:
    """Where a running registration is."""

    stage: str  # 'geometry', 'fitting' or 'final'
    fraction: float  # of the whole registration, 0 to 1
    message: str


@dataclass(frozen=True)
class RegistrationSettings:
    """How an object is registered; the defaults take 20 to 60 s for 40 views on two cores."""

    crop_size: CropSize = 224  # px, S of GS-Pose Sec. 7.2
    crop_padding: Extent = 1.1  # side of a crop in diameters at the object's distance
    points_across: Annotated[int, Bounds(8, 300)] = 60  # first Gaussians across the diameter
    # Every n-th view is kept from the fit to measure it.
    heldout_every: Annotated[int, Bounds(2, 1000)] = 8
    final_iterations: CountOrNone = 300  # with all views, after the measurement
    min_mask_pixels: Count = 64  # views that show less of the object are dropped
    use_depth: bool = True
    fitting: GaussianFitting = field(default_factory=GaussianFitting)
    # Lowest and highest corner (m) of the object's box; None measures it.
    box: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None


def register(
    object_id: str,
    views: Sequence[RegistrationView],
    settings: RegistrationSettings | None = None,
    on_progress: Callable[[RegistrationProgress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ObjectReference:
    """Fit a splat to the views and collect what detection and retrieval need.

    Raises:
        GsPoseError: too few usable views, or their masks and poses contradict each other.
        RegistrationCancelled: `cancelled()` became true.

    """
    settings = settings or RegistrationSettings()
    report = on_progress or (lambda progress: None)
    started = time.monotonic()
    usable = [_usable(view, settings) for view in views]
    kept = [view for view in usable if view is not None]
    if len(kept) < 4:
        raise GsPoseError(
            f'{object_id}: {len(kept)} of {len(views)} views show the object in a mask of '
            f'{settings.min_mask_pixels} pixels or more; 4 are needed'
        )
    report(RegistrationProgress('geometry', 0.0, f'{len(kept)} of {len(views)} views'))
    points, colors, spacing = _surface(object_id, kept, settings)
    center = points.min(0) / 2 + points.max(0) / 2
    diameter = _diameter(points)
    crops = [_crop(view, center, diameter, settings) for view in kept]
    _stop_if(cancelled, object_id)

    held = list(range(settings.heldout_every // 2, len(crops), settings.heldout_every))
    training = [c for i, c in enumerate(crops) if i not in held]
    total = settings.fitting.iterations + settings.final_iterations

    def on_step(i: int, loss: float, offset: int = 0) -> None:
        if i % 25 == 0:
            fraction = 0.02 + 0.97 * (i + offset) / total
            report(RegistrationProgress('fitting', fraction, f'loss {loss:.4f}'))

    sessions = 1 + max(crop.session for crop in crops)
    initial = LitGaussians.in_one_light(
        Gaussians.from_points(points, colors, 0.7 * spacing), sessions
    )
    lit = settings.fitting.fit(initial, training, diameter, on_step, cancelled)
    _stop_if(cancelled, object_id)
    if len(lit.gaussians) < 10:
        raise GsPoseError(
            f'{object_id}: the fit kept {len(lit.gaussians)} Gaussians; check the poses'
        )
    values = heldout_psnr(lit, [crops[i] for i in held])
    psnr = float(np.mean(values)) if values else float('nan')
    if settings.final_iterations:
        # With all views, and in one light again: the mean of two lights has an edge where the part
        # ends that only one session has seen, and no picture shows that.
        lit = _final_stage(settings).fit(
            LitGaussians.in_one_light(lit.gaussians, 1),
            [replace(crop, session=0) for crop in crops],
            diameter,
            lambda i, loss: on_step(i, loss, settings.fitting.iterations),
            cancelled,
        )
    _stop_if(cancelled, object_id)
    gaussians = lit.gaussians
    solid = gaussians.means[gaussians.opacities > 0.3].double().numpy()
    solid = _without_outliers(solid, spacing) if len(solid) > 50 else points
    report(RegistrationProgress('final', 1.0, f'held-out PSNR {psnr:.1f} dB'))
    return ObjectReference(
        object_id=object_id,
        gaussians=gaussians,
        diameter_m=_diameter(solid),
        box=np.stack([solid.min(0), solid.max(0)]),
        views=ReferenceViews(
            T_cam_obj=np.stack([view.T_cam_obj for view in kept]),
            intrinsics=np.array(
                [[c.camera.fx, c.camera.fy, c.camera.cx, c.camera.cy] for c in crops]
            ),
            color=np.stack([(c.color.numpy() * 255).round().astype(np.uint8) for c in crops]),
            mask=np.stack([(c.mask.numpy() * 255).round().astype(np.uint8) for c in crops]),
        ),
        facts={
            'views': len(kept),
            'views_heldout': len(held),
            'sessions': sessions,
            'psnr_heldout_db': psnr,
            'registration_s': time.monotonic() - started,
            'with_depth': int(settings.use_depth and any(v.depth is not None for v in kept)),
        },
    )


def _stop_if(cancelled: Callable[[], bool] | None, object_id: str) -> None:
    if cancelled is not None and cancelled():
        raise RegistrationCancelled(f'{object_id}: registration cancelled')


def _final_stage(settings: RegistrationSettings) -> GaussianFitting:
    """A short fit at the late learning rates, without changing the number of Gaussians."""
    f = settings.fitting
    return GaussianFitting(
        iterations=settings.final_iterations,
        max_gaussians=f.max_gaussians,
        densify_until=0,
        prune_opacity=f.prune_opacity,
        lr_means=f.lr_means * 0.03,
        lr_quats=f.lr_quats * 0.3,
        lr_log_scales=f.lr_log_scales * 0.3,
        lr_logit_opacities=f.lr_logit_opacities * 0.3,
        lr_sh=f.lr_sh * 0.5,
        ssim_weight=f.ssim_weight,
        mask_weight=f.mask_weight,
        depth_weight=f.depth_weight,
    )


@dataclass(frozen=True)
class _View:
    """A checked view: frame blackened outside its mask."""

    frame: RGBDFrame
    mask: NDArray[np.bool_]
    T_cam_obj: NDArray[np.float64]
    session: int

    @property
    def depth(self) -> NDArray[np.float32] | None:
        return self.frame.depth


def _usable(view: RegistrationView, settings: RegistrationSettings) -> _View | None:
    if view.mask is None:
        raise GsPoseError('a view has no mask; make one first (gs_pose_ros.objects.masks)')
    if not se3.is_rigid(view.T_cam_obj):
        raise GsPoseError(f'a view has a pose that is not rigid: {view.T_cam_obj.tolist()}')
    if np.count_nonzero(view.mask) < settings.min_mask_pixels:
        return None
    depth = view.depth if settings.use_depth else None
    frame = RGBDFrame.from_uint8(view.color, depth, view.camera)
    mask = view.mask.astype(np.float32)
    frame = RGBDFrame(
        frame.color * mask[..., None],
        None if frame.depth is None else frame.depth * mask,
        frame.camera,
    )
    T_cam_obj = np.asarray(view.T_cam_obj, np.float64)
    return _View(frame, view.mask.astype(bool), T_cam_obj, view.session)


def _surface(
    object_id: str, views: Sequence[_View], settings: RegistrationSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Surface points [N, 3] m, their colours [N, 3] and their spacing m."""
    with_depth = [view for view in views if view.depth is not None]
    if len(with_depth) >= len(views) / 2:
        points, colors = _fused_depth(with_depth)
        if len(points) < 100:
            raise GsPoseError(f'{object_id}: only {len(points)} depth pixels inside the masks')
        points, colors, spacing = _thinned(points, colors, settings)
    else:
        points, colors, spacing = _visual_hull(object_id, views, settings)
    if settings.box is not None:
        low, high = np.asarray(settings.box)
        inside = ((points >= low) & (points <= high)).all(1)
        points, colors = points[inside], colors[inside]
    if len(points) < 50:
        raise GsPoseError(
            f'{object_id}: {len(points)} surface points are left; check box and poses'
        )
    return points, colors, spacing


def _fused_depth(views: Sequence[_View]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
    points: NDArray[np.float64], colors: NDArray[np.float64], settings: RegistrationSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """One mean point a voxel; voxels hit by few pixels or far from the rest are noise."""
    middle = np.median(points, axis=0)
    radius = np.percentile(np.linalg.norm(points - middle, axis=1), 98) * 1.5
    near = np.linalg.norm(points - middle, axis=1) < radius
    points, colors = points[near], colors[near]
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    spacing = float(np.linalg.norm(high - low)) / settings.points_across
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


def _without_outliers(points: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    kept = points[_outlier_free(points, spacing)]
    return kept if len(kept) > 50 else points


def _visual_hull(
    object_id: str, views: Sequence[_View], settings: RegistrationSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Surface of the space that projects into (almost) every mask (Laurentini 1994)."""
    if settings.box is not None:
        low, high = (np.asarray(corner, np.float64) for corner in settings.box)
    else:
        low, high = _box_from_masks(views)
    # Two passes: the first finds the object in the box, the second resolves it.
    for cells in (48, settings.points_across):
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


def _box_from_masks(views: Sequence[_View]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
    points: NDArray[np.float64], views: Sequence[_View], share: float = 0.9
) -> NDArray[np.bool_]:
    hits, seen = np.zeros(len(points)), np.zeros(len(points))
    for view in views:
        uv, inside = _pixels(points, view)
        hits[inside] += view.mask[uv[inside, 1], uv[inside, 0]]
        seen[inside] += 1
    return (hits >= share * seen) & (seen >= len(views) / 3)


def _pixels(points: NDArray, view: _View) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    p = se3.transform(view.T_cam_obj, points)
    z = np.maximum(p[:, 2:], 1e-6)
    uv = np.round(view.frame.camera.project(np.concatenate([p[:, :2], z], 1))).astype(np.int64)
    camera = view.frame.camera
    inside = (p[:, 2] > 0) & (uv >= 0).all(1) & (uv < [camera.width, camera.height]).all(1)
    return uv, inside


def _mean_colors(points: NDArray[np.float64], views: Sequence[_View]) -> NDArray[np.float64]:
    total, count = np.zeros((len(points), 3)), np.zeros((len(points), 1))
    for view in views:
        uv, inside = _pixels(points, view)
        total[inside] += view.frame.color[uv[inside, 1], uv[inside, 0]]
        count[inside, 0] += view.mask[uv[inside, 1], uv[inside, 0]]
    return total / np.maximum(count, 1)


def _diameter(points: NDArray[np.float64]) -> float:
    """Largest distance between two points (the BOP definition)."""
    try:
        points = points[ConvexHull(points).vertices]
    except QhullError:  # flat or thinner than a tetrahedron
        points = points[:: max(1, len(points) // 2000)]
    return float(pdist(points).max())


def _crop(
    view: _View, center: NDArray[np.float64], diameter_m: float, settings: RegistrationSettings
) -> FittingView:
    """The crop of GS-Pose Sec. 7.2, off-centre crops keeping their own principal point."""
    camera = view.frame.camera
    p = view.T_cam_obj[:3, :3] @ center + view.T_cam_obj[:3, 3]
    if p[2] <= 0:
        raise GsPoseError('a view has the object behind the camera: is T_cam_obj inverted?')
    side = settings.crop_padding * diameter_m * camera.fx / p[2]
    left, top = camera.project(p) - side / 2
    factor = settings.crop_size / side
    window = camera.crop(left, top, side, side, factor)
    crop = view.frame.warp(window, left, top, factor)
    mask = warp_window(view.mask, window, left, top, factor)
    inside = window_coverage(view.mask.shape, window, left, top, factor)
    if inside.mean() < 0.1:
        raise GsPoseError('a view has the object outside its picture: is T_cam_obj inverted?')
    return FittingView(
        color=torch.from_numpy(crop.color),
        mask=torch.from_numpy(mask),
        depth=None if crop.depth is None else torch.from_numpy(crop.depth),
        camera=window,
        T_cam_obj=torch.from_numpy(view.T_cam_obj),
        inside=None if inside.min() > 0.999 else torch.from_numpy(inside),
        session=view.session,
    )
