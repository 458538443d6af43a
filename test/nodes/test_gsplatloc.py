"""The localizer node over real topics, in a ray-cast room: poses, TF, services, faults."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from gs_pose_ros.clients.bag_player import BagPlayer
from gs_pose_ros.clients.camera_collector import CameraCollector
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_tracker import CameraTracker
from gs_pose_ros.localization.map_store import StoredMap, load_map, save_map
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer
from gs_pose_ros.msg import CameraLocalization, MapProgress
from gs_pose_ros.nodes.gsplatloc import LocalizerNode
from gs_pose_ros.nodes.runtime.conversions import pose_to_message, transform_to_message
from gs_pose_ros.recording import bag_writing
from gs_pose_ros.recording.bags import read_frames
from gs_pose_ros.recording.frame_decoding import (
    pose_from_message,
    stamp_to_ns,
    transform_from_message,
)
from gs_pose_ros.srv import BuildMap, LoadMap, Relocalize, SaveMap
from test.localization.room import CAMERA, EYES, camera_pose, moved, pose_error, scene_map, view
from test.nodes.conftest import LATCHED, World, header_at
from test.synthetic import Pose

OK, LOST = CameraLocalization.STATUS_OK, CameraLocalization.STATUS_LOST
FOUND = (OK, CameraLocalization.STATUS_RELOCALIZED)
# /tf is one for all tests that run at the same time.
ODOM, LINK = f'odom_{os.getpid()}', f'camera_link_{os.getpid()}'
HERE = camera_pose((-0.9, 0.1, 1.2))
OUTSIDE = camera_pose((-1.0, 0.0, 1.2), np.array([-8.0, 0.0, 1.0]))  # the other wall
STEP = se3.exp([0.01, -0.005, 0.01, 0.002, -0.01, 0.004])


@cache
def stored_map() -> StoredMap:
    large = CAMERA.scaled(2)
    frames = [(view(camera_pose(eye), large), camera_pose(eye)) for eye in EYES]
    return StoredMap(scene_map(0.02), KeyframeRelocalizer.of(frames))


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    save_map(tmp_path / 'room', stored_map())
    return tmp_path


@pytest.fixture
def statuses(world: World) -> list[CameraLocalization]:
    return world.listen(CameraLocalization, 'gsplatloc/status')


@pytest.fixture
def start(world: World, maps: Path) -> Callable[..., LocalizerNode]:
    def make(**parameters: Any) -> LocalizerNode:
        parameters = {'map': str(maps / 'room'), 'odom_frame': '', **parameters}
        parameters['allowed_roots'] = [str(maps)]
        return world.add(LocalizerNode, parameters=parameters)  # pyright: ignore[reportReturnType]

    return make


def show(world: World, T_map_cam: Pose, **changes: Any) -> int:
    """One picture of the room."""
    return show_frame(world, view(T_map_cam), **changes)


def show_frame(world: World, frame: RGBDFrame, **changes: Any) -> int:
    picture = {'color': np.round(255 * frame.color).astype(np.uint8), 'depth': frame.depth}
    return world.show(**{**picture, 'camera': CAMERA, **changes})


def show_until(
    world: World, statuses: list[CameraLocalization], T_map_cam: Pose, *wanted: int, **changes: Any
) -> CameraLocalization:
    """The same picture again and again; the first status of those wanted."""
    frame, before, first_ns = view(T_map_cam), len(statuses), 0
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        stamp_ns = show_frame(world, frame, **changes)
        first_ns = first_ns or stamp_ns  # what was shown before may be answered only now
        world.until(lambda ns=stamp_ns: newest(statuses) >= ns, 'a status of that image')
        for msg in statuses[before:]:
            if msg.status in wanted and stamp_to_ns(msg.header.stamp) >= first_ns:
                return msg
    said = [(msg.status, msg.reason) for msg in statuses[before:]]
    raise AssertionError(f'in vain for {wanted}: {said}')


def newest(statuses: list[CameraLocalization]) -> int:
    return stamp_to_ns(statuses[-1].header.stamp) if statuses else 0


# ---- poses ----


def test_the_camera_is_found_and_followed(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    poses = world.listen(PoseStamped, 'gsplatloc/pose')
    with_covariance = world.listen(PoseWithCovarianceStamped, 'gsplatloc/pose_with_covariance')
    odometry = world.listen(Odometry, 'gsplatloc/odometry')
    paths = world.listen(PathMessage, 'gsplatloc/path')
    frames = world.listen(TFMessage, '/tf')
    pictures = world.listen(Image, 'gsplatloc/comparison')
    first = show_until(world, statuses, HERE, *FOUND)
    assert first.status == CameraLocalization.STATUS_RELOCALIZED
    truth = HERE
    for _ in range(4):
        truth = truth @ STEP
        assert show_until(world, statuses, truth, *FOUND, LOST).status == OK
    world.until(lambda: len(poses) == len(odometry) == len(paths) == len(pictures) == 5, 'outputs')
    pose = poses[-1]
    assert pose.header.frame_id == 'map'
    assert pose.header.stamp == statuses[-1].header.stamp
    T = pose_from_message(pose.pose)
    degrees, millimetres = pose_error(T, truth)
    assert degrees < 0.1
    assert millimetres < 3
    variances = np.diag(np.reshape(with_covariance[-1].pose.covariance, (6, 6)))
    assert (variances > 0).all()
    assert (variances < 0.01**2).all()
    assert odometry[-1].child_frame_id == 'camera'
    speed = odometry[-1].twist.twist.linear
    assert np.allclose([speed.x, speed.y, speed.z], se3.log(STEP)[:3] / 0.033, atol=0.1)
    assert len(paths[-1].poses) == 5
    assert pictures[-1].width == 4 * 320
    own = [t for m in frames for t in m.transforms if t.header.frame_id == 'map']
    assert np.allclose(transform_from_message(own[-1].transform), T)
    assert own[-1].child_frame_id == 'camera'
    assert own[-1].header.stamp == pose.header.stamp


def test_the_map_is_shown_to_who_comes_late(
    world: World, start: Callable[..., LocalizerNode]
) -> None:
    start(**{'output.cloud_points': 500})
    clouds = world.listen(PointCloud2, 'gsplatloc/map_cloud', LATCHED)
    world.until(lambda: clouds, 'the map')
    cloud = clouds[0]
    assert cloud.header.frame_id == 'map'
    assert 400 < cloud.width <= 500
    rows = np.frombuffer(cloud.data.tobytes(), '<f4').reshape(-1, 4)
    means = stored_map().scene.gaussians.means.numpy()
    assert (rows[:, :3] >= means.min(0) - 1e-4).all()
    assert (rows[:, :3] <= means.max(0) + 1e-4).all()


@pytest.mark.slow
def test_a_replayed_bag_gives_what_the_offline_tracker_gives(
    world: World, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    messages, truth = [], HERE
    for k in range(1, 9):
        truth, stamp_ns = truth @ STEP, k * 100_000_000
        frame = view(truth)
        color = np.round(255 * frame.color).astype(np.uint8)
        messages += [
            (stamp_ns, '/cam/color/image_raw', bag_writing.image(color, 'rgb8', stamp_ns)),
            (stamp_ns, '/cam/color/camera_info', bag_writing.camera_info(stamp_ns, CAMERA)),
            (stamp_ns, '/cam/depth/image_raw', bag_writing.image(frame.depth, '32FC1', stamp_ns)),
        ]
    bag_writing.write_bag(maps / 'bag', messages)
    names = ('color/image_raw', 'color/camera_info', 'depth/image_raw')
    own = ('color/image', 'color/camera_info', 'depth/image')
    remap = {f'/cam/{a}': f'{world.namespace}/{b}' for a, b in zip(names, own, strict=True)}
    start()
    player = BagPlayer(world.node, maps / 'bag', rate=20.0, remap=remap)  # no time for a frame
    collector = CameraCollector(world.node, '/cam/color/image_raw', world.namespace)
    assert player.wait_for_subscribers(10, quiet_s=0.5)
    player.play(before=collector.before)
    collector.wait()
    stored = load_map(maps / 'room')
    tracker = CameraTracker(stored.scene, stored.relocalizer)
    frames = list(read_frames(maps / 'bag'))
    stamps, poses = collector.trajectory()
    assert stamps == [frame.stamp_ns for frame in frames], collector.summary()
    for frame, T_map_cam in zip(frames, poses, strict=True):
        expected = tracker.track(frame)
        assert expected.found
        assert np.allclose(T_map_cam, expected.T_map_cam, rtol=0, atol=1e-9)
    assert '8 poses of 8' in collector.summary()


def test_tf_as_rep_105_and_odometry_as_prior(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    node = start(**{'output.tf_child': ODOM, 'odom_frame': ODOM})
    frames = world.listen(TFMessage, '/tf')
    T_odom_map = se3.exp([1.0, 2.0, 0.0, 0.0, 0.0, 0.7])
    truth = HERE
    first = show_until(world, statuses, truth, *FOUND)
    assert ODOM in first.reason  # a pose, but no TF: nobody knows where odometry has the camera
    assert 'tf' in node._faults
    leap = se3.exp([0.12, 0.0, 0.1, 0.0, 0.1, 0.0])  # too far for the pose before as a start
    for step in (STEP, leap):
        truth = truth @ step
        for T, stamp_ns in ((T_odom_map @ truth, world.stamp_ns + 33_000_000),):
            moving = transform_to_message(header_at(stamp_ns, ODOM), 'camera', T)
            world.send('/tf', TFMessage(transforms=[moving]))
        msg = show_until(world, statuses, truth, *FOUND, LOST)
        assert msg.status == OK
        assert not msg.reason
    assert node.facts()['odometry'] == 'used'
    assert 'tf' not in node._faults
    own = [t for m in frames for t in m.transforms if t.header.frame_id == 'map']
    assert own[-1].child_frame_id == ODOM
    T_map_odom = transform_from_message(own[-1].transform)
    assert np.allclose(T_map_odom, se3.inverse(T_odom_map), atol=0.01)
    late = {stamp_to_ns(m.header.stamp) + 100_000_000 for m in statuses}
    assert stamp_to_ns(own[-1].header.stamp) in late  # it holds until the next image has come


def test_tf_to_the_root_of_the_cameras_frames(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start(**{'output.tf_child': LINK})
    frames = world.listen(TFMessage, '/tf')
    T_link_cam = se3.exp([0.0, 0.02, 0.0, 1.2, -1.2, 1.2])
    static = transform_to_message(header_at(0, LINK), 'camera', T_link_cam)
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    world.send('/tf_static', TFMessage(transforms=[static]), latched)
    own: list[TransformStamped] = []
    while not own:
        assert len(statuses) < 20, statuses[-1].reason
        msg = show_until(world, statuses, HERE, *FOUND)
        own = [t for m in frames for t in m.transforms if t.child_frame_id == LINK]
    T_map_cam = transform_from_message(own[-1].transform) @ T_link_cam
    assert np.allclose(T_map_cam, pose_from_message(msg.pose), atol=1e-3)


# ---- faults: each has a status and a reason, and ends by itself ----

BLACK = np.zeros((*CAMERA.shape, 3), np.uint8)
BLANK = np.zeros(CAMERA.shape, np.float32)
FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    'zero depth': ({'depth': BLANK}, LOST, 'no valid pixel'),
    'NaN depth': ({'depth': BLANK * np.nan}, LOST, 'no valid pixel'),
    'covered lens': ({'color': BLACK, 'depth': BLANK}, LOST, 'no valid pixel'),
    'hand before the lens': ({'color': BLACK, 'depth': BLANK + 0.12}, LOST, 'the map'),
    'millimetres as 32FC1': (
        {'depth': 1000 * np.asarray(view(HERE).depth)},
        CameraLocalization.STATUS_BAD_INPUT,
        '32FC1 in metres',
    ),
    'metres as 16UC1': (
        {'depth': np.round(np.asarray(view(HERE).depth)).astype(np.uint16)},
        CameraLocalization.STATUS_BAD_INPUT,
        '16UC1 has to be in millimetres',
    ),
    'another camera': (
        {'camera': CAMERA.scaled(0.5)},
        CameraLocalization.STATUS_BAD_INPUT,
        'camera_info says 80x60',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_has_a_reason_and_passes(
    world: World, statuses: list, start: Callable[..., LocalizerNode], fault: str
) -> None:
    changes, status, reason = FAULTS[fault]
    start()
    poses = world.listen(PoseStamped, 'gsplatloc/pose')
    show_until(world, statuses, HERE, OK)
    world.until(lambda: len(poses) >= 2, 'poses')
    count = len(poses)
    for _ in range(3):
        msg = show_until(world, statuses, HERE, *FOUND, LOST, status, **changes)
        assert msg.status == status
        assert reason in msg.reason
    assert len(poses) == count  # none is invented
    assert show_until(world, statuses, HERE, *FOUND).status in FOUND


def test_depth_of_16_bit_is_in_millimetres(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    depth = np.round(1000 * np.asarray(view(HERE).depth)).astype(np.uint16)
    msg = show_until(world, statuses, HERE, *FOUND, depth=depth)
    assert pose_error(pose_from_message(msg.pose), HERE)[1] < 5


def test_outside_of_the_map_it_is_lost_and_comes_back(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    show_until(world, statuses, HERE, *FOUND)
    lost = show_until(world, statuses, OUTSIDE, *FOUND, LOST)
    assert lost.status == LOST
    assert lost.reason
    back = show_until(world, statuses, moved(HERE, 3, 0.05), *FOUND)
    assert pose_error(pose_from_message(back.pose), moved(HERE, 3, 0.05))[1] < 10


def test_without_a_map_it_says_so_until_one_is_loaded(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    ply = maps / 'room' / 'gaussians.ply'
    whole = ply.read_bytes()
    ply.write_bytes(whole[: len(whole) // 2])
    node = start()
    assert 'gaussians.ply' in node._faults['map']
    msg = show_until(world, statuses, HERE, CameraLocalization.STATUS_NO_MAP)
    assert 'load' in msg.reason
    again = world.call(LoadMap, 'gsplatloc/load_map', LoadMap.Request(path=str(maps / 'room')))
    assert not again.success
    assert 'gaussians.ply' in again.message
    ply.write_bytes(whole)
    good = world.call(LoadMap, 'gsplatloc/load_map', LoadMap.Request(path=str(maps / 'room')))
    assert good.success, good.message
    assert good.gaussian_count == len(stored_map().scene)
    assert good.keyframe_count == len(stored_map().relocalizer.keyframes)
    show_until(world, statuses, HERE, *FOUND)
    assert 'map' not in node._faults


# ---- services ----


def test_a_map_is_swapped_while_the_camera_is_followed(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    start()
    show_until(world, statuses, HERE, OK)
    broken = LoadMap.Request(path=str(maps / 'nowhere'))
    assert not world.call(LoadMap, 'gsplatloc/load_map', broken).success
    assert show_until(world, statuses, HERE, *FOUND, LOST).status == OK  # the old one goes on
    other = StoredMap(stored_map().scene, stored_map().relocalizer, 'hall')
    save_map(maps / 'hall', other)
    request = LoadMap.Request(path=str(maps / 'hall'))
    assert world.call(LoadMap, 'gsplatloc/load_map', request).success
    msg = show_until(world, statuses, HERE, *FOUND, LOST)
    assert msg.status == CameraLocalization.STATUS_RELOCALIZED  # nothing is taken over
    assert msg.map_frame == 'hall'


def test_maps_are_saved_but_nothing_else_is_replaced(
    world: World, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    start()
    save = lambda path, overwrite=False: world.call(  # noqa: E731
        SaveMap, 'gsplatloc/save_map', SaveMap.Request(path=str(path), overwrite=overwrite)
    )
    done = save(maps / 'copy')
    assert done.success, done.message
    assert len(load_map(maps / 'copy').scene) == done.gaussian_count == len(stored_map().scene)
    assert 'overwrite' in save(maps / 'copy').message
    assert save(maps / 'copy', overwrite=True).success
    (maps / 'home').mkdir()
    (maps / 'home' / 'thesis.tex').write_text('years of work')
    assert 'no map' in save(maps / 'home', overwrite=True).message
    assert (maps / 'home' / 'thesis.tex').is_file()
    assert 'allowed_roots' in save('/etc/map').message


def test_a_map_is_built_from_live_topics(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    start(map='')
    progress = world.listen(MapProgress, 'gsplatloc/map_progress')
    request = BuildMap.Request(source=BuildMap.Request.SOURCE_TOPICS, pose_frame=ODOM)
    request.save_to = str(maps / 'live')
    answer = world.call(BuildMap, 'gsplatloc/build_map', request)
    assert answer.accepted, answer.message
    assert not world.call(BuildMap, 'gsplatloc/build_map', request).accepted  # one at a time
    world.until(lambda: world.node.count_subscribers('/tf') > 0, 'a listener to TF')
    deadline = time.monotonic() + 30
    for eye in itertools.cycle(EYES):
        T, header = camera_pose(eye), header_at(world.stamp_ns + 33_000_000, ODOM)
        world.send('/tf', TFMessage(transforms=[transform_to_message(header, 'camera', T)]))
        show(world, T)
        if any(m.frames >= 4 for m in progress):
            break
        assert time.monotonic() < deadline, progress
    assert world.call(Trigger, 'gsplatloc/finish_map', Trigger.Request()).success
    ended = lambda: [m for m in progress if m.state > MapProgress.STATE_RUNNING]  # noqa: E731
    world.until(ended, 'the map', 30)
    assert ended()[0].state == MapProgress.STATE_SUCCEEDED, ended()[0].message
    assert ended()[0].gaussian_count == len(load_map(maps / 'live').scene)
    msg = show_until(world, statuses, HERE, *FOUND)
    assert pose_error(pose_from_message(msg.pose), HERE)[1] < 20


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'source': 9}, 'unknown source'),
        ({'source': BuildMap.Request.SOURCE_BAG, 'path': '/etc/bag'}, 'allowed_roots'),
        ({'source': BuildMap.Request.SOURCE_BAG, 'path': ''}, 'empty'),
        ({'duration': -1.0}, 'duration'),
        ({'duration': float('nan')}, 'duration'),
        ({'save_to': '/etc/map'}, 'allowed_roots'),
    ],
)
def test_an_absurd_request_for_a_map_is_refused(
    world: World, start: Callable[..., LocalizerNode], changes: dict[str, Any], reason: str
) -> None:
    start()
    request = BuildMap.Request(source=BuildMap.Request.SOURCE_TOPICS)
    for name, value in changes.items():
        setattr(request, name, value)
    answer = world.call(BuildMap, 'gsplatloc/build_map', request)
    assert not answer.accepted
    assert reason in answer.message


def test_a_map_that_cannot_be_built_leaves_the_present_one(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    start()
    progress = world.listen(MapProgress, 'gsplatloc/map_progress')
    request = BuildMap.Request(source=BuildMap.Request.SOURCE_FOLDER, path=str(maps / 'nothing'))
    assert world.call(BuildMap, 'gsplatloc/build_map', request).accepted
    world.until(lambda: progress and progress[-1].state == MapProgress.STATE_FAILED, 'the failure')
    assert 'nothing' in progress[-1].message
    assert show_until(world, statuses, HERE, *FOUND).status in FOUND


def test_relocalize_near_a_pose_or_from_nothing(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    show_until(world, statuses, HERE, OK)
    there = moved(HERE, 5, 0.1)
    show_until(world, statuses, there, *FOUND)  # a request is answered by the images that follow
    request = Relocalize.Request(near=True, pose=pose_to_message(moved(there, 2, 0.05, 1)))
    answer = asked(world, request, there)
    assert answer.success, answer.message
    assert pose_error(pose_from_message(answer.pose.pose), there)[1] < 5
    assert answer.pose.header.frame_id == 'map'
    assert asked(world, Relocalize.Request(), there).success
    show_until(world, statuses, OUTSIDE, LOST)
    nowhere = asked(world, Relocalize.Request(timeout=1.0), OUTSIDE)
    assert not nowhere.success
    assert nowhere.message
    broken = Relocalize.Request(near=True)
    broken.pose.orientation.w = 7.0
    assert 'not a pose' in world.call(Relocalize, 'gsplatloc/relocalize', broken).message


@pytest.mark.parametrize('how', ['paused', 'not active'])
def test_others_are_answered_while_relocalize_waits_and_may_end_it(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path, how: str
) -> None:
    node = start()
    show_until(world, statuses, HERE, OK)
    client = world.node.create_client(Relocalize, 'gsplatloc/relocalize')
    assert client.wait_for_service(10)
    waiting = client.call_async(Relocalize.Request(timeout=600.0))  # no image comes meanwhile
    world.until(lambda: node._wish is not None, 'the request')
    request = SaveMap.Request(path=str(maps / 'copy'))
    assert world.call(SaveMap, 'gsplatloc/save_map', request).success
    assert not waiting.done()
    if how == 'paused':
        assert world.call(Trigger, 'gsplatloc/pause', Trigger.Request()).success
    else:
        node.trigger_deactivate()
    world.until(waiting.done, 'the answer')
    answer = waiting.result()
    assert answer is not None
    assert not answer.success
    assert how in answer.message


def asked(world: World, request: Relocalize.Request, T_map_cam: Pose) -> Any:
    """The answer, while the camera goes on."""
    client = world.node.create_client(Relocalize, 'gsplatloc/relocalize')
    assert client.wait_for_service(10)
    future, frame = client.call_async(request), view(T_map_cam)
    for _ in range(200):
        if future.done():
            return future.result()
        show_frame(world, frame)
    raise AssertionError('no answer')


def test_pause_and_resume(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    show_until(world, statuses, HERE, OK)
    assert world.call(Trigger, 'gsplatloc/pause', Trigger.Request()).success
    assert not world.call(Trigger, 'gsplatloc/pause', Trigger.Request()).success
    show_until(world, statuses, HERE, CameraLocalization.STATUS_PAUSED)
    answer = world.call(Relocalize, 'gsplatloc/relocalize', Relocalize.Request())
    assert 'paused' in answer.message
    assert world.call(Trigger, 'gsplatloc/resume', Trigger.Request()).success
    assert show_until(world, statuses, HERE, *FOUND).status == OK


def test_stamps_that_jump_back_begin_a_new_path(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    paths = world.listen(PathMessage, 'gsplatloc/path')
    world.stamp_ns = 50 * 10**9
    show_until(world, statuses, HERE, OK)
    world.stamp_ns = 10**9
    statuses.clear()
    msg = show_until(world, statuses, HERE, *FOUND)
    assert msg.status == CameraLocalization.STATUS_RELOCALIZED
    world.until(lambda: paths and len(paths[-1].poses) == 1, 'a new path')


def test_it_needs_depth(world: World, start: Callable[..., LocalizerNode]) -> None:
    node = start(**{'input.use_depth': False})
    assert not node.active
    assert 'use_depth' in node._faults['lifecycle']


class Broken:
    """A localizer with a bug."""

    def refine(self, *_: Any) -> Any:
        raise ZeroDivisionError('a bug')


def test_a_bug_is_a_status_not_an_end(world: World, statuses: list, maps: Path) -> None:
    parameters = {'map': str(maps / 'room'), 'odom_frame': ''}
    world.add(LocalizerNode, parameters=parameters, localizer=Broken())
    for _ in range(2):
        msg = show_until(world, statuses, HERE, CameraLocalization.STATUS_ERROR)
        assert 'a bug' in msg.reason
