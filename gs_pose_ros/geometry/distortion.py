"""Undoing the distortion of a lens, where the calibration describes one that can be undone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gs_pose_ros.geometry.camera import Camera

# How many coefficients OpenCV's model takes: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]].
COEFFICIENT_COUNTS = (4, 5, 8, 12, 14)
# A lens that sees 150 degrees presses what is far out to a fifteenth; none draws it four times as
# large as the middle.
_LEAST_STRETCH, _MOST_STRETCH = 1 / 20, 4.0
# Strong wide-angle lenses lose their corners, and are used nevertheless.
_LEAST_SHARE = 2 / 3
# What of it an undistorted picture without black borders must show.
_LEAST_SHOWN = 0.5
_ANGLES = 72
# Side in pixels of the raster on which areas are compared.
_RASTER = 128


def check_distortion(K: ArrayLike, D: ArrayLike, width: int, height: int) -> None:
    """Make sure that a distortion maps a picture's rays to its pixels one to one.

    From the middle of the picture the rays are followed outwards, until the distorted picture
    folds back (Jacobian <= 0) or is stretched as no lens does. What is reached must be most of
    the picture. Failed calibrations give polynomials for which this is a spot in the middle.

    Args:
        K: intrinsics [3, 3] in pixels.
        D: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]] of the plumb_bob or
            rational_polynomial model, in OpenCV's order; empty or all 0 for no distortion.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Raises:
        ValueError: the coefficients are not of that model or not finite, or cannot be undone.

    """
    K, D = np.asarray(K, np.float64), np.ravel(np.asarray(D, np.float64))
    if not np.isfinite(D).all():
        raise ValueError(f'distortion coefficients are not finite: {_listed(D)}')
    if not D.any():
        return
    if len(D) not in COEFFICIENT_COUNTS:
        raise ValueError(
            f'{len(D)} distortion coefficients; k1 k2 p1 p2 and so on are '
            f'{", ".join(map(str, COEFFICIENT_COUNTS))}'
        )
    if not np.isfinite(K).all() or not (K[0, 0] > 0 and K[1, 1] > 0):
        raise ValueError(
            f'focal lengths must be above 0 and all intrinsics finite: K is {_listed(K)}'
        )
    if width < 1 or height < 1:
        raise ValueError(f'the picture is {width} x {height}: it has no pixels')
    share = _reached_share(K, D, width, height)
    if share < _LEAST_SHARE:
        raise ValueError(
            f'the distortion {_listed(D)} cannot be undone: only {share:.0%} of the '
            f'{width} x {height} picture can be undistorted; calibrate the camera anew'
        )


def undistortion(
    camera: Camera, D: ArrayLike
) -> tuple[Camera, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The pinhole camera that shows nothing that the distorted one does not, and its maps.

    The maps [H, W] say where in the distorted picture its pixels come from, for `cv2.remap`.
    `D` is as `check_distortion` says.

    Raises:
        ValueError: the coefficients cannot be undone.

    """
    width, height = camera.width, camera.height
    check_distortion(camera.matrix, D, width, height)
    D = np.ravel(np.asarray(D, np.float64)) if np.any(D) else np.zeros(4)
    # alpha 0: no black borders.
    K, _ = cv2.getOptimalNewCameraMatrix(camera.matrix, D, (width, height), 0)
    maps = cv2.initUndistortRectifyMap(
        camera.matrix, D, np.eye(3), K, (width, height), cv2.CV_32FC1
    )
    shown = _shown_share(np.stack(maps, -1).astype(np.float64)) if np.isfinite(K).all() else 0.0
    if shown < _LEAST_SHOWN:
        raise ValueError(
            f'the distortion {_listed(D)} cannot be undone: the undistorted picture '
            f'would show {shown:.0%} of the {width} x {height} picture; calibrate the camera anew'
        )
    u, v = (np.asarray(m, np.float32) for m in maps)
    return Camera.from_matrix(K, width, height), (u, v)


def _shown_share(source: NDArray[np.float64]) -> float:
    """The share of a picture that is seen where its pixels [H, W, 2] are drawn from.

    Cells that are turned over count against it.
    """
    height, width = source.shape[:2]
    step = max(1, min(height, width) // _RASTER)
    source = source[::step, ::step]
    right, down = np.diff(source, axis=1)[:-1], np.diff(source, axis=0)[:, :-1]
    area = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
    inside = np.all((source > -1) & (source < [width, height]), axis=-1)[:-1, :-1]
    return float(area[inside].sum() / (height * width))


def _reached_share(
    K: NDArray[np.float64], D: NDArray[np.float64], width: int, height: int
) -> float:
    """The share of the picture's area that the distortion reaches one to one."""
    corners = np.array([[-0.5, -0.5], [width - 0.5, -0.5]])
    corners = np.concatenate([corners, np.add(corners, [0, height])])
    with np.errstate(over='ignore'):
        far = np.linalg.norm((corners - K[:2, 2]) / K[[0, 1], [0, 1]], axis=1).max()
    # The undistorted picture of a wide lens reaches further out than the distorted one.
    if not np.isfinite(far):
        return 0.0
    radii = far * np.concatenate([np.linspace(0, 1.5, 100), np.geomspace(1.55, 8, 40)])
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    rays = radii[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], -1)  # [R, A, 2]
    seen = _distorted(rays, D)  # [R, A, 2]
    chord = 2 * np.sin(np.pi / _ANGLES) * radii[1:, None, None]
    with np.errstate(over='ignore', invalid='ignore'):
        out = np.diff(seen, axis=0) / np.diff(radii)[:, None, None]  # [R - 1, A, 2]
        along = (np.roll(seen, -1, 1) - seen)[1:] / chord
        turn = out[..., 0] * along[..., 1] - out[..., 1] * along[..., 0]
        sizes = np.stack([np.linalg.norm(out, axis=-1), np.linalg.norm(along, axis=-1)])
    # Comparisons with what is not finite are false.
    sane = (turn > 0) & (sizes > _LEAST_STRETCH).all(0) & (sizes < _MOST_STRETCH).all(0)
    last = np.argmin(np.concatenate([sane, np.zeros((1, _ANGLES), bool)]), 0)  # first that is not
    ends = seen[last, np.arange(_ANGLES)] * K[[0, 1], [0, 1]] + K[:2, 2] + 0.5
    scale = _RASTER / max(width, height)
    raster = np.zeros((max(1, round(height * scale)), max(1, round(width * scale))), np.uint8)
    limit = 100.0 * _RASTER
    outline = np.nan_to_num(ends * scale, nan=0).clip(-limit, limit).round().astype(np.int32)
    cv2.fillPoly(raster, [outline], (1,))
    return float(raster.mean())


def _distorted(rays: NDArray[np.float64], D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the lens puts rays (x/z, y/z) [R, A, 2], in units of the focal length."""
    points = np.concatenate([rays.reshape(-1, 2), np.ones((rays[..., 0].size, 1))], 1)
    zero = np.zeros(3)
    pixels, _ = cv2.projectPoints(points, zero, zero, np.eye(3), D)
    return np.asarray(pixels, np.float64).reshape(rays.shape)


def _listed(values: NDArray[np.float64]) -> str:
    return '[' + ', '.join(f'{value:g}' for value in values.ravel()) + ']'
