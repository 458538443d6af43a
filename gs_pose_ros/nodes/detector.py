"""The detector node: which objects are in the image, and where.

Rests for objects that gs_refiner tracks, and looks for them again when it says they are lost.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection
from gs_pose_ros.msg import ObjectDetection, ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import detection_to_message
from gs_pose_ros.nodes.runtime.frame_input import FrameInput, ImageSet, InputSettings
from gs_pose_ros.nodes.runtime.frame_worker import FrameWorker
from gs_pose_ros.nodes.runtime.object_watch import ObjectWatch
from gs_pose_ros.nodes.runtime.parameters import setting
from gs_pose_ros.nodes.runtime.stage import QOS_OUT, Stage, StageSettings, Stopwatch, run
from gs_pose_ros.nodes.search_plan import SearchPlan, SearchSettings
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.rehearsal import painted_box, rehearsal
from gs_pose_ros.pose.stages import Detector
from gs_pose_ros.pose.verification.observation import Observation


@dataclass(frozen=True)
class DetectorSettings(SearchSettings, StageSettings):
    """Parameters of the detector node."""

    input: InputSettings = field(default_factory=InputSettings)
    object_ids: tuple[str, ...] = setting(
        ('',), 'Look for these objects only; an empty name stands for all.'
    )
    detector: TemplateDetector = field(default_factory=TemplateDetector)


class DetectorNode(Stage[DetectorSettings]):
    """Publishes `~/detections` for every image that it worked on."""

    def __init__(self, method: Detector | None = None, **kwargs: Any) -> None:
        super().__init__('detector', DetectorSettings(), **kwargs)
        self._method = method
        self._resting = ''

    def configure(self) -> None:
        """Prepare the outputs and learn of the objects."""
        self._out = self.create_lifecycle_publisher(ObjectDetectionArray, '~/detections', QOS_OUT)
        self.while_configured.callback(self.destroy_lifecycle_publisher, self._out)
        self._searching = self.create_lifecycle_publisher(Header, '~/searching', QOS_OUT)
        self.while_configured.callback(self.destroy_lifecycle_publisher, self._searching)
        if self._method is None:
            _rehearse(self.settings.input.use_depth)
        self._objects = ObjectWatch(self, None if self._method else self._prepare)
        self.while_configured.callback(self._objects.close)

    def activate(self) -> None:
        """Start to look."""
        self._plan = SearchPlan(self.settings)
        self._worker: FrameWorker[ImageSet] = self.worker(self._detect, self._failed)
        group = MutuallyExclusiveCallbackGroup()
        self.subscribe(ObjectPoseArray, 'gs_refiner/poses', self._on_poses, group)
        self._input = FrameInput(self, self.settings.input, self._worker.put, self._on_jump)
        self.while_active.callback(self._input.close)

    def check(self) -> None:
        """Say what is missing: to diagnostics, and to whoever waits for detections."""
        status, reason = self._input.problem()
        self.fault('input', reason)
        if self._input.header is not None and status in (
            ObjectDetectionArray.STATUS_NO_CAMERA_INFO,
            ObjectDetectionArray.STATUS_BAD_INPUT,
        ):
            self._publish(self._input.header, status, reason)

    def facts(self) -> dict[str, str]:
        """What is looked for."""
        if not self.active:
            return {}
        return {
            'resting': self._resting,
            'skipped': str(self._worker.replaced),
            **self._input.facts(),
        }

    def _prepare(self, reference: ObjectReference) -> None:
        self.settings.detector.prepare(reference, self.settings.input.use_depth)

    def _detect(self, images: ImageSet) -> None:
        watch, header = Stopwatch(), images.header
        wanted, effort = self._wanted()
        if not self._objects.references:
            reason = self._objects.reason_for_none()
            self.fault('no_objects', reason)
            self._publish(header, ObjectDetectionArray.STATUS_NO_OBJECTS, reason)
            return
        self.fault('no_objects', '')
        if not wanted:  # all of them are tracked
            return
        self._searching.publish(header)  # the other stages hold this image until we are done
        try:
            frame = images.frame(self.settings.input)
        except GsPoseError as error:
            self.fault('images', str(error))
            self._publish(header, ObjectDetectionArray.STATUS_BAD_INPUT, str(error))
            return
        self.fault('images', '')
        empty = images.depth is not None and frame.depth is None
        self.fault('depth', 'the depth image has no valid pixel' if empty else '')
        method = self._method or self.settings.detector
        detections = method.detect(frame, wanted, effort)
        self._plan.found({d.object_id for d in detections}, time.monotonic())
        names = ', '.join(reference.object_id for reference in wanted)
        reason = '' if detections else f'none of {names} is in the image'
        if empty and not detections:
            reason += '; the depth image has no valid pixel'
        status = (
            ObjectDetectionArray.STATUS_OK if detections else ObjectDetectionArray.STATUS_NOT_FOUND
        )
        self._publish(header, status, reason, detections, watch())
        self.took(watch())

    def _wanted(self) -> tuple[list[ObjectReference], float]:
        """The objects to look for now, and with what effort."""
        references = self._objects.references
        chosen = [name for name in self.settings.object_ids if name] or list(references)
        known = [object_id for object_id in references if object_id in chosen]
        names, effort = self._plan.next(known, time.monotonic())
        self._resting = ', '.join(object_id for object_id in known if object_id not in names)
        return [references[name] for name in names], effort

    def _on_poses(self, msg: ObjectPoseArray) -> None:
        """Which objects need no detection; others than those that are known do not count."""
        poses = [pose for pose in msg.poses if pose.object_id in self._objects.references]
        followed = {
            pose.object_id
            for pose in poses
            if pose.status == ObjectPose.STATUS_OK and pose.stage != ObjectPose.STAGE_INITIAL
        }
        others = {pose.object_id for pose in poses} - followed
        self._plan.answered(followed, others, time.monotonic())

    def _on_jump(self) -> None:
        self._worker.clear()
        self._plan = SearchPlan(self.settings)

    def _failed(self, images: ImageSet, error: Exception) -> None:
        self._publish(images.header, ObjectDetectionArray.STATUS_ERROR, self.failed(error))

    def _publish(
        self,
        header: Header,
        status: int,
        reason: str,
        detections: Sequence[Detection] = (),
        seconds: float = 0.0,
    ) -> None:
        out = ObjectDetectionArray(
            header=header, status=status, reason=reason, compute_time=seconds
        )
        seen: Counter[str] = Counter()
        messages: list[ObjectDetection] = []
        for detection in detections:
            instance = seen[detection.object_id]
            seen[detection.object_id] += 1
            messages.append(detection_to_message(header, detection, instance))
        out.detections = messages
        self._out.publish(out)


@functools.cache
def _rehearse(use_depth: bool) -> None:
    """Load the compiled code, once in a process; with few templates, as only the code counts."""
    box = painted_box()
    frame, detection = rehearsal(box, use_depth)
    detector = TemplateDetector()
    depth, color = (
        replace(p, templates=replace(p.templates, viewpoints=8, in_plane=4))
        for p in (detector.depth_proposals, detector.color_proposals)
    )
    replace(detector, depth_proposals=depth, color_proposals=color).detect(frame, [box])
    detector.first_check.glance(Observation(frame, box), detection.pose_hints)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(DetectorNode, args)


if __name__ == '__main__':
    main()
