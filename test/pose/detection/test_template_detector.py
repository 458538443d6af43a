"""The detector: it finds what is there, tells it apart, and is silent where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.estimate import Detection
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.pose.detection.proposals import ColorProposals, DepthProposals
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.initialization.templates import TemplateSettings
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from gs_pose_ros.pose.verification.observation import Observation
from test.synthetic import CAMERA, bar, make_scene, pose_error, reference, standing

# Fewer views and tries than the defaults: seconds instead of minutes for the whole file.
DETECTOR = TemplateDetector(
    depth_proposals=DepthProposals(TemplateSettings(viewpoints=60, in_plane=16)),
    color_proposals=ColorProposals(
        TemplateSettings(viewpoints=60, in_plane=16, cells=12, with_depth=False),
        nearest_m=0.35,
        farthest_m=0.7,
    ),
    retrieval=TemplateRetrieval(viewpoints=80, in_plane=16, top_k=4),
    proposals=30,
    refined=6,
)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def check(found: Detection, mask: np.ndarray, T: np.ndarray, with_depth: bool = True) -> None:
    """The mask and the verified pose are the true ones."""
    assert found.score >= DETECTOR.min_score
    assert iou(found.full_mask(CAMERA.shape), mask) > 0.85
    assert len(found.pose_hints) == 1
    angle, shift = pose_error(found.pose_hints[0], T, reference())
    assert angle < (1 if with_depth else 3)
    assert shift < (2 if with_depth else 20)


def test_two_instances_are_found_and_the_clutter_is_not() -> None:
    ref = reference()
    pair = [(ref, standing(-0.06, 0, 30)), (ref, standing(0.03, -0.1, 200))]
    scene = make_scene([*pair, (bar(), standing(0.07, 0.05, 80))])
    found = DETECTOR.detect(scene.frame, [ref])
    assert [d.object_id for d in found] == ['tower', 'tower']
    assert found[0].score >= found[1].score
    for k in (0, 1):
        nearest = max(found, key=lambda d: iou(d.full_mask(CAMERA.shape), scene.masks[k]))
        check(nearest, scene.masks[k], scene.T_cam_obj[k])


def test_two_objects_are_told_apart() -> None:
    scene = make_scene([(reference(), standing(-0.06)), (bar(), standing(0.07, 0.03, 80))])
    found = {d.object_id: d for d in DETECTOR.detect(scene.frame, [reference(), bar()])}
    assert set(found) == {'tower', 'bar'}
    check(found['tower'], scene.masks[0], scene.T_cam_obj[0])
    assert iou(found['bar'].full_mask(CAMERA.shape), scene.masks[1]) > 0.85


def test_another_camera_is_not_another_object() -> None:
    # More contrast and saturation, another white balance; the clutter stays what it is.
    scene = make_scene([(reference(), standing(-0.06)), (bar(), standing(0.07, 0.03, 80))])
    gray = scene.frame.color.mean(-1, keepdims=True)
    color = (gray + 1.5 * (scene.frame.color - gray) - 0.4) * 1.6 * [1.15, 1, 0.85] + 0.4
    frame = replace(scene.frame, color=np.clip(color, 0, 1).astype(np.float32))
    found = DETECTOR.detect(frame, [reference()])
    assert len(found) == 1
    check(found[0], scene.masks[0], scene.T_cam_obj[0])


def test_colour_alone_is_enough() -> None:
    scene = make_scene([(reference(), standing())])
    found = DETECTOR.detect(scene.frame.without_depth(), [reference()])
    assert len(found) == 1
    check(found[0], scene.masks[0], scene.T_cam_obj[0], with_depth=False)
    # Depth without a single value is no depth.
    blind = replace(scene.frame, depth=np.zeros(CAMERA.shape, np.float32))
    again = DETECTOR.detect(blind, [reference()])
    assert [d.box for d in again] == [d.box for d in found]
    assert again[0].pose_hints[0] == pytest.approx(found[0].pose_hints[0])


@pytest.mark.parametrize('with_depth', [True, False])
def test_an_empty_table_is_empty(with_depth: bool) -> None:
    frame = make_scene().frame
    found = DETECTOR.detect(frame if with_depth else frame.without_depth(), [reference(), bar()])
    assert found == []


@pytest.mark.parametrize('with_depth', [True, False])
def test_other_things_are_not_the_object(with_depth: bool) -> None:
    scene = make_scene([(bar(), standing(0, 0, 80)), (bar(), standing(-0.1, 0.05, 10))])
    frame = scene.frame if with_depth else scene.frame.without_depth()
    assert DETECTOR.detect(frame, [reference()]) == []


def test_a_blank_image_is_empty() -> None:
    blank = RGBDFrame(np.full((*CAMERA.shape, 3), 0.5, np.float32), None, CAMERA)
    assert DETECTOR.detect(blank, [reference()]) == []
    wall = replace(blank, depth=np.full(CAMERA.shape, 0.5, np.float32))
    assert DETECTOR.detect(wall, [reference()]) == []


def test_without_objects_there_is_nothing_to_find() -> None:
    assert DETECTOR.detect(make_scene().frame, []) == []


def test_no_more_instances_than_asked_for() -> None:
    ref = reference()
    scene = make_scene([(ref, standing(-0.06, 0, 30)), (ref, standing(0.03, -0.1, 200))])
    assert len(replace(DETECTOR, max_instances=1).detect(scene.frame, [ref])) == 1


def test_what_is_hidden_is_not_in_the_mask() -> None:
    scene = make_scene([(reference(), standing())])
    depth = np.asarray(scene.frame.depth).copy()
    middle = int(np.median(np.nonzero(scene.masks[0])[1]))
    depth[:, middle:] = 0.2
    hidden = replace(scene.frame, depth=depth)
    whole, visible = (
        DETECTOR.visible_mask(Observation(frame, reference()), scene.T_cam_obj[0])
        for frame in (scene.frame, hidden)
    )
    assert iou(whole, scene.masks[0]) > 0.85
    assert not visible[:, middle:].any()
    assert iou(visible[:, :middle], scene.masks[0][:, :middle]) > 0.85
