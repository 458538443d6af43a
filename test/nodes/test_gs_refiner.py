"""The refiner node: refine, follow, lose, find again; and its service."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from sensor_msgs.msg import Image
from tf2_msgs.msg import TFMessage

from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.geometry import se3
from gs_pose_ros.msg import ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.gs_refiner import RefinerNode
from gs_pose_ros.nodes.runtime.conversions import (
    camera_to_message,
    detection_to_message,
    estimate_to_message,
)
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.pose.refinement.gs2pose import GS2PoseRefiner
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.recording.frame_decoding import pose_from_message, stamp_to_ns
from gs_pose_ros.srv import EstimatePose
from test.fakes import CAMERA, START, Everywhere, Follower
from test.nodes.conftest import World, announce, header_at, image_message

DARK = np.zeros((*CAMERA.shape, 3), np.uint8)


@pytest.fixture
def method() -> Follower:
    return Follower()


@pytest.fixture
def poses(world: World, database: ObjectDatabase, method: Follower) -> list:
    got = world.listen(ObjectPoseArray, 'gs_refiner/poses')
    stages = Everywhere()
    world.add(RefinerNode, refine=method, track=method, detect=stages, initialize=stages)
    return got


@pytest.fixture
def node(world: World, poses: list) -> RefinerNode:
    (node,) = world.stages
    assert isinstance(node, RefinerNode)
    return node


def initial(world: World, stamp_ns: int, T_cam_obj=START, object_id='mug', instance=0) -> None:
    msg = ObjectPoseArray(header=header_at(stamp_ns), status=ObjectPoseArray.STATUS_OK)
    hypothesis = PoseEstimate(T_cam_obj, 0.5, Status.INITIAL)
    msg.poses = [estimate_to_message(msg.header, object_id, instance, hypothesis)]
    world.send('pose_initializer/initial_poses', msg)


def begin(world: World, poses: list) -> int:
    """Show an image, initialize in it, wait for the refined pose; returns the stamp."""
    stamp_ns = world.show()
    initial(world, stamp_ns)
    world.until(lambda: of_stage(poses, ObjectPose.STAGE_REFINED), 'a refined pose')
    return stamp_ns


def of_stage(poses: list, stage: int, status: int = ObjectPose.STATUS_OK) -> list[ObjectPose]:
    return [p for msg in list(poses) for p in msg.poses if (p.stage, p.status) == (stage, status)]


def all_of(poses: list) -> list[ObjectPose]:
    return [p for msg in list(poses) for p in msg.poses]


def test_a_refined_pose_is_followed(world: World, poses: list, method: Follower) -> None:
    stamp_ns = begin(world, poses)
    refined = of_stage(poses, ObjectPose.STAGE_REFINED)[0]
    assert stamp_to_ns(refined.header.stamp) == stamp_ns
    assert (refined.score, refined.iterations) == (0.9, 3)
    world.show_until(lambda: len(of_stage(poses, ObjectPose.STAGE_TRACKED)) > 3, 'tracking')
    tracked = of_stage(poses, ObjectPose.STAGE_TRACKED)
    x = [pose_from_message(pose.pose.pose)[0, 3] for pose in tracked]
    np.testing.assert_allclose(np.diff(x), 0.001, atol=1e-9)
    assert 0 < method.steps[-1] <= 0.001 + 1e-9  # it goes on as it has moved
    stamps = [stamp_to_ns(pose.header.stamp) for pose in tracked]
    assert stamps == sorted(stamps)


def test_images_that_came_meanwhile_are_caught_up(
    world: World, poses: list, method: Follower
) -> None:
    stamps = [world.show() for _ in range(10)]
    initial(world, stamps[2])
    world.until(lambda: method.tracked and method.tracked[-1] == stamps[-1], 'the newest image')
    assert method.tracked[0] > stamps[2]


def test_every_output_of_a_pose(world: World, poses: list) -> None:
    best = world.listen(PoseStamped, 'gs_refiner/pose')
    plain = world.listen(PoseStamped, 'gs_refiner/mug/pose')
    spread = world.listen(PoseWithCovarianceStamped, 'gs_refiner/mug/pose_with_covariance')
    frames = world.listen(TFMessage, '/tf')
    overlays = world.listen(Image, 'gs_refiner/overlay')
    renderings = world.listen(Image, 'gs_refiner/rendering')
    begin(world, poses)
    world.show_until(
        lambda: best and plain and spread and frames and overlays and renderings, 'all outputs'
    )
    assert plain[-1].header.frame_id == 'camera'
    transform = frames[-1].transforms[0]
    assert (transform.header.frame_id, transform.child_frame_id) == ('camera', 'mug')
    assert transform.transform.translation.z == pytest.approx(0.5)
    C = np.reshape(spread[-1].pose.covariance, (6, 6))
    # Turning about the camera, 0.5 m away, moves the object: 1e-6 (1 + 0.5^2).
    assert C[0, 0] == pytest.approx(1.25e-6, rel=0.01)
    for picture in (overlays[-1], renderings[-1]):
        assert (picture.encoding, picture.width) == ('rgb8', 64)


def test_lost_is_a_status_and_the_object_can_come_back(
    world: World, poses: list, method: Follower
) -> None:
    begin(world, poses)
    world.show_until(lambda: of_stage(poses, ObjectPose.STAGE_TRACKED), 'tracking')

    def lost() -> list[ObjectPose]:
        return of_stage(poses, ObjectPose.STAGE_TRACKED, ObjectPose.STATUS_LOST)

    world.show_until(lambda: len(lost()) >= 3, 'three lost images', color=DARK)
    assert poses[-1].status == ObjectPoseArray.STATUS_LOST
    assert 'it is dark' in poses[-1].reason
    count = len(method.tracked)
    for _ in range(3):
        stamp_ns = world.show()
    refined = len(of_stage(poses, ObjectPose.STAGE_REFINED))
    initial(world, stamp_ns)
    world.until(lambda: len(of_stage(poses, ObjectPose.STAGE_REFINED)) > refined, 'recovery')
    # Given up: the images before this one were not followed, and none has come after it.
    assert len(method.tracked) == count


def test_one_lost_image_does_not_end_a_track(world: World, poses: list) -> None:
    begin(world, poses)
    world.show(DARK)
    world.show_until(
        lambda: (
            poses[-1].poses
            and poses[-1].poses[0].stage == ObjectPose.STAGE_TRACKED
            and poses[-1].status == ObjectPoseArray.STATUS_OK
        ),
        'the track goes on',
    )


def test_initial_poses_of_what_is_followed_change_nothing(
    world: World, poses: list, method: Follower
) -> None:
    stamp_ns = begin(world, poses)
    initial(world, stamp_ns)
    far = se3.from_rotation_translation(np.eye(3), [0.3, 0.0, 0.5])
    initial(world, stamp_ns, far)
    world.until(lambda: len(of_stage(poses, ObjectPose.STAGE_REFINED)) == 2, 'another instance')
    assert of_stage(poses, ObjectPose.STAGE_REFINED)[-1].instance == 1
    assert method.refined == 2  # initial poses are worked off in their order


def test_two_tracks_that_come_to_one_place_become_one(
    world: World, poses: list, method: Follower
) -> None:
    """As one that was begun at a wrong pose, from which it finds its way to the object."""
    stamp_ns = begin(world, poses)
    initial(world, stamp_ns, se3.from_rotation_translation(np.eye(3), [0.3, 0.0, 0.5]))
    world.show_until(
        lambda: any(p.instance == 1 for p in of_stage(poses, ObjectPose.STAGE_TRACKED)), 'two'
    )
    method.to = START
    world.show_until(lambda: any('one object' in p.reason for p in all_of(poses)), 'one of them')
    ended = next(p for p in all_of(poses) if 'one object' in p.reason)
    assert (ended.instance, ended.status) == (1, ObjectPose.STATUS_LOST)
    count = len(poses)
    world.show_until(lambda: len(poses) > count + 3, 'more poses')
    for msg in poses:  # never two good ones in one place
        good = [p.pose.pose.position.x for p in msg.poses if p.status == ObjectPose.STATUS_OK]
        assert len(good) < 2 or max(good) - min(good) > 0.02
    assert {p.instance for msg in poses[count:] for p in msg.poses} == {0}


def test_a_lost_track_that_comes_back_beside_its_successor_is_one_with_it(
    world: World, poses: list, method: Follower
) -> None:
    begin(world, poses)
    world.show_until(lambda: of_stage(poses, ObjectPose.STAGE_TRACKED), 'tracking')
    stamp_ns = world.show(DARK)
    lost = lambda p: p.status == ObjectPose.STATUS_LOST  # noqa: E731
    world.until(lambda: any(lost(p) for p in all_of(poses)), 'a lost image')
    beside = se3.from_rotation_translation(np.eye(3), [0.05, 0.0, 0.5])
    refined = len(of_stage(poses, ObjectPose.STAGE_REFINED))
    method.sees_in_the_dark = True
    initial(world, stamp_ns, beside)
    world.until(lambda: len(of_stage(poses, ObjectPose.STAGE_REFINED)) > refined, 'a successor')
    method.to = START
    world.show_until(lambda: any('one object' in p.reason for p in all_of(poses)), 'one of them')
    assert of_stage(poses, ObjectPose.STAGE_TRACKED)[-1].instance == 0


def test_the_mask_of_the_detection_reaches_the_refiner(
    world: World, node: RefinerNode, method: Follower
) -> None:
    stamp_ns = world.show()
    mask = np.zeros(CAMERA.shape, bool)
    mask[3:9, 4:8] = True
    msg = ObjectDetectionArray(header=header_at(stamp_ns))
    found = Detection.from_full_mask('mug', 0.5, mask)
    msg.detections = [detection_to_message(msg.header, found, 0)]
    world.send('detector/detections', msg)
    world.until(lambda: stamp_ns in node._detections, 'the detections')
    initial(world, stamp_ns)
    world.until(lambda: method.masks, 'refinement')
    np.testing.assert_array_equal(method.masks[0], mask)


def test_an_unknown_object_has_its_status(world: World, poses: list) -> None:
    stamp_ns = world.show()
    initial(world, stamp_ns, object_id='ghost')
    world.until(lambda: poses and poses[-1].poses, 'an answer')
    pose = poses[-1].poses[0]
    assert pose.status == ObjectPose.STATUS_UNKNOWN_OBJECT
    assert 'ghost' in pose.reason


def test_an_object_removed_while_followed_is_lost(
    world: World, poses: list, database: ObjectDatabase
) -> None:
    begin(world, poses)
    database.remove('mug')
    announce(world, database)
    world.show_until(lambda: poses[-1].status == ObjectPoseArray.STATUS_LOST, 'lost')
    assert 'not in the database' in poses[-1].reason


def test_initial_poses_without_their_image_are_said(world: World, poses: list) -> None:
    stamp_ns = world.show()
    initial(world, stamp_ns - 10**9)
    world.until(lambda: poses, 'an answer')
    assert poses[-1].status == ObjectPoseArray.STATUS_BAD_INPUT
    assert 'history' in poses[-1].reason


def test_initial_poses_of_a_lost_image_are_refined_in_the_next(world: World, poses: list) -> None:
    stamp_ns = world.show()
    initial(world, stamp_ns - 30_000_000)
    world.until(lambda: of_stage(poses, ObjectPose.STAGE_REFINED), 'a refined pose')
    assert stamp_to_ns(of_stage(poses, ObjectPose.STAGE_REFINED)[0].header.stamp) == stamp_ns


def test_no_camera_info_is_said_and_recovers(world: World, poses: list) -> None:
    wanted = ObjectPoseArray.STATUS_NO_CAMERA_INFO
    world.show_until(lambda: poses and poses[-1].status == wanted, 'the status', with_info=False)
    begin(world, poses)


def test_wrong_encoding_while_following_is_said_and_recovers(world: World, poses: list) -> None:
    begin(world, poses)
    wanted = ObjectPoseArray.STATUS_BAD_INPUT
    world.show_until(lambda: poses[-1].status == wanted, 'the status', encoding='32FC3')
    world.show_until(lambda: poses[-1].status == ObjectPoseArray.STATUS_OK, 'recovery')


def test_stamps_that_jump_back_end_tracks_with_a_reason(world: World, poses: list) -> None:
    begin(world, poses)
    world.show_until(lambda: of_stage(poses, ObjectPose.STAGE_TRACKED), 'tracking')
    world.stamp_ns = 10**8
    world.show()
    world.until(lambda: any('jumped back' in msg.reason for msg in poses), 'the reason')
    begin_at = world.show()
    refined = len(of_stage(poses, ObjectPose.STAGE_REFINED))
    initial(world, begin_at)
    world.until(lambda: len(of_stage(poses, ObjectPose.STAGE_REFINED)) > refined, 'recovery')


def test_a_bug_ends_tracks_with_a_status_and_it_recovers(
    world: World, poses: list, method: Follower
) -> None:
    begin(world, poses)
    method.broken = True
    world.show_until(
        lambda: any(msg.status == ObjectPoseArray.STATUS_ERROR for msg in poses), 'the status'
    )
    method.broken = False
    refined = len(of_stage(poses, ObjectPose.STAGE_REFINED))
    stamp_ns = world.show()
    initial(world, stamp_ns)
    world.until(lambda: len(of_stage(poses, ObjectPose.STAGE_REFINED)) > refined, 'recovery')


# ---- the service ----


def request(color: np.ndarray | None = None, *object_ids: str) -> EstimatePose.Request:
    out = EstimatePose.Request(object_ids=list(object_ids))
    color = np.full((*CAMERA.shape, 3), 128, np.uint8) if color is None else color
    out.color = image_message(color, 'rgb8', 5)
    out.camera_info = camera_to_message(CAMERA, header_at(5))
    return out


def ask(world: World, what: EstimatePose.Request) -> EstimatePose.Response:
    return world.call(EstimatePose, 'gs_refiner/estimate_pose', what)


@pytest.mark.parametrize(
    ('name', 'kind'), [('lm', LMRefiner), ('paper', GSPoseRefiner), ('gs2pose', GS2PoseRefiner)]
)
def test_the_method_is_a_parameter(world: World, name: str, kind: type) -> None:
    node = world.add(RefinerNode, parameters={'method': name, 'gs2pose.final_phase.steps': 7})
    assert isinstance(node, RefinerNode)
    assert isinstance(node.refinement, kind)
    assert node.settings.gs2pose.final_phase.steps == 7


def test_service_one_image_in_poses_out(world: World, poses: list) -> None:
    answer = ask(world, request())
    assert answer.success
    assert answer.poses.status == ObjectPoseArray.STATUS_OK
    assert answer.poses.header == header_at(5)
    pose = answer.poses.poses[0]
    assert (pose.object_id, pose.stage) == ('mug', ObjectPose.STAGE_REFINED)
    assert pose.status == ObjectPose.STATUS_OK


def test_service_answers_with_reasons(world: World, poses: list) -> None:
    answer = ask(world, request(DARK))
    assert answer.success
    assert answer.poses.poses[0].status == ObjectPose.STATUS_NOT_FOUND
    answer = ask(world, request(None, 'ghost', 'mug'))
    statuses = {pose.object_id: pose.status for pose in answer.poses.poses}
    assert statuses == {
        'ghost': ObjectPose.STATUS_UNKNOWN_OBJECT,
        'mug': ObjectPose.STATUS_OK,
    }
    broken = request()
    broken.color.encoding = '32FC3'
    answer = ask(world, broken)
    assert not answer.success
    assert '32FC3' in answer.message


def test_service_answers_while_the_line_works(world: World, poses: list, method: Follower) -> None:
    stamp_ns = world.show()
    method.gate.clear()
    initial(world, stamp_ns)
    world.until(lambda: method.refined == 1, 'work')
    answer = ask(world, request(None, 'ghost'))  # needs no refinement
    assert answer.success
    assert not of_stage(poses, ObjectPose.STAGE_REFINED)
    method.gate.set()
    world.until(lambda: of_stage(poses, ObjectPose.STAGE_REFINED), 'the end of the work')
