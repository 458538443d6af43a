"""An object in a window of the image, as a problem that Levenberg-Marquardt solves."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.optimization.drawing import Drawing, draw_at, room
from gs_pose_ros.optimization.levenberg_marquardt import center_in, problem
from gs_pose_ros.pose.refinement.light import fit_gain, remove_shading
from gs_pose_ros.pose.refinement.residuals import normal_equations

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}


@numba.njit(**_kernel)
def linearize_object(p, T, gain, H, gradients):
    """`linearize` for an object."""
    needed, image = draw_at(p.drawing, T), p.drawing.image
    if needed > room(p.drawing):
        return 0.0, 0, needed
    depth_cut = p.cut * p.sigma_depth
    seen = p.color
    if p.shading_px > 0:
        seen = p.seen
        seen[:] = p.color
        remove_shading(image, seen, p.depth, p.shading_px, depth_cut)
    if p.exposure:
        gain[:] = fit_gain(image, seen, p.depth, depth_cut, gain)
    center = center_in(p, T)
    noise = p.noise_m + p.noise_per_m2 * center[2] ** 2
    sigmas = np.array([p.sigma_color, np.hypot(p.sigma_depth, noise), p.sigma_silhouette])
    H[:] = 0
    gradients[:] = 0
    cost, support = normal_equations(
        image, seen, p.depth, p.mask, p.drawing.K, center, gain, sigmas, p.cut, H, gradients
    )
    return cost, support, needed


@problem(linearize_object)
class ObjectProblem(NamedTuple):
    """One object in one window of S x S pixels; arrays as `normal_equations` takes them.

    `drawing` and `seen` are written to: a problem belongs to one thread.
    """

    drawing: Drawing
    color: NDArray[np.float32]  # [S, S, 3]
    depth: NDArray[np.float32]  # [S, S]
    mask: NDArray[np.float32]  # [S, S]
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
    seen: NDArray[np.float32]  # [S, S, 3] the colours that are compared, without shading
