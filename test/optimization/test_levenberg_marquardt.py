"""The solver on a problem that is solved in one line: points that should meet."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.geometry import se3
from gs_pose_ros.optimization.levenberg_marquardt import (
    NormalEquations,
    center_in,
    linearize,
    move_about,
    problem,
)
from gs_pose_ros.optimization.levenberg_marquardt import minimize as cached_minimize

# Without a cache: in that of the package every program would look for the types of this test.
minimize = numba.njit(nogil=True, error_model='numpy')(cached_minimize.py_func)


class Room(NamedTuple):
    """What `minimize` reads of the arrays for drawing."""

    pairs: NDArray[np.int32]  # [1, P]


class Drawing(NamedTuple):
    work: Room


@numba.njit
def linearize_points(p, T, gain, H, gradients):
    """Squared distances of points to where they should be; counts its calls in `gain`."""
    gain[0] += 1
    if p.needed > p.drawing.work.pairs.shape[1]:
        return 0.0, 0, p.needed
    H[:] = 0
    gradients[:] = 0
    cost = 0.0
    center = center_in(p, T)
    for i in range(len(p.points)):
        x = (T[:3, :3] * p.points[i]).sum(1) + T[:3, 3]
        r, o = x - p.goals[i], x - center
        J = np.zeros((3, 6))
        for k in range(3):
            J[k, k] = 1
        J[0, 4], J[0, 5] = o[2], -o[1]
        J[1, 3], J[1, 5] = -o[2], o[0]
        J[2, 3], J[2, 4] = o[1], -o[0]
        H += J.T @ J
        gradients[0, 0] += J.T @ r
        cost += (r * r).sum()
    return cost / len(p.points), len(p.points), p.needed


@problem(linearize_points)
class Points(NamedTuple):
    points: NDArray[np.float64]  # [N, 3]
    goals: NDArray[np.float64]  # [N, 3]
    center: NDArray[np.float64]  # [3]
    size_m: float
    needed: int
    drawing: Drawing


class Unknown(NamedTuple):
    """Of the same fields, never registered."""

    points: NDArray[np.float64]
    goals: NDArray[np.float64]
    center: NDArray[np.float64]
    size_m: float
    needed: int
    drawing: Drawing


GOAL = se3.exp([0.3, -0.2, 0.5, 0.4, -0.3, 0.6])


def points_problem(needed: int = 0, kind: type = Points):
    points = np.random.default_rng(0).normal((0.5, 0, 3), size=(20, 3))
    drawing = Drawing(Room(np.zeros((1, 8), np.int32)))
    return kind(points, se3.transform(GOAL, points), points.mean(0), 2.0, needed, drawing)


def solved(p, iterations: int = 20, convergence: float = 1e-9):
    T, gain = np.eye(4), np.zeros(2)
    H, gradients = np.empty((6, 6)), np.empty((2, 2, 6))
    result = minimize(p, T, gain, iterations, convergence, H, gradients)
    return T, result, H, gradients, gain


def test_a_registered_kind_of_problem_is_solved() -> None:
    T, (used, cost, support, _), H, gradients, _ = solved(points_problem())
    np.testing.assert_allclose(T, GOAL, atol=1e-8)
    assert cost < 1e-15
    assert support == 20
    assert 2 < used < 20
    # The last linearisation is the one at the answer.
    assert np.abs(gradients).max() < 1e-6
    assert np.linalg.eigvalsh(H).min() > 1


def test_no_more_steps_are_taken_than_allowed() -> None:
    for iterations in (0, 1, 2):
        T, (used, cost, _, _), _, _, calls = solved(points_problem(), iterations)
        assert used == iterations
        assert np.allclose(T, np.eye(4)) == (iterations == 0)
        assert cost > 1e-6
    assert calls[0] == 3  # at the start and after each step


def test_a_step_is_no_longer_than_the_linearisation_holds() -> None:
    T, *_ = solved(points_problem()._replace(size_m=0.01), 1)
    p = points_problem()
    moved = np.linalg.norm(se3.transform(T, p.center[None])[0] - p.center)
    assert 0 < moved <= 0.25 * 0.01 + 1e-9


def test_without_room_nothing_is_moved_and_the_need_is_told() -> None:
    T, (used, _, _, needed), *_ = solved(points_problem(needed=9))
    np.testing.assert_array_equal(T, np.eye(4))
    assert (used, needed) == (0, 9)


def test_another_kind_with_the_same_fields_is_not_taken_for_it() -> None:
    with pytest.raises(numba.TypingError):
        solved(points_problem(kind=Unknown))


def test_uncompiled_there_is_no_linearize() -> None:
    with pytest.raises(NotImplementedError):
        linearize(points_problem(), np.eye(4), np.zeros(2), np.empty((6, 6)), np.empty((2, 2, 6)))


def test_move_about_turns_about_the_centre() -> None:
    T, center = se3.exp([1, 2, 3, 0.3, 0.2, 0.1]), np.array([0.5, -1.0, 2.0])
    xi = np.array([0.1, 0.2, 0.3, 0.4, -0.5, 0.6])
    moved = move_about(T, center, xi)
    at = se3.transform(se3.inverse(T), center[None])
    np.testing.assert_allclose(se3.transform(moved, at)[0], center + xi[:3])
    np.testing.assert_allclose(moved[:3, :3], se3.exp([0, 0, 0, *xi[3:]])[:3, :3] @ T[:3, :3])


def test_the_covariance_is_about_the_camera() -> None:
    # One direction known well, rotation about x, 2 m ahead: turning the camera by it also shifts.
    H = np.diag([1e6, 1e6, 1e6, 1e2, 1e6, 1e6])
    gradients = np.zeros((2, 1, 6))
    gradients[0, 0, 3], gradients[1, 0, 3] = 1, -1
    covariance = NormalEquations(np.array([0, 0, 2.0]), H, gradients, 0.0).covariance()
    variance = 2 / 1e2**2
    assert covariance[3, 3] == pytest.approx(variance)
    # x -> x + w x (p - c): at the origin -w x c = (0, 2 w, 0).
    assert covariance[1, 1] == pytest.approx(4 * variance)
    assert covariance[1, 3] == pytest.approx(2 * variance)
    assert np.count_nonzero(np.abs(covariance) > 1e-12) == 4
