"""From camera messages to the nouns of the core, for messages of rclpy and of `rosbags` alike.

Messages are known by their fields only, so that bags are read without ROS, by the same code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.recording.depth_alignment import REMEDY, TransformAt, depth_origin
from gs_pose_ros.recording.pixels import color_from_message, depth_from_message
from gs_pose_ros.recording.rectification import rectification_from_message

# Further from any origin than places on Earth are from each other; its square is still a number.
_NOWHERE_M = 1e8
# A message of sensor_msgs, geometry_msgs or builtin_interfaces, or what rosbags makes of one.
Message = Any


def stamp_to_ns(stamp: Message) -> int:
    """Nanoseconds of a stamp."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def pose_from_message(pose: Message) -> NDArray[np.float64]:
    """The rigid motion [4, 4] of a pose message.

    Raises:
        GsPoseError: not finite, farther than 1e8 m, or the quaternion is not of unit length.

    """
    return _rigid('pose', pose.position, pose.orientation, 0.01)


def transform_from_message(transform: Message) -> NDArray[np.float64]:
    """The rigid motion [4, 4] of a transform message.

    Raises:
        GsPoseError: not finite, farther than 1e8 m, or the quaternion is not of unit length.

    """
    # Broadcasters round more than estimators do.
    return _rigid('transform', transform.translation, transform.rotation, 0.1)


def _rigid(what: str, p: Message, q: Message, tolerance: float) -> NDArray[np.float64]:
    numbers = np.array([p.x, p.y, p.z, q.w, q.x, q.y, q.z])
    near = np.abs(numbers[:3]).max() < _NOWHERE_M  # false for NaN
    if not near or not abs(np.linalg.norm(numbers[3:]) - 1) <= tolerance:
        raise GsPoseError(
            f'not a {what}: position {numbers[:3].tolist()} m, quaternion w x y z '
            f'{numbers[3:].tolist()}; needed are finite numbers and a quaternion of length 1'
        )
    return se3.from_rotation_translation(se3.quat_to_mat(numbers[3:]), numbers[:3])


def frame_from_messages(
    color: Message,
    info: Message,
    depth: Message | None = None,
    rectified: bool = False,
    depth_info: Message | None = None,
    transform_at: TransformAt | None = None,
) -> RGBDFrame:
    """One undistorted frame; its stamp is the colour image's.

    A depth image without a single valid pixel counts as no depth. Depth that is not registered to
    colour is registered here if its own camera_info and transforms between the frames are given.

    Raises:
        GsPoseError: an encoding, size or camera_info that cannot be used, or depth that is not
            registered to colour; the message says which.

    """
    rectify = rectification_from_message(info, rectified)
    camera = rectify.camera
    # Sizes first: what undistorts is made for an image that is there.
    rgb = color_from_message(color)
    _check_size('colour image', rgb.shape, camera)
    metres = None
    if depth is not None:
        origin = depth_origin(color, info, depth, depth_info, transform_at)
        metres = np.ascontiguousarray(depth_from_message(depth))
        if origin is None:
            _check_size('depth image', metres.shape, camera, REMEDY)
            metres = rectify.depth(metres)
        else:
            _check_size('depth image', metres.shape, origin.rectification.camera)
            metres = origin.registered(metres, camera)
        if not (np.isfinite(metres) & (metres > 0)).any():
            metres = None
    stamp_ns = stamp_to_ns(color.header.stamp)
    return RGBDFrame.from_uint8(rectify.color(rgb), metres, camera, stamp_ns)


def _check_size(what: str, shape: tuple[int, ...], camera: Camera, remedy: str = '') -> None:
    if shape[:2] != camera.shape:
        raise GsPoseError(
            f'the {what} is {shape[1]}x{shape[0]}, '
            f'its camera_info says {camera.width}x{camera.height}'
            + (f'; {remedy}' if remedy else '')
        )
