"""Camera messages to frames: encodings, cameras, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.nodes.runtime.conversions import camera_to_message
from gs_pose_ros.recording.frame_decoding import frame_from_messages
from gs_pose_ros.recording.rectification import rectification_from_message
from test.fakes import CAMERA
from test.nodes.conftest import header_at, image_message

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (48, 64, 3), np.uint8)
METRES = RNG.uniform(0.3, 2.0, (48, 64)).astype(np.float32)


def info(camera: Camera = CAMERA) -> CameraInfo:
    return camera_to_message(camera, header_at(7))


def test_frame_has_the_units_of_the_core() -> None:
    depth = METRES.copy()
    depth[0, :4] = [np.nan, np.inf, -1, 0]
    color = image_message(RGB, 'rgb8', 7_000_000_001)
    frame = frame_from_messages(color, info(), image_message(depth, '32FC1', 7))
    assert frame.camera == CAMERA
    assert frame.stamp_ns == 7_000_000_001
    assert frame.color.max() <= 1
    assert frame.depth is not None
    np.testing.assert_array_equal(frame.depth[0, :4], 0)
    np.testing.assert_allclose(frame.depth[1:], METRES[1:])


@pytest.mark.parametrize('value', [np.nan, 0.0, -1.0, np.inf])
def test_depth_without_a_valid_pixel_counts_as_none(value: float) -> None:
    depth = image_message(np.full((48, 64), value, np.float32), '32FC1', 7)
    assert frame_from_messages(image_message(RGB, 'rgb8', 7), info(), depth).depth is None


def test_sizes_must_agree() -> None:
    small = image_message(RGB[:24, :32], 'rgb8', 7)
    with pytest.raises(GsPoseError, match='colour image is 32x24, its camera_info says 64x48'):
        frame_from_messages(small, info())
    depth = image_message(METRES[:24], '32FC1', 7)
    with pytest.raises(GsPoseError, match='depth image is 64x24'):
        frame_from_messages(image_message(RGB, 'rgb8', 7), info(), depth)


# ---- camera_info ----


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (lambda i: i.k.__setitem__(0, 0.0), 'focal|fx'),
        (lambda i: i.k.__setitem__(4, -1.0), 'focal|fx'),
        (lambda i: i.k.__setitem__(2, np.nan), 'K holds NaN'),
        (lambda i: setattr(i, 'width', 0), 'size'),
    ],
    ids=['fx 0', 'fy negative', 'nan', 'no size'],
)
def test_an_uncalibrated_camera_is_refused(edit, words: str) -> None:
    msg = info()
    edit(msg)
    with pytest.raises(GsPoseError, match=words):
        rectification_from_message(msg)


def test_rectified_images_use_p() -> None:
    msg = info()
    msg.d = [0.1, 0.0, 0.0, 0.0, 0.0]
    msg.p[0] = msg.p[5] = 50.0
    rectified = rectification_from_message(msg, rectified=True)
    assert rectified.maps is None
    assert rectified.camera.fx == 50.0
    msg.p = [0.0] * 12
    with pytest.raises(GsPoseError, match='P'):
        rectification_from_message(msg, rectified=True)


def test_region_and_binning_move_the_camera_with_the_image() -> None:
    """A point lands on the same piece of the world through the full and the reduced camera."""
    full = Camera(600.0, 600.0, 320.0, 240.0, 640, 480)
    msg = info(full)
    msg.roi.x_offset, msg.roi.y_offset, msg.roi.width, msg.roi.height = 100, 50, 400, 200
    msg.binning_x = msg.binning_y = 2
    camera = rectification_from_message(msg).camera
    assert (camera.width, camera.height) == (200, 100)
    # The outline of the region is that of the image: pixel -0.5 lies at 99.5 of the full one.
    corner_full = [(99.5 - full.cx) / full.fx, (49.5 - full.cy) / full.fy, 1]
    np.testing.assert_allclose(camera.project(corner_full), [-0.5, -0.5], atol=1e-9)
    end = [(499.5 - full.cx) / full.fx, (249.5 - full.cy) / full.fy, 1]
    np.testing.assert_allclose(camera.project(end), [199.5, 99.5], atol=1e-9)


@pytest.mark.parametrize(
    ('model', 'distortion'),
    [
        ('plumb_bob', [-0.3, 0.1, 0.001, -0.002, 0.0]),
        ('rational_polynomial', [-0.2, 0.1, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0]),
        ('equidistant', [0.05, -0.01, 0.0, 0.0]),
    ],
)
def test_distortion_is_undone(model: str, distortion: list[float]) -> None:
    """A dot drawn where the distorted camera sees a point appears where the pinhole would."""
    camera = Camera(200.0, 200.0, 159.5, 119.5, 320, 240)
    msg = info(camera)
    msg.distortion_model, msg.d = model, distortion
    point = np.array([[0.35, -0.25, 1.0]])
    K = camera.matrix
    if model == 'equidistant':
        pixel = cv2.fisheye.distortPoints(point[None, :, :2], K, np.array(distortion))[0, 0]
    else:
        still = np.zeros(3)
        pixel = cv2.projectPoints(point, still, still, K, np.array(distortion))[0][0, 0]
    picture = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(picture, tuple(np.round(pixel).astype(int).tolist()), 3, (255, 255, 255), -1)
    depth = np.where(picture[..., 0] > 0, np.float32(1.5), np.float32(0.5))
    frame = frame_from_messages(
        image_message(picture, 'rgb8', 7), msg, image_message(depth, '32FC1', 7)
    )
    expected = frame.camera.project(point[0])
    assert np.linalg.norm(expected - pixel) > 3  # otherwise nothing is tested
    for image in (frame.color[..., 0] > 0.5, frame.depth == 1.5):
        rows, columns = np.nonzero(image)
        np.testing.assert_allclose([columns.mean(), rows.mean()], expected, atol=1.0)
    assert set(np.unique(frame.depth)) <= {np.float32(v) for v in (0, 0.5, 1.5)}  # no mixing


def test_unknown_distortion_is_refused() -> None:
    msg = info()
    msg.distortion_model, msg.d = 'barrel', [0.1]
    with pytest.raises(GsPoseError, match='barrel'):
        rectification_from_message(msg)


def test_camera_info_round_trip() -> None:
    camera = Camera(61.5, 62.25, 30.125, 20.5, 64, 48)
    assert rectification_from_message(camera_to_message(camera, header_at(1))).camera == camera
