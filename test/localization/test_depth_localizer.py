"""The camera's pose in a map: answers on an exact scene, refusals, and what is said of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.depth_localizer import DepthLocalizer, Level
from gs_pose_ros.localization.map_check import MapCheck
from gs_pose_ros.localization.observation import DEPTH, observe
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.surfels import SurfelSettings, oriented_points, surfels
from gs_pose_ros.localization.voxel_cloud import FusionSettings, OrientedPoints, VoxelCloud
from test.synthetic import Pose

from .room import CAMERA, camera_pose, moved, plane_frame, pose_error, scene_map, view

LOCALIZER = DepthLocalizer()
TRUTH = camera_pose((-0.8, -0.2, 1.25))


@pytest.fixture(scope='module')
def frame() -> RGBDFrame:
    return view(TRUTH)


def measured(frame: RGBDFrame) -> np.ndarray:
    assert frame.depth is not None
    return frame.depth.copy()


def noisy(frame: RGBDFrame, sigma_m: float = 0.003, seed: int = 0) -> RGBDFrame:
    noise = np.random.default_rng(seed).normal(0, sigma_m, frame.camera.shape)
    return replace(frame, depth=measured(frame) + noise.astype(np.float32))


def moved_map(scene: SceneMap, T_new_old: Pose) -> SceneMap:
    points = oriented_points(scene.gaussians)
    R = T_new_old[:3, :3]
    cloud = OrientedPoints(
        se3.transform(T_new_old, points.points),
        points.colors,
        points.normals @ R.T,
        points.reach_m / scene.surfel.spread,
    )
    return SceneMap(surfels(cloud, SurfelSettings()), scene.voxel_m)


# --- Answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(3))
def test_a_pose_that_is_off_comes_back_exactly(frame: RGBDFrame, seed: int) -> None:
    start = moved(TRUTH, 3, 0.05, seed)
    assert min(pose_error(start, TRUTH)) > 2.9
    got = LOCALIZER.refine(frame, scene_map(), start)
    assert got.status is Status.CONVERGED, got.reason
    assert got.found
    angle_deg, distance_mm = pose_error(got.T_map_cam, TRUTH)
    assert angle_deg < 0.05
    assert distance_mm < 1
    assert got.overlap > 0.8
    assert got.agreement > 0.8
    assert got.residual_m < 0.001
    assert got.correlation > 0.8
    assert 0 < got.iterations <= sum(level.iterations for level in LOCALIZER.levels)
    assert got.stamp_ns == frame.stamp_ns


def test_depth_alone_suffices(frame: RGBDFrame) -> None:
    black = replace(frame, color=np.zeros_like(frame.color))
    got = replace(LOCALIZER, gray_weight=0.0).refine(black, scene_map(), moved(TRUTH, 3, 0.05))
    angle_deg, distance_mm = pose_error(got.T_map_cam, TRUTH)
    assert got.found
    assert np.isnan(got.correlation)
    assert angle_deg < 0.05
    assert distance_mm < 1


def test_brighter_light_moves_nothing(frame: RGBDFrame) -> None:
    bright = replace(frame, color=(0.6 * frame.color + 0.3).astype(np.float32))
    got = LOCALIZER.refine(bright, scene_map(), moved(TRUTH, 3, 0.05))
    assert got.found
    assert pose_error(got.T_map_cam, TRUTH)[1] < 1


def test_where_depth_does_not_tell_gray_does() -> None:
    # A wall with a pattern fills the picture: it may shift along itself and turn about its normal.
    wall = camera_pose((0.0, 0.0, 1.0), np.array([-1.0, 0.0, 1.0]))
    # Fused from noisy frames: on a perfect wall rounding alone says which splat hides which, and
    # that may move the pattern of the whole wall by a part of a pixel.
    cloud = VoxelCloud(FusionSettings(voxel_m=0.01))
    for seed in range(2):
        cloud.add(noisy(view(wall, Camera(360.0, 360.0, 239.5, 179.5, 480, 360)), seed=seed), wall)
    scene, start = SceneMap.from_cloud(cloud), wall @ se3.exp([0.04, -0.03, 0.02, 0, 0, 0.01])
    frame = noisy(view(wall, Camera(200.0, 200.0, 79.5, 59.5, 160, 120)))
    localizer = replace(LOCALIZER, check=MapCheck(min_correlation=0.5))
    blind, seeing = (
        replace(localizer, gray_weight=weight).refine(frame, scene, start) for weight in (0.0, 1.0)
    )
    assert pose_error(blind.T_map_cam, wall)[1] > 20
    assert pose_error(seeing.T_map_cam, wall)[1] < 3  # of a pixel on the wall, 7.5 mm
    assert seeing.found
    assert blind.agreement > 0.95
    assert not blind.found
    assert 'the texture is not that of the map' in blind.reason
    assert blind.covariance is None


def test_a_moved_world_moves_the_answer(frame: RGBDFrame) -> None:
    T_new_old = se3.exp([3.0, -2.0, 0.5, 0.3, 0.8, -1.2])
    scene, start = scene_map(0.02), moved(TRUTH, 3, 0.05)
    here = LOCALIZER.refine(frame, scene, start)
    there = LOCALIZER.refine(frame, moved_map(scene, T_new_old), T_new_old @ start)
    assert here.found
    assert there.found
    assert pose_error(here.T_map_cam, TRUTH)[1] < 2  # of the 50 mm of the start
    # Other cells are joined on coarse levels, and points are kept in single precision.
    angle_deg, distance_mm = pose_error(there.T_map_cam, T_new_old @ here.T_map_cam)
    assert angle_deg < 0.02
    assert distance_mm < 0.5


def test_foreign_things_before_the_camera_do_not_pull(frame: RGBDFrame) -> None:
    depth = measured(frame)
    depth[20:80, 30:110] = 0.5
    assert np.mean(depth == 0.5) == 0.25
    got = LOCALIZER.refine(replace(frame, depth=depth), scene_map(), moved(TRUTH, 3, 0.05))
    assert got.found
    angle_deg, distance_mm = pose_error(got.T_map_cam, TRUTH)
    assert angle_deg < 0.05
    assert distance_mm < 1
    assert got.agreement < 0.8  # and it says how much it did not understand


def test_the_residual_is_the_median_distance_to_the_map(frame: RGBDFrame) -> None:
    # Two thirds of the picture are 0.9 m behind the map, where the sensor's noise is larger.
    depth = measured(frame)
    depth[:, 50:] += 0.9
    no_check = MapCheck(min_agreement=0.0)
    localizer = replace(LOCALIZER, levels=(Level(160, 0, 1.0, 1e-5),), check=no_check)
    got = localizer.refine(replace(frame, depth=depth), scene_map(), TRUTH)
    assert got.residual_m == pytest.approx(0.9, abs=0.005)
    assert got.agreement == pytest.approx(0.3, abs=0.05)


def test_pixels_without_depth_do_not_pull(frame: RGBDFrame) -> None:
    depth = measured(frame)
    depth[np.random.default_rng(0).uniform(size=depth.shape) < 0.5] = 0
    depth[:, :50] = 0
    got = LOCALIZER.refine(replace(frame, depth=depth), scene_map(), moved(TRUTH, 2, 0.03))
    assert got.found
    assert pose_error(got.T_map_cam, TRUTH)[1] < 1


def test_the_inputs_stay_as_they_were(frame: RGBDFrame) -> None:
    start = moved(TRUTH, 3, 0.05)
    before, depth, color = start.copy(), measured(frame), frame.color.copy()
    LOCALIZER.refine(frame, scene_map(0.02), start)
    assert (start == before).all()
    assert (measured(frame) == depth).all()
    assert (frame.color == color).all()


def test_the_same_call_gives_the_same_answer(frame: RGBDFrame) -> None:
    start = moved(TRUTH, 3, 0.05)
    a, b = (LOCALIZER.refine(frame, scene_map(0.02), start) for _ in range(2))
    assert pose_error(a.T_map_cam, start)[1] > 40
    np.testing.assert_array_equal(a.T_map_cam, b.T_map_cam)


# --- Refusals ----------------------------------------------------------------------------------


def test_a_frame_without_valid_depth_is_lost(frame: RGBDFrame) -> None:
    for blank in (frame.without_depth(), replace(frame, depth=np.zeros_like(measured(frame)))):
        got = LOCALIZER.refine(blank, scene_map(0.02), TRUTH)
        assert got.status is Status.LOST
        assert 'no valid pixel' in got.reason
        assert got.stamp_ns == frame.stamp_ns
        np.testing.assert_array_equal(got.T_map_cam, TRUTH)


def test_a_few_valid_pixels_are_not_enough(frame: RGBDFrame) -> None:
    depth = np.zeros_like(measured(frame))
    depth[50:60, 70:80] = measured(frame)[50:60, 70:80]
    got = LOCALIZER.refine(replace(frame, depth=depth), scene_map(0.02), TRUTH)
    assert got.status is Status.LOST
    assert '1 % of the depth image is valid' in got.reason


@pytest.mark.parametrize('factor', [0.001, 0.1, 0.5, 2.0, 10.0, 1000.0])
def test_a_wrong_unit_of_depth_is_lost(frame: RGBDFrame, factor: float) -> None:
    wrong = replace(frame, depth=(factor * measured(frame)).astype(np.float32))
    got = LOCALIZER.refine(wrong, scene_map(0.02), TRUTH)
    assert got.status is Status.LOST
    assert got.reason
    assert got.covariance is None


@pytest.mark.parametrize(
    'pose',
    [
        camera_pose((20.0, 20.0, 1.0), np.array([25.0, 20.0, 1.0])),
        camera_pose((-1.6, 0.0, 1.0), np.array([-5.0, 0.0, 1.0])),
    ],
    ids=['far away', 'turned away'],
)
def test_a_start_outside_the_map_is_lost(frame: RGBDFrame, pose: Pose) -> None:
    got = LOCALIZER.refine(frame, scene_map(0.02), pose)
    assert got.status is Status.LOST
    assert 'nothing before the camera' in got.reason


def test_a_map_of_something_else_is_lost(frame: RGBDFrame) -> None:
    elsewhere = camera_pose((1.0, 0.0, 1.0), np.array([-1.4, 1.0, 0.8]))
    furniture = (((-1.2, 0.2, 0.0), (-0.8, 0.9, 0.6)), ((-1.4, 0.7, 0.6), (-1.0, 1.1, 1.7)))
    cloud = VoxelCloud(FusionSettings(voxel_m=0.02))
    cloud.add(view(elsewhere, boxes=furniture), elsewhere)
    got = LOCALIZER.refine(frame, SceneMap.from_cloud(cloud), elsewhere)
    assert got.status is Status.LOST
    assert 'depths are those of the map' in got.reason
    assert 0 < got.agreement < LOCALIZER.check.min_agreement


def test_an_empty_map_is_lost(frame: RGBDFrame) -> None:
    empty = SceneMap.from_cloud(VoxelCloud(FusionSettings()))
    got = LOCALIZER.refine(frame, empty, TRUTH)
    assert got.status is Status.LOST
    assert 'nothing before the camera' in got.reason


def test_a_level_whose_blocks_all_hold_jumps_is_left_out() -> None:
    # Every second pixel is 10 % further away: four pixels may differ by 12 %, two by 6 %.
    frame = plane_frame((0, 0, -1), 1.0)
    depth = measured(frame)
    depth[:, ::2] *= 1.1
    wide = DepthLocalizer(levels=(Level(40, 3, 100.0, 1e-5), Level(80, 3, 100.0, 1e-5)))
    assert observe(replace(frame, depth=depth), 40)[1][..., DEPTH].all()
    assert not observe(replace(frame, depth=depth), 80)[1][..., DEPTH].any()
    cloud = VoxelCloud(FusionSettings(voxel_m=0.02))
    cloud.add(plane_frame((0, 0, -1), 1.05), np.eye(4))
    got = wide.refine(replace(frame, depth=depth), SceneMap.from_cloud(cloud), np.eye(4))
    assert got.found
    assert got.overlap > 0.8


@pytest.mark.parametrize(
    ('check', 'reason'),
    [
        (MapCheck(min_measured=1.0), 'valid'),
        (MapCheck(min_overlap=1.0), 'covers'),
        (MapCheck(min_agreement=1.0), 'are those of the map'),
    ],
)
def test_each_share_has_its_limit(frame: RGBDFrame, check: MapCheck, reason: str) -> None:
    depth = measured(frame)
    depth[:30, :30] = 0
    depth[60:80, 60:100] = 0.6
    got = replace(LOCALIZER, check=check).refine(replace(frame, depth=depth), scene_map(), TRUTH)
    assert got.status is Status.LOST
    assert reason in got.reason
    assert LOCALIZER.refine(replace(frame, depth=depth), scene_map(), TRUTH).found


# --- Covariance --------------------------------------------------------------------------------


def test_the_covariance_is_symmetric_and_positive(frame: RGBDFrame) -> None:
    got = LOCALIZER.refine(noisy(frame), scene_map(), moved(TRUTH, 3, 0.05))
    assert got.covariance is not None
    np.testing.assert_allclose(got.covariance, got.covariance.T, rtol=1e-9)
    assert np.linalg.eigvalsh(got.covariance).min() > 0


def test_the_covariance_covers_what_noise_does(frame: RGBDFrame) -> None:
    found = [LOCALIZER.refine(noisy(frame, seed=s), scene_map(), TRUTH) for s in range(4)]
    off = np.stack([se3.log(se3.inverse(TRUTH) @ got.T_map_cam) for got in found])
    sigma = np.sqrt([np.diag(got.covariance) for got in found if got.covariance is not None])
    assert (off.std(0) < 1.5 * sigma.mean(0)).all()
    assert (sigma.mean(0) < 30 * off.std(0)).all()
    # What the map's own pixels do (14 mm wide on the wall) is the same in every frame.
    assert np.linalg.norm(off[:, :3].mean(0)) < 0.002


def test_more_noise_makes_the_pose_less_sure(frame: RGBDFrame) -> None:
    sensor = replace(LOCALIZER, bias_voxels=0.0)  # the map's part does not depend on it
    little, much = (sensor.refine(noisy(frame, m), scene_map(), TRUTH) for m in (0.001, 0.01))
    assert little.covariance is not None
    assert much.covariance is not None
    assert np.trace(much.covariance[:3, :3]) > 3 * np.trace(little.covariance[:3, :3])


def test_what_the_map_is_wrong_by_makes_the_pose_less_sure(frame: RGBDFrame) -> None:
    start = moved(TRUTH, 2, 0.03)
    exact, coarse = (
        DepthLocalizer(bias_voxels=share).refine(frame, scene_map(), start) for share in (0.0, 1.0)
    )
    assert exact.covariance is not None
    assert coarse.covariance is not None
    added = coarse.covariance - exact.covariance
    assert np.linalg.eigvalsh(added).min() > 0
    # A block of the picture may be 1 cm off: a hundredth of a metre over the root of 64 of them.
    sigma = np.sqrt(np.linalg.eigvalsh(added[:3, :3]).min())
    assert 0.2 * 0.01 / 8 < sigma < 5 * 0.01 / 8


def test_along_a_bare_wall_the_camera_is_least_sure() -> None:
    # Wall and floor: only y is free.
    pose = camera_pose((0.0, 0.0, 1.0), np.array([-1.5, 0.0, 0.5]))
    scene_cloud = VoxelCloud(FusionSettings(voxel_m=0.02))
    scene_cloud.add(view(pose, CAMERA.scaled(2)), pose)
    frame = noisy(view(pose, Camera(200.0, 200.0, 79.5, 59.5, 160, 120)))
    # Rounding alone says where along the wall it ends, so there must be no texture to contradict.
    bare = replace(frame, color=np.zeros_like(frame.color))
    gray_off = replace(LOCALIZER, gray_weight=0.0)
    got = gray_off.refine(bare, SceneMap.from_cloud(scene_cloud), pose)
    assert got.covariance is not None, got.reason
    along, down, ahead = np.sqrt(np.diag(got.covariance)[:3])
    assert along > 10 * max(down, ahead)


@pytest.mark.parametrize(('voxel_m', 'status'), [(0.0015, Status.LOST), (0.01, Status.CONVERGED)])
def test_the_finer_the_map_the_closer_depths_must_agree(voxel_m: float, status: Status) -> None:
    # 8 mm off at 0.45 m, where a sensor errs by 1.4 mm.
    seen = np.full((6, 8), 0.45, np.float32)
    difference, noise = np.full(seen.shape, 0.008), np.full(seen.shape, 0.0014)
    estimate = CameraEstimate(np.eye(4), Status.CONVERGED)
    plain = np.zeros_like(seen)
    got = MapCheck().judged(estimate, seen, difference, noise, (plain, plain), voxel_m)
    assert got.status is status
    assert (got.overlap, got.residual_m) == (1.0, 0.008)
