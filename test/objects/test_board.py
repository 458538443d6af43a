"""Poses from boards of markers: found where they were drawn, and not where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.board import AprilTagGrid, CharucoBoard, estimate_board_pose
from test.mutations import examples

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


def test_a_legacy_board_is_found_where_that_is_said() -> None:
    """Of calib.io or OpenCV before 4.6, with an even number of rows."""
    legacy = CharucoBoard(8, 6, 0.04, 0.03, legacy_pattern=True)
    T = look_at_board(0.4, 0.3, 0.7)
    image = draw_board(legacy, T)
    found = estimate_board_pose(image, CAMERA, legacy)
    assert np.linalg.norm(found[:3, 3] - T[:3, 3]) < 0.002
    assert np.degrees(se3.rotation_angle(found[:3, :3], T[:3, :3])) < 0.5
    with pytest.raises(GsPoseError, match=r'not seen.*set board_legacy \(--board-legacy\)'):
        estimate_board_pose(image, CAMERA, CharucoBoard(8, 6, 0.04, 0.03))
    with pytest.raises(GsPoseError, match=r'not seen.*Unset board_legacy'):
        estimate_board_pose(draw_board(CharucoBoard(8, 6, 0.04, 0.03), T), CAMERA, legacy)
    with pytest.raises(GsPoseError, match='are needed$'):  # rows are odd: both are one
        estimate_board_pose(np.zeros_like(image), CAMERA, CHARUCO)


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (lambda: CharucoBoard(1, 5, 0.03, 0.02), 'board of 1 x 5 squares: at least 2 x 2'),
        (lambda: CharucoBoard(7, -5, 0.03, 0.02), 'board of 7 x -5 squares'),
        (lambda: CharucoBoard(7, 5, 0, 0.02), 'side of a square is 0 m'),
        (lambda: CharucoBoard(7, 5, 30, 22), 'square is 30 m, not .*0.0001 to 1 m'),
        (lambda: CharucoBoard(7, 5, 0.03, float('nan')), 'side of a marker is nan'),
        (lambda: CharucoBoard(7, 5, 0.03, 0.03), 'markers of 0.03 m do not fit'),
        (lambda: CharucoBoard(20, 20, 0.03, 0.02), 'needs 200 markers, DICT_5X5_100 has 100'),
        (lambda: CharucoBoard(7, 5, 0.03, 0.02, 'DICT_5X5'), "'DICT_5X5' is unknown"),
        (lambda: CharucoBoard(7, 5, 0.03, 0.02, '__doc__'), 'is unknown'),
        (lambda: AprilTagGrid(0, 5, 0.03, 0.02), 'grid of 0 x 5 tags: at least 1 x 1'),
        (lambda: AprilTagGrid(5, 5, 0.03, 0), 'gap between tags is 0 m'),
        (lambda: AprilTagGrid(5, 5, float('inf'), 0.01), 'side of a tag is inf'),
        (lambda: AprilTagGrid(5, 5, 0.03, 0.01, first_id=-1), 'first id is -1'),
        (lambda: AprilTagGrid(5, 5, 0.03, 0.01, first_id=570), 'needs 595 markers'),
        (lambda: AprilTagGrid(65535, 65535, 0.03, 0.01), 'needs 4294836225 markers'),
    ],
)
def test_boards_that_nobody_can_print_are_refused(make, reason: str) -> None:
    with pytest.raises(GsPoseError, match=reason):
        make()


_SIDE = st.floats() | st.floats(0, 1)
_COUNT = st.integers(-2, 12) | st.integers()
_NAME = st.sampled_from(('DICT_4X4_50', 'DICT_APRILTAG_36h11', 'DICT_ARUCO_ORIGINAL')) | st.text()


@examples(50)
@given(
    *(st.sampled_from((CharucoBoard, AprilTagGrid)), _COUNT, _COUNT, _SIDE, _SIDE, _NAME),
)
def test_any_board_is_looked_for_or_refused(
    kind, columns: int, rows: int, side: float, other: float, dictionary: str
) -> None:
    try:
        board = kind(columns, rows, side, other, dictionary)
    except GsPoseError as error:
        assert 'board of' in str(error) or 'grid of' in str(error) or 'dictionary' in str(error)  # noqa: PT017
        return
    points, pixels = board.find(np.full((48, 64), 90, np.uint8))
    assert len(points) == len(pixels) == 0
    assert min(board.size_m) > 0
