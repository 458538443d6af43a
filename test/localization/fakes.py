"""A localizer and keyframes that answer as they are told, and a camera tracker that asks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.camera_tracker import CameraTracker, TrackerSettings
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud
from test.synthetic import Pose

from .room import camera_pose

SCENE = SceneMap.from_cloud(VoxelCloud(FusionSettings()))  # the fakes do not look at it
SMALL = Camera(2.0, 2.0, 0.5, 0.5, 2, 2)
FRAME_NS = 100_000_000
HERE = camera_pose((-1.0, 0.0, 1.2))
# A tenth of a second's motion: far below a jump.
STEP = se3.exp([0.05, -0.02, 0.03, 0.02, -0.03, 0.05])
FAR = se3.exp([2.0, 0, 0, 0, 0, 0]) @ HERE


def frame_at(number: float, depth_m: float = 1.0) -> RGBDFrame:
    color = np.zeros((2, 2, 3), np.float32)
    return RGBDFrame(color, np.full((2, 2), depth_m, np.float32), SMALL, round(number * FRAME_NS))


@dataclass
class FakeLocalizer:
    """Finds the pose `truth` from starts closer than 0.2 m, and keeps what it was asked."""

    truth: Pose
    starts: list[Pose] = field(default_factory=list)
    # What comes out of a start instead.
    answer: Callable[[Pose], CameraEstimate] | None = None

    def refine(self, frame: RGBDFrame, scene: SceneMap, T_map_cam: Pose) -> CameraEstimate:
        assert scene is SCENE
        self.starts.append(T_map_cam)
        if self.answer is not None:
            return replace(self.answer(T_map_cam), stamp_ns=frame.stamp_ns)
        if np.linalg.norm(T_map_cam[:3, 3] - self.truth[:3, 3]) > 0.2:
            return lost('nothing here', T_map_cam, frame.stamp_ns)
        return found(self.truth, stamp_ns=frame.stamp_ns)

    def asked(self) -> list[Pose]:
        """The starts since the last call of this."""
        starts, self.starts = self.starts, []
        return starts


@dataclass
class FakeRelocalizer:
    """Says of every picture that it was taken at one of these poses, and counts."""

    poses: list[Pose]
    calls: int = 0

    def candidates(self, frame: RGBDFrame, scene: SceneMap) -> list[Pose]:
        assert frame.depth is not None
        assert scene is SCENE
        self.calls += 1
        return self.poses


def found(
    T: Pose,
    overlap: float = 0.9,
    agreement: float = 0.9,
    stamp_ns: int = 0,
    correlation: float = 0.7,
) -> CameraEstimate:
    return CameraEstimate(
        T,
        Status.CONVERGED,
        '',
        np.eye(6),
        overlap,
        agreement,
        correlation=correlation,
        stamp_ns=stamp_ns,
    )


def lost(
    reason: str, T: Pose, stamp_ns: int = 0, overlap: float = 0.0, agreement: float = 0.0
) -> CameraEstimate:
    return CameraEstimate(T, Status.LOST, reason, None, overlap, agreement, stamp_ns=stamp_ns)


def tracker_of(
    localizer: FakeLocalizer,
    relocalizer: FakeRelocalizer | None = None,
    settings: TrackerSettings | None = None,
) -> CameraTracker:
    return CameraTracker(SCENE, relocalizer, settings, localizer)


def started(
    relocalizer: FakeRelocalizer | None = None, settings: TrackerSettings | None = None
) -> tuple[CameraTracker, FakeLocalizer]:
    """At HERE with frame 0."""
    localizer = FakeLocalizer(HERE)
    tracker = tracker_of(localizer, relocalizer, settings)
    tracker.reset(HERE)
    assert tracker.track(frame_at(0)).status is Status.CONVERGED
    localizer.asked()
    return tracker, localizer


def moving(frames: int = 3) -> tuple[CameraTracker, FakeLocalizer, Pose]:
    """After frames from 0 on, a STEP apart; with the last pose."""
    tracker, localizer = started()
    for number in range(1, frames):
        localizer.truth = localizer.truth @ STEP
        assert tracker.track(frame_at(number)).status is Status.TRACKED
    localizer.asked()
    return tracker, localizer, localizer.truth
