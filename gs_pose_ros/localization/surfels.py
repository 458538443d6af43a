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

_CHUNK = 20_000  # points whose neighbourhoods are in memory at a time
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
    """Flat Gaussians of SH degree 0, one a point."""
    cloud = smoothed(cloud, settings.neighbours)
    points, n = cloud.points, len(cloud.points)
    length = np.linalg.norm(cloud.normals, axis=1)
    is_flat = length > settings.agreement
    if n > 3:
        distance, _ = KDTree(points).query(points, k=4, workers=-1)
        spacing = np.sqrt((distance[:, 1:] ** 2).mean(1))
    else:
        spacing = cloud.reach_m
    scale = settings.spread * np.maximum(np.maximum(spacing, cloud.reach_m), 1e-6)
    scales = np.repeat(scale[:, None], 3, 1)
    scales[is_flat, 0] *= settings.thickness
    quats = _from_x_axis(cloud.normals / np.maximum(length, 1e-9)[:, None])
    colors = torch.from_numpy(cloud.colors.astype(np.float32))
    return Gaussians(
        means=torch.from_numpy(points.astype(np.float32)),
        quats=torch.from_numpy(quats.astype(np.float32)),
        log_scales=torch.from_numpy(np.log(scales).astype(np.float32)),
        logit_opacities=torch.full((n,), float(np.log(_OPACITY / (1 - _OPACITY)))),
        sh=((colors - 0.5) / SH_C0)[:, None],
    )


def smoothed(cloud: OrientedPoints, neighbours: int) -> OrientedPoints:
    """Normals averaged over the neighbours, and points in the middle of theirs along it.

    Noise goes, edges stay: of the other side of an edge, or of a sheet, nothing is taken over.
    """
    points, normals = cloud.points, cloud.normals
    count = min(neighbours + 1, len(points))
    tree = KDTree(points)
    new_points, new_normals = np.empty_like(points), np.empty_like(normals)
    for first in range(0, len(points), _CHUNK):
        part = slice(first, first + _CHUNK)
        index = np.reshape(tree.query(points[part], k=count, workers=-1)[1], (-1, count))
        own, around = normals[part], normals[index]
        alike = (around * own[:, None]).sum(-1) > 0.5 * (own * own).sum(-1)[:, None]
        alike |= ~np.any(own, axis=1, keepdims=True)
        weight = np.asarray(alike / alike.sum(1, keepdims=True), np.float64)
        normal = (weight[..., None] * around).sum(1)
        length = np.linalg.norm(normal, axis=1)[:, None]
        # Where the normals do not agree there is no surface to move to.
        axis = np.where(length > 0.5, normal / np.maximum(length, 1e-9), 0.0)
        offset = points[index] - points[part][:, None]
        height = np.einsum('nk,nki,ni->n', weight, offset, axis)
        new_points[part] = points[part] + height[:, None] * axis
        new_normals[part] = normal
    return cloud._replace(points=new_points, normals=new_normals)


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
