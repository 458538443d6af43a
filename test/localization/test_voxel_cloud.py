"""Fusion of depth images: means, bounds of memory, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.voxel_cloud import (
    FusionSettings,
    OrientedPoints,
    VoxelCloud,
    inverse_depth_planes,
)

from .room import CAMERA, camera_pose, plane_frame, view

SLANTED = (0.5, -0.3, -1.0)
HERE = camera_pose((-0.9, 0.3, 1.2))


def fused(
    *frames: RGBDFrame, T_map_cam: NDArray[np.float64] | None = None, voxel_m: float = 0.01
) -> VoxelCloud:
    cloud = VoxelCloud(FusionSettings(voxel_m=voxel_m))
    for frame in frames:
        cloud.add(frame, np.eye(4) if T_map_cam is None else T_map_cam)
    return cloud


def of_points(points: NDArray[np.float64]) -> OrientedPoints:
    n = len(points)
    normals = np.tile([0.0, 0.0, -1.0], (n, 1))
    return OrientedPoints(points, np.full((n, 3), 0.5), normals, np.full(n, 0.01))


# --- Means -------------------------------------------------------------------------------------


def test_a_frame_fused_twice_adds_no_points() -> None:
    frame = view(HERE)
    once, twice = fused(frame, T_map_cam=HERE), fused(frame, frame, T_map_cam=HERE)
    assert len(once) == len(twice) > 10_000
    assert twice.frames == 2
    for a, b in zip(once.points(), twice.points(min_frames=2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_voxel_holds_the_weighted_means_of_all_its_measurements() -> None:
    cloud = VoxelCloud(FusionSettings(voxel_m=1.0))
    low = OrientedPoints(
        np.array([[0.2, -0.8, 0.4]]), np.array([[0.1, 0.2, 0.3]]), np.eye(3)[:1], np.array([0.02])
    )
    high = OrientedPoints(
        np.array([[0.6, -0.4, 0.8]]), np.array([[0.5, 0.6, 0.7]]), np.eye(3)[1:2], np.array([0.06])
    )
    cloud.add_points(low, np.array([1.0]))
    cloud.add_points(high, np.array([3.0]))
    got = cloud.points()
    np.testing.assert_allclose(got.points, [[0.5, -0.5, 0.7]])
    np.testing.assert_allclose(got.colors, [[0.4, 0.5, 0.6]])
    np.testing.assert_allclose(got.normals, [[0.25, 0.75, 0]])  # not known so well any more
    np.testing.assert_allclose(got.reach_m, [0.05])


def test_a_near_measurement_outweighs_a_far_one() -> None:
    # Noise of 3 and 9 mm: nine to one. Both see the same piece of a plane.
    near, far = plane_frame((0, 0, -1), 1.0), plane_frame((0, 0, -1), 2.0)
    cloud = VoxelCloud(FusionSettings(voxel_m=0.02))
    cloud.add(near, np.eye(4))
    ahead = np.eye(4)
    ahead[2, 3] = -0.992  # puts that plane at 1.008 m, in the same voxels
    cloud.add(far, ahead)
    both = cloud.points(min_frames=2).points[:, 2]
    # In the mean over voxels, which hold one far and several near ones.
    assert len(both) > 1000
    assert 1.0 < both.min() < both.max() < 1.0 + 0.008 / (1 + 9) + 1e-6


def test_points_lie_where_the_camera_was() -> None:
    frame = plane_frame(SLANTED, 2.0)
    here, there = fused(frame).points(), fused(frame, T_map_cam=HERE, voxel_m=0.005).points()
    n = np.array(SLANTED) / np.linalg.norm(SLANTED)
    np.testing.assert_allclose(here.points @ n, -2.0, atol=1e-5)
    back = se3.transform(se3.inverse(HERE), there.points)
    np.testing.assert_allclose(back @ n, -2.0, atol=1e-5)
    normals = there.normals / np.linalg.norm(there.normals, axis=1, keepdims=True)
    np.testing.assert_allclose(normals, np.tile(HERE[:3, :3] @ n, (len(normals), 1)), atol=2e-3)


def test_a_noisy_plane_is_fused_into_a_smoother_one() -> None:
    n = np.array(SLANTED) / np.linalg.norm(SLANTED)
    frame = plane_frame(SLANTED, 2.0, noise_m=0.004)
    assert frame.depth is not None
    raw = CAMERA.point_map(frame.depth).reshape(-1, 3).astype(np.float64)
    points = fused(frame, voxel_m=0.001).points().points  # no two pixels in one voxel
    assert len(points) > 0.9 * len(raw)
    before, after = (np.sqrt(np.mean((p @ n + 2.0) ** 2)) for p in (raw, points))
    assert before > 0.003
    assert after < before / 3


# --- Bounds of memory --------------------------------------------------------------------------


def test_too_many_points_make_the_voxels_wider_as_if_they_had_always_been() -> None:
    settings = FusionSettings(voxel_m=0.01, max_points=2000)
    cloud = VoxelCloud(settings)
    for eye in ((-0.9, 0.3, 1.2), (0.4, -0.2, 1.4)):
        T = camera_pose(eye, np.array([1.2, 0.1, 0.3]))
        cloud.add(view(T), T)
        assert len(cloud) <= 2000
    assert cloud.voxel_m == 0.08
    wide = VoxelCloud(replace(settings, voxel_m=cloud.voxel_m, max_points=10**6))
    for eye in ((-0.9, 0.3, 1.2), (0.4, -0.2, 1.4)):
        T = camera_pose(eye, np.array([1.2, 0.1, 0.3]))
        wide.add(view(T), T)
    assert len(wide) == len(cloud)
    # Some of it lies on either side of the origin: halves of voxels join across no border.
    assert cloud.points().points[:, 1].min() < -0.5 < 0.5 < cloud.points().points[:, 1].max()
    for min_frames in (1, 2):
        a, b = (c.points(min_frames) for c in (cloud, wide))
        if min_frames == 1:
            np.testing.assert_allclose(a.points, b.points, atol=1e-9)
        else:  # what parts of a voxel were seen in is not known in full
            assert 0 < len(a.points) <= len(b.points)


def test_points_beyond_the_grid_are_not_counted() -> None:
    cloud = VoxelCloud(FusionSettings(voxel_m=0.01))
    assert cloud.add_points(of_points(np.array([[0, 0, 1], [1e5, 0, 1.0]])), np.ones(2)) == 1
    np.testing.assert_allclose(cloud.points().points, [[0, 0, 1]])


# --- What is left out --------------------------------------------------------------------------


def test_a_point_far_from_all_others_is_left_out() -> None:
    grid = np.stack(np.meshgrid(np.arange(10), np.arange(10), [100]), -1).reshape(-1, 3) * 0.01
    alone = np.array([[0.05, 0.05, 0.5]])
    cloud = VoxelCloud(FusionSettings(voxel_m=0.01))
    cloud.add_points(of_points(np.concatenate([grid, alone]) + 0.005), np.ones(101))
    assert len(cloud) == 101
    assert len(cloud.points().points) == 100
    assert cloud.points().points[:, 2].min() > 1
    assert len(cloud.points(isolated=100.0).points) == 101


def test_nothing_hangs_in_the_air_where_the_depth_jumps() -> None:
    frame = plane_frame((0, 0, -1), 2.0)
    assert frame.depth is not None
    depth = frame.depth.copy()
    depth[:, :70] = 1.0
    depth[:, 70:72] = [1.3, 1.7]  # pixels that have seen both
    z = fused(replace(frame, depth=depth)).points().points[:, 2]
    near, far = np.isclose(z, 1, atol=1e-4), np.isclose(z, 2, atol=1e-4)
    assert (near | far).all()
    assert near.sum() > 1000
    assert far.sum() > 1000


def test_a_steep_wall_is_no_jump() -> None:
    steep = plane_frame((1.0, 0.0, -0.3), 1.0, Camera(520.0, 520.0, 79.5, 59.5, 160, 120))
    assert steep.depth is not None
    assert steep.depth.max() > 2 * steep.depth[steep.depth > 0].min()
    seen = (steep.depth > 0.1) & (steep.depth < 6)
    assert fused().add(steep, np.eye(4)) > 0.98 * np.count_nonzero(seen)


def test_min_frames_keeps_what_was_seen_so_often() -> None:
    whole = plane_frame((0, 0, -1), 2.0)
    assert whole.depth is not None
    depth = whole.depth.copy()
    depth[:, 80:] = 0
    cloud = fused(whole, replace(whole, depth=depth))
    assert cloud.points(2).points[:, 0].max() < 0.02
    assert cloud.points(1).points[:, 0].max() > 1
    assert len(cloud.points(3).points) == 0


def test_only_depths_within_the_limits_are_used() -> None:
    for distance, share in ((0.09, 0), (0.11, 1), (5.9, 1), (6.1, 0)):
        frame = plane_frame((0, 0, -1), distance)
        cloud = VoxelCloud(FusionSettings())
        assert cloud.add(frame, np.eye(4)) == share * CAMERA.width * CAMERA.height


def test_voxels_are_two_pixels_wide_within_limits_where_the_first_frame_measured() -> None:
    sharp = replace(CAMERA, fx=10 * CAMERA.fx, fy=10 * CAMERA.fy)

    def at(metres: float, camera: Camera = CAMERA) -> RGBDFrame:
        return replace(plane_frame((0, 0, -1), metres), camera=camera)

    nothing = replace(at(1.0), depth=np.zeros(CAMERA.shape, np.float32))
    for frames, voxel_m in (
        ([at(0.5)], 1 / CAMERA.fx),
        ([at(0.2, sharp)], 0.001),
        ([at(5.0)], 0.02),
        ([nothing], 0.02),
        ([nothing, at(0.5), at(5.0)], 1 / CAMERA.fx),
    ):
        assert fused(*frames, voxel_m=0.0).voxel_m == pytest.approx(voxel_m)


def test_a_frame_without_depth_is_refused() -> None:
    with pytest.raises(ValueError, match='without depth'):
        fused(plane_frame((0, 0, -1), 1.0).without_depth())


@pytest.mark.parametrize('case', ['nothing', 'one pixel', 'rubbish', 'half rubbish', 'huge'])
def test_no_depth_image_makes_a_nan(case: str) -> None:
    rng = np.random.default_rng(3)
    depth = np.zeros(CAMERA.shape, np.float32)
    if case == 'one pixel':
        depth[60, 80] = 1
    if case in ('rubbish', 'half rubbish'):
        depth[:] = rng.uniform(0, 5, CAMERA.shape)
    if case == 'half rubbish':
        depth[rng.uniform(size=CAMERA.shape) < 0.5] = 0
        depth[:, 80:] = 1
    if case == 'huge':
        depth[:] = 1e10
    with np.errstate(invalid='raise', divide='raise'):
        cloud = fused(RGBDFrame(np.zeros((*CAMERA.shape, 3), np.float32), depth, CAMERA))
        points = cloud.points()
    assert all(np.isfinite(values).all() for values in points)
    assert (len(cloud) > 0) == (case in ('one pixel', 'half rubbish'))


# --- Planes ------------------------------------------------------------------------------------


@pytest.mark.parametrize('slant_deg', [0, 45, 70, 85])
def test_the_inverse_depth_of_a_plane_is_met_exactly(slant_deg: float) -> None:
    camera = Camera(400.0, 380.0, 30.0, 22.0, 60, 48)
    n = np.array([np.sin(np.radians(slant_deg)), 0.1, -np.cos(np.radians(slant_deg))])
    n /= np.linalg.norm(n)
    frame = plane_frame((n[0], n[1], n[2]), 1.0, camera)
    assert frame.depth is not None
    known = frame.depth > 0
    known[10:20, 10:12] = False  # a hole takes nothing from those around it
    got = inverse_depth_planes(frame.depth, known, 3)
    # 1 / z = -n . (x / z, y / z, 1) for the plane n X = -1.
    a, b = -n[0] / camera.fx, -n[1] / camera.fy
    c = -n[2] - a * camera.cx - b * camera.cy
    q = 1 / frame.depth[known].astype(np.float64)
    np.testing.assert_allclose(got.inverse_depth[known], q, atol=2e-6)
    np.testing.assert_allclose(got.a[known], a, atol=2e-6)
    np.testing.assert_allclose(got.b[known], b, atol=2e-6)
    np.testing.assert_allclose(got.c[known], c, atol=2e-4)
    assert got.rms.max() < 1e-4


@pytest.mark.parametrize('known_rows', [0, 1])
def test_there_is_no_plane_through_a_line(known_rows: int) -> None:
    z, known = np.full((20, 30), 2, np.float32), np.zeros((20, 30), bool)
    known[10 : 10 + known_rows] = True
    got = inverse_depth_planes(z, known, 2)
    assert not got.a.any()
    assert not got.b.any()
    assert not got.c.any()
    assert not got.inverse_depth.any()
    assert np.isfinite(got.rms).all()


def test_the_rest_of_a_noisy_plane_is_its_noise() -> None:
    rng = np.random.default_rng(0)
    q = 0.5 + 0.001 * rng.normal(size=(60, 80))
    got = inverse_depth_planes((1 / q).astype(np.float32), np.ones((60, 80), bool), 4)
    inner = got.rms[5:-5, 5:-5]
    assert np.sqrt(np.mean(inner**2)) == pytest.approx(0.001 * np.sqrt(78 / 81), rel=0.03)
