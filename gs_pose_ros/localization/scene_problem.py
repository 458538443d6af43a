"""The camera in a map, as a problem that Levenberg-Marquardt solves: depth, contour and colour."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.pose.levenberg_marquardt import center_in, draw_at, problem
from gs_pose_ros.pose.residuals import add_residual, tukey
from gs_pose_ros.rendering.numba_rasterizer import Work

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}
_fast = {**_kernel, 'fastmath': {'contract', 'arcp', 'nsz', 'afn'}}
_STEEP = 5.0  # depth that grows by more than so many times the width of a pixel is a jump
_JUMP = 0.03  # and so is a step of this share of the depth between two pixels
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
    if alpha < 0.5:
        return 0.0, 0.0
    gray = 0.299 * image[y, 0, x] + 0.587 * image[y, 1, x] + 0.114 * image[y, 2, x]
    return image[y, 3, x] / alpha, gray / alpha


@numba.njit(**_fast)
def _depth_row(image, K, y, center, depth_row, slopes, jacobian):
    """Rendered depth of a row (0 at jumps), its slopes and gray, and the Jacobian of the depth."""
    width = image.shape[2]
    fx, fy, cx, cy = K
    for x in range(1, width - 1):
        depth_row[x] = 0.0
        z, gray = _rendered(image, y, x)
        left, gray_left = _rendered(image, y, x - 1)
        right, gray_right = _rendered(image, y, x + 1)
        above, gray_above = _rendered(image, y - 1, x)
        below, gray_below = _rendered(image, y + 1, x)
        if min(z, left, right, above, below) <= 0:
            continue
        zu, zv = 0.5 * (right - left), 0.5 * (below - above)
        if zu * zu + zv * zv > (_STEEP * z / fx) ** 2:
            continue
        X, Y = (x - cx) / fx * z, (y - cy) / fy * z
        rx, ry, rz = X - center[0], Y - center[1], z - center[2]
        # The surface moves by translation + rotation x r; the depth seen at the pixel changes by
        # dz - zu du - zv dv, and so does the gray, along its own slopes.
        iz = 1 / z
        nx, ny = -zu * fx * iz, -zv * fy * iz
        nz = 1 + (zu * fx * X + zv * fy * Y) * iz * iz
        j = jacobian[x]
        j[0], j[1], j[2] = nx, ny, nz
        j[3], j[4], j[5] = ry * nz - rz * ny, rz * nx - rx * nz, rx * ny - ry * nx
        depth_row[x] = z
        s = slopes[x]
        s[0], s[1] = zu, zv
        s[2], s[3], s[4] = gray, 0.5 * (gray_right - gray_left), 0.5 * (gray_below - gray_above)


@numba.njit(**_fast)
def _compare_band(band, image, seen, K, center, scales, gray, residuals, H, b, sums):
    """One band of `_compare`."""
    height, _, width = image.shape
    fx, fy, cx, cy = K
    scale, noise_m, noise_per_m2, contour_weight, gray_weight, sigma_gray, cut = scales
    gain, offset = gray
    bands = len(b)
    H[:] = 0
    b[:] = 0
    J = np.zeros(6)
    cost, pixels, support = 0.0, 0, 0
    depth, other_depth = np.zeros(width), np.zeros(width)
    slopes, other_slopes = np.zeros((width, 5)), np.zeros((width, 5))
    jacobian, other_jacobian = np.zeros((width, 6)), np.zeros((width, 6))
    first = max(1, band * height // bands)
    last = min(height - 1, (band + 1) * height // bands)
    has_row = False
    for y in range(first, last):
        # Two rows at a time are held: the contour compares a pixel with the one above it.
        depth, other_depth = other_depth, depth
        slopes, other_slopes = other_slopes, slopes
        jacobian, other_jacobian = other_jacobian, jacobian
        _depth_row(image, K, y, center, depth, slopes, jacobian)
        for x in range(1, width - 1):
            observed = seen[y, x, DEPTH]
            z = depth[x]
            residuals[y, x] = np.nan
            if z <= 0 or observed <= 0:
                continue
            pixels += 1
            s = slopes[x]
            block = b[x * bands // width]
            inverse = 1 / (scale * (noise_m + noise_per_m2 * z * z))
            # What was measured lies beside the middle of the pixel where pixels were missing.
            error = z + s[0] * seen[y, x, DU] + s[1] * seen[y, x, DV] - observed
            r = error * inverse
            residuals[y, x] = r
            w, c = tukey(r, cut)
            cost += c
            if w == 0:  # not the same surface: what else it shows says nothing
                cost += (2 * contour_weight + gray_weight) * cut * cut / 6
                continue
            support += 1
            for k in range(6):
                J[k] = jacobian[x, k] * inverse
            add_residual(H, block, J, r, w)
            if contour_weight > 0:
                # Contour: the slope of the depth, to the left and up.
                for side in range(2):
                    if side == 0:
                        beside, before = depth[x - 1], seen[y, x - 1, DEPTH]
                    elif has_row:
                        beside, before = other_depth[x], seen[y - 1, x, DEPTH]
                    else:
                        continue
                    if beside <= 0 or before <= 0:
                        continue
                    if abs(before - observed) > _JUMP * observed:
                        continue
                    r = ((z - beside) - (observed - before)) * inverse
                    w, c = tukey(r, cut)
                    cost += contour_weight * c
                    for k in range(6):
                        near = jacobian[x - 1, k] if side == 0 else other_jacobian[x, k]
                        J[k] = (jacobian[x, k] - near) * inverse
                    add_residual(H, block, J, r, w * contour_weight)
            if gray_weight > 0:
                inverse = 1 / sigma_gray
                r = (gain * s[2] + offset - seen[y, x, GRAY]) * inverse
                w, c = tukey(r, cut)
                cost += gray_weight * c
                # Motion of the pixel, by the same surface point.
                iz = 1 / z
                gu, gv = -gain * s[3] * fx * iz * inverse, -gain * s[4] * fy * iz * inverse
                X, Y = (x - cx) / fx * z, (y - cy) / fy * z
                gz = -(gu * X + gv * Y) * iz
                rx, ry, rz = X - center[0], Y - center[1], z - center[2]
                J[0], J[1], J[2] = gu, gv, gz
                J[3], J[4], J[5] = ry * gz - rz * gv, rz * gu - rx * gz, rx * gv - ry * gu
                add_residual(H, block, J, r, w * gray_weight)
        has_row = True
    sums[0], sums[1], sums[2] = cost, pixels, support


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
        p.image, p.seen, p.K, center, np.array(scales), gain, p.residuals,
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
