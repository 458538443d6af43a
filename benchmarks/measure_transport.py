"""Whether frames are lost on their way to the running nodes, and how long a hop takes.

`python benchmarks/measure_transport.py`
"""

from __future__ import annotations

import os
import queue
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import tyro
from diagnostic_msgs.msg import DiagnosticArray
from figures import RESULTS, milliseconds, origin, print_table, write_figures
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import Header
from transport_listener import (
    ANSWERS,
    COLOR,
    DEPTH,
    DETECTIONS,
    INFO,
    POSES,
    WIDTH,
    Arrival,
    ListenerSettings,
    listening,
)

from gs_pose_ros.clients.spinning import spinning_node
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.graph import GraphArguments, GraphProcesses
from gs_pose_ros.msg import ObjectDetectionArray, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import (
    camera_to_message,
    detection_to_message,
    estimate_to_message,
    image_to_message,
    ns_to_stamp,
)
from gs_pose_ros.nodes.runtime.frame_input import InputSettings
from gs_pose_ros.nodes.runtime.stage import QOS_OUT
from gs_pose_ros.recording.bags import read_frames
from gs_pose_ros.recording.frame_decoding import stamp_to_ns

HOP = (
    'A hop begins before publish() in one process (for images: of the first of colour, depth and '
    'camera_info), has arrived when the callback begins in another (for images: with all three '
    'joined), and ends when frame, masks or poses are decoded there; one monotonic clock.'
)
AGE = (
    'By the nodes themselves, of the last 100 frames: from the stamp, taken before publish(), to '
    'where colour, depth and camera_info are joined.'
)
BAG = Path(__file__).parents[1] / 'examples' / 'demo' / 'bag'
HOPS = {COLOR: 'images', DETECTIONS: 'detections', POSES: 'initial_poses'}
TAKE_IMAGES = ('detector', 'pose_initializer', 'gs_refiner', 'listener')


class Sender:
    """A camera, and messages like those of the stages: a mask of a whole image, eight poses."""

    def __init__(self, node: Node, frames: Sequence[RGBDFrame]) -> None:
        self._header = header = Header(frame_id='camera')
        self._images = [
            {
                COLOR: image_to_message(np.rint(255 * f.color).astype(np.uint8), 'rgb8', header),
                DEPTH: image_to_message(_millimetres(f), '16UC1', header),
                INFO: camera_to_message(f.camera, header),
            }
            for f in frames
        ]
        self._turn = 0
        mask = np.ones(frames[0].camera.shape, bool)
        mask[:100, :100] = False  # all of the image would be refused
        T_cam_obj = se3.exp([0, 0, 1, 0.1, 0.2, 0.3])
        detection = Detection.from_full_mask('nothing', 1.0, mask, (T_cam_obj,))
        guess = estimate_to_message(
            header, 'nothing', 0, PoseEstimate(T_cam_obj, 1.0, Status.INITIAL)
        )
        detections = [detection_to_message(header, detection, 0)]
        self._messages: dict[str, Any] = {
            **self._images[0],
            DETECTIONS: ObjectDetectionArray(header=header, detections=detections),
            POSES: ObjectPoseArray(header=header, poses=[guess] * 8),
        }
        qos = {topic: QoSProfile(depth=10) for topic in (COLOR, DEPTH, INFO)}
        self._publishers = {
            topic: node.create_publisher(type(msg), topic, qos.get(topic, QOS_OUT))
            for topic, msg in self._messages.items()
        }
        self.sent: dict[str, dict[int, int]] = defaultdict(dict)  # topic: stamp: monotonic ns
        self.publish_s: list[float] = []  # of each set of images

    def is_heard(self) -> bool:
        """Whether everybody has subscribed."""
        wanted = {topic: len(TAKE_IMAGES) for topic in (COLOR, DEPTH, INFO)}
        return all(
            publisher.get_subscription_count() >= wanted.get(topic, 1)
            for topic, publisher in self._publishers.items()
        )

    def send(self, *topics: str) -> None:
        """One message on each topic, with one stamp; the first names them in `sent`.

        Images go through the bag forwards and backwards, so that nothing in them jumps.
        """
        if topics[0] == COLOR:
            n = len(self._images)
            self._turn = (self._turn + 1) % (2 * n)
            self._messages |= self._images[min(self._turn, 2 * n - 1 - self._turn)]
        stamp_ns = time.time_ns()
        for topic in topics:
            self._messages[topic].header.stamp = ns_to_stamp(stamp_ns)
        begun = time.monotonic_ns()
        for topic in topics:
            self._publishers[topic].publish(self._messages[topic])
        self.sent[topics[0]][stamp_ns] = begun
        if topics[0] == COLOR:
            self.publish_s.append((time.monotonic_ns() - begun) / 1e9)


def vga_frames(bag: Path) -> list[RGBDFrame]:
    """The frames of the bag, enlarged."""
    out = []
    for frame in read_frames(bag):
        factor = WIDTH / frame.camera.width
        out.append(frame.warp(frame.camera.scaled(factor), -0.5, -0.5, factor))
    return out


def _millimetres(frame: RGBDFrame) -> NDArray[np.uint16]:
    if frame.depth is None:
        raise GsPoseError('the bag has no depth')
    return np.rint(1e3 * np.nan_to_num(frame.depth)).astype(np.uint16)


class Diagnostics:
    """What the nodes say of themselves, once a second."""

    def __init__(self, node: Node) -> None:
        self._newest: dict[str, tuple[int, dict[str, str]]] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_array, 50)

    def after(self, time_ns: int) -> dict[str, dict[str, str]]:
        """The facts of all that take images, said after that time; {} if they are not all in."""
        out = {}
        for name in TAKE_IMAGES:
            said_ns, facts = self._newest.get(name, (0, {}))
            if said_ns < time_ns or 'joined' not in facts:
                return {}
            out[name] = facts
        return out

    def _on_array(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            facts = {pair.key: pair.value for pair in status.values}
            name = status.name.rpartition('/')[2]
            self._newest[name] = stamp_to_ns(msg.header.stamp), facts


@dataclass(frozen=True)
class MeasureTransport:
    """Send 640x480 RGB-D to the four nodes over DDS, and count and time what arrives.

    A process of its own listens beside the nodes, as a fourth that takes the images.
    """

    runs: int = 3
    """Medians are over these."""
    seconds: float = 10.0
    """Of each run."""
    warm_up: float = 1.0
    """Seconds of images before the first run; registered objects need some 20 to get ready."""
    rate: float = 30.0
    """Frames a second; detections and poses follow each frame at a third and two of the period."""
    reliability: Literal['best_effort', 'reliable'] = 'best_effort'
    """How the nodes subscribe to images; the camera is reliable, as a RealSense."""
    bag: Path = BAG
    """Its images are sent, enlarged to 640x480."""
    database: Path | None = None
    """Registered objects, for stages that work meanwhile; none if not given."""
    name: str = 'transport'
    """Of the file of figures."""
    out: Path = RESULTS
    """Folder for that file."""

    def run(self) -> None:
        """Measure, print the tables, write the file."""
        figures = origin('transport, 640x480 rgb8 and 16UC1 through four nodes', asdict(self))
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        os.environ['ROS_DOMAIN_ID'] = str(random.randint(1, 100))
        # Whoever ends this process means the nodes as well.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        settings = ListenerSettings(input=InputSettings(image_reliability=self.reliability))
        with (
            TemporaryDirectory() as scratch,
            GraphProcesses(self._arguments(Path(scratch)), Path(scratch) / 'logs') as graph,
            listening(settings) as arrivals,
            spinning_node('camera') as node,
        ):
            sender, diagnostics = Sender(node, vga_frames(self.bag)), Diagnostics(node)
            _wait(sender.is_heard, graph, 'subscriptions')
            # A writer knows its readers before they know it: the first images may be lost.
            warm_up = self._run(sender, diagnostics, arrivals, graph, self.warm_up)
            runs = [
                self._run(sender, diagnostics, arrivals, graph, self.seconds)
                for _ in range(self.runs)
            ]
        medians = _medians([run['hops'] for run in runs])
        answers = _medians([run['answers'] for run in runs])
        frames = {
            name: {
                'published': sum(run['published'] for run in runs),
                'joined': sum(run['joined'][name] for run in runs),
                'lost': sum(run['lost'][name] for run in runs),
                'age_ms_p50': median(run['age_ms_p50'][name] for run in runs),
            }
            for name in TAKE_IMAGES
        }
        columns = {'published': '{}', 'joined': '{}', 'lost': '{}', 'age_ms_p50': '{:.1f}'}
        print_table(f'frames at {self.rate:g} Hz, all runs; 0 lost are required', frames, columns)
        columns = {'p50_ms': '{:.1f}', 'p95_ms': '{:.1f}'}
        print_table(f'hops, median of {self.runs} runs; p50 <= 10 required', medians, columns)
        print_table('from images to answers', answers, columns)
        figures |= {
            'required': {'lost': 0, 'hop_p50_ms': 10.0},
            'hop': HOP,
            'age_is': AGE,
            'answers_are': 'From publishing the images to the answer of a stage at the listener; '
            'without objects no stage works, so each step is a hop and the threads on its way.',
            'rmw': get_rmw_implementation_identifier(),
            'frames': frames,
            'hops': medians,
            'answers': answers,
            'warm_up': warm_up,
            'runs': runs,
        }
        write_figures(self.out, self.name, figures)

    def _arguments(self, scratch: Path) -> GraphArguments:
        database = self.database or scratch / 'objects'
        return GraphArguments(
            color_topic=COLOR,
            camera_info_topic=INFO,
            depth_topic=DEPTH,
            image_reliability=self.reliability,
            database=str(database.resolve()),
        )

    def _run(
        self,
        sender: Sender,
        diagnostics: Diagnostics,
        arrivals: Any,
        graph: GraphProcesses,
        seconds: float,
    ) -> dict[str, Any]:
        """Send for so long; what arrived of it."""
        before = {name: int(f['joined']) for name, f in _settled(diagnostics, graph).items()}
        sender.sent.clear()
        sender.publish_s.clear()
        late_s = []
        count, begun = round(seconds * self.rate), time.monotonic()
        for k in range(count):
            for part, topics in enumerate(((COLOR, DEPTH, INFO), (DETECTIONS,), (POSES,))):
                due = begun + (k + part / 3) / self.rate
                time.sleep(max(0.0, due - time.monotonic()))
                if part == 0:
                    late_s.append(time.monotonic() - due)
                sender.send(*topics)
        after = _settled(diagnostics, graph)
        joined = {name: int(after[name]['joined']) - before[name] for name in TAKE_IMAGES}
        arrived: dict[str, dict[int, int]] = defaultdict(dict)  # topic: stamp: monotonic ns
        decoded: dict[str, dict[int, int]] = defaultdict(dict)
        for came in _drained(arrivals):
            arrived[came.topic].setdefault(came.stamp_ns, came.arrived_ns)
            decoded[came.topic].setdefault(came.stamp_ns, came.decoded_ns)
        images = sender.sent[COLOR]
        return {
            'published': count,
            'joined': joined,
            'lost': {name: count - n for name, n in joined.items()},
            'age_ms_p50': {name: float(after[name]['age_ms_p50']) for name in TAKE_IMAGES},
            'sender_late': milliseconds(late_s),
            'publish_images': milliseconds(sender.publish_s),
            'hops': {
                f'{name} {what}': _delays(sender.sent[topic], times[topic])
                for topic, name in HOPS.items()
                for what, times in (('arrived', arrived), ('decoded', decoded))
            },
            'answers': {topic: _delays(images, arrived[topic]) for topic in ANSWERS},
        }


def _delays(sent: Mapping[int, int], came: Mapping[int, int]) -> dict[str, float | int | None]:
    """Of what has come; both by stamp."""
    return milliseconds((came[stamp] - sent[stamp]) / 1e9 for stamp in sent.keys() & came.keys())


def _medians(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Of each percentile over the runs; None where a run has none."""
    out: dict[str, dict[str, Any]] = {}
    for name in runs[0]:
        values = {key: [run[name][key] for run in runs] for key in ('p50_ms', 'p95_ms')}
        out[name] = {k: None if None in v else median(v) for k, v in values.items()}
    return out


def _settled(diagnostics: Diagnostics, graph: GraphProcesses) -> dict[str, dict[str, str]]:
    """The facts of all that take images, once as many frames as a second before are joined."""
    before: dict[str, str] = {}
    for _ in range(60):
        now_ns = time.time_ns()
        _wait(lambda since=now_ns: bool(diagnostics.after(since)), graph, 'diagnostics')
        facts = diagnostics.after(now_ns)
        joined = {name: of_node['joined'] for name, of_node in facts.items()}
        if joined == before:
            return facts
        before = joined
    raise GsPoseError('frames are still joined a minute after the last was sent')


def _drained(arrivals: Any) -> Iterator[Arrival]:
    """What is in the queue; a pipe may be half a second behind."""
    while True:
        try:
            yield arrivals.get(timeout=0.5)
        except queue.Empty:
            return


def _wait(done: Callable[[], bool], graph: GraphProcesses, what: str) -> None:
    deadline = time.monotonic() + 60.0
    while not done():
        graph.check()
        if time.monotonic() > deadline:
            raise GsPoseError(f'the nodes give no {what} within 60 s')
        time.sleep(0.05)


if __name__ == '__main__':
    tyro.cli(MeasureTransport).run()
