"""The initializer node: hypotheses for each detection, or the reason why there are none."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.estimate import Detection
from gs_pose_ros.msg import ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.pose_initializer import PoseInitializerNode
from gs_pose_ros.nodes.runtime.conversions import detection_to_message
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.recording.frame_decoding import pose_from_message, stamp_to_ns
from test.fakes import CAMERA, AtTheMask
from test.nodes.conftest import World, header_at


@pytest.fixture
def method() -> AtTheMask:
    return AtTheMask()


@pytest.fixture
def poses(world: World, database: ObjectDatabase, method: AtTheMask) -> list:
    got = world.listen(ObjectPoseArray, 'pose_initializer/initial_poses')
    world.add(PoseInitializerNode, method=method)
    return got


def detection(object_id: str = 'mug', score: float = 0.5) -> Detection:
    mask = np.zeros(CAMERA.shape, bool)
    mask[20:28, 28:36] = True
    return Detection.from_full_mask(object_id, score, mask)


def send(world: World, stamp_ns: int, *found: Detection, edit=None) -> None:
    msg = ObjectDetectionArray(header=header_at(stamp_ns), status=ObjectDetectionArray.STATUS_OK)
    msg.detections = [detection_to_message(msg.header, d, k) for k, d in enumerate(found)]
    if edit is not None:
        edit(msg)
    world.send('detector/detections', msg)


def answer(world: World, poses: list, *found: Detection, edit=None) -> ObjectPoseArray:
    count = len(poses)
    stamp_ns = world.show()
    send(world, stamp_ns, *found, edit=edit)
    world.until(lambda: len(poses) > count, 'an answer')
    assert stamp_to_ns(poses[-1].header.stamp) == stamp_ns
    return poses[-1]


def test_hypotheses_best_first_with_stage_and_instance(world: World, poses: list) -> None:
    msg = answer(world, poses, detection(), detection())
    assert msg.status == ObjectPoseArray.STATUS_OK
    assert [pose.instance for pose in msg.poses] == [0, 0, 1, 1]
    assert {pose.stage for pose in msg.poses} == {ObjectPose.STAGE_INITIAL}
    assert pose_from_message(msg.poses[0].pose.pose)[2, 3] == pytest.approx(0.5)


def test_detections_later_than_their_image_still_join(
    world: World, poses: list, method: AtTheMask
) -> None:
    stamps = [world.show() for _ in range(20)]
    send(world, stamps[3], detection())
    world.until(lambda: poses, 'an answer')
    assert method.frames[-1].stamp_ns == stamps[3]


def test_detections_after_their_image_is_gone_are_said(
    world: World, database: ObjectDatabase, method: AtTheMask
) -> None:
    got = world.listen(ObjectPoseArray, 'pose_initializer/initial_poses')
    world.add(PoseInitializerNode, method=method, parameters={'history': 5})
    stamps = [world.show() for _ in range(10)]
    send(world, stamps[0], detection())
    world.until(lambda: got, 'an answer')
    assert got[-1].status == ObjectPoseArray.STATUS_BAD_INPUT
    assert 'history' in got[-1].reason


def test_an_unknown_object_does_not_spoil_the_others(world: World, poses: list) -> None:
    msg = answer(world, poses, detection('ghost'), detection())
    assert msg.status == ObjectPoseArray.STATUS_OK
    assert msg.poses[0].status == ObjectPose.STATUS_UNKNOWN_OBJECT
    assert 'ghost' in msg.poses[0].reason
    assert msg.poses[1].status == ObjectPose.STATUS_OK


@pytest.mark.parametrize(
    ('pixels', 'words'),
    [(0, 'empty'), (255, 'covers the whole image')],
    ids=['empty mask', 'full mask'],
)
def test_a_mask_that_says_nothing(world: World, poses: list, pixels: int, words: str) -> None:
    def edit(msg: ObjectDetectionArray) -> None:
        found = msg.detections[0]
        found.roi.x_offset = found.roi.y_offset = 0
        found.roi.height, found.roi.width = CAMERA.shape
        found.mask.height, found.mask.width = CAMERA.shape
        found.mask.step = CAMERA.width
        found.mask.data = bytes([pixels]) * (CAMERA.width * CAMERA.height)

    msg = answer(world, poses, detection(), edit=edit)
    assert msg.status == ObjectPoseArray.STATUS_NOT_FOUND
    assert msg.poses[0].status == ObjectPose.STATUS_BAD_INPUT
    assert words in msg.poses[0].reason
    assert answer(world, poses, detection()).status == ObjectPoseArray.STATUS_OK


def test_what_the_method_refuses_has_its_reason(world: World, poses: list) -> None:
    msg = answer(world, poses, detection(score=0.99))
    assert msg.poses[0].status == ObjectPose.STATUS_BAD_INPUT
    assert msg.poses[0].reason == 'the mask says nothing'
    msg = answer(world, poses, detection(score=0.05))
    assert msg.poses[0].status == ObjectPose.STATUS_NOT_FOUND


def test_the_detectors_reason_is_passed_on(world: World, poses: list) -> None:
    def edit(msg: ObjectDetectionArray) -> None:
        msg.status, msg.reason = ObjectDetectionArray.STATUS_NOT_FOUND, 'nothing there'

    msg = answer(world, poses, edit=edit)
    assert (msg.status, msg.reason) == (ObjectPoseArray.STATUS_NOT_FOUND, 'nothing there')


def test_stamps_that_jump_back_still_join(world: World, poses: list) -> None:
    answer(world, poses, detection())
    for _ in range(10):
        world.show(with_info=False)
    world.stamp_ns = 10**8
    world.show()
    assert answer(world, poses, detection()).status == ObjectPoseArray.STATUS_OK
