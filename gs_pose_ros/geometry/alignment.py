"""Closed-form alignment: point sets to each other (Umeyama), points to pixels (PnP)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera


def umeyama(
    source: ArrayLike,  # [N, 3]
    target: ArrayLike,  # [N, 3]
    with_scale: bool = False,
) -> tuple[NDArray[np.float64], float]:
    """The motion and scale that minimise sum |target - (scale R source + t)|^2 (Umeyama 1991).

    Returns:
        T_target_source [4, 4] with R and t, and the scale (1.0 unless `with_scale`).

    Raises:
        ValueError: shapes differ, fewer than 3 points, NaN, or all points on one line.

    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3 or len(a) < 3:
        raise ValueError(f'two equal point sets [N >= 3, 3] are needed, got {a.shape}, {b.shape}')
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError('the points hold NaN or infinite values')
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = a - mean_a, b - mean_b
    for points in (a, b):
        spread = np.linalg.svd(points, compute_uv=False)
        if spread[1] < 1e-9 * max(spread[0], 1e-300):
            raise ValueError('the points lie on one line; the rotation about it is free')
    covariance = b.T @ a / len(a)
    R = se3.project_to_so3(covariance)  # Eq. 40, with the reflection case of Eq. 39
    scale = float(np.sum(R * covariance) / (a**2).sum(1).mean()) if with_scale else 1.0
    return se3.from_rotation_translation(R, mean_b - scale * R @ mean_a), scale


@dataclass(frozen=True)
class PnPResult:
    """A pose from point correspondences."""

    T_cam_obj: NDArray[np.float64]  # [4, 4]
    inliers: NDArray[np.bool_]  # [N]
    rms_px: float  # root mean square reprojection error of the inliers


def solve_pnp(
    points_obj: ArrayLike,  # [N, 3] m
    pixels: ArrayLike,  # [N, 2]
    camera: Camera,
    threshold_px: float = 3.0,
    confidence: float = 0.999,
    iterations: int = 300,
    min_inliers: int = 6,
) -> PnPResult | None:
    """Pose from 3D-2D matches: AP3P in RANSAC, SQPnP on the inliers, refined there.

    AP3P: Ke and Roumeliotis 2017; SQPnP: Terzakis and Lourakis 2020, the global optimum also for
    points on a plane, where EPnP often returns the mirrored pose, from which no refinement
    escapes (seen with tilted marker boards: 14 px instead of 0.07 px).

    The same input gives the same result. None when fewer than `min_inliers` matches agree or the
    object would lie behind the camera.

    Raises:
        ValueError: the shapes do not fit.

    """
    p, uv = np.asarray(points_obj, np.float64), np.asarray(pixels, np.float64)
    if p.ndim != 2 or p.shape[1] != 3 or uv.shape != (len(p), 2):
        raise ValueError(f'points [N, 3] and pixels [N, 2] are needed, got {p.shape}, {uv.shape}')
    if len(p) < max(4, min_inliers):
        return None
    K, no_distortion = camera.matrix, np.zeros(4)
    try:
        found, _, _, index = cv2.solvePnPRansac(
            p,
            uv,
            K,
            no_distortion,
            iterationsCount=iterations,
            reprojectionError=threshold_px,
            confidence=confidence,
            flags=cv2.SOLVEPNP_AP3P,
        )
        if not found or index is None or len(index) < min_inliers:
            return None
        index = np.asarray(index, np.int64).ravel()
        _, rotation, t = cv2.solvePnP(
            p[index], uv[index], K, no_distortion, flags=cv2.SOLVEPNP_SQPNP
        )
        rotation, t = cv2.solvePnPRefineLM(p[index], uv[index], K, no_distortion, rotation, t)
    except cv2.error:  # degenerate samples, e.g. all points on one line
        return None
    T = se3.from_rotation_translation(cv2.Rodrigues(rotation)[0], t.ravel())
    if not se3.is_rigid(T) or (se3.transform(T, p[index])[:, 2] <= 0).any():
        return None
    # The refined pose may win or lose matches at the rim of the threshold.
    in_camera = se3.transform(T, p)
    errors = np.full(len(p), np.inf)
    front = in_camera[:, 2] > 0
    errors[front] = np.linalg.norm(camera.project(in_camera[front]) - uv[front], axis=1)
    inliers = errors < threshold_px
    if inliers.sum() < min_inliers:
        return None
    return PnPResult(T, inliers, float(np.sqrt(np.mean(errors[inliers] ** 2))))
