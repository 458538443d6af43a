"""Frames: what they accept, and windows that look along the same rays as the image."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.frame import RGBDFrame, warp_window
from gs_pose_ros.geometry.camera import Camera

CAMERA = Camera(50.0, 52.0, 30.2, 22.7, 60, 44)


def ramp_frame() -> RGBDFrame:
    """Red grows with the column, green with the row; the depth numbers the pixels."""
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].astype(np.float32)
    color = np.stack([u / 64, v / 64, np.full_like(u, 0.5)], -1)
    return RGBDFrame(color, 1 + u + 100 * v, CAMERA, stamp_ns=5)


@pytest.mark.parametrize(
    ('color', 'depth'),
    [
        (np.zeros((44, 60), np.float32), None),
        (np.zeros((60, 44, 3), np.float32), None),
        (np.zeros((44, 60, 3), np.float64), None),
        (np.zeros((44, 60, 3), np.float32), np.zeros((60, 44), np.float32)),
        (np.zeros((44, 60, 3), np.float32), np.zeros((44, 60), np.uint16)),
    ],
)
def test_wrong_shapes_and_types_are_refused(color: np.ndarray, depth: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match='must be float32'):
        RGBDFrame(color, depth, CAMERA)


def test_impossible_depth_becomes_unknown() -> None:
    depth = np.ones(CAMERA.shape)
    depth[0, :4] = [np.nan, np.inf, -np.inf, -1]
    rgb = np.full((*CAMERA.shape, 3), 255, np.uint8)
    frame = RGBDFrame.from_uint8(rgb, depth, CAMERA, 3)
    assert frame.depth is not None
    assert (frame.depth[0, :4] == 0).all()
    assert (frame.depth[1:] == 1).all()
    assert frame.color.max() == 1
    assert frame.stamp_ns == 3


def test_without_depth_keeps_the_rest() -> None:
    frame = ramp_frame()
    plain = frame.without_depth()
    assert plain.depth is None
    assert plain.color is frame.color
    assert (plain.camera, plain.stamp_ns) == (frame.camera, frame.stamp_ns)


@pytest.mark.parametrize('factor', [0.3, 0.5, 1.0, 1.7, 4.0])
@pytest.mark.parametrize('corner', [(-0.5, -0.5), (11.3, 7.8)])
def test_a_window_looks_along_the_rays_of_the_image(
    factor: float, corner: tuple[float, float]
) -> None:
    window = CAMERA.crop(*corner, 30, 30, factor)
    frame = ramp_frame().warp(window, *corner, factor)
    assert frame.camera is window
    assert frame.stamp_ns == 5
    v, u = np.mgrid[: window.height, : window.width]
    rays = window.back_project(np.stack([u, v], -1), np.ones(window.shape))
    at = CAMERA.project(rays)
    # Where blur and interpolation do not reach beyond the image, a ramp stays a ramp.
    reach = 2 + 2 / factor
    inner = ((at > reach) & (at < np.array([59, 43]) - reach)).all(-1)
    assert inner.any()
    # OpenCV interpolates in steps of 1/32 pixel.
    assert np.abs(frame.color[..., :2] * 64 - at)[inner].max() < 1 / 32 + 1e-3


@pytest.mark.parametrize('factor', [0.4, 1.0, 2.5])
def test_depth_is_taken_from_the_nearest_pixel_and_never_mixed(factor: float) -> None:
    frame = ramp_frame()
    window = CAMERA.crop(10.2, 6.6, 30, 30, factor)
    depth = frame.warp(window, 10.2, 6.6, factor).depth
    assert depth is not None
    assert frame.depth is not None
    assert np.isin(depth, frame.depth).all()
    v, u = np.mgrid[: window.height, : window.width]
    rays = window.back_project(np.stack([u, v], -1), np.ones(window.shape))
    at = CAMERA.project(rays)
    taken = np.stack([(depth - 1) % 100, (depth - 1) // 100], -1)
    assert np.abs(taken - at).max() < 0.5 + 1 / 16


def test_outside_the_image_a_window_is_zero() -> None:
    window = CAMERA.crop(-40, -30, 20, 20, 1.0)
    frame = ramp_frame().warp(window, -40, -30, 1.0)
    assert (frame.color == 0).all()
    assert frame.depth is not None
    assert (frame.depth == 0).all()


def test_shrinking_averages_what_it_skips() -> None:
    fine = np.zeros((64, 64), np.float32)
    fine[:, ::2] = 1
    camera = Camera(50, 50, 31.5, 31.5, 64, 64)
    small = warp_window(fine, camera.scaled(0.25), -0.5, -0.5, 0.25)
    assert np.abs(small[2:-2, 2:-2] - 0.5).max() < 0.05
