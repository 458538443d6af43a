"""A scene as Gaussians in levels of detail, of which only what a camera may see is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.surfels import SurfelSettings, oriented_points, smoothed, surfels
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud
from gs_pose_ros.rendering.numba_rasterizer import Splats

_CELL = 24  # voxels along the edge of a cell, the unit of culling
_LEVELS = 4
_UNBOUNDED = 1 << 30
_PASSES, _LAYER_NEIGHBOURS = 2, 30
_JOINED_SPREAD = 0.7
_JOINED_AT_ONCE = 200_000  # Gaussians, in double precision, while coarse levels are made
# The part that is drawn reaches so far beyond the picture (share of its size), so that it serves
# the next pictures as well.
_MARGIN = 0.15


class Part:
    """The Gaussians of one level, sorted by cells; `in_view` picks those that a camera may see."""

    def __init__(self, gaussians: Gaussians, cell_m: float) -> None:
        means = gaussians.means.numpy()
        cell = np.floor(means / cell_m).astype(np.int64)
        order = np.lexsort(cell.T)
        self.gaussians = gaussians[order]
        cell, means = cell[order], means[order]
        change = (cell[1:] != cell[:-1]).any(1)
        self._first = np.flatnonzero(np.r_[True, change]) if len(cell) else np.zeros(0, np.int64)
        self._count = np.diff(np.r_[self._first, len(cell)])
        reach = gaussians.scales.numpy()[order].max(1, initial=0) * 3
        low = np.minimum.reduceat(means - reach[:, None], self._first) if len(cell) else means
        high = np.maximum.reduceat(means + reach[:, None], self._first) if len(cell) else means
        self._middle = 0.5 * (low + high)
        self._radius = 0.5 * np.linalg.norm(high - low, axis=1)
        self._splats = Splats.of(self.gaussians)
        self._chosen = np.zeros(len(self._first), bool)
        self._drawn: Splats | None = None

    def __len__(self) -> int:
        return len(self.gaussians)

    def in_view(self, camera: Camera, T_cam_map: NDArray[np.float64], far_m: float) -> Splats:
        """What the camera may see at this pose and close to it."""
        needed = self._seen(camera, T_cam_map, far_m, 0.0)
        enough = self._drawn is not None and not (needed & ~self._chosen).any()
        if enough and self._count[self._chosen].sum() < 2 * max(self._count[needed].sum(), 1):
            assert self._drawn is not None
            return self._drawn
        self._chosen = self._seen(camera, T_cam_map, far_m, _MARGIN)
        rows = np.repeat(self._chosen, self._count)
        self._drawn = Splats(self._splats.prepared[rows], self._splats.sh[rows])
        return self._drawn

    def _seen(
        self, camera: Camera, T_cam_map: NDArray[np.float64], far_m: float, margin: float
    ) -> NDArray[np.bool_]:
        """Which cells reach into the picture, widened by a share of it on each side."""
        x, y, z = se3.transform(T_cam_map, self._middle).T
        wide, high = margin * camera.width, margin * camera.height
        left, right = camera.cx + 0.5 + wide, camera.width - 0.5 - camera.cx + wide
        top, bottom = camera.cy + 0.5 + high, camera.height - 0.5 - camera.cy + high
        inside = (z > -self._radius) & (z < far_m + self._radius)
        for distance, focal, along in (
            (left, camera.fx, x), (right, camera.fx, -x),
            (top, camera.fy, y), (bottom, camera.fy, -y),
        ):  # fmt: skip
            # The plane through the border of the picture: its inner normal is (focal, distance).
            inside &= along * focal + z * distance > -self._radius * np.hypot(focal, distance)
        return inside


@dataclass(frozen=True)
class SceneMap:
    """Gaussians of a scene in the map frame, m."""

    gaussians: Gaussians  # of SH degree 0
    voxel_m: float
    surfel: SurfelSettings = field(default_factory=SurfelSettings)

    @classmethod
    def from_cloud(
        cls,
        cloud: VoxelCloud,
        min_frames: int = 1,
        surfel: SurfelSettings | None = None,
    ) -> SceneMap:
        """From what has been fused."""
        surfel = surfel or SurfelSettings()
        kept = cloud.points(min_frames)
        if cloud.frames > 1:
            # Frames do not lie on each other exactly. Of several layers a picture shows the
            # nearest, which is a bias of their distance: make them one.
            for _ in range(_PASSES):
                kept = smoothed(kept, _LAYER_NEIGHBOURS)
            joined = VoxelCloud(FusionSettings(voxel_m=cloud.voxel_m, max_points=_UNBOUNDED))
            joined.add_points(kept, np.ones(len(kept.points)))
            kept = joined.points()
            # Between voxels what is behind would shine through, where a single frame has nothing.
            surfel = replace(surfel, spread=max(surfel.spread, _JOINED_SPREAD))
        return cls(surfels(kept, surfel), cloud.voxel_m, surfel)

    def __len__(self) -> int:
        return len(self.gaussians)

    @cached_property
    def levels(self) -> tuple[Part, ...]:
        """The Gaussians at 1, 2, 4 and 8 voxels' width."""
        widths = [self.voxel_m * 2**level for level in range(1, _LEVELS)]
        clouds = [VoxelCloud(FusionSettings(voxel_m=w, max_points=_UNBOUNDED)) for w in widths]
        for first in range(0, len(self), _JOINED_AT_ONCE):
            fine = oriented_points(self.gaussians[first : first + _JOINED_AT_ONCE])
            for cloud in clouds:
                cloud.add_points(fine, np.ones(len(fine.points)))
        coarse = (
            Part(surfels(cloud.points(), self.surfel), _CELL * cloud.voxel_m) for cloud in clouds
        )
        return Part(self.gaussians, _CELL * self.voxel_m), *coarse

    def in_view(
        self, camera: Camera, T_cam_map: NDArray[np.float64], pixel_m: float, far_m: float
    ) -> Splats:
        """What a camera may see, in voxels of at most the given width of a pixel."""
        wanted = np.log2(max(pixel_m / self.voxel_m, 1.0) + 1e-9)
        return self.levels[min(int(wanted), _LEVELS - 1)].in_view(camera, T_cam_map, far_m)
