"""The map as it is drawn against a small picture, as kernels: depth, its contour, and gray.

For every pixel there are four residuals, drawn minus seen. With z and z* the depths of the map and
of the picture, g and g* their grays, and p the pixel, l and u those left of it and above it:

    depth    (z_p - z*_p) / sigma(z_p)                        where the picture has a depth
    left     ((z_p - z_l) - (z*_p - z*_l)) / sigma(z_p)       the contour: the slope of the depth
    up       ((z_p - z_u) - (z*_p - z*_u)) / sigma(z_p)
    gray     (gain g_p + offset - g*_p) / sigma_gray

All have Tukey's cost; contour and gray count with a weight, and only where the depth says that
both show the same surface. `test/localization/scene_reference.py` says the same pixel by pixel.

The kernels work in single precision on the planes of `scene_planes`. Of the functions that are
inlined in their loops, those that choose between values take numbers and not the planes: numba
counts references to an array, and a count within a branch keeps loops from becoming vector
instructions.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from gs_pose_ros.localization import scene_planes as plane
from gs_pose_ros.localization.observation import DEPTH, DU, DV, GRAY, JUMP
from gs_pose_ros.localization.scene_planes import FIRST
from gs_pose_ros.optimization.drawing import ALPHA_PLANE, DEPTH_PLANE
from gs_pose_ros.optimization.robust import outlier_cost, tukey
from gs_pose_ros.optimization.surface import surface_jacobian
from gs_pose_ros.rendering.projection import f32, u64

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}
_fast = {**_kernel, 'fastmath': {'contract', 'arcp', 'nsz', 'afn', 'reassoc'}}
_inline: Any = {'inline': 'always', 'error_model': 'numpy'}
_STEEP = 5.0  # depth that grows by more than so many times the width of a pixel is a jump
_RED, _GREEN, _BLUE = f32(0.299), f32(0.587), f32(0.114)
_ZERO, _HALF, _ONE, _TWO = f32(0), f32(0.5), f32(1), f32(2)
_TINY, _NAN, _JUMP = f32(1e-6), f32(np.nan), f32(JUMP)
_1 = u64(1)


@numba.njit(**_fast)
def drawn(image, y, x):
    """Depth (m) and gray of the map at a pixel of image [h, 5, w]; 0 where little of it is."""
    alpha = image[y, ALPHA_PLANE, x]
    if alpha < _HALF:
        return _ZERO, _ZERO
    gray = _RED * image[y, 0, x] + _GREEN * image[y, 1, x] + _BLUE * image[y, 2, x]
    return image[y, DEPTH_PLANE, x] / alpha, gray / alpha


@numba.njit(**_fast)
def _load(w, image, seen, y, x0, count):
    """What is drawn and seen in `count` pixels of a row from x0 on, and beside them."""
    width = image.shape[2]
    for k in range(u64(count) + FIRST + _1):
        x = x0 + int(k) - int(FIRST)
        w[plane.MAP_Z + k] = w[plane.MAP_Z_ABOVE + k] = w[plane.MAP_Z_BELOW + k] = _ZERO
        w[plane.SEEN_Z + k] = w[plane.SEEN_Z_ABOVE + k] = _ZERO
        if 0 <= x < width:
            w[plane.MAP_Z + k], w[plane.MAP_GRAY + k] = drawn(image, y, x)
            w[plane.MAP_Z_ABOVE + k], w[plane.MAP_GRAY_ABOVE + k] = drawn(image, y - 1, x)
            w[plane.MAP_Z_BELOW + k], w[plane.MAP_GRAY_BELOW + k] = drawn(image, y + 1, x)
            w[plane.SEEN_Z + k] = seen[y, x, DEPTH]
            w[plane.SEEN_Z_ABOVE + k] = seen[y - 1, x, DEPTH]
            w[plane.SEEN_DU + k], w[plane.SEEN_DV + k] = seen[y, x, DU], seen[y, x, DV]
            w[plane.SEEN_GRAY + k] = seen[y, x, GRAY]


@numba.njit(**_inline)
def _put(w, group, k, J, value, factor):
    """Write the k-th pixel of a group: a Jacobian and its value, both times the factor."""
    w[group + plane.TX + k], w[group + plane.WX + k] = factor * J[0], factor * J[3]
    w[group + plane.TY + k], w[group + plane.WY + k] = factor * J[1], factor * J[4]
    w[group + plane.TZ + k], w[group + plane.WZ + k] = factor * J[2], factor * J[5]
    w[group + plane.VALUE + k] = factor * value


@numba.njit(**_inline)
def _jacobian(w, group, k):
    """The Jacobian of the k-th pixel of a group."""
    return (
        w[group + plane.TX + k], w[group + plane.TY + k], w[group + plane.TZ + k],
        w[group + plane.WX + k], w[group + plane.WY + k], w[group + plane.WZ + k],
    )  # fmt: skip


@numba.njit(**_inline)
def _surface(x, y, z, K, center):
    """Point, arm and focal lengths, as `surface_jacobian` takes them, at a pixel (x, y)."""
    fx, fy, cx, cy = K
    point = (x - cx) / fx * z, (y - cy) / fy * z, max(z, _TINY)
    return point, (point[0] - center[0], point[1] - center[1], z - center[2]), (fx, fy)


@numba.njit(**_fast)
def _fill_surface(w, K, center, y, x0, count):
    """The depth of the map, its slopes and its Jacobian, in the piece and left of it."""
    left, row, jump = f32(x0) - f32(FIRST), f32(y), _STEEP / K[0]
    for k in range(FIRST - _1, u64(count) + FIRST):
        z, before, after = w[plane.MAP_Z + k], w[plane.MAP_Z + k - _1], w[plane.MAP_Z + k + _1]
        above, below = w[plane.MAP_Z_ABOVE + k], w[plane.MAP_Z_BELOW + k]
        known = min(z, before, after, above, below) > _ZERO
        u, v = _HALF * (after - before), _HALF * (below - above)
        smooth = u * u + v * v <= (jump * z) ** 2
        J = surface_jacobian((u, v, _ONE), _surface(left + f32(k), row, z, K, center))
        _put(w, plane.SURFACE, k, J, z if known & smooth else _ZERO, _ONE)
        w[plane.SLOPE_U + k], w[plane.SLOPE_V + k] = u, v


@numba.njit(**_inline)
def _minus(J, other):
    """The difference of two Jacobians."""
    return (
        J[0] - other[0], J[1] - other[1], J[2] - other[2],
        J[3] - other[3], J[4] - other[4], J[5] - other[5],
    )  # fmt: skip


@numba.njit(**_inline)
def _contour(z, z_beside, observed, observed_beside, same, inverse, cut):
    """How much deeper than a neighbour a pixel is, drawn minus seen (m); weight's root, cost.

    Both are 0 where the neighbour, or what was seen there, is another surface or unknown.
    """
    known = same & (z_beside > _ZERO) & (observed_beside > _ZERO)
    known = known & (abs(observed_beside - observed) <= _JUMP * observed)
    r = (z - z_beside) - (observed - observed_beside)
    root, cost = tukey(r * inverse, cut)
    return r, (root if known else _ZERO), (cost if known else _ZERO)


@numba.njit(**_fast)
def _weigh(w, K, center, scales, light, y, x0, count):
    """All residuals of a piece with their Jacobians, times the roots of their weights; costs."""
    scale, noise_m, noise_per_m2, contour_weight, gray_weight, sigma_gray, cut = scales
    gain, offset = light
    most = (_ONE + _TWO * contour_weight + gray_weight) * outlier_cost(cut)
    contour_root, gray_root = np.sqrt(contour_weight), np.sqrt(gray_weight)
    per_gray = _ONE / sigma_gray
    left, row = f32(x0) - f32(FIRST), f32(y)
    for k in range(FIRST, u64(count) + FIRST):
        z, observed = w[plane.SURFACE + plane.VALUE + k], w[plane.SEEN_Z + k]
        compared = (z > _ZERO) & (observed > _ZERO)
        inverse = _ONE / (scale * (noise_m + noise_per_m2 * z * z))
        # Depth, where in the pixel it was measured.
        u, v = w[plane.SLOPE_U + k], w[plane.SLOPE_V + k]
        r = z + u * w[plane.SEEN_DU + k] + v * w[plane.SEEN_DV + k] - observed
        in_sigmas = r * inverse
        root, cost = tukey(in_sigmas, cut)
        # Of what is not the same surface nothing else says anything.
        same = compared & (root > _ZERO)
        w[plane.RESIDUAL + k] = in_sigmas if compared else _NAN
        w[plane.SAME + k] = _ONE if same else _ZERO
        J = _jacobian(w, plane.SURFACE, k)
        _put(w, plane.DEPTH_ROWS, k, J, r, (root if same else _ZERO) * inverse)
        # Contour: the slope of the depth, to the left and up.
        b = k - _1
        r, root, more = _contour(
            z, w[plane.SURFACE + plane.VALUE + b], observed, w[plane.SEEN_Z + b],
            same, inverse, cut,
        )  # fmt: skip
        cost += contour_weight * more
        change = _minus(J, _jacobian(w, plane.SURFACE, b))
        _put(w, plane.LEFT_ROWS, k, change, r, contour_root * root * inverse)
        r, root, more = _contour(
            z, w[plane.SURFACE_ABOVE + plane.VALUE + k], observed, w[plane.SEEN_Z_ABOVE + k],
            same, inverse, cut,
        )  # fmt: skip
        cost += contour_weight * more
        change = _minus(J, _jacobian(w, plane.SURFACE_ABOVE, k))
        _put(w, plane.UP_ROWS, k, change, r, contour_root * root * inverse)
        # Gray.
        r = (gain * w[plane.MAP_GRAY + k] + offset - w[plane.SEEN_GRAY + k]) * per_gray
        root, more = tukey(r, cut)
        cost += gray_weight * more
        half = _HALF * gain * per_gray
        u = half * (w[plane.MAP_GRAY + k + _1] - w[plane.MAP_GRAY + k - _1])
        v = half * (w[plane.MAP_GRAY_BELOW + k] - w[plane.MAP_GRAY_ABOVE + k])
        J = surface_jacobian((u, v, _ZERO), _surface(left + f32(k), row, z, K, center))
        _put(w, plane.GRAY_ROWS, k, J, r, (root if same else _ZERO) * gray_root)
        w[plane.COST + k] = cost if same else (most if compared else _ZERO)


@numba.njit(**_fast)
def _gram(w, count, H, b):
    """Add the products of all rows to H [6, 6] (lower triangle) and b [6]."""
    for i in range(plane.COLUMNS):
        for j in range(min(i + 1, 6)):
            one, other = u64(i) * plane.STRIDE, u64(j) * plane.STRIDE
            total = _ZERO
            for k in range(FIRST, u64(count) + FIRST):
                total += (
                    w[plane.DEPTH_ROWS + one + k] * w[plane.DEPTH_ROWS + other + k]
                    + w[plane.LEFT_ROWS + one + k] * w[plane.LEFT_ROWS + other + k]
                    + w[plane.UP_ROWS + one + k] * w[plane.UP_ROWS + other + k]
                    + w[plane.GRAY_ROWS + one + k] * w[plane.GRAY_ROWS + other + k]
                )
            if i < 6:
                H[i, j] += total
            else:
                b[j] += total


@numba.njit(**_fast)
def _compare_block(w, rows, columns, image, seen, K, center, scales, light, residuals, H, b, sums):
    """Compare pixels of some rows and of at most `PIECE` columns; add to H, b and sums."""
    x0, count = columns[0], columns[1] - columns[0]
    w[plane.SURFACE_ABOVE : plane.SURFACE_ABOVE + plane.GROUP] = _ZERO  # unknown above the first
    for y in range(rows[0], rows[1]):
        _load(w, image, seen, y, x0, count)
        _fill_surface(w, K, center, y, x0, count)
        _weigh(w, K, center, scales, light, y, x0, count)
        _gram(w, count, H, b)
        cost, compared, same = _ZERO, 0, _ZERO
        for k in range(FIRST, u64(count) + FIRST):
            cost += w[plane.COST + k]
            same += w[plane.SAME + k]
        for k in range(FIRST, u64(count) + FIRST):
            r = w[plane.RESIDUAL + k]
            residuals[y, x0 + int(k) - int(FIRST)] = r
            compared += not np.isnan(r)
        sums[0] += cost
        sums[1] += compared
        sums[2] += same
        for k in range(plane.GROUP):
            w[plane.SURFACE_ABOVE + k] = w[plane.SURFACE + k]


@numba.njit(**_fast)
def _compare_band(band, image, seen, K, center, scales, light, residuals, H, b, sums):
    """One band of `compare`, block by block, piece by piece."""
    height, _, width = image.shape
    bands = len(b)
    H[:], b[:], sums[:] = 0, 0, 0
    w = np.zeros(plane.SIZE, np.float32)
    rows = max(1, band * height // bands), min(height - 1, (band + 1) * height // bands)
    for block in range(bands):
        end = min(width - 1, (block + 1) * width // bands)
        for x in range(max(1, block * width // bands), end, plane.PIECE):
            columns = x, min(end, x + plane.PIECE)
            _compare_block(
                w, rows, columns, image, seen, K, center, scales, light, residuals,
                H, b[block], sums,
            )  # fmt: skip


@numba.njit(parallel=True, **_kernel)
def compare(image, seen, K, center, scales, light, residuals, H, gradients, sums):
    """Compare image [h, 5, w], as it is drawn, with what was seen [h, w, 4], see `shrink`.

    The picture has n bands of rows, and each of them n blocks. Fills for each band H [n, 6, 6]
    (lower triangles), gradients [n, n, 6] by block, and sums [n, 3]: cost, pixels that are
    compared, and pixels of the same surface. residuals [h, w] are those of the depth, NaN where it
    is not in both. The tangent is (translation, rotation about `center`, m, camera frame).

    The others are tuples of single precision, which the compiler keeps in registers: K (fx, fy,
    cx, cy), center, scales (the scale of depth residuals in sigmas of the sensor, its noise in m
    and 1/m, the weights of contour and gray, the sigma of the gray, Tukey's limit in sigmas), and
    light (gain and offset of the map's gray).
    """
    for band in numba.prange(len(H)):
        _compare_band(
            band, image, seen, K, center, scales, light, residuals,
            H[band], gradients[band], sums[band],
        )  # fmt: skip
