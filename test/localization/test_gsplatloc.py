"""GSplatLoc as published: what it minimises, and that it does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.gsplatloc import GSplatLoc, aligned, isotropic, sobel
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud
from gs_pose_ros.rendering import render

from .room import CAMERA, camera_pose, moved, pose_error, scene_map, view

SMALL = CAMERA.scaled(0.4)
TRUTH = camera_pose((-0.8, -0.2, 1.25))
FEW = GSplatLoc(max_steps=80)


def test_sobel_gives_the_slopes_of_a_plane() -> None:
    v, u = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing='ij')
    across, down = sobel(2 * u - 3 * v + 1)[:, 1:-1, 1:-1]
    torch.testing.assert_close(across, torch.full_like(across, 2))
    torch.testing.assert_close(down, torch.full_like(down, -3))


def of_balls() -> RGBDFrame:
    """What the paper's own rendering shows from TRUTH: its balls reach beyond edges, by 10 cm of
    depth in the mean of so small a picture, and would pull the camera back from an exact one."""
    return FEW.drawn(view(TRUTH, SMALL), scene_map(0.04), TRUTH)


@pytest.mark.parametrize('seed', [0, 1])
def test_a_few_steps_come_closer(seed: int) -> None:
    start = moved(TRUTH, 0.7, 0.015, seed)
    got = FEW.refine(of_balls(), scene_map(0.04), start)
    before, after = pose_error(start, TRUTH), pose_error(got.T_map_cam, TRUTH)
    assert got.status is Status.CONVERGED, got.reason
    assert after[0] < 0.4 * before[0]
    assert after[1] < 0.4 * before[1]
    assert got.iterations == FEW.max_steps
    assert got.covariance is None
    assert got.overlap > 0.8
    assert got.agreement > 0.8
    assert got.residual_m < 0.01
    assert got.stamp_ns == 7


def test_without_progress_it_ends_early() -> None:
    lazy = replace(FEW, lr_translation=1e-9, lr_quaternion=1e-9, patience_from=3, patience=2)
    got = lazy.refine(view(TRUTH, SMALL), scene_map(0.04), TRUTH)
    assert got.iterations < 15
    np.testing.assert_allclose(got.T_map_cam, TRUTH, atol=1e-5)


def test_a_frame_without_valid_depth_is_lost() -> None:
    frame = view(TRUTH, SMALL)
    blank = replace(frame, depth=np.zeros(SMALL.shape, np.float32))
    for nothing in (blank, frame.without_depth()):
        got = FEW.refine(nothing, scene_map(0.04), TRUTH)
        assert got.status is Status.LOST
        assert 'no valid pixel' in got.reason


def test_in_a_map_of_nothing_all_are_lost() -> None:
    empty = SceneMap.from_cloud(VoxelCloud(FusionSettings()))
    got = FEW.refine(view(TRUTH, SMALL), empty, TRUTH)
    assert got.status is Status.LOST
    assert 'nothing before the camera' in got.reason


def test_a_start_outside_the_map_is_lost() -> None:
    away = camera_pose((20.0, 20.0, 1.0), np.array([25.0, 20.0, 1.0]))
    got = replace(FEW, max_steps=3).refine(view(TRUTH, SMALL), scene_map(0.04), away)
    assert got.status is Status.LOST
    assert 'nothing before the camera' in got.reason


def test_a_wrong_unit_of_depth_is_lost() -> None:
    frame = view(TRUTH, SMALL)
    assert frame.depth is not None
    wrong = replace(frame, depth=1000 * frame.depth)
    got = replace(FEW, max_steps=3).refine(wrong, scene_map(0.04), TRUTH)
    assert got.status is Status.LOST


def test_the_balls_of_the_paper_are_the_points_of_the_map() -> None:
    scene = scene_map(0.04)
    balls = isotropic(scene)
    torch.testing.assert_close(balls.means, scene.gaussians.means)
    assert (balls.scales.std(1) < 1e-6).all()
    # As wide as the points are apart: on a plane of 4 cm voxels about that.
    assert float(balls.scales.median()) == pytest.approx(0.04, rel=0.4)
    torch.testing.assert_close(balls.sh, scene.gaussians.sh, atol=1e-5, rtol=0)
    assert balls.opacities.min() > 0.99


def test_aligned_gaussians_map_back() -> None:
    gaussians = isotropic(scene_map(0.04))
    turned, T_map_aligned = aligned(gaussians)
    R = T_map_aligned[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(R) == pytest.approx(1)
    back = se3.transform(T_map_aligned, turned.means.double().numpy())
    np.testing.assert_allclose(back, gaussians.means.numpy(), atol=1e-6)
    # Along their principal axes, the longest first, about their median.
    covariance = np.cov(turned.means.numpy().T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5)
    assert (np.diff(np.diag(covariance)) < 0).all()


def test_aligned_gaussians_look_the_same() -> None:
    gaussians = isotropic(scene_map(0.04))
    turned, T_map_aligned = aligned(gaussians)
    T_cam_map = se3.inverse(TRUTH)

    def shown(g: Gaussians, T: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return render(g, SMALL, torch.from_numpy(T)).depth

    difference = shown(gaussians, T_cam_map) - shown(turned, T_cam_map @ T_map_aligned)
    assert difference.abs().median() < 1e-4
    assert (difference.abs() > 0.01).float().mean() < 0.01
