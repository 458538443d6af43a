"""What transforms.json of other tools look like, and name: paths, nulls, encodings, layers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.transforms_json import Capture, read_capture
from test.mutations import examples, mutated_bytes, mutated_json

from .capture_folder import INTRINSICS, POSES, SHAPE, frames, ramp, write_capture

MASKS = {'mask_path': 'masks/{}.png'}
DEPTH = {'depth_file_path': 'depth/{}.png'}


def capture(folder: Path, top: dict[str, Any] | None = None, **fields: Any) -> Capture:
    """What is read of a folder whose frames all have these fields."""
    if not (folder / 'images').exists():
        write_capture(folder)
    content = {**INTRINSICS, 'frames': frames(**fields), **(top or {})}
    (folder / 'transforms.json').write_text(json.dumps(content))
    return read_capture(folder)


# ---- paths ----


@pytest.mark.parametrize(
    'path',
    ['images/{}', './images/{}.png', 'images\\{}.png', 'images//../images/{}.png', '{here}'],
    ids=['no ending', 'dot', 'backslash', 'dots', 'absolute'],
)
def test_pictures_are_found_however_they_are_named(tmp_path: Path, path: str) -> None:
    if path == '{here}':
        path = f'{tmp_path}/images/{{}}.png'
    found = capture(tmp_path, file_path=path, **MASKS)
    assert len(found.views) == 3
    assert found.notes == ()
    for view, T in zip(found.views, POSES, strict=True):
        np.testing.assert_array_equal(view.color, ramp()[..., ::-1])
        np.testing.assert_allclose(view.T_cam_obj, T, atol=1e-12)
        assert view.mask is not None
        assert view.mask.sum() == 400


def test_a_picture_without_ending_may_be_a_jpeg(tmp_path: Path) -> None:
    write_capture(tmp_path)
    for k in range(3):
        (tmp_path / f'images/{k}.png').unlink()
        cv2.imwrite(str(tmp_path / f'images/{k}.JPG'), ramp())
    assert len(capture(tmp_path, file_path='images/{}').views) == 3


def test_masks_and_depth_may_be_absolute_or_of_windows(tmp_path: Path) -> None:
    view = capture(
        tmp_path, mask_path=f'{tmp_path}/masks/{{}}.png', depth_file_path='depth\\{}.png'
    ).views[2]
    assert view.mask is not None
    assert view.depth is not None
    np.testing.assert_allclose(view.depth, 1.234, atol=1e-6)


def test_absent_pictures_are_counted(tmp_path: Path) -> None:
    write_capture(tmp_path)
    (tmp_path / 'images/1.png').unlink()
    found = capture(tmp_path)
    assert len(found.views) == 2
    assert '1 of 3 pictures are not there' in found.notes[0]
    assert 'images/1.png' in found.notes[0]
    with pytest.raises(GsPoseError, match=r'none of its 3 pictures is there, e\.g\. .*/pics/0\.'):
        capture(tmp_path, file_path='pics/{}.png')


@pytest.mark.parametrize('key', ['mask_path', 'depth_file_path', 'depth_path'])
def test_an_absent_mask_or_depth_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(GsPoseError, match=r'transforms\.json: 0\.png: none/0\.png: missing'):
        capture(tmp_path, {'integer_depth_scale': 0.001}, **{key: 'none/{}.png'})
    with pytest.raises(GsPoseError, match=f'{key} is 3, not a path'):
        capture(tmp_path, {'integer_depth_scale': 0.001}, **{key: 3})


@pytest.mark.parametrize('path', [None, '', 3, [], 'a\0b', '\ud800.png'])
def test_what_is_no_path_is_refused(tmp_path: Path, path: Any) -> None:
    write_capture(tmp_path)
    content = {**INTRINSICS, 'frames': [*frames(), {**frames()[0], 'file_path': path}]}
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    with pytest.raises(GsPoseError, match=r'transforms\.json: file_path') as error:
        read_capture(tmp_path)
    str(error.value).encode()


def test_every_path_is_asked_for_before_it_is_read(tmp_path: Path) -> None:
    folder, other = write_capture(tmp_path / 'inside'), write_capture(tmp_path / 'outside')

    def refused(**fields: Any) -> None:
        capture(folder, **fields)  # a person at the command line may name any
        with pytest.raises(GsPoseError, match='not under the allowed roots'):
            read_capture(folder, roots=[folder])

    capture(folder, **MASKS, **DEPTH)
    assert len(read_capture(folder, roots=[folder]).views) == 3
    refused(file_path=f'{other}/images/{{}}.png')
    refused(file_path='../outside/images/{}')
    refused(mask_path='../outside/masks/{}.png')
    refused(depth_file_path='..\\outside\\depth\\{}.png')
    (folder / 'link').symlink_to(other / 'images')
    refused(file_path='link/{}')
    (folder / 'images/0.png').rename(folder / 'images/00.png')
    (folder / 'images/0.png').symlink_to(other / 'images/0.png')
    refused(file_path='images/{}')
    shutil.copy(folder / 'transforms.json', other)
    (folder / 'transforms.json').unlink()
    (folder / 'transforms.json').symlink_to(other / 'transforms.json')
    with pytest.raises(GsPoseError, match='not under the allowed roots'):
        read_capture(folder, roots=[folder])


def test_more_pictures_than_the_memory_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_capture(tmp_path)
    sizes = {'SC_PAGE_SIZE': 48 * 64, 'SC_PHYS_PAGES': 2 * 8}
    monkeypatch.setattr(os, 'sysconf', sizes.__getitem__)
    assert len(read_capture(tmp_path, max_views=2).views) == 2
    with pytest.raises(GsPoseError, match=r'json: 3 pictures .* or use fewer: max_views'):
        read_capture(tmp_path)


# ---- text ----


def test_nulls_are_as_if_absent(tmp_path: Path) -> None:
    nulls = dict.fromkeys(('k1', 'k4', 'camera_model', 'aabb', 'is_fisheye'))
    found = capture(tmp_path, nulls, mask_path=None, depth_file_path=None, fl_x=None, k2=None)
    assert found.views[0].mask is None
    assert found.views[0].depth is None
    assert found.views[0].camera.fx == 60


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-32'])
def test_byte_order_marks_are_no_hindrance(tmp_path: Path, encoding: str) -> None:
    path = write_capture(tmp_path) / 'transforms.json'
    path.write_bytes(path.read_text().encode(encoding))
    assert len(read_capture(tmp_path).views) == 3


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('{"frames": []}', 'no list "frames"'),
        ('{"frames": [3]}', 'frame 0 is no object'),
        ('{"frames": {}}', 'no list "frames"'),
        ('{"w": 1, "w": 2}', "'w' stands twice"),
        ('[' * 100_000, 'not readable'),
        ('{"w": ' + '1' * 5000 + '}', 'not readable'),
        ('{"frames": [', 'not readable'),
        ('\xff', 'not readable'),
    ],
)
def test_what_is_no_list_of_pictures_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / 'transforms.json').write_bytes(text.encode('latin-1'))
    with pytest.raises(GsPoseError, match=rf'transforms\.json: .*{reason}'):
        read_capture(tmp_path)


def test_the_file_itself_may_be_named(tmp_path: Path) -> None:
    path = write_capture(tmp_path) / 'transforms.json'
    other = path.rename(tmp_path / 'transforms_train.json')
    assert len(read_capture(other).views) == 3


@pytest.mark.parametrize('unit', [0.0, -1.0, float('nan'), float('inf')])
def test_a_unit_that_is_none_is_refused(tmp_path: Path, unit: float) -> None:
    with pytest.raises(GsPoseError, match='metres_per_unit is'):
        read_capture(write_capture(tmp_path), metres_per_unit=unit)


@pytest.mark.parametrize(
    'aabb', [[1], 'box', [[0, 0, 0], [1, 0, 1]], [[0, 0, 0], [1, float('nan'), 1]], [[0], [1]]]
)
def test_a_box_that_is_none_is_refused(tmp_path: Path, aabb: Any) -> None:
    with pytest.raises(GsPoseError, match=r'transforms\.json: aabb'):
        capture(tmp_path, {'aabb': aabb})


# ---- masks ----


@pytest.mark.parametrize(
    ('dtype', 'channels'),
    [*((kind, n) for kind in (np.uint8, np.uint16) for n in (1, 3, 4)), (np.float32, 1)],
)
def test_masks_of_any_depth_say_the_same(tmp_path: Path, dtype: type, channels: int) -> None:
    write_capture(tmp_path)
    mask = np.zeros((*SHAPE, channels), dtype)
    mask[10:30, 20:40] = 1
    if channels == 4:
        mask[..., 3] = 255
    for k in range(3):
        cv2.imwrite(str(tmp_path / f'masks/{k}.tif'), mask)
    found = capture(tmp_path, mask_path='masks/{}.tif').views[1].mask
    assert found is not None
    expected = np.zeros(SHAPE, bool)
    expected[10:30, 20:40] = True
    np.testing.assert_array_equal(found, expected)


def test_specks_of_jpeg_are_no_mask(tmp_path: Path) -> None:
    write_capture(tmp_path)
    mask = cv2.imread(str(tmp_path / 'masks/0.png'), cv2.IMREAD_UNCHANGED)
    for k in range(3):
        cv2.imwrite(str(tmp_path / f'masks/{k}.jpg'), mask, [cv2.IMWRITE_JPEG_QUALITY, 60])
    found = capture(tmp_path, mask_path='masks/{}.jpg').views[0].mask
    np.testing.assert_array_equal(found, mask > 0)


def test_an_alpha_channel_that_says_nothing_is_no_mask(tmp_path: Path) -> None:
    write_capture(tmp_path)
    opaque = np.dstack([ramp(), np.full(SHAPE, 255, np.uint8)])
    cutout = opaque.copy()
    cutout[10:30, 20:40, 3] = 0
    for k, pixels in enumerate((opaque, cutout, opaque)):
        cv2.imwrite(str(tmp_path / f'images/{k}.png'), pixels)
    masks = [view.mask for view in capture(tmp_path).views]
    assert masks[0] is None
    assert masks[1] is not None
    assert masks[1].sum() == 48 * 64 - 400


# ---- depth ----


def test_depth_of_instant_ngp_is_in_its_steps(tmp_path: Path) -> None:
    view = capture(tmp_path, {'integer_depth_scale': 0.0005}, depth_path='depth/{}.png').views[0]
    assert view.depth is not None
    np.testing.assert_allclose(view.depth, 0.617, atol=1e-6)
    assert read_capture(tmp_path, metres_per_unit=0.1).views[0].depth[0, 0] == pytest.approx(
        0.0617
    )
    assert read_capture(tmp_path, with_depth=False).views[0].depth is None


@pytest.mark.parametrize(
    'top', [{}, {'integer_depth_scale': 0.001, 'enable_depth_loading': False}]
)
def test_depth_that_instant_ngp_would_not_use_is_said(tmp_path: Path, top: dict) -> None:
    found = capture(tmp_path, top, depth_path='depth/{}.png')
    assert found.views[0].depth is None
    assert 'depth_path is not used' in found.notes[0]
    assert '3 pictures' in found.notes[0]


def test_small_depth_is_resized_by_the_nearest_pixel(tmp_path: Path) -> None:
    write_capture(tmp_path)
    small = (1000 + np.arange(12 * 16).reshape(12, 16)).astype(np.uint16)
    small[0, 0] = 0
    for k in range(3):
        cv2.imwrite(str(tmp_path / f'depth/{k}.png'), small)
    found = capture(tmp_path, **DEPTH)
    expected = np.kron(small, np.ones((4, 4))) * 0.001
    np.testing.assert_allclose(found.views[0].depth, expected, atol=1e-6)
    assert 'depth of 16 x 12 is resized' in found.notes[0]


@pytest.mark.parametrize(
    ('depth', 'reason'),
    [
        (np.full((10, 16), 1000, np.uint16), 'the depth is 16 x 10, the picture 64 x 48'),
        (np.full((64, 48), 1000, np.uint16), 'the depth is 48 x 64, the picture 64 x 48'),
        (np.full(SHAPE, 100, np.uint8), '1 of uint8'),
        (np.full((*SHAPE, 3), 100, np.uint8), '3 of uint8'),
        (np.full((*SHAPE, 3), 100, np.uint16), '3 of uint16'),
    ],
)
def test_depth_that_is_none_is_refused(tmp_path: Path, depth: np.ndarray, reason: str) -> None:
    write_capture(tmp_path)
    cv2.imwrite(str(tmp_path / 'depth/0.png'), depth)
    with pytest.raises(GsPoseError, match=rf'depth/0\.png: .*{reason}'):
        capture(tmp_path, **DEPTH)


def test_float_depth_needs_its_unit_and_nothing_is_invented(tmp_path: Path) -> None:
    write_capture(tmp_path)
    depth = np.full(SHAPE, 1.5, np.float32)
    depth[0, :5] = np.nan, np.inf, -np.inf, -1, 0
    for k in range(3):
        cv2.imwrite(str(tmp_path / f'depth/{k}.tif'), depth)
    with pytest.raises(GsPoseError, match=r'0\.tif: float depth needs depth_unit_scale_factor'):
        capture(tmp_path, depth_file_path='depth/{}.tif')
    found = capture(tmp_path, {'depth_unit_scale_factor': 1.0}, depth_file_path='depth/{}.tif')
    expected = np.where(np.isfinite(depth) & (depth > 0), depth, 0)
    np.testing.assert_array_equal(found.views[0].depth, expected)


@pytest.mark.parametrize('ending', ['.exr', '.npy', '.npz'])
def test_depth_files_that_are_no_pictures_are_named(tmp_path: Path, ending: str) -> None:
    write_capture(tmp_path)
    (tmp_path / f'depth/0{ending}').write_bytes(b'\x93NUMPY')
    with pytest.raises(GsPoseError, match=rf'0\{ending}: depth in \{ending} files is not read'):
        capture(tmp_path, depth_file_path=f'depth/{{}}{ending}')


@pytest.mark.parametrize('step', [0, -0.001, float('nan'), 'mm', True])
def test_a_step_of_depth_that_is_none_is_refused(tmp_path: Path, step: Any) -> None:
    with pytest.raises(GsPoseError, match='depth_unit_scale_factor is'):
        capture(tmp_path, {'depth_unit_scale_factor': step}, **DEPTH)


def test_depth_without_a_valid_pixel_is_none(tmp_path: Path) -> None:
    write_capture(tmp_path)
    cv2.imwrite(str(tmp_path / 'depth/1.png'), np.zeros(SHAPE, np.uint16))
    views = capture(tmp_path, **DEPTH).views
    assert [view.depth is None for view in views] == [False, True, False]


# ---- any mutation ----

GOOD = {
    **INTRINSICS,
    'camera_model': 'OPENCV',
    'k1': 0.01,
    'aabb': [[-1, -1, -1], [1, 1, 1]],
    'depth_unit_scale_factor': 0.001,
    'frames': frames(**MASKS, **DEPTH),
}


@examples(60)
@given(data=mutated_json(GOOD))
def test_a_changed_file_is_read_or_named(tmp_path: Path, data: bytes) -> None:
    if not (tmp_path / 'images').exists():
        write_capture(tmp_path)
    (tmp_path / 'transforms.json').write_bytes(data)
    try:
        found = read_capture(tmp_path)
    except GsPoseError as error:
        text = str(error)
        assert 'transforms.json' in text
        text.encode()
        return
    for view in found.views:
        assert view.color.shape == (*view.camera.shape, 3)
        assert np.isfinite(view.T_cam_obj).all()
        if view.depth is not None:
            assert np.isfinite(view.depth).all()
            assert view.depth.min() >= 0
    assert found.box is None or np.isfinite(found.box).all()


@examples(40)
@given(
    kind=st.sampled_from(('images', 'masks', 'depth')),
    data=st.data(),
)
def test_a_damaged_picture_is_read_or_named(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    write_capture(tmp_path, frames=frames(**MASKS, **DEPTH))
    path = tmp_path / kind / '1.png'
    path.write_bytes(data.draw(mutated_bytes(path.read_bytes(), header=40)))
    try:
        views = read_capture(tmp_path).views
    except GsPoseError as error:
        assert '1.png' in str(error)  # noqa: PT017
        return
    assert len(views) == 3
