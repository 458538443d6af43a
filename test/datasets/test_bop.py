"""Sets in BOP's layout: splits and models in metres, and what an incomplete set lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gs_pose_ros.datasets.bop import read_bop_split
from gs_pose_ros.datasets.bop_models import discretized_symmetries, read_bop_models
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.bop_views import read_bop_views

from .bop_set import write_bop_scene, write_models


def test_a_bop_split_is_read_in_metres(tmp_path: Path) -> None:
    poses = write_bop_scene(tmp_path / 'test' / '000003', images=2)
    write_bop_scene(tmp_path / 'test' / '000001', images=1)
    images = read_bop_split(tmp_path, 'test')
    assert [i.name for i in images] == ['000001/000000', '000003/000000', '000003/000001']
    frame = images[2].read_frame()
    assert frame.depth is not None
    assert frame.depth[0, 0] == pytest.approx(0.5001)  # 5001 steps of 0.1 mm
    np.testing.assert_allclose(frame.color[0, 0], np.array([1, 2, 1]) / 255)  # RGB, not BGR
    assert frame.camera == Camera(60, 61, 31.5, 23.5, 64, 48)
    np.testing.assert_allclose(images[2].instances[1].T_cam_obj, poses[1, 1], atol=1e-5)
    mask = images[2].instances[1].visible_mask()
    assert mask is not None
    assert mask.sum() == 11 * 25
    assert images[2].read_frame(with_depth=False).depth is None


def test_a_scene_in_the_root_and_ranges_of_images(tmp_path: Path) -> None:
    write_bop_scene(tmp_path, images=6)
    assert len(read_bop_split(tmp_path, '.')) == 6
    assert [i.image_id for i in read_bop_split(tmp_path, '.:2-4')] == [2, 3, 4]
    assert len(read_bop_views(tmp_path / '.:0-2', 1)) == 3
    with pytest.raises(GsPoseError, match='no image has a number'):
        read_bop_split(tmp_path, '.:7-9')
    with pytest.raises(GsPoseError, match='FIRST-LAST'):
        read_bop_split(tmp_path, '.:x')


def test_what_an_incomplete_set_lacks_is_optional_or_named(tmp_path: Path) -> None:
    folder = tmp_path / 'test' / '000001'
    write_bop_scene(folder)
    for path in (folder / 'depth').iterdir():
        path.unlink()
    (folder / 'scene_gt_info.json').unlink()
    (folder / 'rgb' / '000001.png').unlink()
    images = read_bop_split(tmp_path, 'test')
    assert len(images) == 2
    assert images[0].read_frame().depth is None
    assert images[0].instances[1].visible_fraction == 1.0
    assert len(read_bop_split(tmp_path, 'test', with_pictures=False)) == 3
    (folder / 'rgb' / '000000.png').write_bytes(b'no picture')
    with pytest.raises(GsPoseError, match=r'000000\.png'):
        images[0].read_frame()
    (folder / 'scene_gt.json').write_text('{"0": [{"obj_id": 1}]}')
    with pytest.raises(GsPoseError, match='image 0'):
        read_bop_split(tmp_path, 'test')
    (folder / 'scene_gt.json').write_text('{')
    with pytest.raises(GsPoseError, match=r'scene_gt\.json'):
        read_bop_split(tmp_path, 'test')
    with pytest.raises(GsPoseError, match='val: there is no such folder'):
        read_bop_split(tmp_path, 'val')


def test_models_carry_symmetries_and_enough_points(tmp_path: Path) -> None:
    turn = np.diag([-1.0, -1, 1, 1])
    turn[0, 3] = 10  # mm
    write_models(tmp_path / 'models', symmetries_discrete=[turn.ravel().tolist()])
    models = read_bop_models(tmp_path)
    assert models[1].diameter_m == pytest.approx(0.0748331)
    np.testing.assert_allclose(models[1].box, [[-0.01, -0.02, -0.03], [0.01, 0.02, 0.03]])
    np.testing.assert_allclose(np.abs(models[1].points).max(0), [0.01, 0.02, 0.03])
    assert len(models[1].points) > 500  # the mesh has eight corners
    assert len(models[1].symmetries) == 0
    assert models[2].symmetries[0, 0, 3] == pytest.approx(0.01)
    assert list(read_bop_models(tmp_path, [2])) == [2]
    with pytest.raises(GsPoseError, match='no object 9'):
        read_bop_models(tmp_path, [9])
    (tmp_path / 'models' / 'obj_000001.ply').unlink()
    with pytest.raises(GsPoseError, match=r'obj_000001\.ply'):
        read_bop_models(tmp_path)


def test_a_continuous_symmetry_is_sampled_about_its_axis() -> None:
    info = {'symmetries_continuous': [{'axis': [0, 0, 2], 'offset': [5, 0, 0]}]}
    T = discretized_symmetries(info)
    assert 300 < len(T) < 330
    point_on_axis = np.array([[0.005, 0, 0.3]])
    for motion in T[::20]:
        assert se3.is_rigid(motion)
        np.testing.assert_allclose(se3.transform(motion, point_on_axis), point_on_axis, atol=1e-12)
    flip = np.diag([1.0, -1, -1, 1])
    both = discretized_symmetries({**info, 'symmetries_discrete': [flip.ravel().tolist()]})
    assert len(both) == 2 * (len(T) + 1) - 1


def test_intrinsics_of_a_larger_picture_are_refused(tmp_path: Path) -> None:
    write_bop_scene(tmp_path)
    path = tmp_path / 'scene_camera.json'
    path.write_text(path.read_text().replace('31.5', '127.5').replace('23.5', '95.5'))
    words = r'000000\.png: cam_K in scene_camera\.json .* one of 256 x 192'
    with pytest.raises(GsPoseError, match=words):
        read_bop_split(tmp_path, '.')[0].read_frame()
    with pytest.raises(GsPoseError, match=words):
        read_bop_views(tmp_path / '.', 1)
