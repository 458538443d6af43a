"""Masks of a synthetic box on a table, where the right answer is known to the pixel."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.masks import EmptyMaskError, MaskMode, add_masks, make_mask
from gs_pose_ros.objects.sources import RegistrationView

CAMERA = Camera(300, 300, 159.5, 119.5, 320, 240)
BOX = np.array([[-0.05, -0.04, 0.0], [0.05, 0.04, 0.08]])
# The camera looks down at the object by 40 degrees from half a metre.
T_CAM_OBJ = se3.from_rotation_translation(
    np.array(
        [
            [1, 0, 0],
            [0, -np.sin(np.radians(40)), -np.cos(np.radians(40))],
            [0, np.cos(np.radians(40)), -np.sin(np.radians(40))],
        ]
    ),
    [0.0, 0.02, 0.5],
)


def _ray_box(box: np.ndarray) -> np.ndarray:
    """Depth [H, W] of the first hit of each pixel's ray with a box (inf where none)."""
    T = se3.inverse(T_CAM_OBJ)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = CAMERA.back_project(np.stack([u, v], -1), np.ones(CAMERA.shape)) @ T[:3, :3].T
    with np.errstate(divide='ignore'):
        near, far = ((corner - T[:3, 3]) / rays for corner in box)
    enter = np.minimum(near, far).max(-1)
    leave = np.maximum(near, far).min(-1)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)


def make_view(noise: float = 0.0005) -> tuple[RegistrationView, np.ndarray]:
    """A red box on a gray table, and its true mask."""
    rng = np.random.default_rng(0)
    box = _ray_box(BOX)
    table = _ray_box(np.array([[-2, -2, -0.02], [2, 2, 0.0]]))
    mask = box < table
    depth = np.minimum(box, table)
    depth = np.where(np.isfinite(depth), depth + rng.normal(size=depth.shape) * noise, 0)
    color = np.where(mask[..., None], [200, 40, 30], [120, 125, 130])
    color = np.clip(color + rng.normal(size=color.shape) * 4, 0, 255).astype(np.uint8)
    view = RegistrationView(color, depth.astype(np.float32), None, CAMERA, T_CAM_OBJ)
    return view, mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize('mode', [MaskMode.DEPTH_BOX, MaskMode.GRABCUT, MaskMode.AUTO])
def test_the_object_is_cut_out(mode: MaskMode) -> None:
    view, truth = make_view()
    assert iou(make_mask(view, mode, BOX), truth) > 0.97


def test_the_table_is_left_out_even_if_the_box_reaches_into_it() -> None:
    view, truth = make_view()
    deep = BOX + np.array([[-0.02, -0.02, -0.01], [0.02, 0.02, 0.0]])
    assert iou(make_mask(view, MaskMode.DEPTH_BOX, deep), truth) > 0.95


def test_lost_depth_pixels_at_the_outline_come_back() -> None:
    view, truth = make_view()
    assert view.depth is not None
    edge = cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
    view = replace(view, depth=np.where(edge, np.float32(0), view.depth))
    assert iou(make_mask(view, MaskMode.DEPTH_BOX, BOX), truth) > 0.97


def test_auto_prefers_the_given_mask_then_depth_then_colour() -> None:
    view, truth = make_view()
    given = np.zeros_like(truth)
    given[10:60, 10:60] = True
    assert (make_mask(replace(view, mask=given)) == given).all()
    assert iou(make_mask(replace(view, depth=None), MaskMode.AUTO, BOX), truth) > 0.97


def test_the_same_view_gives_the_same_mask() -> None:
    view, _ = make_view()
    for mode in (MaskMode.DEPTH_BOX, MaskMode.GRABCUT):
        assert (make_mask(view, mode, BOX) == make_mask(view, mode, BOX)).all()


@pytest.mark.parametrize(
    ('change', 'mode', 'box', 'message'),
    [
        ({}, MaskMode.GIVEN, BOX, 'has none'),
        ({}, MaskMode.DEPTH_BOX, None, 'need the 3-D box'),
        ({}, MaskMode.GRABCUT, None, 'need the 3-D box'),
        ({}, MaskMode.AUTO, None, 'need the 3-D box'),
        ({'depth': None}, MaskMode.DEPTH_BOX, BOX, 'need depth'),
        ({}, MaskMode.GRABCUT, BOX[::-1], 'lowest and highest'),
        ({}, MaskMode.GRABCUT, np.zeros(6), 'lowest and highest'),
    ],
)
def test_what_is_missing_is_said(change, mode, box, message: str) -> None:
    view = replace(make_view()[0], **change)
    with pytest.raises(GsPoseError, match=message):
        make_mask(view, mode, box)


@pytest.mark.parametrize(
    ('change', 'mode', 'box', 'message'),
    [
        ({'mask': np.zeros(CAMERA.shape, bool)}, MaskMode.GIVEN, None, '0 pixels'),
        ({'mask': np.ones(CAMERA.shape, bool)}, MaskMode.GIVEN, None, 'whole picture'),
        ({'depth': np.zeros(CAMERA.shape, np.float32)}, MaskMode.DEPTH_BOX, BOX, '0 pixels'),
        ({'depth': np.full(CAMERA.shape, 3, np.float32)}, MaskMode.DEPTH_BOX, BOX, '0 pixels'),
        ({}, MaskMode.DEPTH_BOX, BOX + 5.0, 'outside the picture|behind'),
        ({}, MaskMode.GRABCUT, BOX * 20, 'behind the camera'),
        ({}, MaskMode.GRABCUT, [[-0.3, -0.3, -0.2], [0.3, 0.3, 0.2]], 'fills the whole'),
        (
            {'T_cam_obj': se3.from_rotation_translation(np.eye(3), [5.0, 0, 1])},
            MaskMode.GRABCUT,
            BOX,
            'outside the picture',
        ),
    ],
)
def test_an_empty_or_full_mask_is_an_error(change, mode, box, message: str) -> None:
    view = replace(make_view()[0], **change)
    with pytest.raises(EmptyMaskError, match=message):
        make_mask(view, mode, box)


def test_views_without_the_object_are_left_out() -> None:
    view, truth = make_view()
    away = replace(view, T_cam_obj=se3.from_rotation_translation(np.eye(3), [5.0, 0, 1]))
    kept = add_masks([away, view, away], MaskMode.AUTO, BOX)
    assert len(kept) == 1
    assert kept[0].mask is not None
    assert iou(kept[0].mask, truth) > 0.97
    with pytest.raises(GsPoseError, match=r'no view has a usable mask.*view 1.*outside'):
        add_masks([away, away], MaskMode.AUTO, BOX)
    with pytest.raises(GsPoseError, match='there are no views'):
        add_masks([])


@pytest.mark.parametrize('mode', [MaskMode.AUTO, MaskMode.GIVEN])
def test_masks_that_are_all_empty_or_all_full_say_what_to_do(mode: MaskMode) -> None:
    view, mask = make_view()
    empty, full = (replace(view, mask=np.full(mask.shape, value)) for value in (False, True))
    with pytest.raises(GsPoseError, match='all given masks are empty: they must be above 0'):
        add_masks([empty, empty], mode)
    with pytest.raises(GsPoseError, match='all given masks are full: mask the object alone, or'):
        add_masks([full, full], mode)
    with pytest.raises(GsPoseError, match=r'covers the whole picture$'):
        add_masks([empty, full], mode)
    assert len(add_masks([empty, replace(view, mask=mask), full], mode)) == 1


def test_masks_of_the_background_are_refused() -> None:
    inside = np.zeros(CAMERA.shape, bool)
    inside[80:160, 100:200] = True
    color = np.zeros((*CAMERA.shape, 3), np.uint8)
    view = RegistrationView(color, None, inside, CAMERA, T_CAM_OBJ)
    wrong = replace(view, mask=~inside)
    with pytest.raises(GsPoseError, match='3 of 4 given masks .* seem inverted'):
        add_masks([view, wrong, wrong, wrong])
    at_the_rim = inside.copy()
    at_the_rim[:, 100:] = True
    assert len(add_masks([replace(view, mask=at_the_rim)] * 3)) == 3
