"""Distortions that real lenses have are undone; those of failed calibrations are refused."""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.geometry.distortion import check_distortion, undistortion
from test.mutations import examples

# Focal length, width and height (px) and coefficients, as published or usual.
REAL = {
    'TUM freiburg1': (517, 640, 480, [0.2624, -0.9531, -0.0054, 0.0026, 1.1633]),
    'EuRoC': (458, 752, 480, [-0.2834, 0.07396, 0.00019, 0.000018]),
    'Azure Kinect, rational': (
        *(605, 1280, 720),
        [0.45, -2.6, 0.0005, -0.0002, 1.5, 0.33, -2.4, 1.44],
    ),
    'action camera': (580, 1280, 720, [-0.25, 0.06, 0, 0]),
    # What one coefficient says of a wide lens ends before the corners.
    'wide, k1 only': (580, 1280, 720, [-0.2, 0, 0, 0]),
    'phone': (3000, 4000, 3000, [0.08, -0.13, 0.0003, 0.0001]),
    'sensor that is tilted': (600, 640, 480, [0.1, *[0] * 11, 0.05, 0.02]),
    'none': (600, 640, 480, []),
}
FAILED = {
    'COLMAP': (184, 160, 120, [-44.85, 1017, 0, 0]),
    'folds at the middle of the edges': (600, 640, 480, [-1, 0, 0, 0]),
    'tangential': (600, 640, 480, [0, 0, 3, 0]),
    'a pole inside the picture': (600, 640, 480, [0, 0, 0, 0, 0, -10, 0, 0]),
    'of a telephoto lens': (3000, 640, 480, [-100, 0, 0, 0]),
    'without end': (600, 640, 480, [1e308, 0, 0, 0]),
}


def _camera(f: float, width: int, height: int) -> Camera:
    return Camera(f, f, (width - 1) / 2, (height - 1) / 2, width, height)


@pytest.mark.parametrize(('f', 'width', 'height', 'D'), REAL.values(), ids=list(REAL))
def test_lenses_that_are_sold_pass(f: float, width: int, height: int, D: list[float]) -> None:
    check_distortion(_camera(f, width, height).matrix, D, width, height)


@pytest.mark.parametrize(('f', 'width', 'height', 'D'), FAILED.values(), ids=list(FAILED))
def test_failed_calibrations_are_refused(
    f: float, width: int, height: int, D: list[float]
) -> None:
    with pytest.raises(ValueError, match=r'only \d+% of the \d+ x \d+ picture') as error:
        check_distortion(_camera(f, width, height).matrix, D, width, height)
    assert f'{D[0]:g}' in str(error.value)


@pytest.mark.parametrize(
    ('D', 'message'),
    [
        ([0.1], '1 distortion coefficients'),
        ([0.1] * 16, '16 distortion coefficients'),
        ([float('nan'), 0, 0, 0], 'not finite'),
        ([0, 0, 0, float('inf')], 'not finite'),
    ],
)
def test_coefficients_of_no_model_are_refused(D: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_distortion(np.eye(3), D, 640, 480)


def test_a_point_is_found_where_the_undistorted_camera_projects_it() -> None:
    camera, D = _camera(458, 752, 480), [-0.2834, 0.07396, 0.00019, 0.000018]
    flat, (u, v) = undistortion(camera, D)
    points = np.array([[0.1, -0.2, 1], [-0.4, 0.2, 1], [0, 0, 2]])
    distorted = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.matrix, np.array(D))[0]
    for pixel, expected in zip(flat.project(points), distorted.reshape(-1, 2), strict=True):
        x, y = pixel.round().astype(int)
        near = [u[y, x], v[y, x]] + (pixel - [x, y]) * camera.fx / flat.fx
        np.testing.assert_allclose(near, expected, atol=0.3)


def test_a_picture_that_would_show_next_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r'would show \d+% of the 640 x 480 picture'):
        undistortion(_camera(600, 640, 480), [0.1, -0.5, 0, 0, 50])


_ANY = st.floats() | st.floats(-3, 3)
_COEFFICIENTS = st.lists(_ANY, max_size=15) | st.sampled_from((4, 5, 8, 12, 14)).flatmap(
    lambda n: st.lists(_ANY, min_size=n, max_size=n)
)


@examples(30)
@given(
    _COEFFICIENTS,
    st.lists(st.floats(allow_nan=True), min_size=4, max_size=4),
)
def test_any_coefficients_pass_or_are_refused(D: list[float], k: list[float]) -> None:
    K = [[k[0], 0, k[1]], [0, k[2], k[3]], [0, 0, 1]]
    with contextlib.suppress(ValueError):
        check_distortion(K, D, 64, 48)
    with contextlib.suppress(ValueError):
        flat, (u, v) = undistortion(_camera(60, 64, 48), D)
        assert flat.shape == u.shape == v.shape
