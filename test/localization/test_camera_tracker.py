"""Following a camera: what each frame is started with, and which of the answers are believed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.camera_tracker import CameraTracker, TrackerSettings
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud
from test.synthetic import Pose

from .room import CAMERA, EYES, camera_pose, pose_error, scene_map, view

SCENE = SceneMap.from_cloud(VoxelCloud(FusionSettings()))  # the fakes do not look at it
SMALL = Camera(2.0, 2.0, 0.5, 0.5, 2, 2)
FRAME_NS = 100_000_000
HERE = camera_pose((-1.0, 0.0, 1.2))
# A tenth of a second's motion: far below a jump.
STEP = se3.exp([0.05, -0.02, 0.03, 0.02, -0.03, 0.05])
FAR = se3.exp([2.0, 0, 0, 0, 0, 0]) @ HERE


def frame_at(number: float, depth_m: float = 1.0) -> RGBDFrame:
    color = np.zeros((2, 2, 3), np.float32)
    return RGBDFrame(color, np.full((2, 2), depth_m, np.float32), SMALL, round(number * FRAME_NS))


@dataclass
class FakeLocalizer:
    """Finds the pose `truth` from starts closer than 0.2 m, and keeps what it was asked."""

    truth: Pose
    starts: list[Pose] = field(default_factory=list)
    # What comes out of a start instead.
    answer: Callable[[Pose], CameraEstimate] | None = None

    def refine(self, frame: RGBDFrame, scene: SceneMap, T_map_cam: Pose) -> CameraEstimate:
        assert scene is SCENE
        self.starts.append(T_map_cam)
        if self.answer is not None:
            return replace(self.answer(T_map_cam), stamp_ns=frame.stamp_ns)
        if np.linalg.norm(T_map_cam[:3, 3] - self.truth[:3, 3]) > 0.2:
            return lost('nothing here', T_map_cam, frame.stamp_ns)
        return found(self.truth, stamp_ns=frame.stamp_ns)

    def asked(self) -> list[Pose]:
        """The starts since the last call of this."""
        starts, self.starts = self.starts, []
        return starts


@dataclass
class FakeRelocalizer:
    poses: list[Pose]
    calls: int = 0

    def candidates(self, frame: RGBDFrame, scene: SceneMap) -> list[Pose]:
        assert frame.depth is not None
        assert scene is SCENE
        self.calls += 1
        return self.poses


def found(
    T: Pose,
    overlap: float = 0.9,
    agreement: float = 0.9,
    stamp_ns: int = 0,
    correlation: float = 0.7,
) -> CameraEstimate:
    return CameraEstimate(
        T,
        Status.CONVERGED,
        '',
        np.eye(6),
        overlap,
        agreement,
        correlation=correlation,
        stamp_ns=stamp_ns,
    )


def lost(
    reason: str, T: Pose, stamp_ns: int = 0, overlap: float = 0.0, agreement: float = 0.0
) -> CameraEstimate:
    return CameraEstimate(T, Status.LOST, reason, None, overlap, agreement, stamp_ns=stamp_ns)


def tracker_of(
    localizer: FakeLocalizer,
    relocalizer: FakeRelocalizer | None = None,
    settings: TrackerSettings | None = None,
) -> CameraTracker:
    return CameraTracker(SCENE, relocalizer, settings, localizer)


def started(
    relocalizer: FakeRelocalizer | None = None, settings: TrackerSettings | None = None
) -> tuple[CameraTracker, FakeLocalizer]:
    """At HERE with frame 0."""
    localizer = FakeLocalizer(HERE)
    tracker = tracker_of(localizer, relocalizer, settings)
    tracker.reset(HERE)
    assert tracker.track(frame_at(0)).status is Status.CONVERGED
    localizer.asked()
    return tracker, localizer


def moving(frames: int = 3) -> tuple[CameraTracker, FakeLocalizer, Pose]:
    """After frames from 0 on, a STEP apart; with the last pose."""
    tracker, localizer = started()
    for number in range(1, frames):
        localizer.truth = localizer.truth @ STEP
        assert tracker.track(frame_at(number)).status is Status.TRACKED
    localizer.asked()
    return tracker, localizer, localizer.truth


# --- The first pose ----------------------------------------------------------------------------


def test_the_first_pose_is_where_a_keyframe_looks_alike() -> None:
    localizer, relocalizer = FakeLocalizer(HERE), FakeRelocalizer([FAR, HERE @ STEP])
    tracker = tracker_of(localizer, relocalizer)
    assert tracker.last is None
    got = tracker.track(frame_at(3))
    assert got.status is Status.CONVERGED
    assert got.stamp_ns == 3 * FRAME_NS
    np.testing.assert_array_equal(got.T_map_cam, HERE)
    np.testing.assert_array_equal(localizer.asked(), [FAR, HERE @ STEP])
    assert tracker.last is got.T_map_cam


def test_the_first_pose_is_near_the_given_one() -> None:
    localizer, relocalizer = FakeLocalizer(HERE), FakeRelocalizer([FAR])
    tracker = tracker_of(localizer, relocalizer)
    tracker.reset(HERE @ STEP)
    got = tracker.track(frame_at(0))
    assert got.status is Status.CONVERGED
    np.testing.assert_array_equal(localizer.asked(), [HERE @ STEP])
    assert relocalizer.calls == 0


def test_where_the_given_pose_fails_keyframes_are_asked() -> None:
    localizer, relocalizer = FakeLocalizer(HERE), FakeRelocalizer([HERE])
    tracker = tracker_of(localizer, relocalizer)
    tracker.reset(FAR)
    assert tracker.track(frame_at(0)).status is Status.CONVERGED
    np.testing.assert_array_equal(localizer.asked(), [FAR, HERE])


def test_nothing_is_followed_before_the_first_pose() -> None:
    localizer, relocalizer = FakeLocalizer(HERE), FakeRelocalizer([FAR])
    tracker = tracker_of(localizer, relocalizer)
    for number in range(2):
        got = tracker.track(frame_at(number), STEP)
        assert (got.status, got.reason, got.covariance) == (Status.LOST, 'nothing here', None)
        assert got.stamp_ns == number * FRAME_NS
        assert tracker.last is None
    relocalizer.poses = [HERE]
    assert tracker.track(frame_at(2)).status is Status.CONVERGED


def test_without_keyframes_and_a_pose_the_camera_is_lost() -> None:
    localizer = FakeLocalizer(HERE)
    got = tracker_of(localizer).track(frame_at(5))
    assert (got.status, got.stamp_ns) == (Status.LOST, 5 * FRAME_NS)
    assert got.reason == 'the camera is lost, and the map has no keyframes'
    assert not localizer.starts


# --- From frame to frame -----------------------------------------------------------------------


def test_after_the_first_the_camera_is_followed() -> None:
    tracker, localizer = started()
    for number in range(1, 6):
        localizer.truth = localizer.truth @ STEP
        got = tracker.track(frame_at(number))
        assert (got.status, got.stamp_ns) == (Status.TRACKED, number * FRAME_NS)
        np.testing.assert_array_equal(got.T_map_cam, localizer.truth)
        assert tracker.last is not None
        np.testing.assert_array_equal(tracker.last, localizer.truth)


def test_the_second_frame_starts_where_the_first_was() -> None:
    tracker, localizer = started()
    tracker.track(frame_at(1))
    np.testing.assert_array_equal(localizer.asked(), [HERE])


@pytest.mark.parametrize(('frames_later', 'share'), [(1, 1), (0.5, 0.5), (2, 2), (5, 3)])
def test_a_start_goes_on_as_fast_as_before(frames_later: float, share: float) -> None:
    tracker, localizer, last = moving()
    tracker.track(frame_at(2 + frames_later))
    before = last @ se3.inverse(STEP)
    expected = se3.interpolate(before, last, 1 + share)  # by at most three steps
    np.testing.assert_allclose(localizer.asked()[0], expected, atol=1e-9)


@pytest.mark.parametrize('frames_later', [5.01, 1000, 0, -1])
def test_after_a_gap_the_camera_is_where_it_was(frames_later: float) -> None:
    tracker, localizer, last = moving()
    assert tracker.track(frame_at(2 + frames_later)).status is Status.TRACKED
    np.testing.assert_array_equal(localizer.asked(), [last])


@pytest.mark.parametrize('repeated', [1, 0.999, -1000])
def test_stamps_that_do_not_go_on_predict_nothing(repeated: float) -> None:
    tracker, localizer = started()
    for number in (1, repeated):
        localizer.truth = localizer.truth @ STEP
        assert tracker.track(frame_at(number)).status is Status.TRACKED
    localizer.asked()
    assert tracker.track(frame_at(repeated + 1)).status is Status.TRACKED
    np.testing.assert_array_equal(localizer.asked(), [localizer.truth])


def test_odometry_says_where_to_start() -> None:
    turn = se3.exp([0.1, 0, 0, 0, 0.2, 0])
    for frames_later in (1, 1000):
        tracker, localizer, last = moving()
        localizer.truth = last @ turn
        assert tracker.track(frame_at(2 + frames_later), turn).status is Status.TRACKED
        np.testing.assert_allclose(localizer.asked(), [last @ turn])


def test_odometry_is_believed_over_any_distance() -> None:
    tracker, localizer, last = moving()
    localizer.truth = FAR
    assert tracker.track(frame_at(3), se3.inverse(last) @ FAR).status is Status.TRACKED


def test_where_the_prediction_fails_the_last_pose_is_tried() -> None:
    tracker, localizer, last = moving()
    bad = se3.exp([0.25, 0, 0, 0, 0, 0])
    localizer.truth = last
    got = tracker.track(frame_at(3), bad)
    assert got.status is Status.TRACKED  # 0.25 m from the prediction is no jump
    np.testing.assert_allclose(localizer.asked(), [last @ bad, last])


def test_the_same_start_is_not_tried_twice() -> None:
    tracker, localizer = started()
    localizer.truth = FAR
    assert tracker.track(frame_at(1)).status is Status.LOST
    np.testing.assert_array_equal(localizer.asked(), [HERE])


def test_the_failure_that_is_told_is_that_of_the_prediction() -> None:
    tracker, localizer, last = moving()
    localizer.answer = lambda T: lost('last' if np.allclose(T, last) else 'predicted', T)
    got = tracker.track(frame_at(3))
    assert (got.status, got.reason) == (Status.LOST, 'predicted')
    assert len(localizer.asked()) == 2


@pytest.mark.parametrize(
    ('pull', 'status'),
    [
        ([0.29, 0, 0, 0, 0, 0], Status.TRACKED),
        ([0.31, 0, 0, 0, 0, 0], Status.LOST),
        ([0, 0, 0, 0, np.radians(19), 0], Status.TRACKED),
        ([0, 0, 0, 0, np.radians(21), 0], Status.LOST),
    ],
)
def test_what_the_map_pulls_away_is_not_believed(pull: list[float], status: Status) -> None:
    tracker, localizer = started()
    localizer.answer = lambda T: found(HERE @ se3.exp(pull))
    got = tracker.track(frame_at(1))
    assert got.status is status
    if status is Status.LOST:
        assert got.reason == 'the map pulls away from where the camera can be'
        assert got.covariance is None
        assert tracker.last is HERE


def test_a_lost_frame_does_not_move_the_camera() -> None:
    tracker, localizer, last = moving()
    localizer.truth = FAR
    assert tracker.track(frame_at(3)).status is Status.LOST
    np.testing.assert_array_equal(tracker.last, last)
    localizer.asked()
    localizer.truth = se3.interpolate(last @ se3.inverse(STEP), last, 3)  # it went on meanwhile
    assert tracker.track(frame_at(4)).status is Status.TRACKED
    np.testing.assert_allclose(localizer.asked(), [localizer.truth])


# --- Jumps -------------------------------------------------------------------------------------


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


@pytest.mark.parametrize('share', [0.7, 0.9])
def test_frames_that_each_jump_elsewhere_are_believed_only_if_well_explained(share: float) -> None:
    relocalizer = FakeRelocalizer([])
    tracker, localizer = started(relocalizer)
    statuses = []
    for number in range(1, 8):
        truth = se3.exp([0, 2.0 * number, 0, 0, 0, 0]) @ HERE
        relocalizer.poses = [truth]

        def answer(T: Pose, truth: Pose = truth) -> CameraEstimate:
            near = np.linalg.norm(T[:3, 3] - truth[:3, 3]) < 0.2
            return found(truth, share, share) if near else lost('nothing here', T)

        localizer.answer = answer
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


def jumping(number: int, share: float = 0.9) -> tuple[Pose, Callable[[Pose], CameraEstimate]]:
    """The camera of a frame that is elsewhere than all others, and what is said of it."""
    truth = se3.exp([0, 2.0 * number, 0, 0, 0, 0]) @ HERE

    def answer(T: Pose) -> CameraEstimate:
        near = np.linalg.norm(T[:3, 3] - truth[:3, 3]) < 0.2
        return found(truth, share, share) if near else lost('nothing here', T)

    return truth, answer


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


# --- Frames without an answer ------------------------------------------------------------------


@pytest.mark.parametrize('blank', [frame_at(1, 0.0), frame_at(1).without_depth()])
def test_blank_depth_is_lost_with_that_reason(blank: RGBDFrame) -> None:
    relocalizer = FakeRelocalizer([HERE])
    localizer = FakeLocalizer(HERE)
    got = tracker_of(localizer, relocalizer).track(blank)
    assert got.status is Status.LOST
    assert got.reason == 'the depth image has no valid pixel'
    assert got.stamp_ns == blank.stamp_ns
    assert not localizer.starts
    assert relocalizer.calls == 0


def test_reset_forgets_where_it_was() -> None:
    tracker, localizer, _ = moving()
    localizer.truth = FAR
    tracker.reset()
    assert tracker.last is None
    assert 'no keyframes' in tracker.track(frame_at(3)).reason
    assert not localizer.asked()
    tracker.reset(FAR)
    got = tracker.track(frame_at(4))
    assert got.status is Status.CONVERGED  # no jump, as there is nothing before
    np.testing.assert_array_equal(got.T_map_cam, FAR)
    np.testing.assert_array_equal(localizer.asked(), [FAR])


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


# --- The room ----------------------------------------------------------------------------------


def test_a_camera_is_followed_through_the_room_and_found_again() -> None:
    scene = scene_map(0.02)
    keyframes = KeyframeRelocalizer.of(
        (view(T, CAMERA.scaled(2)), T) for T in map(camera_pose, EYES)
    )
    tracker = CameraTracker(scene, keyframes)
    start = camera_pose((-0.95, -0.3, 1.25))
    poses = [start @ se3.exp(k * np.array([0.03, 0, 0.02, 0, 0.02, 0])) for k in range(5)]
    statuses = []
    for number, T in enumerate(poses):
        frame = replace(view(T, CAMERA.scaled(2)), stamp_ns=number * FRAME_NS)
        if number == 3:  # a hand before the lens
            frame = replace(frame, depth=np.full(frame.camera.shape, 0.2, np.float32))
        got = tracker.track(frame)
        statuses.append(got.status)
        if number != 3:
            angle_deg, distance_mm = pose_error(got.T_map_cam, T)
            assert angle_deg < 0.1
            assert distance_mm < 2  # a tenth of a voxel
    followed = [Status.TRACKED, Status.TRACKED, Status.LOST, Status.TRACKED]
    assert statuses == [Status.CONVERGED, *followed]
