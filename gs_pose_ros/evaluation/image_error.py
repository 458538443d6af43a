"""How well a rendered image agrees with a picture; colours in [0, 1]."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def psnr(
    rendered: NDArray,  # [H, W, C]
    image: NDArray,  # [H, W, C]
    mask: NDArray[np.bool_] | None = None,  # [H, W]
) -> float:
    """Peak signal-to-noise ratio in dB over the pixels in `mask` (all if None); inf if equal.

    Raises:
        ValueError: shapes differ or the mask is empty.

    """
    a, b = _pair(rendered, image)
    difference = (a - b) ** 2 if mask is None else (a - b)[mask] ** 2
    if difference.size == 0:
        raise ValueError('the mask is empty')
    mse = float(difference.mean())
    return float('inf') if mse == 0 else float(-10 * np.log10(mse))


def ssim(
    rendered: NDArray,  # [H, W, C]
    image: NDArray,  # [H, W, C]
    mask: NDArray[np.bool_] | None = None,  # [H, W]
) -> float:
    """Structural similarity in [-1, 1], mean over channels and the pixels in `mask`.

    Gaussian window of 11 px and sigma 1.5, K1 = 0.01, K2 = 0.03 (Wang et al. 2004), zero padding
    at the border as in the 3DGS reference.

    Raises:
        ValueError: shapes differ or the mask is empty.

    """
    a, b = _pair(rendered, image)

    def blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
        out = cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(out, np.float64).reshape(x.shape)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    if mask is not None:
        if not mask.any():
            raise ValueError('the mask is empty')
        similarity = similarity[mask]
    return float(similarity.mean())


def _pair(a: NDArray, b: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f'two images [H, W, C] of one shape are needed, got {a.shape}, {b.shape}')
    return a.astype(np.float64), b.astype(np.float64)
