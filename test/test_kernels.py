"""Every kernel on problems so small that Python does them as well: `make kernels`.

Compiled, a kernel hides which of its branches a test runs, and wraps integers without a word.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.depth_localizer import DepthLocalizer, Level
from gs_pose_ros.localization.map_check import MapCheck
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.surfels import SurfelSettings, surfels
from gs_pose_ros.localization.voxel_cloud import OrientedPoints
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews
from gs_pose_ros.optimization.levenberg_marquardt import solve
from gs_pose_ros.pose.refinement.lm import LMRefiner, PyramidLevel
from gs_pose_ros.pose.refinement.residuals import tukey
from gs_pose_ros.pose.verification.agreement import AGREES, OUTSIDE, silhouette_overlap
from gs_pose_ros.pose.verification.check import Verification
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.recording.rvl import decode_rvl
from gs_pose_ros.rendering import render
from gs_pose_ros.rendering.numba_rasterizer import rasterize
from test.localization.room import plane_frame
from test.recording.rvl_writer import encode_rvl
from test.synthetic import Pose, pattern, perturbed, pose_error

pytestmark = pytest.mark.kernels

CAMERA = Camera(70.0, 70.0, 15.5, 11.5, 32, 24)
T_CAM_OBJ = se3.from_rotation_translation(
    se3.exp([0, 0, 0, 2.0, 0.3, -0.2])[:3, :3], [0.0, 0.0, 0.45]
)
LEVELS = (PyramidLevel(24, 3, 0.1, 0.2), PyramidLevel(32, 5, 0.02, 0.08))
REFINER = LMRefiner(
    coarse=(), fine=LEVELS, turned=0, detail_from=32, verification=Verification(crop_size=32)
)


@cache
def brick() -> ObjectReference:
    """300 Gaussians on a brick of 10 x 7 x 5 cm, with a pattern."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (300, 3))
    side = np.arange(300) % 6
    points[np.arange(300), side // 2] = side % 2 - 0.5
    points *= [0.1, 0.07, 0.05]
    gaussians = Gaussians.from_points(points, pattern(points, np.full(3, 0.5)), 0.005, 0.95, 0)
    views = ReferenceViews(
        T_cam_obj=T_CAM_OBJ[None],
        intrinsics=np.array([[60.0, 60, 7.5, 7.5]]),
        color=np.zeros((1, 16, 16, 3), np.uint8),
        mask=np.zeros((1, 16, 16), np.uint8),
    )
    return ObjectReference(
        'brick',
        views,
        gaussians=gaussians,
        diameter_m=0.13,
        box=np.stack([points.min(0), points.max(0)]),
    )


def seen(T_cam_obj: Pose = T_CAM_OBJ) -> tuple[RGBDFrame, NDArray[np.bool_]]:
    """The brick before a wall 0.6 m away, and its mask [H, W]."""
    image = rasterize(brick().gaussians, CAMERA, T_cam_obj)
    alpha = image[:, 4]
    color = image[:, :3].transpose(0, 2, 1) + (1 - alpha[..., None]) * [0.3, 0.35, 0.4]
    depth = np.where(alpha > 0.5, image[:, 3] / np.maximum(alpha, 1e-6), 0.6)
    frame = RGBDFrame(color.astype(np.float32), depth.astype(np.float32), CAMERA)
    return frame, alpha > 0.5


@pytest.mark.parametrize('with_mask', [True, False])
@pytest.mark.parametrize('with_depth', [True, False])
def test_an_object_is_refined(with_depth: bool, with_mask: bool) -> None:
    frame, mask = seen()
    frame = frame if with_depth else frame.without_depth()
    start = perturbed(T_CAM_OBJ, brick(), 6, 0.002)
    got = REFINER.refine(frame, brick(), [start], mask if with_mask else None)
    # Of 6 degrees; without a mask the outline says nothing in so few steps.
    assert pose_error(got.T_cam_obj, T_CAM_OBJ, brick())[0] < (2.5 if with_mask else 4)


def test_what_is_before_an_object_and_beyond_the_picture_is_known() -> None:
    # The brick is half out of the picture, and a bar stands before it.
    T = se3.exp([-0.09, 0, 0, 0, 0, 0]) @ T_CAM_OBJ
    frame, _ = seen(T)
    depth, color = np.array(frame.depth), frame.color.copy()
    depth[:, 3:6], color[:, 3:6] = 0.3, 0.9
    depth[10:12] = 0  # unknown
    frame = replace(frame, color=color, depth=depth)
    there = Observation(frame, brick())
    here = REFINER.verification.check(there, T)
    gone = REFINER.verification.check(there, se3.exp([0.09, 0, 0, 0, 0, 0]) @ T)
    assert 0.2 < here.visible < 0.95
    assert here.fit > gone.fit
    glances = REFINER.verification.glance(there, [T, se3.exp([0.05, 0, 0, 0, 0, 0]) @ T])
    assert glances[0] > glances[1]


# --- A camera in a map -------------------------------------------------------------------------


@cache
def corner() -> SceneMap:
    """Floor and two walls that meet 1.3 m ahead, of surfels 10 cm apart."""
    a, b = np.mgrid[-0.9:0.95:0.1, -0.9:0.95:0.1].reshape(2, -1)
    far = np.full(a.shape, 1.3)
    sides = [
        (np.stack([a, b, far + 0.4 * a], 1), [0.4, 0, -1]),
        (np.stack([a, np.full(a.shape, 0.5), 1.0 + b], 1), [0, -1, 0]),
    ]
    points = np.concatenate([side for side, _ in sides])
    normals = np.concatenate([np.tile(n, (len(p), 1)) for p, n in sides]).astype(float)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colors = pattern(0.1 * points, np.full(3, 0.5))
    keep = points[:, 2] > 0.3
    cloud = OrientedPoints(
        points[keep], colors[keep], normals[keep], np.full(np.count_nonzero(keep), 0.1)
    )
    return SceneMap(surfels(cloud, SurfelSettings()), 0.1)


def test_a_camera_is_found_in_a_map() -> None:
    localizer = DepthLocalizer(
        levels=(Level(16, 3, 100.0, 1e-4), Level(32, 5, 1.0, 1e-4)),
        check=MapCheck(min_agreement=0.0, min_overlap=0.0, min_correlation=-1.0),
    )
    splats = corner().gaussians
    image = rasterize(splats, CAMERA, np.eye(4))
    alpha = np.maximum(image[:, 4], 1e-6)
    depth = np.where(alpha > 0.5, image[:, 3] / alpha, 0).astype(np.float32)
    color = (image[:, :3] / alpha[:, None]).transpose(0, 2, 1)
    depth[:3, :5] = 0
    frame = RGBDFrame(np.ascontiguousarray(color.clip(0, 1)), depth, CAMERA)
    start = se3.exp([0.02, -0.01, 0.03, 0.01, -0.02, 0.01])
    got = localizer.refine(frame, corner(), start)
    assert got.found, got.reason
    assert np.linalg.norm(got.T_map_cam[:3, 3]) < 0.4 * np.linalg.norm(start[:3, 3])


def test_a_plane_is_found_where_half_of_it_is_unknown() -> None:
    frame = plane_frame((0, 0, -1), 1.3, CAMERA)
    assert frame.depth is not None
    frame.depth[:, ::2] = 0
    got = DepthLocalizer(levels=(Level(16, 2, 100.0, 1e-4),)).refine(frame, corner(), np.eye(4))
    assert got.iterations > 0


# --- What the pictures above do not show -------------------------------------------------------


def test_a_full_tile_ends_early_with_the_same_picture_and_gradient() -> None:
    # Behind thirty opaque disks nothing counts; the tile on the right stays empty.
    z = 0.5 + 0.01 * np.arange(40)
    points = np.stack([np.full(40, -0.06), np.zeros(40), z], 1)
    gaussians = Gaussians.from_points(points, np.full((40, 3), 0.5), 0.4, 0.98, 0)
    camera = Camera(70.0, 70.0, 11.5, 7.5, 24, 16)
    narrow = replace(gaussians, log_scales=gaussians.log_scales - 3.4)
    for drawn, is_full in ((gaussians, True), (narrow, False)):
        means = drawn.means.clone().requires_grad_()
        image = render(replace(drawn, means=means), camera, torch.eye(4, dtype=torch.float64))
        image.depth.sum().backward()
        assert means.grad is not None
        assert means.grad[0].abs().max() > 0
        if is_full:
            front = drawn[torch.arange(40) < 30]
            alone = render(front, camera, torch.eye(4, dtype=torch.float64))
            torch.testing.assert_close(image.color, alone.color, atol=1e-3, rtol=0)
            assert not means.grad[32:].any()
        else:
            assert not image.alpha[:, 16:].any()


def test_beyond_the_robust_limit_a_residual_has_no_weight() -> None:
    assert tukey(4.1, 4.0) == (0.0, pytest.approx(16 / 6))
    assert tukey(-1.0, 4.0)[0] == pytest.approx(1 - 1 / 16)  # the root of the weight


def test_what_stands_above_the_support_is_the_object_within_its_reach() -> None:
    K, center = np.array([10.0, 10, 1.5, 1.5]), np.array([0.0, 0.0, 1.0])
    labels, depth = np.full((4, 4), OUTSIDE, np.uint8), np.ones((4, 4), np.float32)
    labels[:, :2], depth[:, 3] = AGREES, 2.0
    above = np.full((4, 4), -2.0, np.float32)
    # The last column is too far away: half of what is near is the silhouette's.
    assert silhouette_overlap(labels, above, depth, K, center, 0.5) == pytest.approx(8 / 12)
    assert silhouette_overlap(labels, 0 * above - 1, depth, K, center, 0.5) == 1


def test_an_object_that_is_not_seen_has_no_step() -> None:
    frame, mask = seen()
    away = se3.exp([5.0, 0, 0, 0, 0, 0]) @ T_CAM_OBJ
    level = LEVELS[0]
    window = ObjectWindow.around(
        Observation(frame, brick(), mask), T_CAM_OBJ, 1.3, level.crop_size
    )
    assert window is not None
    problem = REFINER._problem(brick().gaussians, brick(), window, level)
    got = solve(problem, window.camera, away, np.array([1.0, 1, 1, 0, 0, 0]), 5, 1e-3)
    assert got.end is None
    np.testing.assert_array_equal(got.T, away)


def test_a_depth_image_is_unpacked() -> None:
    image = np.array([[0, 0, 700, 65535], [1, 0, 699, 0]], np.uint16)
    words = encode_rvl(image)
    np.testing.assert_array_equal(decode_rvl(words, 4, 2), image)
    for data in (words[:-4], b'\xff' * 16, bytes(4), b'\0\0\x70\xf7', b'\0\0\x10\x01'):
        with pytest.raises(GsPoseError, match='cut off|damaged'):
            decode_rvl(data, 4, 2)
