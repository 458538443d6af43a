"""Nouns of the core to messages and back; every field of the right type."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.geometry import se3
from gs_pose_ros.msg import ObjectDetection, ObjectInfo, ObjectPose
from gs_pose_ros.nodes.runtime.conversions import (
    UNKNOWN_VARIANCE,
    covariance_from_message,
    covariance_to_message,
    detection_from_message,
    detection_to_message,
    estimate_from_message,
    estimate_to_message,
    failed_pose,
    image_to_message,
    ns_to_stamp,
    object_to_message,
    pose_to_message,
    transform_to_message,
)
from gs_pose_ros.recording.frame_decoding import pose_from_message, stamp_to_ns
from test.fakes import make_reference
from test.nodes.conftest import header_at

tangents = st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6)


def sent(msg):
    """The message as it comes out at the other end."""
    return deserialize_message(serialize_message(msg), type(msg))


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_round_trip(ns: int) -> None:
    assert stamp_to_ns(sent(ns_to_stamp(ns))) == ns


@given(tangents)
def test_poses_round_trip(xi: list[float]) -> None:
    T = se3.exp(xi)
    np.testing.assert_allclose(pose_from_message(sent(pose_to_message(T))), T, atol=1e-12)
    # Single precision goes out as numbers too, not as garbage.
    back = pose_from_message(sent(pose_to_message(T.astype(np.float32))))
    np.testing.assert_allclose(back, T, atol=1e-6)


@pytest.mark.parametrize('quaternion', [(0, 0, 0, 0), (0, 0, 0, 2), (np.nan, 0, 0, 1)])
def test_what_is_no_pose_is_refused(quaternion: tuple) -> None:
    msg = pose_to_message(np.eye(4))
    q = msg.orientation
    q.x, q.y, q.z, q.w = map(float, quaternion)
    with pytest.raises(GsPoseError, match='not a pose'):
        pose_from_message(msg)


def test_transform_has_parent_and_child() -> None:
    T = se3.exp([1, 2, 3, 0.1, 0.2, 0.3])
    msg = sent(transform_to_message(header_at(5), 'mug', T))
    assert (msg.header.frame_id, msg.child_frame_id) == ('camera', 'mug')
    np.testing.assert_allclose(msg.transform.translation.x, T[0, 3])
    assert msg.transform.rotation == pose_to_message(T).orientation


@given(tangents)
def test_covariance_is_that_of_position_and_of_rotation_about_fixed_axes(xi: list[float]) -> None:
    """Against samples of the true pose exp(eps) T: ROS wants var of t and of R' R^T."""
    T = se3.exp(xi)
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6, 6)) * 1e-4
    C = A @ A.T
    eps = rng.multivariate_normal(np.zeros(6), C, 4000)
    true = se3.exp(eps) @ T
    position = true[:, :3, 3] - T[:3, 3]
    rotation = se3.rotation_log(true[:, :3, :3] @ T[:3, :3].T)
    sampled = np.cov(np.hstack([position, rotation]).T)
    ours = covariance_to_message(C, T).reshape(6, 6)
    np.testing.assert_allclose(ours, sampled, atol=0.15 * np.abs(ours).max())
    np.testing.assert_allclose(covariance_from_message(ours.ravel(), T), C, atol=1e-15)


def test_an_unknown_covariance_is_large_not_zero() -> None:
    message = covariance_to_message(None, np.eye(4))
    np.testing.assert_array_equal(message.reshape(6, 6), np.eye(6) * UNKNOWN_VARIANCE)
    assert covariance_from_message(message, np.eye(4)) is None


@pytest.mark.parametrize(
    ('status', 'stage'),
    [
        (Status.INITIAL, ObjectPose.STAGE_INITIAL),
        (Status.CONVERGED, ObjectPose.STAGE_REFINED),
        (Status.TRACKED, ObjectPose.STAGE_TRACKED),
    ],
)
def test_estimates_round_trip(status: Status, stage: int) -> None:
    T = se3.exp([0.1, 0.2, 0.9, 0.3, 0.2, 0.1])
    other, axis = se3.exp([0.1, 0.2, 0.9, 3.0, 0.2, 0.1]), np.array([0.0, 0, 1])
    estimate = PoseEstimate(
        T, np.float32(0.75), status, '', np.eye(6) * 1e-4, np.int64(7), 5, (other,), axis
    )
    msg = sent(estimate_to_message(header_at(5), 'mug', np.int64(2), estimate))
    assert (msg.object_id, msg.instance, msg.iterations) == ('mug', 2, 7)
    assert (msg.stage, msg.status) == (stage, ObjectPose.STATUS_OK)
    back = estimate_from_message(msg)
    np.testing.assert_allclose(back.T_cam_obj, T, atol=1e-12)
    assert back.covariance is not None
    np.testing.assert_allclose(back.covariance, np.eye(6) * 1e-4, atol=1e-12)
    assert (back.score, back.status, back.iterations, back.stamp_ns) == (0.75, status, 7, 5)
    assert back.free_axis is not None
    np.testing.assert_array_equal(back.free_axis, axis)
    np.testing.assert_allclose(back.alternatives, [other], atol=1e-12)


def test_an_unknown_stage_is_refused_and_a_covariance_of_nan_says_nothing() -> None:
    msg = estimate_to_message(header_at(5), 'mug', 0, PoseEstimate(np.eye(4), 0.5, Status.TRACKED))
    msg.pose.covariance = np.full(36, np.nan)
    assert estimate_from_message(msg).covariance is None
    msg.stage = 77
    with pytest.raises(GsPoseError, match='stage is 77'):
        estimate_from_message(msg)


def test_lost_and_failed_keep_their_reason() -> None:
    lost = PoseEstimate(np.eye(4), float('nan'), Status.LOST, 'hidden')
    msg = sent(estimate_to_message(header_at(5), 'mug', 0, lost, ObjectPose.STAGE_TRACKED))
    assert (msg.status, msg.stage) == (ObjectPose.STATUS_LOST, ObjectPose.STAGE_TRACKED)
    assert (msg.reason, msg.score) == ('hidden', 0.0)
    assert estimate_from_message(msg).status is Status.LOST
    failed = sent(failed_pose(header_at(5), 'mug', 1, ObjectPose.STATUS_NOT_FOUND, 'not there'))
    assert (failed.status, failed.reason) == (ObjectPose.STATUS_NOT_FOUND, 'not there')
    np.testing.assert_array_equal(pose_from_message(failed.pose.pose), np.eye(4))


def a_detection() -> Detection:
    mask = np.zeros((48, 64), bool)
    mask[5:9, 10:20] = True
    mask[6, 12] = False
    return Detection.from_full_mask('mug', 0.5, mask, (se3.exp([0, 0, 1, 0.1, 0, 0]),))


def test_detections_round_trip() -> None:
    detection = a_detection()
    msg: ObjectDetection = sent(detection_to_message(header_at(5), detection, 3))
    assert msg.instance == 3
    back = detection_from_message(msg, (48, 64))
    assert (back.object_id, back.score, back.box) == ('mug', 0.5, detection.box)
    np.testing.assert_array_equal(back.mask, detection.mask)
    np.testing.assert_allclose(back.pose_hints[0], detection.pose_hints[0], atol=1e-12)


def _empty(msg: ObjectDetection) -> None:
    msg.mask.data = bytes(len(msg.mask.data))


def _half(msg: ObjectDetection) -> None:
    msg.mask.data = bytes(msg.mask.data)[:10]


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (_empty, 'mask is empty'),
        (lambda m: setattr(m.roi, 'x_offset', 60), 'not inside'),
        (lambda m: setattr(m.roi, 'width', 0), 'not inside'),
        (lambda m: setattr(m.mask, 'encoding', 'rgb8'), 'expected mono8'),
        (lambda m: setattr(m.mask, 'width', 9), 'expected mono8 10x4'),
        (_half, 'bytes'),
        (lambda m: setattr(m.pose_hints[0].orientation, 'w', 9.0), 'not a pose'),
    ],
)
def test_detections_that_say_nothing_are_refused(edit, words: str) -> None:
    msg = detection_to_message(header_at(5), a_detection(), 0)
    edit(msg)
    with pytest.raises(GsPoseError, match=words):
        detection_from_message(msg, (48, 64))


def test_a_mask_of_the_whole_image_is_refused() -> None:
    full = Detection.from_full_mask('mug', 0.5, np.ones((48, 64), bool))
    with pytest.raises(GsPoseError, match='whole image'):
        detection_from_message(detection_to_message(header_at(5), full, 0), (48, 64))


def test_object_info() -> None:
    reference = make_reference()
    msg: ObjectInfo = sent(object_to_message(reference, 'r1'))
    assert (msg.object_id, msg.revision, msg.status) == ('mug', 'r1', ObjectInfo.STATUS_OK)
    np.testing.assert_allclose([msg.box_min.x, msg.box_max.z], reference.box[[0, 1], [0, 2]])
    assert msg.psnr == 30.0


def test_images_are_written_fast_also_with_field_checks() -> None:
    """The slow ways take 50 ms and more (bytes with checks, lists, numpy arrays)."""
    image = np.zeros((480, 640, 3), np.uint8)
    image_to_message(image, 'rgb8', header_at(5))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        image_to_message(image, 'rgb8', header_at(5))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.01
    with pytest.raises(GsPoseError, match='incompatible'):
        image_to_message(image, '16UC1', header_at(5))
