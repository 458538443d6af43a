"""The alignment of a pose to a mask, by itself and as the start of the refiner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.refinement.mask_alignment import align_to_mask
from gs_pose_ros.pose.verification.observation import Observation
from test.synthetic import CAMERA, Scene, perturbed, pose_error, reference

REFINER = LMRefiner()


@pytest.mark.parametrize('with_depth', [True, False])
@pytest.mark.parametrize('shift', [(0, 0, 0), (0.02, -0.02, 0), (0, 0, 0.08), (0, 0, -0.06)])
def test_alignment_brings_the_object_to_its_mask(
    scene: Scene, with_depth: bool, shift: tuple[float, float, float]
) -> None:
    frame = scene.frame if with_depth else scene.frame.without_depth()
    start = scene.T_cam_obj[0].copy()
    start[:3, 3] += shift
    aligned = align_to_mask(Observation(frame, reference(), scene.masks[0]), start)
    assert np.array_equal(aligned[:3, :3], start[:3, :3])
    apart = aligned[:3, 3] - scene.T_cam_obj[0][:3, 3]
    assert np.linalg.norm(apart[:2]) < 0.004
    assert abs(apart[2]) < (0.006 if with_depth else 0.02)


def cut_off(scene: Scene, columns: int) -> tuple[RGBDFrame, np.ndarray]:
    """The frame and the mask as a camera sees them whose view begins so far to the right."""
    camera = replace(CAMERA, cx=CAMERA.cx - columns, width=CAMERA.width - columns)
    color = np.ascontiguousarray(scene.frame.color[:, columns:])
    depth = np.ascontiguousarray(np.asarray(scene.frame.depth)[:, columns:])
    return RGBDFrame(color, depth, camera), np.ascontiguousarray(scene.masks[0][:, columns:])


def test_what_the_image_cuts_off_does_not_shift_the_pose(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    columns = np.flatnonzero(scene.masks[0].any(0))
    frame, mask = cut_off(scene, int(columns[0] + 0.6 * len(columns)))
    aligned = align_to_mask(Observation(frame, reference(), mask), T)
    assert np.linalg.norm(aligned[:3, 3] - T[:3, 3]) < 0.002
    estimate = REFINER.refine(frame, reference(), [perturbed(T, reference(), 10, 0.01, 2)], mask)
    angle, shift = pose_error(estimate.T_cam_obj, T, reference())
    assert estimate.found
    assert angle < 1
    assert shift < 1


def test_a_good_start_is_kept_where_the_object_is_half_hidden(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    columns = np.flatnonzero(scene.masks[0].any(0))
    hidden = slice(int(columns[0]), int(columns[0] + 0.6 * len(columns)))
    color, depth = scene.frame.color.copy(), np.asarray(scene.frame.depth).copy()
    mask = scene.masks[0].copy()
    color[:, hidden], depth[:, hidden], mask[:, hidden] = 0.5, 0.3, False
    frame = RGBDFrame(color, depth, CAMERA)
    shifted = align_to_mask(Observation(frame, reference(), mask), T)
    assert np.linalg.norm(shifted[:3, 3] - T[:3, 3]) > 0.01
    estimate = REFINER.refine(frame, reference(), [T], mask)
    angle, shift = pose_error(estimate.T_cam_obj, T, reference())
    assert angle < 1
    assert shift < 1


def test_alignment_leaves_a_pose_that_sees_no_mask(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    nothing = np.zeros(CAMERA.shape, bool)
    unmarked = Observation(scene.frame, reference(), nothing)
    assert np.array_equal(align_to_mask(unmarked, T), T)
    away = T.copy()
    away[0, 3] += 2
    marked = Observation(scene.frame, reference(), scene.masks[0])
    assert np.array_equal(align_to_mask(marked, away), away)
