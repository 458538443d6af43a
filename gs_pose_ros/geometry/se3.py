"""Rigid motions SE(3) as float64 [4, 4] matrices; tangent vectors are (translation, rotation).

`T_a_b` maps points of frame b into frame a. A left increment `exp(xi) @ T_cam_obj` moves in the
camera frame, a right one `T_cam_obj @ exp(xi)` in the object frame. Leading axes broadcast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from transforms3d import quaternions

Matrix = NDArray[np.float64]

# Below this angle (rad) the closed forms lose digits to cancellation; the series are exact there.
_SMALL_ANGLE = 1e-4


def hat(w: ArrayLike) -> Matrix:
    """Skew matrix [..., 3, 3] of w [..., 3]: hat(w) @ x = cross(w, x)."""
    w = np.asarray(w, np.float64)
    out = np.zeros((*w.shape[:-1], 3, 3))
    out[..., 0, 1], out[..., 0, 2] = -w[..., 2], w[..., 1]
    out[..., 1, 0], out[..., 1, 2] = w[..., 2], -w[..., 0]
    out[..., 2, 0], out[..., 2, 1] = -w[..., 1], w[..., 0]
    return out


def _left_jacobian_coefficients(angle: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """sin(a)/a, (1-cos a)/a^2, (a-sin a)/a^3, by series near zero (Barfoot 2017, Sec. 7.1)."""
    small = angle < _SMALL_ANGLE
    safe = np.where(small, 1.0, angle)
    a2 = angle**2
    s = np.where(small, 1 - a2 / 6, np.sin(safe) / safe)
    c = np.where(small, 0.5 - a2 / 24, (1 - np.cos(safe)) / safe**2)
    d = np.where(small, 1 / 6 - a2 / 120, (safe - np.sin(safe)) / safe**3)
    return s, c, d


def exp(xi: ArrayLike) -> Matrix:
    """Exponential map: tangent [..., 6] (translation, rotation) to [..., 4, 4]."""
    xi = np.asarray(xi, np.float64)
    if xi.shape[-1] != 6:
        raise ValueError(f'a tangent vector has 6 entries, got shape {xi.shape}')
    w = hat(xi[..., 3:])
    ww = w @ w
    s, c, d = (
        k[..., None, None]
        for k in _left_jacobian_coefficients(np.linalg.norm(xi[..., 3:], axis=-1))
    )
    T = np.zeros((*xi.shape[:-1], 4, 4))
    T[..., :3, :3] = np.eye(3) + s * w + c * ww
    T[..., :3, 3] = ((np.eye(3) + c * w + d * ww) @ xi[..., :3, None])[..., 0]
    T[..., 3, 3] = 1
    return T


def log(T: ArrayLike) -> Matrix:
    """Inverse of `exp`: [..., 4, 4] to [..., 6], rotation angle in [0, pi]."""
    T = np.asarray(T, np.float64)
    w = rotation_log(T[..., :3, :3])
    angle = np.linalg.norm(w, axis=-1)
    small = angle < _SMALL_ANGLE
    safe = np.where(small, 1.0, angle)
    # Second coefficient of the inverse left Jacobian; 1/12 in the limit.
    k = np.where(small, 1 / 12, (1 - safe * np.cos(safe / 2) / (2 * np.sin(safe / 2))) / safe**2)
    W = hat(w)
    V_inv = np.eye(3) - 0.5 * W + k[..., None, None] * (W @ W)
    return np.concatenate([(V_inv @ T[..., :3, 3, None])[..., 0], w], -1)


def rotation_log(R: ArrayLike) -> Matrix:
    """Rotation vector [..., 3] of R [..., 3, 3], through the quaternion: stable up to pi."""
    R = np.asarray(R, np.float64)
    q = np.array([mat_to_quat(r) for r in R.reshape(-1, 3, 3)]).reshape(*R.shape[:-2], 4)
    q = q * np.where(q[..., :1] < 0, -1.0, 1.0)
    n = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    small = n < 1e-12
    scale = np.where(small, 2.0, 2 * np.arctan2(n, q[..., :1]) / np.where(small, 1.0, n))
    return scale * q[..., 1:]


def inverse(T: ArrayLike) -> Matrix:
    """Inverse of rigid motions [..., 4, 4]."""
    T = np.asarray(T, np.float64)
    out = np.zeros_like(T)
    Rt = np.swapaxes(T[..., :3, :3], -1, -2)
    out[..., :3, :3] = Rt
    out[..., :3, 3] = -(Rt @ T[..., :3, 3, None])[..., 0]
    out[..., 3, 3] = 1
    return out


def adjoint(T: ArrayLike) -> Matrix:
    """Ad(T) [..., 6, 6] with T exp(xi) T^-1 = exp(Ad(T) xi)."""
    T = np.asarray(T, np.float64)
    R, t = T[..., :3, :3], T[..., :3, 3]
    out = np.zeros((*T.shape[:-2], 6, 6))
    out[..., :3, :3] = R
    out[..., 3:, 3:] = R
    out[..., :3, 3:] = hat(t) @ R
    return out


def left_gradient(v_T: ArrayLike, T: ArrayLike) -> Matrix:
    """Gradient [6] by xi at 0 of a function of exp(xi) T, from v_T [4, 4], that by T's entries.

    GS2Pose, Eqs. 17-20: points move by rho + phi x p, the rotation's columns by phi x column.
    """
    v_T, T = np.asarray(v_T, np.float64), np.asarray(T, np.float64)
    return np.concatenate([v_T[:3, 3], np.cross(T[:3], v_T[:3], axis=0).sum(1)])


def right_gradient(v_T: ArrayLike, T: ArrayLike) -> Matrix:
    """Gradient [6] by xi at 0 of a function of T exp(xi); GS2Pose, Eqs. 23-25."""
    v_T, R = np.asarray(v_T, np.float64), np.asarray(T, np.float64)[:3, :3]
    turned = R.T @ v_T[:3, :3]
    phi = [turned[2, 1] - turned[1, 2], turned[0, 2] - turned[2, 0], turned[1, 0] - turned[0, 1]]
    return np.concatenate([R.T @ v_T[:3, 3], phi])


def from_rotation_translation(R: ArrayLike, t: ArrayLike) -> Matrix:
    """[..., 4, 4] from R [..., 3, 3] and t [..., 3]."""
    R, t = np.asarray(R, np.float64), np.asarray(t, np.float64)
    T = np.zeros((*np.broadcast_shapes(R.shape[:-2], t.shape[:-1]), 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, t, 1
    return T


def transform(T: ArrayLike, points: ArrayLike) -> Matrix:
    """Apply T [..., 4, 4] to points [..., N, 3]."""
    T = np.asarray(T, np.float64)
    return np.asarray(points) @ np.swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3]


def quat_to_mat(q: ArrayLike) -> Matrix:
    """Rotation [3, 3] of one quaternion wxyz [4] (any norm but zero)."""
    return quaternions.quat2mat(np.asarray(q, np.float64))


def mat_to_quat(R: ArrayLike) -> Matrix:
    """Unit quaternion wxyz [4], w >= 0, of one rotation [3, 3]."""
    q = quaternions.mat2quat(np.asarray(R, np.float64))
    return q / np.linalg.norm(q)


def rotation_angle(R_a: ArrayLike, R_b: ArrayLike) -> Matrix:
    """Geodesic angle (rad) between rotations [..., 3, 3] (GS-Pose, Eq. 9)."""
    R_a, R_b = np.asarray(R_a, np.float64), np.asarray(R_b, np.float64)
    # The chord form keeps its digits near zero, where arccos of the trace has none.
    chord = np.linalg.norm(R_a - R_b, axis=(-2, -1)) / np.sqrt(8.0)
    return 2 * np.arcsin(np.clip(chord, 0, 1))


def interpolate(T_0: ArrayLike, T_1: ArrayLike, ratio: float) -> Matrix:
    """Between two motions [4, 4]: a straight line for the origin, a great circle for the rotation.

    As tf2 does; ratios beyond [0, 1] extrapolate.
    """
    T_0, T_1 = np.asarray(T_0, np.float64), np.asarray(T_1, np.float64)
    turn = ratio * rotation_log(T_0[:3, :3].T @ T_1[:3, :3])
    R = T_0[:3, :3] @ exp([0, 0, 0, *turn])[:3, :3]
    return from_rotation_translation(R, (1 - ratio) * T_0[:3, 3] + ratio * T_1[:3, 3])


def fibonacci_directions(count: int) -> Matrix:
    """Unit vectors [count, 3], evenly spread over the sphere along a golden spiral."""
    i = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    return np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], -1
    )


def project_to_so3(M: ArrayLike) -> Matrix:
    """Nearest rotation to M [..., 3, 3] in the Frobenius norm (Kabsch)."""
    U, _, Vt = np.linalg.svd(np.asarray(M, np.float64))
    sign = np.linalg.det(U @ Vt)
    U[..., :, 2] *= sign[..., None]
    return U @ Vt


def is_rigid(T: ArrayLike, tolerance: float = 1e-3) -> bool:
    """Whether T [4, 4] is finite, has a proper rotation and the last row (0, 0, 0, 1)."""
    T = np.asarray(T, np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        return False
    R = T[:3, :3]
    return bool(
        np.allclose(R @ R.T, np.eye(3), atol=tolerance)
        and np.linalg.det(R) > 0
        and np.allclose(T[3], [0, 0, 0, 1], atol=1e-9)
    )
