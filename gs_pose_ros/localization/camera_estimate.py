"""What a localizer says of the camera in one frame, and what a localizer is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.localization.scene_map import SceneMap


@dataclass(frozen=True)
class CameraEstimate:
    """The pose of the camera in one frame; LOST with a reason if the map does not confirm it.

    `covariance` is of the left tangent (translation m, rotation rad) of T_cam_map, in the camera
    frame: the true one is exp(xi) T_cam_map with xi ~ N(0, covariance).
    """

    T_map_cam: NDArray[np.float64]  # [4, 4]
    status: Status
    reason: str = ''
    covariance: NDArray[np.float64] | None = None  # [6, 6]
    overlap: float = 0.0  # share of the measured pixels where the map has a surface
    agreement: float = 0.0  # share of these whose depth is the map's
    residual_m: float = 0.0  # median of |map - measured| over the overlap
    correlation: float = math.nan  # of the texture where depths agree; NaN if it says nothing
    iterations: int = 0
    stamp_ns: int = 0

    @property
    def found(self) -> bool:
        """Whether the pose may be used."""
        return self.status in (Status.CONVERGED, Status.TRACKED)

    @property
    def evidence(self) -> float:
        """The share of the measured pixels that the map explains."""
        return self.overlap * self.agreement

    def lost(self, reason: str) -> CameraEstimate:
        """The same, not to be used."""
        return replace(self, status=Status.LOST, reason=reason, covariance=None)


class Localizer(Protocol):
    """Brings a pose of the camera near the true one to it."""

    def refine(
        self, frame: RGBDFrame, scene: SceneMap, T_map_cam: NDArray[np.float64]
    ) -> CameraEstimate:
        """CONVERGED from a start [4, 4], or LOST with a reason."""
        ...
