"""Bags of a few small pictures, as drivers write them and as they go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.recording.bag_writing import TYPES, camera_info, header, image, transform

CAMERA = Camera(20.0, 20.0, 7.5, 5.5, 16, 12)
COUNT = 6
Messages = list[tuple[int, str, Any]]

COLOR, INFO = '/camera/camera/color/image_raw', '/camera/camera/color/camera_info'
DEPTH = '/camera/camera/aligned_depth_to_color/image_raw'
FRAME = 'color_optical'


def stamp_of(k: int) -> int:
    return 5 * 10**9 + k * 50_000_000


def colors(k: int) -> np.ndarray:
    return np.full((12, 16, 3), (20 * k, 40, 60), np.uint8)


def depths(k: int) -> np.ndarray:
    return np.full((12, 16), 1000 + 10 * k, np.uint16)


def of_frame(msg: Any, frame_id: str = FRAME) -> Any:
    msg.header.frame_id = frame_id
    return msg


def compressed(pixels: np.ndarray, kind: str, stamp_ns: int, prefix: bytes = b'') -> Any:
    ending = '.png' if 'png' in kind else '.jpg'
    data = prefix + cv2.imencode(ending, pixels)[1].tobytes()
    return TYPES['sensor_msgs/msg/CompressedImage'](
        header=header(stamp_ns, FRAME), format=kind, data=np.frombuffer(data, np.uint8)
    )


def info(stamp_ns: int, camera: Camera = CAMERA, frame_id: str = FRAME) -> Any:
    return of_frame(camera_info(stamp_ns, camera), frame_id)


def color(k: int, frame_id: str = FRAME) -> Any:
    return of_frame(image(colors(k), 'rgb8', stamp_of(k)), frame_id)


def depth(k: int, frame_id: str = FRAME) -> Any:
    return of_frame(image(depths(k), '16UC1', stamp_of(k)), frame_id)


def recording(
    color_topic: str = COLOR, info_topic: str = INFO, depth_topic: str = DEPTH
) -> Messages:
    """What a camera sends, with its pose in 'world'."""
    out: Messages = []
    for k in range(COUNT):
        stamp = stamp_of(k)
        T_world_cam = se3.from_rotation_translation(np.eye(3), [0.01 * k, 0, 0])
        out += [
            (stamp, '/tf', transform(stamp, T_world_cam, 'world', FRAME)),
            (stamp, info_topic, info(stamp)),
            (stamp, color_topic, color(k)),
            (stamp, depth_topic, depth(k)),
        ]
    return out


def changed(messages: Messages, topic: str, change: Callable[[int, Any], Any]) -> Messages:
    """With each message of a topic replaced by `change(number, msg)`; None leaves it out."""
    out: Messages = []
    number = 0
    for stamp, name, msg in messages:
        new = msg
        if name == topic:
            new = change(number, msg)
            number += 1
        if new is not None:
            out.append((stamp, name, new))
    return out


def moved(msg: Any, by_ns: int) -> Any:
    """With another stamp."""
    stamp = msg.header.stamp
    stamp.sec, stamp.nanosec = divmod(stamp.sec * 10**9 + stamp.nanosec + by_ns, 10**9)
    return msg


def write_ros1(path: Path, messages: Iterable[tuple[int, str, Any]]) -> None:
    """The same as a ROS 1 bag."""
    store = get_typestore(Stores.ROS1_NOETIC)
    tf = 'geometry_msgs/TransformStamped[] transforms'
    store.register(get_types_from_msg(tf, 'tf2_msgs/msg/TFMessage'))
    types = store.types

    def old(msg: Any) -> Any:
        kind = getattr(msg, '__msgtype__', None)
        if kind is None:
            return [old(item) for item in msg] if isinstance(msg, list) else msg
        fields = {
            name: old(getattr(msg, name)) for name in msg.__dataclass_fields__ if name[:2] != '__'
        }
        if kind == 'std_msgs/msg/Header':
            fields['seq'] = 7
        if kind == 'sensor_msgs/msg/CameraInfo':
            for name in 'dkrp':
                fields[name.upper()] = fields.pop(name)
        return types[kind](**fields)

    with Writer1(path) as writer:
        topics: dict[str, Any] = {}
        for stamp, topic, msg in messages:
            kind = msg.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(topics[topic], stamp, store.serialize_ros1(old(msg), kind))
