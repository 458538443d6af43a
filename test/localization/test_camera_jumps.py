"""A camera that seems to have jumped: after how many frames, and how far, it is believed."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from gs_pose_ros.estimate import Status
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.camera_tracker import CameraTracker, TrackerSettings
from test.synthetic import Pose

from .fakes import (
    FAR,
    FRAME_NS,
    HERE,
    STEP,
    FakeLocalizer,
    FakeRelocalizer,
    found,
    frame_at,
    lost,
    started,
)


def outcomes(tracker: CameraTracker, localizer: FakeLocalizer, truths: list[Pose]) -> list[str]:
    """Status, reason or count of frames 1, 2, ... at such poses."""
    out = []
    for number, truth in enumerate(truths, 1):
        localizer.truth = truth
        got = tracker.track(frame_at(number))
        count = re.search(r'\d of \d', got.reason)
        out.append(count[0] if count else got.reason or got.status.name)
    return out


def test_a_jump_is_believed_at_the_third_frame_that_says_so() -> None:
    relocalizer = FakeRelocalizer([FAR])
    tracker, localizer = started(relocalizer)
    localizer.truth = FAR
    for number in (1, 2):
        got = tracker.track(frame_at(number))
        assert got.status is Status.LOST
        assert got.reason == f'a jump of 2.00 m, confirmed by {number} of 3 frames'
        assert (got.covariance, got.stamp_ns) == (None, number * FRAME_NS)
        assert tracker.last is HERE
    got = tracker.track(frame_at(3))
    assert (got.status, got.reason) == (Status.CONVERGED, '')
    np.testing.assert_array_equal(got.T_map_cam, FAR)
    # The keyframes are asked once; then the place is known.
    assert relocalizer.calls == 1
    localizer.asked()
    assert tracker.track(frame_at(4)).status is Status.TRACKED
    np.testing.assert_array_equal(localizer.asked(), [FAR])  # and nothing is as fast as a jump


def test_a_good_frame_at_the_old_place_starts_the_count_again() -> None:
    tracker, localizer = started(FakeRelocalizer([FAR]))
    assert outcomes(tracker, localizer, [FAR, FAR, HERE, FAR, FAR, FAR]) == [
        *('1 of 3', '2 of 3', 'TRACKED', '1 of 3', '2 of 3', 'CONVERGED')
    ]


def test_a_frame_that_is_nowhere_starts_the_count_again() -> None:
    tracker, localizer = started(FakeRelocalizer([FAR]))
    nowhere = se3.exp([0, 9, 0, 0, 0, 0])
    assert outcomes(tracker, localizer, [FAR, FAR, nowhere, FAR]) == [
        *('1 of 3', '2 of 3', 'nothing here', '1 of 3')
    ]


def jumping(number: int, share: float = 0.9) -> tuple[Pose, Callable[[Pose], CameraEstimate]]:
    """The camera of a frame that is elsewhere than all others, and what is said of it."""
    truth = se3.exp([0, 2.0 * number, 0, 0, 0, 0]) @ HERE

    def answer(T: Pose) -> CameraEstimate:
        near = np.linalg.norm(T[:3, 3] - truth[:3, 3]) < 0.2
        return found(truth, share, share) if near else lost('nothing here', T)

    return truth, answer


@pytest.mark.parametrize('share', [0.7, 0.9])
def test_frames_that_each_jump_elsewhere_are_believed_only_if_well_explained(share: float) -> None:
    relocalizer = FakeRelocalizer([])
    tracker, localizer = started(relocalizer)
    statuses = []
    for number in range(1, 8):
        truth, localizer.answer = jumping(number, share)
        relocalizer.poses = [truth]
        statuses.append(tracker.track(frame_at(number)).status)
    strong = [Status.LOST, Status.LOST, *[Status.CONVERGED] * 5]
    assert statuses == (strong if share**2 > 0.6 else [Status.LOST] * 7)


@pytest.mark.parametrize('confirmations', [1, 2, 5])
def test_so_many_frames_confirm_a_jump(confirmations: int) -> None:
    tracker, localizer = started(
        FakeRelocalizer([FAR]), TrackerSettings(confirmations=confirmations)
    )
    localizer.truth = FAR
    statuses = [tracker.track(frame_at(n)).status for n in range(1, confirmations + 1)]
    assert statuses == [Status.LOST] * (confirmations - 1) + [Status.CONVERGED]


def test_a_camera_found_close_by_is_believed_at_once() -> None:
    near = se3.exp([0.29, 0, 0, 0, 0, 0]) @ HERE
    tracker, localizer = started(FakeRelocalizer([near]))
    localizer.truth = near
    got = tracker.track(frame_at(1))
    assert got.status is Status.CONVERGED
    np.testing.assert_array_equal(got.T_map_cam, near)


@pytest.mark.parametrize('broken_by', ['weak', 'lost', 'followed'])
def test_what_jumped_every_frame_counts_anew_after_one_that_did_not(broken_by: str) -> None:
    relocalizer = FakeRelocalizer([])
    tracker, localizer = started(relocalizer)
    statuses = []
    for number in range(1, 9):
        # The fifth is weak, looks like nothing, or is where the fourth was.
        share = 0.7 if number == 5 and broken_by == 'weak' else 0.9
        at = 4 if number == 5 and broken_by == 'followed' else number
        truth, localizer.answer = jumping(at, share)
        relocalizer.poses = [] if number == 5 and broken_by == 'lost' else [truth]
        statuses.append(tracker.track(frame_at(number)).status.name[0])
    fifth = 'T' if broken_by == 'followed' else 'L'
    # A weak one is the first of three, the others are none.
    after = 'LCC' if broken_by == 'weak' else 'LLC'
    assert ''.join(statuses) == f'LLCC{fifth}{after}'


def test_a_place_seen_while_jumping_is_not_looked_at_twice() -> None:
    relocalizer = FakeRelocalizer([])
    tracker, localizer = started(relocalizer)
    for number in range(1, 5):
        truth, localizer.answer = jumping(number)
        relocalizer.poses = [truth]
        localizer.asked()
        tracker.track(frame_at(number))
    starts = [round(float(T[1, 3]) / 2) for T in localizer.asked()]
    assert starts == [3, 4]  # where it was, and where it is


def test_the_longer_it_was_lost_the_further_it_may_have_gone() -> None:
    # It is 0.8 m away: as much as 0.3 m and 0.3 m/s make in 1.7 s.
    near = se3.exp([0.8, 0, 0, 0, 0, 0]) @ HERE
    for frames_later, status in ((15, Status.LOST), (18, Status.CONVERGED)):
        tracker, localizer = started(FakeRelocalizer([near]))
        localizer.truth = near
        assert tracker.track(frame_at(frames_later)).status is status


def test_what_was_lost_for_long_may_not_be_anywhere() -> None:
    tracker, localizer = started(FakeRelocalizer([FAR]))
    localizer.truth = FAR
    got = tracker.track(frame_at(1000))
    assert got.status is Status.LOST
    assert got.reason == 'a jump of 2.00 m, confirmed by 1 of 3 frames'
    far = TrackerSettings(lost_s=10)
    tracker, localizer = started(FakeRelocalizer([FAR]), far)
    localizer.truth = FAR
    assert tracker.track(frame_at(1000)).status is Status.CONVERGED


def test_odometry_says_where_what_was_lost_can_be() -> None:
    way = se3.inverse(HERE) @ FAR
    # Found where odometry says, however far; found near the last pose, it is a jump.
    for truth, status in ((FAR @ STEP, Status.CONVERGED), (HERE, Status.LOST)):
        relocalizer = FakeRelocalizer([truth])
        tracker, localizer = started(relocalizer)
        localizer.truth = truth
        # Neither the prediction nor the last pose leads there.
        localizer.answer = lambda T, at=truth: found(at) if T is at else lost('nothing here', T)
        assert tracker.track(frame_at(40), way).status is status


def test_odometry_carries_a_jump_that_waits_to_be_confirmed() -> None:
    relocalizer = FakeRelocalizer([FAR])
    tracker, localizer = started(relocalizer)
    # The camera goes 0.5 m a frame, from where the keyframes say it is.
    step = se3.exp([0.5, 0, 0, 0, 0, 0])
    odometry, truth = np.eye(4), FAR
    statuses = []
    for number in range(1, 4):
        localizer.truth = truth
        statuses.append(tracker.track(frame_at(number), odometry).status)
        odometry, truth = odometry @ step, truth @ step
    assert statuses == [Status.LOST, Status.LOST, Status.CONVERGED]
    assert relocalizer.calls == 1


def test_reset_forgets_what_waits_for_frames_that_confirm_it() -> None:
    tracker, localizer = started(FakeRelocalizer([FAR]))
    localizer.truth = FAR
    for number in (1, 2):
        tracker.track(frame_at(number))
    tracker.reset(HERE)
    localizer.truth = HERE
    assert tracker.track(frame_at(3)).found
    localizer.truth = FAR
    assert '1 of 3' in tracker.track(frame_at(4)).reason
