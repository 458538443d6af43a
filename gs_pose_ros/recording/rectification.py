"""The camera behind a camera_info, and its images undistorted; messages are known by fields only.

Bags and live nodes check a camera_info here, so both say the same of a bad one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.picture_header import MOST_PIXELS
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.geometry.distortion import COEFFICIENT_COUNTS, check_distortion

# ROS has two names for what is one model to OpenCV, and so to image_geometry.
_LENGTHS = {
    'plumb_bob': COEFFICIENT_COUNTS,
    'rational_polynomial': COEFFICIENT_COUNTS,
    '': COEFFICIENT_COUNTS,
    'equidistant': (4,),
    'fisheye': (4,),
}
# What focal lengths and principal points are within; all else is a slip, and would only overflow.
_LEAST_PX, _MOST_PX = 1e-3, 1e7
# Rounding of a skew that is none, as a share of fx: 0.05 px at the edge of a picture.
_SKEW = 1e-4


@dataclass(frozen=True)
class _Undistortion:
    """What decides where the pixels of an undistorted image come from."""

    K: tuple[float, ...]
    D: tuple[float, ...]
    R: tuple[float, ...]
    fisheye: bool
    camera: Camera


@dataclass(frozen=True, eq=False)
class Rectification:
    """The undistorted camera of a camera_info and where its pixels come from in the raw image.

    The maps are made when they are first asked for: by then images had to have their size.
    """

    camera: Camera
    undistortion: _Undistortion | None = None  # None: nothing to do

    @property
    def maps(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Where each pixel comes from, x and y [H, W] px; None if nothing is to be done."""
        return None if self.undistortion is None else _maps(self.undistortion)

    def color(self, image: NDArray[Any]) -> NDArray[Any]:
        """The image as the undistorted camera sees it."""
        maps = self.maps
        return image if maps is None else cv2.remap(image, *maps, cv2.INTER_LINEAR)

    def depth(self, image: NDArray[Any]) -> NDArray[Any]:
        """The same for depth, by the nearest pixel: a mean over an edge is a point in the air."""
        maps = self.maps
        return image if maps is None else cv2.remap(image, *maps, cv2.INTER_NEAREST)


def content_of(info: Any) -> tuple[Any, ...]:
    """All that a camera_info says of the camera, without stamp and frame, to be compared."""
    roi = info.roi
    return (
        tuple(map(float, info.k)),
        tuple(map(float, info.p)),
        tuple(map(float, info.r)),
        tuple(map(float, info.d)),
        info.distortion_model,
        (int(info.width), int(info.height)),
        (int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)),
        (max(1, int(info.binning_x)), max(1, int(info.binning_y))),
    )


def without_distortion(info: Any) -> Any:
    """The camera_info of images that their topic says are rectified: P holds, D is history."""
    if not any(info.d) or not (info.p[0] > 0 and info.p[5] > 0):
        return info
    return SimpleNamespace(
        header=info.header,
        width=info.width,
        height=info.height,
        distortion_model=info.distortion_model,
        d=(),
        k=np.reshape(info.p, (3, 4))[:, :3].ravel(),
        r=info.r,
        p=info.p,
        binning_x=info.binning_x,
        binning_y=info.binning_y,
        roi=info.roi,
    )


def rectification_from_message(info: Any, rectified: bool = False) -> Rectification:
    """The camera behind images that come with this camera_info.

    Raw images: K, undistorted to P (or K) if D is not zero. `rectified`: the images are image_rect
    already, so P holds and D is history. roi and binning are those of the delivered image.

    Raises:
        GsPoseError: the camera_info cannot be used; the message names the field.

    """
    return _rectification(*content_of(info), rectified)


@lru_cache(maxsize=8)
def _rectification(
    k: tuple[float, ...],
    p: tuple[float, ...],
    r: tuple[float, ...],
    d: tuple[float, ...],
    model: str,
    size: tuple[int, int],
    roi: tuple[int, int, int, int],
    binning: tuple[int, int],
    rectified: bool,
) -> Rectification:
    has_p = p[0] > 0 and p[5] > 0
    if rectified:
        if not has_p:
            raise _bad(
                'rectified images need P, and its fx or fy is not above 0: set P, or '
                'input.rectified to false'
            )
    elif not any(k):
        raise _bad('K is all zeros: the camera is not calibrated; calibrate it first')
    fields = {'P': p} if rectified else {'K': k, 'D': d, 'R': r, 'P': p}
    for name, values in fields.items():
        if not np.isfinite(values).all():
            what = 'NaN' if np.isnan(values).any() else 'inf'
            raise _bad(f'{name} holds {what}; calibrate the camera anew')
    if not rectified:
        _check_matrix('K', np.reshape(k, (3, 3)))
    D = () if rectified else _coefficients(d, model)
    if has_p and (rectified or D):
        _check_matrix('P', np.reshape(p, (3, 4))[:, :3])
    x, y, width, height = _region(size, roi)
    width, height = width // binning[0], height // binning[1]
    if width < 1 or height < 1:
        raise _bad(f'binning {binning[0]}x{binning[1]} leaves nothing of {size[0]}x{size[1]}')
    # Undistortion maps take 8 bytes a pixel: larger ones are a slip, or mean to fill memory.
    if width * height > MOST_PIXELS:
        raise _bad(f'{width}x{height} is more than {MOST_PIXELS / 1e6:.0f} megapixels')
    whole = Camera.from_matrix(np.reshape(p, (3, 4))[:, :3] if rectified else k, *size)
    if why := whole.why_of_another_picture():
        raise _bad(f'{"P" if rectified else "K"} does not fit the size that it says: {why}')
    # Pixel centres are at integers: the outline -0.5 is what binning keeps in place.
    S = np.diag([1 / binning[0], 1 / binning[1], 1.0])
    S[:2, 2] = [(0.5 - x) / binning[0] - 0.5, (0.5 - y) / binning[1] - 0.5]
    K, P = S @ np.reshape(k, (3, 3)), S @ np.reshape(p, (3, 4))[:, :3]
    try:
        camera = Camera.from_matrix(P if has_p and (rectified or D) else K, width, height)
    except ValueError as error:
        raise _bad(str(error)) from error
    if not D:
        return Rectification(camera)
    R = np.reshape(r, (3, 3)) if has_p and any(r) else np.eye(3)
    if (
        np.abs(R).max() > 2
        or not np.allclose(R @ R.T, np.eye(3), atol=1e-3)
        or np.linalg.det(R) < 0
    ):
        raise _bad(f'R is no rotation: {np.round(r, 6).tolist()}')
    fisheye = model in ('equidistant', 'fisheye')
    if fisheye:
        _check_fisheye(K, D, width, height)
    else:
        try:
            check_distortion(K, D, width, height)
        except ValueError as error:
            raise _bad(str(error)) from error
    undistortion = _Undistortion(tuple(K.ravel()), D, tuple(R.ravel()), fisheye, camera)
    return Rectification(camera, undistortion)


@lru_cache(maxsize=2)  # of colour and of depth; they are large
def _maps(item: _Undistortion) -> tuple[NDArray[Any], NDArray[Any]]:
    K, R, D = np.reshape(item.K, (3, 3)), np.reshape(item.R, (3, 3)), np.array(item.D)
    undistort = (
        cv2.fisheye.initUndistortRectifyMap if item.fisheye else cv2.initUndistortRectifyMap
    )
    size = (item.camera.width, item.camera.height)
    try:
        maps = undistort(K, D, R, item.camera.matrix, size, cv2.CV_32FC1)
    except cv2.error as error:
        raise _bad(f'the distortion D = {list(item.D)} cannot be undone') from error
    return maps[0], maps[1]


def _bad(what: str) -> GsPoseError:
    return GsPoseError(f'camera_info: {what}')


def _check_matrix(name: str, M: NDArray[np.float64]) -> None:
    """Refuse what a pinhole camera without skew is not."""
    fx, fy = M[0, 0], M[1, 1]
    if not (fx > 0 and fy > 0):
        raise _bad(
            f'{name} has fx = {fx:g}, fy = {fy:g}; they must be above 0; calibrate the camera'
        )
    if min(fx, fy) < _LEAST_PX or np.abs(M).max() > _MOST_PX:
        raise _bad(f'{name} is no camera matrix: {M.ravel().tolist()} px')
    if abs(M[0, 1]) > _SKEW * fx:
        raise _bad(f'{name} has a skew of {M[0, 1]:g} px, which is not supported: make it 0')
    if M[1, 0] or M[2, 0] or M[2, 1] or M[2, 2] != 1:
        rows = np.round(M[1:], 6).tolist()
        raise _bad(f'{name} is no camera matrix: its lower rows are {rows}, not 0 fy cy, 0 0 1')


def _coefficients(d: tuple[float, ...], model: str) -> tuple[float, ...]:
    """D in a length of its model; () if it distorts nothing."""
    used = len(d)
    while used and d[used - 1] == 0:
        used -= 1
    if not used:
        return ()
    if model not in _LENGTHS:
        known = ', '.join(name for name in _LENGTHS if name)
        raise _bad(f'unknown distortion model {model!r}; known are {known}')
    lengths = _LENGTHS[model]
    if len(d) in lengths:
        return d
    # Some drivers fill D up with zeros; those at the end say nothing.
    for length in lengths:
        if used <= length < len(d):
            return d[:length]
    raise _bad(
        f'D has {len(d)} coefficients, but the distortion model {model or "plumb_bob"!r} has '
        f'{" or ".join(map(str, lengths))}, '
        'with 0 for those that are not known'
    )


def _check_fisheye(K: NDArray[np.float64], D: tuple[float, ...], width: int, height: int) -> None:
    """Refuse what folds the picture before its edges: another lens, or another model."""
    theta = np.linspace(0, np.pi / 2, 181)[1:]  # further out is not before a pinhole
    radius = theta * np.polyval([D[3], D[2], D[1], D[0], 1], theta**2)
    grows = np.diff(np.concatenate([[0], radius])) > 0
    seen = radius[: len(radius) if grows.all() else int(np.argmin(grows))].max(initial=0)
    needed = min(width / K[0, 0], height / K[1, 1]) / 2  # the nearer edges
    if seen < needed and not grows.all():
        raise _bad(
            f'the distortion D = {list(D)} cannot be undone: it folds the picture at '
            f'{seen / needed:.0%} of the way to its edge; calibrate the camera anew'
        )


def _region(size: tuple[int, int], roi: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The part of the full image that is delivered: x, y, width, height."""
    if size[0] < 1 or size[1] < 1:
        raise _bad(f'the size of the image is given as {size[0]}x{size[1]}')
    if not any(roi):  # the whole image (sensor_msgs/RegionOfInterest)
        return 0, 0, *size
    x, y, width, height = roi
    if width < 1 or height < 1 or x + width > size[0] or y + height > size[1]:
        raise _bad(f'roi {width}x{height} at ({x}, {y}) is not inside {size[0]}x{size[1]}')
    return roi
