"""The camera: projection, crops, and where pixel centres are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.frame import RGBDFrame, warp_window
from gs_pose_ros.geometry.camera import Camera

CAMERA = Camera(520.0, 510.0, 311.3, 244.9, 640, 480)
pixels = st.tuples(st.floats(-50, 700), st.floats(-50, 500)).map(np.array)
depths = st.floats(0.05, 20)


@given(pixels, depths)
def test_back_projection_undoes_projection(uv, z: float) -> None:
    point = CAMERA.back_project(uv, z)
    assert point[2] == pytest.approx(z)
    np.testing.assert_allclose(CAMERA.project(point), uv, atol=1e-9)


@given(pixels, depths, st.floats(-20, 600), st.floats(-20, 400), st.floats(0.1, 4))
def test_a_crop_sees_the_same_rays(uv, z, left: float, top: float, factor: float) -> None:
    """The point at the outline corner (left, top) is at the corner (-0.5, -0.5) of the crop."""
    window = CAMERA.crop(left, top, 100, 80, factor)
    point = CAMERA.back_project(uv, z)
    # Distances from the outline scale; pixel coordinates are half a pixel further in.
    expected = (CAMERA.project(point) - [left, top]) * factor - 0.5
    np.testing.assert_allclose(window.project(point), expected, atol=1e-7)
    corner = CAMERA.back_project([left, top], z)
    np.testing.assert_allclose(window.project(corner), [-0.5, -0.5], atol=1e-7)


@given(st.sampled_from([0.25, 0.5, 2.0, 3.0]))
def test_scaling_keeps_the_outline(factor: float) -> None:
    scaled = CAMERA.scaled(factor)
    assert (scaled.width, scaled.height) == (640 * factor, 480 * factor)
    for corner, expected in (
        ([-0.5, -0.5], [-0.5, -0.5]),
        ([639.5, 479.5], [640 * factor - 0.5, 480 * factor - 0.5]),
    ):
        point = CAMERA.back_project(corner, 1.0)
        np.testing.assert_allclose(scaled.project(point), expected, atol=1e-9)


def test_the_centre_of_the_first_pixel_is_zero() -> None:
    centred = Camera(100, 100, 31.5, 23.5, 64, 48)  # the axis meets the middle of the image
    np.testing.assert_allclose(centred.project([0, 0, 1.0]), [31.5, 23.5])
    halved = centred.scaled(0.5)
    np.testing.assert_allclose([halved.cx, halved.cy], [15.5, 11.5])


def test_a_point_map_agrees_with_back_projection() -> None:
    rng = np.random.default_rng(0)
    depth = rng.random(CAMERA.shape, np.float32)
    depth[10, 20] = 0
    points = CAMERA.point_map(depth)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points[10, 20], 0)
    np.testing.assert_allclose(
        points[300, 400], CAMERA.back_project([400, 300], depth[300, 400]), rtol=1e-5
    )


def test_matrix_and_shape() -> None:
    assert Camera.from_matrix(CAMERA.matrix, 640, 480) == CAMERA
    assert Camera.from_matrix(CAMERA.matrix.ravel().tolist(), 640, 480) == CAMERA
    assert CAMERA.shape == (480, 640)


@pytest.mark.parametrize(
    'values',
    [
        (0, 1, 1, 1, 10, 10),
        (1, -1, 1, 1, 10, 10),
        (float('nan'), 1, 1, 1, 10, 10),
        (1, 1, float('inf'), 1, 10, 10),
        (1, 1, 1, 1, 0, 10),
    ],
)
def test_impossible_cameras_are_refused(values) -> None:
    with pytest.raises(ValueError, match='must be above 0|has no pixels'):
        Camera(*values)


@pytest.mark.parametrize('factor', [0.2, 0.5, 1.0, 1.7, 3.0])
def test_warped_pictures_agree_with_the_cropped_camera(factor: float) -> None:
    """A blob drawn around the projection of a point is found where the window's camera says."""
    point = CAMERA.back_project([300.3, 200.8], 1.0)
    v, u = np.mgrid[:480, :640]
    blob = np.exp(-((u - 300.3) ** 2 + (v - 200.8) ** 2) / (2 * 8**2)).astype(np.float32)
    left, top = 201.25, 120.5
    window = CAMERA.crop(left, top, 200, 160, factor)
    image = warp_window(blob, window, left, top, factor)
    assert image.shape == window.shape
    rows, cols = np.mgrid[: window.height, : window.width]
    found = [(image * cols).sum() / image.sum(), (image * rows).sum() / image.sum()]
    np.testing.assert_allclose(found, window.project(point), atol=0.06)


def test_a_frame_warps_depth_without_mixing_it() -> None:
    color = np.zeros((480, 640, 3), np.float32)
    depth = np.full((480, 640), 1.0, np.float32)
    depth[:, 320:] = 2.0
    frame = RGBDFrame(color, depth, CAMERA, 7)
    window = CAMERA.crop(250, 100, 150, 150, 0.61)
    warped = frame.warp(window, 250, 100, 0.61)
    assert warped.depth is not None
    assert set(np.unique(warped.depth)) == {1.0, 2.0}
    assert warped.stamp_ns == 7
    outside = frame.warp(CAMERA.crop(-300, -300, 100, 100, 1.0), -300, -300, 1.0)
    assert outside.depth is not None
    assert not outside.depth.any()


def test_frames_clean_their_depth_and_check_their_shapes() -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)
    depth = np.ones((480, 640))
    depth[0, :3] = [np.nan, np.inf, -1]
    frame = RGBDFrame.from_uint8(rgb, depth, CAMERA)
    assert frame.depth is not None
    np.testing.assert_array_equal(frame.depth[0, :4], [0, 0, 0, 1])
    assert frame.without_depth().depth is None
    with pytest.raises(ValueError, match='color must be'):
        RGBDFrame.from_uint8(rgb[:100], None, CAMERA)
    with pytest.raises(ValueError, match='depth must be'):
        RGBDFrame.from_uint8(rgb, depth[:100], CAMERA)


@pytest.mark.parametrize(
    ('values', 'why'),
    [
        ((535, 540, 320, 240, 640, 480), ''),
        ((286, 286, 424, 400, 848, 800), ''),  # a tracking camera of 112 degrees
        ((600, 600, 30, 200, 224, 224), ''),  # a crop
        ((70, 70, 320, 240, 640, 480), 'no focal length'),
        ((535, 50, 320, 240, 640, 480), 'no focal length'),
        ((1e6, 1e6, 320, 240, 640, 480), 'no focal length'),
        ((535, 2500, 320, 240, 640, 480), 'of no one lens'),
        ((1070, 1080, 640, 480, 640, 480), 'of one of 1281 x 961'),
        ((535, 540, 0.5, 0.5, 640, 480), 'is it in px'),
    ],
)
def test_intrinsics_of_another_picture_are_known(values: tuple[float, ...], why: str) -> None:
    fx, fy, cx, cy, width, height = values
    said = Camera(fx, fy, cx, cy, int(width), int(height)).why_of_another_picture()
    assert bool(said) == bool(why)
    assert why in said
