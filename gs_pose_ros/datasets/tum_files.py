"""The text files of a sequence as the TUM RGB-D benchmark has them, and our intrinsics.txt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.text_rows import TextRow, read_rows
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

INTRINSICS_LINE = 'fx fy cx cy width height depth_units_per_metre'
_POSE_LINE = 'stamp tx ty tz qx qy qz qw, in seconds and metres'
_LATEST_S = 1e11  # the year 5138; what is later is in milliseconds or less
# Files round quaternions to as few as three digits.
_UNIT_TOLERANCE = 0.01
# Maps are in single precision: farther out its steps are wider than a millimetre.
_FARTHEST_M = 10_000.0
# Two poses of one stamp are one, written twice, if they are nearer than what a tracker can tell.
_SAME_M, _SAME_RAD = 0.01, math.radians(1)
_MOST_PIXELS = 20_000  # across a picture
# Depth in 16 bit: no coarser than 10 cm a step, and reaching as far as 30 cm.
_UNITS = (10.0, 200_000.0)


@dataclass(frozen=True)
class Trajectory:
    """Poses over time."""

    stamps: list[float]  # s, ascending
    poses: list[NDArray[np.float64]]  # [4, 4] each
    left_out: int = 0  # rows with NaN or infinity, as where tracking was lost


def read_trajectory(path: Path) -> Trajectory:
    """Lines "stamp tx ty tz qx qy qz qw", in any order; those that hold NaN are left out.

    Raises:
        GsPoseError: it is missing, or a line has another number of columns, no unit quaternion,
            or a stamp that is not in seconds; or one stamp has two poses.

    """
    found: dict[float, tuple[TextRow, NDArray[np.float64]]] = {}
    left_out = 0
    for row in read_rows(path):
        values = row.numbers(8, _POSE_LINE)
        if values is None:
            left_out += 1
            continue
        stamp, T = _stamp(row, values[0]), _pose(row, values)
        known = found.setdefault(stamp, (row, T))
        if known[1] is not T and not _is_same(known[1], T):
            raise row.fault(
                f'has the stamp {stamp:.6f} s of line {known[0].line}, and another pose'
            )
    stamps = sorted(found)
    return Trajectory(stamps, [found[stamp][1] for stamp in stamps], left_out)


def read_tum_trajectory(path: Path) -> tuple[list[float], list[NDArray[np.float64]]]:
    """Stamps (s) and poses [4, 4] of a trajectory; lines that hold NaN are left out.

    Raises:
        GsPoseError: as `read_trajectory`.

    """
    found = read_trajectory(path)
    return found.stamps, found.poses


def write_tum_trajectory(
    path: Path, stamps_ns: Sequence[int], poses: Sequence[NDArray[np.float64]]
) -> None:
    """Write poses [4, 4] as `read_tum_trajectory` reads them."""
    lines = ['# timestamp tx ty tz qx qy qz qw']
    for stamp_ns, T in zip(stamps_ns, poses, strict=True):
        w, x, y, z = se3.mat_to_quat(T[:3, :3])
        values = ' '.join(f'{value:.9f}' for value in (*T[:3, 3], x, y, z, w))
        lines.append(f'{stamp_ns / 1e9:.9f} {values}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')


def read_picture_list(path: Path) -> list[tuple[float, str]]:
    """Stamps (s) and names of lines "stamp name", in the order of time; each line once.

    Raises:
        GsPoseError: it is missing, a line is no such, or a stamp is not in seconds; or a name
            leads out of the folder.

    """
    found = set()
    for row in read_rows(path):
        if len(row.words) != 2:
            raise row.fault(f'has {len(row.words)} columns, not 2: stamp name')
        name = row.words[1]
        if _leads_out(name.replace('\\', '/')):
            raise row.fault(f'{name[:80]!a} leads out of the folder; names are relative to it')
        stamp = _stamp(row, row.number(0))
        if not stamp >= 0:
            raise row.fault(f'stamp {stamp} is no time in seconds')
        found.add((stamp, name))
    return sorted(found)


def read_intrinsics(path: Path) -> tuple[Camera, float]:
    """The camera, and the units of depth in a metre, of the one line of our intrinsics.txt.

    Raises:
        GsPoseError: it is missing, not one line of seven numbers, or they are no camera's.

    """
    rows = read_rows(path)
    meaning = f'{INTRINSICS_LINE} (without distortion: the pictures must be undistorted)'
    if len(rows) != 1:
        raise GsPoseError(f'{path}: has {len(rows)} lines of numbers, not 1: {meaning}')
    values = rows[0].numbers(7, meaning)
    if values is None:
        raise rows[0].fault(f'holds NaN or infinity; it needs {meaning}')
    fx, fy, cx, cy, width, height, units = values
    is_size = width == int(width) and height == int(height)
    if not (is_size and min(width, height) >= 1 and max(width, height) <= _MOST_PIXELS):
        raise rows[0].fault(f'width {width:g} and height {height:g} are no pixels: {meaning}')
    if not (0 <= cx < width and 0 <= cy < height):
        raise rows[0].fault(
            f'cx {cx:g}, cy {cy:g} are not within {width:g} x {height:g} pixels: {meaning}'
        )
    # From nearly 180 to a few degrees across; pixels are about as wide as high.
    if not (width / 20 < fx < 50 * width and 0.5 < fx / max(fy, 1e-9) < 2):
        raise rows[0].fault(f'fx {fx:g}, fy {fy:g} are no focal lengths in pixels: {meaning}')
    if not _UNITS[0] <= units <= _UNITS[1]:
        raise rows[0].fault(
            f'{units:g} units of depth in a metre; 1000 if depth is stored in millimetres'
        )
    return Camera(fx, fy, cx, cy, int(width), int(height)), units


def checked_position(T: NDArray[np.float64]) -> str:
    """What is wrong with the place of a camera's pose [4, 4]; empty if nothing is."""
    farthest = float(np.abs(T[:3, 3]).max())
    if farthest <= _FARTHEST_M:
        return ''
    return (
        f'the camera is {farthest:.4g} m from the origin; positions are in metres, and up to '
        f'{_FARTHEST_M:g} m: subtract the first position'
    )


def _stamp(row: TextRow, stamp: float) -> float:
    if abs(stamp) > _LATEST_S:
        raise row.fault(f'stamp {stamp:g} is no time in seconds: in ms, us or ns?')
    return stamp


def _pose(row: TextRow, values: Sequence[float]) -> NDArray[np.float64]:
    x, y, z, qx, qy, qz, qw = values[1:]
    length = math.hypot(qx, qy, qz, qw)
    if abs(length - 1) > _UNIT_TOLERANCE:
        raise row.fault(f'the quaternion qx qy qz qw has length {length:.4g}, not 1')
    R = se3.quat_to_mat(np.array([qw, qx, qy, qz]))
    T = se3.from_rotation_translation(R, [x, y, z])
    if fault := checked_position(T):
        raise row.fault(fault)
    return T


def _is_same(T_a: NDArray[np.float64], T_b: NDArray[np.float64]) -> bool:
    shift = np.linalg.norm(T_a[:3, 3] - T_b[:3, 3])
    return bool(shift < _SAME_M and se3.rotation_angle(T_a[:3, :3], T_b[:3, :3]) < _SAME_RAD)


def _leads_out(name: str) -> bool:
    """Whether a relative path leaves its folder; links are not followed."""
    depth = 0
    for part in name.split('/'):
        depth += {'..': -1, '.': 0, '': 0}.get(part, 1)
        if depth < 0:
            return True
    return name.startswith('/')
