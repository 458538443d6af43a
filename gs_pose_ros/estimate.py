"""What a pose method returns: a pose with its covariance, or a status with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Status(str, Enum):
    """How far a pose can be trusted."""

    INITIAL = 'initial'  # a hypothesis, not yet compared with the image
    CONVERGED = 'converged'  # refined, and the rendering explains the image
    TRACKED = 'tracked'  # converged from the pose of the frame before
    LOST = 'lost'  # no pose here explains the image; `reason` says what failed


@dataclass(frozen=True)
class PoseEstimate:
    """The pose of one object in one frame.

    `covariance` is of the left tangent (translation m, rotation rad) in the camera frame:
    the true pose is exp(xi) @ T_cam_obj with xi ~ N(0, covariance). None when nothing is known.
    `score` is in [0, 1]; what it measures is said by the method that returned it.
    """

    T_cam_obj: NDArray[np.float64]  # [4, 4]
    score: float
    status: Status
    reason: str = ''
    covariance: NDArray[np.float64] | None = None  # [6, 6]
    iterations: int = 0
    stamp_ns: int = 0
    # What the image leaves open: other poses T_cam_obj [4, 4] that explain it about as well, and
    # the axis [3] (unit, object frame) about which it does not say how the object is turned.
    alternatives: tuple[NDArray[np.float64], ...] = ()
    free_axis: NDArray[np.float64] | None = None

    @classmethod
    def lost(
        cls, T_cam_obj: NDArray[np.float64], reason: str, stamp_ns: int, score: float = 0.0
    ) -> PoseEstimate:
        """No pose explains the image; T_cam_obj [4, 4] is the best of the bad ones."""
        return cls(T_cam_obj, score, Status.LOST, reason, stamp_ns=stamp_ns)

    @property
    def found(self) -> bool:
        """Whether the pose may be used."""
        return self.status in (Status.CONVERGED, Status.TRACKED)

    @property
    def ambiguous(self) -> bool:
        """Whether the image leaves open which of several poses it is."""
        return bool(self.alternatives) or self.free_axis is not None


@dataclass(frozen=True)
class Detection:
    """One instance of an object found in an image."""

    object_id: str
    score: float  # in [0, 1]
    box: tuple[int, int, int, int]  # x, y, width, height in pixels of the full image
    mask: NDArray[np.bool_]  # [height, width] inside the box: visible object pixels
    pose_hints: tuple[NDArray[np.float64], ...] = ()  # T_cam_obj [4, 4] the detector verified

    def full_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask in an image of (height, width)."""
        x, y, w, h = self.box
        out = np.zeros(shape, bool)
        out[y : y + h, x : x + w] = self.mask
        return out

    @classmethod
    def from_full_mask(
        cls,
        object_id: str,
        score: float,
        mask: NDArray[np.bool_],
        pose_hints: tuple[NDArray[np.float64], ...] = (),
    ) -> Detection:
        """From a mask [H, W] of the whole image, which must not be empty."""
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if rows.size == 0:
            raise ValueError(f'the mask of {object_id!r} is empty')
        y, x = int(rows[0]), int(cols[0])
        h, w = int(rows[-1]) - y + 1, int(cols[-1]) - x + 1
        crop = np.ascontiguousarray(mask[y : y + h, x : x + w])
        return cls(object_id, score, (x, y, w, h), crop, pose_hints)
