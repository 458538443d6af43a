"""The frames, transforms and odometry of a bag, read without ROS.

What is read here goes through the same decoding and the same checks as the live topics.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.recording.bag_files import OpenBag, open_bag
from gs_pose_ros.recording.camera_topics import (
    BagInput,
    CameraTopics,
    find_topics,
    is_depth_alone_rectified,
    says_rectified,
)
from gs_pose_ros.recording.frame_decoding import (
    frame_from_messages,
    pose_from_message,
    stamp_to_ns,
    transform_from_message,
)
from gs_pose_ros.recording.joining import Joined, StampJoin
from gs_pose_ros.recording.rectification import without_distortion
from gs_pose_ros.recording.transform_tree import TransformTree

_TF = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')  # the second of old ROS 1
_ODOMETRY = 'nav_msgs/msg/Odometry'
# Odometry that is silent for longer has lost its way: nothing is known in between.
_ODOMETRY_GAP_NS = 500_000_000
_ORIGIN = 'origin of the odometry'

LeftOut = Callable[[int, str], None]  # of an image, its stamp (ns) and the reason


@dataclass(frozen=True)
class BagFrame:
    """A frame and the coordinate frame that its poses are in."""

    frame: RGBDFrame
    frame_id: str


@dataclass(frozen=True)
class Odometry:
    """Where `child_frame` was over time in the odometry's own frame."""

    child_frame: str
    _motion: TransformTree  # from child_frame to _ORIGIN

    def pose(self, stamp_ns: int) -> NDArray[np.float64]:
        """T_odom_child [4, 4] at a time, interpolated.

        Raises:
            UnknownTransform: it is not known at that time.

        """
        return self._motion.lookup(_ORIGIN, self.child_frame, stamp_ns)


def read_frames(
    bag: Path,
    topics: CameraTopics | None = None,
    rectified: bool = False,
    stamp_tolerance: float = 0.0,
) -> Iterator[RGBDFrame]:
    """The undistorted frames of a bag, joined by stamp, in the order of recording.

    Stamps may differ by `stamp_tolerance` s. Colour images that do not become a frame are counted
    in a warning of the log.

    Raises:
        GsPoseError: the bag or a topic is missing, a message cannot be used, or none joins.

    """
    wanted = BagInput(stamp_tolerance=stamp_tolerance)
    for item in read_bag_frames(bag, topics, rectified, wanted):
        yield item.frame


def read_bag_frames(
    bag: Path,
    topics: CameraTopics | None = None,
    rectified: bool = False,
    wanted: BagInput | None = None,
    left_out: LeftOut | None = None,
    tf: TransformTree | None = None,
    roots: Iterable[Path] = (),
) -> Iterator[BagFrame]:
    """As `read_frames`, with the coordinate frame of each.

    `wanted` chooses topics where `topics` does not. `left_out(stamp_ns, reason)` is told of each
    colour image that does not become a frame. `tf` is what TF says, if it was read before. Only
    files under `roots` are read, if there are any.
    """
    wanted, roots = wanted or BagInput(), list(roots)
    chosen = find_topics(bag, wanted=wanted, roots=roots) if topics is None else topics
    reasons: Counter[str] = Counter()

    def transform_at(target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        nonlocal tf
        if tf is None:
            tf = read_transforms(bag, roots)
        return tf.lookup(target, source, stamp_ns)

    is_flat = is_depth_alone_rectified(chosen.color, chosen.depth) and not rectified
    with open_bag(bag, roots) as reader:
        joined = _joined(
            reader,
            chosen,
            wanted.tolerance_ns,
            left_out or (lambda _, reason: reasons.update([reason])),
        )
        for item in joined:
            depth_info = item.depth_info
            if depth_info is None and is_flat:
                depth_info = without_distortion(item.info)
            try:
                frame = frame_from_messages(
                    item.color, item.info, item.depth, rectified, depth_info, transform_at
                )
            except GsPoseError as error:
                at = stamp_to_ns(item.color.header.stamp) / 1e9
                raise GsPoseError(f'{bag}: {chosen.color} at {at:.3f} s: {error}') from error
            yield BagFrame(frame, item.color.header.frame_id)
    if reasons:
        logging.getLogger(__name__).warning('%s: %s', bag, left_out_text(reasons))


def left_out_text(reasons: Counter[str]) -> str:
    """How many colour images became no frame, and why, for people."""
    why = '; '.join(f'{count}: {reason}' for reason, count in reasons.most_common(3))
    return f'{reasons.total()} images were left out: {why}'


def _joined(
    reader: OpenBag, topics: CameraTopics, tolerance_ns: int, left_out: LeftOut
) -> Iterator[Joined]:
    images = {topics.color: topics.camera_info, topics.depth: topics.depth_info}
    undone = {info for image, info in images.items() if info and says_rectified(image)}
    names = [name for pair in images.items() for name in pair if name]
    connections = [c for c in reader.connections if c.topic in names]
    missing = set(names) - {c.topic for c in connections}
    if missing:
        raise GsPoseError(f'{reader.path}: has no topic {", ".join(sorted(missing))}')

    def first(topic: str) -> Any:
        found = [reader.first(c) for c in connections if c.topic == topic]
        msg = next((msg for msg in found if msg is not None), None)
        return without_distortion(msg) if msg is not None and topic in undone else msg

    join = StampJoin(
        str(reader.path),
        topics,
        tolerance_ns,
        left_out,
        first(topics.camera_info),
        first(topics.depth_info),
    )
    for connection, _, msg in reader.messages(connections):
        topic = connection.topic
        yield from join.add(topic, without_distortion(msg) if topic in undone else msg)
    yield from join.finish()


def read_transforms(bag: Path, roots: Iterable[Path] = ()) -> TransformTree:
    """All transforms of `/tf` and `/tf_static` in a bag."""
    tree = TransformTree()
    with open_bag(bag, roots) as reader:
        connections = [c for c in reader.connections if c.msgtype in _TF]
        for connection, _, msg in reader.messages(connections):
            for item in msg.transforms:
                # One without names or with NaN says nothing; who asks for it hears it is missing.
                with suppress(GsPoseError, ValueError):
                    tree.set(
                        item.header.frame_id,
                        item.child_frame_id,
                        transform_from_message(item.transform),
                        stamp_to_ns(item.header.stamp),
                        static=connection.topic.endswith('tf_static'),
                    )
    return tree


def read_odometry(bag: Path, topic: str, roots: Iterable[Path] = ()) -> Odometry:
    """All poses of a topic of nav_msgs/Odometry in a bag; those that are none are left out.

    Raises:
        GsPoseError: the bag has no such topic, it names no child frame, or it holds no pose.

    """
    motion, child = TransformTree(max_gap_ns=_ODOMETRY_GAP_NS), ''
    with open_bag(bag, roots) as reader:
        there = [c for c in reader.connections if c.msgtype == _ODOMETRY]
        connections = [c for c in there if c.topic == topic]
        if not connections:
            known = ', '.join(sorted(c.topic for c in there)) or 'none'
            raise GsPoseError(
                f'{bag}: has no nav_msgs/Odometry on {topic}; topics of that type: {known}'
            )
        for _, _, msg in reader.messages(connections):
            if not msg.child_frame_id or child not in ('', msg.child_frame_id):
                raise GsPoseError(
                    f'{bag}: {topic} must have one child_frame_id in all its messages; it has '
                    f'{child!r} and {msg.child_frame_id!r}'
                )
            child = msg.child_frame_id
            with suppress(GsPoseError):  # what is lost sends NaN
                T_odom_child = pose_from_message(msg.pose.pose)
                motion.set(_ORIGIN, child, T_odom_child, stamp_to_ns(msg.header.stamp))
    if not motion.frames:
        raise GsPoseError(f'{bag}: {topic} holds no pose')
    return Odometry(child, motion)


def count_messages(bag: Path, topic: str, roots: Iterable[Path] = ()) -> tuple[int, float]:
    """How many a topic has, and how long the whole bag is, s.

    Raises:
        GsPoseError: the bag cannot be read.

    """
    with open_bag(bag, roots) as reader:
        count = sum(c.msgcount for c in reader.connections if c.topic == topic)
        return count, reader.duration_ns / 1e9
