"""Gathers where gsplatloc says that the camera was, and lets a bag wait for it."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile

from gs_pose_ros.msg import CameraLocalization
from gs_pose_ros.recording.frame_decoding import pose_from_message, stamp_to_ns

_FOUND = (CameraLocalization.STATUS_OK, CameraLocalization.STATUS_RELOCALIZED)


class CameraCollector:
    """Listens to the status of every image; `color` is the bag's topic of these."""

    def __init__(self, node: Node, color: str, namespace: str = 'gs_pose') -> None:
        self._color, self._shown = color, 0
        self._changed = threading.Condition()
        self._said: dict[int, CameraLocalization] = {}
        topic = f'/{namespace.strip("/")}/gsplatloc/status'
        node.create_subscription(CameraLocalization, topic, self._on_status, QoSProfile(depth=200))

    def before(self, topic: str) -> None:
        """Wait for the answer to the image before, if another is to be shown now."""
        if topic == self._color:
            self.wait()
            self._shown += 1

    def wait(self, timeout_s: float = 5.0) -> None:
        """Wait until each image has its answer; those that have none by then are given up."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._said) >= self._shown, timeout_s)
            self._shown = len(self._said)

    def settle(self, quiet_s: float = 1.0) -> None:
        """Wait until no more answers come."""
        with self._changed:
            while self._changed.wait(quiet_s):
                pass

    @property
    def answered(self) -> int:
        """Images with a status, whatever it is."""
        with self._changed:
            return len(self._said)

    @property
    def seconds(self) -> list[float]:
        """What the node worked on each image."""
        with self._changed:
            return [msg.compute_time for msg in self._said.values()]

    def trajectory(self) -> tuple[list[int], list[NDArray[np.float64]]]:
        """Stamps (ns) and T_map_cam [4, 4] of the images with a pose."""
        with self._changed:
            found = [self._said[k] for k in sorted(self._said) if self._said[k].status in _FOUND]
        stamps = [stamp_to_ns(msg.header.stamp) for msg in found]
        return stamps, [pose_from_message(msg.pose) for msg in found]

    def summary(self) -> str:
        """How many poses there are, and why others are not."""
        with self._changed:
            lost = [msg.reason for msg in self._said.values() if msg.status not in _FOUND]
            text = f'{len(self._said) - len(lost)} poses of {len(self._said)} images'
        reasons = ', '.join(f'{n} x {reason}' for reason, n in Counter(lost).most_common(3))
        return f'{text}; lost: {reasons}' if lost else text

    def _on_status(self, msg: CameraLocalization) -> None:
        with self._changed:
            self._said[stamp_to_ns(msg.header.stamp)] = msg
            self._changed.notify_all()
