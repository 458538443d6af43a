"""Poses of textured objects from local features: SIFT, votes for the object's centre, PnP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import (
    Consensus,
    Factor,
    Few,
    Many,
    NonNegative,
    Positive,
    Share,
)
from gs_pose_ros.features.local_features import FrameFeatures, nearest
from gs_pose_ros.geometry.alignment import solve_pnp
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.verification.keypoints import KeypointBank, keypoint_bank


@dataclass(frozen=True)
class FeatureMatching:
    """Settings and method; see `hypotheses`."""

    ratio: Share = 0.85  # distance to the best over that to the best elsewhere on the object
    elsewhere: NonNegative = 0.1  # diameters
    neighbors: Many = 24  # the most similar keypoints among which the best elsewhere is looked for
    # Every match predicts where the object's centre is and how large the object: those agree
    # within these limits before a pose is computed from them.
    center_tolerance: Positive = 0.35  # diameters
    scale_tolerance: Factor = 1.6  # factor
    threshold: Positive = 0.025  # reprojection error of an inlier, diameters in the picture
    min_inliers: Consensus = 8
    iterations: Many = 300  # of RANSAC; enough where a third of those that agree are right
    max_instances: Few = 5

    def hypotheses(
        self, features: FrameFeatures, reference: ObjectReference
    ) -> list[tuple[NDArray[np.float64], int]]:
        """Poses T_cam_obj [4, 4] with their numbers of inliers, most inliers first.

        Empty when too few matches agree; always for an object without texture.
        """
        bank = keypoint_bank(reference)
        frame, keypoint = self._matches(features, bank, reference.diameter_m)
        center, size = self._votes(features, frame, bank, keypoint)
        found: list[tuple[NDArray[np.float64], int]] = []
        for _ in range(3 * self.max_instances):
            if len(frame) < self.min_inliers or len(found) == self.max_instances:
                break
            apart = np.linalg.norm(center[:, None] - center[None], axis=-1)
            near = apart < self.center_tolerance * np.minimum(size[:, None], size[None])
            near &= np.abs(np.log(size[:, None] / size[None])) < np.log(self.scale_tolerance)
            members = near[near.sum(1).argmax()]
            if np.count_nonzero(members) < self.min_inliers:
                break
            pnp = solve_pnp(
                bank.points[keypoint[members]],
                features.pixels[frame[members]],
                features.camera,
                max(1.5, self.threshold * float(np.median(size[members]))),
                min_inliers=self.min_inliers,
                iterations=self.iterations,
            )
            if pnp is not None:
                found.append((pnp.T_cam_obj, int(np.count_nonzero(pnp.inliers))))
            rest = ~members
            frame, keypoint, center, size = frame[rest], keypoint[rest], center[rest], size[rest]
        return sorted(found, key=lambda f: -f[1])

    def _matches(
        self, features: FrameFeatures, bank: KeypointBank, diameter: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices [M] into the frame's keypoints, none twice, and into the object's."""
        if len(bank.points) < self.min_inliers:
            none = np.zeros(0, np.int64)
            return none, none
        indices, values = nearest(features.descriptors, bank.descriptors, self.neighbors)
        # The same point seen in another view is no rival.
        points = bank.points[indices]
        rival = np.linalg.norm(points - points[:, :1], axis=-1) > self.elsewhere * diameter
        best = np.where(rival, values, -1).max(1)
        best = np.maximum(best, values[:, -1])  # all the others are below the last one
        distinct = 1 - values[:, 0] < self.ratio**2 * (1 - best)
        kept = np.flatnonzero(distinct)
        return kept, indices[kept, 0]

    def _votes(
        self,
        features: FrameFeatures,
        frame: NDArray[np.int64],
        bank: KeypointBank,
        keypoint: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each match sees the object's centre [M, 2] px and its diameter [M] px."""
        zoom = features.scales[frame] / bank.scales[keypoint]
        turn = features.angles[frame] - bank.angles[keypoint]
        x, y = (bank.to_center[keypoint] * zoom[:, None]).T
        cos, sin = np.cos(turn), np.sin(turn)
        center = features.pixels[frame] + np.stack([cos * x - sin * y, sin * x + cos * y], -1)
        return center.astype(np.float32), (bank.sizes[keypoint] * zoom).astype(np.float32)
