"""Arrays of detections and poses from other nodes: of a bad entry nothing but itself is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import ObjectDetection, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.stage import Stage

# More than is ever in one image, and little enough that one message keeps a node from the images
# that follow for some seconds at most.
MOST_INSTANCES = 64
_MOST_ENTRIES = 1000  # hypotheses of all of them
_MOST_INSTANCE = 999  # instances become names of topics and frames
_LONGEST_ID = 100  # what the database allows
_LONGEST_REASON = 500
_REASONS = frozenset(
    (
        ObjectPoseArray.STATUS_NOT_FOUND,
        ObjectPoseArray.STATUS_NO_CAMERA_INFO,
        ObjectPoseArray.STATUS_BAD_INPUT,
        ObjectPoseArray.STATUS_NO_OBJECTS,
        ObjectPoseArray.STATUS_ERROR,
        ObjectPoseArray.STATUS_LOST,
        ObjectPose.STATUS_UNKNOWN_OBJECT,
    )
)
T = TypeVar('T')


class Entries:
    """Reads arrays of one topic; what of them cannot be used is left out, counted and named."""

    def __init__(self, node: Stage[Any], topic: str) -> None:
        self._node, self._topic = node, topic
        self.skipped = 0  # entries so far
        self.reason = ''  # what was left out of the last array

    def read(
        self,
        entries: Any,  # a list of messages
        read: Callable[[Any], T],
        most: int = _MOST_ENTRIES,
    ) -> list[T]:
        """What `read(entry)` makes of the first `most`, without those that raise GsPoseError."""
        out: list[T] = []
        bad = ''
        for index, entry in enumerate(entries[:most]):
            try:
                out.append(read(entry))
            except GsPoseError as error:
                bad = bad or f'entry {index}: {error}'
        skipped = len(entries) - len(out)
        if not bad and skipped:
            bad = f'at most {most} are taken'
        self.skipped += skipped
        self.reason = (
            f'{skipped} of {len(entries)} entries of {self._topic} are left out; {bad}'
            if skipped
            else ''
        )
        self._node.fault(self._topic, self.reason)
        return out


def check_entry(entry: ObjectDetection | ObjectPose, frame_id: str) -> None:
    """Raise GsPoseError if it can be none of an image in that frame.

    That is by the object's name, the instance, the score or the frame (empty: the image's).
    """
    object_id, instance, score = entry.object_id, entry.instance, entry.score
    check_name(object_id)
    if instance > _MOST_INSTANCE:
        raise GsPoseError(f'{object_id!r}: instance {instance} is above {_MOST_INSTANCE}')
    if not -1e-6 <= score <= 1 + 1e-6:
        raise GsPoseError(f'{object_id!r}: score {score:g} is not within 0 to 1')
    if entry.header.frame_id not in ('', frame_id):
        raise GsPoseError(
            f'{object_id!r}: its frame is {entry.header.frame_id[:60]!r}, that of the image '
            f'{frame_id[:60]!r}'
        )


def check_name(object_id: str) -> None:
    """Raise GsPoseError if no object can have that name, and an answer should not repeat it."""
    if len(object_id) > _LONGEST_ID:
        raise GsPoseError(
            f'object_id {object_id[:20]!r}... has {len(object_id)} characters, '
            f'more than {_LONGEST_ID}'
        )


def passed_on(status: int, reason: str) -> tuple[int, str]:
    """Status and reason of a stage before, which are the answer where it has no pose."""
    if status not in _REASONS:
        unknown = f'the stage before has no pose, and says why by status {status}, which is none'
        return ObjectPoseArray.STATUS_BAD_INPUT, unknown
    return status, reason if len(reason) <= _LONGEST_REASON else f'{reason[:_LONGEST_REASON]}...'
