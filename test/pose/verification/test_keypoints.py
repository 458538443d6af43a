"""Keypoints agree with the pose that is right, in any light, and with no other."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.features.local_features import FrameFeatures
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.verification.keypoints import KeypointPairs
from test.pose.printed_card import CAMERA, card, frame_of, plain_card, pose


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
