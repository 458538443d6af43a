"""Bags onto topics, topics into bags, and bags read without any of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from gs_pose_ros.commands.replay import CameraTopics, Record, Replay, find_topics, read_frames
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.recording.bag_files import typestore
from gs_pose_ros.recording.bag_writing import camera_info, image, transform, write_bag
from gs_pose_ros.recording.bags import read_bag_frames, read_transforms
from gs_pose_ros.recording.frame_decoding import frame_from_messages
from gs_pose_ros.recording.registration_source import RegistrationSource
from test.nodes.conftest import World, world  # noqa: F401
from test.recording.small_bags import recording, write_ros1

ROOT = Path(__file__).parents[2]
CAMERA = Camera(20.0, 20.0, 8.0, 6.0, 16, 12)
COUNT = 6


def stamp_of(k: int) -> int:
    return 5 * 10**9 + k * 50_000_000


def color_of(k: int) -> np.ndarray:
    return np.full((12, 16, 3), (10 * k, 20, 30), np.uint8)


@pytest.fixture(params=['mcap', 'sqlite3'])
def bag(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Six pictures at 20 Hz with depth and the object's frame; one depth image is missing."""
    plugin = StoragePlugin.MCAP if request.param == 'mcap' else StoragePlugin.SQLITE3
    path = tmp_path / f'bag_{request.param}'
    messages = []
    for k in range(COUNT):
        stamp = stamp_of(k)
        depth = np.full((12, 16), 1000 + k, np.uint16)
        T_camera_object = se3.from_rotation_translation(np.eye(3), [0.01 * k, 0, 1])
        messages += [
            (stamp, '/tf', transform(stamp, T_camera_object, 'camera', 'object')),
            (stamp, '/cam/color/camera_info', camera_info(stamp, CAMERA)),
            (stamp, '/cam/depth/camera_info', camera_info(stamp, CAMERA)),
            (stamp, '/cam/color/image_raw', image(color_of(k), 'rgb8', stamp)),
        ]
        if k != 3:
            messages.append((stamp, '/cam/depth/image_raw', image(depth, '16UC1', stamp)))
    write_bag(path, messages, plugin)
    return path


def test_frames_are_read_without_ros(bag: Path) -> None:
    topics = find_topics(bag)
    assert topics == CameraTopics(
        '/cam/color/image_raw',
        '/cam/color/camera_info',
        '/cam/depth/image_raw',
        '/cam/depth/camera_info',
    )
    frames = list(read_frames(bag))
    assert [frame.stamp_ns for frame in frames] == [stamp_of(k) for k in (0, 1, 2, 4, 5)]
    assert frames[1].color[0, 0] == pytest.approx(np.array([10, 20, 30]) / 255)
    assert frames[1].depth is not None
    assert frames[1].depth[0, 0] == pytest.approx(1.001)
    assert frames[0].camera.fx == 20.0
    colors_only = list(read_frames(bag, find_topics(bag, with_depth=False)))
    assert len(colors_only) == COUNT
    assert colors_only[0].depth is None
    assert next(iter(read_bag_frames(bag))).frame_id == 'camera'


def test_importing_replay_needs_no_ros() -> None:
    code = 'import sys, gs_pose_ros.commands.replay; sys.exit("rclpy" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0


def test_what_is_missing_is_named(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(GsPoseError, match='nothing'):
        list(read_frames(tmp_path / 'nothing'))
    with pytest.raises(GsPoseError, match='/no/such'):
        list(read_frames(bag, CameraTopics('/no/such', '/cam/color/camera_info')))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(GsPoseError, match='empty'):
        find_topics(tmp_path / 'empty')


def test_transforms_of_a_bag(bag: Path) -> None:
    tree = read_transforms(bag)
    T = tree.lookup('camera', 'object', (stamp_of(1) + stamp_of(2)) // 2)
    np.testing.assert_allclose(T, se3.exp([0.015, 0, 1, 0, 0, 0]), atol=1e-9)


def test_registration_views_of_a_bag_take_their_poses_from_tf(bag: Path) -> None:
    box = np.array([[-0.3, -0.3, -0.1], [0.3, 0.3, 0.1]])
    source = RegistrationSource('bag', bag, box=box, object_frame='object')
    found = source.views()
    assert len(found.views) == 5
    np.testing.assert_allclose(found.views[1].T_cam_obj[:3, 3], [0.01, 0, 1])
    assert found.views[0].mask is not None
    assert found.views[0].mask.any()
    with pytest.raises(GsPoseError, match="'ghost' does not exist"):
        RegistrationSource('bag', bag, box=box, object_frame='ghost').views()
    with pytest.raises(GsPoseError, match='3-D box'):
        RegistrationSource('bag', bag, object_frame='object').views()
    with pytest.raises(GsPoseError, match='board'):
        RegistrationSource('bag', bag, box=box).views()


def test_replay_publishes_every_message_with_its_stamp_and_the_clock(
    bag: Path,
    world: World,  # noqa: F811
) -> None:
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import CameraInfo, Image

    got = world.listen(Image, '/moved/image')
    infos = world.listen(CameraInfo, '/cam/color/camera_info')
    clock = world.listen(Clock, '/clock')
    start = time.monotonic()
    Replay(bag, rate=0.5, remap=('/cam/color/image_raw:=/moved/image',)).run()
    assert time.monotonic() - start > 0.5  # 0.25 s at half speed
    world.until(lambda: len(got) == COUNT, 'all images')
    assert [m.header.stamp.nanosec for m in got] == [stamp_of(k) % 10**9 for k in range(COUNT)]
    assert bytes(got[2].data) == color_of(2).tobytes()
    world.until(lambda: len(infos) == COUNT, 'all camera infos')
    topics = CameraTopics('/cam/color/image_raw', '/cam/color/camera_info')
    for online, info, offline in zip(got, infos, read_frames(bag, topics), strict=True):
        frame = frame_from_messages(online, info)
        np.testing.assert_array_equal(frame.color, offline.color)
        assert (frame.camera, frame.stamp_ns) == (offline.camera, offline.stamp_ns)
    times = [m.clock.sec * 10**9 + m.clock.nanosec for m in clock]
    assert times == sorted(times)
    assert times[-1] == stamp_of(COUNT - 1)


def test_replayed_and_recorded_again_is_the_same(
    bag: Path,
    tmp_path: Path,
    world: World,  # noqa: F811
) -> None:
    copy = tmp_path / 'copy'
    stop = threading.Event()
    storage = 'sqlite3' if 'mcap' in bag.name else 'mcap'
    recorder = Record(copy, ('/cam/color/image_raw', '/cam/color/camera_info'), storage)
    thread = threading.Thread(target=recorder.run, args=(stop.is_set,))
    replay = threading.Thread(target=Replay(bag, rate=0.25, wait_s=20.0).run)
    thread.start()
    replay.start()
    replay.join(40)
    stop.set()
    thread.join(20)
    topics = CameraTopics('/cam/color/image_raw', '/cam/color/camera_info')
    first = list(read_frames(bag, topics))
    again = {frame.stamp_ns: frame for frame in read_frames(copy, topics)}
    assert again  # the recorder needs a moment to find the topics: the first may be missing
    for frame in first:
        if frame.stamp_ns in again:
            np.testing.assert_array_equal(again[frame.stamp_ns].color, frame.color)
    with pytest.raises(GsPoseError, match='exists'):
        recorder.run()


def test_a_ros_1_bag_is_not_played(tmp_path: Path) -> None:
    """Its messages are not CDR: whoever subscribes would get none."""
    write_ros1(tmp_path / 'old.bag', recording())
    command = ['rosbags-convert', '--src', str(tmp_path / 'old.bag')]
    command += ['--dst', str(tmp_path / 'old_ros2')]
    with pytest.raises(GsPoseError, match=f'is a ROS 1 bag.* {" ".join(command)}'):
        Replay(tmp_path / 'old.bag', wait_s=0.1).run()
    # What it says helps; types may be left as they were in ROS 1.
    command[0] = str(Path(sys.executable).parent / command[0])
    for options in ([], ['--dst-typestore', 'ros2_humble']):
        subprocess.run([*command, *options], check=True)
        assert len(list(read_frames(tmp_path / 'old_ros2'))) == COUNT
        Replay(tmp_path / 'old_ros2', wait_s=0.1, rate=100).run()
        shutil.rmtree(tmp_path / 'old_ros2')


def test_a_damaged_bag_is_named(bag: Path, tmp_path: Path) -> None:
    whole = next(path for path in bag.iterdir() if path.suffix != '.yaml')
    cut = tmp_path / f'cut{whole.suffix}'
    cut.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(GsPoseError, match='cut'):
        Replay(cut, wait_s=0.1).run()


def test_our_own_messages_are_known_to_the_bag_reader() -> None:
    types = typestore().types
    assert 'gs_pose_ros/msg/ObjectPoseArray' in types
    assert 'tf2_msgs/msg/TFMessage' in types


def test_bad_remappings_are_named(bag: Path) -> None:
    with pytest.raises(GsPoseError, match='old:=new'):
        Replay(bag, remap=('nonsense',)).run()
