"""The four nodes on a rendered object, with nothing faked: real splat, real stages, real DDS."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from gs_pose_ros.estimate import Status
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.msg import ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.detector import DetectorNode
from gs_pose_ros.nodes.gs_refiner import RefinerNode
from gs_pose_ros.nodes.object_database import DatabaseNode
from gs_pose_ros.nodes.pose_initializer import PoseInitializerNode
from gs_pose_ros.nodes.runtime.conversions import camera_to_message
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference, ReferenceViews
from gs_pose_ros.pose.estimator import PoseEstimator
from gs_pose_ros.recording.frame_decoding import (
    frame_from_messages,
    pose_from_message,
    stamp_to_ns,
)
from gs_pose_ros.rendering import render
from gs_pose_ros.srv import EstimatePose
from test.nodes.conftest import World, header_at, image_message

CAMERA = Camera(220.0, 220.0, 79.5, 59.5, 160, 120)
SIZE = np.array([0.10, 0.07, 0.05])


def painted_box() -> ObjectReference:
    """A box with another colour and pattern on every side."""
    rng = np.random.default_rng(0)
    points, colors = [], []
    paints = rng.uniform(0.15, 0.95, (6, 2, 3))
    for side in range(6):
        axis, sign = side // 2, 1 - 2 * (side % 2)
        p = rng.uniform(-0.5, 0.5, (700, 3))
        p[:, axis] = 0.5 * sign
        stripes = (np.floor(p @ rng.uniform(2, 6, 3)) % 2).astype(int)
        points.append(p * SIZE)
        colors.append(paints[side, stripes])
    gaussians = Gaussians.from_points(
        np.concatenate(points), np.concatenate(colors), 0.0022, 0.95, 0
    )
    R = 6
    return ObjectReference(
        object_id='box',
        gaussians=gaussians,
        diameter_m=float(np.linalg.norm(SIZE)),
        box=np.stack([-SIZE / 2, SIZE / 2]),
        views=ReferenceViews(
            T_cam_obj=np.tile(se3.exp([0, 0, 0.4, 0, 0, 0]), (R, 1, 1)),
            intrinsics=np.tile([60.0, 60.0, 15.5, 15.5], (R, 1)),
            color=np.zeros((R, 32, 32, 3), np.uint8),
            mask=np.full((R, 32, 32), 255, np.uint8),
        ),
    )


def pose_at(k: int) -> np.ndarray:
    """Where the box is in image k: it sways before a wall 0.7 m away."""
    R = se3.exp([0, 0, 0, 2.2, 0.4 + 0.2 * np.sin(k / 20), 0.3 * np.sin(k / 15)])[:3, :3]
    return se3.from_rotation_translation(R, [0.02 * np.sin(k / 12), -0.01, 0.45])


def picture(reference: ObjectReference, T_cam_obj: np.ndarray | None) -> tuple:
    """Colour [H, W, 3] uint8 and depth [H, W] m of the box before a grainy wall."""
    rng = np.random.default_rng(1)
    wall = rng.uniform(0.35, 0.45, (*CAMERA.shape, 1)).repeat(3, -1)
    depth = np.full(CAMERA.shape, 0.7, np.float32)
    if T_cam_obj is not None:
        with torch.no_grad():
            image = render(reference.gaussians, CAMERA, torch.as_tensor(T_cam_obj))
        alpha = image.alpha.numpy()
        wall = image.color.numpy() + (1 - alpha[..., None]) * wall
        depth = np.where(alpha > 0.5, image.depth.numpy(), depth).astype(np.float32)
    return np.rint(wall.clip(0, 1) * 255).astype(np.uint8), depth


@pytest.fixture(scope='module')
def reference() -> ObjectReference:
    return painted_box()


@pytest.fixture
def line(world: World, reference: ObjectReference, tmp_path: Path) -> list:
    """The four nodes; the poses that come out."""
    database = ObjectDatabase(tmp_path / 'objects')
    database.root.mkdir()
    database.save(reference)
    poses = world.listen(ObjectPoseArray, 'gs_refiner/poses')
    world.add(DatabaseNode, parameters={'database': str(database.root)})
    for make in (DetectorNode, PoseInitializerNode, RefinerNode):
        stage = world.add(make)
        world.until(lambda stage=stage: stage._objects.references, 'the object')
    return poses


def errors(T: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Millimetres and degrees."""
    angle = se3.rotation_angle(T[:3, :3], truth[:3, :3])
    return 1e3 * np.linalg.norm(T[:3, 3] - truth[:3, 3]), np.rad2deg(angle)


@pytest.mark.slow
def test_found_followed_lost_and_found_again(
    world: World, reference: ObjectReference, line: list
) -> None:
    detections = world.listen(ObjectDetectionArray, 'detector/detections')
    (detector,) = (stage for stage in world.stages if isinstance(stage, DetectorNode))
    stop, shown, visible = threading.Event(), {}, [True]

    def camera() -> None:
        k = 0
        while not stop.is_set():
            T = pose_at(k) if visible[0] else None
            color, depth = picture(reference, T)
            shown[world.show(color, depth, CAMERA)] = T
            k += visible[0]
            stop.wait(0.1)  # its frame rate

    def good(stage: int) -> list[ObjectPose]:
        poses = [p for msg in list(line) for p in msg.poses]
        return [p for p in poses if p.stage == stage and p.status == ObjectPose.STATUS_OK]

    thread = threading.Thread(target=camera)
    thread.start()
    try:
        world.until(lambda: len(good(ObjectPose.STAGE_TRACKED)) > 8, 'tracking', 60)
        world.until(lambda: detector._resting == 'box', 'the rest of the detector')
        rest_ns = world.stamp_ns
        more = len(good(ObjectPose.STAGE_TRACKED)) + 5
        world.until(lambda: len(good(ObjectPose.STAGE_TRACKED)) > more, 'more of it', 30)
        assert all(stamp_to_ns(msg.header.stamp) <= rest_ns for msg in detections)
        visible[0] = False
        world.until(lambda: line[-1].status == ObjectPoseArray.STATUS_LOST, 'lost', 30)
        assert line[-1].reason
        visible[0] = True
        since = world.stamp_ns

        def again() -> bool:
            poses = good(ObjectPose.STAGE_REFINED) + good(ObjectPose.STAGE_TRACKED)
            return any(stamp_to_ns(pose.header.stamp) > since for pose in poses)

        world.until(again, 'found again', 60)
    finally:
        stop.set()
        thread.join()
    for pose in good(ObjectPose.STAGE_REFINED) + good(ObjectPose.STAGE_TRACKED):
        truth = shown[stamp_to_ns(pose.header.stamp)]
        assert truth is not None, 'a pose where there is no object'
        millimetres, degrees = errors(pose_from_message(pose.pose.pose), truth)
        assert millimetres < 3
        assert degrees < 3
        assert 0 < pose.pose.covariance[0] < 1e-4


@pytest.mark.slow
def test_the_service_and_the_library_give_equal_poses(
    world: World, reference: ObjectReference, line: list
) -> None:
    """Online is offline: the same messages, once through DDS, once through the core."""
    request = EstimatePose.Request()
    color, depth = picture(reference, pose_at(0))
    request.color = image_message(color, 'rgb8', 5)
    request.depth = image_message(depth, '32FC1', 5)
    request.camera_info = camera_to_message(CAMERA, header_at(5))
    answer = world.call(EstimatePose, 'gs_refiner/estimate_pose', request, 60.0)
    assert answer.success, answer.message
    assert answer.poses.status == ObjectPoseArray.STATUS_OK

    frame = frame_from_messages(request.color, request.camera_info, request.depth)
    (found,) = PoseEstimator().estimate(frame, [reference])
    estimate = found.pose
    assert estimate.status is Status.CONVERGED
    (pose,) = answer.poses.poses
    # The database stores single precision; nothing else may differ.
    np.testing.assert_allclose(pose_from_message(pose.pose.pose), estimate.T_cam_obj, atol=1e-6)
    millimetres, degrees = errors(estimate.T_cam_obj, pose_at(0))
    assert millimetres < 3
    assert degrees < 3
