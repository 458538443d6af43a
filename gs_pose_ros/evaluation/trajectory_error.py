"""How far an estimated trajectory of a camera is from the true one; metres and radians.

ATE and RPE as in Sturm et al. 2012, A Benchmark for the Evaluation of RGB-D SLAM Systems. All
functions take poses T_map_cam [N, 4, 4] of the same moments and `known` [N], True where there is
an estimate (what stands elsewhere is not looked at). Figures of no frame at all are NaN.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.alignment import umeyama

Poses = NDArray[np.float64]
Mask = NDArray[np.bool_]


class RelativeError(NamedTuple):
    """RPE over all pairs of frames that both have an estimate."""

    pairs: int
    rmse_m: float
    median_m: float
    rmse_rad: float
    median_rad: float


def frame_errors(
    estimated: Poses, true: Poses, known: Mask
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of the camera (m) and angle (rad) of each frame, both [N]; NaN where unknown."""
    _check(estimated, true, known)
    distance, angle = np.full(len(true), np.nan), np.full(len(true), np.nan)
    difference = estimated[known, :3, 3] - true[known, :3, 3]
    distance[known] = np.linalg.norm(difference, axis=1)
    angle[known] = se3.rotation_angle(estimated[known, :3, :3], true[known, :3, :3])
    return distance, angle


def ate_rmse(estimated: Poses, true: Poses, known: Mask, align: bool = False) -> float:
    """Absolute trajectory error, root mean square, m.

    With `align` after the motion (no scale) that brings the estimated positions closest to the
    true ones; where they do not determine one (fewer than three, or all on a line) without it.
    """
    _check(estimated, true, known)
    p, q = estimated[known, :3, 3], true[known, :3, 3]
    if align:
        with suppress(ValueError):
            p = se3.transform(umeyama(p, q)[0], p)
    return _rms(np.linalg.norm(p - q, axis=1))


def relative_error(estimated: Poses, true: Poses, known: Mask, step: int = 1) -> RelativeError:
    """Relative pose error over `step` frames: that of the motion between frames i and i + step."""
    _check(estimated, true, known)
    if step < 1:
        raise ValueError(f'a step of at least one frame is needed, got {step}')
    i = np.flatnonzero(known[:-step] & known[step:])

    def motion(poses: Poses) -> Poses:
        return se3.inverse(poses[i]) @ poses[i + step]

    E = se3.inverse(motion(true)) @ motion(estimated)  # Eq. 1
    distance = np.linalg.norm(E[:, :3, 3], axis=1)
    angle = se3.rotation_angle(E[:, :3, :3], np.eye(3))
    return RelativeError(len(i), _rms(distance), _median(distance), _rms(angle), _median(angle))


def _check(estimated: Poses, true: Poses, known: Mask) -> None:
    shapes = estimated.shape, true.shape, known.shape
    if true.ndim != 3 or shapes != ((len(true), 4, 4),) * 2 + ((len(true),),):
        raise ValueError(f'two [N, 4, 4] and one [N] are needed, got {shapes}')


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float('nan')


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else float('nan')
