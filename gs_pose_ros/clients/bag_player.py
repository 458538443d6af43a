"""Plays a bag onto the live topics, with `/clock`, and records live topics into a bag.

Serialized messages are passed through as they are; rosbag2_py, which has no wheel, is not needed.
"""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg
from rosgraph_msgs.msg import Clock

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.recording.bag_files import open_bag, typestore
from gs_pose_ros.share import share_folder

# Playing by hand at most this far between two looks at the clock (s).
_TICK_S = 0.02


def message_class(type_name: str) -> type:
    """The Python class of 'sensor_msgs/msg/Image'.

    Raises:
        GsPoseError: its package is not installed.

    """
    package, kind, name = type_name.split('/')
    try:
        return getattr(import_module(f'{package}.{kind}'), name)
    except (ImportError, AttributeError) as error:
        raise GsPoseError(
            f'message type {type_name} is not installed: install the package {package}'
        ) from error


class BagPlayer:
    """Publishes the messages of a bag in their own time.

    `rate` 2.0 is twice as fast. Topics whose type is not installed are left out, and named in
    `left_out`. `remap` renames topics.
    """

    def __init__(
        self,
        node: Node,
        bag: Path,
        rate: float = 1.0,
        remap: dict[str, str] | None = None,
        topics: Sequence[str] = (),
    ) -> None:
        if not rate > 0:
            raise ValueError(f'rate must be > 0, got {rate}')
        self._node, self._bag, self._rate = node, bag, rate
        self._remap = remap or {}
        self._publishers: dict[str, Any] = {}
        self.left_out: list[str] = []
        self._clock = node.create_publisher(Clock, '/clock', 10)
        with open_bag(bag) as reader:
            if reader.is_ros1:
                raise GsPoseError(
                    f'{bag}: is a ROS 1 bag, whose messages ROS 2 cannot read; convert it: '
                    f'rosbags-convert --src {bag} --dst {bag.with_name(f"{bag.stem}_ros2")} '
                    '--dst-typestore ros2_humble'
                )
            self.duration_s = reader.duration_ns / 1e9
            for connection in reader.connections:
                topic = connection.topic
                if (topics and topic not in topics) or topic == '/clock':
                    continue
                if topic not in self._publishers:
                    self._advertise(topic, connection.msgtype)

    def wait_for_subscribers(self, timeout_s: float, quiet_s: float = 2.0) -> bool:
        """Wait until somebody listens, and until nobody has joined in for `quiet_s`.

        Returns:
            Whether anybody listens.

        """
        begun = changed = time.monotonic()
        before: list[int] = []
        while time.monotonic() - begun < timeout_s:
            counts = [p.get_subscription_count() for p in self._publishers.values()]
            if counts != before:
                before, changed = counts, time.monotonic()
            if any(counts) and time.monotonic() - changed > quiet_s:
                return True
            time.sleep(_TICK_S)
        return any(before)

    def play(
        self,
        on_message: Callable[[float], None] | None = None,
        stop: Callable[[], bool] | None = None,
        before: Callable[[str], None] | None = None,
    ) -> int:
        """Publish everything; calls `on_message(seconds since the start of the bag)`.

        While `before(topic)` takes its time, ahead of each message, the bag stands still.

        Returns:
            How many messages were published.

        """
        count, begun = 0, time.monotonic()
        with open_bag(self._bag) as reader:
            wanted = [c for c in reader.connections if c.topic in self._publishers]
            first = reader.start_ns
            for connection, stamp_ns, raw in reader.raw(wanted):
                due = begun + (stamp_ns - first) / 1e9 / self._rate
                while (left := due - time.monotonic()) > 0:
                    self._tick(stamp_ns - round(left * self._rate * 1e9))
                    time.sleep(min(left, _TICK_S))
                if stop is not None and stop():
                    return count
                if before is not None:
                    asked = time.monotonic()
                    before(connection.topic)
                    begun += time.monotonic() - asked
                self._tick(stamp_ns)
                self._publishers[connection.topic].publish(bytes(raw))
                count += 1
                if on_message is not None:
                    on_message((stamp_ns - first) / 1e9)
        return count

    def close(self) -> None:
        """Take the topics down."""
        for publisher in (*self._publishers.values(), self._clock):
            self._node.destroy_publisher(publisher)

    def _advertise(self, topic: str, type_name: str) -> None:
        try:
            kind = message_class(type_name)
        except GsPoseError:
            self.left_out.append(f'{topic} ({type_name})')
            return
        # Reliable serves both kinds of subscribers; only static transforms are for late ones.
        latched = topic.endswith('tf_static')
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=100 if latched else 10, durability=durability)
        name = self._remap.get(topic, topic)
        self._publishers[topic] = self._node.create_publisher(kind, name, qos)

    def _tick(self, stamp_ns: int) -> None:
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(int(stamp_ns), 1_000_000_000)
        self._clock.publish(clock)


class BagRecorder:
    """Writes live topics into a bag, until `close`.

    Messages are taken in by the thread that spins the node, and written by the one that calls
    `step`: SQLite insists on the thread that opened the file.
    """

    def __init__(
        self,
        node: Node,
        bag: Path,
        topics: Sequence[str],
        storage: Literal['mcap', 'sqlite3'] = 'mcap',
    ) -> None:
        if bag.exists():
            raise GsPoseError(f'{bag}: exists already; name another path')
        plugin = StoragePlugin.MCAP if storage == 'mcap' else StoragePlugin.SQLITE3
        self._node = node
        self._writer = Writer(bag, version=9, storage_plugin=plugin)
        self._writer.open()
        self._store = typestore()
        self._wanted = [node.resolve_topic_name(topic) for topic in topics]
        self._subscriptions: dict[str, Any] = {}
        self._received: queue.SimpleQueue[tuple[Any, int, bytes]] = queue.SimpleQueue()
        self._looked = 0.0
        self.count = 0

    def step(self) -> None:
        """Write what came, and look for new topics twice a second; to be called often."""
        if time.monotonic() - self._looked > 0.5:
            self._looked = time.monotonic()
            self._discover()
        while not self._received.empty():
            self._writer.write(*self._received.get())
            self.count += 1

    def _discover(self) -> None:
        """Subscribe to the wanted topics that have appeared; all topics if none is named."""
        for topic, kinds in self._node.get_topic_names_and_types():
            wanted = topic in self._wanted if self._wanted else True
            if wanted and topic not in self._subscriptions:
                self._subscribe(topic, kinds[0])

    def close(self) -> None:
        """Finish the bag; without it the bag cannot be read."""
        self._looked = time.monotonic()  # no new topics now
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self.step()
        self._writer.close()

    def _subscribe(self, topic: str, type_name: str) -> None:
        if type_name not in self._store.types:
            self._store.register(get_types_from_msg(_definition(type_name), type_name))
        connection = self._writer.add_connection(topic, type_name, typestore=self._store)

        def take(raw: bytes) -> None:
            self._received.put((connection, self._node.get_clock().now().nanoseconds, raw))

        self._subscriptions[topic] = self._node.create_subscription(
            message_class(type_name), topic, take, self._qos(topic), raw=True
        )

    def _qos(self, topic: str) -> QoSProfile:
        """The strongest QoS that every publisher offers."""
        offered = [i.qos_profile for i in self._node.get_publishers_info_by_topic(topic)]
        reliable = all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered)
        latched = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
        return QoSProfile(
            depth=100,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=(
                DurabilityPolicy.TRANSIENT_LOCAL
                if latched and offered
                else DurabilityPolicy.VOLATILE
            ),
        )


def _definition(type_name: str) -> str:
    package, kind, name = type_name.split('/')
    for share in (share_folder().parent, *_shares()):
        path = share / package / kind / f'{name}.msg'
        if path.is_file():
            return path.read_text()
    raise GsPoseError(f'no definition of {type_name} is installed: install the package {package}')


def _shares() -> list[Path]:
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    return [Path(prefix) / 'share' for prefix in (*prefixes, sys.prefix) if prefix]
