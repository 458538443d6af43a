"""The check that says found or not found."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import ndimage

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.verification.check import PoseCheck, Verification
from gs_pose_ros.pose.verification.observation import Observation
from test.pose.printed_card import card, frame_of, pose
from test.synthetic import Scene, bar, make_scene, perturbed, reference, standing

VERIFICATION = Verification()


def painted(gaussians: Gaussians, color: tuple[float, float, float]) -> Gaussians:
    """The same shape in one colour."""
    like = Gaussians.from_points(
        gaussians.means, np.tile(color, (len(gaussians), 1)), 0.01, 0.9, 0
    )
    return replace(gaussians, sh=like.sh)


def check(
    frame: RGBDFrame, T: np.ndarray, mask: np.ndarray | None = None, other: bool = False
) -> PoseCheck:
    return VERIFICATION.check(Observation(frame, bar() if other else reference(), mask), T)


@pytest.mark.parametrize('with_depth', [True, False])
def test_the_true_pose_explains_the_image(scene: Scene, with_depth: bool) -> None:
    frame = scene.frame if with_depth else scene.frame.without_depth()
    found = check(frame, scene.T_cam_obj[0], scene.masks[0])
    assert found.reason == ''
    assert found.score > 0.85
    assert min(found.visible, found.depth, found.color, found.structure) > 0.9
    assert found.silhouette > 0.9


@pytest.mark.parametrize('with_depth', [True, False])
def test_the_score_falls_with_the_error_of_the_pose(scene: Scene, with_depth: bool) -> None:
    frame = scene.frame if with_depth else scene.frame.without_depth()
    T = scene.T_cam_obj[0]
    scores = [
        check(frame, perturbed(T, reference(), angle, 0.001 * angle)).score
        for angle in (0, 5, 12, 40)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < VERIFICATION.min_score


def test_many_poses_are_checked_as_one(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    behind = se3.from_rotation_translation(T[:3, :3], -T[:3, 3])
    poses = [T, behind, *(perturbed(T, reference(), 10 * k, 0.01 * k, k) for k in (1, 2))]
    for mask in (None, scene.masks[0]):
        together = VERIFICATION.check_all(Observation(scene.frame, reference(), mask), poses)
        assert together == [check(scene.frame, P, mask) for P in poses]
    assert VERIFICATION.check_all(Observation(scene.frame, reference()), []) == []


@pytest.mark.parametrize('with_depth', [True, False])
def test_a_glance_prefers_what_a_check_does(scene: Scene, with_depth: bool) -> None:
    frame = scene.frame if with_depth else scene.frame.without_depth()
    T = scene.T_cam_obj[0]
    behind = se3.from_rotation_translation(T[:3, :3], -T[:3, 3])
    poses = [T, *(perturbed(T, reference(), 15 * k, 0.01 * k, k) for k in range(1, 6)), behind]
    observation = Observation(frame, reference())
    glances = VERIFICATION.glance(observation, poses)
    assert glances.argmax() == 0
    assert glances[0] > 0.8
    assert glances[-1] == 0
    assert (VERIFICATION.glance(observation, [behind]) == 0).all()


@pytest.mark.parametrize('with_depth', [True, False])
def test_another_object_there_is_refused(scene: Scene, with_depth: bool) -> None:
    frame = scene.frame if with_depth else scene.frame.without_depth()
    refused = check(frame, scene.T_cam_obj[0], other=True)
    assert refused.score < VERIFICATION.min_score
    assert refused.reason.startswith('score ') or 'object' in refused.reason


@pytest.mark.parametrize('level', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('with_depth', [True, False])
def test_a_blank_image_is_refused(scene: Scene, level: float, with_depth: bool) -> None:
    blank = np.full_like(scene.frame.color, level)
    frame = RGBDFrame(blank, scene.frame.depth if with_depth else None, scene.frame.camera)
    refused = check(frame, scene.T_cam_obj[0])
    assert refused.score < VERIFICATION.min_score
    assert 'outline' in refused.reason


@pytest.mark.parametrize(('gain', 'offset'), [(0.6, 0.0), (1.25, 0.0), (0.8, 0.05)])
def test_the_strength_of_the_light_hardly_matters(gain: float, offset: float) -> None:
    lit = make_scene([(reference(), standing())], gain=gain, offset=offset)
    found = check(lit.frame, lit.T_cam_obj[0])
    assert found.reason == ''
    assert found.color > 0.85


def test_another_camera_is_forgiven_where_the_pattern_is_right(scene: Scene) -> None:
    # More contrast and saturation, another white balance.
    color, T = scene.frame.color, scene.T_cam_obj[0]
    gray = color.mean(-1, keepdims=True)
    other = np.clip((gray + 1.5 * (color - gray) - 0.4) * 1.7 * [1.2, 1, 0.8] + 0.4, 0, 1)
    found = check(replace(scene.frame, color=other.astype(np.float32)), T)
    assert found.color < 0.75
    assert found.pattern > 0.75
    assert found.reason == ''


def test_a_plain_object_of_another_colour_is_another_object(scene: Scene) -> None:
    # Shape and shading alone would be right.
    frame, T, mask = scene.frame, scene.T_cam_obj[0], scene.masks[0]
    plain = replace(reference(), gaussians=painted(reference().gaussians, (0.2, 0.5, 0.7)))
    red, same = (
        replace(frame, color=np.where(mask[..., None], color, frame.color).astype(np.float32))
        for color in ([0.7, 0.1, 0.1], [0.2, 0.5, 0.7])
    )
    found, refused = (VERIFICATION.check(Observation(f, plain), T) for f in (same, red))
    assert found.reason == ''
    assert refused.structure > 0.8
    assert refused.pattern < 0.3
    assert 'colour' in refused.reason


def test_keypoints_tell_an_object_that_the_camera_shows_otherwise() -> None:
    # The splat of the card is plain, its reference views are not.
    T = pose(0.01, 0.45)
    frame, mask = frame_of((0, T))
    rays = frame.camera.point_map(np.ones(frame.camera.shape))
    card_z = T[:3, 2] @ T[:3, 3] / (rays @ T[:3, 2])
    frame = replace(frame, depth=np.where(mask, card_z, 0.9).astype(np.float32))
    observation = Observation(frame, card())
    refused = VERIFICATION.check(observation, T)
    assert refused.reason
    found = VERIFICATION.verdict(observation, T)
    assert found.reason == ''
    assert found.keypoints >= 20
    turned = VERIFICATION.verdict(observation, pose(0.01, 0.45, 220))
    assert turned.reason
    assert turned.keypoints < 3


def test_a_colour_that_light_cannot_make_is_another_object(scene: Scene) -> None:
    T = scene.T_cam_obj[0]
    swapped = replace(scene.frame, color=np.ascontiguousarray(scene.frame.color[..., [2, 0, 1]]))
    assert check(swapped, T).color < 0.8 * check(scene.frame, T).color


def test_what_stands_in_front_is_not_held_against_the_object(scene: Scene) -> None:
    T, mask = scene.T_cam_obj[0], scene.masks[0]
    color, depth = scene.frame.color.copy(), np.asarray(scene.frame.depth).copy()
    columns = np.flatnonzero(mask.any(0))
    hidden = slice(columns[0] - 5, int(np.quantile(columns, 0.4)))
    color[:, hidden], depth[:, hidden] = [0.2, 0.8, 0.3], 0.25
    covered = RGBDFrame(color, depth, scene.frame.camera)
    found = check(covered, T)
    assert found.reason == ''
    assert 0.4 < found.visible < 0.8
    assert found.depth > 0.9
    # Without depth the cover is taken for a wrong picture.
    assert check(covered.without_depth(), T).score < found.score


def test_part_of_a_larger_surface_is_not_the_object(scene: Scene) -> None:
    """The object's own surface, that goes on where the object should end."""
    T, mask = scene.T_cam_obj[0], scene.masks[0]
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    # Every pixel becomes the nearest one of the object.
    _, nearest = ndimage.distance_transform_edt(1 - inner, return_indices=True)
    row, col = np.asarray(nearest)
    depth = np.asarray(scene.frame.depth)
    larger = replace(scene.frame, color=scene.frame.color[row, col], depth=depth[row, col])
    refused, found = check(larger, T), check(scene.frame, T)
    assert found.seamless < 0.05
    assert refused.seamless > 0.5
    assert refused.score < 0.6 * found.score


def test_what_sticks_out_of_the_silhouette_lowers_the_fit_but_not_the_score(scene: Scene) -> None:
    T, foreground = scene.T_cam_obj[0], scene.masks[0]
    more = cv2.dilate(foreground.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    tight, loose = (
        VERIFICATION.check(Observation(scene.frame, reference(), foreground=f), T)
        for f in (foreground, more)
    )
    assert tight.silhouette > 0.9
    assert loose.fit < 0.9 * tight.fit
    assert loose.score == tight.score
    assert check(scene.frame, T + 1000).fit == 0


def test_a_hidden_object_is_not_found(scene: Scene) -> None:
    color = np.full_like(scene.frame.color, 0.4)
    wall = RGBDFrame(color, np.full_like(scene.frame.depth, 0.2), scene.frame.camera)
    refused = check(wall, scene.T_cam_obj[0])
    assert refused.score == 0
    assert refused.reason == 'only 0% of the object would be visible'


def test_a_surface_behind_the_object_is_not_the_object(scene: Scene) -> None:
    deep = replace(scene.frame, depth=np.full_like(scene.frame.depth, 2.0))
    refused = check(deep, scene.T_cam_obj[0])
    assert refused.score == 0
    assert refused.reason == 'the depth lies behind the object everywhere'


@pytest.mark.parametrize('shift', [(0.5, 0, 0), (0, 0, -1.0), (0.31, 0, 0)])
def test_outside_the_view_nothing_is_found(
    scene: Scene, shift: tuple[float, float, float]
) -> None:
    T = scene.T_cam_obj[0].copy()
    T[:3, 3] += shift
    refused = check(scene.frame, T)
    assert refused.score == 0
    assert refused.reason == 'the object is not in view'


def test_unknown_depth_says_nothing(scene: Scene) -> None:
    blind = replace(scene.frame, depth=np.zeros_like(scene.frame.depth))
    T = scene.T_cam_obj[0]
    assert check(blind, T) == check(scene.frame.without_depth(), T)


def test_the_silhouette_is_the_overlap_with_the_mask(scene: Scene) -> None:
    T, mask = scene.T_cam_obj[0], scene.masks[0]
    assert check(scene.frame, T).silhouette == 1
    half = mask.copy()
    half[:, int(np.median(np.nonzero(mask)[1])) :] = False
    assert check(scene.frame, T, half).silhouette == pytest.approx(0.5, abs=0.08)
    assert check(scene.frame, T, ~mask).silhouette < 0.1


def test_the_check_does_not_depend_on_where_the_object_is() -> None:
    # The same turn of camera and world: the same picture, the same answer.
    scene = make_scene([(reference(), standing())], noise=0, depth_noise_m=0)
    turned = replace(scene.frame, color=np.ascontiguousarray(scene.frame.color[::-1, ::-1]))
    turned = replace(turned, depth=np.ascontiguousarray(np.asarray(scene.frame.depth)[::-1, ::-1]))
    T = se3.exp([0, 0, 0, 0, 0, np.pi]) @ scene.T_cam_obj[0]
    one, two = check(scene.frame, scene.T_cam_obj[0]), check(turned, T)
    assert two.score == pytest.approx(one.score, abs=0.02)
