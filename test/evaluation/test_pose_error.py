"""Pose errors with answers known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.evaluation.pose_error import (
    add_error,
    adds_error,
    error_auc,
    mspd_error,
    mssd_error,
    projection_error,
    rotation_translation_error,
)
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

CAMERA = Camera(500, 500, 319.5, 239.5, 640, 480)
HALF_TURN = se3.exp([[0, 0, 0, 0, 0, np.pi]])
T_TRUE = se3.exp([0.05, -0.02, 1.0, 0.4, -0.3, 0.2])
RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(500, 3)) * 0.03
# Looks the same after half a turn about z.
SYMMETRIC = np.concatenate([CLOUD, CLOUD * [-1, -1, 1]])


def test_a_shift_is_its_own_add() -> None:
    moved = se3.exp([0.003, 0, 0.004, 0, 0, 0]) @ T_TRUE
    assert add_error(moved, T_TRUE, CLOUD) == pytest.approx(0.005)
    assert mssd_error(moved, T_TRUE, CLOUD) == pytest.approx(0.005)
    rotation, translation = rotation_translation_error(moved, T_TRUE)
    assert rotation == pytest.approx(0, abs=1e-7)
    assert translation == pytest.approx(0.005)


def test_a_turn_moves_points_by_the_chord() -> None:
    turned = T_TRUE @ se3.exp([0, 0, 0, 0, 0, 0.5])
    ring = np.array([[0.1, 0, 0], [0, 0.1, 0.3], [-0.1, 0, -0.2]])
    chord = 2 * 0.1 * np.sin(0.25)
    assert add_error(turned, T_TRUE, ring) == pytest.approx(chord)
    assert mssd_error(turned, T_TRUE, ring) == pytest.approx(chord)
    assert rotation_translation_error(turned, T_TRUE)[0] == pytest.approx(0.5)


def test_adds_is_the_distance_to_the_nearest_point() -> None:
    line = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]])
    moved = T_TRUE @ se3.exp([0.1, 0, 0, 0, 0, 0])
    # Two of the three true points lie on an estimated one, the first is 0.1 from its nearest.
    assert adds_error(moved, T_TRUE, line) == pytest.approx(0.1 / 3)


def test_half_a_turn_of_a_symmetric_object_is_no_error() -> None:
    turned = T_TRUE @ HALF_TURN[0]
    assert add_error(turned, T_TRUE, SYMMETRIC) > 0.02
    assert adds_error(turned, T_TRUE, SYMMETRIC) == pytest.approx(0, abs=1e-9)
    for value in (
        mssd_error(turned, T_TRUE, SYMMETRIC, HALF_TURN),
        mspd_error(turned, T_TRUE, SYMMETRIC, CAMERA, HALF_TURN),
        projection_error(turned, T_TRUE, SYMMETRIC, CAMERA, HALF_TURN),
        *rotation_translation_error(turned, T_TRUE, HALF_TURN),
    ):
        assert value == pytest.approx(0, abs=1e-7)
    assert mssd_error(turned, T_TRUE, SYMMETRIC) > 0.02
    assert rotation_translation_error(turned, T_TRUE)[0] == pytest.approx(np.pi)


def test_a_symmetry_about_an_axis_off_the_origin_moves_the_translation() -> None:
    offset = np.eye(4)
    offset[:3, 3] = [0.1, 0, 0]
    symmetry = (offset @ HALF_TURN[0] @ se3.inverse(offset))[None]
    turned = T_TRUE @ symmetry[0]
    assert np.linalg.norm(turned[:3, 3] - T_TRUE[:3, 3]) == pytest.approx(0.2)
    rotation, translation = rotation_translation_error(turned, T_TRUE, symmetry)
    assert rotation == pytest.approx(0, abs=1e-7)
    assert translation == pytest.approx(0, abs=1e-9)


def test_pixels_of_a_sideways_shift() -> None:
    T = se3.exp([0, 0, 2.0, 0, 0, 0])
    moved = se3.exp([0.01, 0, 0, 0, 0, 0]) @ T
    flat = np.array([[0.0, 0, 0], [0.1, 0.1, 0], [-0.1, 0.05, 0]])
    assert projection_error(moved, T, flat, CAMERA) == pytest.approx(500 * 0.01 / 2)
    assert mspd_error(moved, T, flat, CAMERA) == pytest.approx(500 * 0.01 / 2)
    deep = np.array([[0.0, 0, 0], [0, 0, -1.0]])  # the nearer point moves twice as far
    assert projection_error(moved, T, deep, CAMERA) == pytest.approx((2.5 + 5) / 2)
    assert mspd_error(moved, T, deep, CAMERA) == pytest.approx(5)


def test_an_estimate_behind_the_camera_is_infinitely_wrong_in_pixels() -> None:
    behind = se3.exp([0, 0, -1.0, 0, 0, 0])
    assert projection_error(behind, T_TRUE, CLOUD, CAMERA) == np.inf
    assert mspd_error(behind, T_TRUE, CLOUD, CAMERA) == np.inf


def test_area_under_the_accuracy_curve() -> None:
    assert error_auc([0.0, 0.0]) == 1.0
    assert error_auc([0.05]) == pytest.approx(0.5)
    assert error_auc([0.0, 0.05, 0.2, np.inf]) == pytest.approx(1.5 / 4)
    assert np.isnan(error_auc([]))
    # The integral that it is: the share of errors below each threshold, over the thresholds.
    errors = RNG.random(50) * 0.15
    thresholds = np.linspace(0, 0.1, 20_001)
    numeric = np.mean([(errors < t).mean() for t in thresholds])
    assert error_auc(errors) == pytest.approx(numeric, abs=1e-3)


@given(st.lists(st.floats(-0.5, 0.5), min_size=6, max_size=6))
def test_errors_do_not_depend_on_the_camera_frame_and_order(xi: list[float]) -> None:
    estimate = T_TRUE @ se3.exp(xi)
    world = se3.exp([0.3, -0.2, 0.5, 1.0, 0.4, -0.8])
    add = add_error(estimate, T_TRUE, CLOUD)
    adds = adds_error(estimate, T_TRUE, CLOUD)
    mssd = mssd_error(estimate, T_TRUE, CLOUD)
    assert adds <= add + 1e-12
    assert add <= mssd + 1e-12
    assert add_error(world @ estimate, world @ T_TRUE, CLOUD) == pytest.approx(add, abs=1e-9)
    assert add_error(T_TRUE, estimate, CLOUD) == pytest.approx(add, abs=1e-9)
    assert mssd_error(estimate, T_TRUE, CLOUD, HALF_TURN) <= mssd + 1e-12
