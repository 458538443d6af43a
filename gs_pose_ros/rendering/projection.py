"""EWA projection of Gaussians (Zwicker et al. 2001) and its chain rule, as Numba kernels.

Every kernel works on one of `chunks` equal parts, so that the same code runs on one thread or on
all. Loops over blocks of Gaussians keep all they touch in one local array, at offsets that the
compiler knows, and count in uint64: only then does it turn them into vector instructions.
"""

from __future__ import annotations

import numba
import numpy as np

from gs_pose_ros.rendering.spherical_harmonics import sh_basis, sh_basis_gradient

kernel = {'cache': True, 'fastmath': True, 'nogil': True, 'error_model': 'numpy'}
u64 = np.uint64
f32 = np.float32
_ONE, _HALF, _ZERO, _TWO = f32(1), f32(0.5), f32(0), f32(2)
NEAR = f32(0.01)  # m, gsplat near_plane
PIXEL_FILTER = f32(0.3)  # px^2 added to the 2-D covariance, gsplat eps2d
ALPHA_MIN = f32(1 / 255)

# Columns of the prepared Gaussians, what does not depend on the view: mean, covariance (upper
# triangle), opacity, and the squared Mahalanobis radius where alpha falls to ALPHA_MIN (0: never
# seen).
PREPARED = 12
_P_OPACITY, _P_CUT = 9, 10
# Columns of the projected Gaussians: centre (px), conic, opacity, colour, depth (m), and the half
# extents of the rim (px). Gradients have the first ten.
U, V, A, B, C, OPACITY, RED, GREEN, BLUE, DEPTH, RX, RY = range(12)
PROJECTED, GRADIENTS = 12, 10
HIDDEN = f32(3e38)  # in place of a gradient by depth
# The view: rotation (rows) and translation of T_cam_obj, intrinsics, limits of |x/z| and |y/z|.
VIEW = 23
_T, _K, _LIMITS = 9, 12, 16

_BLOCK = 64
# Planes of a block; the first eleven are the prepared columns.
(_MX, _MY, _MZ, _S00, _S01, _S02, _S11, _S12, _S22, _SO, _SC, _OU, _OV, _OA, _OB, _OC, _ORX, _ORY,
 _OZ, _SEEN) = (u64(k * _BLOCK) for k in range(20))  # fmt: skip


@numba.njit(**kernel)
def rotation(q0, q1, q2, q3):
    """Rows of the rotation of a quaternion wxyz of any norm."""
    n = _ONE / np.sqrt(q0 * q0 + q1 * q1 + q2 * q2 + q3 * q3)
    w, x, y, z = q0 * n, q1 * n, q2 * n, q3 * n
    return (
        _ONE - _TWO * (y * y + z * z), _TWO * (x * y - w * z), _TWO * (x * z + w * y),
        _TWO * (x * y + w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z - w * x),
        _TWO * (x * z - w * y), _TWO * (y * z + w * x), _ONE - _TWO * (x * x + y * y),
    )  # fmt: skip


@numba.njit(**kernel)
def prepare(chunk, chunks, means, quats, log_scales, logits, prepared):
    """Fill prepared [N, 12] for part `chunk`."""
    n = means.shape[0]
    for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
        r = rotation(quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3])
        s0, s1, s2 = np.exp(log_scales[i, 0]), np.exp(log_scales[i, 1]), np.exp(log_scales[i, 2])
        s0, s1, s2 = s0 * s0, s1 * s1, s2 * s2
        out = prepared[i]
        out[0], out[1], out[2] = means[i, 0], means[i, 1], means[i, 2]
        out[3] = r[0] * r[0] * s0 + r[1] * r[1] * s1 + r[2] * r[2] * s2
        out[4] = r[0] * r[3] * s0 + r[1] * r[4] * s1 + r[2] * r[5] * s2
        out[5] = r[0] * r[6] * s0 + r[1] * r[7] * s1 + r[2] * r[8] * s2
        out[6] = r[3] * r[3] * s0 + r[4] * r[4] * s1 + r[5] * r[5] * s2
        out[7] = r[3] * r[6] * s0 + r[4] * r[7] * s1 + r[5] * r[8] * s2
        out[8] = r[6] * r[6] * s0 + r[7] * r[7] * s1 + r[8] * r[8] * s2
        opacity = _ONE / (_ONE + np.exp(-logits[i]))
        out[_P_OPACITY] = opacity
        out[_P_CUT] = _TWO * np.log(opacity / ALPHA_MIN) if opacity >= ALPHA_MIN else _ZERO


@numba.njit(**kernel)
def _camera_center(view, center):
    """Fill center [3], the camera in the object frame: -R^T t."""
    for i in range(3):
        center[i] = -(view[i] * view[_T] + view[3 + i] * view[_T + 1] + view[6 + i] * view[_T + 2])


@numba.njit(**kernel)
def _shade(mean, center, sh, basis, out):
    """Colour by the direction from the camera to the mean, clamped at 0; sh [K, 3]."""
    count = sh.shape[0]
    dx, dy, dz = mean[0] - center[0], mean[1] - center[1], mean[2] - center[2]
    norm = _ONE / np.sqrt(dx * dx + dy * dy + dz * dz)
    sh_basis(dx * norm, dy * norm, dz * norm, count, basis)
    red, green, blue = _HALF, _HALF, _HALF
    for k in range(count):
        red += basis[k] * sh[k, 0]
        green += basis[k] * sh[k, 1]
        blue += basis[k] * sh[k, 2]
    out[RED], out[GREEN], out[BLUE] = max(red, _ZERO), max(green, _ZERO), max(blue, _ZERO)


@numba.njit(**kernel)
def project(begin, end, kept, prepared, sh, view, width, height, projected, depths, visible):
    """Project the Gaussians [begin, end) and cull them; where the list of what is left ends.

    Their indices and depths are appended to visible [N] and depths [N] at `kept`, their rows of
    projected [N, 12] are filled.
    """
    w00, w01, w02, w10, w11, w12, w20, w21, w22 = (
        view[0], view[1], view[2], view[3], view[4], view[5], view[6], view[7], view[8]
    )  # fmt: skip
    t0, t1, t2 = view[_T], view[_T + 1], view[_T + 2]
    fx, fy, cx, cy = view[_K], view[_K + 1], view[_K + 2], view[_K + 3]
    x_low, x_high = -view[_LIMITS], view[_LIMITS + 1]
    y_low, y_high = -view[_LIMITS + 2], view[_LIMITS + 3]
    right, bottom = f32(width) - _HALF, f32(height) - _HALF
    center, basis = np.empty(3, np.float32), np.empty(16, np.float32)
    _camera_center(view, center)
    b = np.empty(20 * _BLOCK, np.float32)
    for first in range(begin, end, _BLOCK):
        count = min(_BLOCK, end - first)
        for j in range(count):
            row = prepared[first + j]
            for k in range(11):
                b[k * _BLOCK + j] = row[k]
        for j in range(u64(count)):
            mx, my, mz = b[_MX + j], b[_MY + j], b[_MZ + j]
            x = w00 * mx + w01 * my + w02 * mz + t0
            y = w10 * mx + w11 * my + w12 * mz + t1
            z = w20 * mx + w21 * my + w22 * mz + t2
            rz = _ONE / max(z, NEAR)
            # Far outside the image the linearisation is meaningless: hold it at the border.
            tx = min(x_high, max(x_low, x * rz))
            ty = min(y_high, max(y_low, y * rz))
            # Rows of J W, with J = [[fx, 0, -fx tx], [0, fy, -fy ty]] / z.
            jx, jy = fx * rz, fy * rz
            a0, a1, a2 = jx * (w00 - tx * w20), jx * (w01 - tx * w21), jx * (w02 - tx * w22)
            b0, b1, b2 = jy * (w10 - ty * w20), jy * (w11 - ty * w21), jy * (w12 - ty * w22)
            s00, s01, s02 = b[_S00 + j], b[_S01 + j], b[_S02 + j]
            s11, s12, s22 = b[_S11 + j], b[_S12 + j], b[_S22 + j]
            q0 = s00 * a0 + s01 * a1 + s02 * a2
            q1 = s01 * a0 + s11 * a1 + s12 * a2
            q2 = s02 * a0 + s12 * a1 + s22 * a2
            aa = a0 * q0 + a1 * q1 + a2 * q2 + PIXEL_FILTER
            ab = b0 * q0 + b1 * q1 + b2 * q2
            bb = (
                b0 * (s00 * b0 + s01 * b1 + s02 * b2)
                + b1 * (s01 * b0 + s11 * b1 + s12 * b2)
                + b2 * (s02 * b0 + s12 * b1 + s22 * b2)
                + PIXEL_FILTER
            )
            det = aa * bb - ab * ab
            inverse = _ONE / det
            cut = b[_SC + j]
            u, v = fx * x * rz + cx, fy * y * rz + cy
            rx, ry = np.sqrt(cut * aa), np.sqrt(cut * bb)
            seen = (z >= NEAR) & (cut > _ZERO) & (det > _ZERO)
            seen = seen & (u + rx > -_HALF) & (u - rx < right)
            seen = seen & (v + ry > -_HALF) & (v - ry < bottom)
            b[_OU + j], b[_OV + j] = u, v
            b[_OA + j], b[_OB + j], b[_OC + j] = bb * inverse, -ab * inverse, aa * inverse
            b[_ORX + j], b[_ORY + j], b[_OZ + j] = rx, ry, z
            b[_SEEN + j] = _ONE if seen else _ZERO
        for j in range(u64(count)):
            if b[_SEEN + j] > _ZERO:
                i = first + j
                out = projected[i]
                out[U], out[V] = b[_OU + j], b[_OV + j]
                out[A], out[B], out[C] = b[_OA + j], b[_OB + j], b[_OC + j]
                out[OPACITY], out[DEPTH] = b[_SO + j], b[_OZ + j]
                out[RX], out[RY] = b[_ORX + j], b[_ORY + j]
                _shade(prepared[i], center, sh[i], basis, out)
                visible[kept] = i
                depths[kept] = b[_OZ + j]
                kept += 1
    return kept


@numba.njit(**kernel)
def _camera_axes(quat, log_scale, W, axes):
    """Fill axes [3, 3] = W R(quat) diag(scale), whose square is the covariance in the camera."""
    r = rotation(quat[0], quat[1], quat[2], quat[3])
    for j in range(3):
        s = np.exp(log_scale[j])
        for i in range(3):
            axes[i, j] = (W[i, 0] * r[j] + W[i, 1] * r[3 + j] + W[i, 2] * r[6 + j]) * s


@numba.njit(**kernel)
def _conic_backward(g, v):
    """Gradient by the 2-D covariance (aa, ab, bb) from that by its inverse, -conic v conic."""
    p00, p01 = g[A] * v[A] + g[B] * _HALF * v[B], g[A] * _HALF * v[B] + g[B] * v[C]
    p10, p11 = g[B] * v[A] + g[C] * _HALF * v[B], g[B] * _HALF * v[B] + g[C] * v[C]
    return (
        -(p00 * g[A] + p01 * g[B]),
        -(p00 * g[B] + p01 * g[C]),
        -(p10 * g[B] + p11 * g[C]),
    )


@numba.njit(**kernel)
def _covariance_backward(x, y, z, view, axes, v_conic, v_axes):
    """Fill v_axes [3, 3]; the gradient by the mean (x, y, z) in the camera, through J.

    cov2d = J cov J^T gives v_cov = J^T v J and v_J = 2 v J cov; cov = axes axes^T.
    """
    va, vb, vc = v_conic
    fx, fy, rz = view[_K], view[_K + 1], _ONE / z
    ratio_x, ratio_y = x * rz, y * rz
    tx = min(view[_LIMITS + 1], max(-view[_LIMITS], ratio_x))
    ty = min(view[_LIMITS + 3], max(-view[_LIMITS + 2], ratio_y))
    j00, j02, j11, j12 = fx * rz, -fx * tx * rz, fy * rz, -fy * ty * rz
    v_j00, v_j02, v_j11, v_j12 = _ZERO, _ZERO, _ZERO, _ZERO
    for k in range(3):
        # Rows of J axes, and what they get from 2 v.
        first = j00 * axes[0, k] + j02 * axes[2, k]
        second = j11 * axes[1, k] + j12 * axes[2, k]
        v_first = _TWO * (va * first + vb * second)
        v_second = _TWO * (vb * first + vc * second)
        v_j00 += v_first * axes[0, k]
        v_j02 += v_first * axes[2, k]
        v_j11 += v_second * axes[1, k]
        v_j12 += v_second * axes[2, k]
        v_axes[0, k] = j00 * v_first
        v_axes[1, k] = j11 * v_second
        v_axes[2, k] = j02 * v_first + j12 * v_second
    v_x, v_y, v_z = _ZERO, _ZERO, -(fx * v_j00 + fy * v_j11) * rz * rz
    # j02 = -fx tx / z; where tx is held at the border only the 1 / z moves.
    v_z += fx * tx * rz * rz * v_j02 + fy * ty * rz * rz * v_j12
    if tx == ratio_x:
        v_x -= fx * rz * rz * v_j02
        v_z += fx * tx * rz * rz * v_j02
    if ty == ratio_y:
        v_y -= fy * rz * rz * v_j12
        v_z += fy * ty * rz * rz * v_j12
    return v_x, v_y, v_z


@numba.njit(**kernel)
def _rotation_backward(quat, v_R, out):
    """Fill out [4] with the gradient by a quaternion of any norm from v_R [3, 3]."""
    norm = _ONE / np.sqrt(quat[0] ** 2 + quat[1] ** 2 + quat[2] ** 2 + quat[3] ** 2)
    w, x, y, z = quat[0] * norm, quat[1] * norm, quat[2] * norm, quat[3] * norm
    s01, s02, s12 = v_R[1, 0] + v_R[0, 1], v_R[2, 0] + v_R[0, 2], v_R[2, 1] + v_R[1, 2]
    d01, d02, d12 = v_R[1, 0] - v_R[0, 1], v_R[0, 2] - v_R[2, 0], v_R[2, 1] - v_R[1, 2]
    gw = _TWO * (x * d12 + y * d02 + z * d01)
    gx = _TWO * (-_TWO * x * (v_R[1, 1] + v_R[2, 2]) + y * s01 + z * s02 + w * d12)
    gy = _TWO * (x * s01 - _TWO * y * (v_R[0, 0] + v_R[2, 2]) + z * s12 + w * d02)
    gz = _TWO * (x * s02 + y * s12 - _TWO * z * (v_R[0, 0] + v_R[1, 1]) + w * d01)
    dot = gw * w + gx * x + gy * y + gz * z
    out[0], out[1] = (gw - dot * w) * norm, (gx - dot * x) * norm
    out[2], out[3] = (gy - dot * y) * norm, (gz - dot * z) * norm


@numba.njit(**kernel)
def _axes_backward(quat, log_scale, W, axes, v_axes, v_R, v_quat, v_log_scale, v_W):
    """From the gradient by axes = W R S to those by quaternion, log scales and W (added)."""
    r = rotation(quat[0], quat[1], quat[2], quat[3])
    for b in range(3):
        s = np.exp(log_scale[b])
        v_log_scale[b] = (
            v_axes[0, b] * axes[0, b] + v_axes[1, b] * axes[1, b] + v_axes[2, b] * axes[2, b]
        )
        for a in range(3):
            v_R[a, b] = s * (
                W[0, a] * v_axes[0, b] + W[1, a] * v_axes[1, b] + W[2, a] * v_axes[2, b]
            )
            for c in range(3):
                v_W[a, c] += v_axes[a, b] * r[3 * c + b] * s
    _rotation_backward(quat, v_R, v_quat)


@numba.njit(**kernel)
def _color_backward(g, v, mean, center, sh, basis, gradient, v_sh):
    """Fill v_sh [K, 3]; the gradient by the offset of the mean from the camera.

    Colour depends on the direction from the camera to the mean and is clamped at 0.
    """
    count = sh.shape[0]
    dx, dy, dz = mean[0] - center[0], mean[1] - center[1], mean[2] - center[2]
    norm = _ONE / np.sqrt(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx * norm, dy * norm, dz * norm
    sh_basis(dx, dy, dz, count, basis)
    sh_basis_gradient(dx, dy, dz, count, gradient)
    red = v[RED] if g[RED] > _ZERO else _ZERO
    green = v[GREEN] if g[GREEN] > _ZERO else _ZERO
    blue = v[BLUE] if g[BLUE] > _ZERO else _ZERO
    vx, vy, vz = _ZERO, _ZERO, _ZERO
    for j in range(count):
        v_sh[j, 0], v_sh[j, 1], v_sh[j, 2] = red * basis[j], green * basis[j], blue * basis[j]
        h = red * sh[j, 0] + green * sh[j, 1] + blue * sh[j, 2]
        vx += h * gradient[j, 0]
        vy += h * gradient[j, 1]
        vz += h * gradient[j, 2]
    along = vx * dx + vy * dy + vz * dz
    return (vx - along * dx) * norm, (vy - along * dy) * norm, (vz - along * dz) * norm


@numba.njit(**kernel)
def project_backward(
    chunk, chunks, means, quats, log_scales, sh, view, projected, v_projected,
    v_means, v_quats, v_log_scales, v_logits, v_sh, v_pose,
):  # fmt: skip
    """Chain rule of `prepare` and `project` for part `chunk`, and its v_pose [chunks, 3, 4].

    v_projected [N, 10] is HIDDEN in the last column for what is not visible.
    """
    W = view[:9].copy().reshape(3, 3)
    axes = np.empty((3, 3), np.float32)
    v_axes = np.empty((3, 3), np.float32)
    v_R = np.empty((3, 3), np.float32)
    basis = np.empty(16, np.float32)
    gradient = np.empty((16, 3), np.float32)
    center = np.empty(3, np.float32)
    _camera_center(view, center)
    v_W, v_t, v_center = np.zeros((3, 3)), np.zeros(3), np.zeros(3)
    v_camera = np.empty(3, np.float32)
    n = means.shape[0]
    for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
        g, v, mean = projected[i], v_projected[i], means[i]
        if v[DEPTH] == HIDDEN:
            v_means[i], v_quats[i], v_log_scales[i] = _ZERO, _ZERO, _ZERO
            v_logits[i], v_sh[i] = _ZERO, _ZERO
            continue
        z = g[DEPTH]
        x = W[0, 0] * mean[0] + W[0, 1] * mean[1] + W[0, 2] * mean[2] + view[_T]
        y = W[1, 0] * mean[0] + W[1, 1] * mean[1] + W[1, 2] * mean[2] + view[_T + 1]
        v_logits[i] = v[OPACITY] * g[OPACITY] * (_ONE - g[OPACITY])
        _camera_axes(quats[i], log_scales[i], W, axes)
        through_J = _covariance_backward(x, y, z, view, axes, _conic_backward(g, v), v_axes)
        _axes_backward(
            quats[i], log_scales[i], W, axes, v_axes, v_R, v_quats[i], v_log_scales[i], v_W
        )
        rz = _ONE / z
        v_u, v_v = view[_K] * rz * v[U], view[_K + 1] * rz * v[V]
        v_camera[0] = v_u + through_J[0]
        v_camera[1] = v_v + through_J[1]
        v_camera[2] = v[DEPTH] - (x * v_u + y * v_v) * rz + through_J[2]
        v_offset = _color_backward(g, v, mean, center, sh[i], basis, gradient, v_sh[i])
        for b in range(3):
            v_center[b] -= v_offset[b]
            v_t[b] += v_camera[b]
            v_means[i, b] = (
                v_offset[b] + W[0, b] * v_camera[0] + W[1, b] * v_camera[1] + W[2, b] * v_camera[2]
            )
            for a in range(3):
                v_W[a, b] += v_camera[a] * mean[b]
    # center = -W^T t
    for a in range(3):
        for b in range(3):
            v_pose[chunk, a, b] = v_W[a, b] - view[_T + a] * v_center[b]
        v_pose[chunk, a, 3] = v_t[a] - (
            W[a, 0] * v_center[0] + W[a, 1] * v_center[1] + W[a, 2] * v_center[2]
        )
