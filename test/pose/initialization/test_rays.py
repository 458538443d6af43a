"""Allocentric and egocentric rotation."""

from __future__ import annotations

import numpy as np
import torch

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.pose.initialization.rays import ray_rotations
from gs_pose_ros.rendering import render
from test.synthetic import reference

POINTS = np.array([[0.3, -0.2, 0.7], [-2.0, 1.0, 0.5], [1e-9, 0, 1], [0, 0, 2.0]])


def test_the_optical_axis_is_turned_to_the_ray() -> None:
    R = ray_rotations(POINTS)
    rays = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
    assert np.allclose(R[:, :, 2], rays, atol=1e-12)
    assert np.allclose(R @ R.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(R[-1], np.eye(3))


def test_it_is_the_smallest_rotation_that_does() -> None:
    # A rotation about an axis perpendicular to the optical axis has no roll.
    vectors = se3.rotation_log(ray_rotations(POINTS))
    assert np.allclose(vectors[:, 2], 0, atol=1e-12)


def test_an_object_looks_the_same_beside_the_optical_axis() -> None:
    ref = reference()
    camera = Camera(300.0, 300.0, 31.5, 31.5, 64, 64)
    R = se3.exp([0, 0, 0, 2.2, 0.3, -0.4])[:3, :3]
    middle = np.array([0, 0, 0.6])
    aside = np.array([0.25, -0.15, 0.8])
    aside *= 0.6 / np.linalg.norm(aside)
    pictures = []
    for center, rotation in ((middle, R), (aside, ray_rotations(aside[None])[0] @ R)):
        T = se3.from_rotation_translation(rotation, center - rotation @ ref.box.mean(0))
        # The camera turned to the object shows it in the middle: it must be the same picture.
        look = np.eye(4)
        look[:3, :3] = ray_rotations(center[None])[0].T
        pictures.append(render(ref.gaussians, camera, torch.from_numpy(look @ T)).color)
    assert torch.allclose(pictures[0], pictures[1], atol=1e-3)
