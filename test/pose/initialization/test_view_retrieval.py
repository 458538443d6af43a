"""Retrieval: the right views first, turned in the plane, at the place that Eqs. 3-5 give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.initialization.rays import ray_rotations
from gs_pose_ros.pose.initialization.templates import cached_views
from gs_pose_ros.pose.initialization.view_retrieval import (
    TemplateRetrieval,
    _bank,
    _describe,
    _Picture,
)
from test.synthetic import CAMERA, Scene, make_scene, pose_error, reference, standing

RETRIEVAL = TemplateRetrieval(viewpoints=120, in_plane=20)


def detection_of(scene: Scene, **kwargs: tuple[np.ndarray, ...]) -> Detection:
    return Detection.from_full_mask('tower', 0.9, scene.masks[0], **kwargs)


def initialize(scene: Scene, with_depth: bool = True) -> list[PoseEstimate]:
    frame = scene.frame if with_depth else scene.frame.without_depth()
    return RETRIEVAL.initialize(frame, reference(), detection_of(scene))


def floating(angle_deg: float, x: float = 0.0, y: float = 0.0) -> Scene:
    """The object before the camera, turned about the ray it stands on."""
    ref, center = reference(), np.array([x, y, 0.45])
    to_ray = ray_rotations(center[None])[0]
    R = to_ray @ se3.exp([0, 0, 0, 0, 0, np.radians(angle_deg)])[:3, :3]
    R = R @ se3.exp([0, 0, 0, 2.0, 0.5, 0.0])[:3, :3]
    T = se3.from_rotation_translation(R, center - R @ ref.box.mean(0))
    return make_scene([(ref, T)], T_cam_table=np.eye(4))


@pytest.mark.parametrize('with_depth', [True, False])
@pytest.mark.parametrize('yaw', [0, 100, 220])
def test_one_of_the_hypotheses_is_near_and_they_are_ordered(yaw: float, with_depth: bool) -> None:
    scene = make_scene([(reference(), standing(0.03, -0.02, yaw))])
    found = initialize(scene, with_depth)
    assert 1 <= len(found) <= RETRIEVAL.top_k
    assert all(e.status is Status.INITIAL and se3.is_rigid(e.T_cam_obj) for e in found)
    assert all(e.stamp_ns == scene.frame.stamp_ns and 0 <= e.score <= 1 for e in found)
    assert [e.score for e in found] == sorted((e.score for e in found), reverse=True)
    errors = [pose_error(e.T_cam_obj, scene.T_cam_obj[0], reference()) for e in found]
    angle, shift = errors[0]
    assert angle < 25
    assert shift < 25
    assert min(errors)[0] < 16


def test_hypotheses_differ() -> None:
    scene = make_scene([(reference(), standing())])
    R = [e.T_cam_obj[:3, :3] for e in initialize(scene)]
    apart = [se3.rotation_angle(R[i], R[j]) for i in range(len(R)) for j in range(i)]
    assert np.degrees(min(apart)) >= RETRIEVAL.min_angle_deg - 1e-6


@pytest.mark.parametrize('angle', [0, 37, 90, 151, 250])
def test_a_turn_in_the_image_turns_the_hypothesis(angle: float) -> None:
    scene = floating(angle)
    best = min(
        pose_error(e.T_cam_obj, scene.T_cam_obj[0], reference()) for e in initialize(scene)[:2]
    )
    assert best[0] < 20


def test_beside_the_optical_axis_the_rotation_is_egocentric() -> None:
    scene = floating(20, 0.14, -0.08)
    best = min(
        pose_error(e.T_cam_obj, scene.T_cam_obj[0], reference()) for e in initialize(scene)[:2]
    )
    assert best[0] < 20
    assert best[1] < 15


@pytest.mark.parametrize(('with_depth', 'tolerance'), [(True, 0.02), (False, 0.06)])
@pytest.mark.parametrize('place', [(0, 0, 0.45), (0.1, -0.05, 0.4), (-0.1, 0.06, 0.6)])
def test_eqs_3_to_5_place_a_template_where_it_was_seen(
    place: tuple[float, float, float], with_depth: bool, tolerance: float
) -> None:
    """With the rotation of a template the translation must be right, whatever is retrieved."""
    ref = reference()
    bank = _bank(ref, RETRIEVAL)
    center = np.array(place, float)
    k = 7 * RETRIEVAL.in_plane + 3
    R = ray_rotations(center[None])[0] @ bank.R_cam_obj[k]
    T = se3.from_rotation_translation(R, center - R @ ref.box.mean(0))
    scene = make_scene([(ref, T)], T_cam_table=np.eye(4))
    frame = scene.frame if with_depth else scene.frame.without_depth()
    picture = _Picture.of(
        frame.color, frame.depth, scene.masks[0], frame.camera.fx, ref.diameter_m
    )
    poses = RETRIEVAL._translations(frame, ref, bank, picture)
    found = se3.transform(poses[k], ref.box.mean(0)[None])[0]
    # Along the ray the distance is as good as the area; across it, as the centroid.
    assert abs(found[2] - center[2]) < tolerance * center[2]
    apart = CAMERA.project(found) - CAMERA.project(center)
    assert np.abs(apart).max() < 1.5


@pytest.mark.parametrize('with_depth', [True, False])
def test_a_turned_picture_has_the_embedding_of_the_turned_template(with_depth: bool) -> None:
    """np.rot90 of a view must be described as the view with that in-plane rotation."""
    settings = replace(RETRIEVAL, in_plane=4)
    views = cached_views(reference(), RETRIEVAL.viewpoints)
    size = views.mask.shape[1]
    focal = 5 * size / views.extent
    quarter = np.array([[0.0, -1], [1, 0]])
    turns = np.stack([np.linalg.matrix_power(quarter, k) for k in range(4)])
    for i in range(0, RETRIEVAL.viewpoints, 40):
        mask, color = views.mask[i], views.color[i]
        depth = np.nan_to_num(views.depth[i] + 5, nan=0).astype(np.float32)

        def describe(k: int, turns: np.ndarray) -> np.ndarray:
            turned = [np.ascontiguousarray(np.rot90(p, -k)) for p in (color, depth, mask)]  # noqa: B023
            picture = _Picture.of(
                turned[0], turned[1] if with_depth else None, turned[2], focal, 1.0
            )
            return _describe(picture, turns, settings)

        templates = describe(0, turns)
        for k in range(4):
            query = describe(k, np.eye(2)[None])[0]
            similarity = templates @ query
            assert similarity.argmax() == k
            assert similarity[k] > 0.98


def test_poses_of_the_detector_come_first(scene: Scene) -> None:
    hint = scene.T_cam_obj[0]
    broken = np.full((4, 4), np.nan)
    detection = detection_of(scene, pose_hints=(hint, broken))
    found = RETRIEVAL.initialize(scene.frame, reference(), detection)
    assert np.array_equal(found[0].T_cam_obj, hint)
    assert found[0].score == 0.9
    assert len(found) == 1 + RETRIEVAL.beside_hints
    # What lies near it need not be tried again.
    for other in found[1:]:
        assert pose_error(other.T_cam_obj, hint, reference())[0] >= RETRIEVAL.min_angle_deg - 1e-6


def test_a_mask_of_few_pixels_gives_no_hypothesis(scene: Scene) -> None:
    mask = np.zeros(CAMERA.shape, bool)
    mask[50:54, 70:76] = True
    tiny = Detection.from_full_mask('tower', 0.9, mask)
    assert RETRIEVAL.initialize(scene.frame, reference(), tiny) == []
    hinted = replace(tiny, pose_hints=(scene.T_cam_obj[0],))
    assert len(RETRIEVAL.initialize(scene.frame, reference(), hinted)) == 1


def test_depth_without_a_pixel_in_the_mask_is_no_depth(scene: Scene) -> None:
    blind = np.asarray(scene.frame.depth).copy()
    blind[scene.masks[0]] = 0
    found = [
        RETRIEVAL.initialize(frame, reference(), detection_of(scene))
        for frame in (replace(scene.frame, depth=blind), scene.frame.without_depth())
    ]
    assert np.allclose([e.T_cam_obj for e in found[0]], [e.T_cam_obj for e in found[1]])


def test_light_changes_little(scene: Scene) -> None:
    dark = make_scene([(reference(), standing())], gain=0.5)
    one, two = initialize(scene, False), initialize(dark, False)
    best = [pose_error(e[0].T_cam_obj, scene.T_cam_obj[0], reference())[0] for e in (one, two)]
    assert max(best) < 25
