"""Bad files of a map are named in no time; one that is stored anew in their place is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.localization.map_store import clear_leftovers, load_map, save_map
from test import damage
from test.localization.test_map_store import assert_equal, make_map
from test.mutations import examples, mutated_bytes, mutated_content

FILES = ('map.yaml', 'gaussians.ply', 'keyframes.npz')


@pytest.fixture(scope='module')
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('maps') / 'hall'
    save_map(path, make_map())
    return path


@pytest.fixture
def path(stored: Path, tmp_path: Path) -> Path:
    shutil.copytree(stored, tmp_path / 'maps' / 'hall')
    return tmp_path / 'maps' / 'hall'


def refused(path: Path, message: str) -> None:
    """It is, soon and by name; a map stored anew in its place is whole."""
    start = time.monotonic()
    with pytest.raises(GsPoseError, match=message) as error:
        load_map(path)
    assert time.monotonic() - start < 5
    assert 'hall' in str(error.value)
    assert 'build the map again' in str(error.value)
    assert len(str(error.value)) < 1000
    save_map(path, make_map())
    assert_equal(load_map(path), make_map())


@pytest.mark.parametrize('kind', damage.BAD_YAML)
def test_a_bad_header_is_named(path: Path, kind: str) -> None:
    (path / 'map.yaml').write_bytes(damage.BAD_YAML[kind])
    refused(path, r'hall/map\.yaml: ')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'voxel_m': 10**400}, 'voxel_m is 1000'),
        ({'voxel_m': True}, 'voxel_m is True'),
        ({'voxel_m': '0.02'}, 'voxel_m is 0.02, expected a number'),
        ({'frame_id': None}, 'frame_id is None'),
        ({'frame_id': ['map']}, 'frame_id is'),
        ({'frame_id': 'a\0b'}, 'frame_id is'),
        ({'gaussians': 30.5}, 'gaussians is 30.5, expected a whole number'),
        ({'gaussians': '30'}, 'gaussians is 30, expected a whole number'),
        ({'keyframes': True}, 'keyframes is True'),
        ({'surfel': {'neighbours': 2.5}}, 'surfel.neighbours is 2.5'),
        ({'surfel': {'neighbours': '12'}}, 'surfel.neighbours is 12'),
        ({'surfel': [1]}, 'surfel is'),
        ({'relocalization': {'words': 10**400}}, 'relocalization.words is'),
        ({'relocalization': {'words': 0}}, 'relocalization.words is 0, not within 1'),
        ({'facts': {'frames': None}}, 'facts.frames is None'),
        ({'units': 'feet'}, 'units is feet'),
    ],
)
def test_an_entry_of_another_kind_is_named(
    path: Path, change: dict[str, Any], message: str
) -> None:
    damage.change_header(path / 'map.yaml', **change)
    refused(path, rf'hall/map\.yaml: .*{message}')


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (damage.fifo, 'is a FIFO'),
        (damage.link_to('/dev/zero'), 'is a device'),
        (damage.huge, 'at most'),
        (damage.flip_byte, ''),
    ],
    ids=['fifo', 'device', 'huge', 'byte'],
)
@pytest.mark.parametrize('file', FILES)
def test_bad_files_are_named(
    path: Path, file: str, make: Callable[[Path], None], message: str
) -> None:
    make(path / file)
    refused(path, f'hall/.*{message}')


@pytest.mark.parametrize('file', FILES[1:])
def test_a_flipped_byte_is_found(path: Path, file: str) -> None:
    damage.flip_byte(path / file, 0.7)
    refused(path, f'hall/{file}: damaged or changed since it was stored')


def test_another_number_in_the_header_is_found(path: Path) -> None:
    header = path / 'map.yaml'
    header.write_text(header.read_text().replace('voxel_m: 0.02', 'voxel_m: 0.04'))
    refused(path, r'hall/map\.yaml: damaged or changed')


def test_maps_without_checksums_load(path: Path) -> None:
    damage.forget_sums(path / 'map.yaml')
    assert_equal(load_map(path), make_map())


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (damage.squeezed, 'arrays take'),
        (damage.with_npy_header('<f8', (10**12,)), 'takes 8000000000128 bytes'),
        (damage.with_npy_header('|O', (8,)), 'no array of numbers'),
        (lambda p: damage.change_arrays(p, counts=np.array([2**62, 2**62, 8])), 'counts do not'),
        (lambda p: damage.change_arrays(p, descriptors=np.zeros((8, 128), '<u2')), 'descriptors'),
    ],
)
def test_impossible_arrays_are_named(path: Path, make: Any, message: str) -> None:
    damage.forget_sums(path / 'map.yaml')
    make(path / 'keyframes.npz')
    refused(path, rf'hall/keyframes\.npz: .*{message}')


def test_a_splat_of_any_count_is_named(path: Path) -> None:
    damage.forget_sums(path / 'map.yaml')
    ply = path / 'gaussians.ply'
    ply.write_bytes(ply.read_bytes().replace(b'vertex 30', b'vertex 9000000000000'))
    refused(path, r'hall/gaussians\.ply: not a readable PLY: truncated')


KILLED = """
import sys, time
from pathlib import Path
from gs_pose_ros.localization import map_store
from test.localization.test_map_store import make_map
def stop(*_):
    print('there', flush=True)
    time.sleep(1000)
map_store.write_header = stop
map_store.save_map(Path(sys.argv[1]), make_map())
"""


def test_what_a_killed_process_left_goes_with_the_next_map(path: Path) -> None:
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, '-c', KILLED, str(path.with_name('cellar'))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    left = path.with_name('.new-cellar')
    try:
        assert process.stdout.readline() == b'there\n'
        clear_leftovers(path)
        assert left.is_dir()  # it runs
    finally:
        process.kill()
        process.communicate()
    path.with_name('.new-thesis').mkdir()
    (path.with_name('.new-thesis') / 'thesis.tex').write_text('years of work')
    path.with_name('.old-photos').mkdir()
    clear_leftovers(path)
    kept = sorted(p.name for p in path.parent.iterdir() if p.is_dir())
    assert kept == ['.new-thesis', '.old-photos', 'hall']
    assert_equal(load_map(path), make_map())


def _loads_or_is_named(path: Path) -> None:
    try:
        assert len(load_map(path).scene) == 30
    except GsPoseError as error:
        found = str(error)
    else:
        return
    assert 'hall' in found
    assert len(found) < 1000


def _one_map(stored: Path, folder: Path) -> Path:
    path = folder / 'hall'
    if not path.exists():
        shutil.copytree(stored, path)
        damage.forget_sums(path / 'map.yaml')
    return path


HEADER = {
    'format_version': 1, 'units': 'metres, radians', 'created': '2026-01-01',
    'package_version': '1', 'frame_id': 'hall', 'voxel_m': 0.02,
    'surfel': {'neighbours': 20, 'spread': 1.25, 'thickness': 0.1, 'agreement': 0.5},
    'relocalization': {'words': 16, 'ratio': 0.8}, 'gaussians': 30, 'keyframes': 3,
    'facts': {'seconds': 2.5, 'source': 'a bag'},
}  # fmt: skip


@examples(25)
@given(entries=mutated_content(HEADER))
def test_any_header_loads_or_is_named(stored: Path, tmp_path: Path, entries: Any) -> None:
    path = _one_map(stored, tmp_path)
    (path / 'map.yaml').write_text(yaml.safe_dump(entries))
    _loads_or_is_named(path)


@examples(25)
@given(content=mutated_bytes(yaml.safe_dump(HEADER).encode()))
def test_any_bytes_of_a_header_load_or_are_named(
    stored: Path, tmp_path: Path, content: bytes
) -> None:
    path = _one_map(stored, tmp_path)
    (path / 'map.yaml').write_bytes(content)
    _loads_or_is_named(path)
