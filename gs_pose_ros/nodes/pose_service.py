"""`~/estimate_pose`: one image in, poses out - what an arm asks before it grasps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection, PoseEstimate
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.msg import ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import estimate_to_message, failed_pose
from gs_pose_ros.nodes.runtime.frame_input import ImageSet
from gs_pose_ros.nodes.runtime.object_watch import ObjectWatch
from gs_pose_ros.nodes.runtime.stage import Stopwatch
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from gs_pose_ros.pose.stages import Detector, Initializer
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
        detect: Detector | None = None,
        initialize: Initializer | None = None,
    ) -> None:
        self._node, self._objects = node, objects
        self._detect, self._initialize = detect, initialize
        node.serve(EstimatePose, '~/estimate_pose', self._answer)

    def _answer(
        self, request: EstimatePose.Request, response: EstimatePose.Response
    ) -> EstimatePose.Response:
        watch, out = Stopwatch(), response.poses
        out.header = request.color.header
        try:
            poses = self._estimate(request)
            good = any(pose.status == ObjectPose.STATUS_OK for pose in poses)
            response.success, out.poses = True, poses
            out.status = ObjectPoseArray.STATUS_OK if good else ObjectPoseArray.STATUS_NOT_FOUND
            out.reason = '' if good else '; '.join(pose.reason for pose in poses)
            if not poses:
                out.status = ObjectPoseArray.STATUS_NO_OBJECTS
                out.reason = self._objects.reason_for_none()
        except GsPoseError as error:
            out.status, out.reason = ObjectPoseArray.STATUS_BAD_INPUT, str(error)
        except Exception as error:  # the node's boundary: the caller gets an answer
            out.status, out.reason = ObjectPoseArray.STATUS_ERROR, self._node.failed(error)
        response.message, out.compute_time = out.reason, watch()
        return response

    def _estimate(self, request: EstimatePose.Request) -> list[ObjectPose]:
        """For every wanted object its poses, or one that says why there is none."""
        header, known = request.color.header, self._objects.references
        depth = request.depth if request.depth.width else None
        images = ImageSet(request.color, request.camera_info, depth)
        frame = images.frame(self._node.settings.input)
        wanted = list(request.object_ids) or list(known)
        s = self._node.settings.estimate
        references = [known[object_id] for object_id in wanted if object_id in known]
        method = self._detect or s.detector
        detections = method.detect(frame, references) if references else []
        poses: list[ObjectPose] = []
        for object_id in wanted:
            found = [d for d in detections if d.object_id == object_id]
            if object_id not in known:
                reason = self._objects.why_not(object_id)
                status = ObjectPose.STATUS_UNKNOWN_OBJECT
                poses.append(failed_pose(header, object_id, 0, status, reason))
            elif not found:
                reason, status = f'{object_id!r} is not in the image', ObjectPose.STATUS_NOT_FOUND
                poses.append(failed_pose(header, object_id, 0, status, reason))
            for instance, detection in enumerate(found):
                estimate = self._refined(frame, known[object_id], detection)
                stage = ObjectPose.STAGE_REFINED
                poses.append(estimate_to_message(header, object_id, instance, estimate, stage))
        return poses

    def _refined(
        self, frame: RGBDFrame, reference: ObjectReference, detection: Detection
    ) -> PoseEstimate:
        initializer = self._initialize or self._node.settings.estimate.retrieval
        hypotheses = initializer.initialize(frame, reference, detection)
        return self._node.refinement.refine(
            frame,
            reference,
            [hypothesis.T_cam_obj for hypothesis in hypotheses],
            detection.full_mask(frame.camera.shape),
        )
