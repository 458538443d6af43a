"""Anderson's step: it sums up steps that shrink by one share, and leaves others as they are."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.optimization.anderson import accelerated

RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(6, 6))
H = ROOT @ ROOT.T
FIRST = RNG.normal(size=6)
NOTHING = np.zeros(6)


@pytest.mark.parametrize('share', [0.1, 0.5, 0.75])
def test_steps_that_shrink_by_one_share_are_summed_up(share: float) -> None:
    all_to_come = sum(FIRST * share**k for k in range(1, 200))
    np.testing.assert_allclose(accelerated(share * FIRST, FIRST, FIRST, H), all_to_come)


def test_slower_steps_are_summed_up_as_if_they_shrank_to_three_quarters() -> None:
    step = 0.99 * FIRST
    taken = accelerated(step, FIRST, FIRST, H)
    np.testing.assert_allclose(taken, step + 3 * (FIRST + step - FIRST))


def test_a_first_step_and_one_that_turns_round_are_taken_as_they_are() -> None:
    np.testing.assert_array_equal(accelerated(FIRST, NOTHING, NOTHING, H), FIRST)
    np.testing.assert_array_equal(accelerated(-0.4 * FIRST, FIRST, FIRST, H), -0.4 * FIRST)
    np.testing.assert_array_equal(accelerated(NOTHING, NOTHING, NOTHING, H), NOTHING)


def test_a_linear_iteration_of_one_direction_ends_where_it_stands_still() -> None:
    # x -> x + 0.3 (goal - x): the second step is the last, however far the first one went.
    goal, x = RNG.normal(size=(2, 6))
    moved = 0.8 * (goal - x)
    before, step = 0.3 * (goal - x), 0.3 * (goal - x - moved)
    np.testing.assert_allclose(x + moved + accelerated(step, before, moved, H), goal)


def test_it_is_shortest_in_the_metric_of_the_cost() -> None:
    step, before = FIRST, FIRST + 0.5 * RNG.normal(size=6)
    before = before + 2 * FIRST  # theta within its limits
    theta = np.linspace(-3, 0, 3001)
    rest = step - theta[:, None] * (step - before)
    best = theta[np.argmin(np.einsum('ki,ij,kj->k', rest, H, rest))]
    taken = accelerated(step, before, before, H)
    np.testing.assert_allclose(taken, step - best * step, atol=2e-3 * np.abs(step).max())
