"""SE(3): group axioms, exp and log over all angles, and the conventions of the package."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.geometry import se3

unit = st.floats(-1, 1)
vectors = st.lists(unit, min_size=3, max_size=3).map(np.array)
directions = vectors.filter(lambda v: np.linalg.norm(v) > 1e-3).map(
    lambda v: v / np.linalg.norm(v)
)
# Angles where formulas break: at zero, about the switch to the series, and close to pi.
angles = st.one_of(
    st.floats(0, np.pi - 1e-6),
    st.floats(0, 1e-3),
    st.sampled_from([0.0, 1e-12, 1e-8, 9.999e-5, 1e-4, 1.001e-4, 3.0, np.pi - 1e-3, np.pi - 1e-6]),
)
tangents = st.builds(lambda t, d, a: np.concatenate([2 * t, a * d]), vectors, directions, angles)
motions = tangents.map(se3.exp)


@given(motions, motions, motions)
def test_motions_form_a_group(A, B, C) -> None:
    assert se3.is_rigid(A, 1e-9)
    assert se3.is_rigid(A @ B, 1e-9)
    np.testing.assert_allclose((A @ B) @ C, A @ (B @ C), atol=1e-12)
    np.testing.assert_allclose(A @ se3.inverse(A), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(se3.inverse(A @ B), se3.inverse(B) @ se3.inverse(A), atol=1e-12)


@given(tangents)
def test_log_undoes_exp(xi) -> None:
    np.testing.assert_allclose(se3.log(se3.exp(xi)), xi, atol=1e-7)


@given(motions)
def test_exp_undoes_log(T) -> None:
    np.testing.assert_allclose(se3.exp(se3.log(T)), T, atol=1e-7)


@given(vectors, directions)
def test_half_turns_come_back_as_the_same_motion(t, axis) -> None:
    T = se3.exp(np.concatenate([t, np.pi * axis]))
    xi = se3.log(T)
    assert np.linalg.norm(xi[3:]) == pytest.approx(np.pi, abs=1e-7)
    np.testing.assert_allclose(se3.exp(xi), T, atol=1e-6)


@given(tangents, st.floats(-1, 1), st.floats(-1, 1))
def test_one_parameter_subgroups(xi, a: float, b: float) -> None:
    np.testing.assert_allclose(se3.exp(a * xi) @ se3.exp(b * xi), se3.exp((a + b) * xi), atol=1e-9)


@given(motions, tangents)
def test_the_adjoint_carries_a_tangent_to_the_other_side(T, xi) -> None:
    left = T @ se3.exp(xi) @ se3.inverse(T)
    np.testing.assert_allclose(left, se3.exp(se3.adjoint(T) @ xi), atol=1e-9)


@given(tangents)
def test_exp_is_the_matrix_exponential(xi) -> None:
    generator = np.zeros((4, 4))
    generator[:3, :3], generator[:3, 3] = se3.hat(xi[3:]), xi[:3]
    series, term = np.eye(4), np.eye(4)
    for k in range(1, 40):
        term = term @ generator / k
        series = series + term
    np.testing.assert_allclose(se3.exp(xi), series, atol=1e-9)


@given(motions, st.lists(unit, min_size=12, max_size=12))
def test_gradients_by_increments_equal_central_differences(T, weights) -> None:
    """Of any linear function of the entries of T, in both parametrisations."""
    v_T = np.zeros((4, 4))
    v_T[:3] = np.reshape(weights, (3, 4))
    for gradient, moved in (
        (se3.left_gradient, lambda xi: se3.exp(xi) @ T),
        (se3.right_gradient, lambda xi: T @ se3.exp(xi)),
    ):
        numeric = [np.sum(v_T * (moved(1e-5 * xi) - moved(-1e-5 * xi))) / 2e-5 for xi in np.eye(6)]
        np.testing.assert_allclose(gradient(v_T, T), numeric, atol=1e-7)


def test_the_tangent_is_translation_then_rotation() -> None:
    np.testing.assert_allclose(se3.exp([1, 2, 3, 0, 0, 0])[:3, 3], [1, 2, 3])
    quarter = se3.exp([0, 0, 0, 0, 0, np.pi / 2])
    np.testing.assert_allclose(quarter[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    with pytest.raises(ValueError, match='6 entries'):
        se3.exp([1, 2, 3])


@given(st.lists(tangents, min_size=6, max_size=6))
def test_leading_axes_broadcast(xis) -> None:
    batch = np.array(xis).reshape(2, 3, 6)
    T = se3.exp(batch)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(T[i, j], se3.exp(batch[i, j]), atol=1e-12)
            np.testing.assert_allclose(se3.log(T)[i, j], se3.log(T[i, j]), atol=1e-12)
            np.testing.assert_allclose(se3.inverse(T)[i, j], se3.inverse(T[i, j]), atol=1e-12)
            np.testing.assert_allclose(se3.adjoint(T)[i, j], se3.adjoint(T[i, j]), atol=1e-12)
    points = np.arange(12.0).reshape(4, 3)
    np.testing.assert_allclose(se3.transform(T, points)[1, 2], se3.transform(T[1, 2], points))


@given(motions)
def test_quaternions_are_wxyz_with_positive_w(T) -> None:
    q = se3.mat_to_quat(T[:3, :3])
    assert q[0] >= 0
    assert np.linalg.norm(q) == pytest.approx(1)
    np.testing.assert_allclose(se3.quat_to_mat(q), T[:3, :3], atol=1e-7)
    np.testing.assert_allclose(se3.quat_to_mat(-3 * q), T[:3, :3], atol=1e-7)


@given(directions, angles, motions)
def test_the_angle_between_rotations(axis, angle: float, T) -> None:
    turned = T @ se3.exp(np.concatenate([np.zeros(3), angle * axis]))
    assert se3.rotation_angle(turned[:3, :3], T[:3, :3]) == pytest.approx(angle, abs=1e-7)


@given(motions, st.lists(unit, min_size=9, max_size=9))
def test_the_nearest_rotation(T, noise) -> None:
    M = T[:3, :3] + 0.1 * np.array(noise).reshape(3, 3)
    R = se3.project_to_so3(M)
    assert se3.is_rigid(se3.from_rotation_translation(R, np.zeros(3)), 1e-9)
    assert np.linalg.norm(R - M) <= np.linalg.norm(T[:3, :3] - M) + 1e-9
    np.testing.assert_allclose(se3.project_to_so3(T[:3, :3]), T[:3, :3], atol=1e-9)


@pytest.mark.parametrize(
    'T',
    [
        np.eye(3),
        np.full((4, 4), np.nan),
        2 * np.eye(4),
        np.diag([1, 1, -1, 1]),
        np.ones((4, 4)),
        np.eye(4) + np.diag([0.1, 0, 0], -1),
    ],
)
def test_what_is_not_a_motion_is_told(T) -> None:
    assert not se3.is_rigid(T)


# --- Between two motions -----------------------------------------------------------------------


def test_an_interpolated_motion_begins_and_ends_at_the_two() -> None:
    a, b = se3.exp([1, 2, 3, 0.3, -0.2, 2.0]), se3.exp([-1, 0, 1, -0.4, 0.9, 0.1])
    np.testing.assert_allclose(se3.interpolate(a, b, 0), a, atol=1e-12)
    np.testing.assert_allclose(se3.interpolate(a, b, 1), b, atol=1e-12)
    np.testing.assert_allclose(se3.interpolate(a, a, 0.3), a, atol=1e-12)


@pytest.mark.parametrize('ratio', [-0.5, 0.25, 0.5, 0.9, 1.5])
def test_the_origin_goes_straight_and_the_rotation_evenly(ratio: float) -> None:
    a = se3.exp([1, 2, 3, 0.3, -0.2, 2.0])
    b = se3.from_rotation_translation(a[:3, :3] @ se3.exp([0, 0, 0, 0, 1.2, 0])[:3, :3], [3, 0, 1])
    got = se3.interpolate(a, b, ratio)
    np.testing.assert_allclose(got[:3, 3], a[:3, 3] + ratio * (b[:3, 3] - a[:3, 3]), atol=1e-12)
    expected = a[:3, :3] @ se3.exp([0, 0, 0, 0, 1.2 * ratio, 0])[:3, :3]
    np.testing.assert_allclose(got[:3, :3], expected, atol=1e-12)


def test_a_moved_world_moves_what_is_between() -> None:
    a, b = se3.exp([1, 2, 3, 0.3, -0.2, 2.0]), se3.exp([-1, 0, 1, -0.4, 0.9, 0.1])
    T = se3.exp([5, -3, 2, 1.0, 0.4, -0.7])
    np.testing.assert_allclose(
        se3.interpolate(T @ a, T @ b, 0.3), T @ se3.interpolate(a, b, 0.3), atol=1e-12
    )
