"""Local features find what has texture, as often as it is there, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.estimate import Detection
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews
from gs_pose_ros.pose.initialization.feature_poses import (
    FeatureMatching,
    FrameFeatures,
    KeypointPairs,
)
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from test.synthetic import Pose, look_at, pose_error

CAMERA = Camera(500.0, 500.0, 159.5, 119.5, 320, 240)
WIDTH, HEIGHT = 0.16, 0.12  # m, of a printed card with its corner in the origin


def print_(seed: int) -> NDArray[np.uint8]:
    """A picture [240, 320, 3] full of blobs and corners."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(0, 1, (30, 40, 3)).astype(np.float32)
    smooth = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    return (smooth.clip(0, 1) * 255).astype(np.uint8)


def card_pixels(T_cam_obj: Pose, camera: Camera) -> NDArray[np.float64]:
    """Homography [3, 3] from the print's pixels to the image's."""
    to_card = np.array(
        [[WIDTH / 320, 0, WIDTH / 640], [0, HEIGHT / 240, HEIGHT / 480], [0, 0, 1.0]]
    )
    return camera.matrix @ T_cam_obj[:3, [0, 1, 3]] @ to_card


def picture(
    cards: list[tuple[NDArray[np.uint8], Pose]], camera: Camera = CAMERA
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cards over gray, and the mask of the last one."""
    size = (camera.width, camera.height)
    image, mask = np.full((*camera.shape, 3), 128, np.uint8), np.zeros(camera.shape, np.uint8)
    for printed, T in cards:
        H = card_pixels(T, camera)
        mask = cv2.warpPerspective(np.full(printed.shape[:2], 255, np.uint8), H, size)
        image = np.where(mask[..., None] > 127, cv2.warpPerspective(printed, H, size), image)
    return image.astype(np.uint8), mask.astype(np.uint8)


@cache
def card(seed: int = 0) -> ObjectReference:
    """The object: a splat of plain gray and five reference views with the print."""
    x, y = np.meshgrid(np.linspace(0, WIDTH, 81), np.linspace(0, HEIGHT, 61))
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], 1)
    gaussians = Gaussians.from_points(points, np.full(points.shape, 0.5), 0.0015, 0.95, 0)
    camera = Camera(420.0, 420.0, 111.5, 111.5, 224, 224)
    middle = np.array([WIDTH / 2, HEIGHT / 2, 0])
    eyes = [
        (0.0, -0.01, -0.4),
        (0.2, 0, -0.35),
        (-0.2, 0, -0.35),
        (0, 0.2, -0.35),
        (0, -0.2, -0.35),
    ]
    poses = [look_at(middle + eye, middle) for eye in eyes]
    pictures = [picture([(print_(seed), T)], camera) for T in poses]
    return ObjectReference(
        object_id='card',
        gaussians=gaussians,
        diameter_m=float(np.hypot(WIDTH, HEIGHT)),
        box=np.array([[0, 0, -0.001], [WIDTH, HEIGHT, 0.001]]),
        views=ReferenceViews(
            T_cam_obj=np.stack(poses),
            intrinsics=np.tile([camera.fx, camera.fy, camera.cx, camera.cy], (5, 1)),
            color=np.stack([color for color, _ in pictures]),
            mask=np.stack([mask for _, mask in pictures]),
        ),
    )


def plain_card() -> ObjectReference:
    """The same without the print."""
    views = replace(card().views, color=np.full_like(card().views.color, 99))
    return replace(card(), gaussians=card().gaussians[:], views=views)


def pose(x: float = 0.0, distance: float = 0.6, turn_deg: float = 40.0, tilt: float = 0.3) -> Pose:
    """The card near the optical axis."""
    middle = np.array([WIDTH / 2, HEIGHT / 2, 0])
    R = (
        se3.exp([0, 0, 0, tilt, 0, 0])[:3, :3]
        @ se3.exp([0, 0, 0, 0, 0, np.radians(turn_deg)])[:3, :3]
    )
    return se3.from_rotation_translation(R, np.array([x, 0, distance]) - R @ middle)


def frame_of(*cards: tuple[int, Pose]) -> tuple[RGBDFrame, NDArray[np.bool_]]:
    image, mask = picture([(print_(seed), T) for seed, T in cards])
    return RGBDFrame.from_uint8(image, None, CAMERA), mask > 127


@pytest.mark.parametrize('turn_deg', [0.0, 100.0, 200.0, 300.0])
@pytest.mark.parametrize('distance', [0.45, 0.9])
def test_a_textured_object_is_found_at_any_turn_and_distance(
    turn_deg: float, distance: float
) -> None:
    T = pose(0.01, distance, turn_deg)
    frame, _ = frame_of((0, T))
    found = FeatureMatching().hypotheses(FrameFeatures.of(frame), card())
    assert found
    angle, shift_mm = pose_error(found[0][0], T, card())
    assert angle < 3
    assert shift_mm < 0.02 * 1e3 * distance


def test_every_instance_is_found() -> None:
    poses = [pose(-0.12, 0.75, 20), pose(0.12, 0.75, 130)]
    frame, _ = frame_of(*((0, T) for T in poses))
    found = FeatureMatching().hypotheses(FrameFeatures.of(frame), card())
    assert len(found) == 2
    for T in poses:
        assert min(pose_error(f, T, card())[0] for f, _ in found) < 3


def test_another_print_is_not_found() -> None:
    frame, _ = frame_of((1, pose()))
    assert FeatureMatching().hypotheses(FrameFeatures.of(frame), card()) == []


def test_no_texture_gives_no_pose() -> None:
    blank = RGBDFrame.from_uint8(np.full((240, 320, 3), 128, np.uint8), None, CAMERA)
    features = FrameFeatures.of(blank)
    assert features.pixels.shape == (0, 2)
    assert FeatureMatching().hypotheses(features, card()) == []
    frame, _ = frame_of((0, pose()))
    assert FeatureMatching().hypotheses(FrameFeatures.of(frame), plain_card()) == []


@pytest.mark.parametrize('turn_deg', [0.0, 100.0, 200.0])
@pytest.mark.parametrize('distance', [0.45, 0.8])
def test_keypoints_agree_with_the_true_pose_only(turn_deg: float, distance: float) -> None:
    T = pose(0.01, distance, turn_deg)
    features = FrameFeatures.of(frame_of((0, T))[0])
    pairs = KeypointPairs.of(features, card())
    agreeing = pairs.agreeing(T)
    assert agreeing >= 50
    # Along the axis of a tilt everything stays where it is.
    assert pairs.agreeing(pose(0.01, distance, turn_deg, 1.3)) < agreeing / 3
    wrong = [
        pose(0.05, distance, turn_deg),
        pose(0.01, 1.5 * distance, turn_deg),
        pose(0.01, distance, turn_deg + 180),
        pose(0.01, distance, turn_deg + 45),
        se3.from_rotation_translation(T[:3, :3], [5, 0, distance]),
        se3.from_rotation_translation(T[:3, :3], [0, 0, -distance]),
    ]
    assert max(pairs.agreeing(T) for T in wrong) <= 0.1 * agreeing


def test_keypoints_agree_under_another_camera() -> None:
    T = pose(0.01, 0.45)
    color = frame_of((0, T))[0].color
    gray = color.mean(-1, keepdims=True)
    other = np.clip((gray + 1.5 * (color - gray) - 0.4) * 1.5 * [1.2, 1, 0.8] + 0.35, 0, 1) ** 1.3
    frame = RGBDFrame(other.astype(np.float32), None, CAMERA)
    assert KeypointPairs.of(FrameFeatures.of(frame), card()).agreeing(T) >= 20
    assert KeypointPairs.of(FrameFeatures.of(frame), plain_card()).agreeing(T) == 0


def test_keypoints_around_a_pose_are_those_of_the_frame_there() -> None:
    T = pose(0.12, 0.75)
    frame, _ = frame_of((0, pose(-0.12, 0.75, 20)), (0, T))
    around = FrameFeatures.around(frame, card(), T)
    assert around is not None
    apart = np.linalg.norm(around.pixels - CAMERA.project([0.12, 0, 0.75]), axis=1)
    assert apart.max() < 0.55 * card().diameter_m * CAMERA.fx / 0.75
    everywhere = KeypointPairs.of(FrameFeatures.of(frame), card()).agreeing(T)
    assert KeypointPairs.of(around, card()).agreeing(T) == pytest.approx(everywhere, rel=0.3)
    for out_of_view in ([5.0, 0, 0.75], [0, 0, -0.75]):
        T = se3.from_rotation_translation(T[:3, :3], out_of_view)
        assert FrameFeatures.around(frame, card(), T) is None


def test_a_mask_leaves_the_other_instance_out() -> None:
    T = pose(0.12, 0.75, 130)
    frame, mask = frame_of((0, pose(-0.12, 0.75, 20)), (0, T))
    features = FrameFeatures.of(frame, mask)
    col, row = np.round(features.pixels).astype(int).T
    assert mask[row, col].all()
    found = FeatureMatching().hypotheses(features, card())
    assert len(found) == 1
    assert pose_error(found[0][0], T, card())[0] < 3


def test_the_same_picture_gives_the_same_poses() -> None:
    frame, _ = frame_of((0, pose()))
    a, b = (FeatureMatching().hypotheses(FrameFeatures.of(frame), card()) for _ in range(2))
    assert [n for _, n in a] == [n for _, n in b]
    np.testing.assert_array_equal(a[0][0], b[0][0])


def test_retrieval_puts_the_features_pose_first() -> None:
    T = pose()
    frame, mask = frame_of((0, T))
    detection = Detection.from_full_mask('card', 1.0, mask)
    first = TemplateRetrieval(viewpoints=20, in_plane=8).initialize(frame, card(), detection)[0]
    assert pose_error(first.T_cam_obj, T, card())[0] < 3
