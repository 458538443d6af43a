"""A made-up corner of a room, to load all that a localizer needs before the first real image."""

from __future__ import annotations

import numpy as np

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.camera_estimate import CameraEstimate, Localizer
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud

_CAMERA = Camera(320.0, 320.0, 159.5, 119.5, 320, 240)
_VOXEL_M = 0.02


def rehearse(localizer: Localizer) -> CameraEstimate:
    """Localize at the very pose that the map was made from."""
    frame = corner()
    cloud = VoxelCloud(FusionSettings(voxel_m=_VOXEL_M))
    cloud.add(frame, np.eye(4))
    return localizer.refine(frame, SceneMap.from_cloud(cloud), np.eye(4))


def corner() -> RGBDFrame:
    """Two walls and a floor, 1.5 m away, striped."""
    v, u = np.mgrid[: _CAMERA.height, : _CAMERA.width]
    rays = _CAMERA.back_project(np.stack([u, v], -1), np.ones(_CAMERA.shape))
    x, y, _ = np.moveaxis(rays, -1, 0)
    # Planes n . X = 1.2 m that meet before the camera; what is nearest hides the rest.
    depth = 1.2 / np.maximum.reduce([0.8 + 0.6 * x, 0.8 - 0.6 * x, 0.6 + 1.5 * y])
    stripes = 0.3 + 0.4 * (np.floor(12 * x * depth) % 2)
    color = np.repeat(stripes[..., None], 3, -1).astype(np.float32)
    return RGBDFrame(color, depth.astype(np.float32), _CAMERA)
