"""Follows the camera through a map from frame to frame, and finds it again when it is lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Angle, Few, NonNegative, Positive
from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.gsplatloc import CameraEstimate, GSplatLoc, Localizer
from gs_pose_ros.localization.scene_map import SceneMap


class Relocalizer(Protocol):
    """Finds the camera in the map without a start."""

    def candidates(self, frame: RGBDFrame, scene: SceneMap) -> list[NDArray[np.float64]]:
        """Poses T_map_cam [4, 4] that may be near the true one, the likeliest first."""
        ...


@dataclass(frozen=True)
class TrackerSettings:
    """When a pose is believed."""

    localizer: GSplatLoc = field(default_factory=GSplatLoc)
    # A step away from the prediction by more than either is a jump, believed when so many
    # frames in a row agree on where the camera is now.
    jump_m: Positive = 0.3
    jump_deg: Angle = 20.0
    confirmations: Few = 3
    # After a gap longer than this the camera is taken to be where it was, not to have gone on.
    predict_s: NonNegative = 0.5


class CameraTracker:
    """The state of one camera in one map; not for several threads at a time."""

    def __init__(
        self,
        scene: SceneMap,
        relocalizer: Relocalizer | None = None,
        settings: TrackerSettings | None = None,
        localizer: Localizer | None = None,
    ) -> None:
        self.scene, self._relocalizer = scene, relocalizer
        self.settings = settings or TrackerSettings()
        self._localizer = localizer or self.settings.localizer
        self.reset()

    def reset(self, T_map_cam: NDArray[np.float64] | None = None) -> None:
        """Forget the past; the next frame is taken near a given pose [4, 4], or anywhere."""
        self._last: tuple[int, NDArray[np.float64]] | None = None
        self._before: tuple[int, NDArray[np.float64]] | None = None
        self._given = T_map_cam
        self._waiting: list[tuple[int, NDArray[np.float64]]] = []  # poses after a jump

    def track(
        self, frame: RGBDFrame, T_last_cam: NDArray[np.float64] | None = None
    ) -> CameraEstimate:
        """The pose in the next frame; TRACKED, CONVERGED where it was found anew, or LOST.

        `T_last_cam` [4, 4] is the camera's motion since the last frame with a pose, of odometry.
        """
        raise NotImplementedError
