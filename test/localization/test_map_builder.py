"""A map frame by frame: what is fused, what is skipped, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.depth_localizer import DepthLocalizer
from gs_pose_ros.localization.map_builder import MapBuilder, MapSettings
from gs_pose_ros.localization.map_store import StoredMap, load_map, save_map
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud
from test.synthetic import Pose

from .room import CAMERA, EYES, camera_pose, moved, plane_frame, pose_error, view

VOXEL_M = 0.02
SETTINGS = MapSettings(fusion=FusionSettings(voxel_m=VOXEL_M))
POSES = tuple(camera_pose(eye) for eye in EYES)


@cache
def frames() -> tuple[tuple[RGBDFrame, Pose], ...]:
    return tuple((view(T), T) for T in POSES)


@cache
def built() -> StoredMap:
    return of(*frames())


def of(*posed: tuple[RGBDFrame, Pose], settings: MapSettings = SETTINGS) -> StoredMap:
    builder = MapBuilder(settings)
    for frame, T in posed:
        builder.add(frame, T)
    return builder.build()


def points(stored: StoredMap) -> np.ndarray:
    return stored.scene.gaussians.means.double().numpy()


def ahead(T: Pose, distance_m: float, angle_deg: float = 0.0) -> Pose:
    return T @ se3.exp([0, 0, distance_m, 0, np.radians(angle_deg), 0])


# --- The map -----------------------------------------------------------------------------------


def test_it_is_the_cloud_and_the_keyframes_of_the_same_frames() -> None:
    cloud = VoxelCloud(SETTINGS.fusion)
    for frame, T in frames():
        cloud.add(frame, T)
    scene, known = SceneMap.from_cloud(cloud), KeyframeRelocalizer.of(frames())
    np.testing.assert_array_equal(points(built()), scene.gaussians.means.numpy())
    assert len(built().relocalizer.keyframes) == len(known.keyframes) == len(POSES)
    np.testing.assert_array_equal(built().relocalizer.vectors, known.vectors)


def test_a_camera_finds_its_place_in_it() -> None:
    T = camera_pose((-0.95, 0.1, 1.1))
    frame = view(T)
    start = moved(T, 3.0, 0.05)
    estimate = DepthLocalizer().refine(frame, built().scene, start)
    angle, distance = pose_error(estimate.T_map_cam, T)
    assert distance < 5 and angle < 0.3
    found = built().relocalizer.candidates(frame, built().scene)
    assert min(pose_error(candidate, T)[1] for candidate in found) < 50


def test_facts_are_counted_and_those_given_are_kept(tmp_path: Path) -> None:
    builder = MapBuilder(SETTINGS, frame_id='hall')
    for frame, T in (*frames(), frames()[-1]):
        builder.add(frame, T)
    stored = builder.build({'source': 'bag of yesterday', 'frames': -1})
    assert stored.frame_id == 'hall'
    assert builder.frames == stored.facts['frames'] == len(POSES)
    assert builder.skipped == stored.facts['skipped'] == 1
    assert stored.facts['source'] == 'bag of yesterday'
    assert float(stored.facts['seconds']) > 0
    save_map(tmp_path / 'hall', stored)
    loaded = load_map(tmp_path / 'hall')
    assert loaded.facts == stored.facts
    assert loaded.scene.surfel == stored.scene.surfel
    assert loaded.relocalizer.settings == SETTINGS.relocalization
    np.testing.assert_array_equal(points(loaded), points(stored))


def test_frames_may_be_added_after_a_map_was_built() -> None:
    builder = MapBuilder(SETTINGS)
    builder.add(*frames()[0])
    first = builder.build()
    count = len(first.scene)
    for frame, T in frames()[1:]:
        builder.add(frame, T)
    whole = builder.build()
    np.testing.assert_array_equal(points(whole), points(built()))
    assert len(first.scene) == count < len(whole.scene)
    assert len(first.relocalizer.keyframes) == 1


def test_what_one_frame_of_many_has_seen_alone_is_an_outlier() -> None:
    wall = plane_frame((0, 0, -1), 2.0)
    assert wall.depth is not None
    ghost = wall.depth.copy()
    ghost[40:80, 60:100] = 1.0
    steps = [se3.exp([0.03 * k, 0, 0, 0, 0, 0]) for k in range(11)]
    seen = [(replace(wall, depth=ghost) if k == 5 else wall, T) for k, T in enumerate(steps)]
    few = of(*seen[:10])
    many = of(*seen)
    assert points(few)[:, 2].min() < 1.1
    assert points(many)[:, 2].min() > 1.9
    kept = of(*seen, settings=replace(SETTINGS, min_frames=1))
    assert points(kept)[:, 2].min() < 1.1


# --- What is skipped ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('distance_m', 'angle_deg', 'is_used'),
    [(0.0, 0.0, False), (0.019, 1.9, False), (0.021, 0.0, True), (0.0, 2.1, True)],
)
def test_a_frame_near_the_last_one_is_skipped(
    distance_m: float, angle_deg: float, is_used: bool
) -> None:
    builder = MapBuilder(SETTINGS)
    frame, T = frames()[0]
    assert builder.add(frame, T)
    assert builder.add(frame, ahead(T, distance_m, angle_deg)) is is_used
    assert (builder.frames, builder.skipped) == ((2, 0) if is_used else (1, 1))


def test_slow_motion_is_measured_from_the_last_frame_that_was_used() -> None:
    builder = MapBuilder(SETTINGS)
    frame, T = frames()[0]
    used = [builder.add(frame, ahead(T, 0.007 * k)) for k in range(7)]
    assert used == [True, False, False, True, False, False, True]


def test_without_a_spacing_every_frame_is_used() -> None:
    builder = MapBuilder(replace(SETTINGS, fuse_spacing_m=0.0))
    assert all(builder.add(*frames()[0]) for _ in range(3))
    assert builder.frames == 3


def test_keyframes_are_fewer_than_frames() -> None:
    builder = MapBuilder(SETTINGS)
    frame, T = frames()[0]
    for distance_m in (0.0, 0.05, 0.1, 0.149, 0.172):
        assert builder.add(frame, ahead(T, distance_m))
    spaced = builder.build().relocalizer.keyframes
    assert [pose_error(k.T_map_cam, T)[1] for k in spaced] == pytest.approx([0, 172])
    capped = replace(SETTINGS.relocalization, max_keyframes=2)
    few = of(*frames(), settings=replace(SETTINGS, relocalization=capped))
    assert len(few.relocalizer.keyframes) == 2


# --- Bad pixels and bad frames -----------------------------------------------------------------


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf, -1.0])
def test_bad_depth_is_no_depth(bad: float) -> None:
    rows = np.zeros(CAMERA.shape, bool)
    rows[::7] = True
    seen = [(f, np.asarray(f.depth), T) for f, T in frames()]
    with np.errstate(invalid='raise'):
        with_holes, with_bad = (
            of(*((replace(f, depth=np.where(rows, np.float32(value), z)), T) for f, z, T in seen))
            for value in (0, bad)
        )
    np.testing.assert_array_equal(points(with_holes), points(with_bad))
    for a, b in zip(with_holes.relocalizer.keyframes, with_bad.relocalizer.keyframes, strict=True):
        np.testing.assert_array_equal(a.points, b.points)


def test_a_pixel_without_a_color_is_left_out(tmp_path: Path) -> None:
    frame, T = frames()[0]
    color = frame.color.copy()
    color[:60, :, 1] = np.nan
    stored = of((replace(frame, color=color), T))
    save_map(tmp_path / 'hall', stored)  # refuses NaN
    assert frame.depth is not None
    lower = of((replace(frame, depth=np.where(np.arange(120)[:, None] < 60, 0, frame.depth)), T))
    np.testing.assert_array_equal(points(stored), points(lower))


def test_a_frame_that_saw_nothing_changes_nothing() -> None:
    builder = MapBuilder(SETTINGS)
    frame, T = frames()[0]
    assert frame.depth is not None
    for value in (0.0, np.nan, 90.0):
        assert not builder.add(replace(frame, depth=np.full_like(frame.depth, value)), T)
    assert builder.add(frame, T)  # is not near one that was not fused
    assert (builder.frames, builder.skipped) == (1, 3)
    np.testing.assert_array_equal(points(builder.build()), points(of((frame, T))))


def test_a_frame_without_depth_is_refused() -> None:
    frame, T = frames()[0]
    with pytest.raises(GsPoseError, match=r'0\.000 s has no depth'):
        MapBuilder(SETTINGS).add(frame.without_depth(), T)


@pytest.mark.parametrize(
    'T',
    [np.full((4, 4), np.nan), np.diag([1.0, 1, -1, 1]), 2 * np.eye(4), np.eye(3)],
    ids=['nan', 'mirror', 'scale', 'shape'],
)
def test_a_pose_that_is_none_is_refused_and_the_map_goes_on(T: Any) -> None:
    builder = MapBuilder(SETTINGS)
    builder.add(*frames()[0])
    with pytest.raises(GsPoseError, match='pose of the frame'):
        builder.add(frames()[1][0], T)
    assert builder.frames == 1
    np.testing.assert_array_equal(points(builder.build()), points(of(frames()[0])))


def test_a_jump_out_of_the_world_is_skipped() -> None:
    builder = MapBuilder(SETTINGS)
    builder.add(*frames()[0])
    away = frames()[1][1].copy()
    away[:3, 3] += 1e9
    assert not builder.add(frames()[1][0], away)
    assert builder.add(*frames()[2])
    np.testing.assert_array_equal(points(builder.build()), points(of(frames()[0], frames()[2])))


# --- No map ------------------------------------------------------------------------------------


def test_nothing_makes_no_map() -> None:
    with pytest.raises(GsPoseError, match='no frame was given'):
        MapBuilder(SETTINGS).build()


def test_frames_without_usable_depth_make_no_map() -> None:
    builder = MapBuilder(SETTINGS)
    frame, T = frames()[0]
    assert frame.depth is not None
    for _ in range(3):
        builder.add(replace(frame, depth=np.zeros_like(frame.depth)), T)
    with pytest.raises(GsPoseError, match='3 had no usable depth'):
        builder.build()


def test_frames_that_share_nothing_make_no_map() -> None:
    builder = MapBuilder(SETTINGS)
    for k in range(11):
        assert builder.add(plane_frame((0, 0, -1), 1.0), se3.exp([0, 0, 5.0 * k, 0, 0, 0]))
    with pytest.raises(GsPoseError, match='seen in 2 of its 11 frames.*poses'):
        builder.build()


def test_absurd_settings_are_refused() -> None:
    with pytest.raises(GsPoseError, match=r'fusion\.voxel_m is -0\.01'):
        MapBuilder(MapSettings(fusion=FusionSettings(voxel_m=-0.01)))
