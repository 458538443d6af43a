"""Levenberg-Marquardt over a pose as one kernel: render, compare, solve, step.

The one solver of the project: for an object in a window of the image (`object_problem`) and for
the camera in a map (`localization.scene_problem`). A step takes half a millisecond. In Python the
calls between its parts took as long, under the lock of the interpreter, so that hypotheses did not
gain from a second core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import config as numba_config
from numba.extending import overload
from numpy.typing import NDArray

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.optimization.drawing import room

_BLOCKS = 8  # across a picture: residuals further apart than this are independent
_kernel_options: Any = {'nogil': True, 'error_model': 'numpy'}
_kernel = {'cache': True, **_kernel_options}


_linearized: dict[type, Callable[..., Any]] = {}  # by kind of problem


def linearize(p, T, gain, H, gradients) -> tuple[float, int, int]:
    """Compare a rendering at T [4, 4] with what was seen; made for each kind of problem p.

    Fills H [6, 6] and `gradients` [n, n, 6] (of the cost, by block of the picture) and brings
    `gain` up to date. The tangent is (translation, rotation about p.center). Returns the cost, the
    number of pixels that constrain the pose, and the list entries that drawing takes: if there are
    more than p.drawing has room for, nothing else has been done.
    """
    if numba_config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
        return _linearized[type(p)](p, T, gain, H, gradients)
    raise NotImplementedError


def problem(linearized: Callable[..., Any]) -> Callable[[type], type]:
    """Decorate the NamedTuple of a kind of problem with its compiled `linearize`.

    Its fields have to include those that `minimize` reads: `drawing` (a `Drawing`), `center` [3]
    (m, frame of what is drawn) and `size_m`.
    """

    def register(kind: type) -> type:
        # Numba compares the arguments of the two: without types, as kernels have none.
        def choose(p, T, gain, H, gradients):
            def compiled(p, T, gain, H, gradients):
                return linearized(p, T, gain, H, gradients)

            is_kind = isinstance(p, numba.types.NamedTuple) and p.instance_class is kind
            return compiled if is_kind else None

        overload(linearize, jit_options=_kernel_options)(choose)
        _linearized[kind] = linearized
        return kind

    return register


@numba.njit(inline='always', **_kernel_options)
def center_in(p, T):
    """Where the centre of what is drawn is at T [4, 4]."""
    return (T[:3, :3] * p.center).sum(1) + T[:3, 3]


@numba.njit(**_kernel)
def _step(H, gradients, damping, size_m):
    """The damped step xi [6], no longer than the linearisation holds."""
    A = H.copy()
    for i in range(6):
        A[i, i] += damping * H[i, i] + 1e-9
    b = np.zeros(6)
    for i in range(gradients.shape[0]):
        for j in range(gradients.shape[1]):
            b -= gradients[i, j]
    xi = np.linalg.solve(A, b)
    # A quarter of the size, half a radian.
    far = np.sqrt((xi[:3] ** 2).sum()) / (0.25 * size_m)
    turned = np.sqrt((xi[3:] ** 2).sum()) / 0.5
    return xi / max(far, turned, 1.0)


@numba.njit(**_kernel)
def reach(xi, size_m):
    """How far a step xi [6] moves what is drawn, in its sizes."""
    turned = np.sqrt((xi[3:] ** 2).sum()) * size_m / 2
    return max(np.sqrt((xi[:3] ** 2).sum()), turned) / size_m


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
    """Move T [4, 4] downhill, in place, until steps are shorter than `convergence` sizes.

    Returns what `linearize` does at T, whose `H`, `gradients` and `gain` are left there, and
    before it the iterations.
    """
    cost, support, needed = linearize(p, T, gain, H, gradients)
    if needed > room(p.drawing):
        return 0, cost, support, needed
    damping, used = 1e-3, 0
    other_H, other_gradients = np.empty_like(H), np.empty_like(gradients)
    while used < iterations:
        used += 1
        if support == 0:
            break
        xi = _step(H, gradients, damping, p.size_m)
        candidate, other_gain = move_about(T, center_in(p, T), xi), gain.copy()
        other, other_support, needed = linearize(
            p, candidate, other_gain, other_H, other_gradients
        )
        if needed > room(p.drawing):
            break
        if other < cost:
            cost, support = other, other_support
            T[:], gain[:], H[:], gradients[:] = candidate, other_gain, other_H, other_gradients
            damping = max(damping * 0.2, 1e-6)
            if reach(xi, p.size_m) < convergence:
                break
        else:
            damping *= 10
            if damping > 1e3:
                break
    return used, cost, support, needed


@dataclass(frozen=True)
class NormalEquations:
    """H xi = -g of one linearisation, with g the sum of all `gradients`."""

    center: NDArray[np.float64]  # [3] m, camera frame, that the tangent turns about
    H: NDArray[np.float64]  # [6, 6]
    gradients: NDArray[np.float64]  # [n, n, 6] of the cost, summed over blocks of the picture
    cost: float  # mean robust cost over the rendered pixels

    def step(self, size_m: float) -> NDArray[np.float64]:
        """Where Gauss-Newton goes from there, [6] about the centre; see `move_about`."""
        return _step(self.H, self.gradients, 0.0, size_m)

    def sigmas(self, step: NDArray[np.float64]) -> float:
        """The length of a step [6] about the centre in standard deviations of the pose.

        It is the Mahalanobis length by `covariance` without a bias.
        """
        pull = np.linalg.lstsq(self.gradients.reshape(-1, 6).T, self.H @ step, rcond=None)[0]
        return float(np.linalg.norm(pull))

    def covariance(self, bias: float = 0.0, pixels: int = 0) -> NDArray[np.float64]:
        """The covariance [6, 6] of the pose: left tangent (m, rad) in the camera frame.

        With g_k the gradient of block k of the picture it is the sandwich of Liang and Zeger
        (1986), with the blocks for clusters:

            H^-1 (sum_k g_k g_k^T) H^-1

        Residuals of one block may be correlated in any way, as those of a highlight are; those of
        different blocks are taken to be independent.

        The sandwich knows the residuals that are left. It does not know an error of the map, or
        of the splat, that the pose has followed, so that no residual is left. For this a term is
        added: all residuals of a block are wrong by the same unknown number, whose variance is
        `bias` (sigmas^2) and which is independent from block to block. `pixels` is the number of
        residuals. If Jacobians within a block are alike, which is the worst case, this is

            bias (pixels / blocks) H^-1
        """
        g = self.gradients.reshape(-1, 6)
        inverse = np.linalg.pinv(self.H, hermitian=True)
        to_camera = np.eye(6)  # from translation and rotation about the centre
        to_camera[:3, 3:] = se3.hat(self.center)
        root = to_camera @ inverse @ g.T
        hidden = bias * pixels / len(g)
        return root @ root.T + hidden * to_camera @ inverse @ to_camera.T


class Solution(NamedTuple):
    """What `solve` comes to."""

    T: NDArray[np.float64]  # [4, 4]
    iterations: int
    end: NormalEquations | None  # the last linearisation; None: nothing constrains the pose
    problem: Any  # as given, perhaps with more room, its arrays as the last drawing left them


def solve(
    p: Any,
    camera: Camera,
    T: NDArray[np.float64],
    gain: NDArray[np.float64],
    iterations: int,
    convergence: float,
) -> Solution:
    """`minimize` from T [4, 4] and a gain, with more room in p.drawing where drawing takes it.

    Where the room ends on the way, all begins anew: how much there was, which depends on what the
    thread has drawn before, must not show in the result.
    """
    start, neutral = T, gain
    H, gradients = np.empty((6, 6)), np.empty((_BLOCKS, _BLOCKS, 6))
    while True:
        T, gain = start.copy(), neutral.copy()
        used, cost, support, needed = minimize(p, T, gain, iterations, convergence, H, gradients)
        if needed <= room(p.drawing):
            break
        p = p._replace(drawing=p.drawing.with_room(camera, needed))
    if support == 0:
        return Solution(T, used, None, p)
    center = se3.transform(T, p.center[None])[0]
    return Solution(T, used, NormalEquations(center, H, gradients, cost), p)
