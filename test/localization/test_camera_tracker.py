"""Following a camera: what each frame is started with, and which of the answers are believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_tracker import CameraTracker
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer

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
    moving,
    started,
    tracker_of,
)
from .room import CAMERA, EYES, camera_pose, pose_error, scene_map, view

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
