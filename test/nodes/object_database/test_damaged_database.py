"""The object database node: bad entries are named, the others are offered, from the start on."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter

from gs_pose_ros import regular_files
from gs_pose_ros.msg import ObjectInfo, ObjectList
from gs_pose_ros.nodes.object_database import DatabaseNode
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.srv import ListObjects, LoadDatabase, RemoveObject, SaveDatabase
from test import damage
from test.fakes import make_reference
from test.nodes.conftest import World


def _yaml(kind: str) -> Callable[[Path], None]:
    return lambda folder: (folder / 'object.yaml').write_bytes(damage.BAD_YAML[kind])


def _null_psnr(folder: Path) -> None:
    damage.change_header(folder / 'object.yaml', facts={'psnr_heldout_db': None})


def _many_faces(folder: Path) -> None:
    damage.forget_sums(folder / 'object.yaml')
    ply = folder / 'gaussians.ply'
    ply.write_bytes(ply.read_bytes().replace(b'vertex 60', b'vertex 9000000000000'))


def _as_members(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def damaged(folder: Path) -> None:
        for name in ('object.yaml', 'gaussians.ply', 'views.npz'):
            make(folder / name)

    return damaged


DAMAGES = {
    **{kind: _yaml(kind) for kind in damage.BAD_YAML},
    'null psnr': _null_psnr,
    'faces': _many_faces,
    'fifos': _as_members(damage.fifo),
    'devices': _as_members(damage.link_to('/dev/zero')),
    'huge': _as_members(damage.huge),
    'folders': _as_members(damage.folder),
    'bomb': lambda folder: damage.squeezed(folder / 'views.npz'),
    'byte': lambda folder: damage.flip_byte(folder / 'views.npz'),
}


def listed(world: World) -> ObjectList:
    return world.call(ListObjects, 'object_database/list', ListObjects.Request()).objects


def statuses(msg: ObjectList) -> dict[str, int]:
    return {info.object_id: info.status for info in msg.objects}


def test_the_node_starts_and_answers_with_every_kind_of_bad_object(
    world: World, store: ObjectDatabase, tmp_path: Path
) -> None:
    names = {kind: f'bad_{k}' for k, kind in enumerate(DAMAGES)}
    for kind, damaged in DAMAGES.items():
        store.save(make_reference(names[kind]))
        damaged(store.root / names[kind])
    (store.root / 'my mug').mkdir()
    (store.root / 'my mug' / 'object.yaml').write_text('')
    os.mkdir(os.fsencode(store.root) + b'/\xff\xfe')  # noqa: PTH102 - a name that is no text
    Path(os.fsdecode(os.fsencode(store.root) + b'/\xff\xfe/object.yaml')).write_text('')
    (store.root / 'gone').symlink_to('/not/mounted')
    health = world.listen(DiagnosticArray, '/diagnostics')
    start = time.monotonic()
    roots = {'database': str(store.root), 'allowed_roots': [str(tmp_path)]}
    node = world.add(DatabaseNode, parameters=roots)
    assert node.active
    assert time.monotonic() - start < 20
    broken = {*names.values(), 'my mug', '\\udcff\\udcfe', 'gone'}
    start = time.monotonic()
    infos = listed(world)
    assert time.monotonic() - start < 5  # what is broken is not read again
    bad, good = ObjectInfo.STATUS_BROKEN, ObjectInfo.STATUS_OK
    assert statuses(infos) == {'mug': good, **dict.fromkeys(broken, bad)}
    assert all(info.reason for info in infos.objects if info.status == bad)
    world.until(
        lambda: any(
            'more' in s.message and len(s.message) < 20_000 for m in health for s in m.status
        ),
        'a fault',
    )

    # It copies what is good, and says what it left out.
    copy = tmp_path / 'copy'
    saved = world.call(
        SaveDatabase, 'object_database/save', SaveDatabase.Request(path=str(copy)), 30.0
    )
    assert (saved.success, saved.object_count) == (True, 1), saved.message
    assert 'left out' in saved.message
    loaded = world.call(LoadDatabase, 'object_database/load', LoadDatabase.Request(path=str(copy)))
    assert statuses(loaded.objects) == {'mug': good}
    again = LoadDatabase.Request(path=str(store.root))
    loaded = world.call(LoadDatabase, 'object_database/load', again, 30.0)
    assert statuses(loaded.objects) == statuses(infos)

    # Stored anew they are good; and a bad one can be removed.
    store.save(make_reference(names['date']))
    assert statuses(listed(world))[names['date']] == good
    request = RemoveObject.Request(object_id=names['float'])
    answer = world.call(RemoveObject, 'object_database/remove', request)
    assert answer.success, answer.message
    assert names['float'] not in statuses(listed(world))


def test_an_object_that_may_not_be_read_is_read_when_it_may(
    world: World, store: ObjectDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refused(path: object, *args: int) -> int:
        if str(path).endswith('views.npz'):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return opened(path, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(regular_files.os, 'open', refused)
        world.add(DatabaseNode, parameters={'database': str(store.root)})
        infos = listed(world)
        assert statuses(infos) == {'mug': ObjectInfo.STATUS_BROKEN}
        assert 'views.npz: cannot be read: Permission denied' in infos.objects[0].reason
    assert statuses(listed(world)) == {'mug': ObjectInfo.STATUS_OK}


@pytest.mark.parametrize('root', ['{tmp}/file', '{tmp}/file/below', '/proc/objects'])
def test_a_database_that_is_none_is_a_fault_until_it_is_one(
    world: World, store: ObjectDatabase, tmp_path: Path, root: str
) -> None:
    (tmp_path / 'file').write_text('')
    health = world.listen(DiagnosticArray, '/diagnostics')
    root = root.format(tmp=tmp_path)
    roots = {'database': root, 'allowed_roots': [str(tmp_path)]}
    node = world.add(DatabaseNode, parameters=roots)
    assert node.active
    assert statuses(listed(world)) == {}
    world.until(lambda: any(root in s.message for m in health for s in m.status), 'a fault')
    request = LoadDatabase.Request(path=str(store.root))
    loaded = world.call(LoadDatabase, 'object_database/load', request)
    assert loaded.success, loaded.message
    assert statuses(loaded.objects) == {'mug': ObjectInfo.STATUS_OK}
    assert node._faults == {}


def test_a_database_that_goes_away_and_comes_back_is_listed_again(
    world: World, store: ObjectDatabase, lists: list
) -> None:
    away = store.root.with_name('away')
    store.root.rename(away)
    store.root.write_text('a file now')
    assert statuses(listed(world)) == {}
    assert 'database' in world.stages[0]._faults
    store.root.unlink()
    away.rename(store.root)
    assert statuses(listed(world)) == {'mug': ObjectInfo.STATUS_OK}
    assert world.stages[0]._faults == {}


def test_thousands_of_folders_are_listed(world: World, store: ObjectDatabase) -> None:
    for k in range(3000):
        (store.root / f'empty{k}').mkdir()
    start = time.monotonic()
    world.add(DatabaseNode, parameters={'database': str(store.root)})
    infos = listed(world)
    assert time.monotonic() - start < 10
    assert len(infos.objects) == 3001
    assert statuses(infos)['mug'] == ObjectInfo.STATUS_OK


ODD_PATHS = ['', '~nosuchuser', 'x' * 5000, '{tmp}/' + 'x' * 300, '{tmp}' + '/a' * 2000]
ODD_PATHS += ['{tmp}/loop', '{tmp}/file', '{tmp}/missing', '/dev/zero', '/etc']


def test_paths_of_no_use_are_answered(world: World, lists: list, tmp_path: Path) -> None:
    (tmp_path / 'loop').symlink_to('loop')
    (tmp_path / 'file').write_text('')
    for path in ODD_PATHS:
        request = LoadDatabase.Request(path=path.format(tmp=tmp_path))
        answer = world.call(LoadDatabase, 'object_database/load', request)
        assert not answer.success
        assert 0 < len(answer.message) < 1000
        assert statuses(answer.objects) == {'mug': ObjectInfo.STATUS_OK}
        if not path.endswith('missing'):
            request = SaveDatabase.Request(path=path.format(tmp=tmp_path))
            answer = world.call(SaveDatabase, 'object_database/save', request)
            assert not answer.success
            assert 0 < len(answer.message) < 1000
    assert statuses(listed(world)) == {'mug': ObjectInfo.STATUS_OK}


def test_leftovers_are_gone_at_the_next_start(world: World, store: ObjectDatabase) -> None:
    (store.root / '.new-cup').mkdir()
    (store.root / '.new-cup' / 'views.npz').write_bytes(b'half')
    (store.root / 'mug').rename(store.root / '.old-mug')  # killed between the two renames
    world.add(DatabaseNode, parameters={'database': str(store.root)})
    assert statuses(listed(world)) == {'mug': ObjectInfo.STATUS_OK}
    assert sorted(p.name for p in store.root.iterdir() if p.is_dir()) == ['mug']


def test_a_database_of_an_unknown_user_is_a_fault_until_it_is_another(
    world: World, store: ObjectDatabase
) -> None:
    node = world.add(DatabaseNode, parameters={'database': '~nosuchuser/objects'})
    assert not node.active
    assert '~nosuchuser/objects: no usable path' in node._faults['lifecycle']
    node.set_parameters([Parameter('database', value=str(store.root))])
    node.start()
    assert node.active
    assert statuses(listed(world)) == {'mug': ObjectInfo.STATUS_OK}
