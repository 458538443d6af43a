"""Posed frames from folders, bags and topics give one and the same map."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial import KDTree

from gs_pose_ros.datasets.rgbd_sequences import write_tum_trajectory
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.map_builder import MapBuilder, MapSettings
from gs_pose_ros.localization.voxel_cloud import FusionSettings
from gs_pose_ros.recording.bag_writing import (
    WriteBag,
    camera_info,
    image,
    odometry,
    transform,
    write_bag,
)
from gs_pose_ros.recording.bags import BagFrame
from gs_pose_ros.recording.map_source import MapSource
from gs_pose_ros.recording.transform_tree import TransformTree
from test.localization.room import CAMERA, camera_pose, pose_error, view
from test.synthetic import Pose

VOXEL_M = 0.02
COUNT = 6
MM = 1000  # units of depth in a metre
# The optical frame of a camera whose x points ahead, a little above the robot's middle.
T_BASE_CAM = se3.from_rotation_translation(
    np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0.0]]), [0.1, 0.02, 0.3]
)


def stamp_of(k: float) -> int:
    return 5 * 10**9 + round(k * 100_000_000)


def pose_at(k: float) -> Pose:
    """Of the camera's optical frame in the map, while the robot moves steadily."""
    first, last = camera_pose((-1.0, -0.5, 1.2)), camera_pose((-0.8, 0.4, 1.1))
    T_cam_base = se3.inverse(T_BASE_CAM)
    T_map_base = se3.interpolate(first @ T_cam_base, last @ T_cam_base, k / (COUNT - 1))
    return T_map_base @ T_BASE_CAM


@cache
def pictures() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Colour and depth as they are recorded: 8 and 16 bit."""
    frames = [view(pose_at(k)) for k in range(COUNT)]
    return tuple(
        ((f.color * 255).round().astype(np.uint8), (f.depth * MM).round().astype(np.uint16))
        for f in frames
        if f.depth is not None
    )


def frame(k: int) -> RGBDFrame:
    color, depth = pictures()[k]
    return RGBDFrame.from_uint8(color, depth / MM, CAMERA, stamp_of(k))


def camera_messages() -> Iterator[tuple[int, str, Any]]:
    for k, (color, depth) in enumerate(pictures()):
        stamp = stamp_of(k)
        yield stamp, '/cam/color/camera_info', camera_info(stamp, CAMERA)
        yield stamp, '/cam/color/image_raw', image(color, 'rgb8', stamp)
        yield stamp, '/cam/depth/image_raw', image(depth, '16UC1', stamp)


# Poses come between the pictures, from half a step before the first to half a step after the last.
BETWEEN = [k / 4 for k in range(-2, 4 * COUNT, 4)]


def tf_messages(parent: str = 'map', child: str = 'base') -> Iterator[tuple[int, str, Any]]:
    for k in BETWEEN:
        T_map_base = pose_at(k) @ se3.inverse(T_BASE_CAM)
        yield stamp_of(k), '/tf', transform(stamp_of(k), T_map_base, parent, child)


def static_message() -> tuple[int, str, Any]:
    return 0, '/tf_static', transform(0, T_BASE_CAM, 'base', 'camera')


def odometry_messages() -> Iterator[tuple[int, str, Any]]:
    for k in BETWEEN:
        T_odom_base = pose_at(k) @ se3.inverse(T_BASE_CAM)
        yield stamp_of(k), '/odom', odometry(stamp_of(k), T_odom_base, 'base')


@pytest.fixture(scope='module')
def tf_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'tf'
    write_bag(path, [static_message(), *tf_messages(), *camera_messages()])
    return path


@pytest.fixture(scope='module')
def odometry_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With TF as a robot has it: odometry's frame, but none of a map."""
    path = tmp_path_factory.mktemp('bags') / 'odometry'
    tf = tf_messages('odom')
    write_bag(path, [static_message(), *tf, *odometry_messages(), *camera_messages()])
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('folders') / 'room'
    for name in ('rgb', 'depth'):
        (path / name).mkdir(parents=True)
    lists: dict[str, list[str]] = {'rgb': [], 'depth': []}
    for k, (color, depth) in enumerate(pictures()):
        for name, picture in (('rgb', color[..., ::-1]), ('depth', depth)):
            cv2.imwrite(str(path / name / f'{k}.png'), picture)
            lists[name].append(f'{stamp_of(k) / 1e9:.6f} {name}/{k}.png')
    for name, lines in lists.items():
        (path / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    camera = (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy, CAMERA.width, CAMERA.height, MM)
    (path / 'intrinsics.txt').write_text(' '.join(map(str, camera)))
    write_truth(path, COUNT)
    return path


def write_truth(path: Path, count: int) -> None:
    steps = range(count)
    write_tum_trajectory(
        path / 'groundtruth.txt', [stamp_of(k) for k in steps], [pose_at(k) for k in steps]
    )


def tree() -> TransformTree:
    out = TransformTree()
    out.set('base', 'camera', T_BASE_CAM, static=True)
    for k in BETWEEN:
        out.set('map', 'base', pose_at(k) @ se3.inverse(T_BASE_CAM), stamp_of(k))
    return out


def mapped(source: MapSource, **live: Any) -> np.ndarray:
    builder = MapBuilder(MapSettings(fusion=FusionSettings(voxel_m=VOXEL_M)))
    for item, T_map_cam in source.frames(**live):
        builder.add(item, T_map_cam)
    assert builder.frames == COUNT
    return builder.build().scene.gaussians.means.double().numpy()


# --- All sources -------------------------------------------------------------------------------


def test_every_source_gives_the_same_map(folder: Path, tf_bag: Path, odometry_bag: Path) -> None:
    builder = MapBuilder(MapSettings(fusion=FusionSettings(voxel_m=VOXEL_M)))
    for k in range(COUNT):
        builder.add(frame(k), pose_at(k))
    truth = builder.build().scene.gaussians.means.double().numpy()
    live = [BagFrame(frame(k), 'camera') for k in range(COUNT)]
    maps = {
        'folder': mapped(MapSource('folder', folder)),
        'tf': mapped(MapSource('bag', tf_bag)),
        'odometry': mapped(MapSource('bag', odometry_bag, odometry_topic='/odom')),
        'odometry in tf': mapped(MapSource('bag', odometry_bag, map_frame='odom')),
        'topics': mapped(MapSource('topics'), live=iter(live), tf=tree()),
    }
    for name, points in maps.items():
        assert abs(len(points) - len(truth)) < 0.01 * len(truth), name
        for a, b in ((points, truth), (truth, points)):
            distance = KDTree(a).query(b)[0]
            assert distance.max() < VOXEL_M, name
            assert np.median(distance) < 1e-5, name


@pytest.mark.parametrize('topic', ['', '/odom'])
def test_poses_between_two_messages_are_interpolated(
    tf_bag: Path, odometry_bag: Path, topic: str
) -> None:
    source = MapSource('bag', odometry_bag if topic else tf_bag, odometry_topic=topic)
    for k, (item, T_map_cam) in enumerate(source.frames()):
        assert item.stamp_ns == stamp_of(k)
        assert item.depth is not None
        np.testing.assert_allclose(T_map_cam, pose_at(k), atol=1e-9)
        nearest = min(pose_error(T_map_cam, pose_at(j))[1] for j in BETWEEN)
        assert nearest > 50  # mm to the poses of messages


def test_frames_are_read_one_at_a_time(
    tf_bag: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def live() -> Iterator[BagFrame]:
        for k in range(COUNT):
            taken.append(k)
            yield BagFrame(frame(k), 'camera')

    frames = MapSource('topics').frames(live(), tree())
    assert taken == []
    next(frames)
    next(frames)
    assert taken == [0, 1]
    kept = (folder / 'rgb' / '3.png').read_bytes()
    (folder / 'rgb' / '3.png').write_bytes(b'no picture')
    try:
        frames = MapSource('folder', folder).frames()
        assert [item.stamp_ns for item, _ in (next(frames) for _ in range(3))] == [
            stamp_of(k) for k in range(3)
        ]
        with pytest.raises(GsPoseError, match=r'3\.png'):
            next(frames)
    finally:
        (folder / 'rgb' / '3.png').write_bytes(kept)


def used(source: MapSource, **live: Any) -> list[int]:
    return [round((item.stamp_ns - stamp_of(0)) / 1e8) for item, _ in source.frames(**live)]


@pytest.mark.parametrize('kind', ['folder', 'bag', 'topics'])
def test_a_part_can_be_taken(kind: Any, folder: Path, tf_bag: Path) -> None:
    path = {'folder': folder, 'bag': tf_bag}.get(kind)
    live = {}
    if kind == 'topics':
        live = {'live': [BagFrame(frame(k), 'camera') for k in range(COUNT)], 'tf': tree()}
    assert used(MapSource(kind, path), **live) == [0, 1, 2, 3, 4, 5]
    assert used(MapSource(kind, path, duration_s=0.31), **live) == [0, 1, 2, 3]
    spread = {'folder': [0, 2, 5], 'bag': [0, 2, 4], 'topics': [0, 1, 2]}
    assert used(MapSource(kind, path, max_frames=3), **live) == spread[kind]
    assert used(MapSource(kind, path, duration_s=0.11, max_frames=100), **live) == [0, 1]


def test_a_bag_made_of_a_folder_gives_its_frames_and_poses(folder: Path, tmp_path: Path) -> None:
    names = tmp_path / 'names.txt'
    names.write_text('1\n2\n4\n')
    WriteBag(folder, tmp_path / 'bag', names, tf='hall').run()
    source = MapSource('bag', tmp_path / 'bag', map_frame='hall')
    expected = MapSource('folder', folder, frame_list=names).frames()
    for (got, T_got), (frame_, T) in zip(source.frames(), expected, strict=True):
        assert got.stamp_ns == frame_.stamp_ns
        assert got.camera == frame_.camera
        assert np.allclose(T_got, T, atol=1e-6)
        assert got.depth is not None
        assert frame_.depth is not None
        assert np.abs(got.depth - frame_.depth).max() < 0.0006  # whole millimetres
        assert np.array_equal(got.color, frame_.color)
    with pytest.raises(GsPoseError, match='exists already'):
        WriteBag(folder, tmp_path / 'bag').run()


def test_a_list_names_the_frames_of_a_folder(folder: Path, tmp_path: Path) -> None:
    names = tmp_path / 'names.txt'
    names.write_text('4\n1\n')
    assert used(MapSource('folder', folder, frame_list=names)) == [4, 1]
    with pytest.raises(GsPoseError, match='is for a folder alone'):
        used(MapSource('bag', folder, frame_list=names))


# --- Frames without a pose ---------------------------------------------------------------------


def test_frames_of_a_folder_without_a_pose_are_left_out(folder: Path) -> None:
    missed: list[tuple[int, str]] = []
    try:
        write_truth(folder, 4)
        frames = MapSource('folder', folder).frames(missed=lambda *told: missed.append(told))
        assert [item.stamp_ns for item, _ in frames] == [stamp_of(k) for k in range(4)]
        (folder / 'groundtruth.txt').unlink()
        with pytest.raises(GsPoseError, match='none of its 6 frames has a pose'):
            used(MapSource('folder', folder))
    finally:
        write_truth(folder, COUNT)
    assert [stamp for stamp, _ in missed] == [stamp_of(4), stamp_of(5)]


def test_images_before_the_first_pose_are_left_out_and_told(tmp_path: Path) -> None:
    late = [m for m in tf_messages() if m[0] > stamp_of(2)]
    write_bag(tmp_path / 'bag', [static_message(), *late, *camera_messages()])
    missed: list[tuple[int, str]] = []
    frames = MapSource('bag', tmp_path / 'bag').frames(missed=lambda *told: missed.append(told))
    assert [item.stamp_ns for item, _ in frames] == [stamp_of(k) for k in (3, 4, 5)]
    assert [stamp for stamp, _ in missed] == [stamp_of(k) for k in (0, 1, 2)]
    assert "'base' in 'map' is known from 5.250 s" in missed[0][1]


def test_where_odometry_was_lost_nothing_is_made_up(tmp_path: Path) -> None:
    # A second of nothing, in which it sends NaN.
    T = pose_at(0) @ se3.inverse(T_BASE_CAM)
    steps = [*range(3), *range(13, 16)]
    seen = [
        (stamp_of(k), '/odom', odometry(stamp_of(k), T if k in steps else np.nan * T, 'base'))
        for k in range(16)
    ]
    color, depth = pictures()[0]
    camera = []
    for k in (0.5, 1.5, 5.5, 9.5, 13.5):
        stamp = stamp_of(k)
        camera += [
            (stamp, '/cam/camera_info', camera_info(stamp, CAMERA)),
            (stamp, '/cam/image', image(color, 'rgb8', stamp)),
            (stamp, '/cam/depth', image(depth, '16UC1', stamp)),
        ]
    write_bag(tmp_path / 'bag', [static_message(), *seen, *camera])
    missed: list[str] = []
    source = MapSource('bag', tmp_path / 'bag', odometry_topic='/odom')
    frames = source.frames(missed=lambda _, reason: missed.append(reason))
    assert [item.stamp_ns for item, _ in frames] == [stamp_of(k) for k in (0.5, 1.5, 13.5)]
    assert len(missed) == 2
    assert 'not known for 1.100 s around 5.550 s' in missed[0]


def test_a_camera_that_is_the_child_of_its_odometry_needs_no_tf(tmp_path: Path) -> None:
    seen = [
        (stamp_of(k), '/vio', odometry(stamp_of(k), pose_at(k), 'camera')) for k in range(COUNT)
    ]
    write_bag(tmp_path / 'bag', [*seen, *camera_messages()])
    source = MapSource('bag', tmp_path / 'bag', odometry_topic='/vio')
    for k, (_, T_map_cam) in enumerate(source.frames()):
        np.testing.assert_allclose(T_map_cam, pose_at(k), atol=1e-9)


# --- What is missing is named ------------------------------------------------------------------


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'map_frame': 'hall'},
            "no TF frame 'hall' for map_frame (--map-frame); frames in TF: base, camera, odom",
        ),
        ({'odometry_topic': '/vio'}, 'no nav_msgs/Odometry on /vio; topics of that type: /odom'),
        ({'odometry_topic': '/tf'}, 'no nav_msgs/Odometry on /tf; topics of that type: /odom'),
        ({'path': Path('/nowhere')}, 'nowhere: cannot be read as a bag'),
        ({'path': None}, 'a map from a bag needs a path'),
        ({'kind': 'folder'}, 'neither rgb.txt'),
        ({'kind': 'topics'}, 'odometry_topic is for bags alone'),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else '',
)
def test_what_is_missing_is_named(
    odometry_bag: Path, change: dict[str, Any], message: str
) -> None:
    topic = '/odom' if change.get('kind') == 'topics' else ''
    source = replace(MapSource('bag', odometry_bag, odometry_topic=topic), **change)
    with pytest.raises(GsPoseError, match=re.escape(message)):
        next(source.frames())


def test_a_camera_outside_of_tf_is_named(tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', [*tf_messages(), *odometry_messages(), *camera_messages()])
    for topic, place in (('', 'map'), ('/odom', 'base')):
        source = MapSource('bag', tmp_path / 'bag', odometry_topic=topic)
        told = f"no image has a pose: no TF between '{place}' and 'camera'.*TF: base, map"
        with pytest.raises(GsPoseError, match=told):
            next(source.frames())


def test_topics_without_images_or_tf_say_so() -> None:
    with pytest.raises(GsPoseError, match='topics: no image has a pose: there are no images'):
        next(MapSource('topics').frames())
    with pytest.raises(GsPoseError, match='frames in TF: none'):
        next(MapSource('topics').frames([BagFrame(frame(0), 'camera')]))


def test_a_bag_without_depth_is_named(tmp_path: Path) -> None:
    color = [m for m in camera_messages() if 'depth' not in m[1]]
    write_bag(tmp_path / 'bag', [static_message(), *tf_messages(), *color])
    with pytest.raises(GsPoseError, match='no depth image beside /cam/color/image_raw'):
        next(MapSource('bag', tmp_path / 'bag').frames())


@pytest.mark.parametrize('case', ['two children', 'no child', 'no pose'])
def test_odometry_that_says_nothing_is_named(tmp_path: Path, case: str) -> None:
    named = {'two children': ('base', 'wheel'), 'no child': ('', ''), 'no pose': ('base', 'base')}
    T = np.full((4, 4), np.nan) if case == 'no pose' else np.eye(4)
    seen = [(k, '/odom', odometry(k, T, child)) for k, child in enumerate(named[case])]
    write_bag(tmp_path / 'bag', [static_message(), *seen, *camera_messages()])
    message = 'holds no pose' if case == 'no pose' else "'base' and 'wheel'|'' and ''"
    with pytest.raises(GsPoseError, match=f'/odom.*({message})'):
        next(MapSource('bag', tmp_path / 'bag', odometry_topic='/odom').frames())


def test_a_transform_that_is_none_does_not_spoil_the_others(tmp_path: Path) -> None:
    broken = (1, '/tf', transform(1, np.full((4, 4), np.nan), 'base', 'arm'))
    write_bag(tmp_path / 'bag', [static_message(), broken, *tf_messages(), *camera_messages()])
    assert len(used(MapSource('bag', tmp_path / 'bag'))) == COUNT
