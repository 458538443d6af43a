"""A map from posed RGB-D frames, one after the other: the splat, and keyframes to be found by."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import CountOrNone, Few, NonNegative, check_bounds
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.map_store import StoredMap
from gs_pose_ros.localization.polishing import MapPictures, polished
from gs_pose_ros.localization.relocalization import (
    Keyframe,
    KeyframeRelocalizer,
    RelocalizationSettings,
    is_new,
    keyframe,
)
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.surfels import SurfelSettings
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud

_MANY = 10  # frames, above which a point that few have seen is taken for an outlier


@dataclass(frozen=True)
class MapSettings:
    """Which frames make a map, and how."""

    # A frame nearer than both to the last one that was fused adds nothing and is skipped. Of 30 Hz
    # video from the hand every fourth is left, of every fifth of its frames nearly all.
    fuse_spacing_m: NonNegative = 0.02
    fuse_spacing_deg: NonNegative = 2.0
    min_frames: Few = 2  # that have seen a point, in maps of more than ten frames
    # Pictures to which the colours are fitted in the end; 0 leaves those of the fusion.
    polish_steps: CountOrNone = 0
    fusion: FusionSettings = field(default_factory=FusionSettings)  # frames into points
    surfel: SurfelSettings = field(default_factory=SurfelSettings)  # points into Gaussians
    # How the camera is found in the map without a pose to begin with.
    relocalization: RelocalizationSettings = field(default_factory=RelocalizationSettings)


class MapBuilder:
    """Takes frames one at a time and makes the map of all so far.

    None is kept, but for small pictures of at most a hundred where colours are to be polished.

    Raises:
        GsPoseError: a setting is out of its range.

    """

    def __init__(self, settings: MapSettings | None = None, frame_id: str = 'map') -> None:
        self.settings = settings or MapSettings()
        try:
            check_bounds(self.settings)
        except ValueError as error:
            raise GsPoseError(f'map settings: {error}') from error
        self.frame_id = frame_id  # the name of the map's frame in ROS
        self._cloud = VoxelCloud(self.settings.fusion)
        self._keyframes: list[Keyframe] = []
        self._pictures = MapPictures()
        self._last: NDArray[np.float64] | None = None
        self._frames = self._skipped = 0
        self._seconds = 0.0

    @property
    def frames(self) -> int:
        """How many were fused."""
        return self._frames

    @property
    def skipped(self) -> int:
        """How many added nothing."""
        return self._skipped

    def add(self, frame: RGBDFrame, T_map_cam: NDArray[np.float64]) -> bool:
        """Fuse a frame taken at a pose [4, 4], and keep its features if no keyframe is near.

        Returns:
            False if it adds nothing: it is too near the last one, or no depth in it is of use.

        Raises:
            GsPoseError: it has no depth image, or the pose is not a rigid motion.

        """
        begin = time.perf_counter()
        if frame.depth is None:
            raise GsPoseError(f'the frame at {frame.stamp_ns / 1e9:.3f} s has no depth')
        if not se3.is_rigid(T_map_cam):
            raise GsPoseError(
                f'the pose of the frame at {frame.stamp_ns / 1e9:.3f} s holds NaN or is not a '
                'rigid motion'
            )
        T_map_cam = np.asarray(T_map_cam, np.float64)
        is_used = not self._is_near(T_map_cam) and self._fuse(_usable(frame), T_map_cam)
        self._frames += is_used
        self._skipped += not is_used
        self._seconds += time.perf_counter() - begin
        return is_used

    def build(self, facts: Mapping[str, float | int | str] | None = None) -> StoredMap:
        """The map of all frames so far, with the given facts beside those that are counted here.

        Raises:
            GsPoseError: there is nothing to make a map of; the message says why.

        """
        begin = time.perf_counter()
        settings = self.settings
        if not self._frames:
            raise GsPoseError(
                f'no frame could be fused into a map: {self._skipped} had no usable depth'
                if self._skipped
                else 'no frame was given to make a map of'
            )
        min_frames = settings.min_frames if self._frames > _MANY else 1
        scene = SceneMap.from_cloud(self._cloud, min_frames, settings.surfel)
        if not len(scene):
            raise GsPoseError(
                f'no point of the map was seen in {min_frames} of its {self._frames} frames and '
                'has others beside it: do the poses fit the pictures?'
            )
        relocalizer = KeyframeRelocalizer.from_keyframes(self._keyframes, settings.relocalization)
        counted: dict[str, float] = {}
        if settings.polish_steps:
            gaussians, before_db, after_db = polished(
                scene.gaussians, self._pictures.kept, settings.polish_steps
            )
            scene = replace(scene, gaussians=gaussians)
            if np.isfinite(before_db):
                counted = {'psnr_before_db': before_db, 'psnr_after_db': after_db}
        counted |= {
            'frames': self._frames,
            'skipped': self._skipped,
            'seconds': self._seconds + time.perf_counter() - begin,
        }
        return StoredMap(scene, relocalizer, self.frame_id, {**(facts or {}), **counted})

    def _is_near(self, T_map_cam: NDArray[np.float64]) -> bool:
        if self._last is None:
            return False
        distance_m = np.linalg.norm(T_map_cam[:3, 3] - self._last[:3, 3])
        angle = se3.rotation_angle(T_map_cam[:3, :3], self._last[:3, :3])
        return bool(
            distance_m < self.settings.fuse_spacing_m
            and np.degrees(angle) < self.settings.fuse_spacing_deg
        )

    def _fuse(self, frame: RGBDFrame, T_map_cam: NDArray[np.float64]) -> bool:
        if not self._cloud.add(frame, T_map_cam):
            return False
        self._last = T_map_cam
        if self.settings.polish_steps:
            self._pictures.add(frame, T_map_cam)
        settings, known = self.settings.relocalization, self._keyframes
        if len(known) < settings.max_keyframes and is_new(known, T_map_cam, settings):
            known.append(keyframe(frame, T_map_cam, settings))
        return True


def _usable(frame: RGBDFrame) -> RGBDFrame:
    """The frame with depth 0 and black where a pixel is NaN or infinite."""
    assert frame.depth is not None
    has_color = np.asarray(np.isfinite(frame.color).all(axis=2))
    has_depth = np.isfinite(frame.depth) & has_color
    if has_depth.all():
        return frame
    return replace(
        frame,
        color=np.where(has_color[..., None], frame.color, np.float32(0)),
        depth=np.where(has_depth, frame.depth, np.float32(0)),
    )
