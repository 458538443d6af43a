"""Of poses that are one, the best stays."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.distinct import distinct, largest_shift
from test.synthetic import reference, table_pose


def near(a: float, b: float) -> bool:
    return abs(a - b) <= 1


def test_what_is_near_a_better_one_is_left_out() -> None:
    assert distinct([5.0, 5.5, 9.0, 4.0, 2.0, 3.0], near) == [5.0, 9.0, 2.0]
    assert distinct([], near) == []


def test_what_was_left_out_keeps_nothing_out() -> None:
    # 6 is near 5 and left out: 7 is near 6 alone.
    assert distinct([5.0, 6.0, 7.0], near) == [5.0, 7.0]


@pytest.mark.parametrize('most', [0, 1, 2])
def test_no_more_are_kept_than_asked_for(most: int) -> None:
    assert distinct([5.0, 9.0, 2.0], near, most) == [5.0, 9.0, 2.0][:most]


def test_a_shift_is_that_of_the_centre_or_of_the_rim() -> None:
    ref, T = reference(), table_pose()
    about_center = np.eye(4)
    about_center[:3, 3] = ref.center
    turn = about_center @ se3.exp([0, 0, 0, 0, 0.2, 0]) @ se3.inverse(about_center)
    assert largest_shift(ref, T, T @ turn) == pytest.approx(0.1 * ref.diameter_m)
    moved = se3.exp([0.03, 0, 0.04, 0, 0, 0]) @ T
    assert largest_shift(ref, T, moved) == pytest.approx(0.05)
    assert largest_shift(ref, T, moved) == largest_shift(ref, moved, T)
