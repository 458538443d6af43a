"""The refiner node: initial poses are refined, then followed from image to image.

An object that is followed needs neither detector nor initializer; both see that on `~/poses`, and
see there when it is lost. `~/estimate_pose` is here, at the end of the line, because its answer is
this node's: the other stages are called as core methods, which costs no image a second trip.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from gs_pose_ros.bounds import Many, Queue
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import PoseEstimate
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.msg import ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.detection_masks import DetectionMasks, Masks
from gs_pose_ros.nodes.initial_poses import Hypotheses, hypotheses
from gs_pose_ros.nodes.pose_output import PoseOutput
from gs_pose_ros.nodes.pose_service import PoseService
from gs_pose_ros.nodes.runtime.conversions import estimate_to_message, failed_pose
from gs_pose_ros.nodes.runtime.entries import Entries, passed_on
from gs_pose_ros.nodes.runtime.frame_history import FrameHistory
from gs_pose_ros.nodes.runtime.frame_input import FrameInput, ImageSet, InputSettings
from gs_pose_ros.nodes.runtime.frame_worker import FrameWorker
from gs_pose_ros.nodes.runtime.object_watch import ObjectWatch
from gs_pose_ros.nodes.runtime.other_settings import OtherSettings
from gs_pose_ros.nodes.runtime.parameters import setting
from gs_pose_ros.nodes.runtime.stage import Stage, StageSettings, Stopwatch, run
from gs_pose_ros.nodes.tracks import Track, Tracks
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.distinct import ONE_PLACE
from gs_pose_ros.pose.estimator import PoseEstimator, RefinerName, Refiners
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.rehearsal import painted_box, rehearsal
from gs_pose_ros.pose.stages import Detector, Initializer, Refiner, Tracker
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.recording.frame_decoding import stamp_to_ns

# Between an image and the next: an object has not moved out of a refiner's reach.
_NEAR_NS = 150_000_000
_FOLLOWED = 0.5  # diameters: hypotheses are no nearer to what they are of


@dataclass(frozen=True)
class RefinerSettings(Refiners, StageSettings):
    """Parameters of the refiner node."""

    input: InputSettings = field(default_factory=InputSettings)
    history: Queue = setting(
        100, 'Image sets that are held; of those older than 0.5 s, one in 0.1 s.'
    )
    method: RefinerName = setting(
        'lm',
        'How initial poses are refined: ours, GS-Pose, or GS2Pose; tracking is always `lm`.',
    )
    track: bool = setting(True, 'Follow refined objects from image to image.')
    max_lost_images: Many = setting(3, 'Images in a row after which a lost object is given up.')
    publish_tf: bool = setting(True, 'Publish TF from the camera to each object.')


class RefinerNode(Stage[RefinerSettings]):
    """Publishes `~/poses` for every image that it worked on, and per object what arms want."""

    def __init__(
        self,
        refine: Refiner | None = None,
        track: Tracker | None = None,
        detect: Detector | None = None,
        initialize: Initializer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__('gs_refiner', RefinerSettings(), **kwargs)
        self._refine_method, self._track_method = refine, track
        self._detect_method, self._initialize_method = detect, initialize
        self._lock = threading.Lock()
        self._forget()

    @property
    def refinement(self) -> Refiner:
        """The refiner of initial poses that the parameters choose."""
        return self._refine_method or self.settings.named(self.settings.method)

    def estimator(self) -> PoseEstimator:
        """What `~/estimate_pose` runs now."""
        return PoseEstimator(
            self._detect_method or self._detector.value,
            self._initialize_method or self._retrieval.value,
            self.refinement,
        )

    def configure(self) -> None:
        """Prepare outputs and service, and learn of the objects."""
        self._out = PoseOutput(self)
        self.while_configured.callback(self._out.close)
        faked = self._refine_method or self._track_method
        if not faked:
            _rehearse(self.settings.input.use_depth)
        self._objects = ObjectWatch(self, None if faked else self.settings.lm.prepare)
        self.while_configured.callback(self._objects.close)
        # `~/estimate_pose` finds what the graph finds: the other stages' settings are theirs.
        self._detector = OtherSettings(self, 'detector', TemplateDetector(), 'detector.')
        self.while_configured.callback(self._detector.close)
        self._retrieval = OtherSettings(
            self, 'pose_initializer', TemplateRetrieval(), 'retrieval.'
        )
        self.while_configured.callback(self._retrieval.close)
        PoseService(self, self._objects, self.estimator, lambda: self.settings.input)

    def activate(self) -> None:
        """Start to take images and initial poses."""
        self._forget()
        self._history = FrameHistory(self.settings.history)
        self._entries = Entries(self, 'initial_poses')
        self._worker: FrameWorker[None] = self.worker(self._work, self._failed)
        group = MutuallyExclusiveCallbackGroup()
        initial_poses = 'pose_initializer/initial_poses'
        self.subscribe(ObjectPoseArray, initial_poses, self._on_initial_poses, group)
        self.subscribe(ObjectDetectionArray, 'detector/detections', self._on_detections, group)
        self.subscribe(Header, 'detector/searching', self._on_searching, group)
        self._input = FrameInput(self, self.settings.input, self._on_images, self._on_jump)
        self.while_active.callback(self._input.close)

    def check(self) -> None:
        """Say what is missing: to diagnostics, and to whoever waits for poses."""
        status, reason = self._input.problem()
        self.fault('input', reason)
        if self._input.header is not None and status in (
            ObjectPoseArray.STATUS_NO_CAMERA_INFO,
            ObjectPoseArray.STATUS_BAD_INPUT,
        ):
            self._out.publish(self._input.header, status, reason)

    def facts(self) -> dict[str, str]:
        """What is followed."""
        if not self.active:
            return {}
        return {
            'tracks': str(len(self._tracks)),
            'skipped_entries': str(self._entries.skipped),
            **self._input.facts(),
        }

    # ---- inputs: remember, and wake the worker ----

    def _on_images(self, images: ImageSet) -> None:
        self._history.add(images)
        with self._lock:
            self._pending.extend(self._early)
            self._early.clear()
        self._worker.put(None)

    def _on_initial_poses(self, msg: ObjectPoseArray) -> None:
        with self._lock:
            self._pending.append(msg)
        self._worker.put(None)

    def _on_searching(self, msg: Header) -> None:
        self._history.pin(stamp_to_ns(msg.stamp))

    def _on_detections(self, msg: ObjectDetectionArray) -> None:
        self._detections.add(msg)

    def _on_jump(self) -> None:
        followed = self._tracks.all()
        self._history.clear()
        self._forget()
        if followed and self._input.header is not None:
            self._answer_lost(self._input.header, followed, 'the stamps jumped back')

    def _forget(self) -> None:
        with self._lock:
            # New objects, so that work in progress cannot write into what comes next.
            self._tracks = Tracks()
            self._pending: deque[ObjectPoseArray] = deque(maxlen=10)
            self._early: deque[ObjectPoseArray] = deque(maxlen=10)
            self._detections = DetectionMasks()

    # ---- work ----

    def _work(self, _: None) -> None:
        """One piece of work, the oldest first; wakes itself as long as there is more."""
        tracks = self._tracks
        with self._lock:
            pending = self._pending.popleft() if self._pending else None
        if pending is not None:
            self._begin(pending, tracks)
        elif tracks:
            self._follow(tracks)
        due = tracks.due()
        if self._pending or (due and self._history.newest_ns() > due[0].stamp_ns):
            self._worker.put(None)

    def _begin(self, msg: ObjectPoseArray, tracks: Tracks) -> None:
        """Refine initial poses in the image they belong to."""
        watch, stamp_ns = Stopwatch(), stamp_to_ns(msg.header.stamp)
        if not msg.poses:  # the reason of the stage before is the answer
            self._out.publish(msg.header, *passed_on(msg.status, msg.reason))
            return
        # This node may have lost the image that the detector had; the next one will do.
        images = self._history.at(stamp_ns) or self._history.near(stamp_ns, _NEAR_NS)
        if images is None and self._history.awaits(stamp_ns):  # overtook their image
            with self._lock:
                self._early.append(msg)
            return
        if images is None:
            reason = f'initial poses: {self._history.why_not(stamp_ns)}'
            self.fault('history', reason)
            self._out.publish(msg.header, ObjectPoseArray.STATUS_BAD_INPUT, reason)
            return
        self.fault('history', '')
        frame = self._frame(images)
        if frame is None:
            return
        masks = self._detections.at(images.stamp_ns, frame.camera.shape)
        instances = hypotheses(msg, images.header.frame_id, self._entries)
        if not instances:
            status = ObjectPoseArray.STATUS_BAD_INPUT
            self._out.publish(images.header, status, self._entries.reason)
            return
        out = []
        for instance in instances:
            mask = masks.get((instance.first.object_id, instance.first.instance))
            answer = self._begin_one(frame, instance, mask, tracks)
            if answer is not None:
                answer.header = images.header
                out.append(answer)
        if out:
            self._answer(images, frame, out, masks, watch())

    def _begin_one(
        self,
        frame: RGBDFrame,
        found: Hypotheses,
        mask: NDArray[np.bool_] | None,
        tracks: Tracks,
    ) -> ObjectPose | None:
        """The refined pose of one instance, now followed; None if it is followed already."""
        first, starts = found
        name, instance = first.object_id, first.instance
        failed = functools.partial(failed_pose, first.header, name, instance)
        if first.status != ObjectPose.STATUS_OK:
            return failed(*passed_on(first.status, first.reason))  # the initializer's reason
        reference = self._objects.references.get(name)
        if reference is None:
            return failed(ObjectPose.STATUS_UNKNOWN_OBJECT, self._objects.why_not(name))
        near = tracks.near(name, reference, frame.stamp_ns, starts[0], _FOLLOWED)
        if near and not near[0].lost_images:
            return None
        try:
            estimate = self.refinement.refine(frame, reference, starts, mask)
        except Exception as error:  # what is followed, and the other instances, are none the worse
            return failed(ObjectPose.STATUS_ERROR, self.failed(error))
        if estimate.found:
            T, stamp_ns = estimate.T_cam_obj, frame.stamp_ns
            here = tracks.near(name, reference, stamp_ns, T, ONE_PLACE)
            if here and not here[0].lost_images:  # two detections, one object
                return None
            for lost in here:
                tracks.end(lost)
            if self.settings.track:
                instance = tracks.begin(name, instance, stamp_ns, T).instance
        return estimate_to_message(
            first.header, name, instance, estimate, ObjectPose.STAGE_REFINED
        )

    def _follow(self, tracks: Tracks) -> None:
        """Move the tracks that are furthest behind to a later image."""
        watch, due = Stopwatch(), tracks.due()
        # Twice the time of one step: what is behind catches up, what is not sees every image.
        recent = list(self.durations_s)[-9:]
        step_ns = round(2e9 * float(np.median(recent))) if recent else 0
        images = self._history.after(due[0].stamp_ns, step_ns)
        frame = self._frame(images) if images is not None else None
        if images is None:
            return
        if frame is None:  # the image cannot be used: skip it
            for track in due:
                track.moved_to(images.stamp_ns, track.T_cam_obj)
            return
        method = self._track_method or self.settings.lm
        answers: dict[tuple[str, int], ObjectPose] = {}
        for track in due:
            reference = self._objects.references.get(track.object_id)
            if reference is None:  # removed while it was followed
                tracks.end(track)
                reason = self._objects.why_not(track.object_id)
                estimate = PoseEstimate.lost(track.T_cam_obj, reason, frame.stamp_ns)
            else:
                predicted = track.predicted(images.stamp_ns)
                estimate = method.track(frame, reference, track.T_cam_obj, predicted)
                good = estimate.found
                track.lost_images = 0 if good else track.lost_images + 1
                T = estimate.T_cam_obj if good else track.T_cam_obj
                track.moved_to(images.stamp_ns, T)
                if track.lost_images >= self.settings.max_lost_images:
                    tracks.end(track)
            key, stage = (track.object_id, track.instance), ObjectPose.STAGE_TRACKED
            answers[key] = estimate_to_message(images.header, *key, estimate, stage)
        for name in {track.object_id for track in due} & self._objects.references.keys():
            for double, kept in tracks.end_doubles(name, self._objects.references[name]):
                reason = f'it is where instance {kept.instance} is: one object'
                answers[name, double.instance] = failed_pose(
                    images.header, name, double.instance, ObjectPose.STATUS_LOST, reason
                )
        if tracks is self._tracks:  # else the stamps have jumped back meanwhile
            masks = self._detections.at(images.stamp_ns, frame.camera.shape)
            self._answer(images, frame, list(answers.values()), masks, watch())
        self.took(watch())

    def _frame(self, images: ImageSet) -> RGBDFrame | None:
        """The frame, or None after saying why there is none."""
        try:
            frame = images.frame(self.settings.input)
        except GsPoseError as error:
            self.fault('images', str(error))
            self._out.publish(images.header, ObjectPoseArray.STATUS_BAD_INPUT, str(error))
            return None
        self.fault('images', '')
        empty = images.depth is not None and frame.depth is None
        self.fault('depth', 'the depth image has no valid pixel' if empty else '')
        return frame

    # ---- answers ----

    def _answer(
        self,
        images: ImageSet,
        frame: RGBDFrame,
        poses: list[ObjectPose],
        masks: Masks,
        seconds: float,
    ) -> None:
        good = any(pose.status == ObjectPose.STATUS_OK for pose in poses)
        lost = any(pose.status == ObjectPose.STATUS_LOST for pose in poses)
        status, reason = ObjectPoseArray.STATUS_OK, ''
        if not good:
            status = ObjectPoseArray.STATUS_LOST if lost else ObjectPoseArray.STATUS_NOT_FOUND
            reason = '; '.join(f'{pose.object_id}: {pose.reason}' for pose in poses)
        with_tf = self.settings.publish_tf
        self._out.publish(images.header, status, reason, poses, seconds, with_tf)
        self._out.draw(images.header, frame, poses, self._objects.references, masks)

    def _answer_lost(self, header: Header, tracks: Sequence[Track], reason: str) -> None:
        poses = [
            failed_pose(header, t.object_id, t.instance, ObjectPose.STATUS_LOST, reason)
            for t in tracks
        ]
        self._out.publish(header, ObjectPoseArray.STATUS_LOST, reason, poses)

    def _failed(self, _: None, error: Exception) -> None:
        """What was being worked on is unknown: give up all tracks and start afresh."""
        reason, followed = self.failed(error), self._tracks.all()
        self._forget()
        header = self._input.header or Header()
        self._out.publish(header, ObjectPoseArray.STATUS_ERROR, reason)
        if followed:
            self._answer_lost(header, followed, reason)


@functools.cache
def _rehearse(use_depth: bool) -> None:
    """Load the compiled code, once in a process."""
    box, lm = painted_box(), LMRefiner()
    frame, detection = rehearsal(box, use_depth)
    T_cam_obj = detection.pose_hints[0]
    lm.refine(frame, box, [T_cam_obj], detection.full_mask(frame.camera.shape))
    lm.track(frame, box, T_cam_obj)
    # Asked when a pose looks doubtful.
    lm.verification.keypoints(Observation(frame, box), T_cam_obj)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(RefinerNode, args)


if __name__ == '__main__':
    main()
