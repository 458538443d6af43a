"""Posed depth images fused into one oriented point a voxel, within a bound of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gs_pose_ros.bounds import Count, Distance, Few, NonNegative, Share
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3

_BITS = 21  # of a voxel's number along an axis
_HALF = 1 << (_BITS - 1)
# Columns of the sums: weight, weighted point, colour, normal and reach, and frames.
_WEIGHT, _POINT, _COLOR, _NORMAL, _REACH, _FRAMES = 0, np.s_[1:4], np.s_[4:7], np.s_[7:10], 10, 11
_COLUMNS = 12
_AUTOMATIC_PX = 2.0
_AUTOMATIC_M = (0.001, 0.02)


class OrientedPoints(NamedTuple):
    """Points of surfaces, m."""

    points: NDArray[np.float64]  # [N, 3]
    colors: NDArray[np.float64]  # [N, 3] in [0, 1]
    normals: NDArray[np.float64]  # [N, 3], shorter than 1 the less they are known
    reach_m: NDArray[np.float64]  # [N] how far the next measurement on the surface was


@dataclass(frozen=True)
class FusionSettings:
    """Which measurements count, and how finely they are held."""

    # 0: two pixels wide at the median distance of the first frame, 1 mm at least, 2 cm at most.
    voxel_m: NonNegative = 0.0
    max_points: Count = 1_000_000  # of more, voxels are made twice as wide
    near_m: Distance = 0.1
    far_m: Distance = 6.0
    # A depth image has no points where it jumps by more than this share of the depth: they hang
    # in the air between two surfaces.
    jump: Share = 0.03
    normal_px: Few = 4  # the plane through so many pixels on each side has the normal of a point


class VoxelCloud:
    """Sums over all measurements in each voxel; a frame may be added at any time."""

    def __init__(self, settings: FusionSettings) -> None:
        self.settings = settings
        self.voxel_m = float(settings.voxel_m or _AUTOMATIC_M[1])
        self.frames = 0  # that any measurement is from
        self._keys = np.zeros(0, np.int64)  # sorted
        self._sums = np.zeros((0, _COLUMNS))

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, frame: RGBDFrame, T_map_cam: NDArray[np.float64]) -> int:
        """Fuse a frame taken at a pose [4, 4]; how many of its measurements were used."""
        seen, weights = _measurements(frame, self.settings)
        if not self.settings.voxel_m and not self.frames and len(weights):
            pixel_m = float(np.median(seen.points[:, 2])) / frame.camera.fx
            self.voxel_m = float(np.clip(_AUTOMATIC_PX * pixel_m, *_AUTOMATIC_M))
        R = T_map_cam[:3, :3]
        placed = seen._replace(
            points=se3.transform(T_map_cam, seen.points), normals=seen.normals @ R.T
        )
        return self.add_points(placed, weights)

    def add_points(self, seen: OrientedPoints, weights: NDArray[np.float64]) -> int:
        """Fuse points of one frame, in the map frame, with weights [N]; how many were used."""
        index = np.floor(seen.points / self.voxel_m).astype(np.int64) + _HALF
        inside = ((index >= 0) & (index < 2 * _HALF)).all(1)
        if not inside.any():
            return 0
        index, w = index[inside], weights[inside, None]
        keys = (index[:, 0] << 2 * _BITS) | (index[:, 1] << _BITS) | index[:, 2]
        columns = (*seen[:3], seen.reach_m[:, None])
        weighted = [w * column[inside] for column in columns]
        keys, sums = _summed(keys, np.concatenate([w, *weighted, np.ones_like(w)], 1))
        sums[:, _FRAMES] = 1
        self._merge(keys, sums)
        self.frames += 1
        while len(self._keys) > self.settings.max_points:
            self._coarsen()
        return int(inside.sum())

    def points(self, min_frames: int = 1, isolated: float = 4.0) -> OrientedPoints:
        """The means of the voxels that are no outliers.

        These were seen in `min_frames` frames, and their third neighbour is no further away than
        `isolated` times what a camera would measure next.
        """
        sums = self._sums[self._sums[:, _FRAMES] >= min_frames]
        sums = sums / sums[:, :1]
        if len(sums) > 3:
            distance, _ = KDTree(sums[:, _POINT]).query(sums[:, _POINT], k=4, workers=-1)
            reach = np.maximum(sums[:, _REACH], self.voxel_m)
            sums = sums[distance[:, 3] < isolated * reach]
        return OrientedPoints(sums[:, _POINT], sums[:, _COLOR], sums[:, _NORMAL], sums[:, _REACH])

    def _merge(self, keys: NDArray[np.int64], sums: NDArray[np.float64]) -> None:
        at = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), bool)
        inside = at < len(self._keys)
        known[inside] = self._keys[at[inside]] == keys[inside]
        self._sums[at[known]] += sums[known]
        self._keys = np.insert(self._keys, at[~known], keys[~known])
        self._sums = np.insert(self._sums, at[~known], sums[~known], axis=0)

    def _coarsen(self) -> None:
        """Join each eight voxels."""
        index = np.stack([self._keys >> s & (2 * _HALF - 1) for s in (2 * _BITS, _BITS, 0)])
        index = (index - _HALF >> 1) + _HALF
        keys = (index[0] << 2 * _BITS) | (index[1] << _BITS) | index[2]
        frames = self._sums[:, _FRAMES].copy()
        self._keys, sums = _summed(keys, self._sums)
        # A voxel was seen in at least as many frames as any of its parts.
        sums[:, _FRAMES] = 0
        np.maximum.at(sums[:, _FRAMES], np.searchsorted(self._keys, keys), frames)
        self._sums = sums
        self.voxel_m *= 2


def _summed(
    keys: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The distinct keys, sorted, and the sums of their rows of values."""
    order = np.argsort(keys, kind='stable')
    keys = keys[order]
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else order
    if not len(keys):
        return keys, values
    return keys[first], np.add.reduceat(values[order], first, axis=0)


def _measurements(
    frame: RGBDFrame, settings: FusionSettings
) -> tuple[OrientedPoints, NDArray[np.float64]]:
    """The points of one frame in the camera frame, and their weights [N]."""
    if frame.depth is None:
        raise ValueError('a frame without depth has no points')
    z, camera = frame.depth, frame.camera
    known = (z > settings.near_m) & (z < settings.far_m)
    smooth = known & ~_jumps(z, known, settings.jump)
    noise = frame.depth_noise.at(z.astype(np.float64))  # a point weighs as it allows
    planes = inverse_depth_planes(z, smooth, settings.normal_px)
    # The plane n X = 1 has 1 / z = n (x / z, y / z, 1).
    normal = np.stack(
        [
            planes.a * camera.fx,
            planes.b * camera.fy,
            planes.c + planes.a * camera.cx + planes.b * camera.cy,
        ],
        -1,
    )[smooth]
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = -normal / np.maximum(length, 1e-12)  # towards the camera
    # Where the surface is a plane up to the noise, the depth is that of the plane.
    flat = smooth & (planes.rms * z**2 < 1.5 * noise) & (planes.inverse_depth > 0)
    depth = np.where(flat, 1 / np.where(flat, planes.inverse_depth, 1), z)
    points = camera.point_map(depth)[smooth].astype(np.float64)
    distance = np.linalg.norm(points, axis=1)
    facing = -(normal * points).sum(1) / distance
    normal[(facing < 0.05) | ~flat[smooth]] = 0
    reach = points[:, 2] / camera.fx / np.maximum(facing, 0.15)
    weights = 1 / np.maximum(noise[smooth], 1e-6) ** 2
    color = frame.color[smooth].astype(np.float64)
    return OrientedPoints(points, color, normal, reach), weights


def _jumps(z: NDArray[np.float32], known: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Where known depths of the 3 x 3 pixels around differ by more than this share."""
    kernel = np.ones((3, 3), np.uint8)
    nearest = -cv2.dilate(np.where(known, -z, -np.float32(1e9)), kernel)
    furthest = cv2.dilate(np.where(known, z, np.float32(0)), kernel)
    return known & (furthest - nearest > share * z)


class Planes(NamedTuple):
    """1 / z = a u + b v + c around each pixel, all [H, W]; 0 where there is none."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]
    inverse_depth: NDArray[np.float64]  # at the pixel, 1/m
    rms: NDArray[np.float64]  # of what is left, 1/m


def inverse_depth_planes(z: NDArray[np.float32], known: NDArray[np.bool_], radius: int) -> Planes:
    """The least squares planes of the known pixels of each window.

    The inverse depth of a plane is linear in the picture: no slant, however steep, is rounded.
    """
    height, width = z.shape
    size = (2 * radius + 1, 2 * radius + 1)
    weight = known.astype(np.float64)
    v, u = np.mgrid[:height, :width].astype(np.float64)
    u -= 0.5 * width
    v -= 0.5 * height
    q = np.where(known, 1 / np.maximum(z.astype(np.float64), 1e-6), 0.0)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        out = cv2.boxFilter(values, -1, size, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(out, np.float64)

    count = mean(weight)
    safe = np.maximum(count, 1e-12)
    mu, mv, mq = mean(weight * u) / safe, mean(weight * v) / safe, mean(q) / safe
    uu = mean(weight * u * u) / safe - mu * mu
    uv = mean(weight * u * v) / safe - mu * mv
    vv = mean(weight * v * v) / safe - mv * mv
    uq, vq = mean(q * u) / safe - mu * mq, mean(q * v) / safe - mv * mq
    det = uu * vv - uv * uv
    spans = (det > 0.1) & (count * size[0] ** 2 > 5.5)
    over = np.where(spans, 1 / np.maximum(det, 1e-12), 0.0)
    a, b = (uq * vv - vq * uv) * over, (vq * uu - uq * uv) * over
    left = mean(q * q) / safe - mq * mq - a * uq - b * vq
    at = np.where(spans, mq + a * (u - mu) + b * (v - mv), 0.0)
    c = at - a * (u + 0.5 * width) - b * (v + 0.5 * height)
    return Planes(a, b, c, at, np.sqrt(np.maximum(left, 0)))
