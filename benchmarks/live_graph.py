"""All five nodes on a database and a map of the demo, a camera before them, and how they are."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from gs_pose_ros.clients.spinning import spinning_node
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.graph import NODES, GraphArguments, GraphProcesses
from gs_pose_ros.msg import CameraLocalization, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import (
    camera_to_message,
    image_to_message,
    ns_to_stamp,
)
from gs_pose_ros.srv import LoadDatabase, LoadMap

NAMES = tuple(node.executable for node in NODES)
_TOPICS = ('/camera/color', '/camera/info', '/camera/depth')
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_KEPT = ('/objects', '/tf_static')
_SERVICES = QoSProfile(depth=100)
_FOUND = (CameraLocalization.STATUS_OK, CameraLocalization.STATUS_RELOCALIZED)


@dataclass
class LiveGraph:
    """The running nodes, seen from outside."""

    node: Node
    graph: GraphProcesses
    picture: RGBDFrame
    objects: Path
    map: Path
    last: dict[str, Any] = field(default_factory=dict)  # topic: newest message
    slowest_state_s: dict[str, float] = field(default_factory=dict)
    _publishers: dict[str, Any] = field(default_factory=dict)
    _clients: dict[str, Any] = field(default_factory=dict)

    def show(self) -> None:
        """The picture once more, with the stamp of now."""
        stamp = ns_to_stamp(time.time_ns())
        for topic, message in self.camera_messages().items():
            message.header.stamp = stamp
            self.publish(topic, message)

    def camera_messages(self) -> dict[str, Any]:
        """Colour, camera info and depth by topic."""
        header = Header(frame_id='camera_color_optical_frame')
        assert self.picture.depth is not None
        color = np.rint(255 * self.picture.color).astype(np.uint8)
        return {
            _TOPICS[0]: image_to_message(color, 'rgb8', header),
            _TOPICS[1]: camera_to_message(self.picture.camera, header),
            _TOPICS[2]: image_to_message(self.picture.depth, '32FC1', header),
        }

    def publish(self, topic: str, message: Any, kind: type | None = None) -> None:
        """A message, or the bytes of one of that kind."""
        if topic not in self._publishers:
            made = self.node.create_publisher(
                kind or type(message), topic, _LATCHED if topic.endswith(_KEPT) else 10
            )
            deadline = time.monotonic() + 10
            while made.get_subscription_count() == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            self._publishers[topic] = made
        self._publishers[topic].publish(message)

    def call(self, kind: type, service: str, request: Any, timeout_s: float) -> Any:
        """The answer, or None if none has come in time."""
        if service not in self._clients:
            made = self.node.create_client(kind, service, qos_profile=_SERVICES)
            if not made.wait_for_service(10):
                raise GsPoseError(f'{service} is not there')
            self._clients[service] = made
        client = self._clients[service]
        future = client.call_async(request)
        deadline = time.monotonic() + timeout_s
        while not future.done():
            if time.monotonic() > deadline:
                client.remove_pending_request(future)
                return None
            time.sleep(0.001)
        return future.result()

    def check(self) -> None:
        """Raise GsPoseError if a node has ended, or does not tell its state within 5 s."""
        self.graph.check()
        for name in NAMES:
            begin = time.monotonic()
            answer = self.call(GetState, f'/gs_pose/{name}/get_state', GetState.Request(), 5.0)
            took = time.monotonic() - begin
            self.slowest_state_s[name] = max(took, self.slowest_state_s.get(name, 0))
            if answer is None:
                # Its threads write where they are into its log (faulthandler).
                self.graph.processes[name].send_signal(signal.SIGABRT)
                time.sleep(2.0)
                raise GsPoseError(f'{name} has not told its state within 5 s')

    def is_well(self) -> bool:
        """Whether the newest pictures have a pose of an object and of the camera."""
        poses = self.last.get('/gs_pose/gs_refiner/poses')
        place = self.last.get('/gs_pose/gsplatloc/status')
        return (
            poses is not None
            and place is not None
            and any(pose.status == ObjectPose.STATUS_OK for pose in poses.poses)
            and place.status in _FOUND
        )

    def recover(self, timeout_s: float = 60.0) -> float:
        """Load database and map again, show good pictures; seconds until all is well.

        Raises:
            GsPoseError: it is not within the time.

        """
        begin = time.monotonic()
        load = LoadDatabase.Request(path=str(self.objects))
        self.call(LoadDatabase, '/gs_pose/object_database/load', load, 10.0)
        self.call(
            LoadMap, '/gs_pose/gsplatloc/load_map', LoadMap.Request(path=str(self.map)), 10.0
        )
        self.last.clear()
        while not self.is_well():
            self.graph.check()
            if time.monotonic() - begin > timeout_s:
                told = {topic: (m.status, m.reason) for topic, m in self.last.items()}
                raise GsPoseError(f'after {timeout_s} s of good pictures the nodes say {told}')
            self.show()
            time.sleep(0.1)
        return time.monotonic() - begin

    def memory_mib(self) -> dict[str, float]:
        """The most memory that each node has held so far."""
        out = {}
        for name, process in self.graph.processes.items():
            lines = Path(f'/proc/{process.pid}/status').read_text().splitlines()
            peak = next(line for line in lines if line.startswith('VmHWM'))
            out[name] = int(peak.split()[1]) / 1024
        return out


@contextmanager
def live_graph(
    objects: Path, map_folder: Path, roots: Path, picture: RGBDFrame, logs: Path
) -> Iterator[LiveGraph]:
    """All nodes at work on these, in services confined to `roots`."""
    os.environ['PYTHONFAULTHANDLER'] = '1'
    arguments = GraphArguments(
        color_topic=_TOPICS[0],
        camera_info_topic=_TOPICS[1],
        depth_topic=_TOPICS[2],
        image_reliability='reliable',
        database=str(objects),
        allowed_roots=str(roots),
        localize=True,
        map=str(map_folder),
    )
    with spinning_node('camera') as node, GraphProcesses(arguments, logs) as graph:
        out = LiveGraph(node, graph, picture, objects, map_folder)
        for kind, topic in (
            (ObjectPoseArray, '/gs_pose/gs_refiner/poses'),
            (CameraLocalization, '/gs_pose/gsplatloc/status'),
        ):
            node.create_subscription(kind, topic, partial(out.last.__setitem__, topic), 10)
        try:
            yield out
        except GsPoseError as error:
            ends = [
                f'{log.name}:\n{log.read_text(errors="replace")[-60000:]}'
                for log in logs.iterdir()
            ]
            raise GsPoseError('\n'.join([str(error), *ends])) from error
