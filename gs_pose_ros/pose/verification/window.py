"""The part of an image that shows an object: a square about its centre, resampled.

A pose is compared with the image there: the window's camera renders the object at the pose, and
rendering and window then have the same pixels. A window has the same number of pixels whatever
the object's distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.frame import DepthNoise, warp_window, window_coverage
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.pose.verification.observation import Observation


@dataclass(frozen=True)
class ObjectWindow:
    """A window of S x S pixels, and the camera that would have taken it."""

    camera: Camera
    color: NDArray[np.float32]  # [S, S, 3], NaN outside the image
    depth: NDArray[np.float32]  # [S, S] m, 0 unknown
    # [S, S] from 0, the object is not visible in this pixel, to 1, it is visible; or -1, unknown;
    # or -2, the pixel is of the foreground: of the object if its depth says so.
    mask: NDArray[np.float32]
    depth_noise: DepthNoise = DepthNoise()

    @classmethod
    def around(
        cls,
        observation: Observation,
        T_cam_obj: NDArray[np.float64],
        padding: float,
        size: int,
    ) -> ObjectWindow | None:
        """The window of `size` px about the object's centre; None if it lies outside the image.

        Its side is `padding` diameters at the object's distance. `mask` comes from the
        observation's mask, without one from its foreground, and is unknown without both.
        """
        frame, reference = observation.frame, observation.reference
        place = place_window(frame.camera, reference, T_cam_obj, padding, size)
        if place is None:
            return None
        camera, left, top, factor = place
        crop = frame.warp(camera, left, top, factor)
        depth = crop.depth if crop.depth is not None else np.zeros(camera.shape, np.float32)
        known = window_coverage(frame.camera.shape, camera, left, top, factor)
        if observation.mask is not None:
            mask = warp_window(observation.mask, camera, left, top, factor)
        elif observation.foreground is not None:
            stands = warp_window(observation.foreground, camera, left, top, factor)
            mask = np.where(stands > 0.5, np.float32(-2), np.float32(0))
        else:
            mask = np.full(camera.shape, -1, np.float32)
        mask[known < 0.5] = -1
        color = crop.color
        color[known < 0.99] = np.nan
        return cls(camera, color, depth, mask, frame.depth_noise)


def place_window(
    camera: Camera,
    reference: SplatObject,
    T_cam_obj: NDArray[np.float64],
    padding: float,
    size: int,
) -> tuple[Camera, float, float, float] | None:
    """The camera of a window as in `ObjectWindow.around`, and its place: left, top, factor.

    `camera.crop(left, top, side, side, factor)` makes the window's camera: left and top (px of the
    image) are its corner, factor is window pixels per image pixel. None if the window lies outside
    the image, or the object's centre nearer to the camera than half a diameter.
    """
    center = reference.center_in(T_cam_obj)
    if not np.isfinite(center).all() or center[2] < 0.5 * reference.diameter_m:
        return None
    side = padding * reference.diameter_m * camera.fx / center[2]
    left, top = camera.project(center) - side / 2
    if left + side < 0 or top + side < 0 or left > camera.width or top > camera.height:
        return None
    factor = size / side
    return camera.crop(left, top, side, side, factor), left, top, factor
