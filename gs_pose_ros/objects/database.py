"""Reference objects on disk: one directory an object, written atomically, read with checks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.gaussians import Gaussians


@dataclass(frozen=True)
class ReferenceViews:
    """Pictures of the object, rescaled as in GS-Pose Sec. 7.2; the poses are of the crops' camera.

    Every crop is S x S pixels with its own camera (the object's centre is near its middle).
    """

    T_cam_obj: NDArray[np.float64]  # [R, 4, 4]
    intrinsics: NDArray[np.float64]  # [R, 4] fx, fy, cx, cy of the crops, pixels
    color: NDArray[np.uint8]  # [R, S, S, 3] RGB
    mask: NDArray[np.uint8]  # [R, S, S] 0 to 255


@dataclass(frozen=True)
class ObjectReference:
    """All that is known of a registered object; metres, in the object's own frame."""

    object_id: str
    gaussians: Gaussians
    diameter_m: float
    box: NDArray[np.float64]  # [2, 3] lowest and highest corner of the 3-D box
    views: ReferenceViews
    # Discrete symmetries T_obj_obj [M, 4, 4] that map the object onto itself, identity excluded.
    symmetries: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4, 4)))
    # Facts of the registration: PSNR, seconds, number of views, ...
    facts: dict[str, float | int | str] = field(default_factory=dict)
