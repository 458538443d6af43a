"""Images and transforms of the live topics, for a registration or a map."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from gs_pose_ros.errors import GsPoseError, shown
from gs_pose_ros.nodes.runtime.frame_input import FrameInput, ImageSet, InputSettings
from gs_pose_ros.nodes.runtime.stage import Stage, Stopwatch
from gs_pose_ros.recording.bags import BagFrame, LeftOut
from gs_pose_ros.recording.frame_decoding import stamp_to_ns, transform_from_message
from gs_pose_ros.recording.transform_tree import TransformTree

# More pictures than this do not make a better object, but fill the memory.
_MOST = 200
_WAITING = 30
_TF_LATE_S = 0.2  # transforms may come after the image that they belong to


class LiveRecording:
    """What the camera and TF say for some time."""

    def __init__(self, node: Stage[Any], settings: InputSettings) -> None:
        self._node, self._settings = node, settings
        self._tree = TransformTree()

    @property
    def tree(self) -> TransformTree:
        """What TF has said."""
        return self._tree

    def take(
        self, seconds: float, cancelled: threading.Event
    ) -> tuple[list[BagFrame], TransformTree]:
        """Record for that long, or until cancelled; blocks, so not for a callback.

        Raises:
            GsPoseError: no image came; the message says what is missing.

        """
        sets: list[ImageSet] = []

        def keep(images: ImageSet) -> None:
            sets.append(images)
            if len(sets) > _MOST:  # every second one, so that they stay spread over the time
                del sets[::2]

        with self._listening(keep, sets.clear) as input_:
            watch = Stopwatch()
            while watch() < seconds and not cancelled.wait(min(0.1, seconds)):
                pass
            if not sets and not cancelled.is_set():
                raise GsPoseError(_silence(seconds, input_))
        return [self._frame(images) for images in sets], self._tree

    def stream(
        self, seconds: float, enough: threading.Event, left_out: LeftOut
    ) -> Iterator[BagFrame]:
        """The images as they come, for that long (0: no limit) and until `enough`.

        Each is held back until its transforms are there; what is not taken in time is left out.
        `left_out(stamp_ns, reason)` is told of images that cannot be used.

        Raises:
            GsPoseError: no image came, or none could be used; the message says why.

        """
        used, reason = False, ''
        waiting: deque[tuple[Stopwatch, ImageSet]] = deque(maxlen=_WAITING)

        def keep(images: ImageSet) -> None:
            waiting.append((Stopwatch(), images))

        with self._listening(keep, waiting.clear) as input_:
            watch = Stopwatch()
            while not enough.is_set() and not 0 < seconds <= watch():
                if not waiting or waiting[0][0]() < _TF_LATE_S:
                    enough.wait(0.01)
                    continue
                images = waiting.popleft()[1]
                try:
                    frame = self._frame(images)
                except GsPoseError as error:
                    reason = str(error)
                    left_out(images.stamp_ns, reason)
                    self._node.get_logger().warning(reason, throttle_duration_sec=5.0)
                    continue
                used = True
                yield frame
            if not input_.joined:
                raise GsPoseError(_silence(watch(), input_))
            if reason and not used:
                raise GsPoseError(f'none of {input_.joined} images could be used: {reason}')

    @contextmanager
    def _listening(
        self, on_images: Callable[[ImageSet], None], on_jump: Callable[[], None]
    ) -> Iterator[FrameInput]:
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
        input_ = FrameInput(node, self._settings, on_images, on_jump)
        try:
            yield input_
        finally:
            input_.close()
            for subscription in subscriptions:
                node.destroy_subscription(subscription)

    def _frame(self, images: ImageSet) -> BagFrame:
        return BagFrame(images.frame(self._settings), images.header.frame_id)

    def _on_tf(self, msg: TFMessage, static: bool) -> None:
        for item in msg.transforms:
            stamp_ns = stamp_to_ns(item.header.stamp)
            try:
                T = transform_from_message(item.transform)
                self._tree.set(item.header.frame_id, item.child_frame_id, T, stamp_ns, static)
            except (GsPoseError, ValueError) as error:
                names = f'{shown(item.header.frame_id)} → {shown(item.child_frame_id)}'
                self._node.get_logger().warning(f'TF {names}: {error}', throttle_duration_sec=10.0)


def _silence(seconds: float, input_: FrameInput) -> str:
    reason = input_.problem()[1] or 'not one set joined'
    return f'no images came in {seconds:.3g} s: {reason}'
