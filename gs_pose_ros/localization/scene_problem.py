"""The camera in a map, as a problem that Levenberg-Marquardt solves: depth, contour and colour."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.optimization.levenberg_marquardt import center_in, draw_at, problem
from gs_pose_ros.rendering.numba_rasterizer import Work
from gs_pose_ros.rendering.projection import f32, u64

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}
_fast = {**_kernel, 'fastmath': {'contract', 'arcp', 'nsz', 'afn', 'reassoc'}}
_STEEP = 5.0  # depth that grows by more than so many times the width of a pixel is a jump
_JUMP = 0.03  # and so is a step of this share of the depth between two pixels
_RED, _GREEN, _BLUE = f32(0.299), f32(0.587), f32(0.114)
_ZERO, _HALF, _ONE, _TWO, _SIXTH = f32(0), f32(0.5), f32(1), f32(2), f32(1 / 6)
_TINY, _NAN, _STEP = f32(1e-6), f32(np.nan), f32(_JUMP)
# A piece of a row is compared at a time: all it takes is in one local array, in planes of _S
# numbers, two for what is left of the piece and one for what is right of it.
_PIECE, _COLUMNS = 64, 7
_1, _2 = u64(1), u64(2)
_S, _2S, _3S, _4S, _5S, _6S = (u64(k * (_PIECE + 8)) for k in range(1, 7))
(_Z, _Z_UP, _Z_DOWN, _G, _G_UP, _G_DOWN, _SEEN, _SEEN_UP, _DU, _DV, _SHADE, _ZU, _ZV, _R, _SAME,
 _COST) = (u64(k) * _S for k in range(16))  # fmt: skip
# Six planes of a Jacobian and one of what belongs to it: the depth, or a residual.
_J, _J_UP, _DEPTH_ROWS, _LEFT_ROWS, _UP_ROWS, _GRAY_ROWS = (
    u64(16 + _COLUMNS * k) * _S for k in range(6)
)
_D, _D_UP = _J + _6S, _J_UP + _6S
_PLANES = 16 + 6 * _COLUMNS
# Columns of what `shrink` fills.
DEPTH, DU, DV, GRAY = range(4)


@numba.njit(**_kernel)
def shrink(depth, gray, factor, out):
    """Fill out [h, w, 4] from depth (m, 0 unknown) and gray [H, W], `factor` pixels for one.

    Mean depth of the pixels of a block that are known and on one surface, where their middle lies
    beside that of the block (px of `out`), and the mean gray; depth 0 where there is none.
    """
    height, width = out.shape[0], out.shape[1]
    middle = 0.5 * (factor - 1)
    for y in range(height):
        for x in range(width):
            nearest, furthest = np.float32(np.inf), np.float32(0)
            total, count, du, dv, shade = 0.0, 0, 0.0, 0.0, 0.0
            for j in range(factor):
                for i in range(factor):
                    z = depth[y * factor + j, x * factor + i]
                    shade += gray[y * factor + j, x * factor + i]
                    if z <= 0:
                        continue
                    nearest, furthest = min(nearest, z), max(furthest, z)
                    total += z
                    du += i - middle
                    dv += j - middle
                    count += 1
            known = count > 0 and furthest - nearest < _JUMP * factor * nearest
            out[y, x, DEPTH] = total / count if known else 0.0
            out[y, x, DU] = du / (count * factor) if known else 0.0
            out[y, x, DV] = dv / (count * factor) if known else 0.0
            out[y, x, GRAY] = shade / (factor * factor)


@numba.njit(**_fast)
def _rendered(image, y, x):
    """Depth and gray of a pixel, depth 0 where little of the map is there."""
    alpha = image[y, 4, x]
    if alpha < _HALF:
        return _ZERO, _ZERO
    gray = _RED * image[y, 0, x] + _GREEN * image[y, 1, x] + _BLUE * image[y, 2, x]
    return image[y, 3, x] / alpha, gray / alpha


@numba.njit(**_kernel)
def shown(image):
    """Depth and gray, each [h, w], of an image [h, 5, w]; 0 where little of the map is there."""
    height, _, width = image.shape
    depth, gray = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            depth[y, x], gray[y, x] = _rendered(image, y, x)
    return depth, gray


@numba.njit(inline='always', **_fast)
def _put(w, at, k, factor, j0, j1, j2, j3, j4, j5, r):
    """Write seven planes from `at` on: Jacobian and residual, times the factor."""
    w[at + k], w[at + _S + k], w[at + _2S + k] = factor * j0, factor * j1, factor * j2
    w[at + _3S + k], w[at + _4S + k], w[at + _5S + k] = factor * j3, factor * j4, factor * j5
    w[at + _6S + k] = factor * r


@numba.njit(**_fast)
def _load(w, image, seen, y, x0, count):
    """The planes of what is drawn and seen in a piece of a row and beside it."""
    width = image.shape[2]
    for k in range(u64(count + 3)):
        x = x0 + int(k) - 2
        w[_Z + k] = w[_Z_UP + k] = w[_Z_DOWN + k] = w[_SEEN + k] = w[_SEEN_UP + k] = _ZERO
        if 0 <= x < width:
            w[_Z + k], w[_G + k] = _rendered(image, y, x)
            w[_Z_UP + k], w[_G_UP + k] = _rendered(image, y - 1, x)
            w[_Z_DOWN + k], w[_G_DOWN + k] = _rendered(image, y + 1, x)
            w[_SEEN + k], w[_SEEN_UP + k] = seen[y, x, DEPTH], seen[y - 1, x, DEPTH]
            w[_DU + k], w[_DV + k] = seen[y, x, DU], seen[y, x, DV]
            w[_SHADE + k] = seen[y, x, GRAY]


@numba.njit(**_fast)
def _surface(w, K, center, y, x0, count):
    """Depth (0 at jumps) and its slopes and Jacobian, in the piece and left of it."""
    fx, fy, cx, cy = K
    c0, c1, c2 = center
    jump, left, up = _STEEP / fx, f32(x0 - 2) - cx, (f32(y) - cy) / fy
    for k in range(_1, u64(count + 2)):
        z, before, after = w[_Z + k], w[_Z + k - _1], w[_Z + k + _1]
        above, below = w[_Z_UP + k], w[_Z_DOWN + k]
        known = min(z, before, after, above, below) > _ZERO
        zu, zv = _HALF * (after - before), _HALF * (below - above)
        smooth = zu * zu + zv * zv <= (jump * z) ** 2
        X, Y = (left + f32(k)) / fx * z, up * z
        rx, ry, rz = X - c0, Y - c1, z - c2
        # The surface moves by translation + rotation x r; the depth seen at the pixel changes by
        # dz - zu du - zv dv, and so does the gray, along its own slopes.
        iz = _ONE / max(z, _TINY)
        nx, ny = -zu * fx * iz, -zv * fy * iz
        nz = _ONE + (zu * fx * X + zv * fy * Y) * iz * iz
        _put(
            w, _J, k, _ONE, nx, ny, nz,
            ry * nz - rz * ny, rz * nx - rx * nz, rx * ny - ry * nx,
            z if known & smooth else _ZERO,
        )  # fmt: skip
        w[_ZU + k], w[_ZV + k] = zu, zv


@numba.njit(inline='always', **_fast)
def _robust(r, cut):
    """`residuals.tukey` for vectors: root of the weight, and cost."""
    t = min(r * r / (cut * cut), _ONE)
    q = _ONE - t
    return q, cut * cut * _SIXTH * (_ONE - q * q * q)


@numba.njit(**_fast)
def _weigh(w, K, center, scales, gray, y, x0, count):
    """Residuals with their Jacobians, as `_gram` takes them, and their costs."""
    fx, fy, cx, cy = K
    c0, c1, c2 = center
    scale, noise_m, noise_per_m2, contour_weight, gray_weight, sigma_gray, cut = scales
    gain, offset = gray
    outlier = (_ONE + _TWO * contour_weight + gray_weight) * cut * cut * _SIXTH
    contour_root, gray_root = np.sqrt(contour_weight), np.sqrt(gray_weight)
    per_gray = _ONE / sigma_gray
    left, up = f32(x0 - 2) - cx, (f32(y) - cy) / fy
    for k in range(_2, u64(count + 2)):
        z, observed = w[_D + k], w[_SEEN + k]
        compared = (z > _ZERO) & (observed > _ZERO)
        inverse = _ONE / (scale * (noise_m + noise_per_m2 * z * z))
        # What was measured lies beside the middle of the pixel where pixels were missing.
        r = (z + w[_ZU + k] * w[_DU + k] + w[_ZV + k] * w[_DV + k] - observed) * inverse
        root, cost = _robust(r, cut)
        # Of what is not the same surface nothing else says anything.
        same = compared & (root > _ZERO)
        w[_R + k] = r if compared else _NAN
        w[_SAME + k] = _ONE if same else _ZERO
        j0, j1, j2 = w[_J + k], w[_J + _S + k], w[_J + _2S + k]
        j3, j4, j5 = w[_J + _3S + k], w[_J + _4S + k], w[_J + _5S + k]
        root = root if same else _ZERO
        _put(
            w, _DEPTH_ROWS, k, root, inverse * j0, inverse * j1, inverse * j2,
            inverse * j3, inverse * j4, inverse * j5, r,
        )  # fmt: skip
        # Contour: the slope of the depth, to the left and up.
        b = k - _1
        beside, before = w[_D + b], w[_SEEN + b]
        known = same & (beside > _ZERO) & (before > _ZERO)
        known = known & (abs(before - observed) <= _STEP * observed)
        r = (z - beside) - (observed - before)
        root, more = _robust(r * inverse, cut)
        cost += contour_weight * more if known else _ZERO
        root = contour_root * root if known else _ZERO
        _put(
            w, _LEFT_ROWS, k, root * inverse,
            j0 - w[_J + b], j1 - w[_J + _S + b], j2 - w[_J + _2S + b],
            j3 - w[_J + _3S + b], j4 - w[_J + _4S + b], j5 - w[_J + _5S + b], r,
        )  # fmt: skip
        beside, before = w[_D_UP + k], w[_SEEN_UP + k]
        known = same & (beside > _ZERO) & (before > _ZERO)
        known = known & (abs(before - observed) <= _STEP * observed)
        r = (z - beside) - (observed - before)
        root, more = _robust(r * inverse, cut)
        cost += contour_weight * more if known else _ZERO
        root = contour_root * root if known else _ZERO
        _put(
            w, _UP_ROWS, k, root * inverse,
            j0 - w[_J_UP + k], j1 - w[_J_UP + _S + k], j2 - w[_J_UP + _2S + k],
            j3 - w[_J_UP + _3S + k], j4 - w[_J_UP + _4S + k], j5 - w[_J_UP + _5S + k], r,
        )  # fmt: skip
        # Gray: motion of the pixel, by the same surface point.
        r = (gain * w[_G + k] + offset - w[_SHADE + k]) * per_gray
        root, more = _robust(r, cut)
        cost += gray_weight * more
        iz = _ONE / max(z, _TINY)
        slope = -_HALF * gain * iz * per_gray
        gu = slope * fx * (w[_G + k + _1] - w[_G + b])
        gv = slope * fy * (w[_G_DOWN + k] - w[_G_UP + k])
        X, Y = (left + f32(k)) / fx * z, up * z
        gz = -(gu * X + gv * Y) * iz
        rx, ry, rz = X - c0, Y - c1, z - c2
        _put(
            w, _GRAY_ROWS, k, gray_root * root if same else _ZERO, gu, gv, gz,
            ry * gz - rz * gv, rz * gu - rx * gz, rx * gv - ry * gu, r,
        )  # fmt: skip
        w[_COST + k] = cost if same else (outlier if compared else _ZERO)


@numba.njit(**_fast)
def _gram(w, count, H, b):
    """Add the products of all rows to H [6, 6] (lower triangle) and b [6]."""
    for i in range(_COLUMNS):
        for j in range(min(i + 1, 6)):
            one, other = u64(i) * _S, u64(j) * _S
            total = _ZERO
            for k in range(_2, u64(count + 2)):
                total += (
                    w[_DEPTH_ROWS + one + k] * w[_DEPTH_ROWS + other + k]
                    + w[_LEFT_ROWS + one + k] * w[_LEFT_ROWS + other + k]
                    + w[_UP_ROWS + one + k] * w[_UP_ROWS + other + k]
                    + w[_GRAY_ROWS + one + k] * w[_GRAY_ROWS + other + k]
                )
            if i < 6:
                H[i, j] += total
            else:
                b[j] += total


@numba.njit(**_fast)
def _compare_block(w, rows, columns, image, seen, K, center, scales, gray, residuals, H, b, sums):
    """Compare pixels of some rows and columns; add to H, b and sums."""
    w[_J_UP : _J_UP + _COLUMNS * _S] = _ZERO  # above the first row nothing is known
    for y in range(rows[0], rows[1]):
        count = columns[1] - columns[0]
        _load(w, image, seen, y, columns[0], count)
        _surface(w, K, center, y, columns[0], count)
        _weigh(w, K, center, scales, gray, y, columns[0], count)
        _gram(w, count, H, b)
        cost, compared, same = _ZERO, 0, _ZERO
        for k in range(_2, u64(count + 2)):
            cost += w[_COST + k]
            same += w[_SAME + k]
        for k in range(_2, u64(count + 2)):
            r = w[_R + k]
            residuals[y, columns[0] + int(k) - 2] = r
            compared += not np.isnan(r)
        sums[0] += cost
        sums[1] += compared
        sums[2] += same
        for k in range(_COLUMNS * _S):
            w[_J_UP + k] = w[_J + k]


@numba.njit(**_fast)
def _compare_band(band, image, seen, K, center, scales, gray, residuals, H, b, sums):
    """One band of `_compare`."""
    height, _, width = image.shape
    bands = len(b)
    H[:], b[:], sums[:] = 0, 0, 0
    w = np.zeros(_PLANES * _S, np.float32)
    rows = max(1, band * height // bands), min(height - 1, (band + 1) * height // bands)
    for block in range(bands):
        end = min(width - 1, (block + 1) * width // bands)
        for x in range(max(1, block * width // bands), end, _PIECE):
            columns = x, min(end, x + _PIECE)
            _compare_block(
                w, rows, columns, image, seen, K, center, scales, gray, residuals,
                H, b[block], sums,
            )  # fmt: skip


@numba.njit(parallel=True, **_kernel)
def _compare(image, seen, K, center, scales, gray, residuals, H, gradients, sums):
    """H [n, 6, 6], gradients [n, n, 6] and cost, pixels, support [n, 3] of n bands of rows."""
    for band in numba.prange(len(H)):
        _compare_band(
            band, image, seen, K, center, scales, gray, residuals,
            H[band], gradients[band], sums[band],
        )  # fmt: skip


@numba.njit(**_kernel)
def _fit_gray(image, observed):
    """Gain and offset from rendered to observed gray, over pixels that agree in depth."""
    height, _, width = image.shape
    n, sx, sy, sxx, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(0, height, 2):
        for x in range(0, width, 2):
            z, gray = _rendered(image, y, x)
            seen = observed[y, x, DEPTH]
            if z <= 0 or seen <= 0 or abs(z - seen) > _JUMP * seen:
                continue
            o = observed[y, x, GRAY]
            n += 1
            sx += gray
            sy += o
            sxx += gray * gray
            sxy += gray * o
    if n < 10:
        return 1.0, 0.0
    mx, my = sx / n, sy / n
    prior = 1e-3  # a scene of one gray does not tell gain from offset
    gain = (sxy / n - mx * my + prior) / (sxx / n - mx * mx + prior)
    gain = min(3.0, max(0.3, gain))
    return gain, my - gain * mx


@numba.njit(**_kernel)
def linearize_scene(p, T, gain, H, gradients):
    """`linearize` for the camera in a map; gain [2] of the gray."""
    needed = draw_at(p, T)
    if needed > p.work.pairs.shape[1]:
        return 0.0, 0, needed
    if p.gray_weight > 0:
        gain[0], gain[1] = _fit_gray(p.image, p.seen)
    partial_H = np.empty((gradients.shape[0], 6, 6))
    sums = np.empty((gradients.shape[0], 3))
    scales = (
        p.scale, p.noise_m, p.noise_per_m2, p.contour_weight, p.gray_weight, p.sigma_gray, p.cut
    )  # fmt: skip
    center = center_in(p, T)
    _compare(
        p.image, p.seen, p.K.astype(np.float32), center.astype(np.float32),
        np.array(scales, np.float32), gain.astype(np.float32), p.residuals,
        partial_H, gradients, sums,
    )  # fmt: skip
    for i in range(6):
        for j in range(i + 1):
            H[i, j] = H[j, i] = partial_H[:, i, j].sum()
    return sums[:, 0].sum() / max(sums[:, 1].sum(), 1.0), int(sums[:, 2].sum()), needed


@problem(linearize_scene)
class SceneProblem(NamedTuple):
    """A picture of h x w pixels and the part of the map before the camera.

    `work`, `image` and `residuals` are written to: a problem belongs to one thread.
    """

    prepared: NDArray[np.float32]
    sh: NDArray[np.float32]
    starts: NDArray[np.int64]  # [2] 0, N
    placed: NDArray[np.float32]  # [1, VIEW] as `view_of` gives it, the pose to be filled in
    seen: NDArray[np.float32]  # [h, w, 4] as `shrink` gives it
    K: NDArray[np.float64]  # [4] fx, fy, cx, cy
    center: NDArray[np.float64]  # [3] in the middle of what is seen, m, map frame
    size_m: float  # how far away that is
    scale: float  # of the residuals, in sigmas of the sensor
    noise_m: float  # of the sensor's depth
    noise_per_m2: float
    contour_weight: float  # of the slopes of the depth, against the depth
    gray_weight: float
    sigma_gray: float
    cut: float  # of the robust costs, in sigmas
    work: Work
    image: NDArray[np.float32]  # [h, 5, w]
    residuals: NDArray[np.float32]  # [h, w] of the depth, in `scale`; NaN where not in both
