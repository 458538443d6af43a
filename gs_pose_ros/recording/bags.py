"""rosbag2 files (mcap or sqlite3) read through `rosbags`, so without ROS.

What is read here goes through the same decoding as the live topics.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.recording.frame_decoding import (
    frame_from_messages,
    pose_from_message,
    stamp_to_ns,
)
from gs_pose_ros.recording.transform_tree import TransformTree
from gs_pose_ros.share import share_folder

_IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
_INFO = 'sensor_msgs/msg/CameraInfo'
_TF = 'tf2_msgs/msg/TFMessage'
_ODOMETRY = 'nav_msgs/msg/Odometry'
# Odometry that is silent for longer has lost its way: nothing is known in between.
_ODOMETRY_GAP_NS = 500_000_000
_ORIGIN = 'origin of the odometry'
# Topics of one camera may be a few frames out of step in a bag; more never comes together.
_WAITING = 50


@dataclass(frozen=True)
class CameraTopics:
    """The topics of one camera in a bag; `depth` is registered to colour, or '' for none."""

    color: str
    camera_info: str
    depth: str = ''


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


def typestore() -> Typestore:
    """The message types of ROS 2 and of this package."""
    store = get_typestore(Stores.ROS2_KILTED)
    for path in sorted((share_folder() / 'msg').glob('*.msg')):
        store.register(get_types_from_msg(path.read_text(), f'gs_pose_ros/msg/{path.stem}'))
    return store


@contextmanager
def open_bag(bag: Path) -> Iterator[AnyReader]:
    """The bag opened for reading.

    Raises:
        GsPoseError: it is not there or not a bag.

    """
    try:
        with AnyReader([bag], default_typestore=typestore()) as reader:
            yield reader
    except (AnyReaderError, OSError) as error:
        raise GsPoseError(f'{bag}: cannot be read as a bag: {error}') from error


def find_topics(bag: Path, with_depth: bool = True) -> CameraTopics:
    """The colour camera of a bag, and its depth, by types and names.

    Raises:
        GsPoseError: there is no colour image with a camera_info; the message lists what is there.

    """
    with open_bag(bag) as reader:
        kinds = {c.topic: c.msgtype for c in reader.connections}
    images = [topic for topic in sorted(kinds) if kinds[topic] in _IMAGES]
    depths = [topic for topic in images if 'depth' in topic]
    colors = [topic for topic in images if 'depth' not in topic and 'overlay' not in topic]
    infos = [topic for topic in sorted(kinds) if kinds[topic] == _INFO]
    # The info beside the image: /camera/color/image_raw and /camera/color/camera_info.
    pairs = [(_shared(color, info), color, info) for color in colors for info in infos]
    if not pairs:
        raise GsPoseError(f'{bag}: no colour image with a camera_info among {sorted(kinds)}')
    _, color, info = max(pairs, key=lambda pair: (pair[0], -len(pair[1])))
    aligned = sorted(depths, key=lambda topic: ('aligned' not in topic, len(topic)))
    return CameraTopics(color, info, aligned[0] if aligned and with_depth else '')


def read_frames(
    bag: Path, topics: CameraTopics | None = None, rectified: bool = False
) -> Iterator[RGBDFrame]:
    """The undistorted frames of a bag, joined by exact stamp, in the order of recording.

    Raises:
        GsPoseError: the bag or a topic is missing, or a message cannot be used.

    """
    for item in read_bag_frames(bag, topics, rectified):
        yield item.frame


def read_bag_frames(
    bag: Path, topics: CameraTopics | None = None, rectified: bool = False
) -> Iterator[BagFrame]:
    """As `read_frames`, with the coordinate frame of each."""
    chosen = find_topics(bag) if topics is None else topics
    names = [name for name in (chosen.color, chosen.camera_info, chosen.depth) if name]
    waiting: dict[int, dict[str, Any]] = defaultdict(dict)
    with open_bag(bag) as reader:
        connections = [c for c in reader.connections if c.topic in names]
        missing = set(names) - {c.topic for c in connections}
        if missing:
            raise GsPoseError(f'{bag}: has no topic {", ".join(sorted(missing))}')
        for connection, _, raw in reader.messages(connections):
            msg = reader.deserialize(raw, connection.msgtype)
            stamp_ns = stamp_to_ns(msg.header.stamp)  # type: ignore[attr-defined]
            together = waiting[stamp_ns]
            together[connection.topic] = msg
            if len(together) == len(names):
                color = together[chosen.color]
                depth = together.get(chosen.depth)
                info = together[chosen.camera_info]
                del waiting[stamp_ns]
                frame = frame_from_messages(color, info, depth, rectified)
                yield BagFrame(frame, color.header.frame_id)
            elif len(waiting) > _WAITING:
                del waiting[min(waiting)]


def read_transforms(bag: Path) -> TransformTree:
    """All transforms of `/tf` and `/tf_static` in a bag."""
    tree = TransformTree()
    with open_bag(bag) as reader:
        connections = [c for c in reader.connections if c.msgtype == _TF]
        if not connections:  # of none rosbags makes all
            return tree
        for connection, _, raw in reader.messages(connections):
            for item in reader.deserialize(raw, connection.msgtype).transforms:  # type: ignore[attr-defined]
                t, q = item.transform.translation, item.transform.rotation
                R = se3.quat_to_mat(np.array([q.w, q.x, q.y, q.z]))
                # One without names or with NaN says nothing; who asks for it hears it is missing.
                with suppress(ValueError):
                    tree.set(
                        item.header.frame_id,
                        item.child_frame_id,
                        se3.from_rotation_translation(R, [t.x, t.y, t.z]),
                        stamp_to_ns(item.header.stamp),
                        static=connection.topic.endswith('tf_static'),
                    )
    return tree


def read_odometry(bag: Path, topic: str) -> Odometry:
    """All poses of a topic of nav_msgs/Odometry in a bag; those that are none are left out.

    Raises:
        GsPoseError: the bag has no such topic, it names no child frame, or it holds no pose.

    """
    motion, child = TransformTree(max_gap_ns=_ODOMETRY_GAP_NS), ''
    with open_bag(bag) as reader:
        there = [c for c in reader.connections if c.msgtype == _ODOMETRY]
        connections = [c for c in there if c.topic == topic]
        if not connections:
            known = ', '.join(sorted(c.topic for c in there)) or 'none'
            raise GsPoseError(f'{bag}: has no odometry {topic}; odometry topics there: {known}')
        for connection, _, raw in reader.messages(connections):
            msg: Any = reader.deserialize(raw, connection.msgtype)
            if not msg.child_frame_id or child not in ('', msg.child_frame_id):
                raise GsPoseError(
                    f'{bag}: {topic} is to say where one frame is, its messages name '
                    f'{child!r} and {msg.child_frame_id!r}'
                )
            child = msg.child_frame_id
            with suppress(GsPoseError):  # what is lost sends NaN
                T_odom_child = pose_from_message(msg.pose.pose)
                motion.set(_ORIGIN, child, T_odom_child, stamp_to_ns(msg.header.stamp))
    if not motion.frames:
        raise GsPoseError(f'{bag}: {topic} holds no pose')
    return Odometry(child, motion)


def count_messages(bag: Path, topic: str) -> tuple[int, float]:
    """How many a topic has, and how long the whole bag is, s.

    Raises:
        GsPoseError: the bag cannot be read.

    """
    with open_bag(bag) as reader:
        count = sum(c.msgcount for c in reader.connections if c.topic == topic)
        return count, reader.duration / 1e9


def _shared(a: str, b: str) -> int:
    """How many leading parts two topic names share."""
    parts = zip(a.split('/'), b.split('/'), strict=False)
    return next((i for i, (x, y) in enumerate(parts) if x != y), 99)
