"""The localizer node over real topics: poses, paths and TF, with odometry and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from tf2_msgs.msg import TFMessage

from gs_pose_ros.clients.bag_player import BagPlayer
from gs_pose_ros.clients.camera_collector import CameraCollector
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_tracker import CameraTracker
from gs_pose_ros.localization.map_store import load_map
from gs_pose_ros.msg import CameraLocalization
from gs_pose_ros.nodes.gsplatloc import LocalizerNode
from gs_pose_ros.nodes.runtime.conversions import transform_to_message
from gs_pose_ros.recording import bag_writing
from gs_pose_ros.recording.bags import read_frames
from gs_pose_ros.recording.frame_decoding import (
    pose_from_message,
    stamp_to_ns,
    transform_from_message,
)
from test.localization.room import CAMERA, pose_error, view
from test.nodes.conftest import LATCHED, World, header_at

from .conftest import FOUND, HERE, LINK, LOST, ODOM, OK, STEP, show_until, stored_map


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


def test_depth_of_16_bit_is_in_millimetres(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    depth = np.round(1000 * np.asarray(view(HERE).depth)).astype(np.uint16)
    msg = show_until(world, statuses, HERE, *FOUND, depth=depth)
    assert pose_error(pose_from_message(msg.pose), HERE)[1] < 5


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
