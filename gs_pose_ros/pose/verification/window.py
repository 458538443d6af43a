"""The square of an image around an object, resampled: what refiners and checks compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.frame import DepthNoise, RGBDFrame, warp_window, window_coverage
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference


@dataclass(frozen=True)
class ObjectWindow:
    """The square around an object, resampled."""

    camera: Camera
    color: NDArray[np.float32]  # [S, S, 3], NaN outside the image
    depth: NDArray[np.float32]  # [S, S] m, 0 unknown
    # [S, S] 1 the object is visible here, 0 it is not, -1 unknown, -2 whatever is seen here stands
    # above the support: the object if its depth agrees
    mask: NDArray[np.float32]
    depth_noise: DepthNoise = DepthNoise()

    @classmethod
    def around(
        cls,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        mask: NDArray[np.bool_] | None,
        padding: float,
        size: int,
        foreground: NDArray[np.bool_] | None = None,
    ) -> ObjectWindow | None:
        """The window of `size` px about the object's centre; None when it lies outside the view.

        `mask` [H, W] says where the object is visible; without it, `foreground` says where
        anything stands that is not the support.
        """
        place = place_window(frame.camera, reference, T_cam_obj, padding, size)
        if place is None:
            return None
        camera, left, top, factor = place
        crop = frame.warp(camera, left, top, factor)
        depth = crop.depth if crop.depth is not None else np.zeros(camera.shape, np.float32)
        known = window_coverage(frame.camera.shape, camera, left, top, factor)
        if mask is not None:
            soft = warp_window(mask, camera, left, top, factor)
        elif foreground is not None:
            stands = warp_window(foreground, camera, left, top, factor)
            soft = np.where(stands > 0.5, np.float32(-2), np.float32(0))
        else:
            soft = np.full(camera.shape, -1, np.float32)
        soft[known < 0.5] = -1
        color = crop.color
        color[known < 0.99] = np.nan
        return cls(camera, color, depth, soft, frame.depth_noise)


def place_window(
    camera: Camera,
    reference: ObjectReference,
    T_cam_obj: NDArray[np.float64],
    padding: float,
    size: int,
) -> tuple[Camera, float, float, float] | None:
    """The camera of a window about the object's centre, and its left, top and factor.

    As `Camera.crop` takes them; None when the window lies outside the view.
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
