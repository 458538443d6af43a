"""Gathers what the nodes publish of poses, for evaluation."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile

from gs_pose_ros.msg import ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.recording.frame_decoding import pose_from_message, stamp_to_ns

Estimate = tuple[int, str, NDArray[np.float64], float]  # stamp_ns, object id, T_cam_obj, score


class PoseCollector:
    """Listens to the refiner's poses and to the times that all stages report."""

    def __init__(self, node: Node, namespace: str = 'gs_pose') -> None:
        self._lock = threading.Lock()
        self._poses: dict[tuple[int, str, int], Estimate] = {}
        self._seconds: dict[int, dict[str, float]] = {}
        self.messages = 0  # of the refiner
        self.last_status = (ObjectPoseArray.STATUS_UNKNOWN, '')
        qos, root = QoSProfile(depth=200), f'/{namespace.strip("/")}'
        topics: list[tuple[Any, str, Any]] = [
            (ObjectPoseArray, 'gs_refiner/poses', self._on_poses),
            (ObjectPoseArray, 'pose_initializer/initial_poses', self._on_initial),
            (ObjectDetectionArray, 'detector/detections', self._on_detections),
        ]
        for kind, topic, callback in topics:
            node.create_subscription(kind, f'{root}/{topic}', callback, qos)

    def estimates(self) -> list[Estimate]:
        """The good poses, one for each instance and image, by stamp."""
        with self._lock:
            return [self._poses[key] for key in sorted(self._poses)]

    def seconds(self) -> dict[int, dict[str, float]]:
        """Stage times by stamp: detect, initialize, refine."""
        with self._lock:
            return {stamp: dict(times) for stamp, times in self._seconds.items()}

    def _on_poses(self, msg: ObjectPoseArray) -> None:
        stamp_ns = stamp_to_ns(msg.header.stamp)
        with self._lock:
            self.messages += 1
            self.last_status = (msg.status, msg.reason)
            for pose in msg.poses:
                key = (stamp_ns, pose.object_id, pose.instance)
                if pose.status == ObjectPose.STATUS_OK:
                    T_cam_obj = pose_from_message(pose.pose.pose)
                    self._poses[key] = (stamp_ns, pose.object_id, T_cam_obj, pose.score)
        self._note(stamp_ns, 'refine', msg.compute_time)

    def _on_initial(self, msg: ObjectPoseArray) -> None:
        self._note(stamp_to_ns(msg.header.stamp), 'initialize', msg.compute_time)

    def _on_detections(self, msg: ObjectDetectionArray) -> None:
        self._note(stamp_to_ns(msg.header.stamp), 'detect', msg.compute_time)

    def _note(self, stamp_ns: int, stage: str, seconds: float) -> None:
        if seconds > 0:
            with self._lock:
                times = self._seconds.setdefault(stamp_ns, {})
                times[stage] = times.get(stage, 0.0) + seconds
