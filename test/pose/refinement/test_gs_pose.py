"""GS-Refiner, Algorithm 1 of GS-Pose."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from test.synthetic import (
    CAMERA,
    Scene,
    make_scene,
    perturbed,
    picture,
    pose_error,
    reference,
    standing,
)

# The smallest crop that five levels of MS-SSIM allow, and fewer steps than the paper's 400.
QUICK = GSPoseRefiner(crop_size=176, max_steps=70)


@pytest.fixture(scope='module')
def scene() -> Scene:
    return make_scene([(reference(), standing(-0.02))])


@pytest.fixture(scope='module')
def alone(scene: Scene) -> RGBDFrame:
    """The object at the pose of the scene, over black and without noise."""
    color, _, _ = picture(reference().gaussians, CAMERA, scene.T_cam_obj[0])
    return RGBDFrame(color.clip(0, 1), None, CAMERA, scene.frame.stamp_ns)


def test_a_perturbed_pose_comes_nearer(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    start = perturbed(T, reference(), 8, 0.0)
    # Colour alone, as in the paper: depth would only judge the distance, which colour finds last.
    frame = scene.frame.without_depth()
    estimate = QUICK.refine(frame, reference(), [start], scene.masks[0])
    assert estimate.status is Status.CONVERGED
    assert estimate.covariance is None
    assert 5 < estimate.iterations <= 70
    assert estimate.stamp_ns == scene.frame.stamp_ns
    assert se3.is_rigid(estimate.T_cam_obj)
    angle, shift = pose_error(estimate.T_cam_obj, T, reference())
    # Of 8 degrees, and of the 6 mm that the alignment to the mask leaves: it is the outline's.
    assert angle < 1
    assert shift < 3


def test_the_true_pose_is_kept_and_it_stops_early(scene: Scene, alone: RGBDFrame) -> None:
    T = scene.T_cam_obj[0]
    estimate = QUICK.refine(alone, reference(), [T])
    assert estimate.status is Status.CONVERGED
    # At full rate: as many steps as it takes would lead 8 degrees and more away.
    assert QUICK.patience < estimate.iterations < 0.6 * QUICK.max_steps
    angle, shift = pose_error(estimate.T_cam_obj, T, reference())
    assert angle < 0.3
    assert shift < 1


def test_without_a_mask_the_whole_window_is_compared(scene: Scene, alone: RGBDFrame) -> None:
    T = scene.T_cam_obj[0]
    start = perturbed(T, reference(), 8, 0.0)
    clean, cluttered = (
        pose_error(QUICK.refine(frame, reference(), [start]).T_cam_obj, T, reference())
        for frame in (alone, scene.frame)
    )
    assert clean[0] < 0.5
    assert clean[1] < 0.5
    assert cluttered[1] > 5  # the table counts as well


def test_what_cannot_be_refined_is_lost(scene: Scene) -> None:
    T, mask = scene.T_cam_obj[0], scene.masks[0]
    away = T.copy()
    away[0, 3] += 1
    cases = [
        ([], mask, 'no initial pose'),
        ([T], np.zeros(CAMERA.shape, bool), 'the mask is empty'),
        ([away], None, 'the object is not in view'),
    ]
    for hypotheses, given, reason in cases:
        estimate = QUICK.refine(scene.frame, reference(), hypotheses, given)
        assert (estimate.status, estimate.reason) == (Status.LOST, reason)
        assert not estimate.found


def test_a_blank_image_is_lost(scene: Scene) -> None:
    blank = RGBDFrame(np.full((*CAMERA.shape, 3), 0.5, np.float32), None, CAMERA)
    short = GSPoseRefiner(crop_size=176, max_steps=3)
    estimate = short.refine(blank, reference(), [scene.T_cam_obj[0]], scene.masks[0])
    assert estimate.status is Status.LOST
    assert estimate.reason.startswith('score ')
    assert np.isfinite(estimate.T_cam_obj).all()


def test_the_learning_rate_warms_up_and_cools_down() -> None:
    rates = [GSPoseRefiner()._rate(step) for step in range(401)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == pytest.approx(1)
    assert rates[400] == pytest.approx(0)
