"""EWA projection of Gaussians (Zwicker et al. 2001), as Numba kernels.

Every kernel works on one of `chunks` equal parts, so that the same code runs on one thread or on
all. Loops over blocks of Gaussians keep all they touch in one local array, at offsets that the
compiler knows, and count in uint64: only then does it turn them into vector instructions.
"""

from __future__ import annotations

import numba
import numpy as np

from gs_pose_ros.rendering.spherical_harmonics import BLOCK, SH_COUNT, sh_basis

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
# Columns of the projected Gaussians: centre (px), conic, opacity, colour, depth (m), the half
# extents of the rim (px), and by how much the depth grows (m/px). Gradients have the first ten.
U, V, A, B, C, OPACITY, RED, GREEN, BLUE, DEPTH, RX, RY, ZU, ZV = range(14)
PROJECTED, GRADIENTS = 14, 10
HIDDEN = f32(3e38)  # in place of a gradient by depth
# The view: rotation (rows) and translation of T_cam_obj, intrinsics, limits of |x/z| and |y/z|,
# and whether a Gaussian has the depth of its middle everywhere (0), or that along its body (1).
VIEW = 21
TRANSLATION, INTRINSICS, LIMITS, SLOPED = 9, 12, 16, 20
_EDGE_ON = f32(1e-4)  # px^2, where a Gaussian is so thin its slope is not believed

# Planes of a block; the first eleven are the prepared columns.
(_MX, _MY, _MZ, _S00, _S01, _S02, _S11, _S12, _S22, _SO, _SC, _OU, _OV, _OA, _OB, _OC, _ORX, _ORY,
 _OZ, _OZU, _OZV, _SEEN, _BASIS) = (u64(k * BLOCK) for k in range(23))  # fmt: skip
_PLANES = 22 + SH_COUNT


@numba.njit(inline='always', **kernel)
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
def camera_center(view):
    """The camera in the object frame: -R^T t."""
    t0, t1, t2 = view[TRANSLATION], view[TRANSLATION + 1], view[TRANSLATION + 2]
    return (
        -(view[0] * t0 + view[3] * t1 + view[6] * t2),
        -(view[1] * t0 + view[4] * t1 + view[7] * t2),
        -(view[2] * t0 + view[5] * t1 + view[8] * t2),
    )


@numba.njit(inline='always', **kernel)
def plane(first, k):
    """Where the k-th plane of a block begins, from the first one on."""
    return first + u64(k) * u64(BLOCK)


@numba.njit(inline='always', **kernel)
def direction(dx, dy, dz):
    """The unit vector of an offset, and one over its length."""
    inverse = _ONE / np.sqrt(dx * dx + dy * dy + dz * dz)
    return dx * inverse, dy * inverse, dz * inverse, inverse


@numba.njit(**kernel)
def project(begin, end, kept, prepared, sh, view, width, height, projected, depths, visible):
    """Project the Gaussians [begin, end) and cull them; where the list of what is left ends.

    Their indices and depths are appended to visible [N] and depths [N] at `kept`, their rows of
    projected [N, 14] are filled.
    """
    w00, w01, w02, w10, w11, w12, w20, w21, w22 = (
        view[0], view[1], view[2], view[3], view[4], view[5], view[6], view[7], view[8]
    )  # fmt: skip
    t0, t1, t2 = view[TRANSLATION], view[TRANSLATION + 1], view[TRANSLATION + 2]
    fx, cx = view[INTRINSICS], view[INTRINSICS + 2]
    fy, cy = view[INTRINSICS + 1], view[INTRINSICS + 3]
    x_low, x_high = -view[LIMITS], view[LIMITS + 1]
    y_low, y_high = -view[LIMITS + 2], view[LIMITS + 3]
    right, bottom = f32(width) - _HALF, f32(height) - _HALF
    c0, c1, c2 = camera_center(view)
    sloped = view[SLOPED]
    b = np.empty(_PLANES * BLOCK, np.float32)
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        for j in range(u64(count)):
            row = prepared[first + j]
            for k in range(11):
                b[plane(_MX, k) + j] = row[k]
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
            r0 = s00 * b0 + s01 * b1 + s02 * b2
            r1 = s01 * b0 + s11 * b1 + s12 * b2
            r2 = s02 * b0 + s12 * b1 + s22 * b2
            aa = a0 * q0 + a1 * q1 + a2 * q2
            ab = b0 * q0 + b1 * q1 + b2 * q2
            bb = b0 * r0 + b1 * r1 + b2 * r2
            # The mean depth at a pixel, given the Gaussian in (u, v, z): its ridge.
            az, bz = w20 * q0 + w21 * q1 + w22 * q2, w20 * r0 + w21 * r1 + w22 * r2
            over = sloped / ((aa + _EDGE_ON) * (bb + _EDGE_ON) - ab * ab)
            zu, zv = (
                (az * (bb + _EDGE_ON) - bz * ab) * over,
                (bz * (aa + _EDGE_ON) - az * ab) * over,
            )
            aa += PIXEL_FILTER
            bb += PIXEL_FILTER
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
            b[_ORX + j], b[_ORY + j] = rx, ry
            b[_OZ + j], b[_OZU + j], b[_OZV + j] = z, zu, zv
            b[_SEEN + j] = _ONE if seen else _ZERO
            dx, dy, dz, _ = direction(mx - c0, my - c1, mz - c2)
            sh_basis(dx, dy, dz, b, _BASIS + j)
        for j in range(u64(count)):
            if b[_SEEN + j] > _ZERO:
                i = first + j
                out = projected[i]
                out[U], out[V] = b[_OU + j], b[_OV + j]
                out[A], out[B], out[C] = b[_OA + j], b[_OB + j], b[_OC + j]
                out[OPACITY], out[DEPTH] = b[_SO + j], b[_OZ + j]
                out[RX], out[RY] = b[_ORX + j], b[_ORY + j]
                out[ZU], out[ZV] = b[_OZU + j], b[_OZV + j]
                red, green, blue = _HALF, _HALF, _HALF
                for k in range(sh.shape[1]):
                    basis = b[plane(_BASIS, k) + j]
                    red += basis * sh[i, k, 0]
                    green += basis * sh[i, k, 1]
                    blue += basis * sh[i, k, 2]
                out[RED], out[GREEN] = max(red, _ZERO), max(green, _ZERO)
                out[BLUE] = max(blue, _ZERO)
                visible[kept] = i
                depths[kept] = b[_OZ + j]
                kept += 1
    return kept
