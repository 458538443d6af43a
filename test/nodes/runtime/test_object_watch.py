"""A stage's objects: whatever a list names, the stage lives on and uses the next good one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray

from gs_pose_ros.msg import ObjectInfo, ObjectList
from gs_pose_ros.nodes.runtime.object_watch import ObjectWatch, some_of
from gs_pose_ros.nodes.runtime.stage import Stage, StageSettings
from gs_pose_ros.objects.database import ObjectDatabase
from test import damage
from test.fakes import make_reference
from test.nodes.conftest import LATCHED, World, announce


@dataclass(frozen=True)
class Settings(StageSettings):
    """None of its own."""


class Watching(Stage[Settings]):
    def __init__(self, **kwargs: object) -> None:
        super().__init__('watching', Settings(), **kwargs)

    def configure(self) -> None:
        self._objects = ObjectWatch(self)


def object_list(database: str, *object_ids: str, revision: str = 'r') -> ObjectList:
    msg = ObjectList(database=database)
    for object_id in object_ids:
        info = ObjectInfo(object_id=object_id, revision=revision, status=ObjectInfo.STATUS_OK)
        msg.objects.append(info)
    return msg


@pytest.fixture
def stage(world: World, database: ObjectDatabase) -> Watching:
    made = world.add(Watching)
    assert isinstance(made, Watching)
    world.until(lambda: list(made._objects.references) == ['mug'], 'the good list')
    return made


def recovers(world: World, stage: Watching, database: ObjectDatabase) -> None:
    announce(world, database)
    world.until(lambda: list(stage._objects.references) == ['mug'], 'the next good list')
    assert stage._objects.unusable == {}


@pytest.mark.parametrize(
    ('root', 'object_id', 'message'),
    [
        ('x' * 5000, 'mug', 'no absolute path'),
        ('/' + 'x' * 5000, 'mug', 'File name too long'),
        ('/' + 'x/' * 2500, 'mug', 'File name too long'),
        ('~nosuchuser', 'mug', 'no absolute path'),
        ('relative/path', 'mug', 'no absolute path'),
        ('', 'mug', 'no absolute path'),
        ('{tmp}/file', 'mug', 'file: is no folder of objects'),
        ('{tmp}/loop', 'mug', 'loop'),
        ('/dev/zero', 'mug', 'is no folder of objects'),
        ('/nowhere', 'mug', 'no such object'),
        ('{root}', 'ghost', 'ghost: no such object'),
        ('{root}', '../mug', 'only letters'),
        ('{root}', 'x' * 5000, 'at most 100'),
        ('{root}', '', 'only letters'),
        ('{root}', 'mug\n', 'only letters'),
    ],
)
def test_a_list_that_names_nothing_of_use_leaves_a_reason(
    world: World,
    stage: Watching,
    database: ObjectDatabase,
    tmp_path: Path,
    root: str,
    object_id: str,
    message: str,
) -> None:
    (tmp_path / 'file').write_text('')
    (tmp_path / 'loop').symlink_to('loop')
    health = world.listen(DiagnosticArray, '/diagnostics')
    root = root.format(tmp=tmp_path, root=database.root)
    world.send('object_database/objects', object_list(root, object_id), LATCHED)
    world.until(lambda: stage._objects.unusable, 'a reason')
    assert stage._objects.references == {}
    assert message in stage._objects.why_not(object_id)
    assert len(stage._objects.why_not(object_id)) < 1000
    assert message in stage._objects.reason_for_none()
    world.until(lambda: any(message in s.message for m in health for s in m.status), 'a fault')
    recovers(world, stage, database)


@pytest.mark.parametrize('kind', ['date', 'brackets', 'aliases', 'large'])
def test_a_bad_object_spares_the_others(
    world: World, stage: Watching, database: ObjectDatabase, kind: str
) -> None:
    database.save(make_reference('bad'))
    database.save(make_reference('cup'))
    header = database.root / 'bad' / 'object.yaml'
    header.write_bytes(damage.BAD_YAML[kind])
    announce(world, database)  # as if it was damaged since the list was made
    world.until(lambda: sorted(stage._objects.references) == ['cup', 'mug'], 'the others')
    assert 'bad/object.yaml' in stage._objects.why_not('bad')
    database.save(make_reference('bad'))
    announce(world, database)
    world.until(lambda: len(stage._objects.references) == 3, 'all of them')


def test_many_bad_entries_make_a_short_text(
    world: World, stage: Watching, database: ObjectDatabase
) -> None:
    start = time.monotonic()
    many = object_list(str(database.root), *(f'ghost{k}' for k in range(5000)))
    world.send('object_database/objects', many, LATCHED)
    world.until(lambda: len(stage._objects.unusable) == 5000, 'the long list')
    assert time.monotonic() - start < 5
    assert 'and 4990 more' in stage._objects.reason_for_none()
    assert len(stage._objects.reason_for_none()) < 5000
    recovers(world, stage, database)


def test_some_of_them() -> None:
    assert some_of([]) == ''
    assert some_of('abc') == 'a; b; c'
    assert some_of('abcdefghijkl', ', ') == 'a, b, c, d, e, f, g, h, i, j, and 2 more'
