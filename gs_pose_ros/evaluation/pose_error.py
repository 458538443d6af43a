"""How far an estimated pose is from the true one; metres, radians and pixels.

All functions take T_cam_obj [4, 4] and object points [N, 3]. `symmetries` [M, 4, 4] are motions
of the object onto itself, with or without the identity, which is always meant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

NO_SYMMETRY = np.zeros((0, 4, 4))


def add_error(T_est: ArrayLike, T_true: ArrayLike, points: ArrayLike) -> float:
    """ADD: mean distance of the same points under both poses, m (Hinterstoisser et al. 2012)."""
    difference = se3.transform(T_est, points) - se3.transform(T_true, points)
    return float(np.linalg.norm(difference, axis=1).mean())


def adds_error(T_est: ArrayLike, T_true: ArrayLike, points: ArrayLike) -> float:
    """ADD-S: mean distance of each true point to the nearest estimated one, m.

    For objects with symmetries (Hinterstoisser et al. 2012, Eq. 7, there ADI); direction of the
    nearest neighbour as in bop_toolkit, pose_error.py, adi.
    """
    tree = KDTree(se3.transform(T_est, points))
    return float(tree.query(se3.transform(T_true, points))[0].mean())


def mssd_error(
    T_est: ArrayLike, T_true: ArrayLike, points: ArrayLike, symmetries: NDArray = NO_SYMMETRY
) -> float:
    """Maximum symmetry-aware surface distance, m (Hodan et al. 2020, BOP'20, Eq. 2)."""
    estimated = se3.transform(T_est, points)
    return min(
        float(np.linalg.norm(estimated - se3.transform(T, points), axis=1).max())
        for T in equivalent_poses(T_true, symmetries)
    )


def mspd_error(
    T_est: ArrayLike,
    T_true: ArrayLike,
    points: ArrayLike,
    camera: Camera,
    symmetries: NDArray = NO_SYMMETRY,
) -> float:
    """Maximum symmetry-aware projection distance, px (Hodan et al. 2020, BOP'20, Eq. 3)."""
    return min(d.max() for d in _pixel_distances(T_est, T_true, points, camera, symmetries))


def projection_error(
    T_est: ArrayLike,
    T_true: ArrayLike,
    points: ArrayLike,
    camera: Camera,
    symmetries: NDArray = NO_SYMMETRY,
) -> float:
    """Mean distance of the projected points, px (Brachmann et al. 2016), over the best symmetry.

    Infinite if the estimate puts a point behind the camera.
    """
    return min(d.mean() for d in _pixel_distances(T_est, T_true, points, camera, symmetries))


def rotation_translation_error(
    T_est: ArrayLike, T_true: ArrayLike, symmetries: NDArray = NO_SYMMETRY
) -> tuple[float, float]:
    """Angle (rad) and distance (m) to the equivalent true pose of the smallest angle."""
    T_est = np.asarray(T_est, np.float64)
    candidates = equivalent_poses(T_true, symmetries)
    angles = se3.rotation_angle(candidates[:, :3, :3], T_est[:3, :3])
    best = int(np.argmin(angles))
    return float(angles[best]), float(np.linalg.norm(candidates[best, :3, 3] - T_est[:3, 3]))


def error_auc(errors: ArrayLike, limit: float = 0.1) -> float:
    """Area under the accuracy-threshold curve up to `limit`, in [0, 1] (Xiang et al. 2018).

    The usual limit for ADD and ADD-S is 0.1 m. A miss counts as an infinite error. This is the
    exact area under the step curve, where the original sums trapezoids.
    """
    errors = np.asarray(errors, np.float64)
    if errors.size == 0:
        return float('nan')
    return float(np.clip(1 - errors / limit, 0, 1).mean())


def equivalent_poses(T_true: ArrayLike, symmetries: NDArray) -> NDArray[np.float64]:
    """The poses [M + 1, 4, 4] under which the object looks the same, `T_true` first."""
    T_true = np.asarray(T_true, np.float64)
    return np.concatenate([T_true[None], T_true @ np.asarray(symmetries).reshape(-1, 4, 4)])


def _pixel_distances(
    T_est: ArrayLike, T_true: ArrayLike, points: ArrayLike, camera: Camera, symmetries: NDArray
) -> list[NDArray[np.float64]]:
    in_camera = se3.transform(T_est, points)
    if (in_camera[:, 2] <= 0).any():
        return [np.full(len(in_camera), np.inf)]
    estimated = camera.project(in_camera)
    return [
        np.linalg.norm(estimated - camera.project(se3.transform(T, points)), axis=1)
        for T in equivalent_poses(T_true, symmetries)
    ]
