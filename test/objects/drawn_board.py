"""Boards of markers as a camera sees them, drawn."""

from __future__ import annotations

import cv2
import numpy as np

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.board import AprilTagGrid, CharucoBoard

CAMERA = Camera(620, 615, 322.0, 236.0, 640, 480)
CHARUCO = CharucoBoard(7, 5, 0.04, 0.03)


def look_at_board(tilt: float, turn: float, distance: float) -> np.ndarray:
    """T_cam_obj of a board seen from above its +z side."""
    # Camera straight above: x with the board's, y and z against.
    above = se3.from_rotation_translation(np.diag([1.0, -1, -1]), [0, 0, distance])
    tilted = se3.exp([0, 0, 0, tilt, 0, 0])
    turned = se3.exp([0, 0, 0, 0, 0, turn])
    return above @ tilted @ turned


def draw_board(board: CharucoBoard | AprilTagGrid, T_cam_obj: np.ndarray) -> np.ndarray:
    """The board on a gray ground, supersampled; RGB [H, W, 3]."""
    width, height = board.size_m
    per_metre = 5000
    size = (round(width * per_metre), round(height * per_metre))
    texture = board.to_opencv().generateImage(size, marginSize=0)
    assert texture.shape == (size[1], size[0])
    factor = 3
    # Texture pixel (a, b) is the board point below; then project at `factor` times the size.
    board_from_texture = np.array(
        [
            [1 / per_metre, 0, 0.5 / per_metre - width / 2],
            [0, -1 / per_metre, height / 2 - 0.5 / per_metre],
            [0, 0, 1],
        ]
    )
    large = CAMERA.scaled(factor)
    H = large.matrix @ T_cam_obj[:3, [0, 1, 3]] @ board_from_texture
    picture = cv2.warpPerspective(
        texture, H, (large.width, large.height), flags=cv2.INTER_AREA, borderValue=160
    )
    small = cv2.resize(picture, (CAMERA.width, CAMERA.height), interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], 3, -1)
