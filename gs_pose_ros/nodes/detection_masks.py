"""The masks of what was detected, kept until the poses that belong to them come."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import ObjectDetection, ObjectDetectionArray
from gs_pose_ros.nodes.runtime.conversions import detection_from_message
from gs_pose_ros.nodes.runtime.entries import MOST_INSTANCES
from gs_pose_ros.recording.frame_decoding import stamp_to_ns

Masks = dict[tuple[str, int], NDArray[np.bool_]]  # by object and instance
_MOST_IMAGES = 20


class DetectionMasks:
    """Of the last 20 images with detections; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detections: OrderedDict[int, list[ObjectDetection]] = OrderedDict()

    def __contains__(self, stamp_ns: int) -> bool:
        with self._lock:
            return stamp_ns in self._detections

    def add(self, msg: ObjectDetectionArray) -> None:
        """Remember the detections of an image."""
        with self._lock:
            self._detections[stamp_to_ns(msg.header.stamp)] = list(msg.detections)[:MOST_INSTANCES]
            while len(self._detections) > _MOST_IMAGES:
                self._detections.popitem(last=False)

    def at(self, stamp_ns: int, shape: tuple[int, int]) -> Masks:
        """The masks [H, W] of that image of (height, width); the initializer names bad ones."""
        with self._lock:
            detections = self._detections.get(stamp_ns, [])
        out: Masks = {}
        for detection in detections:
            try:
                found = detection_from_message(detection, shape)
            except GsPoseError:
                continue
            out[detection.object_id, detection.instance] = found.full_mask(shape)
        return out
