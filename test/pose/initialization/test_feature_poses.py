"""Local features find what has texture, as often as it is there, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.estimate import Detection
from gs_pose_ros.features.local_features import FrameFeatures
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.pose.initialization.feature_poses import FeatureMatching
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from test.pose.printed_card import CAMERA, card, frame_of, plain_card, pose
from test.synthetic import pose_error


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
