"""A motion about a point, and one that goes on as before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.motion import constant_velocity, rigid_motion

A = se3.exp([0.1, -0.2, 0.5, 0.2, 0.1, -0.3])
STEP = se3.exp([0, 0, 0, 0.02, -0.05, 0.1])
SHIFT = np.array([0.01, 0.02, -0.03])


def test_the_motion_turns_about_the_centre_whatever_the_norm() -> None:
    q = torch.tensor([0.8, -0.2, 0.5, 0.1], dtype=torch.float64)
    t, center = torch.tensor([0.1, 0.2, -0.3]).double(), torch.tensor([1.0, -1, 2]).double()
    for factor in (1.0, 3.0):
        T = rigid_motion(factor * q, t, center).numpy()
        assert np.allclose(T[:3, :3], se3.quat_to_mat(q.numpy()))
        assert np.allclose(se3.transform(T, center.numpy()[None])[0], (center + t).numpy())
    identity = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    assert np.allclose(rigid_motion(identity, 0 * t, center).numpy(), np.eye(4))


def moved(steps: int) -> np.ndarray:
    """A after equal turns about its own origin, which moves along a line."""
    T = A @ np.linalg.matrix_power(STEP, steps)
    return se3.from_rotation_translation(T[:3, :3], A[:3, 3] + steps * SHIFT)


@pytest.mark.parametrize('steps', [1, 2, 3])
def test_a_steady_motion_goes_on(steps: int) -> None:
    T = constant_velocity((100, A), (200, moved(1)), 200 + 100 * steps)
    assert np.allclose(T, moved(1 + steps))


def test_it_goes_no_further_than_it_is_allowed_to() -> None:
    T = constant_velocity((100, A), (200, moved(1)), 10_000, at_most=1.0)
    assert np.allclose(T, moved(2))


@pytest.mark.parametrize(('before', 'last', 'now'), [(200, 200, 300), (300, 200, 400), (0, 9, 9)])
def test_without_a_velocity_the_last_pose_stays(before: int, last: int, now: int) -> None:
    assert np.array_equal(constant_velocity((before, A), (last, moved(1)), now), moved(1))
