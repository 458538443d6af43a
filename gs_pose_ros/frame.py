"""One picture with its camera: what every core method takes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry.camera import Camera


@dataclass(frozen=True)
class RGBDFrame:
    """A colour image, optionally with registered depth, and the camera that took it."""

    color: NDArray[np.float32]  # [H, W, 3] RGB in [0, 1]
    depth: NDArray[np.float32] | None  # [H, W] m, 0 where invalid
    camera: Camera
    stamp_ns: int = 0

    def __post_init__(self) -> None:
        if self.color.shape != (*self.camera.shape, 3) or self.color.dtype != np.float32:
            raise ValueError(
                f'color must be float32 {(*self.camera.shape, 3)}, '
                f'got {self.color.dtype} {self.color.shape}'
            )
        if self.depth is not None and (
            self.depth.shape != self.camera.shape or self.depth.dtype != np.float32
        ):
            raise ValueError(
                f'depth must be float32 {self.camera.shape}, '
                f'got {self.depth.dtype} {self.depth.shape}'
            )

    @classmethod
    def from_uint8(
        cls,
        rgb: NDArray[np.uint8],
        depth: NDArray | None,
        camera: Camera,
        stamp_ns: int = 0,
    ) -> RGBDFrame:
        """From an 8-bit RGB image and a depth image in metres; NaN, inf and < 0 become 0."""
        color = rgb.astype(np.float32) * np.float32(1 / 255)
        if depth is not None:
            depth = np.asarray(depth, np.float32)
            depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
        return cls(color, depth, camera, stamp_ns)

    def without_depth(self) -> RGBDFrame:
        """The same frame as an RGB camera would have delivered it."""
        return RGBDFrame(self.color, None, self.camera, self.stamp_ns)

    def warp(self, camera: Camera, left: float, top: float, factor: float) -> RGBDFrame:
        """The window seen by `camera = self.camera.crop(left, top, ..., factor)`.

        Colour is area-averaged when shrinking, depth takes the nearest pixel: averaging depth
        over an edge would invent points in the air. Outside the image both are 0.
        """
        color = warp_window(self.color, camera, left, top, factor)
        depth = None
        if self.depth is not None:
            depth = warp_window(self.depth, camera, left, top, factor, nearest=True)
        return RGBDFrame(color, depth, camera, self.stamp_ns)


def warp_window(
    image: NDArray[np.float32],
    camera: Camera,
    left: float,
    top: float,
    factor: float,
    nearest: bool = False,
) -> NDArray[np.float32]:
    """The window of `Camera.crop` from an image [H, W] or [H, W, C] float32; 0 outside."""
    # A destination pixel x has its centre at source (x + 0.5) / factor + left.
    M = np.array([[1 / factor, 0, 0.5 / factor + left], [0, 1 / factor, 0.5 / factor + top]])
    size = (camera.width, camera.height)
    if nearest:
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(image, M, size, flags=flags), np.float32)
    if factor < 0.75:  # linear sampling would skip source pixels: blur to the new pixel size first
        sigma = 0.5 * np.sqrt(1 / factor**2 - 1)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, M, size, flags=flags), np.float32)
