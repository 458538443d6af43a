"""Gaussian splatting on a CPU: EWA projection, front-to-back compositing, analytic gradients.

Values follow gsplat (pixel filter, culling, alpha limits), so both backends agree. One Gaussian
after the other is composited over the rows it covers (splat order instead of tiles), threads take
interleaved rows. The backward pass repeats the forward order and needs no per-pixel list: what is
behind a Gaussian is the final value minus what has been composited so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import numba
import numpy as np
import torch
from numba import config as numba_config
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering.spherical_harmonics import sh_basis, sh_basis_gradient

# The default layer ("workqueue") aborts when two Python threads render at once.
numba_config.THREADING_LAYER = 'threadsafe'  # pyright: ignore[reportAttributeAccessIssue]

f32 = np.float32
_NEAR = f32(0.01)  # m, gsplat near_plane
_PIXEL_FILTER = f32(0.3)  # px^2 added to the 2-D covariance, gsplat eps2d
_ALPHA_MIN = f32(1 / 255)
_ALPHA_MAX = f32(0.999)
_STOP = f32(1e-4)  # transmittance at which a pixel is full
_ONE, _HALF, _ZERO = f32(1), f32(0.5), f32(0)
# Columns of the projected Gaussians.
_U, _V, _A, _B, _C, _OPACITY, _RED, _GREEN, _BLUE, _DEPTH, _CUT = range(11)
_N_COLUMNS = 12
_kernel = {'cache': True, 'fastmath': True, 'nogil': True, 'error_model': 'numpy'}


@numba.njit(**_kernel)
def _exp_minus(s):
    """exp(-s) for 0 <= s < 6 to 2e-7, without the call that keeps a loop from vectorising."""
    r = s * f32(0.125)
    p = _ONE - r * (
        _ONE
        - r
        * (
            _HALF
            - r
            * (
                f32(1 / 6)
                - r * (f32(1 / 24) - r * (f32(1 / 120) - r * (f32(1 / 720) - r * f32(1 / 5040))))
            )
        )
    )
    p = p * p
    p = p * p
    return p * p


@numba.njit(**_kernel)
def _rotation(q0, q1, q2, q3):
    """Rows of the rotation of a quaternion wxyz of any norm."""
    n = _ONE / np.sqrt(q0 * q0 + q1 * q1 + q2 * q2 + q3 * q3)
    w, x, y, z = q0 * n, q1 * n, q2 * n, q3 * n
    two = f32(2)
    return (
        _ONE - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y),
        two * (x * y + w * z), _ONE - two * (x * x + z * z), two * (y * z - w * x),
        two * (x * z - w * y), two * (y * z + w * x), _ONE - two * (x * x + y * y),
    )  # fmt: skip


@numba.njit(**_kernel)
def _camera_covariance(quat, log_scale, W, M, cov):
    """M = W R(quat) diag(scale) [3, 3] and cov = M M^T [3, 3]."""
    r = _rotation(quat[0], quat[1], quat[2], quat[3])
    for j in range(3):
        s = np.exp(log_scale[j])
        for i in range(3):
            M[i, j] = (W[i, 0] * r[j] + W[i, 1] * r[3 + j] + W[i, 2] * r[6 + j]) * s
    for i in range(3):
        for j in range(3):
            cov[i, j] = M[i, 0] * M[j, 0] + M[i, 1] * M[j, 1] + M[i, 2] * M[j, 2]


@numba.njit(**_kernel)
def _clamped_ratio(value, low, high):
    return min(high, max(-low, value))


@numba.njit(parallel=True, **_kernel)
def _project(means, quats, log_scales, logits, sh, W, t, K, limits, width, height, out):
    """EWA projection (Zwicker et al. 2001) of all Gaussians; out[:, _CUT] = 0 where culled."""
    n, count = means.shape[0], sh.shape[1]
    fx, fy, cx, cy = K
    center = np.empty(3, np.float32)  # camera in the object frame
    for i in range(3):
        center[i] = -(W[0, i] * t[0] + W[1, i] * t[1] + W[2, i] * t[2])
    chunks = 64
    for chunk in numba.prange(chunks):
        M = np.empty((3, 3), np.float32)
        cov = np.empty((3, 3), np.float32)
        basis = np.empty(16, np.float32)
        for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
            out[i, _CUT] = _ZERO
            mx, my, mz = means[i, 0], means[i, 1], means[i, 2]
            z = W[2, 0] * mx + W[2, 1] * my + W[2, 2] * mz + t[2]
            opacity = _ONE / (_ONE + np.exp(-logits[i]))
            if z < _NEAR or opacity < _ALPHA_MIN:
                continue
            x = W[0, 0] * mx + W[0, 1] * my + W[0, 2] * mz + t[0]
            y = W[1, 0] * mx + W[1, 1] * my + W[1, 2] * mz + t[1]
            rz = _ONE / z
            _camera_covariance(quats[i], log_scales[i], W, M, cov)
            # Far outside the image the linearisation is meaningless: hold it at the border.
            tx = _clamped_ratio(x * rz, limits[0], limits[1])
            ty = _clamped_ratio(y * rz, limits[2], limits[3])
            j00, j02, j11, j12 = fx * rz, -fx * tx * rz, fy * rz, -fy * ty * rz
            a = j00 * (j00 * cov[0, 0] + j02 * cov[0, 2]) + j02 * (
                j00 * cov[0, 2] + j02 * cov[2, 2]
            )
            b = j00 * (j11 * cov[0, 1] + j12 * cov[0, 2]) + j02 * (
                j11 * cov[1, 2] + j12 * cov[2, 2]
            )
            c = j11 * (j11 * cov[1, 1] + j12 * cov[1, 2]) + j12 * (
                j11 * cov[1, 2] + j12 * cov[2, 2]
            )
            a += _PIXEL_FILTER
            c += _PIXEL_FILTER
            det = a * c - b * b
            if det <= _ZERO:
                continue
            u, v = fx * x * rz + cx, fy * y * rz + cy
            cut = f32(2) * np.log(opacity / _ALPHA_MIN)  # squared Mahalanobis radius of the rim
            rx, ry = np.sqrt(cut * a), np.sqrt(cut * c)
            if (
                u + rx <= -_HALF
                or u - rx >= width - _HALF
                or v + ry <= -_HALF
                or v - ry >= height - _HALF
            ):
                continue
            dx, dy, dz = mx - center[0], my - center[1], mz - center[2]
            norm = _ONE / np.sqrt(dx * dx + dy * dy + dz * dz)
            sh_basis(dx * norm, dy * norm, dz * norm, count, basis)
            for channel in range(3):
                value = _HALF
                for k in range(count):
                    value += basis[k] * sh[i, k, channel]
                out[i, _RED + channel] = max(value, _ZERO)
            out[i, _U], out[i, _V] = u, v
            out[i, _A], out[i, _B], out[i, _C] = c / det, -b / det, a / det
            out[i, _OPACITY], out[i, _DEPTH], out[i, _CUT] = opacity, z, cut
    return out


@numba.njit(**_kernel)
def _rows(g, height):
    """First and last (exclusive) row that a projected Gaussian reaches."""
    ry = np.sqrt(g[_CUT] * g[_A] / (g[_A] * g[_C] - g[_B] * g[_B]))
    first = max(0, int(np.ceil(g[_V] - ry)))
    return first, min(height, int(np.floor(g[_V] + ry)) + 1)


@numba.njit(**_kernel)
def _columns(g, dy, width):
    """First and last (exclusive) column of one row that a projected Gaussian reaches."""
    middle = -g[_B] * dy / g[_A]
    reach = middle * middle - (g[_C] * dy * dy - g[_CUT]) / g[_A]
    if reach <= _ZERO:
        return 0, 0
    rx = np.sqrt(reach)
    first = max(0, int(np.ceil(g[_U] + middle - rx)))
    return first, min(width, int(np.floor(g[_U] + middle + rx)) + 1)


@numba.njit(parallel=True, **_kernel)
def _composite(gaussians, threads, image):
    """Front-to-back over sorted projected Gaussians [M, 12].

    image [H, 5, W] holds red, green, blue, depth sum and transmittance (negative once full).
    """
    height, _, width = image.shape
    for thread in numba.prange(threads):
        for i in range(gaussians.shape[0]):
            g = gaussians[i]
            first, last = _rows(g, height)
            first += (thread - first) % threads
            a, b, c, opacity = g[_A] * _HALF, g[_B], g[_C] * _HALF, g[_OPACITY]
            red, green, blue, depth, u = g[_RED], g[_GREEN], g[_BLUE], g[_DEPTH], g[_U]
            for y in range(first, last, threads):
                dy = f32(y) - g[_V]
                x0, x1 = _columns(g, dy, width)
                cdd, bd = c * dy * dy, b * dy
                row = image[y]
                for x in range(x0, x1):
                    dx = f32(x) - u
                    e = _exp_minus(max(_ZERO, (a * dx + bd) * dx + cdd))
                    alpha = min(_ALPHA_MAX, opacity * e)
                    T = row[4, x]
                    after = T * (_ONE - alpha)
                    if T > _ZERO and alpha >= _ALPHA_MIN:
                        w = alpha * T if after > _STOP else _ZERO
                        T = after if after > _STOP else -T
                    else:
                        w = _ZERO
                    row[0, x] += w * red
                    row[1, x] += w * green
                    row[2, x] += w * blue
                    row[3, x] += w * depth
                    row[4, x] = T


@numba.njit(parallel=True, **_kernel)
def _composite_backward(gaussians, threads, v_image, work, v_gaussians):
    """Gradients of `_composite`.

    v_image [H, 5, W] is the gradient by red, green, blue, depth sum and alpha; work [H, 2, W]
    holds the transmittance (1 at the start) and v_image . (everything not yet composited).
    v_gaussians [threads, M, 12] is filled with the gradient by each thread's rows.
    """
    height, _, width = v_image.shape
    for thread in numba.prange(threads):
        for i in range(gaussians.shape[0]):
            g = gaussians[i]
            out = v_gaussians[thread, i]
            out[:] = _ZERO
            first, last = _rows(g, height)
            first += (thread - first) % threads
            a, b, c, opacity = g[_A] * _HALF, g[_B], g[_C] * _HALF, g[_OPACITY]
            red, green, blue, depth, u = g[_RED], g[_GREEN], g[_BLUE], g[_DEPTH], g[_U]
            for y in range(first, last, threads):
                dy = f32(y) - g[_V]
                x0, x1 = _columns(g, dy, width)
                cdd, bd = c * dy * dy, b * dy
                v_row, state = v_image[y], work[y]
                v_red, v_green, v_blue, v_depth = _ZERO, _ZERO, _ZERO, _ZERO
                m0, m1, m2 = _ZERO, _ZERO, _ZERO  # moments of dL/dsigma in dx
                for x in range(x0, x1):
                    dx = f32(x) - u
                    e = _exp_minus(max(_ZERO, (a * dx + bd) * dx + cdd))
                    raw = opacity * e
                    alpha = min(_ALPHA_MAX, raw)
                    T = state[0, x]
                    after = T * (_ONE - alpha)
                    touched = T > _ZERO and alpha >= _ALPHA_MIN
                    blended = touched and after > _STOP
                    w = alpha * T if blended else _ZERO
                    value = (
                        v_row[0, x] * red
                        + v_row[1, x] * green
                        + v_row[2, x] * blue
                        + v_row[3, x] * depth
                        + v_row[4, x]
                    )
                    behind = state[1, x] - w * value
                    v_alpha = T * value - behind / (_ONE - alpha)
                    v_sigma = -raw * v_alpha if blended and raw <= _ALPHA_MAX else _ZERO
                    v_red += w * v_row[0, x]
                    v_green += w * v_row[1, x]
                    v_blue += w * v_row[2, x]
                    v_depth += w * v_row[3, x]
                    m0 += v_sigma
                    m1 += v_sigma * dx
                    m2 += v_sigma * dx * dx
                    state[1, x] = behind
                    state[0, x] = (after if blended else -T) if touched else T
                out[_RED] += v_red
                out[_GREEN] += v_green
                out[_BLUE] += v_blue
                out[_DEPTH] += v_depth
                out[_OPACITY] -= m0
                out[_A] += _HALF * m2
                out[_B] += dy * m1
                out[_C] += _HALF * dy * dy * m0
                out[_U] -= f32(2) * a * m1 + bd * m0
                out[_V] -= b * m1 + f32(2) * c * dy * m0
            out[_OPACITY] /= opacity  # sigma moves alpha by -alpha, opacity by alpha / opacity


@numba.njit(parallel=True, **_kernel)
def _project_backward(
    means, quats, log_scales, sh, W, t, K, limits, order, projected, v_projected,
    v_means, v_quats, v_log_scales, v_logits, v_sh, v_pose,
):  # fmt: skip
    """Chain rule of `_project` for the visible Gaussians `order` (gsplat's order of steps)."""
    count = sh.shape[1]
    fx, fy = K[0], K[1]
    center = np.empty(3, np.float32)
    for i in range(3):
        center[i] = -(W[0, i] * t[0] + W[1, i] * t[1] + W[2, i] * t[2])
    n = order.shape[0]
    chunks = v_pose.shape[0]
    for chunk in numba.prange(chunks):
        M = np.empty((3, 3), np.float32)
        cov = np.empty((3, 3), np.float32)
        v_cov = np.empty((3, 3), np.float32)
        v_M = np.empty((3, 3), np.float32)
        v_R = np.empty((3, 3), np.float32)
        basis = np.empty(16, np.float32)
        gradient = np.empty((16, 3), np.float32)
        v_W = np.zeros((3, 3))
        v_t = np.zeros(3)
        v_center = np.zeros(3)
        for k in range(chunk * n // chunks, (chunk + 1) * n // chunks):
            i = order[k]
            g, v = projected[k], v_projected[k]
            mx, my, mz = means[i, 0], means[i, 1], means[i, 2]
            x = W[0, 0] * mx + W[0, 1] * my + W[0, 2] * mz + t[0]
            y = W[1, 0] * mx + W[1, 1] * my + W[1, 2] * mz + t[1]
            z = g[_DEPTH]
            rz = _ONE / z
            v_logits[i] = v[_OPACITY] * g[_OPACITY] * (_ONE - g[_OPACITY])
            # conic = (cov2d)^-1: v_cov2d = -conic v_conic conic, B carries both off-diagonals.
            A, B, C = g[_A], g[_B], g[_C]
            vA, vB, vC = v[_A], _HALF * v[_B], v[_C]
            p00, p01 = A * vA + B * vB, A * vB + B * vC
            p10, p11 = B * vA + C * vB, B * vB + C * vC
            va = -(p00 * A + p01 * B)
            vb = -(p00 * B + p01 * C)
            vc = -(p10 * B + p11 * C)
            _camera_covariance(quats[i], log_scales[i], W, M, cov)
            ratio_x, ratio_y = x * rz, y * rz
            tx = _clamped_ratio(ratio_x, limits[0], limits[1])
            ty = _clamped_ratio(ratio_y, limits[2], limits[3])
            j00, j02, j11, j12 = fx * rz, -fx * tx * rz, fy * rz, -fy * ty * rz
            # cov2d = J cov J^T: v_cov = J^T v2 J, v_J = 2 v2 J cov (both matrices symmetric).
            v_cov[0, 0] = j00 * j00 * va
            v_cov[0, 1] = j00 * j11 * vb
            v_cov[1, 1] = j11 * j11 * vc
            v_cov[0, 2] = j00 * (va * j02 + vb * j12)
            v_cov[1, 2] = j11 * (vb * j02 + vc * j12)
            v_cov[2, 2] = j02 * (va * j02 + vb * j12) + j12 * (vb * j02 + vc * j12)
            v_cov[1, 0], v_cov[2, 0], v_cov[2, 1] = v_cov[0, 1], v_cov[0, 2], v_cov[1, 2]
            two = f32(2)
            q00 = j00 * cov[0, 0] + j02 * cov[0, 2]
            q02 = j00 * cov[0, 2] + j02 * cov[2, 2]
            q01 = j00 * cov[0, 1] + j02 * cov[1, 2]
            r00 = j11 * cov[0, 1] + j12 * cov[0, 2]
            r01 = j11 * cov[1, 1] + j12 * cov[1, 2]
            r02 = j11 * cov[1, 2] + j12 * cov[2, 2]
            v_j00 = two * (va * q00 + vb * r00)
            v_j02 = two * (va * q02 + vb * r02)
            v_j11 = two * (vb * q01 + vc * r01)
            v_j12 = two * (vb * q02 + vc * r02)
            v_x = fx * rz * v[_U]
            v_y = fy * rz * v[_V]
            v_z = v[_DEPTH] - (fx * x * v[_U] + fy * y * v[_V]) * rz * rz
            v_z -= (fx * v_j00 + fy * v_j11) * rz * rz
            # j02 = -fx tx / z; where tx is clamped only the 1 / z moves.
            if tx == ratio_x:
                v_x -= fx * rz * rz * v_j02
                v_z += two * fx * tx * rz * rz * v_j02
            else:
                v_z += fx * tx * rz * rz * v_j02
            if ty == ratio_y:
                v_y -= fy * rz * rz * v_j12
                v_z += two * fy * ty * rz * rz * v_j12
            else:
                v_z += fy * ty * rz * rz * v_j12
            # cov = M M^T, M = W R S.
            for a in range(3):
                for b in range(3):
                    v_M[a, b] = two * (
                        v_cov[a, 0] * M[0, b] + v_cov[a, 1] * M[1, b] + v_cov[a, 2] * M[2, b]
                    )
            r = _rotation(quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3])
            for b in range(3):
                s = np.exp(log_scales[i, b])
                v_log_scales[i, b] = (
                    v_M[0, b] * M[0, b] + v_M[1, b] * M[1, b] + v_M[2, b] * M[2, b]
                )
                for a in range(3):
                    v_R[a, b] = s * (
                        W[0, a] * v_M[0, b] + W[1, a] * v_M[1, b] + W[2, a] * v_M[2, b]
                    )
                    for c in range(3):
                        v_W[a, c] += v_M[a, b] * r[3 * c + b] * s
            q0, q1, q2, q3 = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
            norm = _ONE / np.sqrt(q0 * q0 + q1 * q1 + q2 * q2 + q3 * q3)
            w_, x_, y_, z_ = q0 * norm, q1 * norm, q2 * norm, q3 * norm
            gw = two * (
                x_ * (v_R[2, 1] - v_R[1, 2])
                + y_ * (v_R[0, 2] - v_R[2, 0])
                + z_ * (v_R[1, 0] - v_R[0, 1])
            )
            gx = two * (
                -two * x_ * (v_R[1, 1] + v_R[2, 2])
                + y_ * (v_R[1, 0] + v_R[0, 1])
                + z_ * (v_R[2, 0] + v_R[0, 2])
                + w_ * (v_R[2, 1] - v_R[1, 2])
            )
            gy = two * (
                x_ * (v_R[1, 0] + v_R[0, 1])
                - two * y_ * (v_R[0, 0] + v_R[2, 2])
                + z_ * (v_R[2, 1] + v_R[1, 2])
                + w_ * (v_R[0, 2] - v_R[2, 0])
            )
            gz = two * (
                x_ * (v_R[2, 0] + v_R[0, 2])
                + y_ * (v_R[2, 1] + v_R[1, 2])
                - two * z_ * (v_R[0, 0] + v_R[1, 1])
                + w_ * (v_R[1, 0] - v_R[0, 1])
            )
            dot = gw * w_ + gx * x_ + gy * y_ + gz * z_
            v_quats[i, 0] = (gw - dot * w_) * norm
            v_quats[i, 1] = (gx - dot * x_) * norm
            v_quats[i, 2] = (gy - dot * y_) * norm
            v_quats[i, 3] = (gz - dot * z_) * norm
            # Colour by the direction from the camera to the mean, clamped at 0.
            dx, dy, dz = mx - center[0], my - center[1], mz - center[2]
            rnorm = _ONE / np.sqrt(dx * dx + dy * dy + dz * dz)
            dx, dy, dz = dx * rnorm, dy * rnorm, dz * rnorm
            sh_basis(dx, dy, dz, count, basis)
            sh_basis_gradient(dx, dy, dz, count, gradient)
            vdx, vdy, vdz = _ZERO, _ZERO, _ZERO
            for channel in range(3):
                vc_ = v[_RED + channel] if g[_RED + channel] > _ZERO else _ZERO
                for j in range(count):
                    v_sh[i, j, channel] = vc_ * basis[j]
                    h = vc_ * sh[i, j, channel]
                    vdx += h * gradient[j, 0]
                    vdy += h * gradient[j, 1]
                    vdz += h * gradient[j, 2]
            along = vdx * dx + vdy * dy + vdz * dz
            vdx, vdy, vdz = (
                (vdx - along * dx) * rnorm,
                (vdy - along * dy) * rnorm,
                (vdz - along * dz) * rnorm,
            )
            v_center[0] -= vdx
            v_center[1] -= vdy
            v_center[2] -= vdz
            v_means[i, 0] = vdx + W[0, 0] * v_x + W[1, 0] * v_y + W[2, 0] * v_z
            v_means[i, 1] = vdy + W[0, 1] * v_x + W[1, 1] * v_y + W[2, 1] * v_z
            v_means[i, 2] = vdz + W[0, 2] * v_x + W[1, 2] * v_y + W[2, 2] * v_z
            v_t[0] += v_x
            v_t[1] += v_y
            v_t[2] += v_z
            for b in range(3):
                m = means[i, b]
                v_W[0, b] += v_x * m
                v_W[1, b] += v_y * m
                v_W[2, b] += v_z * m
        # center = -W^T t
        for a in range(3):
            for b in range(3):
                v_pose[chunk, a, b] = v_W[a, b] - t[a] * v_center[b]
            v_pose[chunk, a, 3] = v_t[a] - (
                W[a, 0] * v_center[0] + W[a, 1] * v_center[1] + W[a, 2] * v_center[2]
            )


class GaussianArrays(NamedTuple):
    """The parameters of `Gaussians` as C-contiguous float32 arrays, without a copy on a CPU."""

    means: NDArray[np.float32]  # [N, 3]
    quats: NDArray[np.float32]  # [N, 4]
    log_scales: NDArray[np.float32]  # [N, 3]
    logit_opacities: NDArray[np.float32]  # [N]
    sh: NDArray[np.float32]  # [N, K, 3]

    @classmethod
    def of(cls, gaussians: Gaussians) -> GaussianArrays:
        """The arrays behind the tensors."""
        return cls(
            *(
                np.ascontiguousarray(getattr(gaussians, name).detach().cpu().numpy(), np.float32)
                for name in cls._fields
            )
        )


# Small pictures take less time than it takes threads to start, and callers have many of them:
# those are better spread over threads as a whole (gs_pose_ros.parallel).
_SMALL_PICTURE = 112 * 112
_project_serial = numba.njit(**_kernel)(_project.py_func)
_composite_serial = numba.njit(**_kernel)(_composite.py_func)


def _is_small(camera: Camera) -> bool:
    return camera.width * camera.height <= _SMALL_PICTURE


@dataclass(frozen=True)
class Projection:
    """The visible Gaussians of one view in depth order, as `_composite` takes them."""

    order: NDArray[np.int64]  # [M] indices into the Gaussians, near to far
    gaussians: NDArray[np.float32]  # [M, 12]
    W: NDArray[np.float32]  # [3, 3] rotation of T_cam_obj
    t: NDArray[np.float32]  # [3]
    K: tuple[np.float32, np.float32, np.float32, np.float32]
    limits: NDArray[np.float32]  # [4] largest |x/z|, |y/z| that is linearised


def project(arrays: GaussianArrays, camera: Camera, T_cam_obj: NDArray[np.float64]) -> Projection:
    """Project, cull and sort by depth; T_cam_obj [4, 4]."""
    W = np.ascontiguousarray(T_cam_obj[:3, :3], np.float32)
    t = np.ascontiguousarray(T_cam_obj[:3, 3], np.float32)
    K = (f32(camera.fx), f32(camera.fy), f32(camera.cx), f32(camera.cy))
    # gsplat holds the linearisation 15 % of the image outside its border.
    left, right = (camera.cx + 0.5) / camera.fx, (camera.width - 0.5 - camera.cx) / camera.fx
    top, bottom = (camera.cy + 0.5) / camera.fy, (camera.height - 0.5 - camera.cy) / camera.fy
    mx, my = 0.15 * camera.width / camera.fx, 0.15 * camera.height / camera.fy
    limits = np.array([left + mx, right + mx, top + my, bottom + my], np.float32)
    out = np.empty((len(arrays.means), _N_COLUMNS), np.float32)
    kernel = _project_serial if _is_small(camera) else _project
    kernel(*arrays, W, t, K, limits, camera.width, camera.height, out)
    visible = np.flatnonzero(out[:, _CUT])
    order = visible[np.argsort(out[visible, _DEPTH], kind='stable')]
    return Projection(order, out[order], W, t, K, limits)


def composite(projection: Projection, camera: Camera) -> NDArray[np.float32]:
    """Image [H, 5, W]: premultiplied red, green, blue, depth sum (m), and alpha."""
    image = np.zeros((camera.height, 5, camera.width), np.float32)
    image[:, 4] = 1
    if _is_small(camera):
        _composite_serial(projection.gaussians, 1, image)
    else:
        _composite(projection.gaussians, numba.get_num_threads(), image)
    image[:, 4] = 1 - np.abs(image[:, 4])
    return image


class Rasterize(torch.autograd.Function):
    """`composite(project(...))` as [H, 5, W], differentiable in the Gaussians and in T_cam_obj."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        means: Tensor,
        quats: Tensor,
        log_scales: Tensor,
        logit_opacities: Tensor,
        sh: Tensor,
        T_cam_obj: Tensor,
        camera: Camera,
    ) -> Tensor:
        """Arrays as in `Gaussians`; T_cam_obj [4, 4]."""
        arrays = GaussianArrays.of(Gaussians(means, quats, log_scales, logit_opacities, sh))
        projection = project(arrays, camera, T_cam_obj.detach().numpy())
        image = composite(projection, camera)
        ctx.saved = (arrays, projection, image, T_cam_obj.dtype)  # type: ignore[attr-defined]
        return torch.from_numpy(image)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grad_outputs: Tensor) -> tuple:
        """Gradients by all inputs but the camera."""
        arrays, projection, image, pose_dtype = ctx.saved  # type: ignore[attr-defined]
        v_image = np.ascontiguousarray(grad_outputs[0].numpy(), np.float32)
        work = np.ones((image.shape[0], 2, image.shape[2]), np.float32)
        work[:, 1] = np.einsum('hcw,hcw->hw', v_image, image)
        threads = numba.get_num_threads()
        parts = np.empty((threads, *projection.gaussians.shape), np.float32)
        _composite_backward(projection.gaussians, threads, v_image, work, parts)
        v_projected = parts.sum(0)
        out = [np.zeros_like(a) for a in arrays]
        v_pose = np.zeros((16, 3, 4))
        p, a = projection, arrays
        inputs = (a.means, a.quats, a.log_scales, a.sh, p.W, p.t, p.K, p.limits)
        kernel = cast('Callable[..., None]', _project_backward)
        kernel(*inputs, p.order, p.gaussians, v_projected, *out, v_pose)
        pose = torch.zeros(4, 4, dtype=pose_dtype)
        pose[:3] = torch.from_numpy(v_pose.sum(0)).to(pose_dtype)
        return (*(torch.from_numpy(a) for a in out), pose, None)
