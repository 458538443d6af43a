"""Stages and objects that take no time, for tests of what stands around them; no ROS."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews

CAMERA = Camera(60.0, 60.0, 31.5, 23.5, 64, 48)
START = se3.from_rotation_translation(np.eye(3), [0.0, 0.0, 0.5])


def make_reference(object_id: str = 'mug', seed: int = 0) -> ObjectReference:
    """A small cloud of colours with views of noise, as an object is stored."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.05, 0.05, (60, 3))
    colors = rng.uniform(0, 1, (60, 3))
    turns = se3.exp(np.concatenate([np.zeros((4, 3)), rng.normal(size=(4, 3))], 1))
    return ObjectReference(
        object_id=object_id,
        gaussians=Gaussians.from_points(points, colors, 0.01, 0.9, 0),
        diameter_m=0.15 + 0.001 * seed,
        box=np.stack([points.min(0), points.max(0)]),
        views=ReferenceViews(
            T_cam_obj=START @ turns,
            intrinsics=np.tile([60.0, 60.0, 8.0, 8.0], (4, 1)),
            color=rng.integers(0, 255, (4, 16, 16, 3), dtype=np.uint8),
            mask=rng.integers(0, 255, (4, 16, 16), dtype=np.uint8),
        ),
        facts={'psnr_heldout_db': 30.0},
    )


class BrightPixels:
    """Detects the bright part of an image as the first object."""

    def __init__(self) -> None:
        self.frames: list[RGBDFrame] = []
        self.searched: list[list[str]] = []
        self.efforts: list[float] = []
        self.broken = False

    def detect(
        self, frame: RGBDFrame, references: Sequence[ObjectReference], effort: float = 1.0
    ) -> list[Detection]:
        if self.broken:
            raise ZeroDivisionError('a bug')
        self.frames.append(frame)
        self.searched.append([reference.object_id for reference in references])
        self.efforts.append(effort)
        mask = frame.color.mean(-1) > 0.9
        if not mask.any():
            return []
        return [Detection.from_full_mask(references[0].object_id, 0.8, mask, (np.eye(4),))]


class AtTheMask:
    """Two hypotheses on the ray through the middle of the mask."""

    def __init__(self) -> None:
        self.frames: list[RGBDFrame] = []

    def initialize(
        self, frame: RGBDFrame, reference: ObjectReference, detection: Detection
    ) -> list[PoseEstimate]:
        self.frames.append(frame)
        if detection.score > 0.95:
            raise GsPoseError('the mask says nothing')
        if detection.score < 0.1:
            return []
        rows, columns = np.nonzero(detection.full_mask(frame.camera.shape))
        t = frame.camera.back_project([columns.mean(), rows.mean()], 0.5)
        poses = [se3.from_rotation_translation(R, t) for R in (np.eye(3), np.diag([1, -1, -1]))]
        return [PoseEstimate(T, 0.7, Status.INITIAL) for T in poses]


class Follower:
    """Moves 1 mm along x an image; loses the object in a dark one."""

    def __init__(self) -> None:
        self.masks: list[NDArray[np.bool_] | None] = []
        self.refined = 0
        self.tracked: list[int] = []
        self.steps: list[float] = []  # predicted along x, m
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False
        self.sees_in_the_dark = False
        self.to: NDArray[np.float64] | None = None  # where all tracks find their way to

    def refine(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        hypotheses: Sequence[NDArray[np.float64]],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        self.masks.append(mask)
        self.refined += 1
        self.gate.wait(10)
        return self._answer(frame, hypotheses[0], Status.CONVERGED)

    def track(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        T_predicted: NDArray[np.float64] | None = None,
    ) -> PoseEstimate:
        if T_predicted is not None:
            self.steps.append(T_predicted[0, 3] - T_cam_obj[0, 3])
        if self.broken:
            raise ZeroDivisionError('a bug')
        self.tracked.append(frame.stamp_ns)
        T = (T_cam_obj if self.to is None else self.to).copy()
        T[0, 3] += 0.001
        return self._answer(frame, T, Status.TRACKED)

    def _answer(self, frame: RGBDFrame, T: NDArray[np.float64], status: Status) -> PoseEstimate:
        if frame.color.mean() < 0.1 and not self.sees_in_the_dark:
            return PoseEstimate(T, 0.0, Status.LOST, 'it is dark', stamp_ns=frame.stamp_ns)
        return PoseEstimate(T, 0.9, status, covariance=np.eye(6) * 1e-6, iterations=3)


class Everywhere:
    """Finds the first object in every image that is not dark."""

    def detect(
        self, frame: RGBDFrame, references: Sequence[ObjectReference], effort: float = 1.0
    ) -> list[Detection]:
        if frame.color.mean() < 0.1:
            return []
        mask = np.ones(CAMERA.shape, bool)
        mask[:5] = False
        return [Detection.from_full_mask(references[0].object_id, 0.8, mask)]

    def initialize(
        self, frame: RGBDFrame, reference: ObjectReference, detection: Detection
    ) -> list[PoseEstimate]:
        return [PoseEstimate(START, 0.5, Status.INITIAL)]
