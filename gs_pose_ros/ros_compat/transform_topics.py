"""What is used of `tf2_ros`, same names and signatures, where it is missing.

`tf2_msgs/msg/TFMessage` is the real type: the interface build makes it from its one-line
definition if no installed package has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Transform, TransformStamped
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.recording.frame_decoding import transform_from_message
from gs_pose_ros.recording.transform_tree import TransformTree, UnknownTransform

TransformException = UnknownTransform

_QOS = QoSProfile(depth=100)
_QOS_STATIC_OUT = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_QOS_STATIC_IN = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TransformBroadcaster:
    """Publishes transforms that change on `/tf`."""

    def __init__(self, node: Node, qos: QoSProfile | int = _QOS) -> None:
        self.pub_tf = node.create_publisher(TFMessage, '/tf', qos)

    def sendTransform(self, transform: TransformStamped | Sequence[TransformStamped]) -> None:
        """Publish one transform or several."""
        self.pub_tf.publish(TFMessage(transforms=_as_list(transform)))


class StaticTransformBroadcaster:
    """Publishes transforms that stay on `/tf_static`; late subscribers get all of them."""

    def __init__(self, node: Node, qos: QoSProfile = _QOS_STATIC_OUT) -> None:
        self.pub_tf = node.create_publisher(TFMessage, '/tf_static', qos)
        self._sent: dict[str, TransformStamped] = {}

    def sendTransform(self, transform: TransformStamped | Sequence[TransformStamped]) -> None:
        """Publish one transform or several together with those sent before."""
        # The topic keeps one message for late comers: it must hold every frame.
        self._sent.update({t.child_frame_id: t for t in _as_list(transform)})
        self.pub_tf.publish(TFMessage(transforms=list(self._sent.values())))


class Buffer:
    """Remembers transforms and answers what was between two frames at a time."""

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        cache_ns = 10_000_000_000 if cache_time is None else cache_time.nanoseconds
        self._tree = TransformTree(cache_ns)

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Take in a transform that holds at its stamp."""
        self._set(transform, static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Take in a transform that holds at all times."""
        self._set(transform, static=True)

    def clear(self) -> None:
        """Forget what moves, as the original does: static transforms are not sent again."""
        self._tree.clear()

    def lookup_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration | None = None,
    ) -> TransformStamped:
        """What maps points of `source_frame` into `target_frame` at that time.

        Time 0 asks for the newest, as in the original. Never waits, whatever `timeout` says: a
        callback that waits keeps the answer from coming.

        Raises:
            TransformException: a frame is unknown, not connected, or not known at that time.

        """
        T = self._tree.lookup(target_frame, source_frame, time.nanoseconds or None)
        out = TransformStamped(child_frame_id=source_frame, transform=_to_message(T))
        out.header.frame_id = target_frame
        out.header.stamp = time.to_msg()
        return out

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration | None = None,
    ) -> bool:
        """Whether `lookup_transform` would have an answer now."""
        try:
            self.lookup_transform(target_frame, source_frame, time)
        except TransformException:
            return False
        return True

    def _set(self, transform: TransformStamped, static: bool) -> None:
        stamp_ns = Time.from_msg(transform.header.stamp).nanoseconds
        T = transform_from_message(transform.transform)
        frame_id, child_id = transform.header.frame_id, transform.child_frame_id
        self._tree.set(frame_id, child_id, T, stamp_ns, static)


class TransformListener:
    """Fills a buffer from `/tf` and `/tf_static`."""

    def __init__(self, buffer: Buffer, node: Node) -> None:
        self.buffer = buffer
        self.node = node
        # As the original has it: a flood of transforms keeps nothing else of the node waiting.
        self.group = MutuallyExclusiveCallbackGroup()
        self.tf_sub = node.create_subscription(
            TFMessage, '/tf', self.callback, _QOS, callback_group=self.group
        )
        self.tf_static_sub = node.create_subscription(
            TFMessage,
            '/tf_static',
            self.static_callback,
            _QOS_STATIC_IN,
            callback_group=self.group,
        )

    def callback(self, data: TFMessage) -> None:
        """Take in moving transforms."""
        self._take(data, static=False)

    def static_callback(self, data: TFMessage) -> None:
        """Take in static transforms."""
        self._take(data, static=True)

    def unregister(self) -> None:
        """Stop listening."""
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def _take(self, data: TFMessage, static: bool) -> None:
        put = self.buffer.set_transform_static if static else self.buffer.set_transform
        broken: list[str] = []
        for transform in data.transforms:
            try:
                put(transform, 'default_authority')
            except (GsPoseError, ValueError) as error:  # somebody else's broken transform
                broken.append(str(error))
        if broken:  # once a message: to log takes longer than all else here
            said = f'{len(broken)} of {len(data.transforms)} transforms are left out: {broken[0]}'
            self.node.get_logger().warning(said, throttle_duration_sec=10.0)


def _as_list(
    transform: TransformStamped | Sequence[TransformStamped],
) -> list[TransformStamped]:
    return [transform] if isinstance(transform, TransformStamped) else list(transform)


def _to_message(T: NDArray[np.float64]) -> Transform:
    out = Transform()
    out.translation.x, out.translation.y, out.translation.z = map(float, T[:3, 3])
    q = out.rotation
    q.w, q.x, q.y, q.z = map(float, se3.mat_to_quat(T[:3, :3]))
    return out
