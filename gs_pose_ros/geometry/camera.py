"""Undistorted pinhole camera; pixel centres at integers, as in ROS and OpenCV."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Widths in focal lengths, 152 degrees across: what is wider is not undistorted to a plane, and to
# look for objects in it, each some pixels large, takes minutes.
_WIDEST = 8
_NARROWEST = 1 / 200  # the same of a telescope: a third of a degree
_MOST_ASPECT = 4.0  # of pixels; those of anamorphic lenses are 2
# Where principal points are not, as shares of the picture: lenses have them near its middle.
_FARTHEST_OUT, _NEAREST = 0.85, 0.28


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels: u = fx x/z + cx, v = fy y/z + cy.

    The centre of the top left pixel is (0, 0), so the image spans [-0.5, width - 0.5].
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(numbers).all() or self.fx <= 0 or self.fy <= 0:
            raise ValueError(
                f'focal lengths must be above 0 and all intrinsics finite: fx {self.fx:g}, '
                f'fy {self.fy:g}, cx {self.cx:g}, cy {self.cy:g}'
            )
        if self.width < 1 or self.height < 1:
            raise ValueError(f'the image is {self.width} x {self.height}: it has no pixels')

    @classmethod
    def from_matrix(cls, K: ArrayLike, width: int, height: int) -> Camera:
        """From K [3, 3] (or its 9 entries, row major)."""
        K = np.asarray(K, np.float64).reshape(3, 3)
        return cls(
            float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), int(width), int(height)
        )

    def why_of_another_picture(self) -> str:
        """Why the intrinsics can hardly be of a picture of this size; empty if they may.

        Found are those of a picture of twice or half the size, and those in shares of the picture.
        A crop may have its principal point anywhere, but hardly on the diagonal and far out.
        """
        across = (self.cx + 0.5) / self.width, (self.cy + 0.5) / self.height
        middle = f'the principal point ({self.cx:.6g}, {self.cy:.6g}) px'
        size = f'a picture of {self.width} x {self.height}'
        for focal, side in ((self.fx, self.width), (self.fy, self.height)):
            if not side / _WIDEST <= focal <= side / _NARROWEST:
                return (
                    f'the focal length {focal:.4g} px is no focal length of {size}: is it in px?'
                )
        if not 1 / _MOST_ASPECT < self.fx / self.fy < _MOST_ASPECT:
            return f'the focal lengths {self.fx:.4g} and {self.fy:.4g} px are of no one lens'
        if max(self.cx, self.cy) <= 1 < _NEAREST * min(self.width, self.height):
            return f'{middle} is in the corner of {size}: is it in px?'
        is_out = min(across) > _FARTHEST_OUT or max(across) < _NEAREST
        if is_out and abs(across[0] - across[1]) < 0.15 * max(across):
            whose = f'{2 * self.cx + 1:.0f} x {2 * self.cy + 1:.0f}'
            return f'{middle} is far from the middle of {size}: are they of one of {whose}?'
        return ''

    @property
    def matrix(self) -> NDArray[np.float64]:
        """K [3, 3]."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), the shape of its images."""
        return self.height, self.width

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Pixels [..., 2] of camera-frame points [..., 3]; z must be positive."""
        p = np.asarray(points, np.float64)
        uv = p[..., :2] / p[..., 2:]
        return uv * [self.fx, self.fy] + [self.cx, self.cy]

    def back_project(self, uv: ArrayLike, depth: ArrayLike) -> NDArray[np.float64]:
        """Camera-frame points [..., 3] at pixels uv [..., 2] and depth z [...] (m)."""
        uv, z = np.asarray(uv, np.float64), np.asarray(depth, np.float64)
        xy = (uv - [self.cx, self.cy]) / [self.fx, self.fy]
        return np.concatenate([xy, np.ones_like(xy[..., :1])], -1) * z[..., None]

    def point_map(self, depth: NDArray) -> NDArray[np.float32]:
        """Camera-frame points [H, W, 3] float32 of a depth image [H, W] (0 stays 0)."""
        x = ((np.arange(self.width) - self.cx) / self.fx).astype(np.float32)
        y = ((np.arange(self.height) - self.cy) / self.fy).astype(np.float32)
        return np.stack([depth * x[None, :], depth * y[:, None], depth], -1).astype(np.float32)

    def scaled(self, factor: float) -> Camera:
        """The camera of an image resized by `factor`, keeping the outline of the image."""
        return self.crop(-0.5, -0.5, self.width, self.height, factor)

    def crop(self, left: float, top: float, width: float, height: float, factor: float) -> Camera:
        """The camera of the window with that top-left outline, then resized by `factor`.

        `left`, `top` are in pixel coordinates of the outline: the full image is (-0.5, -0.5).
        """
        return replace(
            self,
            fx=self.fx * factor,
            fy=self.fy * factor,
            cx=(self.cx - left) * factor - 0.5,
            cy=(self.cy - top) * factor - 0.5,
            width=max(1, round(width * factor)),
            height=max(1, round(height * factor)),
        )
