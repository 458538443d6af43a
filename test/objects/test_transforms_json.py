"""Registration views of a transforms.json, as NeRF tools write it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.transforms_json import read_capture, read_transforms_json
from test.datasets.bop_set import SIZE

from .capture_folder import camera_to_world_gl


def _write_transforms(folder: Path, top: dict, frames: list[dict]) -> None:
    (folder / 'transforms.json').write_text(json.dumps({**top, 'frames': frames}))


def test_opengl_axes_and_half_pixels_are_converted(tmp_path: Path) -> None:
    T_cam_obj = se3.exp([0.1, -0.2, 1.5, 0.3, 0.2, -0.1])
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*SIZE, 3), np.uint8))
    _write_transforms(
        tmp_path,
        {
            'fl_x': 60,
            'fl_y': 61,
            'cx': 32,
            'cy': 24,
            'w': 64,
            'h': 48,
            'aabb': [[0, 0, 0], [1, 2, 3]],
        },
        [
            {'file_path': 'a.png', 'transform_matrix': camera_to_world_gl(T_cam_obj)},
            {'file_path': 'missing.png', 'transform_matrix': np.eye(4).tolist()},
            {'file_path': 'a', 'fl_x': 70, 'transform_matrix': camera_to_world_gl(T_cam_obj)},
        ],
    )
    views = read_transforms_json(tmp_path)
    assert len(views) == 2
    np.testing.assert_allclose(views[0].T_cam_obj, T_cam_obj, atol=1e-12)
    # The middle of the picture is (32, 24) where it spans [0, 64], and (31.5, 23.5) with us.
    assert views[0].camera == Camera(60, 61, 31.5, 23.5, 64, 48)
    assert views[1].camera.fx == 70  # the frame's own value, and a file_path without suffix
    scaled = read_transforms_json(tmp_path, max_views=1, metres_per_unit=0.1)
    assert len(scaled) == 1
    np.testing.assert_allclose(
        se3.inverse(scaled[0].T_cam_obj)[:3, 3], 0.1 * se3.inverse(T_cam_obj)[:3, 3]
    )
    box = read_capture(tmp_path, metres_per_unit=0.1).box
    assert box is not None
    np.testing.assert_allclose(box, [[0, 0, 0], [0.1, 0.2, 0.3]])


def test_field_of_view_alpha_depth_and_masks(tmp_path: Path) -> None:
    pixels = np.zeros((*SIZE, 4), np.uint8)
    pixels[10:20, 10:20, 3] = 255
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    cv2.imwrite(str(tmp_path / 'd.png'), np.full(SIZE, 1234, np.uint16))
    cv2.imwrite(str(tmp_path / 'm.png'), np.eye(48, 64, dtype=np.uint8))
    pose = {'transform_matrix': camera_to_world_gl(se3.exp([0, 0, 1.0, 0, 0, 0]))}
    _write_transforms(
        tmp_path,
        {'camera_angle_x': 2 * np.arctan(0.5)},
        [
            {'file_path': 'a', **pose},
            {'file_path': 'a', 'mask_path': 'm.png', 'depth_file_path': 'd.png', **pose},
        ],
    )
    views = read_transforms_json(tmp_path)
    assert views[0].camera.fx == pytest.approx(64)
    assert views[0].mask is not None
    assert views[0].mask.sum() == 100
    assert views[1].mask is not None
    assert views[1].mask.sum() == 48
    assert views[1].depth is not None
    np.testing.assert_allclose(views[1].depth, 1.234, atol=1e-6)
    assert read_capture(tmp_path).box is None


def test_distorted_pictures_become_pinhole_pictures(tmp_path: Path) -> None:
    """Dots where the distorted camera sees known points land where `Camera` projects them."""
    height, width = 480, 640
    fx, cx, cy = 500.0, 320.5, 241.0
    k1, k2, p1, p2 = 0.06, -0.08, -0.001, 0.0005
    grid = np.stack(np.meshgrid(np.linspace(-0.3, 0.3, 5), np.linspace(-0.2, 0.2, 4)), -1)
    points = np.concatenate([grid.reshape(-1, 2), np.ones((20, 1))], 1)
    Kf = np.array([[fx, 0, cx], [0, fx, cy], [0, 0, 1]])
    seen, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), Kf, np.array([k1, k2, p1, p2]))
    image = np.zeros((height, width, 3), np.uint8)
    for u, v in seen.reshape(-1, 2):  # the file's pixel centres are at +0.5
        centre = (round((u - 0.5) * 16), round((v - 0.5) * 16))
        cv2.circle(image, centre, 4 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    _write_transforms(
        tmp_path,
        {
            'fl_x': fx,
            'fl_y': fx,
            'cx': cx,
            'cy': cy,
            'k1': k1,
            'k2': k2,
            'p1': p1,
            'p2': p2,
        },
        [{'file_path': 'a.png', 'transform_matrix': np.diag([1, -1, -1, 1]).tolist()}],
    )
    view = read_transforms_json(tmp_path)[0]
    np.testing.assert_allclose(view.T_cam_obj, np.eye(4), atol=1e-12)
    for u, v in view.camera.project(points):
        rows, cols = np.mgrid[round(v) - 9 : round(v) + 10, round(u) - 9 : round(u) + 10]
        weight = view.color[rows, cols, 0].astype(float)
        found = np.array([(weight * cols).sum(), (weight * rows).sum()]) / weight.sum()
        np.testing.assert_allclose(found, [u, v], atol=0.1)


@pytest.mark.parametrize(
    ('top', 'frame', 'message'),
    [
        ({}, {}, 'fl_x'),
        ({'fl_x': 60}, {'transform_matrix': [[1, 0], [0, 1]]}, 'transform_matrix'),
        ({'fl_x': 60}, {'transform_matrix': (2 * np.eye(4)).tolist()}, 'rigid'),
        ({'fl_x': 60, 'camera_model': 'OPENCV_FISHEYE'}, {}, 'fisheye'),
        ({'fl_x': 60, 'is_fisheye': True}, {}, 'fisheye'),
        ({'fl_x': 60, 'k4': 0.1}, {}, 'k4'),
        ({'fl_x': 'wide'}, {}, 'wide'),
        ({'fl_x': 60}, {'mask_path': 'none.png'}, 'none.png'),
        ({'fl_x': 60}, {'mask_path': 'small.png'}, 'the mask is 4 x 4, the picture 64 x 48'),
    ],
)
def test_unusable_entries_are_named(tmp_path: Path, top, frame, message: str) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*SIZE, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((4, 4), np.uint8))
    entry = {'file_path': 'a.png', 'transform_matrix': np.eye(4).tolist(), **frame}
    _write_transforms(tmp_path, top, [entry])
    with pytest.raises(GsPoseError, match=message) as error:
        read_transforms_json(tmp_path)
    assert 'transforms.json' in str(error.value)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"frames": [{}]}', '{"frames": 3}'])
def test_files_that_are_no_transforms_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / 'transforms.json').write_text(text)
    with pytest.raises(GsPoseError, match=r'transforms\.json'):
        read_transforms_json(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GsPoseError, match='missing'):
        read_transforms_json(tmp_path)
    _write_transforms(tmp_path, {'fl_x': 1}, [{'file_path': 'a.png'}])
    with pytest.raises(GsPoseError, match='none of its 1 pictures'):
        read_transforms_json(tmp_path)
