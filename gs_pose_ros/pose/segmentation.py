"""Class-agnostic foreground of a depth image: what stands on the dominant plane."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.frame import RGBDFrame


@dataclass(frozen=True)
class SupportPlaneSegmentation:
    """Support plane by RANSAC, foreground by height above it."""

    iterations: int = 300
    inlier_m: float = 0.006  # at 1 m; grows with z^2 as sensor noise does
    min_share: float = 0.15  # of the valid pixels; a smaller plane is no support
    min_height_m: float = 0.006
    max_height_m: float = 0.5
    max_depth_m: float = 3.0

    def foreground(self, frame: RGBDFrame) -> NDArray[np.bool_]:
        """Pixels [H, W] that stand above the support plane; all valid ones if there is no plane.

        Pixels without depth are False. `frame.depth` must be there.
        """
        assert frame.depth is not None
        depth = cv2.medianBlur(frame.depth, 5)
        valid = (depth > 0) & (depth < self.max_depth_m)
        points = frame.camera.point_map(depth)
        plane = self.fit_plane(points[valid][:: max(1, np.count_nonzero(valid) // 6000)])
        if plane is None:
            return valid
        height = points @ plane[:3].astype(np.float32) + np.float32(plane[3])
        threshold = self.min_height_m * np.maximum(1, depth**2)
        mask = valid & (height > threshold) & (height < self.max_height_m)
        opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return opened > 0

    def fit_plane(self, points: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Plane (n, d) [4] with n . p + d > 0 on the camera's side, or None; points [N, 3] m."""
        if len(points) < 100:
            return None
        p = points.astype(np.float64)
        tolerance = self.inlier_m * np.maximum(p[:, 2] ** 2, 0.25)
        rng = np.random.default_rng(0)
        triples = p[rng.integers(0, len(p), (self.iterations, 3))]
        normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
        length = np.linalg.norm(normals, axis=1)
        normals = normals[length > 1e-9] / length[length > 1e-9, None]
        offsets = -np.einsum('ni,ni->n', normals, triples[length > 1e-9, 0])
        inliers = (np.abs(p @ normals.T + offsets) < tolerance[:, None]).sum(0)
        if len(inliers) == 0 or inliers.max() < self.min_share * len(p):
            return None
        plane = np.append(normals[inliers.argmax()], offsets[inliers.argmax()])
        for _ in range(3):
            near = np.abs(p @ plane[:3] + plane[3]) < tolerance
            middle = p[near].mean(0)
            normal = np.linalg.svd(p[near] - middle, full_matrices=False)[2][2]
            plane = np.append(normal, -normal @ middle)
        return plane if plane[3] > 0 else -plane
