"""`~/estimate_pose`: one image in, poses out - what an arm asks before it grasps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.conversions import estimate_to_message, failed_pose
from gs_pose_ros.nodes.detector import DetectionMethod
from gs_pose_ros.nodes.frame_input import ImageSet
from gs_pose_ros.nodes.object_watch import ObjectWatch
from gs_pose_ros.nodes.pose_initializer import InitializationMethod
from gs_pose_ros.nodes.stage import Stopwatch
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.detection import TemplateDetector
from gs_pose_ros.pose.retrieval import TemplateRetrieval
from gs_pose_ros.srv import EstimatePose

if TYPE_CHECKING:
    from gs_pose_ros.nodes.gs_refiner import RefinerNode


@dataclass(frozen=True)
class EstimateSettings:
    """Parameters of the stages that the service runs before the refiner."""

    detector: TemplateDetector = field(default_factory=TemplateDetector)
    retrieval: TemplateRetrieval = field(default_factory=TemplateRetrieval)


class PoseService:
    """Detects, initializes and refines in the executor's thread, beside the live line."""

    def __init__(
        self,
        node: RefinerNode,
        objects: ObjectWatch,
        detect: DetectionMethod | None = None,
        initialize: InitializationMethod | None = None,
    ) -> None:
        self._node, self._objects = node, objects
        self._detect, self._initialize = detect, initialize
        self._service = node.create_service(
            EstimatePose, '~/estimate_pose', self._answer, callback_group=node.service_group
        )

    def close(self) -> None:
        """Take the service down."""
        self._node.destroy_service(self._service)

    def _answer(
        self, request: EstimatePose.Request, response: EstimatePose.Response
    ) -> EstimatePose.Response:
        response.poses.header = request.color.header
        try:
            self._estimate(request, response.poses)
            response.success, response.message = True, response.poses.reason
        except GsPoseError as error:
            response.poses.status = ObjectPoseArray.STATUS_BAD_INPUT
            response.poses.reason = response.message = str(error)
        except Exception as error:  # the node's boundary: the caller gets an answer
            response.poses.status = ObjectPoseArray.STATUS_ERROR
            response.poses.reason = response.message = self._node.failed(error)
        return response

    def _estimate(self, request: EstimatePose.Request, out: ObjectPoseArray) -> None:
        watch = Stopwatch()
        depth = request.depth if request.depth.width else None
        frame = ImageSet(request.color, request.camera_info, depth).frame(
            self._node.settings.input.rectified
        )
        known = self._objects.references
        wanted: list[ObjectReference] = []
        for object_id in request.object_ids or list(known):
            if object_id in known:
                wanted.append(known[object_id])
            else:
                out.poses.append(
                    failed_pose(
                        out.header,
                        object_id,
                        0,
                        ObjectPose.STATUS_UNKNOWN_OBJECT,
                        self._objects.why_not(object_id),
                    )
                )
        if not wanted:
            out.status = ObjectPoseArray.STATUS_NO_OBJECTS
            reasons = '; '.join(pose.reason for pose in out.poses)
            out.reason = reasons or self._objects.reason_for_none()
            return
        s = self._node.settings.estimate
        detections = (self._detect or s.detector).detect(frame, wanted)
        seen: Counter[str] = Counter()
        for detection in detections:
            reference = known[detection.object_id]
            hypotheses = (self._initialize or s.retrieval).initialize(frame, reference, detection)
            estimate = self._node.refinement.refine(
                frame,
                reference,
                [hypothesis.T_cam_obj for hypothesis in hypotheses],
                detection.full_mask(frame.camera.shape),
            )
            instance = seen[detection.object_id]
            seen[detection.object_id] += 1
            stage = ObjectPose.STAGE_REFINED
            out.poses.append(
                estimate_to_message(out.header, detection.object_id, instance, estimate, stage)
            )
        for reference in wanted:
            if not seen[reference.object_id]:
                reason = f'{reference.object_id!r} is not in the image'
                status = ObjectPose.STATUS_NOT_FOUND
                out.poses.append(failed_pose(out.header, reference.object_id, 0, status, reason))
        good = any(pose.status == ObjectPose.STATUS_OK for pose in out.poses)
        out.status = ObjectPoseArray.STATUS_OK if good else ObjectPoseArray.STATUS_NOT_FOUND
        out.reason = '' if good else '; '.join(pose.reason for pose in out.poses)
        out.compute_time = watch()
