"""The pose of a printed board of markers, which an object stands on while it is registered."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.alignment import solve_pnp
from gs_pose_ros.geometry.camera import Camera

# No board under an object has larger fields; millimetres in place of metres have. And no camera
# sees finer ones.
_SIDES_M = (0.0001, 1.0)


@dataclass(frozen=True)
class CharucoBoard:
    """A chessboard with markers in its white squares (cv2.aruco.CharucoBoard)."""

    columns: int
    rows: int
    square_m: float  # side of a square
    marker_m: float  # side of a marker
    dictionary: str = 'DICT_5X5_100'
    # Printed by calib.io or OpenCV before 4.6, where an even number of rows begins with black.
    legacy_pattern: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be printed.

        Raises:
            GsPoseError: a count or size makes no board, or the dictionary is too small or unknown.

        """
        what = f'ChArUco board of {self.columns} x {self.rows} squares'
        _check_counts(what, self.columns, self.rows, 2)
        _check_side(what, 'side of a square', self.square_m)
        _check_side(what, 'side of a marker', self.marker_m)
        if self.marker_m >= self.square_m:
            raise GsPoseError(
                f'{what}: markers of {self.marker_m:g} m do not fit into squares of '
                f'{self.square_m:g} m'
            )
        _check_markers(what, self.columns * self.rows // 2, self.dictionary)

    def to_opencv(self) -> cv2.aruco.CharucoBoard:
        """The board as OpenCV draws and finds it; its units are metres."""
        board = cv2.aruco.CharucoBoard(
            (self.columns, self.rows),
            self.square_m,
            self.marker_m,
            _dictionary(self.dictionary),
        )
        board.setLegacyPattern(self.legacy_pattern)
        return board

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height."""
        return self.columns * self.square_m, self.rows * self.square_m

    def find(self, gray: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
        """Matched board points [N, 3] (OpenCV's board frame) and pixels [N, 2]."""
        board = self.to_opencv()
        corners, ids, _, _ = cv2.aruco.CharucoDetector(board).detectBoard(gray)
        if ids is None or len(ids) == 0:
            return np.zeros((0, 3)), np.zeros((0, 2))
        index = np.asarray(ids, np.int64).ravel()
        points = np.asarray(board.getChessboardCorners(), np.float64)[index]
        pixels = np.asarray(corners, np.float32).reshape(-1, 2)
        if len(pixels) < 2:
            return points, pixels.astype(np.float64)
        # OpenCV 4.7 and later return these corners half a pixel to the right and below of where
        # its own camera model and all other functions have them. Refined once more, any version
        # agrees. The window must not reach the markers.
        scale = np.linalg.norm(np.ptp(pixels, axis=0)) / np.linalg.norm(np.ptp(points, axis=0))
        reach = int(np.clip(0.35 * (self.square_m - self.marker_m) * scale, 2, 7))
        stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 0.001)
        refined = cv2.cornerSubPix(gray, pixels - 0.5, (reach, reach), (-1, -1), stop)
        return points, np.asarray(refined, np.float64)


@dataclass(frozen=True)
class AprilTagGrid:
    """A grid of AprilTags or other markers, numbered row by row (cv2.aruco.GridBoard)."""

    columns: int
    rows: int
    tag_m: float  # side of a tag, its black border included
    gap_m: float  # between neighbouring tags
    dictionary: str = 'DICT_APRILTAG_36h11'
    first_id: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be printed; raises as `CharucoBoard`."""
        what = f'AprilTag grid of {self.columns} x {self.rows} tags'
        _check_counts(what, self.columns, self.rows, 1)
        _check_side(what, 'side of a tag', self.tag_m)
        _check_side(what, 'gap between tags', self.gap_m)
        if self.first_id < 0:
            raise GsPoseError(f'{what}: its first id is {self.first_id}; it must be 0 or above')
        _check_markers(what, self.first_id + self.columns * self.rows, self.dictionary)

    def to_opencv(self) -> cv2.aruco.GridBoard:
        """The board as OpenCV draws and finds it; its units are metres."""
        ids = np.arange(self.first_id, self.first_id + self.columns * self.rows)
        size = (self.columns, self.rows)
        return cv2.aruco.GridBoard(size, self.tag_m, self.gap_m, _dictionary(self.dictionary), ids)

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height."""
        pitch = self.tag_m + self.gap_m
        return self.columns * pitch - self.gap_m, self.rows * pitch - self.gap_m

    def find(self, gray: NDArray[np.uint8]) -> tuple[NDArray, NDArray]:
        """Matched board points [N, 3] (OpenCV's board frame) and pixels [N, 2]."""
        board = self.to_opencv()
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
        detector = cv2.aruco.ArucoDetector(board.getDictionary(), parameters)
        corners, ids, rejected = detector.detectMarkers(gray)
        corners, ids, _, _ = detector.refineDetectedMarkers(gray, board, corners, ids, rejected)
        if ids is None or len(ids) == 0:
            return np.zeros((0, 3)), np.zeros((0, 2))
        points, pixels = board.matchImagePoints(corners, ids)
        if points is None:  # markers, but none of this board
            return np.zeros((0, 3)), np.zeros((0, 2))
        return points.reshape(-1, 3).astype(np.float64), pixels.reshape(-1, 2).astype(np.float64)


def estimate_board_pose(
    image: NDArray[np.uint8],  # [H, W, 3] RGB
    camera: Camera,
    board: CharucoBoard | AprilTagGrid,
    min_points: int = 8,
    max_rms_px: float = 2.0,
) -> NDArray[np.float64]:
    """T_cam_obj [4, 4] in m; the object frame is the middle of the board.

    x points right and y up on the print, z out of it, so an object on the board has z >= 0.

    Raises:
        GsPoseError: too little of the board is seen, or it does not fit the camera.

    """
    points, pixels = board.find(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8))
    if len(points) < min_points:
        raise GsPoseError(
            f'the board is not seen: {len(points)} of its points found, {min_points} are needed'
            f'{_other_pattern(board)}'
        )
    # OpenCV's board frame: origin in the top left corner, y down, z into the print.
    width, height = board.size_m
    points = (points - [width / 2, height / 2, 0]) * [1, -1, -1]
    result = solve_pnp(points, pixels, camera, threshold_px=2 * max_rms_px, min_inliers=min_points)
    if result is None or result.inliers.sum() < 0.6 * len(points):
        raise GsPoseError(
            'the points found on the board contradict each other; are its size and kind right?'
        )
    T_cam_obj = _better_of_the_two_planar_poses(points, pixels, camera, result.inliers)
    error = camera.project(se3.transform(T_cam_obj, points[result.inliers]))
    rms = float(np.sqrt(np.mean(np.sum((error - pixels[result.inliers]) ** 2, 1))))
    if rms > max_rms_px:
        raise GsPoseError(
            f'the board is found but misses its pixels by {rms:.1f} px (limit {max_rms_px} px); '
            'are the camera and the size of the board right?'
        )
    return T_cam_obj


def _better_of_the_two_planar_poses(
    points: NDArray, pixels: NDArray, camera: Camera, inliers: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """A plane has two poses of similar error (Collins and Bartoli 2014); refine both, keep one."""
    p, uv, K, none = points[inliers], pixels[inliers], camera.matrix, np.zeros(4)
    _, rotations, translations, _ = cv2.solvePnPGeneric(p, uv, K, none, flags=cv2.SOLVEPNP_IPPE)
    best, best_error = None, np.inf
    for rotation, t in zip(rotations, translations, strict=True):
        rotation, t = cv2.solvePnPRefineLM(p, uv, K, none, rotation, t)
        T = se3.from_rotation_translation(cv2.Rodrigues(rotation)[0], np.ravel(t))
        in_camera = se3.transform(T, p)
        # From behind, the print cannot be seen.
        if (in_camera[:, 2] <= 0).any() or T[:3, 2] @ T[:3, 3] > 0:
            continue
        error = float(np.sum((camera.project(in_camera) - uv) ** 2))
        if error < best_error:
            best, best_error = T, error
    if best is None:
        raise GsPoseError('the board would be seen from behind or lie behind the camera')
    return best


def _other_pattern(board: CharucoBoard | AprilTagGrid) -> str:
    """What else may be printed there: boards of both patterns have the same markers."""
    if not isinstance(board, CharucoBoard) or board.rows % 2:
        return ''
    if board.legacy_pattern:
        return '; is it a legacy board indeed? Unset board_legacy (--board-legacy) if it is not'
    return '; if it is of calib.io or of OpenCV before 4.6, set board_legacy (--board-legacy)'


def _check_counts(what: str, columns: int, rows: int, least: int) -> None:
    if min(columns, rows) < least:
        raise GsPoseError(f'{what}: at least {least} x {least} are needed')


def _check_side(what: str, name: str, metres: float) -> None:
    least, most = _SIDES_M
    if not least <= metres <= most:
        raise GsPoseError(
            f'{what}: the {name} is {metres:g} m, not within {least:g} to {most:g} m'
        )


def _check_markers(what: str, count: int, dictionary: str) -> None:
    known = len(_dictionary(dictionary).bytesList)
    if count > known:
        raise GsPoseError(f'{what}: needs {count} markers, {dictionary} has {known}')


def _dictionary(name: str) -> cv2.aruco.Dictionary:
    number = getattr(cv2.aruco, name, None) if name.startswith('DICT_') else None
    if number is None:
        known = ', '.join(sorted(n for n in dir(cv2.aruco) if n.startswith('DICT_')))
        raise GsPoseError(f'marker dictionary {name!r} is unknown; OpenCV has {known}')
    return cv2.aruco.getPredefinedDictionary(number)
