"""Figure and ground: the support plane, and GrabCut around a rough pose."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.frame import RGBDFrame, warp_window
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.pose.detection.segmentation import SupportPlaneSegmentation, _to_frame, cut_out
from gs_pose_ros.pose.verification.observation import Observation
from test.synthetic import (
    CAMERA,
    Scene,
    bar,
    make_scene,
    perturbed,
    reference,
    standing,
    table_pose,
)

SEGMENTATION = SupportPlaneSegmentation()


@pytest.fixture(scope='module')
def scene() -> Scene:
    return make_scene([(reference(), standing(-0.06)), (bar(), standing(0.07, 0.03, 80))])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize(('tilt', 'distance'), [(50, 0.45), (80, 0.6), (30, 0.5)])
def test_the_support_plane_is_recovered(tilt: float, distance: float) -> None:
    T = table_pose(distance, tilt)
    frame = make_scene([(reference(), standing())], T_cam_table=T).frame
    assert frame.depth is not None
    plane = SEGMENTATION.fit_plane(frame.camera.point_map(frame.depth)[frame.depth > 0])
    assert plane is not None
    assert np.linalg.norm(plane[:3]) == pytest.approx(1)
    assert np.degrees(np.arccos(plane[:3] @ T[:3, 2])) < 0.5
    # Its distance from the camera, which is on the positive side.
    assert plane[3] == pytest.approx(-T[:3, 2] @ T[:3, 3], abs=0.002)


def test_what_stands_on_the_table_is_foreground(scene: Scene) -> None:
    foreground = SEGMENTATION.foreground(scene.frame)
    assert iou(foreground, scene.masks[0] | scene.masks[1]) > 0.85
    # What is higher than the threshold is there whole.
    assert (foreground & scene.masks[0]).sum() > 0.9 * scene.masks[0].sum()


def test_an_empty_table_has_no_foreground() -> None:
    assert not SEGMENTATION.foreground(make_scene().frame).any()


def test_pixels_without_depth_are_not_foreground(scene: Scene) -> None:
    depth = np.asarray(scene.frame.depth).copy()
    depth[:, 80:] = 0
    foreground = SEGMENTATION.foreground(RGBDFrame(scene.frame.color, depth, CAMERA))
    assert not foreground[:, 82:].any()
    assert foreground.any()
    nothing = RGBDFrame(scene.frame.color, np.zeros(CAMERA.shape, np.float32), CAMERA)
    assert not SEGMENTATION.foreground(nothing).any()


def test_without_a_plane_everything_near_is_foreground() -> None:
    r = np.random.default_rng(0)
    depth = r.uniform(0.4, 4.0, CAMERA.shape).astype(np.float32)
    frame = RGBDFrame(np.zeros((*CAMERA.shape, 3), np.float32), depth, CAMERA)
    assert SEGMENTATION.fit_plane(CAMERA.point_map(depth).reshape(-1, 3)) is None
    foreground = SEGMENTATION.foreground(frame)
    assert foreground.mean() > 0.5


def test_few_or_equal_points_are_no_plane() -> None:
    assert SEGMENTATION.fit_plane(np.zeros((50, 3), np.float32)) is None
    assert SEGMENTATION.fit_plane(np.ones((500, 3), np.float32)) is None


@pytest.mark.parametrize('factor', [0.5, 1.0, 2.0, 3.3])
def test_a_mask_comes_back_to_where_it_was_cut(factor: float) -> None:
    camera = Camera(90.0, 90.0, 28.3, 33.1, 64, 60)
    mask = np.zeros(camera.shape, bool)
    mask[20:44, 16:50] = True
    mask[20:30, 16:26] = False
    left, top, side = 9.7, 12.3, 44.0
    window = camera.crop(left, top, side, side, factor)
    inside = warp_window(mask.astype(np.float32), window, left, top, factor)
    back = _to_frame(inside, window, camera)
    # Not a pixel wider on one side than on the other.
    assert np.count_nonzero(mask ^ back) <= (30 if factor < 1 else 4)
    for axis in (0, 1):
        middle = [np.nonzero(m)[axis].mean() for m in (mask, back)]
        assert middle[0] == pytest.approx(middle[1], abs=0.1)


def test_a_pixel_of_the_window_lands_on_its_pixel() -> None:
    camera = Camera(90.0, 90.0, 31.5, 29.5, 64, 60)
    window = camera.crop(9.5, 11.5, 40, 40, 1.0)
    spot = np.zeros((40, 40), np.float32)
    spot[7, 12] = 1
    back = _to_frame(spot, window, camera)
    assert [tuple(p) for p in np.argwhere(back)] == [(12 + 7, 10 + 12)]


@pytest.mark.parametrize('seed', range(3))
def test_the_object_is_cut_out_around_a_rough_pose(scene: Scene, seed: int) -> None:
    rough = perturbed(scene.T_cam_obj[0], reference(), 15, 0.008, seed)
    observation = Observation(scene.frame.without_depth(), reference())
    mask = cut_out(observation, rough)
    assert mask is not None
    assert iou(mask, scene.masks[0]) > 0.8
    again = cut_out(observation, rough)
    assert again is not None
    assert np.array_equal(again, mask)


def test_there_is_nothing_to_cut_out_of_view(scene: Scene) -> None:
    T = scene.T_cam_obj[0].copy()
    T[0, 3] += 1
    assert cut_out(Observation(scene.frame, reference()), T) is None
    T[:3, 3] = [0, 0, -1]
    assert cut_out(Observation(scene.frame, reference()), T) is None


def test_a_plain_image_has_no_object_in_it() -> None:
    plain = RGBDFrame(np.full((*CAMERA.shape, 3), 0.5, np.float32), None, CAMERA)
    scene = make_scene([(reference(), standing())])
    mask = cut_out(Observation(plain, reference()), scene.T_cam_obj[0])
    assert mask is None or iou(mask, scene.masks[0]) < 1


def desk(wall_m: float, noise_m: float = 0.0) -> tuple[RGBDFrame, np.ndarray]:
    """A low table in front of a wall that fills most of the picture, a block on it, its mask."""
    camera = Camera(300, 300, 159.5, 119.5, 320, 240)
    rays = camera.point_map(np.ones(camera.shape, np.float32))
    table = np.where(rays[..., 1] > 0, 0.13 / np.maximum(rays[..., 1], 1e-6), np.inf)
    depth = np.minimum(table, wall_m)
    block = np.zeros(camera.shape, bool)
    block[120:192, 130:180] = True
    depth = np.where(block, np.minimum(depth, 0.5), depth)
    depth += np.random.default_rng(0).normal(0, noise_m, depth.shape)
    color = np.full((*camera.shape, 3), 0.5, np.float32)
    return RGBDFrame(color, depth.astype(np.float32), camera), block


@pytest.mark.parametrize('wall_m', [0.9, 1.3, 2.5])
def test_a_wall_behind_the_scene_is_not_its_support(wall_m: float) -> None:
    frame, block = desk(wall_m)
    foreground = SEGMENTATION.foreground(frame)
    assert foreground[block].mean() > 0.85
    # A wall that is within reach above the table may stay; it hides nothing of the object.
    assert foreground[200:].mean() < 0.05


def test_a_table_seen_with_the_noise_of_a_stereo_camera_is_found() -> None:
    frame, block = desk(2.5, noise_m=0.003)
    foreground = SEGMENTATION.foreground(frame)
    assert foreground[block].mean() > 0.85
    assert foreground[200:].mean() < 0.1
