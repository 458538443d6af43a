"""A made-up image of an object, with which a node rehearses before its first real image.

A rehearsal runs a node's stages on that image and throws the answer away. What they do only once
is done by then: compiled code is loaded, and what is made from each object (template banks,
keypoints) is made. These seconds would otherwise make the first poses late.
"""

from __future__ import annotations

import numpy as np
import torch

from gs_pose_ros.estimate import Detection
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews
from gs_pose_ros.rendering import render

_BOX_M = np.array([0.10, 0.07, 0.05])
_CAMERA = Camera(320.0, 320.0, 79.5, 59.5, 160, 120)


def rehearsal(reference: ObjectReference, use_depth: bool = True) -> tuple[RGBDFrame, Detection]:
    """The object, four diameters away before a gray wall, and its detection.

    The detection's one pose hint is the true pose. `use_depth`: whether the frame has depth.
    """
    distance = 4 * reference.diameter_m
    R = se3.exp([0, 0, 0, 2.2, 0.4, 0])[:3, :3]
    center = R @ reference.center
    T_cam_obj = se3.from_rotation_translation(R, [0, 0, distance] - center)
    with torch.no_grad():
        image = render(reference.gaussians, _CAMERA, torch.as_tensor(T_cam_obj))
    alpha = image.alpha.numpy()
    color = image.color.numpy() + 0.4 * (1 - alpha[..., None])
    mask = alpha > 0.5
    if not mask.any():  # an object of thin haze; nothing to rehearse with, but no harm
        mask[50:70, 70:90] = True
    depth = None
    if use_depth:
        wall = distance + reference.diameter_m
        depth = np.where(mask, image.depth.numpy(), wall).astype(np.float32)
    # In the order in memory of a camera's picture: kernels are compiled for each order.
    color = np.ascontiguousarray(color.clip(0, 1), np.float32)
    frame = RGBDFrame(color, depth, _CAMERA)
    return frame, Detection.from_full_mask(reference.object_id, 1.0, mask, (T_cam_obj,))


def painted_box() -> ObjectReference:
    """A box with another colour on every side, for when there is no object yet; without views."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (6, 700, 3))
    for side in range(6):
        points[side, :, side // 2] = 0.5 - side % 2
    colors = np.repeat(rng.uniform(0.1, 0.9, (6, 3)), 700, 0)
    means = points.reshape(-1, 3) * _BOX_M
    return ObjectReference(
        object_id='box',
        gaussians=Gaussians.from_points(means, colors, 0.0022, 0.95, 0),
        diameter_m=float(np.linalg.norm(_BOX_M)),
        box=np.stack([-_BOX_M / 2, _BOX_M / 2]),
        views=ReferenceViews(
            T_cam_obj=np.zeros((0, 4, 4)),
            intrinsics=np.zeros((0, 4)),
            color=np.zeros((0, 32, 32, 3), np.uint8),
            mask=np.zeros((0, 32, 32), np.uint8),
        ),
    )
