"""Tukey's biweight: its weight is the slope of its cost, in double and in single precision."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from gs_pose_ros.optimization.robust import outlier_cost, tukey


@numba.njit
def compiled(r, cut):
    return tukey(r, cut)


@pytest.mark.parametrize('r', np.array([-5.0, -2.0, -0.3, 0.7, 3.9, 4.5]))
def test_the_weight_is_the_slope_of_the_cost(r: np.float64) -> None:
    root, cost = tukey(r, 4.0)
    slope = (tukey(r + 1e-5, 4.0)[1] - tukey(r - 1e-5, 4.0)[1]) / 2e-5
    assert root**2 * r == pytest.approx(slope, abs=1e-6)
    assert 0 < cost <= outlier_cost(4.0)


def test_an_exact_pixel_costs_nothing_and_one_far_off_does_not_pull() -> None:
    assert tukey(0.0, 4.0) == (1.0, 0.0)
    assert tukey(4.0, 4.0) == (0.0, outlier_cost(4.0))
    assert tukey(1e6, 4.0) == (0.0, outlier_cost(4.0))
    assert outlier_cost(np.float64(4)) == pytest.approx(16 / 6)


def test_a_kernel_of_single_precision_stays_one() -> None:
    single = compiled(np.float32(1.3), np.float32(4))
    double = compiled(np.float64(1.3), np.float64(4))
    assert single == pytest.approx(double, rel=1e-6)
    rounded_single, rounded_double = (np.float32(pair).astype(float) for pair in (single, double))
    assert (rounded_single == single).all()
    assert (rounded_double != double).all()
