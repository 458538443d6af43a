"""Places that look alike: which of them is taken, and what becomes of a place that is doubted."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.estimate import Status
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.camera_tracker import CameraTracker, TrackerSettings
from test.synthetic import Pose

from .fakes import (
    FRAME_NS,
    HERE,
    FakeLocalizer,
    FakeRelocalizer,
    found,
    frame_at,
    lost,
    started,
    tracker_of,
)

# --- Places that look alike --------------------------------------------------------------------


def place(index: int) -> Pose:
    return se3.exp([float(index), 0, 0, 0, 0, 0])


def among(
    answers: list[CameraEstimate], settings: TrackerSettings | None = None
) -> tuple[CameraEstimate, FakeLocalizer]:
    """What `relocalize` makes of candidates with such answers."""
    relocalizer = FakeRelocalizer([place(k) for k in range(len(answers))])
    localizer = FakeLocalizer(HERE, answer=lambda T: answers[round(float(T[0, 3]))])
    return tracker_of(localizer, relocalizer, settings).relocalize(frame_at(7)), localizer


def test_the_place_with_the_most_evidence_is_taken() -> None:
    shares = [(0.5, 0.8), (0.6, 0.8), (0.4, 0.9), (0.55, 0.75)]  # 0.48 is the largest product
    got, localizer = among([found(place(k), *s) for k, s in enumerate(shares)])
    assert got.found
    assert got.stamp_ns == 7 * FRAME_NS
    np.testing.assert_array_equal(got.T_map_cam, place(1))
    assert len(localizer.starts) == 4


def test_a_place_with_enough_evidence_ends_the_search() -> None:
    answers = [found(place(k), 0.9, a) for k, a in enumerate([0.5, 0.7, 1.0])]
    got, localizer = among(answers)
    np.testing.assert_array_equal(got.T_map_cam, place(1))
    assert len(localizer.starts) == 2
    got, localizer = among(answers, TrackerSettings(enough=0.8))
    np.testing.assert_array_equal(got.T_map_cam, place(2))
    assert len(localizer.starts) == 3


def test_where_no_place_is_confirmed_the_best_says_why() -> None:
    answers = [
        lost('nothing', place(0)),
        lost('much', place(1), overlap=0.8, agreement=0.3),
        lost('little', place(2), overlap=0.2, agreement=0.9),
    ]
    got, localizer = among(answers)
    assert (got.status, got.reason) == (Status.LOST, 'much')
    assert len(localizer.starts) == 3


def test_a_place_that_is_not_confirmed_does_not_hide_one_that_is() -> None:
    # Overlap 0.24 is too little, however well it agrees; 0.3 is enough.
    answers = [
        lost('covers 24 %', place(0), overlap=0.24, agreement=1.0),
        found(place(1), 0.3, 0.75),
    ]
    for order in (answers, answers[::-1]):
        got, _ = among(order)
        assert got.found, got.reason


@pytest.mark.parametrize(('agreement', 'status'), [(0.69, 'LOST'), (0.71, 'CONVERGED')])
def test_without_a_start_more_depths_must_agree(agreement: float, status: str) -> None:
    got, _ = among([found(place(0), 1.0, agreement)])
    assert got.status.name == status
    if not got.found:
        assert got.reason == '69 % of the depths agree, too few to be found anew'
        assert got.covariance is None
    # Where the camera was expected, the check of the localizer is enough.
    tracker, localizer = started()
    localizer.answer = lambda T: found(HERE, 1.0, agreement)
    assert tracker.track(frame_at(1)).status is Status.TRACKED


def test_without_a_start_there_must_be_texture() -> None:
    got, _ = among([found(place(0), correlation=np.nan)])
    assert (got.status, got.reason) == (
        Status.LOST,
        'too little texture in sight to be found anew',
    )
    # Where the camera was expected, depth does: the light may have gone out.
    tracker, localizer = started()
    localizer.answer = lambda T: found(HERE, correlation=np.nan)
    assert tracker.track(frame_at(1)).status is Status.TRACKED


def test_without_a_start_the_texture_must_be_that_of_the_map() -> None:
    got, _ = among([found(place(0), correlation=0.44)])
    assert got.status is Status.LOST
    assert 'not the texture (correlation 0.44)' in got.reason
    got, _ = among([found(place(0), correlation=0.44), found(place(1), correlation=0.46)])
    assert got.status is Status.CONVERGED
    np.testing.assert_array_equal(got.T_map_cam, place(1))


# --- Doubts ------------------------------------------------------------------------------------


def doubting(there: Pose, correlation: float) -> tuple[CameraTracker, FakeRelocalizer]:
    """At HERE, where the texture is not that of the map, with one keyframe."""
    relocalizer = FakeRelocalizer([there])
    tracker, localizer = started(relocalizer)

    def answer(T: Pose) -> CameraEstimate:
        near = np.linalg.norm(T[:3, 3] - HERE[:3, 3]) < 0.1
        return found(HERE, correlation=0.3) if near else found(there, correlation=correlation)

    localizer.answer = answer
    relocalizer.calls = 0
    return tracker, relocalizer


def test_a_doubtful_place_is_kept_where_no_other_has_the_texture() -> None:
    tracker, relocalizer = doubting(place(3), 0.4)
    got = tracker.track(frame_at(1))
    assert got.status is Status.TRACKED
    np.testing.assert_array_equal(got.T_map_cam, HERE)
    assert relocalizer.calls == 1


def test_a_doubtful_place_is_left_for_one_that_has_the_texture() -> None:
    tracker, _ = doubting(place(3), 0.8)
    states = [tracker.track(frame_at(1 + k)) for k in range(3)]
    assert 'confirmed by 1 of 3 frames' in states[0].reason
    assert 'confirmed by 2 of 3 frames' in states[1].reason
    assert states[2].status is Status.CONVERGED
    np.testing.assert_array_equal(states[2].T_map_cam, place(3))


def test_a_doubtful_place_is_lost_where_little_of_it_is_in_sight() -> None:
    tracker, localizer = started()
    for overlap, status in ((0.7, Status.TRACKED), (0.6, Status.LOST)):
        localizer.answer = lambda T, share=overlap: found(HERE, share, 0.9, correlation=0.3)
        assert tracker.track(frame_at(1)).status is status
    localizer.answer = lambda T: found(HERE, 0.6, 0.9, correlation=0.5)
    assert tracker.track(frame_at(2)).status is Status.TRACKED


def test_what_is_doubted_is_looked_for_once_a_second() -> None:
    tracker, relocalizer = doubting(place(3), 0.4)
    frames = round(2.5e9 / FRAME_NS)
    assert all(tracker.track(frame_at(1 + k)).found for k in range(frames))
    assert relocalizer.calls == 3


def test_nothing_that_looks_alike_is_a_reason() -> None:
    got, localizer = among([])
    assert (got.status, got.reason) == (Status.LOST, 'no keyframe looks like this')
    assert got.stamp_ns == 7 * FRAME_NS
    assert not localizer.starts
