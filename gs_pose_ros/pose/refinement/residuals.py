"""What refinement measures: residuals of a rendering against a window of the image, as kernels.

Renderings [S, 5, S] are what `rasterize` gives; colours, depths and masks those of `ObjectWindow`.
"""

from __future__ import annotations

import numba
import numpy as np

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}


@numba.njit(**_kernel)
def remove_shading(image, color, depth, sigma_px, depth_cut):
    """Take the means over `sigma_px` pixels off rendering [S, 5, S] and image [S, S, 3], in place.

    The means are taken over the pixels that show the object in both, so that neither background
    nor what stands in front (by more than `depth_cut`, m) leaks in. They vary slowly: sums over
    blocks of a third of sigma are blurred and interpolated.
    """
    block = max(1, round(sigma_px / 3))
    sigma = sigma_px / block
    height, _, width = image.shape
    rows, columns = (height - 1) // block + 1, (width - 1) // block + 1
    # Weight, rendered colour, observed colour.
    sums = np.zeros((rows, columns, 7), np.float32)
    for y in range(height):
        for x in range(width):
            alpha = image[y, 4, x]
            if alpha <= 0.5 or np.isnan(color[y, x, 0]):
                continue
            observed = depth[y, x]
            if observed != 0 and abs(observed - image[y, 3, x] / alpha) >= depth_cut:
                continue
            s = sums[y // block, x // block]
            s[0] += 1
            for c in range(3):
                s[1 + c] += image[y, c, x] / alpha
                s[4 + c] += color[y, x, c]
    # A picture that fits a third of the window has no blocks beside it to be blurred into.
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    across = np.zeros_like(sums)
    for i in range(rows):
        for j in range(columns):
            for k in range(max(0, j - reach), min(columns, j + reach + 1)):
                across[i, j] += taps[k - j + reach] * sums[i, k]
    means = np.zeros_like(sums)
    for i in range(rows):
        for k in range(max(0, i - reach), min(rows, i + reach + 1)):
            means[i] += taps[k - i + reach] * across[k]
        for j in range(columns):
            means[i, j] /= max(means[i, j, 0], np.float32(1e-6))
    for y in range(height):
        v = min(max((y + np.float32(0.5)) / block - np.float32(0.5), 0), rows - 1)
        i = min(int(v), max(rows - 2, 0))
        v -= i
        below = min(i + 1, rows - 1)
        for x in range(width):
            alpha = image[y, 4, x]
            if alpha < 0.02:  # nothing is compared here
                continue
            u = min(max((x + np.float32(0.5)) / block - np.float32(0.5), 0), columns - 1)
            j = min(int(u), max(columns - 2, 0))
            u -= j
            right = min(j + 1, columns - 1)
            a, b = (1 - v) * (1 - u), (1 - v) * u
            c, d = v * (1 - u), v * u
            for k in range(1, 7):
                mean = (
                    a * means[i, j, k]
                    + b * means[i, right, k]
                    + c * means[below, j, k]
                    + d * means[below, right, k]
                )
                if k < 4:
                    image[y, k - 1, x] -= mean * alpha
                else:
                    color[y, x, k - 4] -= mean


@numba.njit(**_kernel)
def fit_gain(image, color, depth, depth_cut, previous):
    """Gain and offset per channel from rendering to image, over pixels that agree in depth.

    Robust by one reweighting from the previous gain; pulled towards (1, 0), because an object of
    one colour does not tell gain from offset.
    """
    height, _, width = image.shape
    out = previous.copy()
    for channel in range(3):
        n, sx, sy, sxx, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
        for y in range(height):
            for x in range(width):
                alpha = image[y, 4, x]
                if alpha < 0.9 or np.isnan(color[y, x, channel]):
                    continue
                d = depth[y, x]
                if d > 0 and abs(d - image[y, 3, x] / alpha) > depth_cut:
                    continue
                r = image[y, channel, x] / alpha
                o = color[y, x, channel]
                e = (previous[channel] * r + previous[3 + channel] - o) / 0.2
                w = 1 / (1 + e * e)
                n += w
                sx += w * r
                sy += w * o
                sxx += w * r * r
                sxy += w * r * o
        if n < 10:
            continue
        mx, my = sx / n, sy / n
        variance, covariance = sxx / n - mx * mx, sxy / n - mx * my
        prior = 0.01
        gain = (covariance + prior) / (variance + prior)
        gain = min(2.0, max(0.4, gain))
        out[channel] = gain
        out[3 + channel] = my - gain * mx
    return out


@numba.njit(**_kernel)
def tukey(r, cut):
    """Weight and cost of a residual r in sigmas."""
    if abs(r) >= cut:
        return 0.0, cut * cut / 6
    k = 1 - (r / cut) ** 2
    return k * k, cut * cut / 6 * (1 - k * k * k)


@numba.njit(**_kernel)
def add_residual(H, b, J, r, w):
    """Add a residual r with Jacobian J [6] and weight w to H (lower triangle) and gradient b."""
    for i in range(6):
        wj = w * J[i]
        b[i] += wj * r
        for j in range(i + 1):
            H[i, j] += wj * J[j]


@numba.njit(**_kernel)
def normal_equations(
    image, color, depth, mask, K, center, gain, sigmas, cut, H, gradients
):  # fmt: skip
    """Fill H [6, 6]; return (cost per pixel, number of pixels that constrain the pose).

    `gradients` [n, n, 6] takes the gradient of the cost, added up over each of n x n blocks of the
    picture. image [S, 5, S] as `composite` gives it; the tangent is (translation, rotation about
    `center`).
    """
    height, _, width = image.shape
    fx, fy, cx, cy = K
    sigma_color, sigma_depth, sigma_silhouette = sigmas
    J = np.zeros(6)
    du, dv, dz = np.zeros(6), np.zeros(6), np.zeros(6)
    cost, pixels, support = 0.0, 0, 0
    blocks = len(gradients)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            alpha = image[y, 4, x]
            if alpha < 0.02:
                continue
            b = gradients[y * blocks // height, x * blocks // width]
            z = image[y, 3, x] / alpha
            X, Y = (x - cx) / fx * z, (y - cy) / fy * z
            rx, ry, rz = X - center[0], Y - center[1], z - center[2]
            # Motion of the surface point: translation + rotation x (X - center).
            dz[2], dz[3], dz[4] = 1, ry, -rx
            u_z, v_z = -fx * X / (z * z), -fy * Y / (z * z)
            du[0], du[2], du[3], du[4], du[5] = (
                fx / z, u_z, u_z * ry, fx / z * rz - u_z * rx, -fx / z * ry,
            )  # fmt: skip
            dv[1], dv[2], dv[3], dv[4], dv[5] = (
                fy / z, v_z, -fy / z * rz + v_z * ry, -v_z * rx, fy / z * rx,
            )  # fmt: skip
            observed = depth[y, x]
            error = (z - observed) / sigma_depth
            occluded = observed > 0 and error > cut
            if occluded:
                continue  # something stands in front: this pixel says nothing of the object
            pixels += 1
            constrains = False
            inner = (
                image[y, 4, x - 1] > 0.5
                and image[y, 4, x + 1] > 0.5
                and image[y - 1, 4, x] > 0.5
                and image[y + 1, 4, x] > 0.5
                and alpha > 0.5
            )
            # Silhouette: outline of the rendering against the mask, or against free space.
            gu = 0.5 * (image[y, 4, x + 1] - image[y, 4, x - 1])
            gv = 0.5 * (image[y + 1, 4, x] - image[y - 1, 4, x])
            label = mask[y, x]
            if label < 0 and observed > 0:
                if error < -cut:
                    label = 0.0  # free space
                elif label < -1.5:
                    label = 1.0
            if label >= 0:
                r = (alpha - label) / sigma_silhouette
                w, c = tukey(r, cut)
                cost += c
                if gu * gu + gv * gv > 1e-4:
                    for i in range(6):
                        J[i] = -(gu * du[i] + gv * dv[i]) / sigma_silhouette
                    add_residual(H, b, J, r, w)
                    constrains = True
            if inner:
                if observed > 0:
                    w, c = tukey(error, cut)
                    cost += c
                    zu = 0.5 * (
                        image[y, 3, x + 1] / image[y, 4, x + 1]
                        - image[y, 3, x - 1] / image[y, 4, x - 1]
                    )
                    zv = 0.5 * (
                        image[y + 1, 3, x] / image[y + 1, 4, x]
                        - image[y - 1, 3, x] / image[y - 1, 4, x]
                    )
                    # A jump of the depth inside the object has no useful slope.
                    if w > 0 and zu * zu + zv * zv < (8 * z / fx) ** 2:
                        for i in range(6):
                            J[i] = (dz[i] - zu * du[i] - zv * dv[i]) / sigma_depth
                        add_residual(H, b, J, error, w)
                        constrains = True
                    if w == 0:  # behind: not the object, its colour says nothing either
                        cost += 3 * cut * cut / 6
                        continue
                for channel in range(3):
                    seen = color[y, x, channel]
                    if np.isnan(seen):
                        continue
                    g = gain[channel]
                    value = image[y, channel, x] / alpha
                    r = (g * value + gain[3 + channel] - seen) / sigma_color
                    w, c = tukey(r, cut)
                    cost += c
                    cu = (
                        0.5
                        * g
                        * (
                            image[y, channel, x + 1] / image[y, 4, x + 1]
                            - image[y, channel, x - 1] / image[y, 4, x - 1]
                        )
                    )
                    cv = (
                        0.5
                        * g
                        * (
                            image[y + 1, channel, x] / image[y + 1, 4, x]
                            - image[y - 1, channel, x] / image[y - 1, 4, x]
                        )
                    )
                    for i in range(6):
                        J[i] = -(cu * du[i] + cv * dv[i]) / sigma_color
                    add_residual(H, b, J, r, w)
                constrains = True
            support += constrains
    for i in range(6):
        for j in range(i):
            H[j, i] = H[i, j]
    return cost / max(pixels, 1), support
