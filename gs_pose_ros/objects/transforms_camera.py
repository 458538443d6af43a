"""The camera that a frame of transforms.json describes: numbers, lens, size of the picture, pose.

Functions raise ValueError; who knows the file names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.picture_file import PictureHeader
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

# One frame, with what stands at the top of the file; nulls are left out.
Entry = Mapping[str, Any]

# Names of nerfstudio (CAMERA_MODEL_TO_TYPE) and COLMAP for what k1 k2 p1 p2 k3 describe.
_MODELS = ('', 'PERSPECTIVE', 'PINHOLE', 'SIMPLE_PINHOLE', 'SIMPLE_RADIAL', 'RADIAL', 'OPENCV')
_RATIONAL = 'FULL_OPENCV'  # COLMAP's, with k4 k5 k6 as well
# What instant-ngp reads besides: other projections than a pinhole's.
_OTHER_LENSES = ('is_fisheye', 'ftheta_p0', 'latlong', 'equirectangular', 'orthographic')
# Metres (10 km): no camera stands further from an object.
_FARTHEST = 1e4


def number(entry: Entry, key: str, default: float | None = None) -> float:
    """A finite number of an entry."""
    value = entry.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            out = float(value)
        except OverflowError:
            out = math.inf
        if math.isfinite(out):
            return out
    raise ValueError(f'{key} is {_shown(value)}, not a finite number')


def text(entry: Entry, key: str) -> str:
    """A text of an entry that can name a file."""
    value = entry.get(key)
    if not isinstance(value, str) or not value or '\0' in value:
        raise ValueError(f'{key} is {_shown(value)}, not a path')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f'{key} {_shown(value)} is no valid text') from error
    return value


def lens(entry: Entry) -> NDArray[np.float64]:
    """The distortion k1 k2 p1 p2 k3 [k4 k5 k6], as OpenCV orders it."""
    model = str(entry.get('camera_model', '')).upper()
    if model not in (*_MODELS, _RATIONAL):
        kind = 'fisheye cameras are' if 'FISHEYE' in model else f'camera_model {model[:40]!a} is'
        raise ValueError(f'{kind} not supported; undistort the pictures first')
    for key in _OTHER_LENSES:
        if entry.get(key):
            raise ValueError(f'{key} is set: only pinhole cameras; undistort the pictures first')
    names = ('k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6')
    values = np.array([number(entry, name, 0.0) for name in names])
    if model == _RATIONAL:
        return values
    for name, value in zip(names[5:], values[5:], strict=True):
        if value:
            raise ValueError(
                f'{name} = {value:g} is of {_RATIONAL} alone, camera_model is {model[:40]!a}'
            )
    return values[:5]


def picture_size(entry: Entry, header: PictureHeader) -> tuple[int, int, bool]:
    """Width and height of the picture that the entry speaks of, and whether EXIF turns it.

    The file's w and h decide: pixels as stored if they fit (COLMAP heeds no EXIF either), turned
    upright if only that fits. A picture that was resized is one that fits but for its scale.
    """
    stored = header.width, header.height
    upright = header.height, header.width
    said = _said_size(entry)
    turns = header.orientation >= 5
    if said is None and turns:
        raise ValueError(
            f'the picture is {_x(stored)} and EXIF orientation {header.orientation} turns it on '
            'its side; add "w" and "h" to say which of both the intrinsics are for'
        )
    if said is None or same_shape(stored, said):
        return *stored, False
    if turns and same_shape(upright, said):
        return *upright, True
    swapped = ' (swapped?)' if same_shape(upright, said) else ''
    exif = f' and EXIF orientation {header.orientation} makes it no better' if turns else ''
    raise ValueError(
        f'the picture is {_x(stored)}, w and h are {_x(said)}{swapped}{exif}; the intrinsics are '
        'for another picture'
    )


def same_shape(size: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether a picture (width, height) is another one resized, up to a pixel of rounding."""
    (w, h), (other_w, other_h) = sorted((size, other))
    # The smaller one is rounded, in both of its sides.
    return abs(other_w * h - other_h * w) <= max(other_w, other_h)


def camera(entry: Entry, width: int, height: int) -> Camera:
    """The camera of a picture of that size, with pixel centres at integers.

    The file may speak of the picture at another size.
    """
    file_w, file_h = _said_size(entry) or (width, height)
    if 'fl_x' in entry:
        fx = number(entry, 'fl_x')
        fy = number(entry, 'fl_y', fx)
    elif 'camera_angle_x' in entry:
        fx = fy = file_w / 2 / np.tan(_angle(entry, 'camera_angle_x') / 2)
        if 'camera_angle_y' in entry:
            fy = file_h / 2 / np.tan(_angle(entry, 'camera_angle_y') / 2)
    else:
        raise ValueError('neither fl_x nor camera_angle_x is given')
    if not (fx > 0 and fy > 0):
        raise ValueError(f'the focal length is {fx:g}, {fy:g}; it must be above 0')
    # The file's image spans [0, w], with pixel centres at +0.5 (COLMAP's convention).
    cx, cy = number(entry, 'cx', file_w / 2), number(entry, 'cy', file_h / 2)
    sx, sy = width / file_w, height / file_h
    found = Camera(fx * sx, fy * sy, cx * sx - 0.5, cy * sy - 0.5, width, height)
    if why := found.why_of_another_picture():
        raise ValueError(f'fl_x, cx and cy, or w and h, are wrong: {why}')
    return found


def pose(entry: Entry, metres_per_unit: float) -> NDArray[np.float64]:
    """T_cam_obj [4, 4] in m; the object frame is the file's world."""
    try:
        T_world_gl = np.array(entry.get('transform_matrix'), np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError('transform_matrix is no matrix of numbers') from error
    if T_world_gl.shape != (4, 4) or not se3.is_rigid(T_world_gl, tolerance=1e-2):
        raise ValueError('transform_matrix is not a rigid motion [4, 4]')
    T_world_gl[:3, :3] = se3.project_to_so3(T_world_gl[:3, :3])
    T_world_gl[:3, 3] *= metres_per_unit
    if np.abs(T_world_gl[:3, 3]).max() > _FARTHEST:
        position = T_world_gl[:3, 3].tolist()
        raise ValueError(
            f'the camera is at {position} m; is the unit right? It is '
            'metres_per_unit (--metres-per-unit)'
        )
    # OpenGL's camera looks along -z with y up, ours along +z with y down. Mitsuba's along +z with
    # y up and x left (instant-ngp, nerf_loader.h).
    turn = [-1.0, -1.0, 1.0, 1.0] if entry.get('from_mitsuba') else [1.0, -1.0, -1.0, 1.0]
    return se3.inverse(T_world_gl @ np.diag(turn))


def _said_size(entry: Entry) -> tuple[float, float] | None:
    if 'w' not in entry and 'h' not in entry:
        return None
    if 'w' not in entry or 'h' not in entry:
        raise ValueError('of w and h, the size of the picture, only one is given')
    width, height = number(entry, 'w'), number(entry, 'h')
    if width < 1 or height < 1:
        raise ValueError(f'w and h, the size of the picture, are {_x((width, height))}')
    return width, height


def _angle(entry: Entry, key: str) -> float:
    angle = number(entry, key)
    if not 0 < angle < np.pi:
        raise ValueError(f'{key} is {angle:g}, not within 0 to pi')
    return angle


def _x(size: tuple[float, float]) -> str:
    return f'{size[0]:g} x {size[1]:g}'


def _shown(value: Any) -> str:
    shown = 'missing' if value is None else ascii(value)
    return shown if len(shown) <= 60 else f'{shown[:57]}...'
