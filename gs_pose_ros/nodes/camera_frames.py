"""What TF says of the camera: where odometry has it, and how it is mounted."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.time import Time

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.nodes.runtime.stage import Stage
from gs_pose_ros.recording.frame_decoding import transform_from_message
from gs_pose_ros.ros_compat.tf import Buffer, TransformException, TransformListener

_POLL_S = 0.005


class CameraFrames:
    """Transforms at the time of an image."""

    def __init__(self, node: Stage[Any]) -> None:
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node)

    def close(self) -> None:
        """End the subscriptions."""
        self._listener.unregister()

    def forget(self) -> None:
        """The stamps have jumped back: what was heard is of another time."""
        self._buffer.clear()

    def lookup(
        self, target: str, source: str, stamp_ns: int, wait_s: float
    ) -> NDArray[np.float64]:
        """T_target_source [4, 4] at that time, for which the newest may have to be waited for.

        Frames that are not connected at all are not waited for. Blocks, so not for a callback.

        Raises:
            GsPoseError: there is none; the message says which frame is missing or since when.

        """
        deadline = time.monotonic() + wait_s
        while True:
            try:
                found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
                return transform_from_message(found.transform)
            except TransformException as error:
                late = time.monotonic() > deadline
                if late or not self._buffer.can_transform(target, source, Time()):
                    raise GsPoseError(f'no TF {target} → {source}: {error}') from error
            time.sleep(_POLL_S)
