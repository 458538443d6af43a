"""What is made of an object is made once, and never taken for that of another."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gs_pose_ros.objects import prepared as module
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.prepared import once_per_object, prepared
from gs_pose_ros.objects.stored_arrays import read_arrays
from test import damage
from test.fakes import make_reference
from test.mutations import examples, mutated_bytes


@dataclass(frozen=True)
class Bank:
    """As stages make them."""

    numbers: NDArray[np.float64]
    extent: float


made: list[int] = []  # settings, one entry a time


def bank(reference: ObjectReference, settings: int) -> Bank:
    made.append(settings)
    return Bank(settings * reference.views.T_cam_obj, 1.5)


def array(reference: ObjectReference, settings: int) -> NDArray[np.float64]:
    made.append(settings)
    return settings * reference.box


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


@pytest.fixture
def store(tmp_path: Path) -> ObjectDatabase:
    store = ObjectDatabase(tmp_path / 'objects')
    store.save(make_reference())
    return store


def files(store: ObjectDatabase) -> list[Path]:
    return sorted((store.root / '.prepared' / 'mug').iterdir())


@pytest.mark.parametrize('make', [bank, array])
def test_it_is_made_once_for_an_object_and_settings(
    store: ObjectDatabase, make: Callable[[ObjectReference, int], Bank | NDArray]
) -> None:
    reference = store.load('mug')
    first, other = prepared(make), prepared(make)  # the second has nothing in memory
    value = first(reference, 2)
    assert first(reference, 2) is value
    again = other(store.load('mug'), 2)
    assert made == [2]
    if isinstance(value, Bank):
        assert isinstance(again, Bank)
        assert again.extent == 1.5
        assert isinstance(again.extent, float)
        np.testing.assert_array_equal(again.numbers, value.numbers)
    else:
        np.testing.assert_array_equal(again, value)
    first(reference, 3)
    assert made == [2, 3]
    assert len(files(store)) == 2  # both settings may be in use


def test_a_changed_object_is_prepared_anew_and_the_old_goes(store: ObjectDatabase) -> None:
    prepared(bank)(store.load('mug'), 2)
    (old,) = files(store)
    store.save(make_reference(seed=1))
    value = prepared(bank)(store.load('mug'), 2)
    assert made == [2, 2]
    np.testing.assert_array_equal(value.numbers, 2 * make_reference(seed=1).views.T_cam_obj)
    assert len(files(store)) == 1
    assert files(store) != [old]


@pytest.mark.parametrize('changed', ['gaussians', 'views'])
def test_an_object_changed_in_memory_is_not_the_one_on_disk(
    store: ObjectDatabase, changed: str
) -> None:
    reference = store.load('mug')
    other = make_reference(seed=1)
    prepared(array)(reference, 2)
    prepared(array)(replace(reference, **{changed: getattr(other, changed)}), 2)
    assert made == [2, 2]


def test_other_code_prepares_anew(store: ObjectDatabase, monkeypatch) -> None:
    prepared(bank)(store.load('mug'), 2)
    monkeypatch.setattr(module, '_code', lambda file: 'changed')
    prepared(bank)(store.load('mug'), 2)
    assert made == [2, 2]
    assert len(files(store)) == 1


def test_the_code_of_a_maker_is_that_of_what_it_calls(tmp_path: Path) -> None:
    from gs_pose_ros.pose.initialization import view_retrieval
    from gs_pose_ros.pose.verification import keypoints

    of_keypoints = {path.name for path in module._sources(keypoints.__file__)}
    assert {'keypoints.py', 'local_features.py', 'numba_rasterizer.py'} <= of_keypoints
    of_views = {path.name for path in module._sources(view_retrieval.__file__)}
    assert {'view_retrieval.py', 'templates.py', 'numba_rasterizer.py'} <= of_views
    maker, beside = tmp_path / 'maker.py', tmp_path / 'beside.py'
    for path in (maker, beside):
        path.write_text('a = 1')
    before = module._code.__wrapped__(str(maker))
    beside.write_text('a = 2')
    assert module._code.__wrapped__(str(maker)) != before


def damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    'damage',
    [
        damaged,
        lambda path: path.write_bytes(b''),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: np.savez(path, numbers=np.zeros(3)),  # lacks `extent`
        lambda path: path.unlink(),
    ],
    ids=['bit', 'empty', 'cut', 'field', 'gone'],
)
def test_a_damaged_file_is_made_anew(
    store: ObjectDatabase, damage: Callable[[Path], None]
) -> None:
    value = prepared(bank)(store.load('mug'), 2)
    (path,) = files(store)
    damage(path)
    again = prepared(bank)(store.load('mug'), 2)
    np.testing.assert_array_equal(again.numbers, value.numbers)
    assert made == [2, 2]
    prepared(bank)(store.load('mug'), 2)
    assert made == [2, 2]


@pytest.mark.parametrize('decorate', [once_per_object, prepared])
def test_two_threads_never_make_one_twice(store: ObjectDatabase, decorate) -> None:
    def slowly(reference: ObjectReference, settings: int) -> NDArray[np.float64]:
        time.sleep(0.05)
        return array(reference, settings)

    kept, reference, start = decorate(slowly), store.load('mug'), threading.Barrier(4)

    def ask(settings: int) -> NDArray[np.float64]:
        start.wait(10)
        return kept(reference, settings)

    with ThreadPoolExecutor(4) as pool:
        a, b, c, d = pool.map(ask, [2, 2, 2, 3])
    assert a is b is c
    assert d is not a
    assert sorted(made) == [2, 3]


def test_one_that_fails_is_tried_again(store: ObjectDatabase) -> None:
    def fails_once(reference: ObjectReference, settings: int) -> NDArray[np.float64]:
        made.append(settings)
        if len(made) == 1:
            raise ZeroDivisionError
        return reference.box

    kept, reference = prepared(fails_once), store.load('mug')
    with pytest.raises(ZeroDivisionError):
        kept(reference, 2)
    np.testing.assert_array_equal(kept(reference, 2), reference.box)


def test_an_object_without_a_database_is_prepared_in_memory() -> None:
    kept, reference = prepared(bank), make_reference()
    assert kept(reference, 2) is kept(reference, 2)
    assert made == [2]


def test_a_place_that_cannot_be_written_is_no_error(store: ObjectDatabase) -> None:
    (store.root / '.prepared').write_text('a file where the folder would be')
    value = prepared(array)(store.load('mug'), 2)
    np.testing.assert_array_equal(value, 2 * make_reference().box)


def test_it_goes_with_its_object(store: ObjectDatabase) -> None:
    prepared(bank)(store.load('mug'), 2)
    store.remove('mug')
    assert not (store.root / '.prepared' / 'mug').exists()
    assert store.object_ids() == []


@examples(20)
@given(data=st.data())
def test_any_mutation_of_a_file_is_made_anew_or_the_same(
    tmp_path: Path, data: st.DataObject
) -> None:
    made.clear()
    store = ObjectDatabase(tmp_path / 'objects')
    if not store.root.exists():
        store.save(make_reference())
    shutil.rmtree(store.root / '.prepared', ignore_errors=True)
    expected = prepared(bank)(store.load('mug'), 2)
    (path,) = files(store)
    path.write_bytes(data.draw(mutated_bytes(path.read_bytes())))
    again = prepared(bank)(store.load('mug'), 2)
    np.testing.assert_array_equal(again.numbers, expected.numbers)
    assert again.extent == expected.extent
    kept = read_arrays(path, ['numbers'])  # whole again, or never harmed
    np.testing.assert_array_equal(kept['numbers'], expected.numbers)


@pytest.mark.parametrize(
    'damage',
    [damage.fifo, damage.folder, damage.huge, damage.squeezed, damage.link_to('/dev/zero')],
)
def test_what_is_no_file_of_numbers_is_made_anew(
    store: ObjectDatabase, damage: Callable[[Path], None]
) -> None:
    expected = prepared(bank)(store.load('mug'), 2)
    (path,) = files(store)
    damage(path)
    again = prepared(bank)(store.load('mug'), 2)
    np.testing.assert_array_equal(again.numbers, expected.numbers)


def test_only_so_many_files_are_kept(store: ObjectDatabase) -> None:
    reference, kept = store.load('mug'), prepared(bank)
    for settings in range(40):
        kept(reference, settings)
    assert len(files(store)) == 24
    made.clear()
    prepared(bank)(store.load('mug'), 39)  # the newest is among them
    assert made == []
