"""What one method said of the camera's pose in each frame of a sequence, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.rgbd_sequences import SequenceFrame
from gs_pose_ros.evaluation.trajectory_error import ate_rmse, frame_errors, relative_error
from gs_pose_ros.localization.camera_estimate import CameraEstimate

Pose = NDArray[np.float64]  # [4, 4]


@dataclass(frozen=True)
class FramePose:
    """One frame."""

    frame: SequenceFrame
    T_map_cam: Pose  # of a lost frame the best of the bad ones
    reason: str = ''  # why it is lost; empty where the pose is an estimate
    seconds: float | None = None  # of the pose alone
    map_seconds: float | None = None  # of the map it was found in, where that is made for it
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the method says of it

    @classmethod
    def of(
        cls,
        frame: SequenceFrame,
        estimate: CameraEstimate,
        seconds: float,
        map_seconds: float | None = None,
    ) -> FramePose:
        """From an estimate, with its shares."""
        facts = {
            'status': estimate.status.value,
            'overlap': estimate.overlap,
            'agreement': estimate.agreement,
            'correlation': None if math.isnan(estimate.correlation) else estimate.correlation,
            'residual_mm': 1000 * estimate.residual_m,
            'iterations': estimate.iterations,
        }
        reason = '' if estimate.found else estimate.reason or 'no reason given'
        return cls(frame, estimate.T_map_cam, reason, seconds, map_seconds, facts)

    @property
    def found(self) -> bool:
        """Whether the pose is an estimate."""
        return not self.reason


@dataclass(frozen=True)
class CameraRun:
    """All frames of one method, a row of the table."""

    name: str
    poses: Sequence[FramePose]
    is_trajectory: bool  # whether each frame follows from those before: then ATE and RPE are given

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which frames have an estimate [N]."""
        return np.array([pose.found for pose in self.poses], bool)

    @cached_property
    def errors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Metres and radians [N], of lost frames as well; NaN where there is no truth."""
        return frame_errors(*self._arrays())

    @cached_property
    def figures(self) -> dict[str, float | int | None]:
        """The row; None for what is not known."""
        distance, angle = (values[self.found] for values in self.errors)
        mm, deg = 1000 * distance[~np.isnan(distance)], np.degrees(angle[~np.isnan(angle)])
        ms = np.array([1000 * pose.seconds for pose in self.poses if pose.seconds is not None])
        map_ms = [1000 * p.map_seconds for p in self.poses if p.map_seconds is not None]
        p50 = _percentile(ms, 50)
        out: dict[str, float | int | None] = {
            'frames': len(self.poses),
            'lost': int((~self.found).sum()),
            'scored': len(mm),
            'median_trans_mm': _percentile(mm, 50),
            'p95_trans_mm': _percentile(mm, 95),
            'max_trans_mm': _percentile(mm, 100),
            'median_rot_deg': _percentile(deg, 50),
            'p95_rot_deg': _percentile(deg, 95),
            'max_rot_deg': _percentile(deg, 100),
            'ms_p50': p50,
            'ms_p95': _percentile(ms, 95),
            'hz': 1000 / p50 if p50 else None,
            'map_ms_p50': _percentile(map_ms, 50),
        }
        return {**out, **self._trajectory_figures()} if self.is_trajectory else out

    def rows(self) -> list[dict[str, Any]]:
        """Every frame, for the JSON file."""
        out = []
        for pose, distance, angle in zip(self.poses, *self.errors, strict=True):
            out.append(
                {
                    'frame': pose.frame.number,
                    'stamp_ns': pose.frame.stamp_ns,
                    'found': pose.found,
                    'reason': pose.reason,
                    'trans_mm': _known(1000 * distance),
                    'rot_deg': _known(math.degrees(angle)),
                    'ms': None if pose.seconds is None else 1000 * pose.seconds,
                    **pose.facts,
                }
            )
        return out

    def _arrays(self) -> tuple[Pose, Pose, NDArray[np.bool_]]:
        """Poses, true poses, both [N, 4, 4], and where the truth is known [N]."""
        nowhere = np.full((4, 4), np.nan)
        truths = [pose.frame.T_world_cam for pose in self.poses]
        true = np.array([nowhere if T is None else T for T in truths]).reshape(-1, 4, 4)
        poses = np.array([pose.T_map_cam for pose in self.poses]).reshape(-1, 4, 4)
        return poses, true, np.array([T is not None for T in truths], bool)

    def _trajectory_figures(self) -> dict[str, float | int | None]:
        poses, true, has_truth = self._arrays()
        known = has_truth & self.found
        relative = relative_error(poses, true, known)
        return {
            'ate_rmse_cm': _known(100 * ate_rmse(poses, true, known)),
            'ate_rmse_aligned_cm': _known(100 * ate_rmse(poses, true, known, align=True)),
            'rpe_pairs': relative.pairs,
            'rpe_rmse_mm': _known(1000 * relative.rmse_m),
            'rpe_median_mm': _known(1000 * relative.median_m),
            'rpe_rmse_deg': _known(math.degrees(relative.rmse_rad)),
            'rpe_median_deg': _known(math.degrees(relative.median_rad)),
        }


def _percentile(values: NDArray[np.float64] | Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
