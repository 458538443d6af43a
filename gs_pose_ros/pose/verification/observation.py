"""What poses are compared with: one object in one frame, and what is known of where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.pose.verification.keypoints import KeypointPairs

O_co = TypeVar('O_co', bound=SplatObject, covariant=True)


@dataclass(frozen=True, eq=False)
class Observation(Generic[O_co]):
    """One object in one frame; a pose T_cam_obj [4, 4] of it is what explains the observation."""

    frame: RGBDFrame
    reference: O_co
    mask: NDArray[np.bool_] | None = None  # [H, W] pixels where the object is visible
    # [H, W] pixels where anything stands that is not the support; asked where there is no mask
    foreground: NDArray[np.bool_] | None = None
    keypoints: KeypointPairs | None = None  # of the frame with the object, where they are known
