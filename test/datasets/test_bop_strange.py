"""Sets in BOP's layout as other tools write them: what is read all the same, and what is refused.

Whatever is changed in a file of a set, it reads as numbers that make sense or names the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gs_pose_ros.datasets.bop import BopImage, read_bop_split
from gs_pose_ros.datasets.bop_models import read_bop_models
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.bop_views import read_bop_views
from gs_pose_ros.recording.source_kind import check_kind
from test.datasets.bop_set import SIZE, write_bop_scene, write_models
from test.mutations import examples, mutated_json, result_or_message

H, W = SIZE


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A split of one scene with an image."""
    folder = tmp_path / 'test' / '000001'
    write_bop_scene(folder, images=1)
    return folder


def first(scene: Path) -> BopImage:
    return read_bop_split(scene.parents[1], 'test')[0]


def views(scene: Path) -> list[Any]:
    return read_bop_views(scene.parent, 1)


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), values)


def change(scene: Path, kind: str, edit: Callable[[Any], Any]) -> None:
    """Edit the entry of the image in a JSON file."""
    path = scene / f'scene_{kind}.json'
    content = json.loads(path.read_text())
    edited = edit(content['0'])
    content['0'] = content['0'] if edited is None else edited
    path.write_text(json.dumps(content))


# --- Masks -------------------------------------------------------------------------------------


def channels(kind: str, mask: np.ndarray) -> np.ndarray:
    """The mask [H, W] of 0 and 1 in a picture of that kind."""
    alpha = np.full(SIZE, 255, np.uint8)
    return {
        'colours': np.stack([0 * mask, 0 * mask, mask], -1),  # drawn in red, by hand
        'alpha beside': np.dstack([mask * 255, mask * 255, mask * 255, alpha]),
        'alpha of a mask': np.dstack([mask * 9, mask * 9, mask * 9, 255 * mask]),
        '16 bit': mask.astype(np.uint16) * 300,
        '16 bit colours': np.dstack([mask.astype(np.uint16) * 256] * 3),
    }[kind]


@pytest.mark.parametrize(
    'kind', ['colours', 'alpha beside', 'alpha of a mask', '16 bit', '16 bit colours']
)
def test_a_mask_of_any_channels_is_read(scene: Path, kind: str) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[5:9, 7:30] = 1
    write(scene / 'mask_visib' / '000000_000000.png', channels(kind, mask))
    view = views(scene)[0]
    assert view.mask.dtype == bool
    np.testing.assert_array_equal(view.mask, mask > 0)


def test_a_mask_in_alpha_alone_is_refused(scene: Path) -> None:
    picture = np.full((*SIZE, 4), 255, np.uint8)
    picture[:10, :, 3] = 0
    write(scene / 'mask_visib' / '000000_000000.png', picture)
    with pytest.raises(GsPoseError, match=r'000000_000000\.png: its alpha differs'):
        views(scene)


def test_a_mask_in_jpeg_is_refused(scene: Path) -> None:
    (scene / 'mask_visib' / '000000_000000.png').unlink()
    write(scene / 'mask_visib' / '000000_000000.jpg', np.full(SIZE, 255, np.uint8))
    with pytest.raises(GsPoseError, match=r'000000_000000\.jpg: the mask is a JPEG'):
        views(scene)


def test_a_mask_of_another_size_is_refused(scene: Path) -> None:
    write(scene / 'mask_visib' / '000000_000000.png', np.full((H // 2, W // 2), 255, np.uint8))
    with pytest.raises(GsPoseError, match=r'000000\.png: is 32 x 24 pixels, .* 64 x 48'):
        views(scene)


# --- Depth and pictures ------------------------------------------------------------------------


def test_depth_of_another_size_is_refused(scene: Path) -> None:
    write(scene / 'depth' / '000000.png', np.full((H // 2, W // 2), 5000, np.uint16))
    for read in (views, lambda path: first(path).read_frame()):
        with pytest.raises(GsPoseError, match=r'000000\.png: is 32 x 24 pixels, .* 64 x 48'):
            read(scene)


@pytest.mark.parametrize(
    ('values', 'said'),
    [
        (np.full(SIZE, 7, np.uint8), '1 channels of uint8'),
        (np.full((*SIZE, 3), 7, np.uint8), '3 channels of uint8'),
        (np.full((*SIZE, 3), 700, np.uint16), '3 channels of uint16'),
    ],
)
def test_depth_of_another_kind_is_refused(scene: Path, values: np.ndarray, said: str) -> None:
    write(scene / 'depth' / '000000.png', values)
    with pytest.raises(GsPoseError, match=rf'depth/000000\.png: has {said}'):
        first(scene).read_frame()


def test_depth_in_floating_point_counts_in_depth_scale_too(scene: Path) -> None:
    values = np.full(SIZE, 0.75, np.float32)
    values[0, :4] = np.nan, np.inf, -1, 0
    (scene / 'depth' / '000000.png').unlink()
    write(scene / 'depth' / '000000.tiff', values)
    change(scene, 'camera', lambda camera: {**camera, 'depth_scale': 1000})  # metres
    depth = first(scene).read_frame().depth
    assert depth is not None
    assert (depth[0, :4] == 0).all()
    np.testing.assert_allclose(depth[1:], 0.75)


@pytest.mark.parametrize('scale', [0.001, 1000])
def test_a_depth_scale_in_other_units_is_refused(scene: Path, scale: float) -> None:
    change(scene, 'camera', lambda camera: {**camera, 'depth_scale': scale})
    with pytest.raises(GsPoseError, match=r'depth/000000\.png: its depth_scale .* is 0?.*1'):
        first(scene).read_frame()


def test_an_image_without_depth_among_others_is_named(tmp_path: Path) -> None:
    write_bop_scene(tmp_path / 'test' / '000001', images=2)
    (tmp_path / 'test' / '000001' / 'depth' / '000001.png').unlink()
    images = read_bop_split(tmp_path, 'test')
    assert images[0].read_frame().depth is not None
    assert images[1].read_frame(with_depth=False).depth is None
    with pytest.raises(GsPoseError, match=r'depth/000001\.png: missing'):
        images[1].read_frame()


@pytest.mark.parametrize('ending', ['.JPG', '.jpeg', '.tif', '.tiff'])
def test_pictures_of_other_kinds_are_found(scene: Path, ending: str) -> None:
    (scene / 'rgb' / '000000.png').unlink()
    write(scene / 'gray' / f'000000{ending}', np.full(SIZE, 90, np.uint8))
    np.testing.assert_allclose(first(scene).read_color(), 90, atol=1)
    assert first(scene).read_color().shape == (*SIZE, 3)


def test_a_picture_of_16_bit_is_refused_and_its_alpha_is_left_out(scene: Path) -> None:
    picture = np.zeros((*SIZE, 4), np.uint8)
    picture[...] = 10, 20, 30, 0
    write(scene / 'rgb' / '000000.png', picture)
    assert first(scene).read_color()[0, 0].tolist() == [30, 20, 10]
    write(scene / 'rgb' / '000000.png', np.full(SIZE, 700, np.uint16))
    with pytest.raises(GsPoseError, match=r'rgb/000000\.png.*uint16'):
        first(scene).read_color()


def test_a_picture_that_exif_turns_is_refused(scene: Path) -> None:
    (scene / 'rgb' / '000000.png').unlink()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.new('RGB', (W, H)).save(scene / 'rgb' / '000000.jpg', exif=exif)
    with pytest.raises(GsPoseError, match=r'000000\.jpg: EXIF orientation 3 turns this picture'):
        first(scene).read_color()


def test_a_set_without_pictures_says_what_is_there(scene: Path) -> None:
    (scene / 'rgb').rename(scene / 'gray1')
    with pytest.raises(GsPoseError, match='holds no picture.*there are: depth, gray1, mask_visib'):
        first(scene)


def test_a_member_that_is_no_file_is_not_waited_for(scene: Path) -> None:
    for name in ('rgb/000000.png', 'depth/000000.png', 'scene_gt.json'):
        kept = (scene / name).read_bytes()
        (scene / name).unlink()
        os.mkfifo(scene / name)
        with pytest.raises(GsPoseError, match=f'{re.escape(name)}: is a FIFO, no regular file'):
            first(scene).read_frame()
        (scene / name).unlink()
        (scene / name).write_bytes(kept)


# --- Entries -----------------------------------------------------------------------------------


def test_the_fisheye_cameras_of_hot3d_are_named(scene: Path) -> None:
    model = {
        'projection_model_type': 'CameraModelType.FISHEYE624',
        'projection_params': [1.0] * 15,
    }
    change(scene, 'camera', lambda _: {'cam_model': model})
    said = r'scene_camera\.json: image 0: cam_model \(fisheye\) is not supported: .*FISHEYE624'
    with pytest.raises(GsPoseError, match=said):
        first(scene)


@pytest.mark.parametrize('where', ['scene', 'split'])
def test_sets_of_several_sensors_are_named_with_what_to_do(scene: Path, where: str) -> None:
    (scene / 'scene_camera.json').rename(scene / 'scene_camera_cam1.json')
    (scene / 'scene_gt.json').rename(scene / 'scene_gt_cam1.json')
    root, split = (scene.parent, scene.name) if where == 'scene' else (scene.parents[1], 'test')
    with pytest.raises(GsPoseError, match='scene_camera_cam1.json: sets of several.*rgb_cam1'):
        read_bop_split(root, split)
    check_kind('bop', root / split)  # which lets the reader say it


def test_what_is_no_split_is_said(scene: Path) -> None:
    with pytest.raises(GsPoseError, match=r'scene_gt\.json: is a file, not a folder'):
        read_bop_split(scene, 'scene_gt.json')
    (scene / 'loop').symlink_to(scene / 'loop')
    for name in ('x' * 300, 'loop', 'a\0b', 'none'):
        with pytest.raises(GsPoseError, match=r'no such folder|not readable'):
            read_bop_split(scene, name)


def test_a_byte_order_mark_and_leading_zeros_are_read(scene: Path) -> None:
    for kind in ('camera', 'gt', 'gt_info'):
        path = scene / f'scene_{kind}.json'
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes().replace(b'"0"', b'"000000"'))
    assert len(first(scene).instances) == 2
    assert first(scene).image_id == 0


def turned(entry: list[dict[str, Any]]) -> None:
    R = np.array(entry[0]['cam_R_m2c']).reshape(3, 3)
    entry[0]['cam_R_m2c'] = (R * [1, 1, -1]).ravel().tolist()


@pytest.mark.parametrize(
    ('kind', 'edit', 'message'),
    [
        ('camera', lambda c: c.update(cam_K=[None] * 9), 'cam_K .*NaN'),
        ('camera', lambda c: c.update(cam_K=[60, 0, 31]), 'cam_K is .*9 numbers'),
        ('camera', lambda c: c.update(cam_K=[60, 0, 0, 0, 61, 0, 31, 23, 1]), 'row by row'),
        ('camera', lambda c: c.update(cam_K=[60, 9, 31, 0, 61, 23, 0, 0, 1]), 'is not fx, 0, cx'),
        ('camera', lambda c: c.__delitem__('cam_K'), 'cam_K is missing'),
        ('camera', lambda _: [1], 'list where an object'),
        ('camera', lambda c: c.update(depth_scale=None), 'depth_scale is null'),
        ('camera', lambda c: c.update(depth_scale=0), 'depth_scale is 0 mm'),
        ('camera', lambda c: c.update(depth_scale=-1), 'depth_scale is -1 mm'),
        ('camera', lambda c: c.update(depth_scale=float('nan')), 'depth_scale is nan'),
        ('camera', lambda c: c.update(stamp_ns=-1), 'stamp_ns is -1'),
        ('camera', lambda c: c.update(cam_R_w2c=[0] * 9, cam_t_w2c=[0] * 3), 'cam_R_w2c is no'),
        ('gt', turned, 'instance 0: cam_R_m2c is no rotation.*determinant is -1'),
        ('gt', lambda g: g[1].update(cam_R_m2c=[1, 0, 0]), 'instance 1: cam_R_m2c is'),
        ('gt', lambda g: g[1].update(cam_t_m2c=[0.1, 0, 0.7]), 'instance 1.*in metres'),
        ('gt', lambda g: g[1].update(cam_t_m2c=[0.1, 0]), 'instance 1: cam_t_m2c.*3 numbers'),
        ('gt', lambda g: g[0].update(obj_id='x'), 'obj_id'),
        ('gt', lambda g: g[0].update(obj_id=1.5), 'obj_id'),
        ('gt', lambda g: {'0': g}, 'an object where a list'),
        ('gt_info', lambda i: i[1].__delitem__('visib_fract'), 'visib_fract is missing'),
        ('gt_info', lambda i: i[1].update(visib_fract=None), 'visib_fract is null'),
        ('gt_info', lambda i: i[1].update(visib_fract=80), 'visib_fract is 80'),
        ('gt_info', lambda i: i[:1], '1 entries for the 2 instances'),
        ('gt_info', lambda i: [*i, i[0]], '3 entries for the 2 instances'),
    ],
)
def test_an_entry_that_says_nothing_is_named(
    scene: Path, kind: str, edit: Callable[[Any], Any], message: str
) -> None:
    change(
        scene, kind, lambda entry: out if isinstance(out := edit(entry), (list, dict)) else None
    )
    with pytest.raises(GsPoseError, match=rf'scene_{kind}\.json: image 0: .*{message}'):
        first(scene)


def test_truth_of_images_that_are_not_there_is_named(scene: Path) -> None:
    truth = json.loads((scene / 'scene_gt.json').read_text())
    (scene / 'scene_gt.json').write_text(json.dumps({**truth, '5': truth['0'], '6': []}))
    with pytest.raises(GsPoseError, match=r'scene_gt\.json: image 5 is not in .* \(2 such\)'):
        first(scene)


@pytest.mark.parametrize(
    'text', ['[]', '{"a": 1}', '{"1": 1, "01": 1}', '[' * 10**5, '\x00', '{}x']
)
def test_a_file_that_is_no_object_by_numbers_is_named(scene: Path, text: str) -> None:
    (scene / 'scene_camera.json').write_text(text)
    with pytest.raises(GsPoseError, match=r'scene_camera\.json: '):
        first(scene)


# --- Models ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        ({'diameter': None}, 'diameter is null'),
        ({'diameter': float('nan')}, 'diameter is nan'),
        ({'diameter': 0.0748}, 'diameter is 0.0748 mm, .* is it in metres'),
        ({'min_x': 'x'}, 'min_x'),
        ({'size_z': -1}, 'size_z'),
        ({'symmetries_discrete': [[0] * 16]}, 'no rigid motion'),
        ({'symmetries_discrete': None}, 'holds null where a list'),
        ({'symmetries_continuous': [{'axis': [0, 0, 0]}]}, 'says no direction'),
        ({'symmetries_continuous': [{'axis': [0, 0, 1]}] * 3}, '3 axes, at most 2'),
        ({'symmetries_continuous': [None]}, 'holds null where an object'),
    ],
)
def test_an_entry_of_a_model_that_says_nothing_is_named(
    tmp_path: Path, extra: dict[str, Any], message: str
) -> None:
    write_models(tmp_path / 'models', **extra)
    with pytest.raises(GsPoseError, match=rf'models_info\.json: object 2: .*{message}'):
        read_bop_models(tmp_path)


@pytest.mark.parametrize('factor', [1000, 0.1])
def test_a_mesh_in_other_units_than_its_diameter_is_named(tmp_path: Path, factor: float) -> None:
    write_models(tmp_path / 'models', diameter=factor * 74.8331)
    with pytest.raises(GsPoseError, match=r'obj_000002\.ply: is 74.83 .* diameter'):
        read_bop_models(tmp_path)


# --- Any change --------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('sets')
    write_bop_scene(root / 'test' / '000001', images=2)
    write_models(
        root / 'models',
        symmetries_discrete=[np.diag([-1.0, -1, 1, 1]).ravel().tolist()],
        symmetries_continuous=[{'axis': [0, 0, 1], 'offset': [0, 0, 0]}],
    )
    return root


@pytest.mark.parametrize('kind', ['camera', 'gt', 'gt_info'])
@given(data=st.data())
@examples(40)
def test_any_change_of_a_scene_reads_or_is_named(
    good: Path, kind: str, data: st.DataObject
) -> None:
    path = good / 'test' / '000001' / f'scene_{kind}.json'
    kept = path.read_bytes()
    path.write_bytes(data.draw(mutated_json(json.loads(kept))))
    images, message = result_or_message(
        lambda: [(image, image.read_frame()) for image in read_bop_split(good, 'test')]
    )
    path.write_bytes(kept)
    assert images or str(good) in message
    for image, frame in images or ():
        assert np.isfinite(image.intrinsics).all() and frame.camera.fx > 0
        assert frame.depth is not None and np.isfinite(frame.depth).all()
        assert image.T_cam_world is None or se3.is_rigid(image.T_cam_world, 1e-2)
        assert image.stamp_ns is None or image.stamp_ns >= 0
        for instance in image.instances:
            assert se3.is_rigid(instance.T_cam_obj)
            assert 0 <= instance.visible_fraction <= 1
            assert instance.object_id >= 0


@given(data=st.data())
@examples(40)
def test_any_change_of_the_models_reads_or_is_named(good: Path, data: st.DataObject) -> None:
    path = good / 'models' / 'models_info.json'
    kept = path.read_bytes()
    path.write_bytes(data.draw(mutated_json(json.loads(kept))))
    models, message = result_or_message(lambda: read_bop_models(good).values())
    path.write_bytes(kept)
    assert models is not None or str(good) in message
    for model in models or ():
        assert np.isfinite(model.box).all() and (model.box[0] <= model.box[1]).all()
        assert 0 < model.diameter_m < 1e6
        assert all(se3.is_rigid(T, 1e-2) for T in model.symmetries[:20])
