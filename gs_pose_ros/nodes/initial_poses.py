"""The hypotheses of initial poses by the instance that they are of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.entries import MOST_INSTANCES, Entries, check_entry
from gs_pose_ros.recording.frame_decoding import pose_from_message


class Hypotheses(NamedTuple):
    """What there is of one instance: the first message, and its poses [4, 4], best first."""

    first: ObjectPose  # may say that there is none, and why
    T_cam_obj: list[NDArray[np.float64]]


def hypotheses(msg: ObjectPoseArray, frame_id: str, entries: Entries) -> list[Hypotheses]:
    """Of each of the first 64 instances in an image of that frame.

    What is left out `entries` counts and names.
    """
    found: dict[tuple[str, int], Hypotheses] = {}

    def take(pose: ObjectPose) -> None:
        check_entry(pose, frame_id)
        key = pose.object_id, pose.instance
        if key not in found and len(found) == MOST_INSTANCES:
            raise GsPoseError(
                f'it is beyond the {MOST_INSTANCES} instances that are taken of one message'
            )
        good = pose.status == ObjectPose.STATUS_OK
        T = [pose_from_message(pose.pose.pose)] if good else []
        found.setdefault(key, Hypotheses(pose, [])).T_cam_obj.extend(T)

    entries.read(msg.poses, take)
    return list(found.values())
