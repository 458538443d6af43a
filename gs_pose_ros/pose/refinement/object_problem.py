"""An object in a window of the image, as a problem that Levenberg-Marquardt solves."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.optimization.levenberg_marquardt import center_in, draw_at, problem
from gs_pose_ros.pose.refinement.residuals import fit_gain, normal_equations, remove_shading
from gs_pose_ros.rendering.numba_rasterizer import Work

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}


@numba.njit(**_kernel)
def linearize_object(p, T, gain, H, gradients):
    """`linearize` for an object."""
    needed = draw_at(p, T)
    if needed > p.work.pairs.shape[1]:
        return 0.0, 0, needed
    depth_cut = p.cut * p.sigma_depth
    seen = p.color
    if p.shading_px > 0:
        seen = p.seen
        seen[:] = p.color
        remove_shading(p.image, seen, p.depth, p.shading_px, depth_cut)
    if p.exposure:
        gain[:] = fit_gain(p.image, seen, p.depth, depth_cut, gain)
    center = center_in(p, T)
    noise = p.noise_m + p.noise_per_m2 * center[2] ** 2
    sigmas = np.array([p.sigma_color, np.hypot(p.sigma_depth, noise), p.sigma_silhouette])
    H[:] = 0
    gradients[:] = 0
    cost, support = normal_equations(
        p.image, seen, p.depth, p.mask, p.K, center, gain, sigmas, p.cut, H, gradients
    )
    return cost, support, needed


@problem(linearize_object)
class ObjectProblem(NamedTuple):
    """One object in one window of S x S pixels; arrays as `draw` and `normal_equations` take them.

    `work`, `image` and `seen` are written to: a problem belongs to one thread.
    """

    prepared: NDArray[np.float32]
    sh: NDArray[np.float32]
    starts: NDArray[np.int64]  # [2] 0, N
    placed: NDArray[np.float32]  # [1, VIEW] as `view_of` gives it, the pose to be filled in
    color: NDArray[np.float32]  # [S, S, 3]
    depth: NDArray[np.float32]  # [S, S]
    mask: NDArray[np.float32]  # [S, S]
    K: NDArray[np.float64]  # [4] fx, fy, cx, cy
    center: NDArray[np.float64]  # [3] of the object, m, object frame
    size_m: float  # its diameter
    sigma_color: float
    sigma_depth: float  # m, without the sensor's noise
    sigma_silhouette: float
    noise_m: float  # of the sensor's depth
    noise_per_m2: float
    cut: float  # of the robust costs, in sigmas
    shading_px: float  # what varies slower is left out; 0: all is compared
    exposure: bool  # whether gain and offset are fitted
    work: Work
    image: NDArray[np.float32]  # [S, 5, S]
    seen: NDArray[np.float32]  # [S, S, 3]
