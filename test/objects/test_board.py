"""Poses from boards of markers: found where they were drawn, and not where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.board import AprilTagGrid, CharucoBoard, estimate_board_pose

from .drawn_board import CAMERA, CHARUCO, draw_board, look_at_board

APRILTAG = AprilTagGrid(5, 4, 0.05, 0.015)
BOARDS = pytest.mark.parametrize('board', [CHARUCO, APRILTAG], ids=['charuco', 'apriltag'])


@BOARDS
@pytest.mark.parametrize(('tilt', 'turn'), [(0.0, 0.0), (0.6, 0.4), (-0.7, 2.5), (0.5, -1.6)])
def test_the_pose_of_a_drawn_board_is_found(board, tilt: float, turn: float) -> None:
    T = look_at_board(tilt, turn, 0.6)
    found = estimate_board_pose(draw_board(board, T), CAMERA, board)
    assert np.degrees(se3.rotation_angle(found[:3, :3], T[:3, :3])) < 0.5
    assert np.linalg.norm(found[:3, 3] - T[:3, 3]) < 0.002
    # z comes out of the print: a point above the board is nearer to the camera.
    assert se3.transform(found, [[0, 0, 0.1]])[0, 2] < found[2, 3]


@BOARDS
def test_a_covered_board_is_still_found(board) -> None:
    T = look_at_board(0.5, 0.3, 0.6)
    image = draw_board(board, T)
    image[190:300, 260:380] = (180, 60, 20)  # the object that stands on it
    found = estimate_board_pose(image, CAMERA, board)
    assert np.degrees(se3.rotation_angle(found[:3, :3], T[:3, :3])) < 0.5
    assert np.linalg.norm(found[:3, 3] - T[:3, 3]) < 0.002


@BOARDS
def test_a_picture_without_the_board_says_so(board) -> None:
    with pytest.raises(GsPoseError, match='not seen'):
        estimate_board_pose(np.full((480, 640, 3), 90, np.uint8), CAMERA, board)


def test_another_board_is_not_mistaken_for_ours() -> None:
    image = draw_board(CHARUCO, look_at_board(0.3, 0.2, 0.6))
    with pytest.raises(GsPoseError, match=r'not seen|contradict|misses'):
        estimate_board_pose(image, CAMERA, AprilTagGrid(5, 4, 0.05, 0.015, 'DICT_5X5_100', 40))
    with pytest.raises(GsPoseError, match=r'not seen|contradict|misses'):
        estimate_board_pose(image, CAMERA, CharucoBoard(7, 5, 0.04, 0.03, 'DICT_6X6_100'))
    with pytest.raises(GsPoseError, match=r'DICT_NO.*is unknown'):
        estimate_board_pose(image, CAMERA, CharucoBoard(7, 5, 0.04, 0.03, 'DICT_NO'))
