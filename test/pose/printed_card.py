"""A printed card: the textured object of the tests of keypoints and of poses from them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews
from test.synthetic import Pose, look_at

CAMERA = Camera(500.0, 500.0, 159.5, 119.5, 320, 240)
WIDTH, HEIGHT = 0.16, 0.12  # m, of a printed card with its corner in the origin


def print_(seed: int) -> NDArray[np.uint8]:
    """A picture [240, 320, 3] full of blobs and corners."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 1, (30, 40, 3)).astype(np.float32)
    smooth = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    return (smooth.clip(0, 1) * 255).astype(np.uint8)


def card_pixels(T_cam_obj: Pose, camera: Camera) -> NDArray[np.float64]:
    """Homography [3, 3] from the print's pixels to the image's."""
    to_card = np.array(
        [[WIDTH / 320, 0, WIDTH / 640], [0, HEIGHT / 240, HEIGHT / 480], [0, 0, 1.0]]
    )
    return camera.matrix @ T_cam_obj[:3, [0, 1, 3]] @ to_card


def picture(
    cards: list[tuple[NDArray[np.uint8], Pose]], camera: Camera = CAMERA
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cards over gray, and the mask of the last one."""
    size = (camera.width, camera.height)
    image, mask = np.full((*camera.shape, 3), 128, np.uint8), np.zeros(camera.shape, np.uint8)
    for printed, T in cards:
        H = card_pixels(T, camera)
        mask = cv2.warpPerspective(np.full(printed.shape[:2], 255, np.uint8), H, size)
        image = np.where(mask[..., None] > 127, cv2.warpPerspective(printed, H, size), image)
    return image.astype(np.uint8), mask.astype(np.uint8)


@cache
def card(seed: int = 0) -> ObjectReference:
    """The object: a splat of plain gray and five reference views with the print."""
    x, y = np.meshgrid(np.linspace(0, WIDTH, 81), np.linspace(0, HEIGHT, 61))
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], 1)
    gaussians = Gaussians.from_points(points, np.full(points.shape, 0.5), 0.0015, 0.95, 0)
    camera = Camera(420.0, 420.0, 111.5, 111.5, 224, 224)
    middle = np.array([WIDTH / 2, HEIGHT / 2, 0])
    eyes = [
        (0.0, -0.01, -0.4),
        (0.2, 0, -0.35),
        (-0.2, 0, -0.35),
        (0, 0.2, -0.35),
        (0, -0.2, -0.35),
    ]
    poses = [look_at(middle + eye, middle) for eye in eyes]
    pictures = [picture([(print_(seed), T)], camera) for T in poses]
    return ObjectReference(
        object_id='card',
        gaussians=gaussians,
        diameter_m=float(np.hypot(WIDTH, HEIGHT)),
        box=np.array([[0, 0, -0.001], [WIDTH, HEIGHT, 0.001]]),
        views=ReferenceViews(
            T_cam_obj=np.stack(poses),
            intrinsics=np.tile([camera.fx, camera.fy, camera.cx, camera.cy], (5, 1)),
            color=np.stack([color for color, _ in pictures]),
            mask=np.stack([mask for _, mask in pictures]),
        ),
    )


def plain_card() -> ObjectReference:
    """The same without the print."""
    views = replace(card().views, color=np.full_like(card().views.color, 99))
    return replace(card(), gaussians=card().gaussians[:], views=views)


def pose(x: float = 0.0, distance: float = 0.6, turn_deg: float = 40.0, tilt: float = 0.3) -> Pose:
    """The card near the optical axis."""
    middle = np.array([WIDTH / 2, HEIGHT / 2, 0])
    R = (
        se3.exp([0, 0, 0, tilt, 0, 0])[:3, :3]
        @ se3.exp([0, 0, 0, 0, 0, np.radians(turn_deg)])[:3, :3]
    )
    return se3.from_rotation_translation(R, np.array([x, 0, distance]) - R @ middle)


def frame_of(*cards: tuple[int, Pose]) -> tuple[RGBDFrame, NDArray[np.bool_]]:
    image, mask = picture([(print_(seed), T) for seed, T in cards])
    return RGBDFrame.from_uint8(image, None, CAMERA), mask > 127
