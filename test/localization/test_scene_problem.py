"""The comparison of a map with a picture: its gradient, and where it leads."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from gs_pose_ros.frame import DepthNoise
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.depth_localizer import DepthLocalizer, Picture
from gs_pose_ros.localization.observation import DEPTH, GRAY, shrink
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.scene_problem import SceneProblem, linearize_scene
from gs_pose_ros.localization.surfels import SurfelSettings, surfels
from gs_pose_ros.localization.voxel_cloud import OrientedPoints
from gs_pose_ros.optimization.drawing import room
from gs_pose_ros.optimization.levenberg_marquardt import move_about

from .room import plane_frame

CAMERA = Camera(150.0, 140.0, 49.5, 37.5, 100, 76)
_SPACING = 0.008
NOISE_M = 0.01


@cache
def bumps() -> SceneMap:
    """A wavy sheet 1.5 m ahead with a pattern of gray; camera frame and map frame are one."""
    x, y = np.mgrid[-1:1:_SPACING, -0.8:0.8:_SPACING].reshape(2, -1)
    a, b = 5.0, 6.0
    z = 1.5 + 0.06 * np.sin(a * x + 0.3) + 0.05 * np.cos(b * y) + 0.1 * x
    dx, dy = 0.06 * a * np.cos(a * x + 0.3) + 0.1, -0.05 * b * np.sin(b * y)
    normals = np.stack([dx, dy, -np.ones_like(x)], 1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    gray = 0.5 + 0.2 * np.sin(7 * x + 4 * y) + 0.15 * np.cos(9 * y - 2 * x)
    n = len(x)
    cloud = OrientedPoints(
        np.stack([x, y, z], 1), np.repeat(gray[:, None], 3, 1), normals, np.full(n, _SPACING)
    )
    # In an order of chance: neighbours that hide each other always on one side shift the gray.
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    gaussians: Gaussians = surfels(cloud, SurfelSettings(thickness=0.01))[order]
    return SceneMap(gaussians, _SPACING)


def problem_at(
    seen: np.ndarray, contour: float, gray: float, scene: SceneMap | None = None
) -> SceneProblem:
    """With one sigma for all depths, which the derivatives take as fixed."""
    localizer = DepthLocalizer(contour_weight=contour, gray_weight=gray)
    level, noise = localizer.levels[-1], DepthNoise(NOISE_M, 0.0)
    picture = Picture(level, CAMERA, seen, noise, voxel_px=1.0)
    return localizer._problem(picture, scene or bumps(), np.eye(4), 1.0)


def picture_from(T_cam_map: np.ndarray) -> np.ndarray:
    """What `shrink` would give of the sheet [h, w, 4]."""
    problem = problem_at(np.ones((*CAMERA.shape, 4), np.float32), 0.0, 0.0)
    evaluate(problem, T_cam_map)
    image = problem.drawing.image
    seen = np.zeros((*CAMERA.shape, 4), np.float32)
    alpha = image[:, 4]
    assert alpha.min() > 0.5
    seen[..., DEPTH], seen[..., GRAY] = image[:, 3] / alpha, image[:, 0] / alpha
    return seen


def evaluate(problem: SceneProblem, T: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, int]:
    """Cost over all pixels, its gradient [6], H [6, 6] and the pixels that count."""
    H, gradients, gain = np.empty((6, 6)), np.empty((4, 4, 6)), np.array([1.0, 0.0])
    cost, support, needed = linearize_scene(problem, T, gain, H, gradients)
    if needed > room(problem.drawing):
        raise AssertionError('too little room')
    pixels = np.count_nonzero(np.isfinite(problem.residuals[1:-1, 1:-1]))
    return cost * pixels, gradients.sum((0, 1)), H, support


OFF = np.array([0.004, -0.003, 0.005, 0.004, -0.006, 0.005])
WEIGHTS = {'depth': (0.0, 0.0), 'contour': (1000.0, 0.0), 'gray': (0.0, 1000.0)}


@pytest.mark.parametrize('kind', WEIGHTS)
def test_the_gradient_is_that_of_the_cost(kind: str) -> None:
    contour, gray = WEIGHTS[kind]
    center = np.array([0.0, 0, 1.5])
    seen = picture_from(move_about(np.eye(4), center, OFF))
    problem = problem_at(seen, contour, gray)
    problem = problem._replace(center=center)
    _, gradient, _, support = evaluate(problem, np.eye(4))
    assert support > 0.9 * CAMERA.width * CAMERA.height
    for axis in range(6):
        step = np.zeros(6)
        step[axis] = 0.002
        ahead, behind = (
            evaluate(problem, move_about(np.eye(4), center, sign * step))[0] for sign in (1, -1)
        )
        numeric = (ahead - behind) / 0.004
        # Splats that hide each other have no exact motion of their gray.
        most = 0.03 * np.abs(gradient).max()
        assert gradient[axis] == pytest.approx(numeric, rel=0.1, abs=most), axis


@pytest.mark.parametrize('kind', WEIGHTS)
def test_a_newton_step_goes_where_the_picture_was_taken(kind: str) -> None:
    contour, gray = WEIGHTS[kind]
    center = np.array([0.0, 0, 1.5])
    seen = picture_from(move_about(np.eye(4), center, OFF))
    problem = problem_at(seen, contour, gray)._replace(center=center)
    T = np.eye(4)
    for _ in range(3):
        _, gradient, H, _ = evaluate(problem, T)
        T = move_about(T, se3.transform(T, center[None])[0], -np.linalg.solve(H, gradient))
    xi = se3.log(move_about(np.eye(4), center, OFF) @ se3.inverse(T))
    assert np.linalg.norm(xi[:3]) < 0.0015
    assert np.linalg.norm(xi[3:]) < 0.0015


def test_h_is_symmetric_and_positive() -> None:
    seen = picture_from(np.eye(4))
    _, _, H, _ = evaluate(problem_at(seen, 0.1, 0.1), np.eye(4))
    np.testing.assert_array_equal(H, H.T)
    assert np.linalg.eigvalsh(H).min() > 0


def test_the_residual_is_map_minus_measurement_in_sigmas() -> None:
    seen = picture_from(np.eye(4))
    seen[..., DEPTH] -= 0.02
    problem = problem_at(seen, 0.0, 0.0)
    evaluate(problem, np.eye(4))
    np.testing.assert_allclose(problem.residuals[1:-1, 1:-1], 0.02 / NOISE_M, atol=1e-3)


def test_what_is_not_measured_says_nothing() -> None:
    seen = picture_from(np.eye(4))
    whole = evaluate(problem_at(seen, 0.1, 0.1), np.eye(4))
    seen[30:, :, DEPTH] = 0
    problem = problem_at(seen, 0.1, 0.1)
    half = evaluate(problem, np.eye(4))
    assert np.isnan(problem.residuals[30:-1, 1:-1]).all()
    assert half[3] == pytest.approx(29 / 74 * whole[3], rel=0.02)


def test_another_surface_says_nothing_about_its_gray() -> None:
    seen = picture_from(np.eye(4))
    seen[:, :50, DEPTH] -= 0.5
    _, before, _, support = evaluate(problem_at(seen, 0.1, 1.0), np.eye(4))
    seen[:, :48, GRAY] = 0.0
    _, after, _, _ = evaluate(problem_at(seen, 0.1, 1.0), np.eye(4))
    np.testing.assert_allclose(before, after, rtol=1e-9)
    assert support < 0.55 * CAMERA.width * CAMERA.height


def test_gain_and_offset_of_the_gray_are_found() -> None:
    seen = picture_from(np.eye(4))
    seen[..., GRAY] = 0.6 * seen[..., GRAY] + 0.25
    problem, gain = problem_at(seen, 0.0, 1.0), np.array([1.0, 0.0])
    linearize_scene(problem, np.eye(4), gain, np.empty((6, 6)), np.empty((4, 4, 6)))
    np.testing.assert_allclose(gain, [0.6, 0.25], atol=0.02)


def test_missing_pixels_of_a_slanted_plane_leave_no_residual() -> None:
    # Half of each block is missing, always the left one.
    fine = Camera(300.0, 280.0, 99.5, 75.5, 200, 152)
    depth = plane_frame((0.5, 0.2, -1.0), 1.5, fine).depth
    assert depth is not None
    depth = depth.copy()
    depth[:, ::2] = 0
    out = np.empty((76, 100, 4), np.float32)
    shrink(depth, np.zeros_like(depth), 2, out)
    x, y = np.mgrid[-1.6:1.6:0.012, -1.2:1.2:0.012].reshape(2, -1)
    n = np.array([0.5, 0.2, -1.0]) / np.linalg.norm([0.5, 0.2, 1.0])
    z = (-1.5 - n[0] * x - n[1] * y) / n[2]
    cloud = OrientedPoints(
        np.stack([x, y, z], 1), np.full((len(x), 3), 0.5), np.tile(n, (len(x), 1)),
        np.full(len(x), 0.015),
    )  # fmt: skip
    scene = SceneMap(surfels(cloud, SurfelSettings()), 0.012)
    for seen, most in ((out, 0.0005), (out * [1, 0, 0, 1], None)):
        problem = problem_at(np.asarray(seen, np.float32), 0.0, 0.0, scene)
        evaluate(problem, np.eye(4))
        off = np.nanmedian(np.abs(problem.residuals[1:-1, 1:-1])) * NOISE_M
        assert off < most if most else off > 0.001
