"""The light in a window of the image: shading that is taken off, and gains that are fitted.

Renderings [S, 5, S] are what `draw` gives; colours and depths those of `ObjectWindow`.
"""

from __future__ import annotations

import numba
import numpy as np

from gs_pose_ros.optimization.drawing import ALPHA_PLANE, DEPTH_PLANE
from gs_pose_ros.optimization.gain import NO_SUMS, add_pair, gain_and_offset

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}
_SOLID = 0.9  # alpha; what is less has the colour of the rim
_COLOR_ERROR = 0.2  # of [0, 1]: a pixel that is off by so much has half the weight
# Variance of colours: an object of one colour does not tell gain from offset.
_GAIN_PRIOR, _LEAST_GAIN, _MOST_GAIN = 0.01, 0.4, 2.0


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
            alpha = image[y, ALPHA_PLANE, x]
            if alpha <= 0.5 or np.isnan(color[y, x, 0]):
                continue
            observed = depth[y, x]
            if observed != 0 and abs(observed - image[y, DEPTH_PLANE, x] / alpha) >= depth_cut:
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
            alpha = image[y, ALPHA_PLANE, x]
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
    """Gains [3] and offsets [3] of the channels from rendering to image; see `gain_and_offset`.

    Over the pixels that agree in depth (to `depth_cut`, m), weighted by how well they agree in
    colour with the `previous` gains and offsets [6].
    """
    height, _, width = image.shape
    out = previous.copy()
    for channel in range(3):
        gain, offset = previous[channel], previous[3 + channel]
        sums = NO_SUMS
        for y in range(height):
            for x in range(width):
                alpha = image[y, ALPHA_PLANE, x]
                if alpha < _SOLID or np.isnan(color[y, x, channel]):
                    continue
                d = depth[y, x]
                if d > 0 and abs(d - image[y, DEPTH_PLANE, x] / alpha) > depth_cut:
                    continue
                drawn, seen = image[y, channel, x] / alpha, color[y, x, channel]
                error = (gain * drawn + offset - seen) / _COLOR_ERROR
                sums = add_pair(sums, drawn, seen, 1 / (1 + error * error))
        out[channel], out[3 + channel] = gain_and_offset(
            sums, _GAIN_PRIOR, _LEAST_GAIN, _MOST_GAIN, (gain, offset)
        )
    return out
