"""The baseline of the localizer: Generalized ICP of depth points (small_gicp)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Count, Positive
from gs_pose_ros.extras import require_modules
from gs_pose_ros.frame import RGBDFrame

if TYPE_CHECKING:
    import small_gicp

_LEAST = 20  # points, of which a surface can be estimated


class PreparedPoints(NamedTuple):
    """Points with their covariances, and their search tree."""

    cloud: small_gicp.PointCloud
    tree: small_gicp.KdTree


@dataclass(frozen=True)
class PointRegistration:
    """Settings that suit rooms and tables."""

    spacing_m: Positive = 0.02
    reach_m: Positive = 0.1  # farthest correspondence
    iterations: Count = 50
    # small_gicp's own, 1 mm and 0.1 deg, end it at errors that are measured here.
    epsilon_m: Positive = 1e-5
    epsilon_rad: Positive = 1e-4

    def __post_init__(self) -> None:
        require_modules('small_gicp')

    def prepared(self, points: NDArray[np.float64]) -> PreparedPoints | None:
        """Points [N, 3] ready to be registered; None of too few."""
        import small_gicp

        if len(points) < _LEAST:
            return None
        prepared = small_gicp.preprocess_points(points, self.spacing_m, num_threads=_threads())
        return PreparedPoints(*prepared)

    def align(
        self,
        target: PreparedPoints,
        source: PreparedPoints,
        T_target_source: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """The pose [4, 4] from a start; whether it explains anything is not checked."""
        import small_gicp

        result = small_gicp.align(
            target.cloud,
            source.cloud,
            target.tree,
            T_target_source,
            max_correspondence_distance=self.reach_m,
            max_iterations=self.iterations,
            rotation_epsilon=self.epsilon_rad,
            translation_epsilon=self.epsilon_m,
            num_threads=_threads(),
        )
        return np.asarray(result.T_target_source, np.float64)


def depth_points(frame: RGBDFrame) -> NDArray[np.float64]:
    """What a frame measured, in the camera frame [N, 3] m."""
    if frame.depth is None:
        return np.zeros((0, 3))
    return frame.camera.point_map(frame.depth)[frame.depth > 0].astype(np.float64)


def _threads() -> int:
    return len(os.sched_getaffinity(0))
