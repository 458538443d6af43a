"""What killed processes left is put right; what still runs, and what is foreign, stays."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.database_copy import copy_database
from gs_pose_ros.objects.leftovers import clear_leftovers
from gs_pose_ros.objects.prepared import prepared
from test import damage
from test.fakes import make_reference

# Each is a process that stops for ever in the middle of its work, having said so.
STOPPED = {
    'saving': """
        database.write_header = stop
        store.save(make_reference('cup'))
    """,
    'replacing': """
        database.write_header = stop
        store.save(make_reference('mug', seed=1))
    """,
    'renaming': """
        rename = Path.rename
        def first(path, target):
            rename(path, target)
            stop()
        Path.rename = first
        store.save(make_reference('mug', seed=1))
    """,
    'removing the old': """
        folder_store.shutil.rmtree = stop
        store.save(make_reference('mug', seed=1))
    """,
    'removing': """
        folder_store.shutil.rmtree = stop
        store.remove('mug')
    """,
    'preparing': """
        prepared.np.savez = stop
        prepared.prepared(made)(store.load('mug'), 1)
    """,
    'beginning to copy': """
        database_copy.locked = stop
        database_copy.copy_database(store, store.root.parent / 'copyN')
    """,
    'copying': """
        database.ObjectDatabase.load = stop
        database_copy.copy_database(store, store.root.parent / 'copyN')
    """,
    'ending a copy': """
        database_copy.shutil.rmtree = stop
        database_copy.copy_database(store, store.root.parent / 'copyN')
    """,
}


@pytest.fixture
def store(tmp_path: Path) -> ObjectDatabase:
    store = ObjectDatabase(tmp_path / 'objects')
    store.save(make_reference())
    return store


@contextmanager
def stopped(store: ObjectDatabase, what: str) -> Iterator[None]:
    """While a process is in the middle of it; killed then."""
    script = f"""
import sys, time
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parents[2])!r}]
import numpy as np
from gs_pose_ros.objects import database, database_copy, folder_store, prepared
from test.fakes import make_reference
store = database.ObjectDatabase(Path({str(store.root)!r}))
def stop(*_, **__):
    print('there', flush=True)
    time.sleep(1000)
def made(reference, settings) -> np.ndarray:
    return reference.box
{textwrap.dedent(STOPPED[what])}
"""
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b'there\n'
        yield
    finally:
        process.kill()
        process.communicate()


def leftovers(store: ObjectDatabase) -> list[str]:
    """All folders and notes of work that has not ended."""
    found = [*store.root.parent.glob('.copyN-*'), *store.root.glob('.new-*')]
    found += [*store.root.glob('.old-*'), *store.root.glob('.copies/*')]
    found += store.root.glob('.prepared/*/.new-*')
    return sorted(str(path.relative_to(store.root.parent)) for path in found)


@pytest.mark.parametrize('what', STOPPED)
def test_what_a_killed_process_left_goes_and_what_a_running_one_needs_stays(
    store: ObjectDatabase, what: str
) -> None:
    with stopped(store, what):
        begun = leftovers(store)
        assert begun
        # A copy has no lock yet at its beginning, and none any more when it is done.
        if what not in ('beginning to copy', 'ending a copy'):
            clear_leftovers(store)
            assert leftovers(store) == begun
    clear_leftovers(store)
    assert leftovers(store) == []
    kept = [] if what == 'removing' else ['mug']
    assert store.object_ids() == kept
    assert sorted(store.load_all()[0]) == kept
    store.save(make_reference('mug', seed=2))
    assert store.load('mug').diameter_m == pytest.approx(0.152)
    if what != 'ending a copy':
        assert not (store.root.parent / 'copyN').exists()
        assert copy_database(store, store.root.parent / 'copyN') == (1, {})
    assert ObjectDatabase(store.root.parent / 'copyN').object_ids() == ['mug']


def test_foreign_folders_of_such_names_stay(store: ObjectDatabase, tmp_path: Path) -> None:
    thesis = 'thesis.tex'
    folders = [store.root / name for name in ('.new-mug', '.old-mug', '.new-cup', '.old-cup')]
    folders += [tmp_path / 'elsewhere' / '.copyN-0123456789abcdef', tmp_path / 'other']
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / thesis).write_text('years of work')
    (store.root / '.copies').mkdir()
    note = store.root / '.copies' / '0123456789abcdef'
    note.write_text(str(folders[-2]))  # of a database that a stranger made
    (folders[-2] / '.copying').write_text('something else')
    (store.root / '.copies' / 'b').write_text(str(tmp_path / 'other'))
    (store.root / '.copies' / 'c').write_bytes(b'\0' * 100)
    damage.fifo(_touched(store.root / '.copies' / 'd'))
    clear_leftovers(store)
    assert all((folder / thesis).read_text() == 'years of work' for folder in folders)
    with pytest.raises(GsPoseError, match=r"\.new-mug: is in the way.*'thesis.tex'"):
        store.save(make_reference())
    assert store.load('mug').object_id == 'mug'


def _touched(path: Path) -> Path:
    path.touch()
    return path


def test_a_link_in_the_place_of_what_is_prepared_is_not_followed(
    store: ObjectDatabase, tmp_path: Path
) -> None:
    for name in ('mug', 'other'):
        (tmp_path / 'home' / name).mkdir(parents=True)
    (store.root / '.prepared').symlink_to(tmp_path / 'home')
    clear_leftovers(store)
    store.remove('mug')
    assert sorted(p.name for p in (tmp_path / 'home').iterdir()) == ['mug', 'other']


@dataclass(frozen=True)
class Bank:
    numbers: NDArray[np.float64]


def bank(reference: ObjectReference, settings: int) -> Bank:
    return Bank(settings * reference.box)


def test_what_was_prepared_of_objects_that_are_gone_goes(store: ObjectDatabase) -> None:
    store.save(make_reference('cup'))
    for name in ('mug', 'cup'):
        prepared(bank)(store.load(name), 1)
    for path in (store.root / 'cup').iterdir():  # by hand, not by `remove`
        path.unlink()
    (store.root / 'cup').rmdir()
    clear_leftovers(store)
    assert [p.name for p in (store.root / '.prepared').iterdir() if p.is_dir()] == ['mug']
    assert len(list((store.root / '.prepared' / 'mug').iterdir())) == 1


def test_folders_that_are_deep_in_each_other_end_nothing(store: ObjectDatabase) -> None:
    here = Path.cwd()
    (store.root / '.prepared' / 'gone').mkdir(parents=True)
    (store.root / '.new-cup').mkdir()
    deep = [store.root / '.prepared' / 'gone', store.root / '.new-cup', store.root / 'mug']
    try:
        for folder in deep:
            os.chdir(folder)
            for _ in range(1100):
                os.mkdir('a')  # noqa: PTH102 - a path of all of them would be too long
                os.chdir('a')
        clear_leftovers(store)
        assert store.load('mug').object_id == 'mug'
        with pytest.raises(GsPoseError, match='mug: is not replaced'):
            store.remove('mug')
    finally:
        os.chdir(here)
        subprocess.run(['rm', '-rf', *map(str, deep)], check=True)


def test_a_read_only_or_odd_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    for root in ('file', 'missing', 'x' * 300, '\0'):
        clear_leftovers(ObjectDatabase(tmp_path / root))
    assert [p.name for p in tmp_path.iterdir()] == ['file']


def test_a_copy_leaves_out_what_is_broken_and_says_so(
    store: ObjectDatabase, tmp_path: Path
) -> None:
    store.save(make_reference('cup'))
    damage.flip_byte(store.root / 'cup' / 'views.npz')
    count, left_out = copy_database(store, tmp_path / 'a' / 'copy')
    assert (count, list(left_out)) == (1, ['cup'])
    assert 'views.npz: damaged' in left_out['cup']
    assert ObjectDatabase(tmp_path / 'a' / 'copy').load('mug').object_id == 'mug'
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        ('file', 'already and not empty'),
        ('objects', 'already and not empty'),
        ('objects/copy', 'in the database itself'),
        ('file/copy', 'file is no folder'),
        ('file/a/copy', 'Not a directory'),
        ('x' * 300, 'File name too long'),
        ('/proc/copy', 'cannot be written'),
        ('\0', 'null'),
    ],
)
def test_a_copy_that_cannot_be_made_says_why_and_leaves_nothing(
    store: ObjectDatabase, tmp_path: Path, target: str, message: str
) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(GsPoseError, match=message):
        copy_database(store, tmp_path / target)
    assert leftovers(store) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ['file', 'objects']
