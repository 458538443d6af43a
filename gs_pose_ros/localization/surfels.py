"""Flat Gaussians from the points of a scene: one a point, lying in the surface around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gs_pose_ros.bounds import Few, Positive, Share
from gs_pose_ros.gaussians import SH_C0, Gaussians
from gs_pose_ros.localization.voxel_cloud import OrientedPoints

_CHUNK = 100_000  # points whose neighbourhoods are in memory at a time
_OPACITY = 0.99


@dataclass(frozen=True)
class SurfelSettings:
    """How points become Gaussians."""

    neighbours: Few = 12  # of which a point's surface is made smooth
    # Standard deviation of a Gaussian in its surface, in root mean square distances to the three
    # nearest points (GSplatLoc), and across it in the former.
    spread: Positive = 0.5
    thickness: Share = 0.03
    # A Gaussian is a ball where the normals of the neighbours have a mean shorter than this.
    agreement: Share = 0.6


def surfels(cloud: OrientedPoints, settings: SurfelSettings) -> Gaussians:
    """Flat Gaussians of SH degree 0.

    Normals are averaged over the neighbours, and a point is moved along its normal to the middle
    of theirs: noise goes, edges stay.
    """
    points = cloud.points
    n, count = len(points), min(settings.neighbours + 1, len(points))
    tree = KDTree(points)
    means, quats = np.empty((n, 3), np.float32), np.empty((n, 4), np.float32)
    scales = np.empty((n, 3), np.float32)
    for first in range(0, n, _CHUNK):
        part = slice(first, min(first + _CHUNK, n))
        distance, index = tree.query(points[part], k=count, workers=-1)
        distance, index = np.reshape(distance, (-1, count)), np.reshape(index, (-1, count))
        own = cloud.normals[part]
        # Of the other side of an edge, or of a sheet, nothing is taken over.
        around = cloud.normals[index]
        alike = (around * own[:, None]).sum(-1) > 0.5 * (own * own).sum(-1)[:, None]
        alike |= ~own.any(1, keepdims=True)
        weight = alike / alike.sum(1, keepdims=True)
        normal = (weight[..., None] * around).sum(1)
        length = np.linalg.norm(normal, axis=1)
        is_flat = length > settings.agreement
        normal = normal / np.maximum(length, 1e-9)[:, None]
        offset = points[index] - points[part][:, None]
        height = np.einsum('nk,nki,ni->n', weight, offset, normal) * is_flat
        means[part] = points[part] + height[:, None] * normal
        spacing = np.sqrt((distance[:, 1:4] ** 2).mean(1)) if count > 1 else cloud.reach_m[part]
        spacing = np.maximum(np.maximum(spacing, cloud.reach_m[part]), 1e-6)
        scale = settings.spread * spacing
        scales[part] = scale[:, None]
        scales[part, 0] = np.where(is_flat, settings.thickness * scale, scale)
        quats[part] = _from_x_axis(normal)
    colors = torch.from_numpy(cloud.colors.astype(np.float32))
    return Gaussians(
        means=torch.from_numpy(means),
        quats=torch.from_numpy(quats),
        log_scales=torch.from_numpy(np.log(scales)),
        logit_opacities=torch.full((n,), float(np.log(_OPACITY / (1 - _OPACITY)))),
        sh=((colors - 0.5) / SH_C0)[:, None],
    )


def oriented_points(gaussians: Gaussians) -> OrientedPoints:
    """The points of which `surfels` made these."""
    scales = gaussians.scales.double().numpy()
    w, x, y, z = gaussians.quats.double().numpy().T
    normal = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], 1)
    normal[scales[:, 0] > 0.5 * scales[:, 1]] = 0
    colors = gaussians.sh[:, 0].double().numpy() * SH_C0 + 0.5
    return OrientedPoints(gaussians.means.double().numpy(), colors, normal, scales[:, 1])


def _from_x_axis(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternions wxyz [N, 4] of the shortest turns from x to unit vectors [N, 3]."""
    x, y, z = direction.T
    flipped = x < 0  # the axis of a Gaussian has no sign: never turn by more than a right angle
    x, y, z = np.where(flipped, -x, x), np.where(flipped, -y, y), np.where(flipped, -z, z)
    q = np.stack([1 + x, np.zeros_like(x), -z, y], 1)
    return q / np.linalg.norm(q, axis=1, keepdims=True)
