"""Fewer, larger Gaussians for small pictures: what is smaller than a pixel need not be drawn."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gs_pose_ros.gaussians import Gaussians

_XYZW, _WXYZ = [1, 2, 3, 0], [3, 0, 1, 2]  # scipy has the scalar last


def merge(gaussians: Gaussians, cell_m: float) -> Gaussians:
    """Replace all Gaussians of each cubic cell by one with their mass, mean and covariance.

    Weights are opacity times the area of the two largest axes, what a Gaussian covers in a
    picture; colours are averaged with them, and depend on the view by SH of degree 1 at most: in
    small pictures more does not tell and takes half of the time. Not differentiable.
    """
    means = gaussians.means.detach().double().numpy()
    scales = gaussians.scales.detach().double().numpy()
    opacity = gaussians.opacities.detach().double().numpy()
    area = scales.prod(1) / scales.min(1)
    weight = opacity * area
    _, cell, count = np.unique(
        np.floor(means / cell_m).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    cell = cell.ravel()
    total = np.bincount(cell, weight)

    def average(values: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = values.reshape(len(values), -1)
        columns = [np.bincount(cell, weight * column) for column in flat.T]
        return (np.stack(columns, 1) / total[:, None]).reshape(-1, *values.shape[1:])

    mean = average(means)
    rotations = Rotation.from_quat(gaussians.quats.detach().numpy()[:, _XYZW]).as_matrix()
    M = rotations * scales[:, None, :]
    offset = means - mean[cell]
    spread = M @ M.transpose(0, 2, 1) + offset[:, :, None] * offset[:, None, :]
    variance, axes = np.linalg.eigh(average(spread))
    axes[np.linalg.det(axes) < 0, :, 0] *= -1
    merged_scales = np.sqrt(np.maximum(variance, 1e-12))
    # Opacity such that the merged area covers what its parts covered, never more than they.
    merged_area = merged_scales.prod(1) / merged_scales.min(1)
    strongest = np.zeros(len(total))
    np.maximum.at(strongest, cell, opacity)
    merged = np.where(count > 1, np.minimum(total / merged_area, 0.99), strongest)
    merged = np.clip(np.maximum(merged, np.minimum(strongest, 0.9)), 1e-3, 0.999)
    f32 = torch.float32
    return Gaussians(
        means=torch.tensor(mean, dtype=f32),
        quats=torch.tensor(Rotation.from_matrix(axes).as_quat()[:, _WXYZ], dtype=f32),
        log_scales=torch.tensor(np.log(merged_scales), dtype=f32),
        logit_opacities=torch.tensor(np.log(merged / (1 - merged)), dtype=f32),
        sh=torch.tensor(average(gaussians.sh[:, :4].detach().double().numpy()), dtype=f32),
    )


# None stands for the Gaussians themselves: a value that held its key would keep it for ever.
_cache: WeakKeyDictionary[Gaussians, dict[float, Gaussians | None]] = WeakKeyDictionary()


def for_resolution(gaussians: Gaussians, extent_m: float, pixels: int) -> Gaussians:
    """The Gaussians for a picture where `extent_m` covers `pixels`; the originals if they are few.

    Cells are a pixel wide, in steps of powers of two, so that neighbouring sizes share one set.
    """
    cell = extent_m / 2 ** np.floor(np.log2(max(pixels, 2)) + 1e-9)
    levels = _cache.setdefault(gaussians, {})
    if cell not in levels:
        merged = merge(gaussians, cell) if len(gaussians) else gaussians
        levels[cell] = merged if len(merged) < 0.7 * len(gaussians) else None
    merged = levels[cell]
    return gaussians if merged is None else merged
