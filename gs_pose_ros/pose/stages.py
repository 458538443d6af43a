"""What the stages ask of each other: detect, initialize, refine, track.

Nodes, service and evaluation take any object with these methods; the frame is that of one camera,
and all poses are T_cam_obj, from the object's frame (m) into this camera's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.estimate import Detection, PoseEstimate
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.objects.splat_object import SplatObject


class Detector(Protocol):
    """Finds objects in a frame, e.g. `TemplateDetector`."""

    def detect(
        self, frame: RGBDFrame, references: Sequence[ObjectReference], effort: float = 1.0
    ) -> list[Detection]:
        """All instances found of all these objects, best first; empty if there are none.

        `effort` in [0, 1]: below 1 in a hurry, at the risk of missing what is hard to see.
        """
        ...


class Initializer(Protocol):
    """Guesses poses of a detected object, e.g. `TemplateRetrieval`."""

    def initialize(
        self, frame: RGBDFrame, reference: ObjectReference, detection: Detection
    ) -> list[PoseEstimate]:
        """Hypotheses of status INITIAL, best first; empty if there are none."""
        ...


class Refiner(Protocol):
    """Makes the best guess exact, e.g. `LMRefiner` and `GSPoseRefiner`."""

    def refine(
        self,
        frame: RGBDFrame,
        reference: SplatObject,
        hypotheses: Sequence[NDArray[np.float64]],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        """The pose near the hypotheses T_cam_obj [4, 4] that explains the frame best.

        The hypotheses come best first. `mask` [H, W] marks the object's visible pixels. CONVERGED,
        or LOST with a reason: no hypothesis, an empty mask, or none explains the image; the pose
        must not be used then.
        """
        ...


class Tracker(Protocol):
    """Follows an object from frame to frame, e.g. `LMRefiner`."""

    def track(
        self,
        frame: RGBDFrame,
        reference: SplatObject,
        T_cam_obj: NDArray[np.float64],
        T_predicted: NDArray[np.float64] | None = None,
    ) -> PoseEstimate:
        """The pose near T_cam_obj [4, 4] of the frame before; TRACKED, or LOST with a reason.

        `T_predicted` is where it would be if it had gone on moving as before.
        """
        ...
