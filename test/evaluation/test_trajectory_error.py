"""Errors of trajectories against answers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.evaluation.trajectory_error import ate_rmse, frame_errors, relative_error
from gs_pose_ros.geometry import se3


def _curve(count: int = 20) -> np.ndarray:
    """A camera on a helix that turns on its way [N, 4, 4]."""
    t = np.linspace(0, 3, count)
    out = np.stack([se3.exp([0, 0, 0, 0.1 * a, 0.5 * a, -0.2 * a]) for a in t])
    out[:, :3, 3] = np.stack([np.cos(t), np.sin(t), 0.3 * t], 1)
    return out


def _line(count: int = 10) -> np.ndarray:
    out = np.tile(np.eye(4), (count, 1, 1))
    out[:, 0, 3] = np.arange(count)
    return out


ALL = np.ones(20, bool)


def test_the_truth_has_no_error() -> None:
    true = _curve()
    assert ate_rmse(true, true, ALL) == 0
    assert ate_rmse(true, true, ALL, align=True) == pytest.approx(0, abs=1e-12)
    assert relative_error(true, true, ALL) == pytest.approx((19, 0, 0, 0, 0), abs=1e-7)
    distance, angle = frame_errors(true, true, ALL)
    assert not distance.any() and not angle.any()


def test_a_moved_map_is_an_error_until_it_is_aligned() -> None:
    true = _curve()
    moved = se3.exp([0.3, 0, 0.4, 0, 0, 0]) @ true
    assert ate_rmse(moved, true, ALL) == pytest.approx(0.5)
    turned = se3.exp([0.3, 0, 0.4, 0.2, 0.1, -0.3]) @ true
    assert ate_rmse(turned, true, ALL) > 0.1
    assert ate_rmse(turned, true, ALL, align=True) == pytest.approx(0, abs=1e-9)
    # What is between two frames does not see the frame of the map.
    assert relative_error(turned, true, ALL)[1:] == pytest.approx((0, 0, 0, 0), abs=1e-7)


def test_the_root_of_the_mean_square_is_taken() -> None:
    true = _line(4)
    estimated = true.copy()
    estimated[:, 1, 3] = (0, 0, 3, 4)
    assert ate_rmse(estimated, true, np.ones(4, bool)) == pytest.approx(2.5)


def test_without_a_unique_alignment_there_is_none() -> None:
    true = _line()
    estimated = se3.exp([0, 0.2, 0, 0, 0, 0]) @ true
    every = np.ones(len(true), bool)
    assert ate_rmse(estimated, true, every, align=True) == pytest.approx(0.2)
    two = np.arange(len(true)) < 2
    curved = _curve(10)
    assert ate_rmse(
        se3.exp([0, 0.2, 0, 0, 0, 0]) @ curved, curved, two, align=True
    ) == pytest.approx(0.2)


def test_drift_a_frame_is_what_the_relative_error_says() -> None:
    true = _line()
    step = se3.exp([1.01, 0, 0, 0, 0, 0.02])
    estimated = np.stack([np.linalg.matrix_power(step, k) for k in range(10)])
    every = np.ones(10, bool)
    # The motion of a step is (1, 0, 0); the drift is what is left of its inverse times `step`.
    drift = np.linalg.norm(step[:3, 3] - [1, 0, 0])
    expected = (9, drift, drift, 0.02, 0.02)
    assert relative_error(estimated, true, every) == pytest.approx(expected)
    three = relative_error(estimated, true, every, step=3)
    assert three.pairs == 7
    assert three.median_rad == pytest.approx(0.06)


def test_frame_errors_are_metres_and_radians() -> None:
    true = _curve()
    estimated = true @ se3.exp([0, 0, 0, 0.3, 0, 0])
    estimated[:, 2, 3] += 0.07
    distance, angle = frame_errors(estimated, true, ALL)
    assert distance == pytest.approx(np.full(20, 0.07))
    assert angle == pytest.approx(np.full(20, 0.3))


def test_frames_without_an_estimate_do_not_count() -> None:
    true = _curve()
    estimated, known = true.copy(), ALL.copy()
    estimated[[3, 9]], known[[3, 9]] = np.nan, False
    distance, angle = frame_errors(estimated, true, known)
    assert np.isnan(distance[[3, 9]]).all() and np.isnan(angle[[3, 9]]).all()
    assert np.nanmax(distance) == 0
    assert ate_rmse(estimated, true, known) == 0
    assert relative_error(estimated, true, known).pairs == 15  # of 19, four have a gap at an end


def test_figures_of_nothing_are_nan_and_wrong_shapes_are_refused() -> None:
    true = _curve()
    none = np.zeros(20, bool)
    assert np.isnan(ate_rmse(true, true, none, align=True))
    assert relative_error(true, true, none).pairs == 0
    assert relative_error(true[:1], true[:1], ALL[:1]).pairs == 0
    with pytest.raises(ValueError, match='are needed'):
        ate_rmse(true[:5], true, ALL)
    with pytest.raises(ValueError, match='step'):
        relative_error(true, true, ALL, step=0)
