"""`~/estimate_pose`: one image in, poses out - what an arm asks before it grasps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import estimate_to_message, failed_pose
from gs_pose_ros.nodes.runtime.entries import check_name
from gs_pose_ros.nodes.runtime.frame_input import ImageSet, InputSettings
from gs_pose_ros.nodes.runtime.object_watch import ObjectWatch
from gs_pose_ros.nodes.runtime.stage import Stage, Stopwatch
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.pose.distinct import ONE_PLACE, center_gap, distinct
from gs_pose_ros.pose.estimator import ObjectEstimate, PoseEstimator
from gs_pose_ros.srv import EstimatePose

_MOST_NAMES = 1000  # of a request


class PoseService:
    """Estimates poses in the executor's thread, beside the live line."""

    def __init__(
        self,
        node: Stage[Any],
        objects: ObjectWatch,
        estimator: Callable[[], PoseEstimator],
        camera: Callable[[], InputSettings],
    ) -> None:
        """`estimator()` and `camera()` give the stages and the input settings of the moment."""
        self._node, self._objects = node, objects
        self._estimator, self._camera = estimator, camera
        node.serve(EstimatePose, '~/estimate_pose', self._answer, most_at_once=3)

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
        depth = request.depth if request.depth.width or request.depth.height else None
        frame = ImageSet(request.color, request.camera_info, depth).frame(self._camera())
        if len(request.object_ids) > _MOST_NAMES:
            raise GsPoseError(
                f'object_ids has {len(request.object_ids)} names: at most {_MOST_NAMES}'
            )
        for name in request.object_ids:
            check_name(name)
        wanted = list(dict.fromkeys(request.object_ids)) or list(known)
        poses = [
            failed_pose(
                header, name, 0, ObjectPose.STATUS_UNKNOWN_OBJECT, self._objects.why_not(name)
            )
            for name in wanted
            if name not in known
        ]
        references = [known[name] for name in wanted if name in known]
        estimates = self._estimator().estimate(frame, references) if references else []
        ended = _doubles(estimates, known)
        for e in estimates:
            if e.detection is None:
                status, reason = ObjectPose.STATUS_NOT_FOUND, e.pose.reason
                poses.append(failed_pose(header, e.object_id, 0, status, reason))
            elif (e.object_id, e.instance) in ended:
                lost, reason = ObjectPose.STATUS_LOST, 'it is where a better one is: one object'
                poses.append(failed_pose(header, e.object_id, e.instance, lost, reason))
            else:
                stage = ObjectPose.STAGE_REFINED
                poses.append(estimate_to_message(header, e.object_id, e.instance, e.pose, stage))
        return poses


def _doubles(
    estimates: list[ObjectEstimate], known: Mapping[str, SplatObject]
) -> set[tuple[str, int]]:
    """Object and instance of those that were led to where a better one of the same object is."""

    def same(a: ObjectEstimate, b: ObjectEstimate) -> bool:
        T_a, T_b = a.pose.T_cam_obj, b.pose.T_cam_obj
        return a.object_id == b.object_id and center_gap(known[a.object_id], T_a, T_b) < ONE_PLACE

    good = sorted((e for e in estimates if e.found), key=lambda e: -e.pose.score)
    found, kept = (
        {(e.object_id, e.instance) for e in some} for some in (good, distinct(good, same))
    )
    return found - kept
