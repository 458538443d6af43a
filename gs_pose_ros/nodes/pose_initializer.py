"""The pose initializer node: from each detection to hypotheses of the object's pose."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from std_msgs.msg import Header

from gs_pose_ros.bounds import Queue
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.msg import ObjectDetection, ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import (
    detection_from_message,
    estimate_to_message,
    failed_pose,
)
from gs_pose_ros.nodes.runtime.entries import MOST_INSTANCES, Entries, check_entry, passed_on
from gs_pose_ros.nodes.runtime.frame_history import FrameHistory
from gs_pose_ros.nodes.runtime.frame_input import FrameInput, ImageSet, InputSettings
from gs_pose_ros.nodes.runtime.frame_worker import FrameWorker
from gs_pose_ros.nodes.runtime.object_watch import ObjectWatch
from gs_pose_ros.nodes.runtime.parameters import setting
from gs_pose_ros.nodes.runtime.stage import QOS_OUT, Stage, StageSettings, Stopwatch, run
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from gs_pose_ros.pose.rehearsal import painted_box, rehearsal
from gs_pose_ros.pose.stages import Initializer
from gs_pose_ros.recording.frame_decoding import stamp_to_ns


@dataclass(frozen=True)
class InitializerSettings(StageSettings):
    """Parameters of the pose initializer node."""

    input: InputSettings = field(default_factory=InputSettings)
    history: Queue = setting(
        60, 'Image sets that are held; of those older than 0.5 s, one in 0.1 s.'
    )
    retrieval: TemplateRetrieval = field(default_factory=TemplateRetrieval)


class PoseInitializerNode(Stage[InitializerSettings]):
    """Publishes `~/initial_poses` for every message of detections."""

    def __init__(self, method: Initializer | None = None, **kwargs: Any) -> None:
        super().__init__('pose_initializer', InitializerSettings(), **kwargs)
        self._method = method

    def configure(self) -> None:
        """Prepare the outputs and learn of the objects."""
        self._out = self.create_lifecycle_publisher(ObjectPoseArray, '~/initial_poses', QOS_OUT)
        self.while_configured.callback(self.destroy_lifecycle_publisher, self._out)
        if self._method is None:
            _rehearse(self.settings.input.use_depth)
        self._objects = ObjectWatch(
            self, None if self._method else self.settings.retrieval.prepare
        )
        self.while_configured.callback(self._objects.close)

    def activate(self) -> None:
        """Start to take images and detections."""
        self._worker: FrameWorker[tuple[ImageSet, ObjectDetectionArray]] = self.worker(
            self._initialize, self._failed
        )
        self._history = FrameHistory(self.settings.history)
        self._entries = Entries(self, 'detections')
        self._early: deque[ObjectDetectionArray] = deque(maxlen=10)
        group = self.input_group
        self.subscribe(ObjectDetectionArray, 'detector/detections', self._on_detections, group)
        self.subscribe(Header, 'detector/searching', self._on_searching, group)
        self._input = FrameInput(self, self.settings.input, self._on_images, self._on_jump)
        self.while_active.callback(self._input.close)

    def facts(self) -> dict[str, str]:
        """What comes in."""
        if not self.active:
            return {}
        return {'skipped_entries': str(self._entries.skipped), **self._input.facts()}

    def check(self) -> None:
        """Say what is missing."""
        self.fault('input', self._input.problem()[1])

    # One callback group for all of these: they never run at the same time.

    def _on_images(self, images: ImageSet) -> None:
        self._history.add(images)
        early, self._early = self._early, deque(maxlen=10)
        for msg in early:
            self._on_detections(msg)

    def _on_searching(self, msg: Header) -> None:
        self._history.pin(stamp_to_ns(msg.stamp))

    def _on_detections(self, msg: ObjectDetectionArray) -> None:
        """Join detections with their image, by exact stamp."""
        stamp_ns = stamp_to_ns(msg.header.stamp)
        images = self._history.at(stamp_ns)
        if images is not None:
            self.fault('history', '')
            self._worker.put((images, msg))
        elif not msg.detections:  # the detector's reason is the answer
            self._publish(msg.header, *passed_on(msg.status, msg.reason))
        elif self._history.awaits(stamp_ns):  # they overtook their image
            self._early.append(msg)
        else:
            reason = f'detections: {self._history.why_not(stamp_ns)}'
            self.fault('history', reason)
            self._publish(msg.header, ObjectPoseArray.STATUS_BAD_INPUT, reason)

    def _initialize(self, item: tuple[ImageSet, ObjectDetectionArray]) -> None:
        watch, (images, msg) = Stopwatch(), item
        if not msg.detections:  # the detector's reason is the answer
            self._publish(images.header, *passed_on(msg.status, msg.reason))
            return
        try:
            frame = images.frame(self.settings.input)
        except GsPoseError as error:
            self.fault('images', str(error))
            self._publish(images.header, ObjectPoseArray.STATUS_BAD_INPUT, str(error))
            return
        self.fault('images', '')
        unread: list[ObjectPose] = []

        def initialize(detection: ObjectDetection) -> list[ObjectPose]:
            check_entry(detection, images.header.frame_id)
            try:
                return self._hypotheses(frame, detection)
            except GsPoseError as error:
                status, reason = ObjectPose.STATUS_BAD_INPUT, str(error)
                unread.append(_failed(detection, status, reason))
                raise

        found = self._entries.read(msg.detections, initialize, MOST_INSTANCES)
        poses = [pose for of_one in found for pose in of_one] + unread
        good = [pose for pose in poses if pose.status == ObjectPose.STATUS_OK]
        status, reason = ObjectPoseArray.STATUS_OK, ''
        if not good:
            status = ObjectPoseArray.STATUS_NOT_FOUND
            reason = '; '.join(pose.reason for pose in poses)
        if not poses:
            status, reason = ObjectPoseArray.STATUS_BAD_INPUT, self._entries.reason
        self._publish(images.header, status, reason, poses, watch())
        self.took(watch())

    def _hypotheses(self, frame: RGBDFrame, msg: ObjectDetection) -> list[ObjectPose]:
        """The hypotheses for one detection, or one pose that says why there are none.

        Raises:
            GsPoseError: the detection cannot be used.

        """
        reference = self._objects.references.get(msg.object_id)
        if reference is None:
            reason = self._objects.why_not(msg.object_id)
            return [_failed(msg, ObjectPose.STATUS_UNKNOWN_OBJECT, reason)]
        detection = detection_from_message(msg, frame.camera.shape)
        method = self._method or self.settings.retrieval
        try:
            estimates = method.initialize(frame, reference, detection)
        except GsPoseError:
            raise
        except Exception as error:  # the other detections are none the worse
            return [_failed(msg, ObjectPose.STATUS_ERROR, self.failed(error))]
        if not estimates:
            reason = f'no reference view of {msg.object_id!r} resembles the detection'
            return [_failed(msg, ObjectPose.STATUS_NOT_FOUND, reason)]
        return [
            estimate_to_message(msg.header, msg.object_id, msg.instance, estimate)
            for estimate in estimates
        ]

    def _on_jump(self) -> None:
        self._worker.clear()
        self._history.clear()
        self._early.clear()

    def _failed(self, item: tuple[ImageSet, ObjectDetectionArray], error: Exception) -> None:
        self._publish(item[0].header, ObjectPoseArray.STATUS_ERROR, self.failed(error))

    def _publish(
        self,
        header: Header,
        status: int,
        reason: str,
        poses: Sequence[ObjectPose] = (),
        seconds: float = 0.0,
    ) -> None:
        out = ObjectPoseArray(header=header, status=status, reason=reason, compute_time=seconds)
        out.poses = list(poses)
        self._out.publish(out)


def _failed(detection: ObjectDetection, status: int, reason: str) -> ObjectPose:
    return failed_pose(detection.header, detection.object_id, detection.instance, status, reason)


@functools.cache
def _rehearse(use_depth: bool) -> None:
    """Load the compiled code, once in a process."""
    box = painted_box()
    frame, detection = rehearsal(box, use_depth)
    TemplateRetrieval(viewpoints=8, in_plane=4).initialize(frame, box, detection)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(PoseInitializerNode, args)


if __name__ == '__main__':
    main()
