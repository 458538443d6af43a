"""Small bags, written message by message with `rosbags`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

STORE = get_typestore(Stores.ROS2_KILTED)
TYPES = STORE.types


def header(stamp_ns: int, frame_id: str = 'camera') -> Any:
    stamp = TYPES['builtin_interfaces/msg/Time'](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return TYPES['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def image(pixels: np.ndarray, encoding: str, stamp_ns: int) -> Any:
    return TYPES['sensor_msgs/msg/Image'](
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels[0].nbytes,
        data=np.frombuffer(pixels.tobytes(), np.uint8),
    )


def camera_info(stamp_ns: int, camera: Camera) -> Any:
    roi = TYPES['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    K = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    return TYPES['sensor_msgs/msg/CameraInfo'](
        header=header(stamp_ns),
        height=camera.height,
        width=camera.width,
        distortion_model='plumb_bob',
        d=np.zeros(5),
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=np.c_[K, np.zeros(3)].ravel(),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def transform(stamp_ns: int, T: NDArray[np.float64], parent: str, child: str) -> Any:
    vector = TYPES['geometry_msgs/msg/Vector3'](*map(float, T[:3, 3]))
    body = TYPES['geometry_msgs/msg/Transform'](translation=vector, rotation=_quaternion(T))
    item = TYPES['geometry_msgs/msg/TransformStamped'](
        header=header(stamp_ns, parent), child_frame_id=child, transform=body
    )
    return TYPES['tf2_msgs/msg/TFMessage'](transforms=[item])


def odometry(stamp_ns: int, T: NDArray[np.float64], child: str) -> Any:
    point = TYPES['geometry_msgs/msg/Point'](*map(float, T[:3, 3]))
    pose = TYPES['geometry_msgs/msg/Pose'](position=point, orientation=_quaternion(T))
    still = TYPES['geometry_msgs/msg/Vector3'](0.0, 0.0, 0.0)
    return TYPES['nav_msgs/msg/Odometry'](
        header=header(stamp_ns, 'odom'),
        child_frame_id=child,
        pose=TYPES['geometry_msgs/msg/PoseWithCovariance'](pose=pose, covariance=np.zeros(36)),
        twist=TYPES['geometry_msgs/msg/TwistWithCovariance'](
            twist=TYPES['geometry_msgs/msg/Twist'](linear=still, angular=still),
            covariance=np.zeros(36),
        ),
    )


def write_bag(
    path: Path,
    messages: Iterable[tuple[int, str, Any]],
    plugin: StoragePlugin = StoragePlugin.MCAP,
) -> None:
    """Messages with the time and the topic of each, in their order."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        topics: dict[str, Any] = {}
        for stamp_ns, topic, msg in messages:
            kind = msg.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic], stamp_ns, STORE.serialize_cdr(msg, kind))


def _quaternion(T: NDArray[np.float64]) -> Any:
    if np.isfinite(T).all():
        w, x, y, z = map(float, se3.mat_to_quat(T[:3, :3]))
    else:
        w = x = y = z = float('nan')
    return TYPES['geometry_msgs/msg/Quaternion'](x=x, y=y, z=z, w=w)
