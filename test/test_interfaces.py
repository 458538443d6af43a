"""Our messages and services as installed: complete, safe when unfilled, and working over DDS."""

from __future__ import annotations

import array
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip('rclpy', reason='needs ROS 2 (make setup installs it)')

from ament_index_python.packages import get_package_prefix  # noqa: E402
from geometry_msgs.msg import Pose, TransformStamped  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import Image, RegionOfInterest  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from gs_pose_ros.graph import NODES  # noqa: E402
from gs_pose_ros.msg import (  # noqa: E402
    CameraLocalization,
    ObjectDetection,
    ObjectDetectionArray,
    ObjectInfo,
    ObjectList,
    ObjectPose,
    ObjectPoseArray,
)
from gs_pose_ros.srv import EstimatePose, ListObjects  # noqa: E402

ROOT = Path(__file__).parents[1]
INTERFACES = sorted(p.relative_to(ROOT) for k in ('msg', 'srv') for p in ROOT.glob(f'{k}/*.{k}'))
WITH_STATUS = (CameraLocalization, ObjectDetectionArray, ObjectInfo, ObjectPose, ObjectPoseArray)


@pytest.mark.parametrize('path', INTERFACES, ids=str)
def test_every_interface_file_is_built(path: Path) -> None:
    assert str(path) in (ROOT / 'CMakeLists.txt').read_text()
    module = importlib.import_module(f'gs_pose_ros.{path.parent}')
    assert hasattr(module, path.stem)


@pytest.mark.parametrize('message', WITH_STATUS, ids=lambda m: m.__name__)
def test_an_unfilled_message_does_not_read_as_ok(message: Any) -> None:
    assert message().status == message.STATUS_UNKNOWN
    assert message.STATUS_OK != message.STATUS_UNKNOWN


@pytest.mark.parametrize('path', INTERFACES, ids=str)
def test_constants_of_one_field_differ(path: Path) -> None:
    by_field: dict[str, list[str]] = {}
    for field, value in re.findall(r'^\w+ ([A-Z]+)_\w+ = (\d+)', (ROOT / path).read_text(), re.M):
        by_field.setdefault(field, []).append(value)
    for field, values in by_field.items():
        assert len(set(values)) == len(values), field


def test_a_name_has_one_number_in_all_messages_and_services() -> None:
    numbers: dict[str, set[str]] = {}
    names: dict[tuple[str, str], set[str]] = {}
    for path in INTERFACES:
        for name, number in re.findall(r'^\w+ ([A-Z_]+) = (\d+)', (ROOT / path).read_text(), re.M):
            numbers.setdefault(name, set()).add(number)
            names.setdefault((name.partition('_')[0], number), set()).add(name)
    assert 'STATUS_LOST' in numbers
    assert not {name: found for name, found in numbers.items() if len(found) > 1}
    assert not {key: found for key, found in names.items() if len(found) > 1}


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context)
    made = rclpy.create_node('interfaces', context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def spin_until(node: Node, done: Callable[[], bool], seconds: float = 20.0) -> None:
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, 'timed out'
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()


def exchange(node: Node, message: Any, qos: QoSProfile) -> Any:
    """What a subscription gets of `message`, by way of DDS."""
    received: list[Any] = []
    publisher = node.create_publisher(type(message), 'exchanged', qos)
    node.create_subscription(type(message), 'exchanged', received.append, qos)
    spin_until(node, lambda: publisher.get_subscription_count() > 0)
    publisher.publish(message)
    spin_until(node, lambda: bool(received))
    return received[0]


def test_a_detection_arrives_as_sent(node: Node) -> None:
    detection = ObjectDetection(object_id='cup', instance=1, score=0.75)
    detection.header.frame_id = 'camera_color_optical_frame'
    detection.roi = RegionOfInterest(x_offset=3, y_offset=4, height=2, width=3)
    detection.mask = Image(height=2, width=3, encoding='mono8', step=3)
    detection.mask.data = array.array('B', [0, 255, 255, 255, 0, 255])
    detection.pose_hints = [Pose(), Pose()]
    sent = ObjectDetectionArray(status=ObjectDetectionArray.STATUS_OK, detections=[detection])
    assert exchange(node, sent, QoSProfile(depth=1)) == sent


def test_the_object_list_is_latched(node: Node) -> None:
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    sent = ObjectList(database='/tmp/objects', objects=[ObjectInfo(object_id='cup')])
    node.create_publisher(ObjectList, 'objects', qos).publish(sent)
    received: list[ObjectList] = []
    node.create_subscription(ObjectList, 'objects', received.append, qos)  # too late to be sent to
    spin_until(node, lambda: bool(received))
    assert received[0] == sent


def test_transforms_have_their_real_type_on_the_wire(node: Node) -> None:
    transform = TransformStamped(child_frame_id='cup')
    received = exchange(node, TFMessage(transforms=[transform]), QoSProfile(depth=10))
    assert received.transforms == [transform]
    types = dict(node.get_topic_names_and_types())
    assert types['/exchanged'] == ['tf2_msgs/msg/TFMessage']


SERVER = """
import rclpy
from gs_pose_ros.msg import ObjectPose
from gs_pose_ros.srv import EstimatePose

def answer(request, response):
    response.success = request.color.width == 4
    response.poses.poses = [ObjectPose(object_id=name) for name in request.object_ids]
    return response

rclpy.init()
node = rclpy.create_node('server')
node.create_service(EstimatePose, 'estimate_pose', answer)
rclpy.spin(node)
"""


def test_a_service_answers_from_another_process(node: Node) -> None:
    server = subprocess.Popen([sys.executable, '-c', SERVER], cwd=ROOT)
    try:
        client = node.create_client(EstimatePose, 'estimate_pose')
        spin_until(node, client.service_is_ready)
        request = EstimatePose.Request(object_ids=['cup', 'box'], color=Image(width=4, height=3))
        answer = client.call_async(request)
        spin_until(node, answer.done)
    finally:
        server.kill()
        server.wait()
    response = answer.result()
    assert response is not None
    assert response.success
    assert [pose.object_id for pose in response.poses.poses] == ['cup', 'box']


@pytest.mark.parametrize('name', [node.executable for node in NODES])
def test_every_executable_is_installed(name: str) -> None:
    program = Path(get_package_prefix('gs_pose_ros')) / 'lib/gs_pose_ros' / name
    assert os.access(program, os.X_OK)
    assert f'from gs_pose_ros.nodes.{name} import main' in program.read_text()


def test_an_installed_node_starts_answers_and_ends_cleanly(node: Node, tmp_path: Path) -> None:
    program = Path(get_package_prefix('gs_pose_ros')) / 'lib/gs_pose_ros/object_database'
    parameters = ['--ros-args', '-p', f'database:={tmp_path}']
    process = subprocess.Popen([sys.executable, str(program), *parameters], cwd=tmp_path)
    try:
        client = node.create_client(ListObjects, '/gs_pose/object_database/list')
        spin_until(node, client.service_is_ready, 60.0)
        answer = client.call_async(ListObjects.Request())
        spin_until(node, answer.done)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    response = answer.result()
    assert response is not None
    assert response.objects.database == str(tmp_path)
    assert not list(response.objects.objects)
