"""A camera and a listener beside the node under test, all in one process over real DDS."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
from builtin_interfaces.msg import Time
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.msg import ObjectInfo, ObjectList
from gs_pose_ros.nodes.runtime.conversions import camera_to_message
from gs_pose_ros.nodes.runtime.stage import Stage
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.recording.frame_decoding import stamp_to_ns
from test.fakes import CAMERA, make_reference

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def image_message(
    pixels: np.ndarray, encoding: str, stamp_ns: int, frame_id: str = 'camera'
) -> Image:
    """Written without our conversions, to test them."""
    msg = Image(encoding=encoding, height=pixels.shape[0], width=pixels.shape[1])
    msg.header = header_at(stamp_ns, frame_id)
    msg.data = array('B', np.ascontiguousarray(pixels).tobytes())
    msg.step = len(msg.data) // msg.height
    return msg


def header_at(stamp_ns: int, frame_id: str = 'camera') -> Header:
    sec, nanosec = divmod(stamp_ns, 10**9)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def publishers_of(subscription: Any) -> int:
    """Publishers that a subscription has matched; before Jazzy rclpy cannot say, so all."""
    count = getattr(subscription, 'get_publisher_count', None)
    return 1_000 if count is None else count()


class CameraInput:
    """What a node takes in from the camera from now on, by topic; nothing without an input."""

    def __init__(self, stage: Stage[Any]) -> None:
        self._stage = stage
        self._input = getattr(stage, '_input', None)
        self._stamps: dict[str, int] = {}
        filters = [] if self._input is None else self._input._inputs
        self._topics = [filter_.getTopic() for filter_ in filters]
        for filter_ in filters:
            # After the synchronizer's own: what can be joined is joined by then.
            filter_.registerCallback(self._on_message, filter_.getTopic())

    @property
    def active(self) -> bool:
        """Whether the node still has this input."""
        return self._stage.active and getattr(self._stage, '_input', None) is self._input

    def has(self, stamp_ns: int, topics: Iterable[str]) -> bool:
        """Whether the messages of that stamp have come on those of the topics it takes."""
        return all(self._stamps.get(t) == stamp_ns for t in topics if t in self._topics)

    def _on_message(self, msg: Any, topic: str) -> None:
        self._stamps[topic] = stamp_to_ns(msg.header.stamp)


class World:
    """Publishes what a camera would, and keeps what comes back."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        # Another run on this machine may have drawn the same ROS domain.
        self.namespace = f'/world_{os.getpid()}'
        self.node = rclpy.create_node('world', namespace=self.namespace, context=self.context)
        self.executor = MultiThreadedExecutor(num_threads=6, context=self.context)
        self.executor.add_node(self.node)
        self._publishers: dict[str, Any] = {}
        self.stages: list[Stage[Any]] = []
        self._inputs: dict[Stage[Any], CameraInput] = {}
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self.stamp_ns = 10**9

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self.executor.spin()

    def add(self, make: Callable[..., Stage[Any]], **kwargs: Any) -> Stage[Any]:
        """Start a node under test; `parameters` overrides its parameters."""
        # Tests count images; a busy machine may drop best-effort ones.
        parameters = {'input.image_reliability': 'reliable', **kwargs.pop('parameters', {})}
        overrides = [rclpy.Parameter(name, value=value) for name, value in parameters.items()]
        stage = make(
            context=self.context,
            parameter_overrides=overrides,
            cli_args=['--ros-args', '-r', f'__ns:={self.namespace}'],
            **kwargs,
        )
        self.executor.add_node(stage)
        stage.start()
        self.stages.append(stage)
        self.connect()
        if 'object_database/objects' in self._publishers and hasattr(stage, '_objects'):
            self.until(lambda: stage._objects.known, 'the list of objects')
        return stage

    def remove(self, stage: Stage[Any]) -> None:
        self.stages.remove(stage)
        self.executor.remove_node(stage)
        stage.stop()
        stage.destroy_node()

    def close(self) -> None:
        # No callback runs any more when what it uses goes.
        self.executor.shutdown()
        self._thread.join(5)
        for stage in list(self.stages):
            self.remove(stage)
        self.node.destroy_node()
        self.context.try_shutdown()

    def listen(self, kind: type, topic: str, qos: Any = 50) -> list[Any]:
        """A list that grows by each message."""
        got: list[Any] = []
        self.node.create_subscription(kind, topic, got.append, qos)
        return got

    def send(self, topic: str, msg: Any, qos: Any = 50) -> None:
        """Publish once somebody is matched."""
        if topic not in self._publishers:
            publisher = self.node.create_publisher(type(msg), topic, qos)
            self._publishers[topic] = publisher
            self.until(lambda: publisher.get_subscription_count() > 0, f'a listener on {topic}')
            self.connect(topic)
        self._publishers[topic].publish(msg)

    def connect(self, *topics: str) -> None:
        """Wait until what is published here reaches the nodes: both sides have to know."""
        for topic in topics or self._publishers:
            publisher = self._publishers[topic]
            name = publisher.topic_name
            readers = [r for stage in self.stages for r in stage.subscriptions]
            readers = [reader for reader in readers if reader.topic_name == name]

            def connected(publisher: Any = publisher, readers: list[Any] = readers) -> bool:
                count = self.node.count_publishers(publisher.topic_name)
                heard = all(publishers_of(reader) >= count for reader in readers)
                return heard and publisher.get_subscription_count() >= len(readers)

            self.until(connected, f'all listeners on {topic}')

    def show(
        self,
        color: np.ndarray | None = None,
        depth: np.ndarray | None = None,
        camera: Camera = CAMERA,
        encoding: str = 'rgb8',
        with_info: bool = True,
        with_depth: bool = True,
        stamp_ns: int | None = None,
    ) -> int:
        """One picture from the camera, 33 ms after the last; returns its stamp.

        Every active node that hears it has taken it in by then.
        """
        self.stamp_ns = self.stamp_ns + 33_000_000 if stamp_ns is None else stamp_ns
        stamp = self.stamp_ns
        if color is None:
            color = np.full((*camera.shape, 3), 128, np.uint8)
        if depth is None:
            depth = np.full(camera.shape, 0.5, np.float32)
        messages: dict[str, Any] = {'color/image': image_message(color, encoding, stamp)}
        if with_info:
            messages['color/camera_info'] = camera_to_message(camera, header_at(stamp))
        if with_depth:
            kind = '16UC1' if depth.dtype == np.uint16 else '32FC1'
            messages['depth/image'] = image_message(depth, kind, stamp)
        inputs = [self._camera_input(stage) for stage in self.stages if stage.active]
        for topic, msg in messages.items():
            self.send(topic, msg)
        heard = [t for t in messages if self._publishers[t].get_subscription_count()]
        for taken in inputs:
            self.until(lambda t=taken: not t.active or t.has(stamp, heard), f'image {stamp}')
        return stamp

    def _camera_input(self, stage: Stage[Any]) -> CameraInput:
        if stage not in self._inputs or not self._inputs[stage].active:
            self._inputs[stage] = CameraInput(stage)
        return self._inputs[stage]

    def show_until(
        self, condition: Callable[[], Any], what: str, timeout_s: float = 10.0, **picture: Any
    ) -> None:
        """Pictures at 30 Hz until the condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f'waited {timeout_s} s in vain for {what}'
            self.show(**picture)
            self.within(1 / 30, condition)

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 10.0) -> None:
        """Wait for what has to come; the time is for failures alone."""
        came = self.within(timeout_s, condition)
        assert came, f'waited {timeout_s} s in vain for {what}'

    def within(self, seconds: float, condition: Callable[[], Any]) -> bool:
        """Wait for what may come; whether it has."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def call(self, kind: type, service: str, request: Any, timeout_s: float = 10.0) -> Any:
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_s), f'{service} is not there'
        future = client.call_async(request)
        self.until(future.done, f'an answer of {service}', timeout_s)
        self.node.destroy_client(client)
        return future.result()


@pytest.fixture
def world() -> Iterator[World]:
    torch.set_num_threads(1)
    made = World()
    yield made
    made.close()


@pytest.fixture
def database(tmp_path: Path, world: World) -> ObjectDatabase:
    """A database with one object, told to the nodes as object_database would."""
    out = ObjectDatabase(tmp_path / 'objects')
    out.root.mkdir()
    out.save(make_reference())
    announce(world, out)
    return out


def announce(world: World, database: ObjectDatabase, **broken: str) -> None:
    """Publish the latched list of objects."""
    msg = ObjectList(database=str(database.root))
    for object_id in database.object_ids():
        msg.objects.append(
            ObjectInfo(
                object_id=object_id,
                revision=database.revision(object_id),
                status=ObjectInfo.STATUS_OK,
            )
        )
    for object_id, reason in broken.items():
        msg.objects.append(
            ObjectInfo(object_id=object_id, status=ObjectInfo.STATUS_BROKEN, reason=reason)
        )
    topic = 'object_database/objects'
    if topic not in world._publishers:
        world._publishers[topic] = world.node.create_publisher(ObjectList, topic, LATCHED)
    world._publishers[topic].publish(msg)
