"""The line through pairs of values: exact where they say enough, pulled to 1 where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.optimization.gain import NO_SUMS, add_pair, gain_and_offset

RNG = np.random.default_rng(0)
OTHERWISE = (1.7, -0.2)


def fitted(x: np.ndarray, y: np.ndarray, w: np.ndarray, prior: float = 0.0) -> tuple[float, float]:
    sums = NO_SUMS
    for pair in zip(x, y, w, strict=True):
        sums = add_pair(sums, *pair)
    return gain_and_offset(sums, prior, 0.4, 2.0, OTHERWISE)


def test_without_a_prior_it_is_weighted_least_squares() -> None:
    x, w = RNG.uniform(size=(2, 50))
    y = 0.8 * x + 0.1 + RNG.normal(0, 0.05, 50)
    np.testing.assert_allclose(fitted(x, y, w), np.polyfit(x, y, 1, w=np.sqrt(w)), rtol=1e-9)


def test_values_that_are_all_the_same_have_a_gain_of_one() -> None:
    same = np.full(20, 0.4)
    assert fitted(same, same + 0.1, np.ones(20), 1e-3) == pytest.approx((1.0, 0.1))


def test_the_gain_keeps_its_limits_and_the_line_its_middle() -> None:
    x = np.linspace(0, 1, 20)
    assert fitted(x, 5 * x, np.ones(20)) == pytest.approx((2.0, 1.5))
    assert fitted(x, -x, np.ones(20)) == pytest.approx((0.4, -0.7))


def test_of_too_few_pairs_nothing_is_said() -> None:
    x = np.linspace(0, 1, 9)
    assert fitted(x, x, np.ones(9)) == OTHERWISE
    assert fitted(x, x, np.full(9, 2.0)) != OTHERWISE
