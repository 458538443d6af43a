"""Whether a picture shows the texture that the map has there.

Along a wall every place has the same depth. Zero-normalised cross-correlation in small windows
asks for the pattern and not for the light: each window has its own brightness and contrast.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# In pictures of up to 320 px, and wider in larger ones. What is finer than the blur is lost
# between voxels, or in motion.
_BLUR_PX, _WINDOW_PX, _WIDTH = 1.5, 9, 320
_TEXTURE = 6 / 255  # contrast (standard deviation in a window) that is asked for
_NOISE = 2 / 255  # contrast that is the sensor's
_LEAST = 0.01  # of the pixels have texture, or nothing can be said
# Where the map has texture and the picture has none nearly everywhere, it is dark, or blurred.
_CONTRAST_LEFT = 0.1


def gray_correlation(
    drawn: NDArray[np.float32], seen: NDArray[np.float32], compared: NDArray[np.bool_]
) -> float:
    """Mean correlation in [-1, 1] of the windows with texture; NaN if texture says nothing.

    `drawn` and `seen` [h, w] are in [0, 1]; `compared` [h, w] are the pixels that show the same
    surface. Windows of which less than half does do not count.
    """
    scale = max(compared.shape[1] / _WIDTH, 1.0)
    weight = compared.astype(np.float32)
    near = cv2.GaussianBlur(weight, (0, 0), _BLUR_PX * scale)
    size = 2 * max(round(0.5 * (_WINDOW_PX - 1) * scale), 1) + 1

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        out = cv2.boxFilter(values, -1, (size, size), borderType=cv2.BORDER_CONSTANT)
        return np.asarray(out, np.float32)

    def smooth(gray: NDArray[np.float32]) -> NDArray[np.float32]:
        kept = np.where(compared, gray, 0).astype(np.float32)
        blurred = cv2.GaussianBlur(kept, (0, 0), _BLUR_PX * scale)
        return np.divide(blurred, near, out=kept, where=compared)

    count = mean(weight)
    per = np.divide(1.0, count, out=np.zeros_like(count), where=count > 0.5)
    drawn, seen = smooth(drawn), smooth(seen)
    mean_drawn, mean_seen = mean(drawn) * per, mean(seen) * per
    of_drawn = mean(drawn * drawn) * per - mean_drawn**2
    of_seen = mean(seen * seen) * per - mean_seen**2
    common = mean(drawn * seen) * per - mean_drawn * mean_seen
    in_map, in_picture = of_drawn > _TEXTURE**2, of_seen > _TEXTURE**2
    textured = in_map | in_picture
    dark = np.count_nonzero(in_picture) < _CONTRAST_LEFT * np.count_nonzero(in_map)
    if dark or np.mean(textured) < _LEAST:
        return float('nan')
    both = np.maximum(of_drawn, 0) + _NOISE**2, np.maximum(of_seen, 0) + _NOISE**2
    return float(np.mean((common / np.sqrt(both[0] * both[1]))[textured]))
