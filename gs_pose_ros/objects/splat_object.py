"""A splat with a size: all that refiners and trackers need of an object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.gaussians import Gaussians


@dataclass(frozen=True, kw_only=True)
class SplatObject:
    """An object as a splat, in metres and in its own frame; it may still be growing."""

    gaussians: Gaussians
    diameter_m: float  # the largest distance between two of its points
    box: NDArray[np.float64]  # [2, 3] lowest and highest corner of the 3-D box

    @property
    def center(self) -> NDArray[np.float64]:
        """The middle [3] of the 3-D box, about which refiners turn the object."""
        return self.box.mean(0)

    def center_in(self, T_cam_obj: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the centre is [3] at a pose T_cam_obj [4, 4]."""
        return T_cam_obj[:3, :3] @ self.center + T_cam_obj[:3, 3]
