"""What a rendering and a window of the image have in common, pixel by pixel, as kernels.

Renderings [S, 5, S] are what `rasterize` gives; colours [S, S, 3] and depths [S, S] those of
`ObjectWindow`. A few hundred poses are looked at in an image: NumPy's temporary arrays, and the
lock of the interpreter that they are made under, were three quarters of that time.
"""

from __future__ import annotations

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}

# What a pixel of the window shows; those below OUTSIDE belong to the rendered silhouette.
AGREES, UNKNOWN, HIDDEN, BEHIND, BEYOND, OUTSIDE = range(6)


@numba.njit(**_kernel)
def label_pixels(image, color, depth, tolerance, noise_per_m2, labels):
    """Fill labels [S, S] uint8; return how many of each, and the tolerance used, m.

    AGREES and BEHIND are of known depth, HIDDEN what something stands before (both by more than
    the tolerance plus the noise at the object's median depth), UNKNOWN has no depth, BEYOND is
    silhouette outside the image.
    """
    height, _, width = image.shape
    z = np.empty(height * width, np.float32)
    n = 0
    for y in range(height):
        for x in range(width):
            if image[y, 4, x] > 0.5 and not np.isnan(color[y, x, 0]):
                z[n] = image[y, 3, x] / image[y, 4, x]
                n += 1
    if n > 0:
        middle = np.median(z[:n])
        tolerance += noise_per_m2 * middle * middle
    counts = np.zeros(6, np.int64)
    for y in range(height):
        for x in range(width):
            alpha, observed = image[y, 4, x], depth[y, x]
            if alpha <= 0.5:
                label = OUTSIDE
            elif np.isnan(color[y, x, 0]):
                label = BEYOND
            elif observed <= 0:
                label = UNKNOWN
            else:
                error = observed - image[y, 3, x] / alpha
                label = HIDDEN if error < -tolerance else BEHIND if error > tolerance else AGREES
            labels[y, x] = label
            counts[label] += 1
    return counts, tolerance


@numba.njit(**_kernel)
def _limited_gain(rr, ro):
    """Gain [3] of the light, from the sums of rendered^2 and of rendered * observed.

    Light may change brightness freely (0.4 to 2.5) and its colour by a quarter, not more: a free
    gain a channel would turn any plain object into any other.
    """
    gain = np.empty(3)
    common = min(max(ro.sum() / max(rr.sum(), 1e-9), 0.4), 2.5)
    for c in range(3):
        gain[c] = min(max(ro[c] / max(rr[c], 1e-9), 0.8 * common), 1.25 * common)
    return gain


@numba.njit(**_kernel)
def _squared_error(image, color, gain, y, x):
    """Of a pixel's colour after the gain, mean over the channels."""
    squared = 0.0
    for c in range(3):
        error = gain[c] * image[y, c, x] / image[y, 4, x] - color[y, x, c]
        squared += error * error / 3
    return squared


@numba.njit(**_kernel)
def color_agreement(image, color, labels, sigma):
    """Mean agreement of colour in [0, 1] over the pixels compared, and the gain [3] of light."""
    height, _, width = image.shape
    gain = np.ones(3)
    for repetition in range(3):
        rr, ro = np.zeros(3), np.zeros(3)
        for y in range(height):
            for x in range(width):
                if labels[y, x] > UNKNOWN:
                    continue
                alpha = image[y, 4, x]
                squared = _squared_error(image, color, gain, y, x)
                weight = 1.0 if repetition == 0 else 1 / (1 + squared / sigma**2)
                for c in range(3):
                    r = image[y, c, x] / alpha
                    rr[c] += weight * r * r
                    ro[c] += weight * r * color[y, x, c]
        gain = _limited_gain(rr, ro)
    total, n = 0.0, 0
    for y in range(height):
        for x in range(width):
            if labels[y, x] <= UNKNOWN:
                squared = _squared_error(image, color, gain, y, x)
                total += np.exp(-0.5 * squared / sigma**2)
                n += 1
    return total / max(n, 1), gain


@numba.njit(**_kernel)
def _weighted_colors(image, color, labels, gain, both):
    """Fill both [S, S, 7]: rendered and observed colour and 1 where compared, else 0."""
    height, _, width = image.shape
    for y in range(height):
        for x in range(width):
            compared = labels[y, x] <= UNKNOWN
            both[y, x, 6] = compared
            for c in range(3):
                both[y, x, c] = gain[c] * image[y, c, x] / image[y, 4, x] if compared else 0.0
                both[y, x, 3 + c] = color[y, x, c] if compared else 0.0


@numba.njit(**_kernel)
def _correlate(fine, wide, labels):
    """Means of a b, a^2 and b^2 over the pixels compared, of rendered a and observed b."""
    ab, aa, bb, n = 0.0, 0.0, 0.0, 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > UNKNOWN:
                continue
            near, far = max(fine[y, x, 6], 1e-3), max(wide[y, x, 6], 1e-3)
            for c in range(3):
                a = fine[y, x, c] / near - wide[y, x, c] / far
                b = fine[y, x, 3 + c] / near - wide[y, x, 3 + c] / far
                ab += a * b
                aa += a * a
                bb += b * b
            n += 3
    n = max(n, 1)
    return ab / n, aa / n, bb / n


def structure_agreement(
    image: NDArray[np.float32],
    color: NDArray[np.float32],
    labels: NDArray[np.uint8],
    gain: NDArray[np.float64],
    fine_px: float,
    wide_px: float,
) -> tuple[float, float]:
    """Correlation of rendering and image over the pixels compared, less shading.

    Shading is what varies slower than `wide_px`: it comes with the light; noise what is finer
    than `fine_px`. Noise that is left counts as agreement in the first number and as disagreement
    in the second.
    """
    both = np.empty((*labels.shape, 7), np.float32)
    _weighted_colors(image, color, labels, gain, both)
    fine = cv2.GaussianBlur(both, (0, 0), fine_px)
    # A wide blur is as good at a part of the size.
    share = 0.25 if wide_px > 8 else 0.5
    small = cv2.resize(both, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), wide_px * share)
    wide = cv2.resize(small, labels.shape[::-1], interpolation=cv2.INTER_LINEAR)
    common, rendered, observed = _correlate(fine, wide, labels)
    # 0.02 of contrast is noise: an object without a pattern is not asked for one.
    noise = 0.02**2
    total = float(np.sqrt(rendered * observed)) + noise
    return float(np.clip((common + noise) / total, 0, 1)), max(common / total, 0.0)


@numba.njit(**_kernel)
def silhouette_overlap(labels, mask, depth, K, center, reach):
    """Intersection over union of the visible silhouette with the mask; 1 if nothing is known.

    `mask` [S, S] is that of `ObjectWindow`. Of what stands above the support there, the object may
    be what lies within `reach` (m) of its centre [3], seen by the camera K [4] (fx, fy, cx, cy).
    """
    both, either, known = 0, 0, 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if mask[y, x] == -1:
                continue
            known += 1
            marked = mask[y, x] > 0.5
            if mask[y, x] < -1.5:
                z = depth[y, x]
                dx = (x - K[2]) / K[0] * z - center[0]
                dy = (y - K[3]) / K[1] * z - center[1]
                marked = np.sqrt(dx * dx + dy * dy + (z - center[2]) ** 2) < reach
            label = labels[y, x]
            shown = label <= UNKNOWN or label == BEHIND
            both += marked and shown
            either += marked or shown
    return both / max(either, 1) if known else 1.0


@numba.njit(**_kernel)
def _is_rim(labels, y, x):
    """Whether a pixel of the silhouette has a neighbour that is not of it."""
    height, width = labels.shape
    if labels[y, x] == OUTSIDE:
        return False
    for v in range(max(y - 1, 0), min(y + 2, height)):
        for u in range(max(x - 1, 0), min(x + 2, width)):
            if labels[v, u] == OUTSIDE:
                return True
    return False


@numba.njit(**_kernel)
def _hidden_near(labels, y, x, reach):
    height, width = labels.shape
    for v in range(max(y - reach, 0), min(y + reach + 1, height)):
        for u in range(max(x - reach, 0), min(x + reach + 1, width)):
            if labels[v, u] == HIDDEN:
                return True
    return False


@numba.njit(**_kernel)
def outline_agreement(labels, edges):
    """Share of the visible outline that lies on the edges [S, S]; 1 for one of few pixels."""
    n, hits = 0, 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] == BEYOND or not _is_rim(labels, y, x):
                continue
            if not _hidden_near(labels, y, x, 1):
                n += 1
                hits += edges[y, x] > 0
    return hits / n if n >= 10 else 1.0


@numba.njit(**_kernel)
def seamless_share(soft, color, depth, labels, tolerance, reach, contrast):
    """Share of the visible outline where the surface goes on as it was, in depth and colour.

    `soft` [S, S] is the blurred alpha, whose slope points inward, `color` [S, S, 3] without NaN;
    the two sides lie `reach` px from the outline.
    """
    height, width = labels.shape
    judged, seamless = 0, 0
    for y in range(height):
        for x in range(width):
            if not _is_rim(labels, y, x) or _hidden_near(labels, y, x, 2):
                continue
            up, down = max(y - 1, 0), min(y + 1, height - 1)
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            dy = (  # Sobel
                soft[down, left] + 2 * soft[down, x] + soft[down, right]
                - soft[up, left] - 2 * soft[up, x] - soft[up, right]
            )  # fmt: skip
            dx = (
                soft[up, right] + 2 * soft[y, right] + soft[down, right]
                - soft[up, left] - 2 * soft[y, left] - soft[down, left]
            )  # fmt: skip
            length = np.sqrt(dx * dx + dy * dy) + 1e-9
            dy, dx = reach * dy / length, reach * dx / length
            y_in = min(max(int(np.rint(y + dy)), 0), height - 1)
            x_in = min(max(int(np.rint(x + dx)), 0), width - 1)
            y_out = min(max(int(np.rint(y - dy)), 0), height - 1)
            x_out = min(max(int(np.rint(x - dx)), 0), width - 1)
            near, far = depth[y_in, x_in], depth[y_out, x_out]
            # Nearer things may touch it.
            if near <= 0 or far <= 0 or far - near <= -tolerance:
                continue
            judged += 1
            change = 0.0
            for c in range(3):
                change = max(change, abs(color[y_out, x_out, c] - color[y_in, x_in, c]))
            seamless += far - near < tolerance and change < contrast
    return seamless / judged if judged >= 10 else 0.0


@numba.njit(parallel=True, **_kernel)
def glances(images, windows, color, depth, K, tolerance, noise_per_m2, sigma, out):
    """Fill out [k] with how well renderings [k, S, 5, S] agree with a frame, in [0, 1].

    Their cameras are `windows` [k, 4], that of the frame (colour [H, W, 3], depth [H, W], 0
    unknown) is K [4], all as fx, fy, cx, cy. Only visibility, depth and colour, at the nearest
    pixels.
    """
    for k in numba.prange(len(images)):
        out[k] = _glance(images[k], windows[k], color, depth, K, tolerance, noise_per_m2, sigma)


@numba.njit(**_kernel)
def _glance(image, window, color, depth, K, tolerance, noise_per_m2, sigma):
    size, (height, width) = image.shape[0], depth.shape
    inside, hidden, behind, known, n = 0, 0, 0, 0, 0
    compared = np.empty((size * size, 6), np.float32)
    for y in range(size):
        v = int(np.rint((y - window[3]) / window[1] * K[1] + K[3]))
        for x in range(size):
            alpha = image[y, 4, x]
            u = int(np.rint((x - window[2]) / window[0] * K[0] + K[2]))
            if alpha <= 0.5 or u < 0 or v < 0 or u >= width or v >= height:
                continue
            inside += 1
            observed, z = depth[v, u], image[y, 3, x] / alpha
            if observed > 0:
                known += 1
                limit = tolerance + noise_per_m2 * z * z
                if observed - z < -limit:
                    hidden += 1
                    continue
                if observed - z > limit:
                    behind += 1
                    continue
            for c in range(3):
                compared[n, c] = image[y, c, x] / alpha
                compared[n, 3 + c] = color[v, u, c]
            n += 1
    if n == 0:
        return 0.0
    rr, ro = np.zeros(3), np.zeros(3)
    for i in range(n):
        for c in range(3):
            rr[c] += compared[i, c] ** 2
            ro[c] += compared[i, c] * compared[i, 3 + c]
    gain = _limited_gain(rr, ro)
    total = 0.0
    for i in range(n):
        squared = 0.0
        for c in range(3):
            squared += (gain[c] * compared[i, c] - compared[i, 3 + c]) ** 2 / 3
        total += np.exp(-0.5 * squared / sigma**2)
    agree = 1.0
    if known > hidden:
        agree = (known - hidden - behind) / (known - hidden)
    return ((inside - hidden) / inside) ** 0.25 * agree * total / n
