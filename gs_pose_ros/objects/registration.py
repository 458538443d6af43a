"""Make an object reference from posed pictures (GS-Pose, Sec. 3.1): geometry, splat, views."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

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
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.objects.surface_points import (
    Box,
    MaskedView,
    diameter_of,
    surface_points,
    without_outliers,
)

Facts = Mapping[str, float | int | str]


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
    box: Box | None = None


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
    started = time.monotonic()
    fit = fit_splat(object_id, views, settings or RegistrationSettings(), on_progress, cancelled)
    facts = {**fit.facts, 'registration_s': time.monotonic() - started}
    return assemble_reference(object_id, fit.splat, fit.crops, facts)


@dataclass(frozen=True)
class SplatFit:
    """A splat with the crops that it was fitted to."""

    splat: SplatObject
    crops: tuple[FittingView, ...]
    facts: Facts


def assemble_reference(
    object_id: str, splat: SplatObject, crops: Sequence[FittingView], facts: Facts
) -> ObjectReference:
    """The reference of a splat and of square crops that show it, however they were made."""
    return ObjectReference(
        object_id=object_id,
        gaussians=splat.gaussians,
        diameter_m=splat.diameter_m,
        box=splat.box,
        views=ReferenceViews(
            T_cam_obj=np.stack([c.T_cam_obj.numpy() for c in crops]),
            intrinsics=np.array(
                [[c.camera.fx, c.camera.fy, c.camera.cx, c.camera.cy] for c in crops]
            ),
            color=np.stack([(c.color.numpy() * 255).round().astype(np.uint8) for c in crops]),
            mask=np.stack([(c.mask.numpy() * 255).round().astype(np.uint8) for c in crops]),
        ),
        facts=dict(facts),
    )


def fit_splat(
    object_id: str,
    views: Sequence[RegistrationView],
    settings: RegistrationSettings,
    on_progress: Callable[[RegistrationProgress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> SplatFit:
    """The splat of an object; raises as `register`."""
    report = on_progress or (lambda progress: None)
    usable = [_usable(view, settings) for view in views]
    kept = [view for view in usable if view is not None]
    if len(kept) < 4:
        raise GsPoseError(
            f'{object_id}: {len(kept)} of {len(views)} views show the object in a mask of '
            f'{settings.min_mask_pixels} pixels or more; 4 are needed'
        )
    report(RegistrationProgress('geometry', 0.0, f'{len(kept)} of {len(views)} views'))
    points, colors, spacing = surface_points(object_id, kept, settings.points_across, settings.box)
    center = points.min(0) / 2 + points.max(0) / 2
    diameter = diameter_of(points)
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
    solid = without_outliers(solid, spacing) if len(solid) > 50 else points
    report(RegistrationProgress('final', 1.0, f'held-out PSNR {psnr:.1f} dB'))
    return SplatFit(
        SplatObject(
            gaussians=gaussians,
            diameter_m=diameter_of(solid),
            box=np.stack([solid.min(0), solid.max(0)]),
        ),
        tuple(crops),
        {
            'views': len(kept),
            'views_heldout': len(held),
            'sessions': sessions,
            'psnr_heldout_db': psnr,
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


def _usable(view: RegistrationView, settings: RegistrationSettings) -> MaskedView | None:
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
    return MaskedView(frame, view.mask.astype(bool), T_cam_obj, view.session)


def _crop(
    view: MaskedView,
    center: NDArray[np.float64],
    diameter_m: float,
    settings: RegistrationSettings,
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
