"""Local features of a picture: SIFT keypoints with RootSIFT descriptors, and which are alike."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.splat_object import SplatObject

CHUNK = 500  # keypoints compared at a time: tables of all with all would fill the memory
# A mask's surroundings (px) belong to the descriptors of the keypoints in it.
_MARGIN = 24
_MOST_KEYPOINTS = 4000  # in one picture, the strongest: more take long and say little new


@dataclass(frozen=True)
class FrameFeatures:
    """The keypoints of one frame, which all objects share."""

    camera: Camera
    pixels: NDArray[np.float32]  # [N, 2]
    scales: NDArray[np.float32]  # [N] diameter of the described neighbourhood, px
    angles: NDArray[np.float32]  # [N] rad
    descriptors: NDArray[np.float32]  # [N, 128] RootSIFT, unit length

    @classmethod
    def of(cls, frame: RGBDFrame, mask: NDArray[np.bool_] | None = None) -> FrameFeatures:
        """The keypoints of the whole frame or inside a mask [H, W], which must not be empty."""
        color, corner = frame.color, np.zeros(2, np.float32)
        inside = np.ones(frame.camera.shape, bool)
        if mask is not None:
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            top, left = max(0, rows[0] - _MARGIN), max(0, cols[0] - _MARGIN)
            window = np.s_[top : rows[-1] + _MARGIN, left : cols[-1] + _MARGIN]
            color, inside = color[window], mask[window]
            corner = np.array([left, top], np.float32)
        pixels, scales, angles, descriptors = describe(
            (color * 255).round().astype(np.uint8), inside
        )
        return cls(frame.camera, pixels + corner, scales, angles, descriptors)

    @classmethod
    def around(
        cls, frame: RGBDFrame, reference: SplatObject, T_cam_obj: NDArray[np.float64]
    ) -> FrameFeatures | None:
        """The keypoints where the object would be at a pose; None if that is not in the image."""
        center = reference.center_in(T_cam_obj)
        if center[2] <= 0:
            return None
        col, row = frame.camera.project(center)
        radius = 0.5 * reference.diameter_m * frame.camera.fx / center[2]
        rows, cols = np.ogrid[: frame.camera.height, : frame.camera.width]
        mask = np.asarray((rows - row) ** 2 + (cols - col) ** 2 <= radius**2)
        return cls.of(frame, mask) if mask.any() else None


def nearest(
    queries: NDArray[np.float32], descriptors: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most similar descriptors of each query [N, count], best first, and the cosines."""
    count, bank = min(count, len(descriptors)), torch.from_numpy(descriptors)
    # An empty frame has one chunk, too.
    best = [
        (torch.from_numpy(queries[start : start + CHUNK]) @ bank.T).topk(count)
        for start in range(0, max(len(queries), 1), CHUNK)
    ]
    indices = torch.cat([b.indices for b in best]).numpy()
    return indices, torch.cat([b.values for b in best]).numpy()


def describe(
    rgb: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Pixels [N, 2], scales [N], angles [N] and RootSIFT descriptors [N, 128] inside the mask.

    RootSIFT: Arandjelovic and Zisserman 2012; the root makes the Euclidean distance Hellinger's.
    """
    gray = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT.create(_MOST_KEYPOINTS, contrastThreshold=0.02)
    keypoints, descriptors = sift.detectAndCompute(gray, mask.astype(np.uint8))
    if descriptors is None:
        none = np.zeros(0, np.float32)
        return none.reshape(0, 2), none, none, none.reshape(0, 128)
    pixels = np.array([k.pt for k in keypoints], np.float32)
    scales = np.array([k.size for k in keypoints], np.float32)
    angles = np.radians(np.array([k.angle for k in keypoints], np.float32))
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return pixels, scales, angles, descriptors
