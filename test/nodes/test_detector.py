"""The detector node: what it publishes, and what it says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from gs_pose_ros.estimate import PoseEstimate, Status
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.msg import ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.detector import DetectorNode
from gs_pose_ros.nodes.runtime.conversions import estimate_to_message
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.recording.frame_decoding import stamp_to_ns
from test.fakes import CAMERA, BrightPixels, make_reference
from test.nodes.conftest import World, announce, header_at

OK = ObjectDetectionArray.STATUS_OK


def bright() -> np.ndarray:
    color = np.zeros((*CAMERA.shape, 3), np.uint8)
    color[10:20, 30:50] = 255
    return color


@pytest.fixture
def method() -> BrightPixels:
    return BrightPixels()


@pytest.fixture
def detections(world: World, database: ObjectDatabase, method: BrightPixels) -> list:
    got = world.listen(ObjectDetectionArray, 'detector/detections')
    world.add(DetectorNode, method=method)
    return got


@pytest.fixture
def node(world: World, detections: list) -> DetectorNode:
    (node,) = world.stages
    assert isinstance(node, DetectorNode)
    return node


def test_detection_carries_stamp_roi_mask_and_hints(world: World, detections: list) -> None:
    world.show_until(lambda: [m for m in detections if m.status == OK], 'ok', color=bright())
    msg = next(m for m in detections if m.status == OK)
    found = msg.detections[0]
    assert msg.header.frame_id == 'camera'
    assert msg.header.stamp.nanosec % 33_000_000 == 0
    assert (found.object_id, found.instance, found.score) == ('mug', 0, 0.8)
    assert (found.roi.x_offset, found.roi.y_offset) == (30, 10)
    assert (found.roi.width, found.roi.height) == (20, 10)
    assert set(found.mask.data) == {255}
    assert len(found.pose_hints) == 1
    assert msg.compute_time > 0


def test_not_found_is_an_answer(world: World, detections: list) -> None:
    world.show_until(lambda: detections, 'detections')
    msg = detections[-1]
    assert msg.status == ObjectDetectionArray.STATUS_NOT_FOUND
    assert 'mug' in msg.reason
    assert not msg.detections


def test_no_camera_info_is_said_and_recovers(world: World, detections: list) -> None:
    wanted = ObjectDetectionArray.STATUS_NO_CAMERA_INFO
    world.show_until(
        lambda: [m for m in detections if m.status == wanted], 'the status', with_info=False
    )
    assert '/color/camera_info' in detections[-1].reason
    world.show_until(lambda: detections[-1].status == OK, 'recovery', color=bright())


def test_no_depth_is_said_and_recovers(world: World, detections: list) -> None:
    wanted = ObjectDetectionArray.STATUS_BAD_INPUT
    world.show_until(
        lambda: [m for m in detections if m.status == wanted], 'the status', with_depth=False
    )
    assert '/depth/image' in detections[-1].reason
    world.show_until(lambda: detections[-1].status == OK, 'recovery', color=bright())


def test_a_camera_that_cannot_be_heard_is_named(world: World, detections: list) -> None:
    said = world.listen(DiagnosticArray, '/diagnostics')
    topic = f'{world.namespace}/depth/image'
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    world._publishers['depth/image'] = world.node.create_publisher(Image, topic, best_effort)
    wanted = ObjectDetectionArray.STATUS_BAD_INPUT
    world.show_until(lambda: [m for m in detections if m.status == wanted], 'the status')
    assert f'publishes {topic} with another QoS' in detections[-1].reason
    assert 'Best effort publisher' in detections[-1].reason
    world.until(
        lambda: any('another QoS' in status.message for msg in said for status in msg.status),
        'the same in the diagnostics',
    )


def test_wrong_encoding_is_said_and_recovers(world: World, detections: list) -> None:
    wanted = ObjectDetectionArray.STATUS_BAD_INPUT
    world.show_until(
        lambda: [m for m in detections if m.status == wanted], 'the status', encoding='32FC3'
    )
    assert '32FC3' in detections[-1].reason
    world.show_until(lambda: detections[-1].status == OK, 'recovery', color=bright())


def test_size_change_in_mid_stream(world: World, detections: list, method: BrightPixels) -> None:
    world.show_until(lambda: detections, 'detections')
    bigger = Camera(120.0, 120.0, 63.5, 47.5, 128, 96)
    wrong = np.full((96, 128, 3), 255, np.uint8)
    world.show_until(
        lambda: detections[-1].status == ObjectDetectionArray.STATUS_BAD_INPUT,
        'the image of another size than its camera_info',
        color=wrong,
    )
    assert '128x96' in detections[-1].reason
    assert '64x48' in detections[-1].reason
    world.show_until(lambda: method.frames[-1].camera == bigger, 'the new size', camera=bigger)
    assert detections[-1].status in (ObjectDetectionArray.STATUS_NOT_FOUND, 4)


def test_depth_without_a_valid_pixel_leaves_colour(
    world: World, detections: list, method: BrightPixels
) -> None:
    nan = np.full(CAMERA.shape, np.nan, np.float32)
    world.show_until(lambda: detections, 'detections', depth=nan)
    assert method.frames[-1].depth is None
    assert 'no valid pixel' in detections[-1].reason
    some = nan.copy()
    some[5, 5] = 0.4
    world.show_until(lambda: method.frames[-1].depth is not None, 'depth', depth=some)
    depth = method.frames[-1].depth
    assert depth is not None
    assert np.count_nonzero(depth) == 1


def test_without_objects_there_is_a_reason(world: World, method: BrightPixels) -> None:
    got = world.listen(ObjectDetectionArray, 'detector/detections')
    world.add(DetectorNode, method=method)
    world.show_until(lambda: got, 'detections')
    assert got[-1].status == ObjectDetectionArray.STATUS_NO_OBJECTS
    assert 'no object list' in got[-1].reason


def test_a_broken_entry_leaves_the_other_objects(
    world: World, database: ObjectDatabase, detections: list, method: BrightPixels
) -> None:
    database.save(make_reference('can'))
    (database.root / 'can' / 'gaussians.ply').write_bytes(b'ply\nhalf')
    announce(world, database)
    health = world.listen(DiagnosticArray, '/diagnostics')
    world.show_until(lambda: method.searched, 'a search')
    world.until(
        lambda: any('gaussians.ply' in status.message for m in health for status in m.status),
        'the broken file in the diagnostics',
    )
    assert method.searched[-1] == ['mug']


def feedback(world: World, status: Status, object_id: str = 'mug') -> None:
    """What the refiner says of an object that it follows."""
    msg = ObjectPoseArray(header=header_at(world.stamp_ns))
    estimate = PoseEstimate(np.eye(4), 1.0, status)
    stage = ObjectPose.STAGE_TRACKED
    msg.poses = [estimate_to_message(msg.header, object_id, 0, estimate, stage)]
    world.send('gs_refiner/poses', msg)


def test_rests_while_tracked_and_wakes_when_lost(
    world: World, node: DetectorNode, detections: list, method: BrightPixels
) -> None:
    world.show_until(lambda: 1.0 in method.efforts, 'a thorough search')
    feedback(world, Status.TRACKED)
    world.show_until(lambda: node._resting == 'mug', 'rest')
    searches = len(method.searched)
    for _ in range(10):
        rested_ns = world.show()
        feedback(world, Status.TRACKED)
    feedback(world, Status.LOST)
    world.show_until(lambda: len(method.searched) > searches, 'a new search')
    assert method.frames[searches].stamp_ns > rested_ns  # the first one since


def test_what_was_lost_is_searched_for_first_and_in_a_hurry(
    world: World, database: ObjectDatabase, method: BrightPixels
) -> None:
    parameters = {'recovery_s': 1.0, 'recovery_effort': 0.2}
    world.add(DetectorNode, method=method, parameters=parameters)
    database.save(make_reference('cup'))
    announce(world, database)
    world.show_until(lambda: method.searched[-1:] == [['cup', 'mug']], 'a search for both')
    world.show_until(lambda: method.efforts[-1] == 1.0, 'a thorough search')
    feedback(world, Status.TRACKED)
    world.show_until(lambda: method.searched[-1] == ['cup'], 'a search for the other')
    feedback(world, Status.LOST)
    world.show_until(lambda: method.searched[-1] == ['mug'], 'a search for the lost one')
    assert method.efforts[-1] == 0.2
    world.show_until(lambda: method.searched[-1] == ['cup', 'mug'], 'a search for both again')
    assert method.efforts[-1] == 1.0


def test_a_silent_refiner_does_not_keep_it_asleep(
    world: World, database: ObjectDatabase, method: BrightPixels
) -> None:
    world.add(DetectorNode, method=method, parameters={'track_timeout_s': 0.3})
    msg = ObjectPoseArray(header=header_at(1))
    estimate = PoseEstimate(np.eye(4), 1.0, Status.TRACKED)
    msg.poses = [estimate_to_message(msg.header, 'mug', 0, estimate)]
    world.send('gs_refiner/poses', msg)
    world.show_until(lambda: method.searched, 'a search', timeout_s=5)


def test_stamps_that_jump_back_go_on(world: World, detections: list, method: BrightPixels) -> None:
    world.show_until(lambda: detections, 'detections')
    for _ in range(12):  # fill the synchronizer with stamps that will be in the future
        world.show(with_depth=False)
    frames = len(method.frames)
    world.show_until(lambda: len(method.frames) > frames, 'settling')
    world.stamp_ns = 10**8
    world.show_until(lambda: method.frames[-1].stamp_ns < 10**9, 'frames of the new time')
    world.until(lambda: detections[-1].header.stamp.sec == 0, 'an answer to it')


def test_a_bug_in_a_stage_is_a_status(
    world: World, detections: list, method: BrightPixels
) -> None:
    method.broken = True
    world.show_until(lambda: detections, 'detections')
    assert detections[-1].status == ObjectDetectionArray.STATUS_ERROR
    assert 'a bug' in detections[-1].reason
    method.broken = False
    world.show_until(lambda: detections[-1].status == OK, 'recovery', color=bright())


def test_lifecycle_down_and_up_again(world: World, detections: list, method: BrightPixels) -> None:
    world.show_until(lambda: detections, 'detections')

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return world.call(ChangeState, 'detector/change_state', request).success

    assert change(Transition.TRANSITION_DEACTIVATE)
    unseen = {world.show() for _ in range(5)}
    assert change(Transition.TRANSITION_CLEANUP)
    assert change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)
    world.connect()
    stamps = lambda: [stamp_to_ns(msg.header.stamp) for msg in detections]  # noqa: E731
    world.show_until(lambda: stamps()[-1] > max(unseen), 'detections again')
    assert not unseen & set(stamps())


def test_without_autostart_it_waits_for_a_manager(
    world: World, database: ObjectDatabase, method: BrightPixels
) -> None:
    stage = world.add(DetectorNode, method=method, parameters={'autostart': False})
    assert not stage.active
