"""How sure the Levenberg-Marquardt refiner is of a pose: its covariance, and look-alikes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.frame import DepthNoise, RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.optimization.levenberg_marquardt import NormalEquations
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.refinement.object_problem import linearize_object
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from test.synthetic import Scene, make_scene, reference, standing

from .close_up import NEUTRAL

REFINER = LMRefiner()


# --- Covariance ----------------------------------------------------------------------------------


def test_the_covariance_is_positive_definite_and_worst_along_the_ray(scene: Scene) -> None:
    frame = scene.frame.without_depth()
    estimate = REFINER.refine(frame, reference(), [scene.T_cam_obj[0]], scene.masks[0])
    P = estimate.covariance
    assert P is not None
    assert np.allclose(P, P.T)
    assert np.linalg.eigvalsh(P).min() > 0
    # At the object's centre, where the estimate says something of its own about each direction.
    center = se3.transform(estimate.T_cam_obj, reference().box.mean(0)[None])[0]
    to_center = np.eye(6)
    to_center[:3, 3:] = -se3.hat(center)
    x, y, z = np.sqrt(np.diag(to_center @ P @ to_center.T))[:3]
    assert max(x, y) < 0.5 * z
    assert z < 0.01


def test_the_covariance_is_of_the_left_tangent_in_the_camera_frame(scene: Scene) -> None:
    """The Hessian about the camera's own centre needs no change of tangent: both must agree."""
    # Noise that grows with the distance would be none at the camera.
    frame = replace(scene.frame, depth_noise=DepthNoise(per_m2=0.0))
    refiner, ref, T = REFINER, reference(), scene.T_cam_obj[0]
    level = refiner.fine[-1]
    window = ObjectWindow.around(Observation(frame, ref), T, 1.3, level.crop_size)
    assert window is not None
    T, _, end = refiner._level(ref.gaussians, ref, window, T, level)
    assert end is not None
    # The same with the origin of the camera for the object's centre.
    problem = refiner._problem(ref.gaussians, ref, window, level)
    problem = problem._replace(center=se3.inverse(T)[:3, 3])
    H, gradients, gain = np.empty((6, 6)), np.empty((8, 8, 6)), NEUTRAL.copy()
    for _ in range(4):  # the refiner's gain has settled
        cost, _, _ = linearize_object(problem, T, gain, H, gradients)
    about_camera = NormalEquations(np.zeros(3), H, gradients, cost).covariance()
    scale = np.sqrt(np.outer(np.diag(about_camera), np.diag(about_camera)))
    assert np.allclose(end.covariance() / scale, about_camera / scale, atol=0.05)


@pytest.mark.slow
def test_noise_moves_the_pose_as_far_as_the_covariance_says(scene: Scene) -> None:
    """Noise is all that differs between the pictures: it moves the pose about its mean."""
    refiner = replace(REFINER, splat_error=1.0, splat_offset=0.0, turned=0)
    rng = np.random.default_rng(3)
    moved, promised = [], []
    for _ in range(40):
        frame = with_noise(scene.frame, rng)
        estimate = refiner.refine(frame, reference(), [scene.T_cam_obj[0]], scene.masks[0])
        assert estimate.covariance is not None
        moved.append(se3.log(scene.T_cam_obj[0] @ se3.inverse(estimate.T_cam_obj)))
        promised.append(estimate.covariance)
    spread = np.cov(np.array(moved).T)
    ratio = np.linalg.eigvals(np.linalg.solve(np.mean(promised, 0), spread)).real
    assert ratio.min() > 0.1
    assert ratio.max() < 6  # 2.5 in standard deviations: blocks are few, outlines count double


def with_noise(frame: RGBDFrame, rng: np.random.Generator) -> RGBDFrame:
    assert frame.depth is not None
    color = frame.color + rng.normal(0, 0.03, frame.color.shape)
    depth = (frame.depth + rng.normal(0, 0.002, frame.depth.shape)) * (frame.depth > 0)
    return replace(
        frame, color=color.clip(0, 1).astype(np.float32), depth=depth.astype(np.float32)
    )


def test_depth_makes_the_pose_more_certain(scene: Scene) -> None:
    both = [
        REFINER.refine(frame, reference(), [scene.T_cam_obj[0]], scene.masks[0]).covariance
        for frame in (scene.frame, scene.frame.without_depth())
    ]
    assert both[0] is not None
    assert both[1] is not None
    assert np.sqrt(both[0][2, 2]) < np.sqrt(both[1][2, 2])


# --- Ambiguity -----------------------------------------------------------------------------------


def plain_can() -> ObjectReference:
    """A closed cylinder of one colour."""
    radius, height = 0.03, 0.08
    angle, z = np.meshgrid(np.arange(0, 2 * np.pi, 0.05), np.arange(0, height + 1e-6, 0.002))
    wall = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], -1).reshape(-1, 3)
    x, y = np.meshgrid(np.arange(-radius, radius, 0.002), np.arange(-radius, radius, 0.002))
    disc = np.stack([x, y, 0 * x], -1)[np.hypot(x, y) < radius]
    points = np.concatenate([wall, disc, disc + np.array([0, 0, height])])
    colors = np.tile([0.6, 0.4, 0.3], (len(points), 1)) * np.where(
        points[:, 2:] > 0.999 * height, 1.3, 1.0
    )
    return replace(
        reference(),
        object_id='can',
        gaussians=Gaussians.from_points(points, colors, 0.0015, 0.95, 0),
        diameter_m=0.1,
        box=np.stack([points.min(0), points.max(0)]),
    )


def test_a_round_object_is_reported_as_such() -> None:
    can = plain_can()
    seen = make_scene([(can, standing())])
    estimate = REFINER.refine(seen.frame, can, [seen.T_cam_obj[0]], seen.masks[0])
    assert estimate.found
    assert estimate.ambiguous
    assert len(estimate.alternatives) >= 12  # all round
    axis = seen.T_cam_obj[0][:3, 2]
    for T in estimate.alternatives:
        assert np.degrees(np.arccos(abs(T[:3, 2] @ axis))) < 5
    if estimate.free_axis is not None:
        assert abs(estimate.free_axis[2]) > 0.95


def test_an_object_with_pattern_is_not_ambiguous(scene: Scene) -> None:
    estimate = REFINER.refine(scene.frame, reference(), [scene.T_cam_obj[0]], scene.masks[0])
    assert estimate.found
    assert not estimate.ambiguous
