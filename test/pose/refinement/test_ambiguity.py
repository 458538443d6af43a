"""Look-alikes: half turns of anything, and turns of what is almost round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import KDTree

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.refinement.ambiguity import LookAlikes, turned_about
from test.synthetic import reference

T_CAM_OBJ = se3.exp([0.1, 0.2, 0.5, 1.0, -0.4, 0.3])


def cup() -> ObjectReference:
    """A cylinder about a line beside the origin, with a handle on one side."""
    angle, height = np.meshgrid(np.arange(0, 2 * np.pi, 0.1), np.arange(0, 0.1, 0.004))
    wall = np.stack([0.04 * np.cos(angle) + 0.01, 0.04 * np.sin(angle) - 0.02, height], -1)
    handle = np.stack(
        np.meshgrid(np.arange(0.05, 0.075, 0.004), -0.02, np.arange(0.03, 0.07, 0.004))
    )
    points = np.concatenate([wall.reshape(-1, 3), handle.reshape(3, -1).T])
    gaussians = Gaussians.from_points(points, np.full_like(points, 0.5), 0.002, 0.9, 0)
    box = np.stack([points.min(0), points.max(0)])
    return replace(reference(), gaussians=gaussians, diameter_m=0.14, box=box)


def test_an_object_that_is_not_round_is_turned_over() -> None:
    center = reference().box.mean(0)
    turned = LookAlikes().poses(reference(), T_CAM_OBJ)
    assert len(turned) == 3
    for axis, other in enumerate(turned):
        assert se3.is_rigid(other)
        assert np.allclose(
            se3.transform(other, center[None]), se3.transform(T_CAM_OBJ, center[None])
        )
        assert np.allclose(other[:3, axis], T_CAM_OBJ[:3, axis])
        assert se3.rotation_angle(other[:3, :3], T_CAM_OBJ[:3, :3]) == pytest.approx(np.pi)


def test_a_cup_is_turned_about_its_axis_and_not_about_the_middle_of_its_box() -> None:
    ref = cup()
    turns = LookAlikes(step_deg=30).poses(ref, np.eye(4))
    assert len(turns) == 3 + 11
    points = ref.gaussians.means.double().numpy()
    wall = np.hypot(points[:, 0] - 0.01, points[:, 1] + 0.02) < 0.0405
    for k, turn in enumerate(turns[3:], 1):
        about_z = se3.exp([0, 0, 0, 0, 0, np.radians(30 * k)])
        assert np.allclose(turn[:3, :3], about_z[:3, :3])
        # The wall comes to lie on itself; the handle is what tells the turns apart.
        off, _ = KDTree(points[wall]).query(se3.transform(turn, points[wall]))
        assert off.max() < 0.004


def test_poses_about_the_centre() -> None:
    poses = turned_about(reference(), T_CAM_OBJ, 9, 35.0)
    assert len(poses) == 9
    for T in poses:
        assert se3.is_rigid(T)
        assert np.degrees(se3.rotation_angle(T[:3, :3], T_CAM_OBJ[:3, :3])) == pytest.approx(35)
        np.testing.assert_allclose(reference().center_in(T), reference().center_in(T_CAM_OBJ))
    apart = [se3.rotation_angle(a[:3, :3], b[:3, :3]) for a in poses for b in poses if a is not b]
    assert np.degrees(min(apart)) > 20
