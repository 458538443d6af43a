"""One small splat object with pattern and no symmetry, and pictures of it on a tilted table.

Everything is known exactly: poses, masks, depth, light. A picture takes a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews
from gs_pose_ros.objects.sources import RegistrationView
from gs_pose_ros.rendering import render

Pose = NDArray[np.float64]  # [4, 4]

CAMERA = Camera(180.0, 180.0, 79.5, 59.5, 160, 120)
# A foot with a tower near one end and a knob on one side; metres, standing on z = 0.
TOWER = (
    ((-0.045, -0.03, 0.0), (0.045, 0.03, 0.03)),
    ((-0.04, -0.02, 0.03), (-0.005, 0.01, 0.075)),
    ((0.01, 0.03, 0.005), (0.03, 0.045, 0.025)),
)
# Something else, for clutter.
BAR = (((-0.06, -0.015, 0.0), (0.06, 0.015, 0.02)), ((0.03, -0.015, 0.02), (0.06, 0.015, 0.06)))
_OVERSAMPLING = 5  # odd: the middle of a pixel is a pixel of the fine picture
Boxes = Sequence[tuple[tuple[float, float, float], tuple[float, float, float]]]


def box_surface(boxes: Boxes, spacing: float) -> NDArray[np.float64]:
    """Points [N, 3] on the outer surface of the boxes together."""
    points = []
    for low, high in np.asarray(boxes):
        for axis in range(3):
            u, v = (k for k in range(3) if k != axis)
            axes = [
                np.linspace(low[k], high[k], round((high[k] - low[k]) / spacing) + 1)
                for k in (u, v)
            ]
            grid = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
            for side in (low, high):
                face = np.empty((len(grid), 3))
                face[:, [u, v]], face[:, axis] = grid, side[axis]
                points.append(face)
    surface = np.concatenate(points)
    inner = np.zeros(len(surface), bool)
    for low, high in np.asarray(boxes):
        inner |= ((surface > low + 1e-6) & (surface < high - 1e-6)).all(1)
    return surface[~inner]


def pattern(points: NDArray[np.float64], hue: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours [N, 3] in [0.1, 0.9]: waves of some five centimetres around a mean colour."""
    x, y, z = (points * 2 * np.pi / 0.05).T
    waves = [np.sin(x + 0.4 * y), np.sin(0.9 * y - 0.7 * z + 1), np.sin(0.8 * z + 0.5 * x + 2)]
    return (hue + 0.22 * np.stack(waves, 1)).clip(0.1, 0.9)


@cache
def reference(
    object_id: str = 'tower',
    boxes: Boxes = TOWER,
    hue: tuple[float, float, float] = (0.6, 0.45, 0.35),
    spacing: float = 0.003,
) -> ObjectReference:
    """The object as a perfect registration would have it, with six reference views."""
    points = box_surface(boxes, spacing)
    gaussians = Gaussians.from_points(
        points, pattern(points, np.array(hue)), 0.5 * spacing, 0.95, 0
    )
    diameter = float(pdist(points[ConvexHull(points).vertices]).max())
    views = sphere_views(gaussians, 6, points.mean(0), 0.4)
    camera = views[0].camera
    return ObjectReference(
        object_id=object_id,
        gaussians=gaussians,
        diameter_m=diameter,
        box=np.stack([points.min(0), points.max(0)]),
        views=ReferenceViews(
            T_cam_obj=np.stack([v.T_cam_obj for v in views]),
            intrinsics=np.tile([camera.fx, camera.fy, camera.cx, camera.cy], (6, 1)),
            color=np.stack([v.color for v in views]),
            mask=np.stack([np.asarray(v.mask, np.uint8) * 255 for v in views]),
        ),
        facts={'psnr_heldout_db': 40.0},
    )


def bar() -> ObjectReference:
    """The other object."""
    return reference('bar', BAR, (0.3, 0.4, 0.65))


def look_at(eye: NDArray[np.float64], target: NDArray[np.float64]) -> Pose:
    """T_cam_obj of a camera at `eye` that looks at `target`, upright."""
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    return se3.from_rotation_translation(R, -R @ eye)


def sphere_views(
    gaussians: Gaussians, count: int, target: NDArray[np.float64], distance: float, size: int = 64
) -> list[RegistrationView]:
    """Pictures from all around, over black, with depth and mask."""
    focal = 1.05 * size * distance / 0.16
    camera = Camera(focal, focal, size / 2 - 0.5, size / 2 - 0.5, size, size)
    out = []
    for i in range(count):
        polar, azimuth = np.arccos(0.9 - 1.8 * (i + 0.5) / count), i * np.pi * (3 - 5**0.5)
        ray = [
            np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar),
        ]  # fmt: skip
        T = look_at(target + distance * np.array(ray), target)
        color, alpha, depth = picture(gaussians, camera, T)
        mask = alpha > 0.5
        rgb = (color.clip(0, 1) * 255).round().astype(np.uint8)
        out.append(RegistrationView(rgb, np.where(mask, depth, 0), mask, camera, T))
    return out


def picture(
    gaussians: Gaussians, camera: Camera, T_cam_obj: Pose
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Colour over black, alpha and depth as arrays, as the pixels of a sensor average them.

    Rendered at the size itself, small pictures would show the object too large: splatting widens
    every Gaussian by half a pixel.
    """
    with torch.no_grad():
        fine = render(gaussians, camera.scaled(_OVERSAMPLING), torch.from_numpy(T_cam_obj))
    size = (camera.width, camera.height)
    color, alpha = (cv2.resize(x.numpy(), size, interpolation=cv2.INTER_AREA) for x in fine[:2])
    middle = _OVERSAMPLING // 2
    depth = fine.depth.numpy()[middle::_OVERSAMPLING, middle::_OVERSAMPLING]
    return color, alpha, depth


def table_pose(distance: float = 0.45, tilt_deg: float = 50.0) -> Pose:
    """T_cam_table: the table's origin on the optical axis, its z up, seen from `tilt` above it."""
    tilt = np.radians(tilt_deg)
    return look_at(distance * np.array([0.0, -np.cos(tilt), np.sin(tilt)]), np.zeros(3))


def standing(x: float = 0.0, y: float = 0.0, yaw_deg: float = 30.0) -> Pose:
    """T_table_obj of an object that stands on the table."""
    return se3.exp([0, 0, 0, 0, 0, np.radians(yaw_deg)]) + np.array(
        [[0, 0, 0, x], [0, 0, 0, y], [0, 0, 0, 0], [0, 0, 0, 0]]
    )


@dataclass(frozen=True)
class Scene:
    """One picture and its truth."""

    frame: RGBDFrame
    T_cam_obj: tuple[Pose, ...]
    masks: tuple[NDArray[np.bool_], ...]  # [H, W], visible pixels of each object
    T_cam_table: Pose


def make_scene(
    objects: Sequence[tuple[ObjectReference, Pose]] = (),
    *,
    T_cam_table: Pose | None = None,
    camera: Camera = CAMERA,
    gain: float = 1.0,
    offset: float = 0.0,
    noise: float = 0.005,
    depth_noise_m: float = 0.0005,
    seed: int = 0,
) -> Scene:
    """Objects (with T_table_obj) on a striped table; the light multiplies and adds to all."""
    rng = np.random.default_rng(seed)
    T_cam_table = table_pose() if T_cam_table is None else T_cam_table
    color, depth = _table(camera, T_cam_table)
    owner = np.full(camera.shape, -1)
    poses = []
    for index, (reference_, T_table_obj) in enumerate(objects):
        poses.append(T_cam_table @ T_table_obj)
        over, alpha, z = picture(reference_.gaussians, camera, poses[-1])
        front = (alpha > 0.02) & ((depth == 0) | (z < depth + 1e-3))
        color = np.where(front[..., None], over + (1 - alpha[..., None]) * color, color)
        solid = front & (alpha > 0.5)
        depth = np.where(solid, z, depth)
        owner[solid] = index
    color = gain * color + offset + noise * rng.normal(size=color.shape)
    depth = np.where(depth > 0, depth + depth_noise_m * rng.normal(size=depth.shape), 0)
    frame = RGBDFrame(color.clip(0, 1).astype(np.float32), depth.astype(np.float32), camera, 7)
    masks = tuple(owner == i for i in range(len(poses)))
    return Scene(frame, tuple(poses), masks, T_cam_table)


def _table(camera: Camera, T_cam_table: Pose) -> tuple[NDArray, NDArray]:
    """Colour and depth of the table plane z = 0, out to 0.6 m; gray and far away beyond."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.back_project(np.stack([u, v], -1), np.ones(camera.shape))
    normal, point = T_cam_table[:3, 2], T_cam_table[:3, 3]
    with np.errstate(divide='ignore'):
        z = (normal @ point) / (rays @ normal)
    at = se3.transform(se3.inverse(T_cam_table), (rays * z[..., None]).reshape(-1, 3))
    x, y = at[:, 0].reshape(camera.shape), at[:, 1].reshape(camera.shape)
    on = (z > 0) & (np.hypot(x, y) < 0.6)
    stripes = 0.03 * np.sign(np.sin(2 * np.pi * x / 0.08)) + 0.02 * np.sin(2 * np.pi * y / 0.05)
    color = np.stack([0.62 + stripes, 0.6 + stripes, 0.55 + stripes], -1)
    return np.where(on[..., None], color, 0.3), np.where(on, z, 0.0)


def perturbed(
    T_cam_obj: Pose, reference_: ObjectReference, angle_deg: float, shift_m: float, seed: int = 0
) -> Pose:
    """T turned about the object's centre by `angle_deg` and shifted, both in random directions."""
    rng = np.random.default_rng(seed)
    axis, direction = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    center = T_cam_obj[:3, :3] @ reference_.box.mean(0) + T_cam_obj[:3, 3]
    R = se3.exp([0, 0, 0, *(np.radians(angle_deg) * axis)])[:3, :3]
    turn = se3.from_rotation_translation(R, center - R @ center + shift_m * direction)
    return turn @ T_cam_obj


def pose_error(T: Pose, truth: Pose, reference_: ObjectReference) -> tuple[float, float]:
    """Angle in degrees and distance of the box centres in millimetres."""
    center = reference_.box.mean(0)
    apart = se3.transform(T, center[None]) - se3.transform(truth, center[None])
    angle = np.degrees(se3.rotation_angle(T[:3, :3], truth[:3, :3]))
    return float(angle), float(1e3 * np.linalg.norm(apart))
