"""One picture with its camera: what every core method takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import NonNegative, Positive
from gs_pose_ros.geometry.camera import Camera


@dataclass(frozen=True)
class DepthNoise:
    """Standard deviation of a camera's depth: constant_m + per_m2 z^2, as of stereo cameras."""

    constant_m: Positive = 0.001  # standard deviation of the depth right before the camera, m
    per_m2: NonNegative = 0.002  # what it grows by at 1 m, with the square of the depth, 1/m

    def at(self, z: NDArray) -> NDArray:
        """Standard deviations (m) at depths z (m), of one shape."""
        return self.constant_m + self.per_m2 * z**2


@dataclass(frozen=True)
class RGBDFrame:
    """A colour image, optionally with registered depth, and the camera that took it."""

    color: NDArray[np.float32]  # [H, W, 3] RGB in [0, 1]
    depth: NDArray[np.float32] | None  # [H, W] m, 0 where invalid
    camera: Camera
    stamp_ns: int = 0
    depth_noise: DepthNoise = DepthNoise()

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
        return replace(self, depth=None)

    def warp(self, camera: Camera, left: float, top: float, factor: float) -> RGBDFrame:
        """The window seen by `camera = self.camera.crop(left, top, ..., factor)`.

        Colour is area-averaged when shrinking, depth takes the nearest pixel: averaging depth
        over an edge would invent points in the air. Outside the image both are 0.
        """
        color = warp_window(self.color, camera, left, top, factor)
        depth = None
        if self.depth is not None:
            depth = warp_window(self.depth, camera, left, top, factor, nearest=True)
        return replace(self, color=color, depth=depth, camera=camera)


def warp_window(
    image: NDArray,
    camera: Camera,
    left: float,
    top: float,
    factor: float,
    nearest: bool = False,
) -> NDArray[np.float32]:
    """The window of `Camera.crop` from an image [H, W] or [H, W, C] as float32; 0 outside."""
    # Linear sampling would skip source pixels when shrinking: blur to the new pixel size first.
    sigma = 0.0 if nearest or factor >= 0.75 else 0.5 * np.sqrt(1 / factor**2 - 1)
    # Only what the window shows and the blur reaches: the rest of a large image costs time.
    reach = int(np.ceil(3 * sigma)) + 2
    first = np.floor([left, top]).astype(np.int64) - reach
    last = np.ceil([left + camera.width / factor, top + camera.height / factor]) + reach
    x0, y0 = np.clip(first, 0, [image.shape[1] - 1, image.shape[0] - 1])
    x1, y1 = np.maximum(np.minimum(last.astype(np.int64), image.shape[1::-1]), [x0 + 1, y0 + 1])
    source = np.ascontiguousarray(image[y0:y1, x0:x1], np.float32)
    if sigma > 0:
        taps = 2 * int(np.ceil(3 * sigma)) + 1  # OpenCV takes four sigmas for floats
        source = cv2.GaussianBlur(source, (taps, taps), sigma)
    # A destination pixel x has its centre at source (x + 0.5) / factor + left.
    offset = 0.5 / factor + np.array([left - x0, top - y0])
    M = np.array([[1 / factor, 0, offset[0]], [0, 1 / factor, offset[1]]])
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)
    return np.asarray(
        cv2.warpAffine(source, M, (camera.width, camera.height), flags=flags), np.float32
    )


def window_coverage(
    shape: tuple[int, ...], camera: Camera, left: float, top: float, factor: float
) -> NDArray[np.float32]:
    """How much of each pixel of the window lies in an image of (height, width).

    What `warp_window` makes of ones: 1 inside, 0 outside, between them over the outermost pixel.
    """
    x = (np.arange(camera.width) + 0.5) / factor + left
    y = (np.arange(camera.height) + 0.5) / factor + top
    across = np.minimum(x + 1, shape[1] - x).clip(0, 1)
    down = np.minimum(y + 1, shape[0] - y).clip(0, 1)
    return np.outer(down, across).astype(np.float32)
