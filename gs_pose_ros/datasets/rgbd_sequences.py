"""Recorded RGB-D sequences in folders: the layouts of the TUM RGB-D benchmark and of 7-Scenes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

# Colour and depth of one moment, and a frame and its true pose, are apart by less (TUM's tools).
_TOGETHER_S = 0.02
# What the benchmark says of its Kinects, for folders without intrinsics.txt: freiburg1's, and the
# undistorted defaults of the other two.
_TUM_DEFAULT = (525.0, 525.0, 319.5, 239.5, 640, 480, 5000.0)
_SEVEN_SCENES = Camera(585.0, 585.0, 320.0, 240.0, 640, 480)
_INVALID = 65535  # of 7-Scenes


@dataclass(frozen=True)
class SequenceFrame:
    """One moment of a sequence, not read yet."""

    stamp_ns: int
    color: Path
    depth: Path
    camera: Camera
    depth_units: float  # per metre
    T_world_cam: NDArray[np.float64] | None  # [4, 4] where the truth is known

    @property
    def number(self) -> str:
        """The name of the picture without its ending, as lists of frames give it."""
        return self.color.stem

    def read(self) -> RGBDFrame:
        """Colour and depth.

        Raises:
            GsPoseError: a picture is missing, broken, or of another size than the camera's.

        """
        color = cv2.imread(str(self.color), cv2.IMREAD_COLOR)
        depth = cv2.imread(str(self.depth), cv2.IMREAD_UNCHANGED)
        for path, image in ((self.color, color), (self.depth, depth)):
            if image is None:
                raise GsPoseError(f'{path}: missing or not a readable image')
            if image.shape[:2] != self.camera.shape:
                raise GsPoseError(f'{path}: is {image.shape[:2]}, the camera {self.camera.shape}')
        assert color is not None
        assert depth is not None
        if depth.dtype != np.uint16 or depth.ndim != 2:
            raise GsPoseError(f'{self.depth}: depth is 16 bit with one channel, this is not')
        metres = np.where(depth == _INVALID, 0, depth).astype(np.float32) / self.depth_units
        rgb = np.ascontiguousarray(color[..., ::-1], np.uint8)
        return RGBDFrame.from_uint8(rgb, metres, self.camera, self.stamp_ns)


def read_sequence(root: Path) -> list[SequenceFrame]:
    """The frames of a folder in either layout, in the order of time.

    Raises:
        GsPoseError: it is neither, or a list in it cannot be read.

    """
    root = Path(root)
    if (root / 'rgb.txt').is_file():
        return read_tum(root)
    if next(root.glob('frame-*.color.png'), None) is not None:
        return read_seven_scenes(root)
    raise GsPoseError(f'{root}: has neither rgb.txt (TUM) nor frame-*.color.png (7-Scenes)')


def read_tum(root: Path) -> list[SequenceFrame]:
    """rgb.txt, depth.txt and groundtruth.txt, joined by their nearest stamps.

    `intrinsics.txt` with a line "fx fy cx cy width height depth_units_per_metre" is ours; without
    it the benchmark's defaults hold. True poses between two stamps are interpolated.

    Raises:
        GsPoseError: a list is missing or cannot be read, or nothing comes together.

    """
    camera, units = _intrinsics(root / 'intrinsics.txt')
    colors, depths = (_pictures(root / name) for name in ('rgb.txt', 'depth.txt'))
    stamps, poses = (
        read_tum_trajectory(root / 'groundtruth.txt')
        if (root / 'groundtruth.txt').is_file()
        else ([], [])
    )
    depth_stamps = [stamp for stamp, _ in depths]
    out = []
    for stamp, name in colors:
        i = _nearest(depth_stamps, stamp)
        if i is None or abs(depth_stamps[i] - stamp) > _TOGETHER_S:
            continue
        T = _interpolated(stamps, poses, stamp)
        out.append(
            SequenceFrame(round(stamp * 1e9), root / name, root / depths[i][1], camera, units, T)
        )
    if not out:
        raise GsPoseError(f'{root}: no picture of rgb.txt has a depth within {_TOGETHER_S} s')
    return out


def read_seven_scenes(root: Path, fps: float = 30.0) -> list[SequenceFrame]:
    """frame-NNNNNN.color.png, .depth.png and .pose.txt (camera-to-world).

    The depth of this set is not registered to its colour: colours are those of pixels beside.

    Raises:
        GsPoseError: a pose cannot be read.

    """
    out = []
    for color in sorted(root.glob('frame-*.color.png')):
        stem = color.name.removesuffix('.color.png')
        T = _matrix(root / f'{stem}.pose.txt')
        stamp_ns = round(int(stem.removeprefix('frame-')) / fps * 1e9)
        depth = root / f'{stem}.depth.png'
        out.append(SequenceFrame(stamp_ns, color, depth, _SEVEN_SCENES, 1000.0, T))
    return out


def read_tum_trajectory(path: Path) -> tuple[list[float], list[NDArray[np.float64]]]:
    """Stamps (s) and poses [4, 4] of lines "stamp tx ty tz qx qy qz qw".

    Raises:
        GsPoseError: it is missing or a line cannot be read.

    """
    stamps, poses = [], []
    for row in _rows(path, 8):
        stamp, x, y, z, qx, qy, qz, qw = (_number(path, text) for text in row)
        if not any((qx, qy, qz, qw)):
            raise GsPoseError(f'{path}: {" ".join(row)}: the quaternion is 0')
        stamps.append(stamp)
        R = se3.quat_to_mat(np.array([qw, qx, qy, qz]))
        poses.append(se3.from_rotation_translation(R, [x, y, z]))
    order = np.argsort(stamps, kind='stable')
    return [stamps[i] for i in order], [poses[i] for i in order]


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


def chosen(frames: Sequence[SequenceFrame], path: Path) -> list[SequenceFrame]:
    """The frames that a list of picture numbers names, one a line.

    Raises:
        GsPoseError: it cannot be read, or names a picture that is not there.

    """
    by_number = {frame.number: frame for frame in frames}
    wanted = [row[0] for row in _rows(path, 1)]
    missing = [number for number in wanted if number not in by_number]
    if missing:
        raise GsPoseError(f'{path}: names {missing[0]}, which the sequence has not')
    return [by_number[number] for number in wanted]


def _rows(path: Path, columns: int) -> list[list[str]]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GsPoseError(f'{path}: not readable: {error}') from error
    rows = [line.split() for line in lines if line.strip() and not line.startswith('#')]
    for row in rows:
        if len(row) < columns:
            raise GsPoseError(f'{path}: {" ".join(row)!r} has not {columns} columns')
    return [row[:columns] for row in rows]


def _number(path: Path, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise GsPoseError(f'{path}: {error}') from error
    if not math.isfinite(value):
        raise GsPoseError(f'{path}: {text} is not finite')
    return value


def _pictures(path: Path) -> list[tuple[float, str]]:
    """Stamps (s) and names, in the order of time."""
    return sorted((_number(path, stamp), name) for stamp, name in _rows(path, 2))


def _intrinsics(path: Path) -> tuple[Camera, float]:
    """The camera, and the units of depth in a metre."""
    values = _TUM_DEFAULT
    if path.is_file():
        rows = _rows(path, 7)
        if not rows:
            raise GsPoseError(f'{path}: no line of seven numbers')
        values = tuple(_number(path, text) for text in rows[0])
    fx, fy, cx, cy, width, height, units = values
    if units <= 0:
        raise GsPoseError(f'{path}: {units:g} units of depth in a metre')
    try:
        return Camera(fx, fy, cx, cy, int(width), int(height)), units
    except ValueError as error:
        raise GsPoseError(f'{path}: {error}') from error


def _matrix(path: Path) -> NDArray[np.float64] | None:
    if not path.is_file():
        return None
    try:
        T = np.loadtxt(path).reshape(4, 4)
    except ValueError as error:
        raise GsPoseError(f'{path}: not a 4 x 4 matrix: {error}') from error
    if not np.isfinite(T).all():  # where tracking was lost in the recording
        return None
    return se3.from_rotation_translation(se3.project_to_so3(T[:3, :3]), T[:3, 3])


def _nearest(stamps: Sequence[float], stamp: float) -> int | None:
    i = bisect_left(stamps, stamp)
    near = [k for k in (i - 1, i) if 0 <= k < len(stamps)]
    return min(near, key=lambda k: abs(stamps[k] - stamp)) if near else None


def _interpolated(
    stamps: Sequence[float], poses: Sequence[NDArray[np.float64]], stamp: float
) -> NDArray[np.float64] | None:
    """The pose at a time between two that are near it, or None."""
    i = bisect_left(stamps, stamp)
    if i < len(stamps) and stamps[i] == stamp:
        return poses[i]
    k = _nearest(stamps, stamp)
    if k is None or abs(stamps[k] - stamp) > _TOGETHER_S:
        return None
    if i == 0 or i == len(stamps):
        return poses[k]
    return se3.interpolate(
        poses[i - 1], poses[i], (stamp - stamps[i - 1]) / (stamps[i] - stamps[i - 1])
    )
