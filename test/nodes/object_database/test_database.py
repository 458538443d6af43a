"""The object database node: the latched list, and services that list, remove, save and load."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray

from gs_pose_ros.msg import ObjectInfo, ObjectList
from gs_pose_ros.nodes.object_database import DatabaseNode
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.srv import ListObjects, LoadDatabase, RemoveObject, SaveDatabase
from test.fakes import make_reference
from test.nodes.conftest import LATCHED, World

from .conftest import ids


def test_list_says_what_loaded_and_what_is_broken(
    world: World, store: ObjectDatabase, tmp_path: Path
) -> None:
    store.save(make_reference('can'))
    store.save(make_reference('half'))
    (store.root / 'can' / 'views.npz').write_bytes(b'PK half a file')
    (store.root / 'half' / 'gaussians.ply').unlink()
    health = world.listen(DiagnosticArray, '/diagnostics')
    world.add(DatabaseNode, parameters={'database': str(store.root)})
    late = world.listen(ObjectList, 'object_database/objects', LATCHED)  # after it was published
    world.until(lambda: late, 'the latched list')
    infos = {info.object_id: info for info in late[-1].objects}
    assert infos['mug'].status == ObjectInfo.STATUS_OK
    assert infos['mug'].diameter == pytest.approx(0.15)
    assert infos['mug'].psnr == pytest.approx(30.0)
    assert (infos['mug'].gaussian_count, infos['mug'].view_count) == (60, 4)
    assert infos['can'].status == ObjectInfo.STATUS_BROKEN
    assert 'views.npz' in infos['can'].reason
    assert 'gaussians.ply' in infos['half'].reason
    world.until(
        lambda: any('views.npz' in s.message for m in health for s in m.status), 'diagnostics'
    )


def test_remove(world: World, lists: list, store: ObjectDatabase) -> None:
    call = lambda name: world.call(  # noqa: E731
        RemoveObject, 'object_database/remove', RemoveObject.Request(object_id=name)
    )
    answer = call('ghost')
    assert not answer.success
    assert 'ghost' in answer.message
    assert call('mug').success
    world.until(lambda: ids(lists[-1]) == [], 'the new list')
    assert not (store.root / 'mug').exists()


def test_save_and_load(world: World, lists: list, tmp_path: Path) -> None:
    def save(path: Path) -> SaveDatabase.Response:
        request = SaveDatabase.Request(path=str(path))
        return world.call(SaveDatabase, 'object_database/save', request)

    def load(path: Path) -> LoadDatabase.Response:
        request = LoadDatabase.Request(path=str(path))
        return world.call(LoadDatabase, 'object_database/load', request)

    copy = tmp_path / 'a' / 'copy'
    answer = save(copy)
    assert (answer.success, answer.object_count) == (True, 1), answer.message
    again = save(copy)
    assert not again.success
    assert 'not empty' in again.message
    assert not save(Path('/root/../etc/x')).success
    missing = load(tmp_path / 'missing')
    assert not missing.success
    assert 'missing' in missing.message
    assert not load(Path('/etc')).success
    loaded = load(copy)
    assert loaded.success
    assert loaded.objects.database == str(copy.resolve())
    world.until(lambda: lists[-1].database == str(copy.resolve()), 'the new list')
    assert ids(lists[-1]) == ['mug']


def test_objects_are_listed_while_another_database_is_read(
    world: World, lists: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ObjectDatabase(tmp_path / 'other')
    other.root.mkdir()
    other.save(make_reference('cup'))
    begun, enough, load = threading.Event(), threading.Event(), ObjectDatabase.load

    def slow(database: ObjectDatabase, object_id: str) -> ObjectReference:
        if database.root == other.root:
            begun.set()
            enough.wait(20.0)
        return load(database, object_id)

    monkeypatch.setattr(ObjectDatabase, 'load', slow)
    client = world.node.create_client(LoadDatabase, 'object_database/load')
    assert client.wait_for_service(10)
    loaded = client.call_async(LoadDatabase.Request(path=str(other.root)))
    assert begun.wait(10.0)
    answer = world.call(ListObjects, 'object_database/list', ListObjects.Request())
    assert ids(answer.objects) == ['mug']
    assert not loaded.done()
    enough.set()
    world.until(loaded.done, 'the other database')
    world.until(lambda: ids(lists[-1]) == ['cup'], 'its list')


def test_an_object_put_there_by_others_is_listed(
    world: World, lists: list, store: ObjectDatabase
) -> None:
    store.save(make_reference('can'))
    listed = world.call(ListObjects, 'object_database/list', ListObjects.Request())
    assert ids(listed.objects) == ['can', 'mug']
