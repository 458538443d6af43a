"""Levenberg-Marquardt over a pose as one kernel: render, compare, solve, step.

A step takes half a millisecond. In Python the calls between its parts took as long, under the lock
of the interpreter, so that hypotheses did not gain from a second core.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.pose.residuals import fit_gain, normal_equations, remove_shading
from gs_pose_ros.rendering.numba_rasterizer import Work, draw

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}


class Problem(NamedTuple):
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
    diameter_m: float
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


@numba.njit(**_kernel)
def _center_in(p, T):
    return (T[:3, :3] * p.center).sum(1) + T[:3, 3]


@numba.njit(**_kernel)
def linearize(p, T, gain, H, gradients):
    """Render at T [4, 4]; fill H [6, 6] and `gradients` [n, n, 6], bring `gain` [6] up to date.

    The tangent is (translation, rotation about the object's centre). Returns the cost, the number
    of pixels that constrain the pose, and the list entries that drawing takes: if there are more
    than `work` has room for, nothing else has been done.
    """
    for i in range(3):
        for j in range(3):
            p.placed[0, 3 * i + j] = T[i, j]
        p.placed[0, 9 + i] = T[i, 3]
    needed = draw(p.prepared, p.sh, p.starts, p.placed, p.work, p.image)
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
    center = _center_in(p, T)
    noise = p.noise_m + p.noise_per_m2 * center[2] ** 2
    sigmas = np.array([p.sigma_color, np.hypot(p.sigma_depth, noise), p.sigma_silhouette])
    H[:] = 0
    gradients[:] = 0
    cost, support = normal_equations(
        p.image, seen, p.depth, p.mask, p.K, center, gain, sigmas, p.cut, H, gradients
    )
    return cost, support, needed


@numba.njit(**_kernel)
def _step(H, gradients, damping, diameter_m):
    """The damped step xi [6], no longer than the linearisation holds."""
    A = H.copy()
    for i in range(6):
        A[i, i] += damping * H[i, i] + 1e-9
    b = np.zeros(6)
    for i in range(gradients.shape[0]):
        for j in range(gradients.shape[1]):
            b -= gradients[i, j]
    xi = np.linalg.solve(A, b)
    # A quarter of the diameter, half a radian.
    far = np.sqrt((xi[:3] ** 2).sum()) / (0.25 * diameter_m)
    turned = np.sqrt((xi[3:] ** 2).sum()) / 0.5
    return xi / max(far, turned, 1.0)


@numba.njit(**_kernel)
def move_about(T, center, xi):
    """Turn T by the rotation of xi about `center` [3] (camera frame), shift by its translation."""
    w = xi[3:]
    angle = np.sqrt((w * w).sum())
    a, b = 1.0, 0.5
    if angle > 1e-6:
        a, b = np.sin(angle) / angle, (1 - np.cos(angle)) / angle**2
    hat = np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])
    R = np.eye(3) + a * hat + b * (hat @ hat)
    out = np.eye(4)
    out[:3, :3] = R @ np.ascontiguousarray(T[:3, :3])
    out[:3, 3] = R @ (T[:3, 3] - center) + center + xi[:3]
    return out


@numba.njit(**_kernel)
def minimize(p, T, gain, iterations, convergence, H, gradients):
    """Move T [4, 4] downhill, in place, until steps are shorter than `convergence` diameters.

    Returns what `linearize` does at T, whose `H`, `gradients` and `gain` are left there, and
    before it the iterations.
    """
    cost, support, needed = linearize(p, T, gain, H, gradients)
    if needed > p.work.pairs.shape[1]:
        return 0, cost, support, needed
    damping, used = 1e-3, 0
    other_H, other_gradients = np.empty_like(H), np.empty_like(gradients)
    while used < iterations:
        used += 1
        if support == 0:
            break
        xi = _step(H, gradients, damping, p.diameter_m)
        candidate, other_gain = move_about(T, _center_in(p, T), xi), gain.copy()
        other, other_support, needed = linearize(
            p, candidate, other_gain, other_H, other_gradients
        )
        if needed > p.work.pairs.shape[1]:
            break
        if other < cost:
            cost, support = other, other_support
            T[:], gain[:], H[:], gradients[:] = candidate, other_gain, other_H, other_gradients
            damping = max(damping * 0.2, 1e-6)
            turn = np.sqrt((xi[3:] ** 2).sum()) * p.diameter_m / 2
            if max(np.sqrt((xi[:3] ** 2).sum()), turn) < convergence * p.diameter_m:
                break
        else:
            damping *= 10
            if damping > 1e3:
                break
    return used, cost, support, needed
