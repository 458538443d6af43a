"""What is followed: where it was, and where it goes on to."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.nodes.tracks import Track

STEP = se3.exp([0, 0, 0, 0.02, 0.05, -0.03])[:3, :3]
SHIFT = np.array([0.004, -0.002, 0.001])


def track(images: int) -> Track:
    """Turns and moves evenly, at 10 Hz."""
    made = Track('mug', 0)
    R, t = se3.exp([0, 0, 0, 1.0, 0.3, -0.2])[:3, :3], np.array([0.1, 0.0, 0.6])
    for k in range(images):
        made.moved_to(k * 100_000_000, se3.from_rotation_translation(R, t))
        R, t = STEP @ R, t + SHIFT
    return made


@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
def test_it_goes_on_as_it_moved(share: float) -> None:
    made = track(4)
    T = made.predicted(made.stamp_ns + int(share * 100_000_000))
    turn = np.concatenate([np.zeros(3), share * se3.rotation_log(STEP)])
    expected = se3.exp(turn)[:3, :3] @ made.T_cam_obj[:3, :3]
    np.testing.assert_allclose(T[:3, :3], expected, atol=1e-9)
    np.testing.assert_allclose(T[:3, 3], made.T_cam_obj[:3, 3] + share * SHIFT, atol=1e-12)


def test_after_a_gap_it_goes_no_further_than_a_step() -> None:
    made = track(4)
    late, next_ = (made.predicted(made.stamp_ns + dt) for dt in (2_000_000_000, 100_000_000))
    np.testing.assert_allclose(late, next_)


def test_one_image_says_nothing_of_motion() -> None:
    made = track(1)
    np.testing.assert_array_equal(made.predicted(500_000_000), made.T_cam_obj)


def test_images_of_one_stamp_divide_by_nothing() -> None:
    made = track(1)
    made.moved_to(0, made.T_cam_obj)
    assert se3.is_rigid(made.predicted(10))
