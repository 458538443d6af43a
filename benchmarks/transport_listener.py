"""The process of `measure_transport.py` that listens, and the topics that it listens to.

It takes images as the stages do, as a fourth beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, NamedTuple

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

from gs_pose_ros.msg import ObjectDetectionArray, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import detection_from_message
from gs_pose_ros.nodes.runtime.frame_input import FrameInput, ImageSet, InputSettings
from gs_pose_ros.nodes.runtime.stage import QOS_OUT, Stage, StageSettings, run
from gs_pose_ros.recording.frame_decoding import pose_from_message, stamp_to_ns

WIDTH, HEIGHT = 640, 480
# In the namespace of the nodes, so that the listener needs no remapping.
COLOR, INFO, DEPTH = (
    f'/gs_pose/{topic}' for topic in ('color/image', 'color/camera_info', 'depth/image')
)
# Not the topics of the stages: these messages are nobody's answer.
DETECTIONS, POSES = '/gs_pose/measured/detections', '/gs_pose/measured/initial_poses'
ANSWERS = {
    'detector/detections': ObjectDetectionArray,
    'pose_initializer/initial_poses': ObjectPoseArray,
    'gs_refiner/poses': ObjectPoseArray,
}


class Arrival(NamedTuple):
    """When a message came, and when its content was decoded."""

    topic: str
    stamp_ns: int
    arrived_ns: int  # monotonic, as the next
    decoded_ns: int


@dataclass(frozen=True)
class ListenerSettings(StageSettings):
    """Parameters of the listener."""

    input: InputSettings = field(default_factory=InputSettings)


class Listener(Stage[ListenerSettings]):
    """Takes images and messages in as the stages do, with their code, and notes when."""

    def __init__(self, settings: ListenerSettings, note: Callable[[Arrival], None]) -> None:
        super().__init__('listener', settings)
        self._note = note

    def activate(self) -> None:
        """Subscribe to the images, to messages like those of the stages, and to their answers."""
        self._worker = self.worker(self._decode_images, self._failed)
        self._input = FrameInput(self, self.settings.input, self._on_images, self._worker.clear)
        self._listen(ObjectDetectionArray, DETECTIONS, _decode_detections)
        self._listen(ObjectPoseArray, POSES, _decode_poses)
        for topic, kind in ANSWERS.items():
            self._listen(kind, topic, lambda msg: None)

    def deactivate(self) -> None:
        """End the worker."""
        self._worker.stop()

    def facts(self) -> dict[str, str]:
        """What came, for the diagnostics."""
        return self._input.facts() if self.active else {}

    def _on_images(self, images: ImageSet) -> None:
        self._worker.put((time.monotonic_ns(), images))

    def _decode_images(self, item: tuple[int, ImageSet]) -> None:
        arrived_ns, images = item
        images.frame(InputSettings())
        self._note(Arrival(COLOR, images.stamp_ns, arrived_ns, time.monotonic_ns()))

    def _failed(self, _: tuple[int, ImageSet], error: Exception) -> None:
        self.failed(error)

    def _listen(self, kind: type, topic: str, decode: Callable[[Any], None]) -> None:
        def on_message(msg: Any) -> None:
            arrived_ns = time.monotonic_ns()
            decode(msg)
            stamp_ns = stamp_to_ns(msg.header.stamp)
            self._note(Arrival(topic, stamp_ns, arrived_ns, time.monotonic_ns()))

        group = MutuallyExclusiveCallbackGroup()
        self.create_subscription(kind, topic, on_message, QOS_OUT, callback_group=group)


def _decode_detections(msg: ObjectDetectionArray) -> None:
    for detection in msg.detections:
        detection_from_message(detection, (HEIGHT, WIDTH)).full_mask((HEIGHT, WIDTH))


def _decode_poses(msg: ObjectPoseArray) -> None:
    for pose in msg.poses:
        pose_from_message(pose.pose.pose)


def listen(settings: ListenerSettings, arrivals: Any) -> None:
    """The listener's process; arrivals go to the other process by a queue of multiprocessing."""
    run(lambda: Listener(settings, arrivals.put), [])


@contextmanager
def listening(settings: ListenerSettings) -> Iterator[Any]:
    """The queue of arrivals in a process of its own."""
    context = get_context('spawn')
    arrivals = context.Queue()
    process = context.Process(target=listen, args=(settings, arrivals), daemon=True)
    process.start()
    try:
        yield arrivals
    finally:
        process.terminate()
        process.join(10.0)
