"""The camera of transforms.json: what its numbers mean, and which pictures they are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.transforms_camera import same_shape
from gs_pose_ros.objects.transforms_json import Capture, read_capture

from .capture_folder import INTRINSICS, POSES, frames, ramp, write_capture

NO_SIZE = {'w': None, 'h': None}


def capture(folder: Path, **top: Any) -> Capture:
    """What is read of pictures that are there already, with these fields at the top."""
    content = {**INTRINSICS, **top, 'frames': frames()}
    content = {key: value for key, value in content.items() if value is not None}
    (folder / 'transforms.json').write_text(json.dumps(content))
    return read_capture(folder)


def write_pictures(folder: Path, width: int, height: int, orientation: int = 1) -> np.ndarray:
    """Three pictures of that size as stored; RGB."""
    rgb = np.ascontiguousarray(ramp(height, width)[..., ::-1])
    (folder / 'images').mkdir(exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for k in range(3):
        Image.fromarray(rgb).save(folder / f'images/{k}.png', exif=exif)
    return rgb


# ---- the size of the picture ----


def test_a_resized_picture_has_a_resized_camera(tmp_path: Path) -> None:
    write_pictures(tmp_path, 32, 24)
    camera = capture(tmp_path).views[0].camera
    # Outlines are kept: cx = 33 of 64 in the file's pixels, whose first centre is at 0.5.
    assert camera == Camera(30, 30.5, 16, 11, 32, 24)


@pytest.mark.parametrize(
    ('size', 'other', 'same'),
    [
        ((64, 48), (64, 48), True),
        ((64, 48), (640, 480), True),
        ((1333, 1000), (4000, 3000), True),  # 1333.33
        ((1080, 607), (1920, 1080), True),  # 607.5
        ((1080, 608), (1920, 1080), True),
        ((1080, 606), (1920, 1080), False),
        ((1920, 1088), (1920, 1080), False),
        ((48, 64), (64, 48), False),
        ((640, 480), (640, 400), False),
        ((16, 16), (4000, 3000), False),
    ],
)
def test_a_resized_picture_is_told_from_another(
    size: tuple[int, int], other: tuple[int, int], same: bool
) -> None:
    assert same_shape(size, other) is same
    assert same_shape(other, size) is same


@pytest.mark.parametrize(
    ('w', 'h', 'message'),
    [
        (48, 64, r'picture is 64 x 48, w and h are 48 x 64 \(swapped\?\)'),
        (64, 64, 'picture is 64 x 48, w and h are 64 x 64; the intrinsics are for another'),
        (0, 48, 'w and h, the size of the picture, are 0 x 48'),
        (-64, -48, '-64 x -48'),
        (64, None, 'only one is given'),
        ('64', 48, "w is '64', not a finite number"),
        (float('nan'), 48, 'w is nan'),
    ],
)
def test_a_size_that_contradicts_the_picture_is_refused(
    tmp_path: Path, w: Any, h: Any, message: str
) -> None:
    write_capture(tmp_path)
    with pytest.raises(GsPoseError, match=rf'transforms\.json: 0\.png: .*{message}'):
        capture(tmp_path, w=w, h=h)


# ---- EXIF ----


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
def test_a_picture_is_turned_upright_if_the_file_speaks_of_that(
    tmp_path: Path, orientation: int
) -> None:
    write_pictures(tmp_path, 48, 64, orientation)
    found = capture(tmp_path)
    upright = cv2.imread(str(tmp_path / 'images/0.png'), cv2.IMREAD_COLOR)  # OpenCV heeds EXIF
    assert upright is not None
    for view in found.views:
        np.testing.assert_array_equal(view.color, upright[..., ::-1])
        assert view.camera == Camera(60, 61, 32.5, 22.5, 64, 48)
    assert found.notes[0].endswith('turned upright as EXIF says, to fit w and h (3 pictures)')


@pytest.mark.parametrize('orientation', [2, 3, 4, 5, 6, 7, 8])
def test_a_picture_stays_as_stored_if_that_fits(tmp_path: Path, orientation: int) -> None:
    rgb = write_pictures(tmp_path, 64, 48, orientation)
    found = capture(tmp_path)
    np.testing.assert_array_equal(found.views[0].color, rgb)
    assert found.views[0].camera == Camera(60, 61, 32.5, 22.5, 64, 48)
    assert f'EXIF orientation {orientation} is not heeded' in found.notes[0]


def test_a_picture_that_exif_turns_needs_its_size(tmp_path: Path) -> None:
    write_pictures(tmp_path, 64, 48, 6)
    with pytest.raises(GsPoseError, match=r'0\.png: the picture is 64 x 48 and EXIF ori'):
        capture(tmp_path, w=None, h=None)
    with pytest.raises(GsPoseError, match='64 x 48, w and h are 64 x 40 and EXIF orientation 6'):
        capture(tmp_path, w=64, h=40)


def test_masks_and_depth_must_fit_the_upright_picture(tmp_path: Path) -> None:
    write_capture(tmp_path)  # masks of 64 x 48
    write_pictures(tmp_path, 48, 64, 6)
    content = {**INTRINSICS, 'frames': frames(mask_path='masks/{}.png')}
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    mask = read_capture(tmp_path).views[0].mask
    assert mask is not None
    assert mask.sum() == 400
    cv2.imwrite(str(tmp_path / 'masks/1.png'), np.zeros((64, 48), np.uint8))
    with pytest.raises(GsPoseError, match=r'masks/1\.png: the mask is 48 x 64, the picture 64 x'):
        read_capture(tmp_path)


# ---- numbers and lenses ----


@pytest.mark.parametrize(
    ('top', 'message'),
    [
        ({'fl_x': '60'}, "fl_x is '60', not a finite number"),
        ({'fl_x': -60}, 'focal length is -60, 61; it must be above 0'),
        ({'fl_y': 0}, 'focal length is 60, 0'),
        ({'fl_x': float('nan')}, 'fl_x is nan'),
        ({'cx': float('inf')}, 'cx is inf'),
        ({'cy': [1]}, r'cy is \[1\]'),
        ({'cy': True}, 'cy is True'),
        ({'fl_x': 10**400}, 'fl_x is 1000'),
        ({'fl_x': None, 'camera_angle_x': 4}, 'camera_angle_x is 4, not within 0 to pi'),
        ({'fl_x': None}, 'neither fl_x nor camera_angle_x'),
        ({'k1': 'none'}, 'k1 is'),
        ({'k4': 0.1}, 'k4 = 0.1 is of FULL_OPENCV alone'),
        ({'k6': 0.1, 'camera_model': 'OPENCV'}, 'k6'),
        ({'camera_model': 'EQUIRECTANGULAR'}, "camera_model 'EQUIRECTANGULAR' is not supported"),
        ({'camera_model': 'OPENCV_FISHEYE'}, 'fisheye cameras are not supported'),
        ({'camera_model': 'THIN_PRISM_FISHEYE'}, 'fisheye'),
        ({'camera_model': 7}, "camera_model '7'"),
        ({'ftheta_p0': 0.1}, 'ftheta_p0 is set'),
        ({'k1': -44.85, 'k2': 1017}, r'\[-44.85, 1017, 0, 0, 0\] cannot be undone: .* 64 x 48'),
    ],
)
def test_cameras_that_are_none_are_refused(tmp_path: Path, top: dict, message: str) -> None:
    write_capture(tmp_path)
    with pytest.raises(GsPoseError, match=rf'transforms\.json: 0\.png: .*{message}'):
        capture(tmp_path, **top)


@pytest.mark.parametrize('model', ['PINHOLE', 'SIMPLE_RADIAL', 'OPENCV', 'PERSPECTIVE', 'opencv'])
def test_models_that_share_their_coefficients_give_the_same(tmp_path: Path, model: str) -> None:
    write_capture(tmp_path)
    views = [
        capture(tmp_path, k1=0.05, **fields).views[0]
        for fields in ({}, {'camera_model': model}, {'camera_model': 'FULL_OPENCV'})
    ]
    for view in views[1:]:
        np.testing.assert_array_equal(view.color, views[0].color)
        assert view.camera == views[0].camera
    assert views[0].camera.fx > 60
    rational = capture(tmp_path, k1=0.05, k4=0.05, camera_model='FULL_OPENCV').views[0]
    # (1 + 0.05 r^2) / (1 + 0.05 r^2) distorts nothing.
    np.testing.assert_allclose(rational.color, ramp()[..., ::-1], atol=4)


@pytest.mark.parametrize(
    ('matrix', 'message'),
    [
        (None, 'no matrix of numbers|not a rigid'),
        ('x', 'no matrix of numbers'),
        ([[1, 0], [0]], 'no matrix of numbers'),
        (np.eye(4)[:3].tolist(), 'not a rigid'),
        ((np.eye(4) * float('nan')).tolist(), 'not a rigid'),
        ((np.eye(4) + np.eye(4, k=3) * 1e300).tolist(), r'camera is at \[1e\+300, 0.0, 0.0\] m'),
        ([[10**400] * 4] * 4, 'no matrix of numbers'),
    ],
)
def test_poses_that_are_none_are_refused(tmp_path: Path, matrix: Any, message: str) -> None:
    write_capture(tmp_path)
    content = {**INTRINSICS, 'frames': [{**frames()[0], 'transform_matrix': matrix}]}
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    with pytest.raises(GsPoseError, match=rf'transforms\.json: 0\.png: .*({message})'):
        read_capture(tmp_path)


def test_pictures_too_large_to_decode_are_named(tmp_path: Path) -> None:
    write_capture(tmp_path)
    Image.new('1', (10_000, 7_500)).save(tmp_path / 'images/2.png')
    with pytest.raises(GsPoseError, match=r'images/2\.png: the PNG is 10000x7500, 75 megapixels'):
        capture(tmp_path)


@pytest.mark.parametrize(
    ('top', 'words'),
    [
        # A picture that was made smaller, in a file that does not say what it was.
        (
            {'fl_x': 240, 'fl_y': 240, 'cx': 128, 'cy': 96, 'w': None, 'h': None},
            'are they of one of 256 x 192',
        ),
        (
            {'fl_x': 15, 'fl_y': 15, 'cx': 8, 'cy': 6, 'w': None, 'h': None},
            'are they of one of 16 x 12',
        ),
        ({'fl_x': 1.1, 'fl_y': 1.4}, 'the focal length 1.1 px'),
        ({'cx': 0.5, 'cy': 0.5}, 'in the corner .* is it in px'),
    ],
)
def test_intrinsics_of_another_picture_are_refused(
    tmp_path: Path, top: dict[str, Any], words: str
) -> None:
    write_pictures(tmp_path, 64, 48)
    with pytest.raises(GsPoseError, match=rf'transforms\.json: 0\.png: .*{words}'):
        capture(tmp_path, **top)


def test_a_principal_point_beside_the_middle_is_fine(tmp_path: Path) -> None:
    write_pictures(tmp_path, 64, 48)
    for cx, cy in ((60.0, 24.0), (-20.0, 24.0), (80.0, 20.0), (20.0, 16.0)):
        assert capture(tmp_path, cx=cx, cy=cy).views[0].camera.cx == cx - 0.5


def test_cameras_of_mitsuba_look_along_z(tmp_path: Path) -> None:
    write_capture(tmp_path)
    turned = [
        {**f, 'transform_matrix': (f['transform_matrix'] @ np.diag([-1, 1, -1, 1])).tolist()}
        for f in frames()
    ]
    content = {**INTRINSICS, 'from_mitsuba': True, 'frames': turned}
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    for view, T in zip(read_capture(tmp_path).views, POSES, strict=True):
        np.testing.assert_allclose(view.T_cam_obj, T, atol=1e-9)


def test_the_box_of_instant_ngps_cube_is_not_taken_for_metres(tmp_path: Path) -> None:
    write_capture(tmp_path)
    found = capture(tmp_path, aabb=[[0, 0, 0], [1, 1, 1]], scale=4, offset=[0.5, 0.5, 0.5])
    assert found.box is None
    assert any('aabb is of the cube of instant-ngp' in note for note in found.notes)
