"""Maps on disk: what was stored comes back, and what is broken is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization import map_store
from gs_pose_ros.localization.map_store import StoredMap, load_map, save_map
from gs_pose_ros.localization.relocalization import (
    Keyframe,
    KeyframeRelocalizer,
    RelocalizationSettings,
)
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.surfels import SurfelSettings
from test.damage import change_arrays, change_header, forget_sums

RELOCALIZATION = RelocalizationSettings(spacing_m=0.25, retrieved=4, ratio=0.8, words=16)
_FEATURES = (5, 0, 3)  # of the keyframes; the second saw a white wall


def make_map(seed: int = 0, n: int = 30, features: tuple[int, ...] = _FEATURES) -> StoredMap:
    rng = np.random.default_rng(seed)
    gaussians = Gaussians.from_points(rng.normal(size=(n, 3)), rng.random((n, 3)), 0.01, 0.9, 0)
    keyframes = [
        Keyframe(
            se3.exp(rng.normal(size=6)),
            rng.normal(size=(count, 3)).astype(np.float32),
            rng.integers(0, 256, (count, 128), np.uint8),
        )
        for count in features
    ]
    return StoredMap(
        SceneMap(gaussians, 0.02 + 0.001 * seed, SurfelSettings(20, 1.25, 0.1, 0.5)),
        KeyframeRelocalizer.from_keyframes(keyframes, RELOCALIZATION),
        'hall',
        {'seconds': 2.5, 'frames': 7, 'source': 'Flur, 1. Stock, früh'},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / 'maps' / 'hall'
    save_map(path, make_map())
    return path


def assert_equal(a: StoredMap, b: StoredMap) -> None:
    for name in ('means', 'quats', 'log_scales', 'logit_opacities', 'sh'):
        assert torch.equal(getattr(a.scene.gaussians, name), getattr(b.scene.gaussians, name))
    assert (a.scene.voxel_m, a.scene.surfel, a.frame_id, a.facts) == (
        b.scene.voxel_m,
        b.scene.surfel,
        b.frame_id,
        b.facts,
    )
    assert a.relocalizer.settings == b.relocalizer.settings
    for one, other in zip(a.relocalizer.keyframes, b.relocalizer.keyframes, strict=True):
        for name in ('T_map_cam', 'points', 'descriptors'):
            x, y = getattr(one, name), getattr(other, name)
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
    # Words are learnt anew, and are the same.
    np.testing.assert_array_equal(a.relocalizer.words, b.relocalizer.words)
    np.testing.assert_array_equal(a.relocalizer.vectors, b.relocalizer.vectors)


# --- Round trip --------------------------------------------------------------------------------


def test_a_map_comes_back_as_it_was_stored(path: Path) -> None:
    loaded = load_map(path)
    assert_equal(loaded, make_map())
    assert loaded.facts == {'seconds': 2.5, 'frames': 7, 'source': 'Flur, 1. Stock, früh'}
    assert sorted(p.name for p in path.iterdir()) == ['gaussians.ply', 'keyframes.npz', 'map.yaml']


def test_facts_that_numpy_counted_come_back_as_numbers(path: Path) -> None:
    facts: dict[str, Any] = {'seconds': np.float32(2.5), 'frames': np.int64(7)}
    save_map(path, replace(make_map(), facts=facts))
    loaded = load_map(path).facts
    assert loaded == {'seconds': 2.5, 'frames': 7}
    assert [type(value) for value in loaded.values()] == [float, int]


def test_the_words_of_a_loaded_map_are_those_that_were_learnt(path: Path) -> None:
    stored = make_map(features=(60, 0, 300))
    assert len(stored.relocalizer.words) == stored.relocalizer.settings.words
    save_map(path, stored)
    assert_equal(load_map(path), stored)


def test_a_map_without_keyframes_comes_back(path: Path) -> None:
    bare = replace(make_map(), relocalizer=KeyframeRelocalizer.from_keyframes(()))
    save_map(path, bare)
    assert_equal(load_map(path), bare)


def test_a_folder_may_be_named_by_a_string_that_ends_in_a_slash(path: Path) -> None:
    assert_equal(load_map(f'{path}/'), make_map())  # type: ignore[arg-type]


def test_a_folder_of_any_name_can_be_read_where_it_was_moved(path: Path, tmp_path: Path) -> None:
    path.rename(tmp_path / 'moved')
    assert_equal(load_map(tmp_path / 'moved'), make_map())


def test_saving_again_replaces_the_whole(path: Path) -> None:
    save_map(path, make_map(seed=1, n=12))
    assert_equal(load_map(path), make_map(seed=1, n=12))
    assert [p.name for p in path.parent.iterdir() if p.is_dir()] == ['hall']


# --- What cannot be stored ---------------------------------------------------------------------


def nan_map() -> StoredMap:
    stored = make_map(seed=1)
    stored.scene.gaussians.means[3, 1] = float('nan')
    return stored


def empty_map() -> StoredMap:
    stored = make_map(seed=1)
    return replace(stored, scene=replace(stored.scene, gaussians=stored.scene.gaussians[:0]))


def changed_map(**change: Any) -> StoredMap:
    stored = make_map(seed=1)
    return replace(stored, scene=replace(stored.scene, **change))


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (nan_map, r'gaussians\.ply.*means'),
        (empty_map, 'holds no Gaussian'),
        (lambda: changed_map(voxel_m=0.0), r'map\.yaml: voxel_m'),
        (lambda: changed_map(voxel_m=float('nan')), r'map\.yaml: voxel_m'),
        (lambda: changed_map(voxel_m=float('inf')), r'map\.yaml: voxel_m'),
        (lambda: changed_map(surfel=SurfelSettings(spread=0.0)), r'map\.yaml: surfel\.spread'),
    ],
    ids=['nan', 'empty', 'no width', 'nan width', 'infinite width', 'no spread'],
)
def test_what_is_refused_leaves_the_old_map(
    path: Path, make: Callable[[], StoredMap], message: str
) -> None:
    with pytest.raises(GsPoseError, match=message) as error:
        save_map(path, make())
    assert "'hall'" in str(error.value)
    assert_equal(load_map(path), make_map())


@pytest.mark.parametrize('broken', ['write_ply', 'np.savez_compressed', 'write_header'])
def test_a_full_disk_leaves_the_old_map(
    path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(f'{map_store.__name__}.{broken}', refuse)
        with pytest.raises(GsPoseError, match='hall.*No space left'):
            save_map(path, make_map(seed=1))
    assert_equal(load_map(path), make_map())
    save_map(path, make_map(seed=1))  # what was left half done is in nobody's way
    assert_equal(load_map(path), make_map(seed=1))


@pytest.mark.parametrize('name', ['..', '.hid', 'a b', 'ä', 'x' * 101])
def test_a_folder_without_a_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GsPoseError, match='map id'):
        save_map(tmp_path / name, make_map())
    with pytest.raises(GsPoseError, match='map id'):
        load_map(tmp_path / name)
    assert not list(tmp_path.iterdir())


# --- What cannot be read -----------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    for missing in (tmp_path / 'cellar', tmp_path / 'no' / 'cellar'):
        with pytest.raises(GsPoseError, match='cellar: no such map'):
            load_map(missing)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('file', ['map.yaml', 'gaussians.ply', 'keyframes.npz'])
def test_a_missing_file_is_named(path: Path, file: str) -> None:
    (path / file).unlink()
    with pytest.raises(GsPoseError, match=f'hall/{file}'):
        load_map(path)


@pytest.mark.parametrize('share', [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize('file', ['gaussians.ply', 'keyframes.npz'])
def test_a_truncated_file_is_named(path: Path, file: str, share: float) -> None:
    whole = (path / file).read_bytes()
    (path / file).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(GsPoseError, match=f'hall/{file}'):
        load_map(path)
    save_map(path, make_map())  # stored again it is whole
    assert_equal(load_map(path), make_map())


@pytest.mark.parametrize('content', [b'', b'\x80\x00', b'voxel_m: [', b'a list, no entries'])
@pytest.mark.parametrize('file', ['map.yaml', 'gaussians.ply', 'keyframes.npz'])
def test_a_file_of_something_else_is_named(path: Path, file: str, content: bytes) -> None:
    (path / file).write_bytes(content)
    with pytest.raises(GsPoseError, match=f'hall/{file}'):
        load_map(path)


def test_an_array_in_place_of_the_archive_is_named(path: Path) -> None:
    with (path / 'keyframes.npz').open('wb') as file:
        np.save(file, np.zeros(3))
    with pytest.raises(GsPoseError, match=r'hall/keyframes\.npz'):
        load_map(path)


def test_no_flipped_bit_raises_anything_else(path: Path) -> None:
    forget_sums(path / 'map.yaml')
    # Among them: a method of compression, an encryption and a version that zipfile lacks.
    whole, rng = (path / 'keyframes.npz').read_bytes(), np.random.default_rng(0)
    refused: list[str] = []
    directory = whole.index(b'PK\x01\x02')
    for position in rng.integers(directory, len(whole), 200):
        broken = bytearray(whole)
        broken[position] = rng.integers(256)
        (path / 'keyframes.npz').write_bytes(broken)
        try:
            load_map(path)
        except GsPoseError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all('hall/keyframes.npz' in message for message in refused)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'format_version': 99}, 'format version 99, this program reads 1'),
        ({'format_version': None}, 'format version None'),
        ({'voxel_m': 'wide'}, 'wide'),
        ({'voxel_m': float('nan')}, 'voxel_m is nan'),
        ({'voxel_m': -0.01}, r'voxel_m is -0\.01'),
        ({'surfel': None}, 'surfel is None'),
        ({'surfel': 'flat'}, 'surfel is flat'),
        ({'surfel': {'spread': None}}, r'surfel\.spread is None'),
        ({'surfel': {'spread': float('nan')}}, r'surfel\.spread is nan'),
        ({'surfel': {'spread': 0}}, r'surfel\.spread is 0\.0'),
        ({'surfel': {'neighbours': float('inf')}}, r'surfel\.neighbours is inf'),
        ({'relocalization': {'retrieved': 0}}, r'relocalization\.retrieved is 0'),
        ({'relocalization': {'words': 10**9}}, r'relocalization\.words is 1000000000'),
        ({'relocalization': {'ratio': 'low'}}, 'low'),
        ({'keyframes': None}, 'keyframes is None'),
        ({'gaussians': [30]}, r'gaussians is \[30\]'),
        ({'gaussians': float('inf')}, 'gaussians is inf'),
        ({'facts': None}, 'facts is None'),
        ({'facts': 'none'}, 'facts is none'),
    ],
)
def test_an_impossible_header_is_refused(path: Path, change: dict[str, Any], message: str) -> None:
    change_header(path / 'map.yaml', **change)
    with pytest.raises(GsPoseError, match=message) as error:
        load_map(path)
    assert 'hall' in str(error.value)
    assert 'map.yaml' in str(error.value)


@pytest.mark.parametrize(
    'key', ['format_version', 'voxel_m', 'keyframes', 'gaussians', 'frame_id']
)
def test_what_the_header_lacks_is_named(path: Path, key: str) -> None:
    forget_sums(path / 'map.yaml')
    header = yaml.safe_load((path / 'map.yaml').read_text())
    del header[key]
    (path / 'map.yaml').write_text(yaml.safe_dump(header))
    with pytest.raises(GsPoseError, match=key.replace('_', '.')) as error:
        load_map(path)
    assert 'hall/map.yaml' in str(error.value)


def test_settings_that_are_not_stored_are_the_defaults(path: Path) -> None:
    header = yaml.safe_load((path / 'map.yaml').read_text())
    del header['relocalization'], header['sha256']
    header['surfel'] = {'spread': 1.25, 'of_a_later_version': [1, 2]}
    (path / 'map.yaml').write_text(yaml.safe_dump(header))
    loaded = load_map(path)
    assert loaded.relocalizer.settings == RelocalizationSettings()
    assert loaded.scene.surfel == SurfelSettings(spread=1.25)


def test_keyframes_of_another_map_are_refused(path: Path) -> None:
    forget_sums(path / 'map.yaml')
    save_map(path.with_name('other'), make_map(features=(4, 2)))
    (path.with_name('other') / 'keyframes.npz').replace(path / 'keyframes.npz')
    with pytest.raises(GsPoseError, match=r'hall/keyframes\.npz: holds 2 keyframes.* says 3'):
        load_map(path)


def test_a_splat_of_another_map_is_refused(path: Path) -> None:
    forget_sums(path / 'map.yaml')
    save_map(path.with_name('other'), make_map(n=12))
    (path.with_name('other') / 'gaussians.ply').replace(path / 'gaussians.ply')
    with pytest.raises(GsPoseError, match=r'hall/gaussians\.ply: holds 12 .* says 30'):
        load_map(path)


def test_nan_in_the_splat_is_refused(path: Path) -> None:
    forget_sums(path / 'map.yaml')
    file = path / 'gaussians.ply'
    content = file.read_bytes()
    file.write_bytes(content[:-4] + np.array(np.nan, '<f4').tobytes())
    with pytest.raises(GsPoseError, match=r'hall/gaussians\.ply.*quats'):
        load_map(path)


def test_a_splat_without_gaussians_is_refused(path: Path) -> None:
    map_store.write_ply(path / 'gaussians.ply', make_map().scene.gaussians[:0])
    change_header(path / 'map.yaml', gaussians=0)
    with pytest.raises(GsPoseError, match=r'hall/gaussians\.ply: holds no Gaussian'):
        load_map(path)


@pytest.mark.parametrize(
    'change',
    [
        {'T_map_cam': np.full((3, 4, 4), np.nan)},
        {'T_map_cam': np.zeros((3, 4, 4))},
        {'T_map_cam': np.eye(4)},
        {'T_map_cam': np.tile(np.eye(4), (2, 1, 1))},
        {'T_map_cam': np.tile(np.eye(4, dtype=int), (3, 1, 1))},
        {'points': np.full((8, 3), np.nan, np.float32)},
        {'points': np.full((8, 3), np.inf, np.float32)},
        {'points': np.zeros((7, 3), np.float32)},
        {'points': np.zeros((8, 2), np.float32)},
        {'points': np.zeros((8, 3), np.int64)},
        {'points': np.float32(0)},
        {'descriptors': np.zeros((8, 128), np.float32)},
        {'descriptors': np.zeros((8, 64), np.uint8)},
        {'descriptors': np.zeros((9, 128), np.uint8)},
        {'counts': np.array([5, 0, 4])},
        {'counts': np.array([9, -1, 0])},
        {'counts': np.array([5, 3])},
        {'counts': np.array([5.0, 0.0, 3.0])},
        {'counts': np.array([[5, 0, 3]])},
        {'counts': np.array(3)},
        {'counts': np.zeros(0, np.int64)},
        {'descriptors': np.array([{'not': 'a feature'}], dtype=object)},  # never unpickled
    ],
    ids=lambda change: ' '.join(f'{k} {v.dtype} {v.shape}' for k, v in change.items()),
)
def test_impossible_keyframes_are_refused(path: Path, change: dict[str, Any]) -> None:
    forget_sums(path / 'map.yaml')
    change_arrays(path / 'keyframes.npz', **change)
    with pytest.raises(GsPoseError, match=r'hall/keyframes\.npz'):
        load_map(path)


def test_an_archive_that_lacks_an_array_is_refused(path: Path) -> None:
    forget_sums(path / 'map.yaml')
    change_arrays(path / 'keyframes.npz', points=None)
    with pytest.raises(GsPoseError, match=r'hall/keyframes\.npz.*points'):
        load_map(path)
