"""The camera in a map, as a problem that Levenberg-Marquardt solves: depth, contour and colour."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.frame import DepthNoise
from gs_pose_ros.localization.observation import DEPTH, GRAY, JUMP
from gs_pose_ros.localization.scene_comparison import compare, drawn
from gs_pose_ros.optimization.drawing import Drawing, draw_at, room
from gs_pose_ros.optimization.gain import NO_SUMS, add_pair, gain_and_offset
from gs_pose_ros.optimization.levenberg_marquardt import center_in, problem
from gs_pose_ros.rendering.projection import f32

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}
# Variance of grays: a scene of one gray does not tell gain from offset.
_GAIN_PRIOR, _LEAST_GAIN, _MOST_GAIN = 1e-3, 0.3, 3.0
_NO_CHANGE = (1.0, 0.0)


@numba.njit(**_kernel)
def shown(image):
    """Depth and gray, each [h, w], of an image [h, 5, w]; 0 where little of the map is there."""
    height, _, width = image.shape
    depth, gray = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            depth[y, x], gray[y, x] = drawn(image, y, x)
    return depth, gray


@numba.njit(**_kernel)
def _fit_gray(image, seen):
    """Gain and offset from drawn to seen gray, over every fourth pixel if its depths agree."""
    height, _, width = image.shape
    sums = NO_SUMS
    for y in range(0, height, 2):
        for x in range(0, width, 2):
            z, gray = drawn(image, y, x)
            observed = seen[y, x, DEPTH]
            if z > 0 and observed > 0 and abs(z - observed) <= JUMP * observed:
                sums = add_pair(sums, gray, seen[y, x, GRAY], 1.0)
    return gain_and_offset(sums, _GAIN_PRIOR, _LEAST_GAIN, _MOST_GAIN, _NO_CHANGE)


@numba.njit(**_kernel)
def linearize_scene(p, T, gain, H, gradients):
    """`linearize` for the camera in a map; gain [2] of the gray."""
    needed, image = draw_at(p.drawing, T), p.drawing.image
    if needed > room(p.drawing):
        return 0.0, 0, needed
    if p.gray_weight > 0:
        gain[0], gain[1] = _fit_gray(image, p.seen)
    partial_H = np.empty((gradients.shape[0], 6, 6))
    sums = np.empty((gradients.shape[0], 3))
    fx, fy, cx, cy = p.drawing.K
    x, y, z = center_in(p, T)
    compare(
        image, p.seen,
        (f32(fx), f32(fy), f32(cx), f32(cy)), (f32(x), f32(y), f32(z)),
        (
            f32(p.scale), f32(p.noise_m), f32(p.noise_per_m2), f32(p.contour_weight),
            f32(p.gray_weight), f32(p.sigma_gray), f32(p.cut),
        ),
        (f32(gain[0]), f32(gain[1])), p.residuals, partial_H, gradients, sums,
    )  # fmt: skip
    for i in range(6):
        for j in range(i + 1):
            H[i, j] = H[j, i] = partial_H[:, i, j].sum()
    return sums[:, 0].sum() / max(sums[:, 1].sum(), 1.0), int(sums[:, 2].sum()), needed


@problem(linearize_scene)
class SceneProblem(NamedTuple):
    """A picture of h x w pixels and the part of the map before the camera.

    `drawing` and `residuals` are written to: a problem belongs to one thread.
    """

    drawing: Drawing
    seen: NDArray[np.float32]  # [h, w, 4] as `shrink` gives it
    center: NDArray[np.float64]  # [3] in the middle of what is seen, m, map frame
    size_m: float  # how far away that is
    scale: float  # of the residuals, in sigmas of the sensor
    noise_m: float  # of the sensor's depth
    noise_per_m2: float
    contour_weight: float  # of the slopes of the depth, against the depth
    gray_weight: float
    sigma_gray: float
    cut: float  # of the robust costs, in sigmas
    residuals: NDArray[np.float32]  # [h, w] of the depth, in `scale`; NaN where not in both

    @property
    def depth_noise(self) -> DepthNoise:
        """The sensor's noise, whose two numbers the kernels take."""
        return DepthNoise(self.noise_m, self.noise_per_m2)
