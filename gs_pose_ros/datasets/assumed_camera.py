"""The camera that took a sequence, as its intrinsics.txt says, or else that of its benchmark.

What is assumed is told; and where depth in the assumed unit contradicts the poses, it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.picture_file import read_picture_header
from gs_pose_ros.datasets.sequence_frame import SequenceFrame, check_size
from gs_pose_ros.datasets.tum_files import INTRINSICS_LINE, read_intrinsics
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

# Pairs of frames are compared that are so far apart: depth of another unit then leads elsewhere.
_APART_M = 0.1
_PAIRS = 9
_STRIDE = 8  # px between the points of a frame
_SAME_DEPTH = 0.05  # of a point and what the other frame has there, relative
# Shares of the points that the other frame could see and that fit. In the true unit they are 0.93
# to 0.99 of four real sequences with Kinects and RealSenses.
_FITS, _CONTRADICTS = 0.6, 0.3
_LEAST_POINTS = 100  # that are compared
_OTHER_UNITS = (1000.0, 5000.0, 10_000.0)  # a metre, as other cameras and TUM's tools have

Posed = tuple[RGBDFrame, NDArray[np.float64]]  # with T_world_cam [4, 4]


@dataclass(frozen=True)
class AssumedCamera:
    """What a benchmark says of its cameras, for folders without intrinsics.txt."""

    camera: Camera
    depth_units: float  # per metre
    whose: str


# freiburg1's, and the undistorted defaults of the other two.
TUM = AssumedCamera(Camera(525.0, 525.0, 319.5, 239.5, 640, 480), 5000.0, 'the TUM benchmark')
SEVEN_SCENES = AssumedCamera(Camera(585.0, 585.0, 320.0, 240.0, 640, 480), 1000.0, '7-Scenes')


def camera_of(
    root: Path, picture: Path, assumed: AssumedCamera
) -> tuple[Camera, float, list[str]]:
    """The camera, the units of depth in a metre, and a note where both are assumed."""
    path = root / 'intrinsics.txt'
    header = read_picture_header(picture)
    if path.exists():
        camera, units = read_intrinsics(path)
        check_size(picture, header.width, header.height, camera)
        return camera, units, []
    camera, units = assumed.camera, assumed.depth_units
    if (header.height, header.width) != camera.shape:
        raise GsPoseError(
            f'{path}: missing, and {picture} is {header.width} x {header.height}, not '
            f'{camera.width} x {camera.height} as with the Kinects of {assumed.whose}: write this '
            f'file, with one line "{INTRINSICS_LINE}"'
        )
    note = (
        f'{folder_name(root)}/intrinsics.txt: missing; assumed is a Kinect of {assumed.whose}: '
        f'fx {camera.fx:g}, fy {camera.fy:g}, cx {camera.cx:g}, cy {camera.cy:g}, '
        f'and {units:g} units of depth in a metre (1000 if in millimetres). For any '
        f'other camera write this file, with one line "{INTRINSICS_LINE}"'
    )
    return camera, units, [note]


def check_unit(root: Path, frames: Sequence[SequenceFrame]) -> str:
    """What is to be said where depth contradicts the poses, and would not in another usual unit.

    A person who wrote intrinsics.txt is believed; what is assumed without it is refused.

    Points of one frame are looked for in another: what it sees behind them speaks against them,
    what it sees before them may hide them. Cameras that do not move say nothing.

    Raises:
        GsPoseError: the unit that is assumed is contradicted.

    """
    pairs = list(_pairs(frames))
    if not pairs:
        return ''
    units = frames[0].depth_units
    fit, against, hidden = _fitting(pairs, 1.0)
    # Where next to nothing can be told of what is not hidden, that all is hidden tells.
    compared = fit + against if fit + against >= _LEAST_POINTS else fit + against + hidden
    fits = fit / max(compared, 1)
    if compared < _LEAST_POINTS or fits > _CONTRADICTS:
        return ''
    for other in _OTHER_UNITS:
        fit, against, _ = _fitting(pairs, units / other)
        would_fit = fit / max(fit + against, 1)
        if fit + against < _LEAST_POINTS or would_fit < _FITS:
            continue
        said = (
            f'{units:g} units of depth in a metre contradict the poses: {fits:.0%} of points are '
            f'where other frames see them; with {other:g} units it would be {would_fit:.0%}'
        )
        if (root / 'intrinsics.txt').exists():
            return f'{folder_name(root)}/intrinsics.txt: {said}; is the last number of it right?'
        raise GsPoseError(
            f'{root / "intrinsics.txt"}: missing, and {said}. Write this file, with one line '
            f'"{INTRINSICS_LINE}" and what is true of this camera'
        )
    return ''


def _pairs(frames: Sequence[SequenceFrame]) -> Iterator[tuple[Posed, Posed]]:
    posed = [frame for frame in frames if frame.T_world_cam is not None]
    if not posed:
        return
    places = np.array([frame.T_world_cam for frame in posed])[:, :3, 3]
    for i in sorted(set(np.linspace(0, len(posed) - 1, _PAIRS).round().astype(int).tolist())):
        is_apart = np.linalg.norm(places[i:] - places[i], axis=1) > _APART_M
        if not is_apart.any():
            continue
        pair = posed[i], posed[i + int(is_apart.argmax())]
        try:
            (a, T_a), (b, T_b) = ((frame.read(), frame.T_world_cam) for frame in pair)
        except GsPoseError:  # which is told when it is its turn
            continue
        assert T_a is not None
        assert T_b is not None
        yield (a, T_a), (b, T_b)


def _fitting(pairs: Sequence[tuple[Posed, Posed]], factor: float) -> tuple[int, int, int]:
    """How many points fit, do not, or may be hidden, if all depths are so many times as large."""
    fit = against = hidden = 0
    for (a, T_world_a), (b, T_world_b) in pairs:
        assert a.depth is not None
        assert b.depth is not None
        v, u = np.mgrid[: a.camera.height : _STRIDE, : a.camera.width : _STRIDE]
        z = factor * a.depth[::_STRIDE, ::_STRIDE].astype(np.float64)
        points = a.camera.back_project(np.stack([u, v], -1)[z > 0], z[z > 0])
        points = se3.transform(se3.inverse(T_world_b) @ T_world_a, points)
        points = points[points[:, 2] > 0.01]  # m; nearer ones are nowhere in the picture
        uv = b.camera.project(points).round()
        inside = ((uv >= 0) & (uv < [b.camera.width, b.camera.height])).all(1)
        x, y = uv[inside].astype(int).T
        seen = factor * b.depth[y, x].astype(np.float64)
        ratio = points[inside, 2][seen > 0] / seen[seen > 0]
        fit += int((np.abs(ratio - 1) < _SAME_DEPTH).sum())
        against += int((ratio <= 1 - _SAME_DEPTH).sum())
        hidden += int((ratio >= 1 + _SAME_DEPTH).sum())
    return fit, against, hidden


def folder_name(root: Path) -> str:
    """The folder without those above it: notes go into results, which are published."""
    return root.resolve().name
