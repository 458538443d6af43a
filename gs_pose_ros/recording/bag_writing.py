"""Messages as `rosbags` has them, and bags of these: without ROS.

`gs-pose bag` makes one of a sequence of RGB-D frames, as a camera and a robot would record it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from tyro.conf import Positional

from gs_pose_ros.command_options import (
    check_frame_name,
    existing_file,
    existing_folder,
    folder_to_write,
)
from gs_pose_ros.datasets.rgbd_sequences import SequenceFrame, chosen, read_sequence
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

CAMERA_FRAME = 'camera'
STORE = get_typestore(Stores.ROS2_KILTED)
TYPES = STORE.types


def header(stamp_ns: int, frame_id: str = CAMERA_FRAME) -> Any:
    """A std_msgs/Header."""
    stamp = TYPES['builtin_interfaces/msg/Time'](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return TYPES['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def image(pixels: NDArray[Any], encoding: str, stamp_ns: int) -> Any:
    """A sensor_msgs/Image of pixels [H, W] or [H, W, C]."""
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
    """The sensor_msgs/CameraInfo of an undistorted camera."""
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
    """A tf2_msgs/TFMessage with one transform T_parent_child [4, 4]."""
    vector = TYPES['geometry_msgs/msg/Vector3'](*map(float, T[:3, 3]))
    body = TYPES['geometry_msgs/msg/Transform'](translation=vector, rotation=_quaternion(T))
    item = TYPES['geometry_msgs/msg/TransformStamped'](
        header=header(stamp_ns, parent), child_frame_id=child, transform=body
    )
    return TYPES['tf2_msgs/msg/TFMessage'](transforms=[item])


def odometry(stamp_ns: int, T: NDArray[np.float64], child: str) -> Any:
    """A nav_msgs/Odometry of the pose T_odom_child [4, 4], at rest."""
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
    """Write messages, with the time (ns) and the topic of each, in their order.

    Raises:
        GsPoseError: the folder exists already.

    """
    if path.exists():
        raise GsPoseError(f'{path}: exists already; name another path')
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        topics: dict[str, Any] = {}
        for stamp_ns, topic, msg in messages:
            kind = msg.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic], stamp_ns, STORE.serialize_cdr(msg, kind))


def sequence_messages(
    frames: Iterable[SequenceFrame], parent: str = ''
) -> Iterator[tuple[int, str, Any]]:
    """The messages of a camera, and with a `parent` frame the true poses as TF, where known."""
    for item in frames:
        frame, stamp_ns = item.read(), item.stamp_ns
        assert frame.depth is not None
        if parent and item.T_world_cam is not None:
            yield stamp_ns, '/tf', transform(stamp_ns, item.T_world_cam, parent, CAMERA_FRAME)
        color = np.round(255 * frame.color).astype(np.uint8)
        millimetres = np.round(1000 * frame.depth)
        millimetres = np.where(millimetres > 65535, 0, millimetres).astype(np.uint16)
        yield stamp_ns, '/camera/color/image_raw', image(color, 'rgb8', stamp_ns)
        yield stamp_ns, '/camera/color/camera_info', camera_info(stamp_ns, frame.camera)
        yield stamp_ns, '/camera/depth/image_raw', image(millimetres, '16UC1', stamp_ns)


@dataclass(frozen=True)
class WriteBag:
    """Make a rosbag2 of a sequence in the layout of TUM RGB-D or 7-Scenes."""

    path: Positional[Path]
    """The sequence. What took it stands in its file intrinsics.txt, in one line: fx fy cx cy width
    height depth_units_per_metre; without it a Kinect of the benchmark is assumed."""
    out: Path
    """The folder to be made."""
    frame_list: Path | None = None
    """Only the pictures named in this file, one a line."""
    tf: str = ''
    """Write the true poses as TF in a frame of this name, to build a map of; empty: none."""

    def run(self) -> None:
        """Read and write.

        Raises:
            GsPoseError: the sequence cannot be read, or the bag exists already.

        """
        console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        out = folder_to_write(self.out, '--out')
        if out.exists():
            raise GsPoseError(f'--out {out}: exists already; name another path')
        if self.tf:
            check_frame_name(self.tf, '--tf')
        if self.tf.strip('/') == CAMERA_FRAME:
            raise GsPoseError(f'--tf {self.tf}: that is the frame of the camera itself')
        sequence = read_sequence(existing_folder(self.path, 'the sequence'))
        frames: Sequence[SequenceFrame] = sequence
        if self.frame_list is not None:
            frames = chosen(frames, existing_file(self.frame_list, '--frame-list'))
        for text in sequence.notes:
            console.print(text)
        write_bag(out, sequence_messages(frames, self.tf))
        console.print(f'{out}: {len(frames)} frames')
        left_out = Counter(why for _, why in sequence.missed if self.frame_list is None)
        for reason, count in left_out.most_common():
            console.print(f'{count} pictures are left out: {reason}')
        without = Counter(frame.why_no_pose for frame in frames if frame.T_world_cam is None)
        for reason, count in without.most_common() if self.tf else ():
            console.print(f'{count} frames are without TF: {reason}')


def _quaternion(T: NDArray[np.float64]) -> Any:
    if np.isfinite(T).all():
        w, x, y, z = map(float, se3.mat_to_quat(T[:3, :3]))
    else:
        w = x = y = z = float('nan')
    return TYPES['geometry_msgs/msg/Quaternion'](x=x, y=y, z=z, w=w)
