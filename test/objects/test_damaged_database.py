"""One bad stored object is set aside and named; the others load, in no time and little memory."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.database import ObjectDatabase
from test import damage
from test.fakes import make_reference
from test.mutations import examples, mutated_bytes, mutated_content

FILES = ('object.yaml', 'gaussians.ply', 'views.npz')


@pytest.fixture(scope='module')
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = ObjectDatabase(tmp_path_factory.mktemp('stored'))
    store.save(make_reference('good'))
    store.save(make_reference('bad'))
    return store.root


@pytest.fixture
def store(stored: Path, tmp_path: Path) -> ObjectDatabase:
    """Two objects, of which `bad` is to become so."""
    shutil.copytree(stored, tmp_path / 'objects')
    return ObjectDatabase(tmp_path / 'objects')


def reason(store: ObjectDatabase) -> str:
    """Why `bad` cannot be used; the other one can, and both can again when it is stored anew."""
    start = time.monotonic()
    loaded, broken = store.load_all()
    assert time.monotonic() - start < 5
    assert list(loaded) == ['good']
    assert list(broken) == ['bad']
    assert len(broken['bad']) < 1000
    assert 'register the object again' in broken['bad']
    return broken['bad']


def heals(store: ObjectDatabase) -> None:
    store.save(make_reference('bad'))
    assert store.load_all()[1] == {}


@pytest.mark.parametrize('kind', damage.BAD_YAML)
def test_a_bad_header_is_named(store: ObjectDatabase, kind: str) -> None:
    (store.root / 'bad' / 'object.yaml').write_bytes(damage.BAD_YAML[kind])
    assert 'bad/object.yaml' in reason(store)
    heals(store)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'facts': {'psnr_heldout_db': None}}, 'facts.psnr_heldout_db is None'),
        ({'facts': {'psnr_heldout_db': 'high'}}, 'facts.psnr_heldout_db is high'),
        ({'facts': {'psnr_heldout_db': 10**400}}, 'facts.psnr_heldout_db is 1000'),
        ({'facts': {'views': [1]}}, r'facts.views is \[1\]'),
        ({'facts': {3: 4}}, 'facts is'),
        ({'facts': [1]}, 'facts is'),
        ({'diameter_m': 10**400}, 'diameter_m is 1000.*401 characters'),
        ({'diameter_m': True}, 'diameter_m is True'),
        ({'diameter_m': '0.15'}, 'diameter_m is 0.15, expected a number'),
        ({'diameter_m': [0.15]}, 'diameter_m is'),
        ({'diameter_m': -1}, 'diameter_m is -1'),
        ({'box_m': [[0, 0, '0'], [1, 1, 1]]}, 'box_m is'),
        ({'box_m': [[0, 0, None], [1, 1, 1]]}, 'box_m is'),
        ({'box_m': [[0, 0, 10**400], [1, 1, 1]]}, 'box_m is'),
        ({'box_m': [[0, 0], [1, 1, 1]]}, 'box_m is'),
        ({'box_m': {'low': 0}}, 'box_m is'),
        ({'symmetries': None}, 'symmetries is None'),
        ({'symmetries': [[[1]]]}, 'symmetries is'),
        ({'object_id': None}, 'object_id is None'),
        ({'object_id': 5}, 'object_id is 5'),
        ({'units': 'millimetres, degrees'}, "units is millimetres, .* expected 'metres"),
        ({'created': 5}, 'created is 5'),
        ({'package_version': [1]}, 'package_version is'),
        ({'format_version': '1'}, 'format version 1, this program reads 1'),
        ({'format_version': True}, 'format version True'),
    ],
)
def test_an_entry_of_another_kind_is_named(
    store: ObjectDatabase, change: dict[str, Any], message: str
) -> None:
    damage.change_header(store.root / 'bad' / 'object.yaml', **change)
    with pytest.raises(GsPoseError, match=rf'bad/object\.yaml: .*{message}'):
        store.load('bad')
    assert 'object.yaml' in reason(store)
    heals(store)


def _socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # their paths are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (damage.fifo, 'is a FIFO, no regular file'),
        (_socket, 'is a socket, no regular file'),
        (damage.link_to('/dev/zero'), 'is a device, no regular file'),
        (damage.link_to('/dev/null'), 'is a device, no regular file'),
        (damage.link_to('nowhere'), 'missing'),
        (damage.link_to('a_loop'), 'Too many levels of symbolic links'),
        (damage.folder, 'is a folder, no regular file'),
        (damage.huge, r'has 1\.09951e\+06 MB, at most'),
        (lambda path: path.write_bytes(b''), ''),
    ],
    ids=['fifo', 'socket', 'zero', 'null', 'dangling', 'loop', 'folder', 'huge', 'empty'],
)
@pytest.mark.parametrize('file', FILES)
def test_only_regular_files_of_a_sane_size_are_read(
    store: ObjectDatabase, file: str, make: Callable[[Path], None], message: str
) -> None:
    (store.root / 'bad' / 'a_loop').symlink_to('a_loop')
    make(store.root / 'bad' / file)
    found = reason(store)
    assert f'bad/{file}' in found
    if message:
        with pytest.raises(GsPoseError, match=message):
            store.load('bad')
    (store.root / 'bad' / 'a_loop').unlink()
    if make is damage.folder:
        (store.root / 'bad' / file).rmdir()  # it might hold anything
    heals(store)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (damage.squeezed, r'arrays take 1153\.44 MB, at most 1073\.74 MB'),
        (damage.with_npy_header('<f8', (10**12,)), 'takes 8000000000128 bytes'),
        (damage.with_npy_header('<f8', (-1, 4)), 'is no array of numbers'),
        (damage.with_npy_header('|O', (8,)), 'is no array of numbers'),
        (damage.with_npy_header('<U16', (1,)), 'is no array of numbers'),
        (damage.with_npy_header('<f8', (8,)), r'T_cam_obj is float64 \(8,\)'),
        (lambda p: damage.change_arrays(p, mask=None), 'lacks the array mask'),
        (lambda p: damage.change_arrays(p, color=np.zeros((4, 16, 16, 3), '<u2')), 'color is'),
        (lambda p: damage.change_arrays(p, color=np.zeros((4, 0, 0, 3), 'u1')), 'expected'),
        (lambda p: damage.change_arrays(p, mask=np.zeros((4, 16, 16), bool)), 'mask is bool'),
        (lambda p: damage.change_arrays(p, intrinsics=np.full((4, 4), np.nan)), 'intrinsics hold'),
        (lambda p: damage.change_arrays(p, T_cam_obj=np.zeros((4, 4, 4), '>f8')), 'no array'),
        (lambda p: damage.change_arrays(p, T_cam_obj=np.full((4, 4, 4), 1e300)), 'rigid'),
        (lambda p: p.write_bytes(p.read_bytes() + b'x'), 'no npz file'),
    ],
)
@pytest.mark.filterwarnings('ignore:overflow')
def test_impossible_arrays_are_named_before_they_are_unpacked(
    store: ObjectDatabase, make: Callable[[Path], None], message: str
) -> None:
    damage.forget_sums(store.root / 'bad' / 'object.yaml')
    make(store.root / 'bad' / 'views.npz')
    with pytest.raises(GsPoseError, match=rf'views\.npz: .*{message}'):
        store.load('bad')
    assert 'views.npz' in reason(store)
    heals(store)


def test_a_splat_of_any_count_is_named(store: ObjectDatabase) -> None:
    damage.forget_sums(store.root / 'bad' / 'object.yaml')
    ply = store.root / 'bad' / 'gaussians.ply'
    ply.write_bytes(ply.read_bytes().replace(b'vertex 60', b'vertex 9000000000000'))
    assert 'bad/gaussians.ply: not a readable PLY: truncated' in reason(store)
    heals(store)


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize('file', FILES)
def test_a_flipped_byte_is_found(store: ObjectDatabase, file: str, share: float) -> None:
    damage.flip_byte(store.root / 'bad' / file, share)
    assert 'bad/' in reason(store)
    if file != 'object.yaml':
        assert f'bad/{file}: damaged' in reason(store)
    heals(store)


def test_another_number_in_the_header_is_found(store: ObjectDatabase) -> None:
    header = store.root / 'bad' / 'object.yaml'
    header.write_text(header.read_text().replace('diameter_m: 0.15', 'diameter_m: 0.25'))
    assert 'bad/object.yaml: damaged or changed' in reason(store)
    damage.forget_sums(header)  # as the message says
    assert store.load('bad').diameter_m == 0.25


def test_objects_without_checksums_load(store: ObjectDatabase) -> None:
    for object_id in ('good', 'bad'):
        damage.forget_sums(store.root / object_id / 'object.yaml')
    assert sorted(store.load_all()[0]) == ['bad', 'good']


def test_every_file_has_its_checksum(store: ObjectDatabase) -> None:
    header = yaml.safe_load((store.root / 'good' / 'object.yaml').read_text())
    assert sorted(header['sha256']) == sorted(FILES)
    del header['sha256']['views.npz']
    (store.root / 'bad' / 'object.yaml').write_text(yaml.safe_dump({**header, 'object_id': 'bad'}))
    assert 'bad/' in reason(store)


def test_what_is_no_object_is_named_and_spares_the_others(store: ObjectDatabase) -> None:
    root = store.root
    damage.forget_sums(root / 'bad' / 'object.yaml')
    (root / 'readme.txt').write_text('a file is no object')
    (root / 'loop').symlink_to('loop')
    (root / 'gone').symlink_to('/not/mounted')
    (root / 'link').symlink_to(root / 'good')
    (root / 'empty').mkdir()
    (root / ('x' * 200)).mkdir()
    (root / 'not plain').mkdir()
    (root / 'my mug').mkdir()
    (root / 'my mug' / 'object.yaml').write_text('format_version: 1')
    os.mkfifo(root / 'pipe')
    loaded, broken = store.load_all()
    assert sorted(loaded) == ['bad', 'good']
    assert sorted(broken) == ['empty', 'gone', 'link', 'loop', 'my mug', 'x' * 200]
    assert 'link that leads to no folder' in broken['loop']
    assert 'link that leads to no folder' in broken['gone']
    assert "is of object good, not 'link'" in broken['link']
    assert 'only letters' in broken['my mug']
    assert 'at most 100' in broken['x' * 200]


@pytest.mark.parametrize(
    ('root', 'message'),
    [
        ('{tmp}/file', 'Not a directory'),
        ('{tmp}/loop', 'Too many levels'),
        ('{tmp}/' + 'x' * 300, 'File name too long'),
        ('/' + 'x/' * 2500, 'File name too long'),
        ('{tmp}/\0', 'null'),
    ],
)
def test_a_root_that_is_none_is_named(tmp_path: Path, root: str, message: str) -> None:
    (tmp_path / 'file').write_text('')
    (tmp_path / 'loop').symlink_to('loop')
    store = ObjectDatabase(Path(root.format(tmp=tmp_path)))
    with pytest.raises(GsPoseError, match=f'cannot be listed: .*{message}'):
        store.load_all()
    for act in (store.load, store.remove, store.revision):
        with pytest.raises(GsPoseError) as error:
            act('mug')
        assert len(str(error.value)) < 1000
    with pytest.raises(GsPoseError) as error:
        store.save(make_reference())
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize('name', ['.lock', '.writer-lock'])
def test_a_lock_that_is_none_neither_stops_readers_nor_is_followed(
    store: ObjectDatabase, tmp_path: Path, name: str
) -> None:
    (store.root / name).unlink(missing_ok=True)
    (tmp_path / 'thesis').write_text('years of work')
    (store.root / name).symlink_to(tmp_path / 'thesis')
    assert store.load('good').object_id == 'good'
    with pytest.raises(GsPoseError, match='lock'):
        store.save(make_reference())
    assert (tmp_path / 'thesis').read_text() == 'years of work'
    damage.fifo(store.root / name)
    assert store.load('good').object_id == 'good'


def _named_or_loads(store: ObjectDatabase, file: str) -> None:
    try:
        loaded = store.load('bad')
    except GsPoseError as error:
        found = str(error)
    else:
        assert loaded.object_id == 'bad'
        assert np.isfinite(loaded.diameter_m)
        return
    assert 'bad/' in found or file in found
    assert len(found) < 1000


@examples(40)
@given(entries=mutated_content({
    'format_version': 1, 'object_id': 'bad', 'units': 'metres, radians', 'created': '2026-01-01',
    'package_version': '1', 'diameter_m': 0.15, 'box_m': [[-1, -1, -1], [1, 1, 1]],
    'symmetries': [np.eye(4).tolist()], 'facts': {'psnr_heldout_db': 30.0, 'views': 4},
}))  # fmt: skip
def test_any_header_loads_or_is_named(tmp_path: Path, entries: Any) -> None:
    store = _one_object(tmp_path)
    (store.root / 'bad' / 'object.yaml').write_text(yaml.safe_dump(entries))
    _named_or_loads(store, 'object.yaml')


@examples(40)
@given(
    content=mutated_bytes(
        GOOD_HEADER := b"""format_version: 1
object_id: bad
units: metres, radians
diameter_m: 0.15
box_m: [[-1, -1, -1], [1, 1, 1]]
symmetries: []
facts: {psnr_heldout_db: 30.0, views: 4}
"""
    )
)
def test_any_bytes_of_a_header_load_or_are_named(tmp_path: Path, content: bytes) -> None:
    store = _one_object(tmp_path)
    (store.root / 'bad' / 'object.yaml').write_bytes(content)
    _named_or_loads(store, 'object.yaml')


def _one_object(folder: Path) -> ObjectDatabase:
    store = ObjectDatabase(folder / 'objects')
    if not store.root.exists():
        store.save(make_reference('bad'))
        damage.forget_sums(store.root / 'bad' / 'object.yaml')
    return store
