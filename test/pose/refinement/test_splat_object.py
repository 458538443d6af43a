"""A splat with a size is enough to refine and to follow: no id, no reference views."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.estimate import Status
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.pose.refinement.gs2pose import GS2PoseRefiner
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.stages import Refiner
from test.synthetic import bar, make_scene, perturbed, pose_error, standing


@pytest.fixture(scope='module')
def splat() -> SplatObject:
    whole = bar()
    return SplatObject(
        gaussians=whole.gaussians[:], diameter_m=whole.diameter_m, box=whole.box.copy()
    )


def test_it_is_refined_and_followed_as_the_whole_object_is(splat: SplatObject) -> None:
    scene, lm = make_scene([(bar(), standing())]), LMRefiner()
    truth = scene.T_cam_obj[0]
    start = perturbed(truth, bar(), 8, 0.0)
    lm.prepare(splat)
    refined = lm.refine(scene.frame, splat, [start], scene.masks[0])
    assert refined.status is Status.CONVERGED
    angle, shift_mm = pose_error(refined.T_cam_obj, truth, bar())
    assert angle < 0.6
    assert shift_mm < 1
    followed = lm.track(scene.frame, splat, perturbed(truth, bar(), 3, 0.0))
    assert followed.status is Status.TRACKED
    assert pose_error(followed.T_cam_obj, truth, bar())[0] < 0.6


@pytest.mark.parametrize('refiner', [GSPoseRefiner(max_steps=2), GS2PoseRefiner()])
def test_the_papers_refiners_take_it_too(splat: SplatObject, refiner: Refiner) -> None:
    scene = make_scene([(bar(), standing())])
    estimate = refiner.refine(scene.frame, splat, [scene.T_cam_obj[0]], scene.masks[0])
    assert np.isfinite(estimate.T_cam_obj).all()
    assert estimate.iterations > 0
