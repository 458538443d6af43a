"""The refiners of the papers on a CUDA device, and what they say where there is none."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.pose.refinement.gs2pose import GS2PoseRefiner, Phase
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from test.synthetic import Scene, make_scene, perturbed, pose_error, reference, standing

REFINERS = (
    GSPoseRefiner(crop_size=176, max_steps=30),
    GS2PoseRefiner(crop_size=96, camera_phase=Phase(10, 1e-3, 5e-3)),
)


@pytest.fixture(scope='module')
def scene() -> Scene:
    return make_scene([(reference(), standing(-0.02))])


@pytest.mark.parametrize('refiner', REFINERS)
def test_a_missing_device_is_named(
    scene: Scene, refiner: GSPoseRefiner | GS2PoseRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(refiner, device='cuda')
    T, mask = scene.T_cam_obj[0], scene.masks[0]
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(GsPoseError, match='no CUDA device'):
        elsewhere.refine(scene.frame, reference(), [T], mask)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setitem(sys.modules, 'gsplat', None)  # as if not installed
    with pytest.raises(GsPoseError, match='gsplat is not installed'):
        elsewhere.refine(scene.frame, reference(), [T], mask)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device and gsplat')
@pytest.mark.parametrize('refiner', REFINERS)
def test_both_devices_come_to_the_same_pose(
    scene: Scene, refiner: GSPoseRefiner | GS2PoseRefiner
) -> None:
    start = perturbed(scene.T_cam_obj[0], reference(), 8, 0.0)
    here, there = (
        replace(refiner, device=device).refine(scene.frame, reference(), [start], scene.masks[0])
        for device in ('cpu', 'cuda')
    )
    angle, shift = pose_error(there.T_cam_obj, here.T_cam_obj, reference())
    assert angle < 0.3
    assert shift < 1
