"""All that gs_refiner publishes of a pose: topics, TF, and pictures of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.msg import ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import (
    image_to_message,
    transform_to_message,
)
from gs_pose_ros.nodes.runtime.stage import QOS_OUT, Stage
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.recording.frame_decoding import pose_from_message
from gs_pose_ros.ros_compat.tf import TransformBroadcaster
from gs_pose_ros.visualization import OverlayObject, draw_overlay, draw_rendering


class PoseOutput:
    """`~/poses` always; per object `~/<object>/pose` and `~/<object>/pose_with_covariance`."""

    def __init__(self, node: Stage[Any]) -> None:
        self._node = node
        self._poses = node.create_publisher(ObjectPoseArray, '~/poses', QOS_OUT)
        self._best = node.create_publisher(PoseStamped, '~/pose', QOS_OUT)
        self._overlay = node.create_publisher(Image, '~/overlay', QOS_OUT)
        self._rendering = node.create_publisher(Image, '~/rendering', QOS_OUT)
        self._tf = TransformBroadcaster(node)
        self._of_object: dict[str, tuple[Any, Any]] = {}

    def close(self) -> None:
        """Take the topics down."""
        publishers = [self._poses, self._best, self._overlay, self._rendering, self._tf.pub_tf]
        for publisher in [*publishers, *(p for pair in self._of_object.values() for p in pair)]:
            self._node.destroy_publisher(publisher)

    def publish(
        self,
        header: Header,
        status: int,
        reason: str,
        poses: Sequence[ObjectPose] = (),
        seconds: float = 0.0,
        with_tf: bool = True,
    ) -> None:
        """Publish the poses of one image on every topic; only good ones leave `~/poses`."""
        out = ObjectPoseArray(header=header, status=status, reason=reason, compute_time=seconds)
        out.poses = list(poses)
        self._poses.publish(out)
        good = [pose for pose in poses if pose.status == ObjectPose.STATUS_OK]
        if not good:
            return
        best = max(good, key=lambda pose: pose.score)
        self._best.publish(PoseStamped(header=header, pose=best.pose.pose))
        for pose in good:
            plain, with_covariance = self._publishers(frame_of(pose))
            plain.publish(PoseStamped(header=header, pose=pose.pose.pose))
            with_covariance.publish(PoseWithCovarianceStamped(header=header, pose=pose.pose))
        if with_tf:
            self._tf.sendTransform(
                [
                    transform_to_message(header, frame_of(p), pose_from_message(p.pose.pose))
                    for p in good
                ]
            )

    def draw(
        self,
        header: Header,
        frame: RGBDFrame,
        poses: Sequence[ObjectPose],
        references: dict[str, ObjectReference],
        masks: dict[tuple[str, int], NDArray[np.bool_]],
    ) -> None:
        """Publish the pictures that somebody looks at.

        `~/overlay` has poses and masks drawn in, `~/rendering` the splats of good poses.
        """
        if self._overlay.get_subscription_count() > 0:
            items = [
                OverlayObject(
                    f'{frame_of(pose)} {pose.score:.2f}',
                    pose_from_message(pose.pose.pose),
                    references.get(pose.object_id),
                    masks.get((pose.object_id, pose.instance)),
                    '' if pose.status == ObjectPose.STATUS_OK else 'lost',
                )
                for pose in poses
            ]
            picture = draw_overlay(frame.color, frame.camera, items)
            self._overlay.publish(image_to_message(picture, 'rgb8', header))
        if self._rendering.get_subscription_count() > 0:
            splats = [
                (references[pose.object_id].gaussians, pose_from_message(pose.pose.pose))
                for pose in poses
                if pose.status == ObjectPose.STATUS_OK and pose.object_id in references
            ]
            picture = draw_rendering(frame.color, frame.camera, splats)
            self._rendering.publish(image_to_message(picture, 'rgb8', header))

    def _publishers(self, name: str) -> tuple[Any, Any]:
        if name not in self._of_object:
            topic = f'~/{topic_token(name)}'
            self._of_object[name] = (
                self._node.create_publisher(PoseStamped, f'{topic}/pose', QOS_OUT),
                self._node.create_publisher(
                    PoseWithCovarianceStamped, f'{topic}/pose_with_covariance', QOS_OUT
                ),
            )
        return self._of_object[name]


def frame_of(pose: ObjectPose) -> str:
    """The TF frame of an instance: the object's id, and for all but the first its number."""
    return f'{pose.object_id}_{pose.instance}' if pose.instance else pose.object_id


def topic_token(name: str) -> str:
    """The name as ROS allows it in a topic: letters, digits, single '_', no digit in front."""
    token = re.sub(r'_+', '_', re.sub(r'[^A-Za-z0-9]', '_', name)).strip('_')
    return token if token[:1].isalpha() else f'object_{token}'
