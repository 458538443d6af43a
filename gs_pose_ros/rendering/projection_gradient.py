"""Chain rule of `projection`: gradients of the Gaussians from those of what was projected."""

from __future__ import annotations

import numba
import numpy as np

from gs_pose_ros.rendering.projection import (
    DEPTH,
    GRADIENTS,
    HIDDEN,
    INTRINSICS,
    LIMITS,
    RED,
    TRANSLATION,
    camera_center,
    direction,
    f32,
    kernel,
    plane,
    rotation,
    u64,
)
from gs_pose_ros.rendering.spherical_harmonics import BLOCK, SH_COUNT, sh_basis, sh_gradient

_ONE, _HALF, _ZERO, _TWO = f32(1), f32(0.5), f32(0), f32(2)
# Planes of a block. What goes in: means, scales, quaternions; what was projected and its
# gradient; h, the gradient by each function of the SH.
(_MX, _MY, _MZ, _S0, _S1, _S2, _Q0, _Q1, _Q2, _Q3,
 _GU, _GV, _GA, _GB, _GC, _GO, _GRED, _GGREEN, _GBLUE, _GZ,
 _VU, _VV, _VA, _VB, _VC, _VO, _VRED, _VGREEN, _VBLUE, _VZ, _H) = (
    u64(k * BLOCK) for k in range(31)
)  # fmt: skip
# What comes out: the SH basis; gradients by logit, mean, log scales and quaternion; then what is
# summed up, those by W, by the translation, and by the direction of sight.
_FIRST_OUT = 30 + SH_COUNT
_BASIS = u64(_FIRST_OUT * BLOCK)
_SUMS = 15
_PLANES = _FIRST_OUT + SH_COUNT + 11 + _SUMS
(_LOGIT, _VMX, _VMY, _VMZ, _VS0, _VS1, _VS2, _VQ0, _VQ1, _VQ2, _VQ3,
 _W00, _W01, _W02, _W10, _W11, _W12, _W20, _W21, _W22, _T0, _T1, _T2, _D0, _D1, _D2) = (
    u64(k * BLOCK) for k in range(_FIRST_OUT + SH_COUNT, _PLANES)
)  # fmt: skip


@numba.njit(inline='always', **kernel)
def _conic_backward(a, b, c, v_a, v_b, v_c):
    """Gradient by the 2-D covariance (aa, ab, bb) from that by its inverse, -conic v conic."""
    p00, p01 = a * v_a + b * _HALF * v_b, a * _HALF * v_b + b * v_c
    p10, p11 = b * v_a + c * _HALF * v_b, b * _HALF * v_b + c * v_c
    return -(p00 * a + p01 * b), -(p00 * b + p01 * c), -(p10 * b + p11 * c)


@numba.njit(inline='always', **kernel)
def _axis_backward(j00, j02, j11, j12, va, vb, vc, x, y, z):
    """Gradient by one axis (x, y, z) of a Gaussian in the camera, and by j00, j02, j11, j12.

    cov2d = J axes axes^T J^T has the gradient v, so J axes has 2 v J axes.
    """
    first, second = j00 * x + j02 * z, j11 * y + j12 * z
    v_first, v_second = _TWO * (va * first + vb * second), _TWO * (vb * first + vc * second)
    return (
        j00 * v_first, j11 * v_second, j02 * v_first + j12 * v_second,
        v_first * x, v_first * z, v_second * y, v_second * z,
    )  # fmt: skip


@numba.njit(inline='always', **kernel)
def _rotation_backward(q0, q1, q2, q3, v00, v01, v02, v10, v11, v12, v20, v21, v22):
    """Gradient by a quaternion of any norm from that by its rotation."""
    norm = _ONE / np.sqrt(q0 * q0 + q1 * q1 + q2 * q2 + q3 * q3)
    w, x, y, z = q0 * norm, q1 * norm, q2 * norm, q3 * norm
    s01, s02, s12 = v10 + v01, v20 + v02, v21 + v12
    d01, d02, d12 = v10 - v01, v02 - v20, v21 - v12
    gw = _TWO * (x * d12 + y * d02 + z * d01)
    gx = _TWO * (-_TWO * x * (v11 + v22) + y * s01 + z * s02 + w * d12)
    gy = _TWO * (x * s01 - _TWO * y * (v00 + v22) + z * s12 + w * d02)
    gz = _TWO * (x * s02 + y * s12 - _TWO * z * (v00 + v11) + w * d01)
    dot = gw * w + gx * x + gy * y + gz * z
    return (
        (gw - dot * w) * norm,
        (gx - dot * x) * norm,
        (gy - dot * y) * norm,
        (gz - dot * z) * norm,
    )


@numba.njit(**kernel)
def _gather(i, end, means, quats, log_scales, sh, projected, v_projected, b, members):
    """Fill the planes of b that go in with the next visible Gaussians from i on.

    How many these are, members[:count], and the i to go on with.
    """
    count = 0
    while i < end and count < BLOCK:
        g, v = projected[i], v_projected[i]
        if v[DEPTH] != HIDDEN:
            j = u64(count)
            for k in range(3):
                b[plane(_MX, k) + j], b[plane(_S0, k) + j] = means[i, k], np.exp(log_scales[i, k])
            for k in range(4):
                b[plane(_Q0, k) + j] = quats[i, k]
            for k in range(GRADIENTS):
                b[plane(_GU, k) + j], b[plane(_VU, k) + j] = g[k], v[k]
            for k in range(3):  # colour is clamped at 0
                if g[RED + k] <= _ZERO:
                    b[plane(_VRED, k) + j] = _ZERO
            red, green, blue = b[_VRED + j], b[_VGREEN + j], b[_VBLUE + j]
            for k in range(sh.shape[1]):
                b[plane(_H, k) + j] = red * sh[i, k, 0] + green * sh[i, k, 1] + blue * sh[i, k, 2]
            members[count] = i
            count += 1
        i += 1
    return count, i


@numba.njit(**kernel)
def _scatter(i, j, b, v_means, v_quats, v_log_scales, v_logits, v_sh):
    """The gradients of Gaussian i from column j of the planes that come out."""
    v_logits[i] = b[_LOGIT + j]
    for k in range(3):
        v_means[i, k], v_log_scales[i, k] = b[plane(_VMX, k) + j], b[plane(_VS0, k) + j]
    for k in range(4):
        v_quats[i, k] = b[plane(_VQ0, k) + j]
    red, green, blue = b[_VRED + j], b[_VGREEN + j], b[_VBLUE + j]
    for k in range(v_sh.shape[1]):
        basis = b[plane(_BASIS, k) + j]
        v_sh[i, k, 0], v_sh[i, k, 1], v_sh[i, k, 2] = red * basis, green * basis, blue * basis


@numba.njit(**kernel)
def project_backward(
    chunk, chunks, means, quats, log_scales, sh, view, projected, v_projected,
    v_means, v_quats, v_log_scales, v_logits, v_sh, v_pose,
):  # fmt: skip
    """Chain rule of `prepare` and `project` for part `chunk`, and its v_pose [chunks, 3, 4].

    v_projected [N, 10] is HIDDEN in the last column for what is not visible.
    """
    w00, w01, w02, w10, w11, w12, w20, w21, w22 = (
        view[0], view[1], view[2], view[3], view[4], view[5], view[6], view[7], view[8]
    )  # fmt: skip
    t0, t1 = view[TRANSLATION], view[TRANSLATION + 1]
    fx, fy = view[INTRINSICS], view[INTRINSICS + 1]
    x_low, x_high = -view[LIMITS], view[LIMITS + 1]
    y_low, y_high = -view[LIMITS + 2], view[LIMITS + 3]
    c0, c1, c2 = camera_center(view)
    b = np.zeros(_PLANES * BLOCK, np.float32)
    members = np.empty(BLOCK, np.int64)
    sums = np.zeros(_SUMS)
    begin, end = chunk * len(means) // chunks, (chunk + 1) * len(means) // chunks
    for i in range(begin, end):
        if v_projected[i, DEPTH] == HIDDEN:
            v_means[i], v_quats[i], v_log_scales[i] = _ZERO, _ZERO, _ZERO
            v_logits[i], v_sh[i] = _ZERO, _ZERO
    i = begin
    while i < end:
        count, i = _gather(
            i, end, means, quats, log_scales, sh, projected, v_projected, b, members
        )
        for j in range(u64(count)):
            mx, my, mz, z = b[_MX + j], b[_MY + j], b[_MZ + j], b[_GZ + j]
            x = w00 * mx + w01 * my + w02 * mz + t0
            y = w10 * mx + w11 * my + w12 * mz + t1
            rz = _ONE / z
            ratio_x, ratio_y = x * rz, y * rz
            tx, ty = min(x_high, max(x_low, ratio_x)), min(y_high, max(y_low, ratio_y))
            j00, j02, j11, j12 = fx * rz, -fx * tx * rz, fy * rz, -fy * ty * rz
            # Axes of the Gaussian in the camera, W R S.
            q0, q1, q2, q3 = b[_Q0 + j], b[_Q1 + j], b[_Q2 + j], b[_Q3 + j]
            r00, r01, r02, r10, r11, r12, r20, r21, r22 = rotation(q0, q1, q2, q3)
            s0, s1, s2 = b[_S0 + j], b[_S1 + j], b[_S2 + j]
            a00 = (w00 * r00 + w01 * r10 + w02 * r20) * s0
            a10 = (w10 * r00 + w11 * r10 + w12 * r20) * s0
            a20 = (w20 * r00 + w21 * r10 + w22 * r20) * s0
            a01 = (w00 * r01 + w01 * r11 + w02 * r21) * s1
            a11 = (w10 * r01 + w11 * r11 + w12 * r21) * s1
            a21 = (w20 * r01 + w21 * r11 + w22 * r21) * s1
            a02 = (w00 * r02 + w01 * r12 + w02 * r22) * s2
            a12 = (w10 * r02 + w11 * r12 + w12 * r22) * s2
            a22 = (w20 * r02 + w21 * r12 + w22 * r22) * s2
            va, vb, vc = _conic_backward(
                b[_GA + j], b[_GB + j], b[_GC + j], b[_VA + j], b[_VB + j], b[_VC + j]
            )
            p00, p10, p20, k00, k02, k11, k12 = _axis_backward(
                j00, j02, j11, j12, va, vb, vc, a00, a10, a20
            )
            p01, p11, p21, l00, l02, l11, l12 = _axis_backward(
                j00, j02, j11, j12, va, vb, vc, a01, a11, a21
            )
            p02, p12, p22, m00, m02, m11, m12 = _axis_backward(
                j00, j02, j11, j12, va, vb, vc, a02, a12, a22
            )
            v_j00, v_j02 = k00 + l00 + m00, k02 + l02 + m02
            v_j11, v_j12 = k11 + l11 + m11, k12 + l12 + m12
            b[_VS0 + j] = p00 * a00 + p10 * a10 + p20 * a20
            b[_VS1 + j] = p01 * a01 + p11 * a11 + p21 * a21
            b[_VS2 + j] = p02 * a02 + p12 * a12 + p22 * a22
            p00, p10, p20 = p00 * s0, p10 * s0, p20 * s0
            p01, p11, p21 = p01 * s1, p11 * s1, p21 * s1
            p02, p12, p22 = p02 * s2, p12 * s2, p22 * s2
            b[_VQ0 + j], b[_VQ1 + j], b[_VQ2 + j], b[_VQ3 + j] = _rotation_backward(
                q0, q1, q2, q3,
                w00 * p00 + w10 * p10 + w20 * p20,
                w00 * p01 + w10 * p11 + w20 * p21,
                w00 * p02 + w10 * p12 + w20 * p22,
                w01 * p00 + w11 * p10 + w21 * p20,
                w01 * p01 + w11 * p11 + w21 * p21,
                w01 * p02 + w11 * p12 + w21 * p22,
                w02 * p00 + w12 * p10 + w22 * p20,
                w02 * p01 + w12 * p11 + w22 * p21,
                w02 * p02 + w12 * p12 + w22 * p22,
            )  # fmt: skip
            # The mean in the camera: through the centre, depth, and J. Where the linearisation is
            # held at the border only 1 / z of j02 = -fx tx / z moves.
            v_x, v_y = j00 * b[_VU + j], j11 * b[_VV + j]
            v_z = b[_VZ + j] - ratio_x * v_x - ratio_y * v_y
            v_z -= (j00 * v_j00 + j02 * v_j02 + j11 * v_j11 + j12 * v_j12) * rz
            v_tx = -j00 * v_j02 if tx == ratio_x else _ZERO
            v_ty = -j11 * v_j12 if ty == ratio_y else _ZERO
            v_x += v_tx * rz
            v_y += v_ty * rz
            v_z -= (v_tx * tx + v_ty * ty) * rz
            # Colour, through the direction from the camera.
            dx, dy, dz, inverse = direction(mx - c0, my - c1, mz - c2)
            sh_basis(dx, dy, dz, b, _BASIS + j)
            gx, gy, gz = sh_gradient(dx, dy, dz, b, _H + j)
            along = gx * dx + gy * dy + gz * dz
            gx, gy = (gx - along * dx) * inverse, (gy - along * dy) * inverse
            gz = (gz - along * dz) * inverse
            b[_LOGIT + j] = b[_VO + j] * b[_GO + j] * (_ONE - b[_GO + j])
            b[_VMX + j] = gx + w00 * v_x + w10 * v_y + w20 * v_z
            b[_VMY + j] = gy + w01 * v_x + w11 * v_y + w21 * v_z
            b[_VMZ + j] = gz + w02 * v_x + w12 * v_y + w22 * v_z
            b[_W00 + j] = p00 * r00 + p01 * r01 + p02 * r02 + v_x * mx
            b[_W01 + j] = p00 * r10 + p01 * r11 + p02 * r12 + v_x * my
            b[_W02 + j] = p00 * r20 + p01 * r21 + p02 * r22 + v_x * mz
            b[_W10 + j] = p10 * r00 + p11 * r01 + p12 * r02 + v_y * mx
            b[_W11 + j] = p10 * r10 + p11 * r11 + p12 * r12 + v_y * my
            b[_W12 + j] = p10 * r20 + p11 * r21 + p12 * r22 + v_y * mz
            b[_W20 + j] = p20 * r00 + p21 * r01 + p22 * r02 + v_z * mx
            b[_W21 + j] = p20 * r10 + p21 * r11 + p22 * r12 + v_z * my
            b[_W22 + j] = p20 * r20 + p21 * r21 + p22 * r22 + v_z * mz
            b[_T0 + j], b[_T1 + j], b[_T2 + j] = v_x, v_y, v_z
            b[_D0 + j], b[_D1 + j], b[_D2 + j] = gx, gy, gz
        for k in range(_SUMS):
            total = _ZERO
            for j in range(u64(count)):
                total += b[plane(_W00, k) + j]
            sums[k] += total
        for j in range(u64(count)):
            _scatter(members[j], j, b, v_means, v_quats, v_log_scales, v_logits, v_sh)
    # center = -W^T t
    for r in range(3):
        t = view[TRANSLATION + r]
        v_pose[chunk, r, 3] = sums[9 + r]
        for c in range(3):
            v_pose[chunk, r, c] = sums[3 * r + c] + t * sums[12 + c]
            v_pose[chunk, r, 3] += view[3 * r + c] * sums[12 + c]
