"""The object database: round trip, crashes at every step, and clear errors for broken files."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects import database, folder_store
from gs_pose_ros.objects.database import ObjectDatabase
from test.damage import change_arrays, change_header, forget_sums
from test.fakes import make_reference


@pytest.fixture
def store(tmp_path: Path) -> ObjectDatabase:
    return ObjectDatabase(tmp_path / 'objects')


def test_an_object_comes_back_as_it_was_stored(store: ObjectDatabase) -> None:
    facts = {'psnr': float(np.float32(25.5)), 'views': 5, 'source': 'test'}
    half_turn = se3.exp(np.array([[0, 0, 0, 0, 0, np.pi]]))
    rng = np.random.default_rng(0)
    gaussians = Gaussians.from_points(rng.normal(size=(30, 3)), rng.random((30, 3)), 0.01)
    reference = replace(make_reference(), gaussians=gaussians, symmetries=half_turn, facts=facts)
    store.save(reference)
    loaded = store.load('mug')
    for name in ('means', 'quats', 'log_scales', 'logit_opacities', 'sh'):
        assert torch.equal(getattr(loaded.gaussians, name), getattr(reference.gaussians, name))
    for name in ('T_cam_obj', 'intrinsics', 'color', 'mask'):
        np.testing.assert_array_equal(getattr(loaded.views, name), getattr(reference.views, name))
    assert loaded.diameter_m == reference.diameter_m
    np.testing.assert_array_equal(loaded.box, reference.box)
    np.testing.assert_array_equal(loaded.symmetries, reference.symmetries)
    assert loaded.facts == {'psnr': 25.5, 'views': 5, 'source': 'test'}
    assert (store.root / 'mug' / 'thumbnail.png').stat().st_size > 0


def test_an_empty_or_missing_folder_holds_nothing(store: ObjectDatabase) -> None:
    assert store.object_ids() == []
    assert store.load_all() == ({}, {})
    with pytest.raises(GsPoseError, match='no such object'):
        store.load('mug')
    with pytest.raises(GsPoseError, match='no such object'):
        store.remove('mug')


def test_saving_again_replaces_and_changes_the_revision(store: ObjectDatabase) -> None:
    store.save(make_reference(seed=1))
    before = store.revision('mug')
    assert store.revision('mug') == before
    store.save(make_reference(seed=2))
    assert store.revision('mug') != before
    assert store.load('mug').diameter_m == pytest.approx(0.152)
    assert [p.name for p in store.root.iterdir() if p.is_dir()] == ['mug']


def test_removed_objects_are_gone(store: ObjectDatabase) -> None:
    store.save(make_reference('a'))
    store.save(make_reference('b'))
    store.remove('a')
    assert store.object_ids() == ['b']
    with pytest.raises(GsPoseError, match='no such object'):
        store.revision('a')


@pytest.mark.parametrize(
    'name', ['', '.', '..', '../x', 'a/b', '/etc', '.hid', 'a b', 'ä', 'x' * 101]
)
def test_a_name_that_could_be_a_path_is_refused(store: ObjectDatabase, name: str) -> None:
    for call in (store.load, store.remove, store.revision):
        with pytest.raises(GsPoseError, match='object id'):
            call(name)
    with pytest.raises(GsPoseError, match='object id'):
        store.save(make_reference(name))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize('file', ['object.yaml', 'gaussians.ply', 'views.npz'])
@pytest.mark.parametrize('damage', [Path.unlink, _truncate, lambda p: p.write_bytes(b'\x80\x00')])
def test_a_broken_file_is_named_and_spares_the_others(store: ObjectDatabase, file, damage) -> None:
    store.save(make_reference('good'))
    store.save(make_reference('bad'))
    damage(store.root / 'bad' / file)
    loaded, broken = store.load_all()
    assert list(loaded) == ['good'] and list(broken) == ['bad']
    assert file in broken['bad'] and 'bad' in broken['bad']
    store.save(make_reference('bad'))  # registering again heals it
    assert store.load_all()[1] == {}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'format_version': 99}, 'format version 99'),
        ({'object_id': 'other'}, 'other'),
        ({'diameter_m': float('nan')}, 'diameter_m'),
        ({'diameter_m': 'wide'}, 'object.yaml'),
        ({'box_m': [[0, 0, 0]]}, 'box_m'),
        ({'box_m': [[1, 1, 1], [0, 0, 0]]}, 'box_m'),
        ({'symmetries': [[1, 2, 3]]}, 'object.yaml'),
        ({'symmetries': [np.zeros((4, 4)).tolist()]}, 'symmetries'),
        ({'facts': None}, 'object.yaml'),
    ],
)
def test_an_impossible_header_is_refused(store: ObjectDatabase, change, message: str) -> None:
    store.save(make_reference())
    change_header(store.root / 'mug' / 'object.yaml', **change)
    with pytest.raises(GsPoseError, match=message) as error:
        store.load('mug')
    assert 'object.yaml' in str(error.value)


def test_views_are_never_unpickled(store: ObjectDatabase) -> None:
    store.save(make_reference())
    forget_sums(store.root / 'mug' / 'object.yaml')
    change_arrays(store.root / 'mug' / 'views.npz', color=np.array([{'no': 'image'}], object))
    with pytest.raises(GsPoseError, match=r'views\.npz'):
        store.load('mug')


@pytest.mark.parametrize(
    'change',
    [
        {'T_cam_obj': np.full((4, 4, 4), np.nan)},
        {'T_cam_obj': np.eye(4)[None]},
        {'intrinsics': np.zeros((4, 4))},
        {'color': np.zeros((4, 16, 8, 3), np.uint8)},
        {'mask': np.zeros((4, 16, 16), np.float32)},
    ],
)
def test_impossible_views_are_neither_stored_nor_loaded(store: ObjectDatabase, change) -> None:
    reference = make_reference()
    with pytest.raises(GsPoseError, match=r'views\.npz'):
        store.save(replace(reference, views=replace(reference.views, **change)))
    assert store.object_ids() == []
    store.save(reference)
    forget_sums(store.root / 'mug' / 'object.yaml')
    change_arrays(store.root / 'mug' / 'views.npz', **change)
    with pytest.raises(GsPoseError, match=r'views\.npz'):
        store.load('mug')


def test_nan_gaussians_are_not_stored(store: ObjectDatabase) -> None:
    reference = make_reference()
    reference.gaussians.means[3, 1] = float('nan')
    with pytest.raises(GsPoseError, match='means'):
        store.save(reference)


class _KilledError(BaseException):
    """Stands for the process ending here: nothing of the package catches it."""


@pytest.mark.parametrize('step', range(12))
def test_a_crash_at_any_step_leaves_the_old_or_the_new(store, monkeypatch, step: int) -> None:
    """Every call that touches the disk in `save` is in turn the last one that happens."""
    store.save(make_reference(seed=1))
    count = 0

    def dying(function):
        def call(*args, **kwargs):
            nonlocal count
            if count == step:
                raise _KilledError
            count += 1
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'rename', dying(Path.rename))
        patch.setattr(Path, 'mkdir', dying(Path.mkdir))
        patch.setattr(folder_store.shutil, 'rmtree', dying(folder_store.shutil.rmtree))
        patch.setattr(folder_store, '_fsync', dying(folder_store._fsync))
        patch.setattr(database, 'write_ply', dying(database.write_ply))
        try:
            store.save(make_reference(seed=2))
        except _KilledError:
            pass
        else:
            assert step >= 11
    assert store.object_ids() == ['mug']
    assert round(store.load('mug').diameter_m, 3) in (0.151, 0.152)
    store.save(make_reference(seed=3))
    assert store.load('mug').diameter_m == pytest.approx(0.153)
    assert [p.name for p in store.root.iterdir() if p.is_dir()] == ['mug']
    store.remove('mug')
    assert store.object_ids() == []


def test_an_object_left_aside_can_be_removed(store: ObjectDatabase) -> None:
    store.save(make_reference())
    (store.root / 'mug').rename(store.root / '.old-mug')  # killed between the two renames
    assert store.load('mug').object_id == 'mug'
    store.remove('mug')
    assert store.object_ids() == []
    assert not any(p.is_dir() for p in store.root.iterdir())


def test_killing_a_writing_process_never_loses_the_object(store: ObjectDatabase) -> None:
    """SIGKILL while another process saves in a loop; every reader before and after succeeds."""
    store.save(make_reference(seed=1))
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(Path(__file__).parents[2])!r}]
        from gs_pose_ros.objects.database import ObjectDatabase
        from test.fakes import make_reference
        store = ObjectDatabase({str(store.root)!r})
        references = [make_reference(seed=i) for i in range(2)]
        print('ready', flush=True)
        while True:
            for reference in references:
                store.save(reference)
    """)
    rng = np.random.default_rng()  # every run kills at another moment
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b'ready\n'
        for _ in range(20):  # readers never see half an object while it is replaced
            assert round(store.load('mug').diameter_m, 3) in (0.15, 0.151)
        time.sleep(float(rng.uniform(0.02, 0.2)))
    finally:
        process.kill()
        process.communicate()
    assert round(store.load('mug').diameter_m, 3) in (0.15, 0.151)
    store.save(make_reference(seed=5))
    assert store.load('mug').diameter_m == pytest.approx(0.155)


@pytest.mark.parametrize('act', ['save', 'remove'])
def test_a_folder_that_is_no_object_is_neither_replaced_nor_removed(
    store: ObjectDatabase, act: str
) -> None:
    photos = store.root / 'photos'
    photos.mkdir(parents=True)
    (photos / 'wedding.jpg').write_bytes(b'once in a lifetime')
    with pytest.raises(GsPoseError, match=r"photos: .*'wedding.jpg'"):
        store.save(make_reference('photos')) if act == 'save' else store.remove('photos')
    assert (photos / 'wedding.jpg').read_bytes() == b'once in a lifetime'


def test_a_link_to_an_object_elsewhere_is_replaced_and_removed_alone(
    store: ObjectDatabase, tmp_path: Path
) -> None:
    elsewhere = ObjectDatabase(tmp_path / 'elsewhere')
    elsewhere.save(make_reference())
    store.root.mkdir()
    for _ in range(2):
        (store.root / 'mug').symlink_to(elsewhere.root / 'mug')
        store.save(make_reference(seed=1))
        assert store.load('mug').diameter_m == pytest.approx(0.151)
        store.remove('mug')
    (store.root / 'mug').symlink_to(elsewhere.root / 'mug')
    store.remove('mug')
    assert store.object_ids() == []
    assert elsewhere.load('mug').diameter_m == pytest.approx(0.15)
