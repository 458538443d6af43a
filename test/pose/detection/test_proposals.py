"""Proposals: among the many places and turns, the true one is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.detection.proposals import ColorProposals, DepthMaps, DepthProposals
from gs_pose_ros.pose.detection.segmentation import SupportPlaneSegmentation
from gs_pose_ros.pose.initialization.templates import TemplateSettings
from test.synthetic import CAMERA, Scene, bar, make_scene, pose_error, reference, standing

DEPTH = DepthProposals(TemplateSettings(viewpoints=80, in_plane=16))
COLOR = ColorProposals(
    TemplateSettings(viewpoints=60, in_plane=16, cells=12, with_depth=False),
    nearest_m=0.35,
    farthest_m=0.7,
)


@pytest.fixture(scope='module')
def scene() -> Scene:
    return make_scene([(reference(), standing(-0.06)), (bar(), standing(0.07, 0.03, 80))])


@pytest.fixture(scope='module')
def maps(scene: Scene) -> DepthMaps:
    return DepthMaps.of(scene.frame, SupportPlaneSegmentation().foreground(scene.frame))


def errors(poses: list[np.ndarray], truth: np.ndarray) -> list[tuple[float, float]]:
    return [pose_error(T, truth, reference()) for T in poses]


def test_depth_proposals_hold_the_true_pose(scene: Scene, maps: DepthMaps) -> None:
    poses = DEPTH.propose(maps, reference(), 30)
    assert len(poses) <= 30
    assert all(se3.is_rigid(T) for T in poses)
    near = [i for i, (a, t) in enumerate(errors(poses, scene.T_cam_obj[0])) if a < 25 and t < 15]
    assert near
    assert near[0] < 5


def test_colour_proposals_hold_the_true_place(scene: Scene) -> None:
    poses = COLOR.propose(scene.frame.without_depth(), reference(), 60)
    assert len(poses) <= 60
    assert all(se3.is_rigid(T) for T in poses)
    truth = CAMERA.project(scene.T_cam_obj[0][:3, 3])
    # The distance is on a ladder, so only the pixel is known well.
    apart = [np.linalg.norm(CAMERA.project(T[:3, 3]) - truth) for T in poses]
    assert min(apart[:10]) < 12
    assert any(a < 35 and t < 80 for a, t in errors(poses, scene.T_cam_obj[0]))


@pytest.mark.parametrize('fx', [5.0, 1e5])
def test_what_no_pixel_can_tell_is_not_looked_for(scene: Scene, fx: float) -> None:
    """An object of a few pixels, and one of which the picture shows a speck."""
    camera = replace(CAMERA, fx=fx, fy=fx)
    frame = replace(scene.frame.without_depth(), camera=camera)
    assert COLOR.propose(frame, reference(), 10) == []


def test_distances_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match='nearest_m is 2, beyond farthest_m, 1'):
        ColorProposals(nearest_m=2.0, farthest_m=1.0)
    assert ColorProposals(nearest_m=1.0, farthest_m=1.0)


def test_proposals_differ(maps: DepthMaps) -> None:
    poses = DEPTH.propose(maps, reference(), 30)
    for i, T in enumerate(poses):
        for angle, shift in errors(poses[:i], T):
            assert angle > 24.9 or shift > 0.2 * 1e3 * reference().diameter_m - 0.1


def test_an_empty_table_has_no_proposals() -> None:
    empty = make_scene()
    maps = DepthMaps.of(empty.frame, SupportPlaneSegmentation().foreground(empty.frame))
    assert maps.anchors(0.01).shape == (0, 2)
    assert DEPTH.propose(maps, reference(), 10) == []


def test_anchors_are_on_the_foreground_and_evenly_spaced(maps: DepthMaps) -> None:
    anchors = maps.anchors(0.01)
    assert maps.foreground[anchors[:, 1], anchors[:, 0]].all()
    assert np.isfinite(maps.depth[anchors[:, 1], anchors[:, 0]]).all()
    few, many = len(maps.anchors(0.02)), len(maps.anchors(0.01))
    assert many == pytest.approx(4 * few, rel=0.35)


def test_normals_of_the_table_are_those_of_the_table(scene: Scene, maps: DepthMaps) -> None:
    table = ~maps.foreground
    table[:6] = table[-6:] = False
    table[:, :6] = table[:, -6:] = False
    angle = np.degrees(np.arccos((maps.normals[table] @ scene.T_cam_table[:3, 2]).clip(-1, 1)))
    assert np.median(angle) < 8


def test_holes_in_the_depth_are_left_out(scene: Scene) -> None:
    depth = np.asarray(scene.frame.depth).copy()
    depth[:, 40:70] = 0
    frame = replace(scene.frame, depth=depth)
    holed = DepthMaps.of(frame, SupportPlaneSegmentation().foreground(frame))
    assert np.isnan(holed.depth[:, 44:66]).all()
    features = holed.features(holed.anchors(0.01), reference().diameter_m, DEPTH.templates)
    assert np.isfinite(features).all()


def test_features_do_not_depend_on_the_scale_of_the_world(scene: Scene) -> None:
    """An object twice as large at twice the distance is the same picture."""
    foreground = SupportPlaneSegmentation().foreground(scene.frame)
    far = replace(scene.frame, depth=np.asarray(scene.frame.depth) * 2)
    near_maps, far_maps = (DepthMaps.of(f, foreground) for f in (scene.frame, far))
    anchors = near_maps.anchors(0.02)
    one = near_maps.features(anchors, 0.124, DEPTH.templates)
    two = far_maps.features(anchors, 0.248, DEPTH.templates)
    assert np.allclose(one, two, atol=1e-3)
