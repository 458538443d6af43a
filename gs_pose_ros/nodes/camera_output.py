"""All that gsplatloc publishes of the camera: topics, TF, the picture behind a pose, the map."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from numpy.typing import NDArray
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from gs_pose_ros.bounds import Count, NonNegative, Queue
from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.map_store import StoredMap
from gs_pose_ros.localization.surfels import oriented_points
from gs_pose_ros.msg import CameraLocalization
from gs_pose_ros.nodes.runtime.conversions import (
    UNKNOWN_VARIANCE,
    camera_to_pose,
    cloud_to_message,
    image_to_message,
    ns_to_stamp,
    pose_to_message,
    transform_to_message,
)
from gs_pose_ros.nodes.runtime.parameters import setting
from gs_pose_ros.nodes.runtime.stage import QOS_LATCHED, Stage
from gs_pose_ros.recording.frame_decoding import stamp_to_ns
from gs_pose_ros.ros_compat.tf import TransformBroadcaster
from gs_pose_ros.visualization import draw_map_comparison

# Between poses that are further apart no speed is given.
_STEADY_S = 0.5
_STATUS = {
    Status.TRACKED: CameraLocalization.STATUS_OK,
    Status.CONVERGED: CameraLocalization.STATUS_RELOCALIZED,
    Status.LOST: CameraLocalization.STATUS_LOST,
}


@dataclass(frozen=True)
class OutputSettings:
    """Parameters of what is published."""

    publish_tf: bool = setting(True, 'Publish TF from the map to `tf_child`.')
    tf_child: str = setting(
        '',
        'The frame that TF places in the map: `odom` for a robot with odometry (REP 105), '
        'the root of the frames of a camera alone, as camera_link; empty: that of the images.',
    )
    tf_ahead_s: NonNegative = setting(
        0.1, 'TF to odometry is stamped so much later than the image: until the next one it holds.'
    )
    path_length: Queue = setting(1000, 'Poses that `~/path` holds; beyond, every second is left.')
    cloud_points: Count = setting(200_000, 'Points of `~/map_cloud` at most, evenly chosen.')


class CameraOutput:
    """`~/status` for every image; the rest where there is a pose."""

    def __init__(self, node: Stage[Any]) -> None:
        self._node = node
        self._status = node.advertise(CameraLocalization, '~/status')
        self._pose = node.advertise(PoseStamped, '~/pose')
        self._with_covariance = node.advertise(PoseWithCovarianceStamped, '~/pose_with_covariance')
        self._odometry = node.advertise(Odometry, '~/odometry')
        self._path = node.advertise(Path, '~/path')
        self._comparison = node.advertise(Image, '~/comparison')
        self._cloud = node.advertise(PointCloud2, '~/map_cloud', QOS_LATCHED)
        self._tf = TransformBroadcaster(node)
        node.while_configured.callback(node.destroy_publisher, self._tf.pub_tf)
        self.restart()

    def restart(self) -> None:
        """Begin a new path."""
        self._poses: list[PoseStamped] = []
        self._recent: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=2)

    def say(self, header: Header, status: int, reason: str) -> None:
        """Why there is no pose of an image."""
        msg = CameraLocalization(header=header, status=status, reason=reason)
        msg.pose.orientation.w = 1.0
        self._status.publish(msg)

    def publish(
        self,
        header: Header,
        map_frame: str,
        estimate: CameraEstimate,
        seconds: float,
        warning: str = '',
    ) -> None:
        """The status of one image, and its pose in the map if it may be used."""
        msg = CameraLocalization(
            header=header,
            status=_STATUS[estimate.status],
            reason=estimate.reason or warning,
            map_frame=map_frame,
            pose=pose_to_message(estimate.T_map_cam),
            overlap=float(estimate.overlap),
            agreement=float(estimate.agreement),
            correlation=float(estimate.correlation),
            residual=float(estimate.residual_m),
            iterations=int(estimate.iterations),
            compute_time=float(seconds),
        )
        self._status.publish(msg)
        if not estimate.found:
            return
        in_map = Header(stamp=header.stamp, frame_id=map_frame)
        pose = camera_to_pose(estimate.T_map_cam, estimate.covariance)
        plain = PoseStamped(header=in_map, pose=pose.pose)
        self._pose.publish(plain)
        self._with_covariance.publish(PoseWithCovarianceStamped(header=in_map, pose=pose))
        odometry = Odometry(header=in_map, child_frame_id=header.frame_id, pose=pose)
        self._add_speed(odometry, stamp_to_ns(header.stamp), estimate.T_map_cam)
        self._odometry.publish(odometry)
        self._poses.append(plain)
        if len(self._poses) > self._node.settings.output.path_length:
            del self._poses[::2]
        if self._path.get_subscription_count() > 0:
            self._path.publish(Path(header=in_map, poses=self._poses))

    def transform(
        self,
        header: Header,
        map_frame: str,
        child: str,
        T_map_child: NDArray[np.float64],
        ahead_s: float,
    ) -> None:
        """TF from the map to a frame, stamped later than the image by some time."""
        stamp = ns_to_stamp(stamp_to_ns(header.stamp) + round(1e9 * ahead_s))
        in_map = Header(stamp=stamp, frame_id=map_frame)
        self._tf.sendTransform(transform_to_message(in_map, child, T_map_child))

    def draw(
        self, header: Header, frame: RGBDFrame, stored: StoredMap, estimate: CameraEstimate
    ) -> None:
        """What was measured beside what the map has there, if somebody looks."""
        if self._comparison.get_subscription_count() == 0:
            return
        caption = estimate.reason or (
            f'{estimate.status.value}: {100 * estimate.agreement:.0f} % of '
            f'{100 * estimate.overlap:.0f} % agree, {1000 * estimate.residual_m:.1f} mm'
        )
        picture = draw_map_comparison(frame, stored.scene.gaussians, estimate.T_map_cam, caption)
        self._comparison.publish(image_to_message(picture, 'rgb8', header))

    def show_map(self, stored: StoredMap) -> None:
        """The map's points, for whoever subscribes now or later."""
        gaussians = stored.scene.gaussians
        step = -(-len(gaussians) // self._node.settings.output.cloud_points)
        points = oriented_points(gaussians[::step])
        header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id=stored.frame_id)
        self._cloud.publish(cloud_to_message(points.points, points.colors, header))

    def _add_speed(
        self, odometry: Odometry, stamp_ns: int, T_map_cam: NDArray[np.float64]
    ) -> None:
        """In the camera's frame, from the pose before; of unknown variance if that is too old."""
        self._recent.append((stamp_ns, T_map_cam))
        before_ns, T_map_before = self._recent[0]
        seconds = (stamp_ns - before_ns) / 1e9
        known = 0 < seconds <= _STEADY_S
        if known:
            speed = se3.log(se3.inverse(T_map_before) @ T_map_cam) / seconds
            linear, angular = odometry.twist.twist.linear, odometry.twist.twist.angular
            linear.x, linear.y, linear.z = map(float, speed[:3])
            angular.x, angular.y, angular.z = map(float, speed[3:])
        diagonal = np.diag(np.reshape(odometry.pose.covariance, (6, 6)))
        variances = np.full(6, UNKNOWN_VARIANCE)
        if known and diagonal[0] < UNKNOWN_VARIANCE:  # both poses as good as this one
            variances = np.repeat([diagonal[:3].max(), diagonal[3:].max()], 3) * 2 / seconds**2
        odometry.twist.covariance = np.diag(variances).reshape(36)
