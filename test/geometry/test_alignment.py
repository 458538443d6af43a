"""Alignment with known answers, and refusals where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.alignment import solve_pnp, umeyama
from gs_pose_ros.geometry.camera import Camera

CAMERA = Camera(520.0, 510.0, 311.3, 244.9, 640, 480)
POINTS = np.random.default_rng(0).uniform(-0.1, 0.1, (60, 3))
tangents = st.lists(st.floats(-3, 3), min_size=6, max_size=6)


@given(tangents, st.floats(0.1, 10))
def test_umeyama_recovers_motion_and_scale(xi, scale: float) -> None:
    T = se3.exp(xi)
    target = se3.transform(T, scale * POINTS)
    T_found, scale_found = umeyama(POINTS, target, with_scale=True)
    np.testing.assert_allclose(T_found, T, atol=1e-6)
    assert scale_found == pytest.approx(scale)
    T_found, scale_found = umeyama(POINTS, se3.transform(T, POINTS))
    np.testing.assert_allclose(T_found, T, atol=1e-6)
    assert scale_found == 1.0


def test_umeyama_returns_a_rotation_for_mirrored_and_flat_points() -> None:
    T, _ = umeyama(POINTS, POINTS * [1, 1, -1])
    assert se3.is_rigid(T)
    flat = POINTS * [1, 1, 0]
    T_true = se3.exp([0.1, 0.2, 0.3, 1.0, -0.5, 0.2])
    np.testing.assert_allclose(umeyama(flat, se3.transform(T_true, flat))[0], T_true, atol=1e-9)


def test_umeyama_is_the_least_squares_optimum() -> None:
    rng = np.random.default_rng(1)
    target = se3.transform(se3.exp([0.1, 0, 0.3, 0.5, 0.2, 0.1]), 1.5 * POINTS)
    target += 0.01 * rng.normal(size=target.shape)
    T, scale = umeyama(POINTS, target, with_scale=True)

    def cost(T: np.ndarray, scale: float) -> float:
        return float(((target - se3.transform(T, scale * POINTS)) ** 2).sum())

    best = cost(T, scale)
    for _ in range(50):
        nearby = se3.exp(1e-3 * rng.normal(size=6)) @ T
        assert cost(nearby, scale) > best
        assert cost(T, scale * (1 + 1e-3 * rng.normal())) > best


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        (POINTS[:2], 'two equal point sets'),
        (POINTS[:, :2], 'two equal point sets'),
        (np.full((5, 3), np.nan), 'NaN'),
        (np.outer(np.arange(5.0), [1, 2, 3]), 'one line'),
        (np.ones((5, 3)), 'one line'),
    ],
)
def test_umeyama_refuses_what_has_no_answer(source, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        umeyama(source, source)
    with pytest.raises(ValueError, match='two equal'):
        umeyama(POINTS, POINTS[:10])


poses = st.builds(
    lambda w, x, y, z: se3.from_rotation_translation(
        se3.exp([0, 0, 0, *w])[:3, :3], [x * z, y * z, z]
    ),
    st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3),
    st.floats(-0.2, 0.2),
    st.floats(-0.2, 0.2),
    st.floats(0.4, 1.5),
)


@given(poses)
def test_exact_matches_give_the_pose(T) -> None:
    result = solve_pnp(POINTS, CAMERA.project(se3.transform(T, POINTS)), CAMERA)
    assert result is not None
    np.testing.assert_allclose(result.T_cam_obj, T, atol=1e-4)
    assert result.inliers.all()
    assert result.rms_px < 0.01


@pytest.mark.parametrize('seed', range(5))
def test_half_of_the_matches_may_be_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    T = se3.exp([0.05, -0.03, 0.7, *rng.uniform(-1, 1, 3)])
    uv = CAMERA.project(se3.transform(T, POINTS)) + 0.3 * rng.normal(size=(60, 2))
    wrong = rng.permutation(60)[:30]
    uv[wrong] = rng.uniform([0, 0], [640, 480], (30, 2))
    result = solve_pnp(POINTS, uv, CAMERA)
    assert result is not None
    assert np.degrees(se3.rotation_angle(result.T_cam_obj[:3, :3], T[:3, :3])) < 0.6
    assert np.linalg.norm(result.T_cam_obj[:3, 3] - T[:3, 3]) < 0.004
    right = np.ones(60, bool)
    right[wrong] = False
    assert (result.inliers[right]).all()
    assert result.inliers[wrong].sum() <= 2
    again = solve_pnp(POINTS, uv, CAMERA)
    assert again is not None
    np.testing.assert_array_equal(again.T_cam_obj, result.T_cam_obj)


@given(poses)
def test_points_on_a_plane_give_the_pose(T) -> None:
    flat = POINTS * [1, 1, 0]
    if abs(T[:3, 2] @ T[:3, 3]) < 0.3 * np.linalg.norm(T[:3, 3]):
        return  # seen from the edge, the plane says little about its tilt
    rng = np.random.default_rng(0)
    uv = CAMERA.project(se3.transform(T, flat)) + 0.01 * rng.normal(size=(60, 2))
    result = solve_pnp(flat, uv, CAMERA)
    assert result is not None
    assert np.degrees(se3.rotation_angle(result.T_cam_obj[:3, :3], T[:3, :3])) < 1.0


def test_nonsense_gives_none() -> None:
    rng = np.random.default_rng(0)
    uv = rng.uniform([0, 0], [640, 480], (60, 2))
    assert solve_pnp(POINTS, uv, CAMERA, threshold_px=1.0) is None
    assert solve_pnp(POINTS[:5], uv[:5], CAMERA) is None
    line = np.outer(np.linspace(0, 0.1, 20), [1, 0, 0])
    in_camera = se3.transform(se3.exp([0, 0, 1.0, 0, 0, 0]), line)
    result = solve_pnp(line, CAMERA.project(in_camera), CAMERA)
    assert result is None or se3.is_rigid(result.T_cam_obj)
    with pytest.raises(ValueError, match='are needed'):
        solve_pnp(POINTS, uv[:10], CAMERA)
