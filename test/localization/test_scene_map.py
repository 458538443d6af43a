"""What of a map is drawn: all that is in view, in the level that the distance asks for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, OrientedPoints, VoxelCloud
from gs_pose_ros.rendering.numba_rasterizer import Splats, draw, view_of, work_for
from test.synthetic import Pose

from .room import CAMERA, camera_pose, scene_map

CAMERA_SMALL = CAMERA.scaled(0.5)
POSES = {
    'whole': camera_pose((-1.0, 0.0, 1.2)),
    'near': camera_pose((0.7, 0.0, 1.0), np.array([1.2, -0.3, 0.8])),
    'touching': camera_pose((1.0, -0.45, 0.72), np.array([1.2, -0.5, 0.75])),
    'from behind': camera_pose((1.45, -1.1, 1.6), np.array([0.0, 0.2, 0.3])),
    'upside down': camera_pose((-0.5, 0.3, 1.0)) @ se3.exp([0, 0, 0, 0, 0, np.pi]),
    'away': camera_pose((-1.4, 0.0, 1.0), np.array([-3.0, 0.0, 1.0])),
}


@pytest.fixture
def scene() -> SceneMap:
    """With a memory of its own."""
    return replace(scene_map(0.02))


def drawn(splats: Splats, camera: Camera, T_cam_map: Pose) -> NDArray[np.float32]:
    image = np.empty((camera.height, 5, camera.width), np.float32)
    starts, placed = np.array([0, len(splats)]), view_of(camera, T_cam_map, sloped=True)[None]
    needed = 0
    while True:
        work = work_for(splats, camera, needed)
        needed = draw(splats.prepared, splats.sh, starts, placed, work, image)
        if needed <= work.pairs.shape[1]:
            return image


def assert_same_picture(scene: SceneMap, some: Splats, T_cam_map: Pose) -> None:
    """Up to the rims of Gaussians beyond three standard deviations, outside the picture."""
    whole = drawn(Splats.of(scene.levels[0].gaussians), CAMERA_SMALL, T_cam_map)
    part = drawn(some, CAMERA_SMALL, T_cam_map)
    np.testing.assert_allclose(part, whole, atol=0.02)
    assert np.mean(np.abs(part - whole) > 1e-4) < 1e-3


@pytest.mark.parametrize('name', POSES)
def test_nothing_in_view_is_left_out(scene: SceneMap, name: str) -> None:
    T_cam_map = se3.inverse(POSES[name])
    some = scene.in_view(CAMERA_SMALL, T_cam_map, 0.0, 100.0)
    assert_same_picture(scene, some, T_cam_map)
    if name == 'away':
        assert len(some) == 0
    if name in ('near', 'touching'):
        assert len(some) < 0.7 * len(scene)


def test_nothing_is_left_out_after_a_small_motion(scene: SceneMap) -> None:
    pose, rng = POSES['near'], np.random.default_rng(0)
    reused = 0
    for _ in range(20):
        pose = pose @ se3.exp([*rng.normal(0, 0.02, 3), *rng.normal(0, 0.02, 3)])
        before = scene.levels[0]._drawn
        some = scene.in_view(CAMERA_SMALL, se3.inverse(pose), 0.0, 100.0)
        reused += some is before
        assert_same_picture(scene, some, se3.inverse(pose))
    assert 5 < reused < 20


def test_a_small_motion_draws_the_same_part_and_a_large_one_another(scene: SceneMap) -> None:
    start = POSES['near']
    first = scene.in_view(CAMERA_SMALL, se3.inverse(start), 0.0, 100.0)
    for motion, is_same in (([0.005, 0, 0, 0, 0.01, 0], True), ([0, 0, 0, 0, 0.8, 0], False)):
        again = scene.in_view(CAMERA_SMALL, se3.inverse(start @ se3.exp(motion)), 0.0, 100.0)
        assert (again is first) == is_same


def test_a_part_that_has_become_too_large_is_not_kept(scene: SceneMap) -> None:
    whole = scene.in_view(CAMERA_SMALL, se3.inverse(POSES['whole']), 0.0, 100.0)
    close = camera_pose((1.0, -0.5, 0.9), np.array([1.2, -0.5, 0.75]))
    part = scene.in_view(CAMERA_SMALL, se3.inverse(close), 0.0, 100.0)
    assert len(part) < 0.5 * len(whole)


def test_what_is_too_far_is_not_drawn(scene: SceneMap) -> None:
    T_cam_map = se3.inverse(POSES['whole'])
    near = scene.in_view(CAMERA_SMALL, T_cam_map, 0.0, 1.5)
    z = se3.transform(T_cam_map, near.prepared[:, :3].astype(np.float64))[:, 2]
    assert 0 < len(near) < len(scene)
    assert z.max() < 1.5 + 2 * 24 * 0.02  # a cell and its neighbour
    assert (se3.transform(T_cam_map, scene.gaussians.means.double().numpy())[:, 2] > 2.2).any()


def test_each_level_has_half_the_resolution_of_the_one_before(scene: SceneMap) -> None:
    sizes = [len(level) for level in scene.levels]
    widths = [float(level.gaussians.scales[:, 1].median()) for level in scene.levels]
    assert sizes[0] == len(scene)
    for fine, coarse in pairwise(sizes):
        assert fine / 8 < coarse < fine / 2
    for fine, coarse in pairwise(widths):
        assert 1.5 * fine < coarse < 2.6 * fine


def test_coarse_levels_lie_in_the_same_surfaces(scene: SceneMap) -> None:
    for level in scene.levels:
        x, _, z = level.gaussians.means.double().numpy().T
        # On the wall the furniture is near everywhere: its edges are in coarse voxels.
        for height, most in ((z, 1e-4), (x - 1.5, 0.001)):
            near = np.abs(height) < 0.01
            assert near.sum() > 20
            assert np.median(np.abs(height[near])) < most


@pytest.mark.parametrize(
    ('pixel_m', 'level'), [(0.0, 0), (0.02, 0), (0.03, 0), (0.041, 1), (0.081, 2), (9.0, 3)]
)
def test_the_width_of_a_pixel_chooses_the_level(
    scene: SceneMap, pixel_m: float, level: int
) -> None:
    T_cam_map = se3.inverse(POSES['whole'])
    scene.in_view(CAMERA_SMALL, T_cam_map, pixel_m, 100.0)
    assert [part._drawn is not None for part in scene.levels] == [k == level for k in range(4)]


def test_an_empty_map_has_nothing_in_view() -> None:
    empty = SceneMap.from_cloud(VoxelCloud(FusionSettings()))
    assert len(empty) == 0
    assert [len(level) for level in empty.levels] == [0, 0, 0, 0]
    for pixel_m in (0.0, 1.0):
        some = empty.in_view(CAMERA_SMALL, se3.inverse(POSES['whole']), pixel_m, 8.0)
        assert len(some) == 0
        assert not drawn(some, CAMERA_SMALL, np.eye(4)).any()


def test_a_map_knows_the_width_of_its_voxels() -> None:
    cloud = VoxelCloud(FusionSettings(voxel_m=0.01, max_points=5000))
    points = scene_map(0.02).gaussians.means.double().numpy()
    n = len(points)
    seen = OrientedPoints(points, np.full((n, 3), 0.5), np.zeros((n, 3)), np.full(n, 0.01))
    cloud.add_points(seen, np.ones(n))
    scene = SceneMap.from_cloud(cloud)
    assert scene.voxel_m == cloud.voxel_m > 0.02
    assert len(scene) <= 5000
