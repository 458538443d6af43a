"""A small room, ray cast: exact pictures of it from anywhere, and a map made of them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud
from test.synthetic import Boxes, Pose, look_at, pattern

CAMERA = Camera(130.0, 130.0, 79.5, 59.5, 160, 120)
WALLS = ((-1.5, -1.2, 0.0), (1.5, 1.2, 2.0))  # m, z up
FURNITURE = (
    ((0.9, -0.9, 0.0), (1.4, -0.2, 0.7)),
    ((1.0, 0.2, 0.0), (1.5, 0.9, 1.1)),
    ((0.5, 0.1, 0.0), (0.8, 0.4, 0.4)),
    ((1.1, -0.6, 0.7), (1.3, -0.4, 1.0)),
)
AIM = np.array([1.2, 0.0, 0.7])  # in the middle of the furniture


def camera_pose(eye: tuple[float, float, float], at: NDArray[np.float64] = AIM) -> Pose:
    """T_map_cam of an upright camera."""
    return se3.inverse(look_at(np.array(eye), at))


def view(T_map_cam: Pose, camera: Camera = CAMERA, boxes: Boxes = FURNITURE) -> RGBDFrame:
    """Exact colour and depth."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.back_project(np.stack([u, v], -1).reshape(-1, 2), np.ones(u.size))
    d, o = rays @ T_map_cam[:3, :3].T, T_map_cam[:3, 3]
    z = _crossed(o, d, WALLS)[1]
    for box in boxes:
        enter, leave = _crossed(o, d, box)
        z = np.where((enter < leave) & (enter > 0) & (enter < z), enter, z)
    color = pattern(0.15 * (o + z[:, None] * d), np.array([0.5, 0.5, 0.5]))
    return RGBDFrame(
        color.astype(np.float32).reshape(*camera.shape, 3),
        z.astype(np.float32).reshape(camera.shape),
        camera,
        7,
    )


def _crossed(
    origin: NDArray[np.float64], rays: NDArray[np.float64], box: tuple
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where rays [N, 3] enter and leave a box, in their lengths."""
    with np.errstate(divide='ignore'):
        near, far = ((np.array(corner) - origin) / rays for corner in box)
    return np.minimum(near, far).max(1), np.maximum(near, far).min(1)


def plane_frame(
    normal: tuple[float, float, float],
    distance: float,
    camera: Camera = CAMERA,
    noise_m: float = 0.0,
    seed: int = 0,
) -> RGBDFrame:
    """The plane normal . X = -distance of the camera frame, gray; normal towards the camera."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.back_project(np.stack([u, v], -1), np.ones(camera.shape))
    n = np.array(normal) / np.linalg.norm(normal)
    z = -distance / (rays @ n)
    z = np.where(z > 0, z + noise_m * np.random.default_rng(seed).normal(size=z.shape), 0)
    color = np.full((*camera.shape, 3), 0.4, np.float32)
    return RGBDFrame(color, z.astype(np.float32), camera)


EYES = ((-1.0, -0.5, 1.3), (-1.0, 0.6, 1.2), (-0.6, 0.0, 1.5), (-0.9, 0.0, 0.9))


@cache
def scene_map(voxel_m: float = 0.01) -> SceneMap:
    """The room as four cameras of twice the resolution saw it."""
    cloud = VoxelCloud(FusionSettings(voxel_m=voxel_m))
    for eye in EYES:
        T = camera_pose(eye)
        cloud.add(view(T, CAMERA.scaled(2)), T)
    return SceneMap.from_cloud(cloud)


def moved(T_map_cam: Pose, angle_deg: float, shift_m: float, seed: int = 0) -> Pose:
    """Turned about the camera and shifted in random directions."""
    rng = np.random.default_rng(seed)
    axis, direction = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    return T_map_cam @ se3.exp([*(shift_m * direction), *(np.radians(angle_deg) * axis)])


def pose_error(T: Pose, truth: Pose) -> tuple[float, float]:
    """Angle in degrees and distance of the cameras in millimetres."""
    angle = np.degrees(se3.rotation_angle(T[:3, :3], truth[:3, :3]))
    return float(angle), float(1e3 * np.linalg.norm(T[:3, 3] - truth[:3, 3]))
