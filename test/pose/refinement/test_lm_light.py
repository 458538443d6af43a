"""The Levenberg-Marquardt refiner under other light than that of the reference views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gs_pose_ros.estimate import Status
from gs_pose_ros.pose.refinement.light import fit_gain
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from test.synthetic import Scene, make_scene, perturbed, pose_error, reference, standing

from .close_up import NEUTRAL, close_up_pose, render_planes

REFINER = LMRefiner()


# --- Light ---------------------------------------------------------------------------------------


def test_gain_and_offset_are_recovered_under_changed_light() -> None:
    image = render_planes(close_up_pose())
    alpha = np.maximum(image[:, 4], 1e-6)
    color = image[:, :3].transpose(0, 2, 1) / alpha[..., None]
    gains, offsets = np.array([0.7, 0.8, 0.9]), np.array([0.02, 0.05, -0.03])
    changed = np.ascontiguousarray(color * gains + offsets, np.float32)
    # Light and shadow of something in front must not count.
    changed[:30, :30] = 1
    depth = (image[:, 3] / alpha).astype(np.float32)
    depth[:30, :30] = 0.1
    gain = NEUTRAL
    for _ in range(5):
        gain = fit_gain(image, changed, depth, 0.01, gain)
    # Pulled a little towards (1, 0), as an object of one colour needs it.
    assert (gains < gain[:3]).all()
    assert (gain[:3] < gains + 0.4 * (1 - gains)).all()
    rendered = color[image[:, 4] > 0.99]
    assert np.abs(rendered * (gain[:3] - gains) + gain[3:] - offsets).mean() < 0.02


def test_without_pixels_the_gain_stays() -> None:
    image = render_planes(close_up_pose())
    nothing = np.full((96, 96, 3), np.nan, np.float32)
    gain = np.array([0.9, 1.1, 1.2, 0.1, 0.0, -0.1])
    assert np.array_equal(fit_gain(image, nothing, image[:, 3] * 0, 0.01, gain), gain)


@pytest.mark.parametrize('with_depth', [True, False])
def test_the_pose_is_found_under_another_light(with_depth: bool) -> None:
    lit = make_scene([(reference(), standing())], gain=0.65, offset=0.05)
    frame = lit.frame if with_depth else lit.frame.without_depth()
    start = perturbed(lit.T_cam_obj[0], reference(), 10, 0.01)
    estimate = REFINER.refine(frame, reference(), [start], lit.masks[0])
    assert estimate.status is Status.CONVERGED
    angle, shift = pose_error(estimate.T_cam_obj, lit.T_cam_obj[0], reference())
    # The alignment to the mask leaves 2 mm with depth, 4.5 mm without.
    assert angle < 0.4
    assert shift < (0.5 if with_depth else 3.5)


def test_without_exposure_other_light_remains_a_residual() -> None:
    lit = make_scene([(reference(), standing())], gain=0.65, offset=0.05)
    level = replace(REFINER.coarse[0], iterations=0)  # the only one that compares shading as well
    observation = Observation(lit.frame, reference(), lit.masks[0])
    window = ObjectWindow.around(observation, lit.T_cam_obj[0], 1.3, level.crop_size)
    assert window is not None
    costs = []
    for refiner in (REFINER, replace(REFINER, exposure=False)):
        gaussians = reference().gaussians
        _, _, end = refiner._level(gaussians, reference(), window, lit.T_cam_obj[0], level)
        assert end is not None
        costs.append(end.cost)
    assert costs[0] < 0.9 * costs[1]


# --- Adaptation ----------------------------------------------------------------------------------


def test_the_splat_takes_on_the_light_and_stays_as_it_was(scene: Scene) -> None:
    color = np.clip(scene.frame.color**1.3 * np.array([0.6, 0.9, 0.8], np.float32), 0, 1)
    frame = replace(scene.frame, color=color.astype(np.float32), depth=None)
    before = reference().gaussians.sh.clone()
    start = [perturbed(scene.T_cam_obj[0], reference(), 4, 0.002)]
    plain, adapting = (replace(REFINER, turned=0, adapt=adapt) for adapt in (False, True))
    found = adapting.refine(frame, reference(), start, scene.masks[0])
    assert found.found
    assert found.iterations > plain.refine(frame, reference(), start, scene.masks[0]).iterations
    angle, shift = pose_error(found.T_cam_obj, scene.T_cam_obj[0], reference())
    # Of 4 degrees, and of the 6 mm that the alignment to the mask leaves.
    assert angle < 0.5
    assert shift < 3
    assert torch.equal(reference().gaussians.sh, before)
