"""Masks of the object in registration views: as given, from depth, or cut out of the colours.

The 3-D box is [2, 3], lowest and highest corner in metres in the object frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.sources import RegistrationView

# Fewer pixels than this are noise, not an object.
MIN_PIXELS = 64
# Depth cameras see a plane half a metre away with about 2 mm of noise.
SUPPORT_THICKNESS_M = 0.005
# The share of a picture's rim that no object holds, unless the camera is too near to see it.
_WHOLE_RIM = 0.95


class MaskMode(str, Enum):
    """Where masks come from."""

    AUTO = 'auto'  # given where there is one; else from depth and box; else GrabCut
    GIVEN = 'given'
    DEPTH_BOX = 'depth_box'
    GRABCUT = 'grabcut'


def add_masks(
    views: Sequence[RegistrationView], mode: MaskMode = MaskMode.AUTO, box: ArrayLike | None = None
) -> list[RegistrationView]:
    """The views with masks; those that show nothing of the object are left out.

    Raises:
        GsPoseError: the mode lacks what it needs, or no view is left; says why.

    """
    if mode in (MaskMode.AUTO, MaskMode.GIVEN):
        _check_not_inverted([view.mask for view in views if view.mask is not None])
    kept, reason = [], 'there are no views'
    for k, view in enumerate(views):
        try:
            kept.append(replace(view, mask=make_mask(view, mode, box)))
        except EmptyMaskError as error:
            reason = f'view {k}: {error}'
    if not kept:
        raise GsPoseError(f'no view has a usable mask; {reason}{_way_out(views, mode)}')
    return kept


def _check_not_inverted(given: Sequence[NDArray[np.bool_]]) -> None:
    """Raise GsPoseError where most masks hold all around the picture, and not what is within."""
    rims = [np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean() for mask in given]
    around = sum(
        rim > _WHOLE_RIM and not mask.all() for rim, mask in zip(rims, given, strict=True)
    )
    if around > len(given) / 2:
        raise GsPoseError(
            f'{around} of {len(given)} given masks hold the rim of the picture and not what is '
            'within: they seem inverted; they must be above 0 where the object is seen, and 0 '
            'elsewhere'
        )


def _way_out(views: Sequence[RegistrationView], mode: MaskMode) -> str:
    """What to do where all masks that were given are empty, or all are full."""
    given = [view.mask for view in views if view.mask is not None]
    if mode not in (MaskMode.AUTO, MaskMode.GIVEN) or not given or len(given) < len(views):
        return ''
    if not any(mask.any() for mask in given):
        return '; all given masks are empty: they must be above 0 where the object is seen'
    if all(mask.all() for mask in given):
        return (
            '; all given masks are full: mask the object alone, or have masks made from its 3-D '
            'box: mask_mode (--masks) depth_box or grabcut'
        )
    return ''


def make_mask(
    view: RegistrationView, mode: MaskMode = MaskMode.AUTO, box: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """The mask [H, W] of one view.

    Raises:
        EmptyMaskError: nothing of the object is seen, or it would fill the whole picture.
        GsPoseError: the mode lacks what it needs: a mask, depth, or the box.

    """
    if mode is MaskMode.AUTO:
        if view.mask is not None:
            mode = MaskMode.GIVEN
        else:
            mode = MaskMode.GRABCUT if view.depth is None else MaskMode.DEPTH_BOX
    if mode is MaskMode.GIVEN:
        if view.mask is None:
            raise GsPoseError(
                'masks are to be given, but a view has none (mask_path of transforms.json, '
                'mask_visib of BOP sets); mask_mode (--masks) may make them of the 3-D box'
            )
        return _checked(np.asarray(view.mask, bool), 'the given mask')
    if box is None:
        raise GsPoseError(
            f'masks by {mode.value} need the 3-D box of the object: box_min and box_max (--box), '
            'or "aabb" of transforms.json'
        )
    corners = checked_box(box)
    if mode is MaskMode.DEPTH_BOX:
        if view.depth is None:
            raise GsPoseError(
                'masks by depth_box need depth, but a view has none; take mask_mode '
                '(--masks) grabcut'
            )
        return mask_from_depth(view.color, view.depth, view.camera, view.T_cam_obj, corners)
    return mask_from_grabcut(view.color, view.camera, view.T_cam_obj, corners)


class EmptyMaskError(GsPoseError):
    """A view shows nothing of the object."""


def mask_from_depth(
    color: NDArray[np.uint8],  # [H, W, 3] RGB
    depth: NDArray[np.float32],  # [H, W] m, 0 where invalid
    camera: Camera,
    T_cam_obj: NDArray[np.float64],
    box: ArrayLike,  # [2, 3]
) -> NDArray[np.bool_]:
    """The pixels [H, W] whose depth lies in the box and not on the plane the object stands on.

    That plane is looked for around the box; there may be none. Depth cameras lose and misplace
    edges, so within a few pixels of the outline the colours decide (GrabCut).

    Raises:
        EmptyMaskError: too few pixels lie in the box.

    """
    low, high = checked_box(box)
    hull = _box_hull(camera, T_cam_obj, np.stack([low, high]))
    points = se3.transform(se3.inverse(T_cam_obj), camera.point_map(depth).reshape(-1, 3))
    valid = (depth > 0).ravel()
    inside = ((points >= low) & (points <= high)).all(1) & valid
    reach = 0.4 * (high - low).max()
    around = ((points >= low - reach) & (points <= high + reach)).all(1) & valid & ~inside
    plane = _support_plane(points[around])
    if plane is not None:
        inside &= np.abs(points @ plane[:3] + plane[3]) > SUPPORT_THICKNESS_M
    found = inside.reshape(camera.shape)
    mask = np.asarray(
        cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, _disc(7)), np.uint8
    )
    # Closing must not take pixels whose depth is known to lie elsewhere.
    mask[(depth > 0) & ~found] = 0
    mask = _without_specks(mask & hull)
    _checked(mask, 'the depth inside the box')
    return _checked(_outline_by_color(color, mask) & (hull > 0), 'the depth inside the box')


def mask_from_grabcut(
    color: NDArray[np.uint8],  # [H, W, 3] RGB
    camera: Camera,
    T_cam_obj: NDArray[np.float64],
    box: ArrayLike,  # [2, 3]
    iterations: int = 5,
) -> NDArray[np.bool_]:
    """The foreground [H, W] inside the projected box, by GrabCut (Rother et al. 2004).

    Raises:
        EmptyMaskError: the box is out of the picture or fills it, or nothing stands out in it.

    """
    low, high = checked_box(box)
    hull = _box_hull(camera, T_cam_obj, np.stack([low, high]))
    # The colours around the box say what background is; those far away only cost time.
    window = _window(hull, 0.35)
    labels = np.where(hull[window] > 0, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    if (labels != cv2.GC_BGD).mean() > 0.95:
        raise EmptyMaskError('the box fills the whole picture; there is no background to learn')
    mask = np.zeros(camera.shape, np.uint8)
    mask[window] = _grabcut(color[window], labels, iterations)
    return _checked(_without_specks(mask), 'the foreground inside the box')


def _outline_by_color(color: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Move the outline of a mask [H, W] by a few pixels to where the colours change."""
    window = _window(mask, 0.2)
    near = mask[window].astype(np.uint8)
    labels = np.full(near.shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(near, _disc(13)) > 0] = cv2.GC_PR_BGD
    labels[near > 0] = cv2.GC_PR_FGD
    labels[cv2.erode(near, _disc(5)) > 0] = cv2.GC_FGD
    out = np.zeros(mask.shape, np.uint8)
    out[window] = _grabcut(color[window], labels, 3)
    return _without_specks(out)


def _grabcut(
    color: NDArray[np.uint8], labels: NDArray[np.uint8], iterations: int
) -> NDArray[np.bool_]:
    bgr = np.ascontiguousarray(color[..., ::-1])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # the same picture gives the same mask
    try:
        found, _, _ = cv2.grabCut(
            bgr,
            np.ascontiguousarray(labels),
            (0, 0, 1, 1),
            *models,
            iterations,
            cv2.GC_INIT_WITH_MASK,
        )
    except cv2.error as error:
        raise EmptyMaskError(
            'GrabCut cannot tell object and background apart in this picture'
        ) from error
    return (found == cv2.GC_FGD) | (found == cv2.GC_PR_FGD)


def _window(mask: NDArray, share: float) -> tuple[slice, slice]:
    """The part of the picture around a mask, with a margin of that share of its size."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    margin = max(15, int(share * max(np.ptp(rows), np.ptp(cols))))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, cols[0] - margin), cols[-1] + margin + 1),
    )


def _support_plane(points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The plane [4] (unit normal, offset) that most of the points [N, 3] lie on, by RANSAC.

    None if there is no plane with a fifth of them.
    """
    if len(points) < 100:
        return None
    rng = np.random.default_rng(0)
    points = points[rng.permutation(len(points))[:3000]]
    samples = points[rng.integers(0, len(points), (200, 3))]  # [S, 3, 3]
    normals = np.cross(samples[:, 1] - samples[:, 0], samples[:, 2] - samples[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    offsets = -np.einsum('si,si->s', normals, samples[:, 0])
    near = np.abs(points @ normals.T + offsets) < SUPPORT_THICKNESS_M  # [N, S]
    best = near[:, np.argmax(near.sum(0))]
    if best.mean() < 0.2:
        return None
    center = points[best].mean(0)
    normal = np.linalg.svd(points[best] - center, full_matrices=False)[2][2]
    return np.append(normal, -normal @ center)


def _box_hull(
    camera: Camera, T_cam_obj: NDArray[np.float64], box: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """The convex outline [H, W] of the box in the picture, filled with 1."""
    corners = np.stack(np.meshgrid(*box.T, indexing='ij'), -1).reshape(8, 3)
    in_camera = se3.transform(T_cam_obj, corners)
    if (in_camera[:, 2] <= 1e-3).any():
        raise EmptyMaskError('the box reaches behind the camera')
    pixels = camera.project(in_camera)
    # OpenCV draws with 16-bit care only; a box far out of the picture must not wrap around.
    limit = 8 * max(camera.shape)
    outline = cv2.convexHull(pixels.clip(-limit, limit).round().astype(np.int32))
    hull = np.zeros(camera.shape, np.uint8)
    cv2.fillConvexPoly(hull, outline, 1)
    if not hull.any():
        raise EmptyMaskError('the box lies outside the picture')
    return hull


def _without_specks(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Keep the components of at least a tenth of the largest, and fill enclosed holes."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return np.zeros(mask.shape, bool)
    area = stats[1:, cv2.CC_STAT_AREA]
    kept = np.isin(labels, 1 + np.flatnonzero(area >= 0.1 * area.max()))
    # A hole of the object shows its background: fill only what is smaller than sensor dropouts.
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~kept).astype(np.uint8))
    small = 1 + np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] < 0.002 * kept.sum())
    return kept | np.isin(labels, small)


def _checked(mask: NDArray[np.bool_], what: str) -> NDArray[np.bool_]:
    if np.count_nonzero(mask) < MIN_PIXELS:
        raise EmptyMaskError(
            f'{what} has {np.count_nonzero(mask)} pixels, fewer than {MIN_PIXELS}'
        )
    if mask.all():
        raise EmptyMaskError(f'{what} covers the whole picture')
    return mask


def checked_box(box: ArrayLike) -> NDArray[np.float64]:
    """The 3-D box [2, 3] in m; raises GsPoseError if it is not a lowest and a highest corner."""
    out = np.asarray(box, np.float64)
    if out.shape != (2, 3) or not np.isfinite(out).all() or not (out[0] < out[1]).all():
        raise GsPoseError(
            f'the 3-D box must be [2, 3], lowest and highest corner; got {out.tolist()}'
        )
    return out


def _disc(size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)
