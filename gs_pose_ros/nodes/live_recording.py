"""Images and transforms of the live topics, held for a registration."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.nodes.frame_input import FrameInput, ImageSet, InputSettings
from gs_pose_ros.nodes.stage import Stage, Stopwatch
from gs_pose_ros.ros_compat.bags import BagFrame
from gs_pose_ros.ros_compat.frame_decoding import stamp_to_ns
from gs_pose_ros.ros_compat.transform_tree import TransformTree

# More pictures than this do not make a better object, but fill the memory.
_MOST = 200


class LiveRecording:
    """Takes what the camera and TF say for some seconds."""

    def __init__(self, node: Stage[Any], settings: InputSettings) -> None:
        self._node, self._settings = node, settings
        self._sets: list[ImageSet] = []
        self._tree = TransformTree()

    def take(
        self, seconds: float, cancelled: threading.Event
    ) -> tuple[list[BagFrame], TransformTree]:
        """Record for that long, or until cancelled; blocks, so not for a callback.

        Raises:
            GsPoseError: no image came; the message says what is missing.

        """
        node, group = self._node, MutuallyExclusiveCallbackGroup()
        qos = QoSProfile(depth=100)
        static = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscriptions = [
            node.create_subscription(TFMessage, topic, callback, profile, callback_group=group)
            for topic, callback, profile in (
                ('/tf', lambda msg: self._on_tf(msg, False), qos),
                ('/tf_static', lambda msg: self._on_tf(msg, True), static),
            )
        ]
        input_ = FrameInput(node, self._settings, self._on_images, self._sets.clear)
        watch = Stopwatch()
        while watch() < seconds and not cancelled.wait(min(0.1, seconds)):
            pass
        _, reason = input_.problem()
        input_.close()
        for subscription in subscriptions:
            node.destroy_subscription(subscription)
        if not self._sets and not cancelled.is_set():
            raise GsPoseError(f'no images came in {seconds:g} s: {reason or "not one set joined"}')
        frames = [
            BagFrame(images.frame(self._settings.rectified), images.header.frame_id)
            for images in self._sets
        ]
        return frames, self._tree

    def _on_images(self, images: ImageSet) -> None:
        self._sets.append(images)
        if len(self._sets) > _MOST:  # every second one, so that they stay spread over the time
            del self._sets[::2]

    def _on_tf(self, msg: TFMessage, static: bool) -> None:
        for item in msg.transforms:
            t, q = item.transform.translation, item.transform.rotation
            R = se3.quat_to_mat(np.array([q.w, q.x, q.y, q.z]))
            T = se3.from_rotation_translation(R, [t.x, t.y, t.z])
            stamp_ns = stamp_to_ns(item.header.stamp)
            try:
                self._tree.set(item.header.frame_id, item.child_frame_id, T, stamp_ns, static)
            except ValueError as error:
                self._node.get_logger().warning(str(error), throttle_duration_sec=10.0)
