"""GS2Pose's refiner: two increments, the schedule, and the adaptation to the light."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.losses import psnr
from gs_pose_ros.pose.refinement.appearance import Adaptation, Exposure, PhotometricLoss, Target
from gs_pose_ros.pose.refinement.gs2pose import (
    CAMERA_REFINER,
    OBJECT_REFINER,
    GS2PoseRefiner,
    Increment,
    Phase,
)
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering import render
from test.synthetic import CAMERA, Scene, make_scene, perturbed, pose_error, reference, standing

SIZE = 96
QUICK = GS2PoseRefiner(crop_size=SIZE)
SMOOTH = PhotometricLoss(l1_weight=0.0, depth_weight=0.0)  # nothing that comes and goes with T


@pytest.fixture(scope='module')
def scene() -> Scene:
    return make_scene([(reference(), standing(-0.02))])


def target(scene: Scene, T: np.ndarray, frame: RGBDFrame | None = None) -> Target:
    frame = scene.frame if frame is None else frame
    window = ObjectWindow.around(Observation(frame, reference(), scene.masks[0]), T, 1.3, SIZE)
    assert window is not None
    return Target.of(window)


def descend(
    increment: Increment,
    phase: Phase,
    goal: Target,
    T: np.ndarray,
    exposure: Exposure | None = None,
    refiner: GS2PoseRefiner = QUICK,
) -> np.ndarray:
    exposure = Exposure.neutral() if exposure is None else exposure
    gaussians, diameter = reference().gaussians, reference().diameter_m
    return refiner.descend(increment, phase, gaussians, goal, T, exposure, diameter)


@pytest.mark.parametrize('increment', [OBJECT_REFINER, CAMERA_REFINER])
def test_the_gradient_of_the_loss_equals_central_differences(
    scene: Scene, increment: Increment
) -> None:
    T = perturbed(scene.T_cam_obj[0], reference(), 8, 0.005)
    goal, exposure = target(scene, T), Exposure.neutral()
    gaussians = reference().gaussians

    def loss(pose: torch.Tensor) -> torch.Tensor:
        return SMOOTH(render(gaussians, goal.camera, pose), goal, exposure)

    pose = torch.tensor(T, requires_grad=True)
    loss(pose).backward()
    assert pose.grad is not None
    analytic = increment.gradient(pose.grad.numpy(), T)
    # In metres and radians that move the picture alike. Large steps: Gaussians end at alpha 1/255.
    steps = np.array([1, 1, 1, 10, 10, 10]) * 2e-4
    if increment is CAMERA_REFINER:
        steps[3:] = 2e-4
    numeric = []
    for k in range(6):
        xi = np.zeros(6)
        xi[k] = steps[k]
        ahead, behind = (
            loss(torch.from_numpy(increment.applied(T, s * xi))).item() for s in (1, -1)
        )
        numeric.append((ahead - behind) / 2)
    np.testing.assert_allclose(
        analytic * steps, numeric, atol=0.3 * float(np.abs(numeric).max()), rtol=0.3
    )
    assert np.dot(analytic * steps, numeric) > 0.97 * np.linalg.norm(
        analytic * steps
    ) * np.linalg.norm(numeric)


@pytest.mark.parametrize('increment', [OBJECT_REFINER, CAMERA_REFINER])
def test_each_refiner_brings_a_shifted_pose_back(scene: Scene, increment: Increment) -> None:
    T = scene.T_cam_obj[0]
    start = T.copy()
    start[:3, 3] += [0.006, -0.004, 0.0]
    found = descend(increment, Phase(60, 1e-3, 1e-2), target(scene, start), start)
    # Along the ray colour says little, and the pixel filter widens outlines: 1 % of the distance.
    assert np.abs(found - T)[:2, 3].max() < 0.001
    assert abs(found - T)[2, 3] < 0.008
    assert pose_error(found, T, reference())[0] < 1
    assert se3.is_rigid(found)


def test_a_perturbed_pose_comes_nearer(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    start = perturbed(T, reference(), 12, 0.01)
    before = scene.frame.color.copy(), reference().gaussians.sh.clone()
    estimate = QUICK.refine(scene.frame, reference(), [start], scene.masks[0])
    assert estimate.status is Status.CONVERGED
    assert estimate.covariance is None
    steps = [p.steps for p in (QUICK.object_phase, QUICK.camera_phase, QUICK.final_phase)]
    assert estimate.iterations == sum(steps) + QUICK.adaptation.steps
    assert pose_error(estimate.T_cam_obj, T, reference())[0] < 1
    # The alignment to the mask leaves 2.7 mm across the ray; along it colour says little.
    across = reference().center_in(estimate.T_cam_obj) - reference().center_in(T)
    assert np.linalg.norm(across[:2]) < 0.001
    assert abs(across[2]) < 0.008
    # Neither the image nor the stored object has changed.
    assert np.array_equal(scene.frame.color, before[0])
    assert torch.equal(reference().gaussians.sh, before[1])


def test_what_cannot_be_refined_is_lost(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    away = T.copy()
    away[0, 3] += 1
    nothing = np.zeros(CAMERA.shape, bool)
    for hypotheses, mask, reason in (
        ([], None, 'no initial pose'),
        ([T], nothing, 'the mask is empty'),
        ([away], None, 'the object is not in view'),
    ):
        estimate = QUICK.refine(scene.frame, reference(), hypotheses, mask)
        assert (estimate.status, estimate.reason) == (Status.LOST, reason)


def test_adaptation_takes_on_the_light_and_leaves_the_shape(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    lit = scene.frame.color * np.array([1.0, 0.7, 0.5], np.float32)  # warm light
    frame = RGBDFrame(lit, scene.frame.depth, CAMERA)
    goal, gaussians = target(scene, T, frame), reference().gaussians
    exposure = Exposure.neutral()
    adapted = Adaptation(steps=60).adapted(gaussians, goal, T, exposure, PhotometricLoss())
    pose = torch.from_numpy(T)

    def quality(g: object) -> float:
        with torch.no_grad():
            color = exposure.of(render(g, goal.camera, pose))  # pyright: ignore[reportArgumentType]
        return psnr(color.numpy(), goal.color.numpy(), goal.soft.numpy() > 0.9)

    assert quality(adapted) > quality(gaussians) + 2
    for field in fields(gaussians):
        same = torch.equal(getattr(adapted, field.name), getattr(gaussians, field.name))
        assert same == (field.name not in ('sh', 'quats')), field.name
        assert not getattr(adapted, field.name).requires_grad


def test_exposure_learns_brightness(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    frame = RGBDFrame(0.6 * scene.frame.color, scene.frame.depth, CAMERA)
    exposure = Exposure.neutral()
    still = Phase(150, 0.0, 0.0)
    refiner = replace(QUICK, loss=PhotometricLoss(l1_weight=1.0))
    found = descend(OBJECT_REFINER, still, target(scene, T, frame), T, exposure, refiner)
    np.testing.assert_array_equal(found, T)
    assert (exposure.gain.exp() + exposure.offset).item() == pytest.approx(0.6, abs=0.12)


def test_without_a_gradient_nothing_moves(scene: Scene) -> None:
    """An object that the window does not show."""
    T = scene.T_cam_obj[0]
    goal = target(scene, T)
    far = T.copy()
    far[0, 3] += 5
    found = descend(CAMERA_REFINER, Phase(3, 0.1, 0.1), goal, far)
    np.testing.assert_allclose(found, far)
