"""When the detector looks for which object, on a made-up clock."""

from __future__ import annotations

import pytest

from gs_pose_ros.nodes.search_plan import SearchPlan, SearchSettings

BOTH = ['cup', 'mug']
SETTINGS = SearchSettings(
    track_timeout_s=2.0,
    redetect_period_s=10.0,
    answer_s=1.0,
    recovery_s=3.0,
    recovery_effort=0.2,
)


@pytest.fixture
def plan() -> SearchPlan:
    """After the first, hurried look, and a thorough one."""
    plan = SearchPlan(SETTINGS)
    plan.next(BOTH, -1.0)
    plan.next(BOTH, 0.0)
    return plan


def track(plan: SearchPlan, until: float, *names: str) -> None:
    for tenth in range(round(10 * until) + 1):
        plan.answered(names, (), tenth / 10)


def test_the_first_look_is_a_hurried_one() -> None:
    plan = SearchPlan(SETTINGS)
    assert plan.next(['mug'], 0.0) == (['mug'], 0.2)
    assert plan.next(BOTH, 0.5) == (['cup'], 0.2)  # it came to the database later
    assert plan.next(BOTH, 1.0) == (BOTH, 1.0)
    assert plan.next(BOTH, 1.5) == (BOTH, 1.0)


def test_more_of_what_was_found_in_a_hurry_is_looked_for_once() -> None:
    plan = SearchPlan(SETTINGS)
    plan.next(BOTH, 0.0)
    track(plan, 1.0, *BOTH)
    assert plan.next(BOTH, 1.0) == (BOTH, 1.0)
    assert plan.next(BOTH, 1.1) == ([], 1.0)


def test_what_is_tracked_rests_until_the_refiner_is_silent(plan: SearchPlan) -> None:
    plan.answered(['mug'], [], 0.0)
    assert plan.next(BOTH, 1.9) == (['cup'], 1.0)
    assert plan.next(BOTH, 2.1) == (BOTH, 1.0)


def test_what_is_tracked_is_looked_for_now_and_then(plan: SearchPlan) -> None:
    plan.next(BOTH, 0.0)
    track(plan, 10.1, *BOTH)
    assert plan.next(BOTH, 9.9) == ([], 1.0)
    assert plan.next(BOTH, 10.1) == (BOTH, 1.0)
    assert plan.next(BOTH, 10.2) == ([], 1.0)


def test_nothing_rests_if_it_shall_not() -> None:
    plan = SearchPlan(SearchSettings(rest_while_tracked=False))
    plan.next(BOTH, -1.0)
    plan.answered(['mug'], [], 0.0)
    plan.found(['cup'], 0.0)
    assert plan.next(BOTH, 0.1) == (BOTH, 1.0)


def test_what_was_found_waits_for_the_answer(plan: SearchPlan) -> None:
    plan.answered([], ['mug'], 0.0)
    plan.found(['mug'], 1.0)
    assert plan.next(BOTH, 1.5) == (['cup'], 1.0)
    assert plan.next(BOTH, 2.1) == (BOTH, 1.0)  # none came
    plan.found(['mug'], 3.0)
    plan.answered([], ['mug'], 3.1)  # refused
    assert plan.next(BOTH, 3.2) == (BOTH, 1.0)


def test_without_a_refiner_nobody_waits(plan: SearchPlan) -> None:
    plan.found(['mug'], 0.0)
    assert plan.next(BOTH, 0.1) == (BOTH, 1.0)


def test_what_was_lost_comes_first_and_in_a_hurry(plan: SearchPlan) -> None:
    plan.answered(['mug'], [], 0.0)
    plan.answered([], ['mug'], 1.0)
    assert plan.next(BOTH, 1.1) == (['mug'], 0.2)
    plan.answered([], ['mug'], 3.9)  # lost still, not once more
    assert plan.next(BOTH, 3.9) == (['mug'], 0.2)
    assert plan.next(BOTH, 4.1) == (BOTH, 1.0)


def test_what_was_never_followed_is_not_lost(plan: SearchPlan) -> None:
    plan.answered([], ['mug'], 0.0)
    assert plan.next(BOTH, 0.1) == (BOTH, 1.0)


def test_what_is_found_again_rests(plan: SearchPlan) -> None:
    plan.answered(['mug'], [], 0.0)
    plan.answered([], ['mug'], 1.0)
    plan.answered(['mug'], [], 1.5)
    assert plan.next(BOTH, 1.6) == (['cup'], 1.0)
