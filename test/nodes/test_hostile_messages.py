"""Arrays and requests that no node of ours sends: what is bad is left out, and the rest counts."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Header

from gs_pose_ros.estimate import Detection
from gs_pose_ros.geometry import se3
from gs_pose_ros.msg import ObjectDetection, ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.detector import DetectorNode
from gs_pose_ros.nodes.gs_refiner import RefinerNode
from gs_pose_ros.nodes.pose_initializer import PoseInitializerNode
from gs_pose_ros.nodes.runtime.conversions import (
    camera_to_message,
    detection_to_message,
)
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.srv import EstimatePose
from test.fakes import CAMERA, START, AtTheMask, BrightPixels, Everywhere, Follower
from test.nodes.conftest import World, header_at, image_message
from test.nodes.runtime.test_entries import BAD_POSES, INF, NAN, at, hypothesis, with_fields

FAR = se3.from_rotation_translation(np.eye(3), [0.3, 0.0, 0.5])


@pytest.fixture
def method() -> Follower:
    return Follower()


@pytest.fixture
def refined(world: World, database: ObjectDatabase, method: Follower) -> list:
    got = world.listen(ObjectPoseArray, 'gs_refiner/poses')
    stages = Everywhere()
    world.add(RefinerNode, refine=method, track=method, detect=stages, initialize=stages)
    return got


@pytest.fixture
def initial(world: World, database: ObjectDatabase) -> list:
    got = world.listen(ObjectPoseArray, 'pose_initializer/initial_poses')
    world.add(PoseInitializerNode, method=AtTheMask())
    return got


@pytest.fixture
def faults(world: World) -> Callable[[], dict[str, str]]:
    """The last diagnostics of the node under test."""
    got = world.listen(DiagnosticArray, '/diagnostics')

    def values() -> dict[str, str]:
        mine = [m.status[0] for m in list(got) if m.status[0].name.startswith(world.namespace)]
        return {v.key: v.value for v in mine[-1].values} if mine else {}

    return values


def send_poses(world: World, *edits: Callable[[ObjectPose], Any], good: bool = True) -> int:
    """Of an image, one pose for each edit, and then a good one of instance 100 further right."""
    stamp_ns = world.show()
    msg = ObjectPoseArray(header=header_at(stamp_ns), status=ObjectPoseArray.STATUS_OK)
    poses = []
    for k, edit in enumerate(edits):
        pose = hypothesis(msg.header, k)
        edit(pose)
        poses.append(pose)
    msg.poses = [*poses, *([hypothesis(msg.header, 100, FAR)] if good else [])]
    world.send('pose_initializer/initial_poses', msg)
    return stamp_ns


def found(messages: list, stage: int, instance: int) -> list[ObjectPose]:
    return [
        pose
        for msg in list(messages)
        for pose in msg.poses
        if (pose.stage, pose.instance, pose.status) == (stage, instance, ObjectPose.STATUS_OK)
    ]


def test_bad_initial_poses_cost_nothing_but_themselves(
    world: World, refined: list, faults: Callable[[], dict[str, str]]
) -> None:
    send_poses(world)
    world.show_until(lambda: found(refined, ObjectPose.STAGE_TRACKED, 100), 'a track')
    edits = [edit for edit, _ in BAD_POSES.values()]
    send_poses(world, *edits, with_fields(), good=False)
    world.until(lambda: found(refined, ObjectPose.STAGE_REFINED, len(edits)), 'the good one')
    count = len(found(refined, ObjectPose.STAGE_TRACKED, 100))
    world.show_until(
        lambda: len(found(refined, ObjectPose.STAGE_TRACKED, 100)) > count, 'the track goes on'
    )
    reason = f'{len(edits)} of {len(edits) + 1} entries of initial_poses are left out'
    world.until(lambda: reason in faults().get('initial_poses', ''), 'the diagnostics')
    assert faults()['skipped_entries'] == str(len(edits))
    send_poses(world)
    world.until(lambda: 'initial_poses' not in faults(), 'it is well again')


def test_nothing_but_bad_initial_poses_is_said(world: World, refined: list) -> None:
    stamp_ns = send_poses(world, at(x=NAN), good=False)
    world.until(lambda: refined, 'an answer')
    assert refined[-1].status == ObjectPoseArray.STATUS_BAD_INPUT
    assert 'not a pose' in refined[-1].reason
    assert refined[-1].header == header_at(stamp_ns)


def test_hypotheses_beside_a_bad_one_count(world: World, refined: list) -> None:
    same = with_fields(instance=0)

    def bad(pose: ObjectPose) -> None:
        at(x=NAN)(pose)
        same(pose)

    send_poses(world, bad, same, good=False)
    world.until(lambda: found(refined, ObjectPose.STAGE_REFINED, 0), 'the good one')


@pytest.mark.parametrize('status', [ObjectPose.STATUS_NOT_FOUND, 0, 77])
def test_what_an_initializer_did_not_find_is_passed_on(
    world: World, refined: list, status: int
) -> None:
    """Its pose says nothing, and may be anything; the reason is no book."""

    def edit(pose: ObjectPose) -> None:
        at(x=NAN)(pose)
        with_fields(status=status, reason='y' * 10_000)(pose)

    send_poses(world, edit)
    world.until(lambda: refined and len(refined[-1].poses) == 2, 'an answer')
    failed = refined[-1].poses[0]
    known = status == ObjectPose.STATUS_NOT_FOUND
    assert failed.status == (status if known else ObjectPose.STATUS_BAD_INPUT)
    assert len(failed.reason) < 600
    assert failed.pose.pose.position.x == 0
    assert found(refined, ObjectPose.STAGE_REFINED, 100)


def test_more_than_any_image_holds_is_left_out(
    world: World, refined: list, method: Follower, faults: Callable[[], dict[str, str]]
) -> None:
    stamp_ns = world.show()
    msg = ObjectPoseArray(header=header_at(stamp_ns), status=ObjectPoseArray.STATUS_OK)
    msg.poses = [hypothesis(msg.header, k, object_id=f'x{k}') for k in range(900)] * 20
    world.send('pose_initializer/initial_poses', msg)
    world.until(lambda: refined, 'an answer')
    assert len(refined[-1].poses) == 64
    world.until(
        lambda: 'beyond the 64 instances' in faults().get('initial_poses', ''), 'the diagnostics'
    )
    send_poses(world)
    world.until(lambda: found(refined, ObjectPose.STAGE_REFINED, 100), 'a good one')


def test_an_error_with_one_instance_is_its_own(
    world: World, refined: list, method: Follower
) -> None:
    send_poses(world)
    world.show_until(lambda: found(refined, ObjectPose.STAGE_TRACKED, 100), 'a track')
    right, method.refine = method.refine, lambda *_: 1 / 0  # type: ignore[method-assign]
    send_poses(world, with_fields(), good=False)
    world.until(
        lambda: any(p.status == ObjectPose.STATUS_ERROR for m in list(refined) for p in m.poses),
        'the status',
    )
    method.refine = right  # type: ignore[method-assign]
    count = len(found(refined, ObjectPose.STAGE_TRACKED, 100))
    world.show_until(
        lambda: len(found(refined, ObjectPose.STAGE_TRACKED, 100)) > count, 'the track goes on'
    )


@pytest.mark.parametrize('node', ['refined', 'initial'])
def test_stamps_of_no_image_are_said(
    world: World, request: pytest.FixtureRequest, node: str
) -> None:
    got: list = request.getfixturevalue(node)
    newest = world.show()
    for stamp_ns in (newest + 3600 * 10**9, -(10**18)):
        header = header_at(stamp_ns)
        count = len(got)
        world.send('detector/searching', header)
        if node == 'refined':
            msg = ObjectPoseArray(header=header, poses=[hypothesis(header)])
            world.send('pose_initializer/initial_poses', msg)
        else:
            found = ObjectDetectionArray(header=header, detections=[ObjectDetection()])
            world.send('detector/detections', found)
        world.until(lambda n=count: len(got) > n, 'an answer')
        assert got[-1].status == ObjectPoseArray.STATUS_BAD_INPUT
        assert ('after the newest' if stamp_ns > 0 else 'history') in got[-1].reason
    (send_poses if node == 'refined' else send_detections)(world)
    world.until(lambda: got[-1].status == ObjectPoseArray.STATUS_OK, 'a good one')


# ---- detections ----


def send_detections(world: World, *edits: Callable[[ObjectDetection], Any]) -> None:
    """Of an image, one for each edit, and then a good one of instance 100."""
    stamp_ns = world.show()
    mask = np.zeros(CAMERA.shape, bool)
    mask[20:28, 28:36] = True
    good = Detection.from_full_mask('mug', 0.5, mask, (START,))
    msg = ObjectDetectionArray(header=header_at(stamp_ns), status=ObjectDetectionArray.STATUS_OK)
    for k, edit in enumerate((*edits, with_fields(instance=100))):
        entry = detection_to_message(msg.header, good, k)
        edit(entry)
        msg.detections.append(entry)
    world.send('detector/detections', msg)


def roi(**fields: int) -> Callable[[ObjectDetection], None]:
    return lambda entry: with_fields(**fields)(entry.roi)


def mask(**fields: Any) -> Callable[[ObjectDetection], None]:
    return lambda entry: with_fields(**fields)(entry.mask)


BAD_DETECTIONS = {
    'outside': (roi(x_offset=2**32 - 1), 'is not inside the 64x48 image'),
    'wide': (roi(width=2**32 - 1), 'is not inside'),
    'empty': (roi(height=0), 'is not inside'),
    'mask of another size': (mask(height=7), 'mask is mono8 8x7'),
    'mask step': (mask(step=2**32 - 1), 'mask: 8x8 mono8 needs'),
    'mask short': (mask(data=b'\1'), 'mask: 8x8 mono8 needs'),
    'mask rgb': (mask(encoding='rgb8'), 'mask is rgb8'),
    'hint': (lambda entry: setattr(entry.pose_hints[0].position, 'x', NAN), 'hint: not a pose'),
    'score': (with_fields(score=-INF), 'score -inf'),
    'frame': (with_fields(header=Header(frame_id='map')), "frame is 'map'"),
    'name': (with_fields(object_id='x' * 10_000), '10000 characters'),
    'instance': (with_fields(instance=1000), 'instance 1000 is above 999'),
}


def test_bad_detections_cost_nothing_but_themselves(
    world: World, initial: list, faults: Callable[[], dict[str, str]]
) -> None:
    send_detections(world, *[edit for edit, _ in BAD_DETECTIONS.values()])
    world.until(lambda: initial, 'an answer')
    assert initial[-1].status == ObjectPoseArray.STATUS_OK
    assert found(initial, ObjectPose.STAGE_INITIAL, 100)
    assert all(len(pose.object_id) < 200 for pose in initial[-1].poses)
    reasons = '; '.join(pose.reason for pose in initial[-1].poses)
    for _, words in list(BAD_DETECTIONS.values())[:-4]:  # of the others no more is repeated
        assert words in reasons
    count = len(BAD_DETECTIONS)
    reason = f'{count} of {count + 1} entries of detections are left out; entry 0: '
    world.until(lambda: reason in faults().get('detections', ''), 'the diagnostics')
    assert faults()['skipped_entries'] == str(count)
    send_detections(world)
    world.until(lambda: 'detections' not in faults(), 'it is well again')


def test_no_more_detections_than_an_image_holds(
    world: World, initial: list, refined: list
) -> None:
    send_detections(world, *[with_fields()] * 2000)
    world.until(lambda: initial, 'an answer')
    assert len(initial[-1].poses) == 2 * 64
    send_poses(world)
    world.until(lambda: found(refined, ObjectPose.STAGE_REFINED, 100), 'a good one')


def test_poses_of_strange_objects_are_forgotten(world: World, database: ObjectDatabase) -> None:
    detections = world.listen(ObjectDetectionArray, 'detector/detections')
    node = world.add(DetectorNode, method=BrightPixels())
    msg = ObjectPoseArray(header=header_at(1))
    msg.poses = [hypothesis(msg.header, object_id=f'{k}' * 100) for k in range(500)]
    world.send('gs_refiner/poses', msg)
    world.show_until(lambda: detections, 'detections', color=np.full((48, 64, 3), 255, np.uint8))
    assert set(node._plan._times) == {'mug'}


# ---- the service ----


def request_of(*object_ids: str) -> EstimatePose.Request:
    out = EstimatePose.Request(object_ids=list(object_ids))
    out.color = image_message(np.full((*CAMERA.shape, 3), 128, np.uint8), 'rgb8', 5)
    out.camera_info = camera_to_message(CAMERA, header_at(5))
    return out


REQUESTS = {
    'names': (lambda r: with_fields(object_ids=['mug'] * 1001)(r), '1001 names: at most 1000'),
    'long': (lambda r: with_fields(object_ids=['x' * 2**20])(r), '1048576 characters'),
    'depth without columns': (
        lambda r: with_fields(height=480, encoding='16UC1')(r.depth),
        '0x480',
    ),
    'color without rows': (lambda r: with_fields(height=0)(r.color), '64x0'),
    'step': (lambda r: with_fields(step=0)(r.color), 'step is 0'),
    'wide': (lambda r: with_fields(width=2**32 - 1)(r.color), 'megapixels'),
}


class Twice(Everywhere):
    """Finds the object twice; the follower refines both to one pose."""

    def detect(self, *args: Any) -> list[Detection]:
        return super().detect(*args) * 2


def test_two_detections_of_one_object_are_one_answer(
    world: World, database: ObjectDatabase, method: Follower
) -> None:
    stages = Twice()
    world.add(RefinerNode, refine=method, track=method, detect=stages, initialize=stages)
    answer = world.call(EstimatePose, 'gs_refiner/estimate_pose', request_of())
    assert method.refined == 2
    statuses = {pose.instance: pose.status for pose in answer.poses.poses}
    assert statuses == {0: ObjectPose.STATUS_OK, 1: ObjectPose.STATUS_LOST}
    assert 'one object' in answer.poses.poses[1].reason


@pytest.mark.parametrize(('edit', 'words'), REQUESTS.values(), ids=REQUESTS)
def test_a_bad_request_is_refused_with_words(
    world: World, refined: list, edit: Any, words: str
) -> None:
    bad = deepcopy(request_of())
    edit(bad)
    answer = world.call(EstimatePose, 'gs_refiner/estimate_pose', bad)
    assert not answer.success
    assert answer.poses.status == ObjectPoseArray.STATUS_BAD_INPUT
    assert words in answer.message
    good = world.call(EstimatePose, 'gs_refiner/estimate_pose', request_of('mug', 'mug', 'a\0b'))
    assert good.success
    statuses = {pose.object_id: pose.status for pose in good.poses.poses}
    assert len(good.poses.poses) == 2
    assert statuses['mug'] == ObjectPose.STATUS_OK
    assert ObjectPose.STATUS_UNKNOWN_OBJECT in statuses.values()
