"""The object database node: services, the latched list, registrations in the background."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from tf2_msgs.msg import TFMessage

from gs_pose_ros.geometry import se3
from gs_pose_ros.msg import ObjectInfo, ObjectList, RegistrationProgress
from gs_pose_ros.nodes import registration_jobs
from gs_pose_ros.nodes.object_database import DatabaseNode
from gs_pose_ros.nodes.runtime.conversions import transform_to_message
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.registration import RegistrationCancelled
from gs_pose_ros.objects.registration import RegistrationProgress as CoreProgress
from gs_pose_ros.objects.sources import RegistrationView
from gs_pose_ros.srv import (
    CancelRegistration,
    ListObjects,
    LoadDatabase,
    RegisterObject,
    RemoveObject,
    SaveDatabase,
)
from test.fakes import make_reference
from test.nodes.conftest import LATCHED, World, header_at
from test.objects.test_sources import CAMERA as BOARD_CAMERA
from test.objects.test_sources import CHARUCO, draw_board, look_at_board


class Fitting:
    """Stands in for the minutes of a registration."""

    def __init__(self) -> None:
        self.views: Sequence[RegistrationView] = ()
        self.settings: Any = None
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def __call__(
        self,
        object_id: str,
        views: Sequence[RegistrationView],
        settings: Any = None,
        on_progress: Callable[[CoreProgress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ObjectReference:
        self.views, self.settings = views, settings
        if on_progress is not None:
            on_progress(CoreProgress('fitting', 0.5, 'half'))
        while not self.gate.wait(0.02):
            if cancelled is not None and cancelled():
                raise RegistrationCancelled(f'{object_id}: registration cancelled')
        if self.broken:
            raise ZeroDivisionError('a bug')
        return make_reference(object_id)


@pytest.fixture
def fitting() -> Fitting:
    return Fitting()


@pytest.fixture
def store(tmp_path: Path) -> ObjectDatabase:
    out = ObjectDatabase(tmp_path / 'objects')
    out.root.mkdir()
    out.save(make_reference())
    return out


@pytest.fixture
def lists(
    world: World,
    store: ObjectDatabase,
    fitting: Fitting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list:
    monkeypatch.setattr(registration_jobs, '_PERIOD_S', 0.0)  # no progress is left out
    world.add(
        DatabaseNode,
        method=fitting,
        parameters={'database': str(store.root), 'allowed_roots': [str(tmp_path)]},
    )
    got = world.listen(ObjectList, 'object_database/objects', LATCHED)
    world.until(lambda: got, 'the latched list')
    return got


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four posed pictures with masks, in the NeRF convention."""
    folder = tmp_path / 'pictures'
    folder.mkdir()
    frames = []
    for k in range(4):
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, 20:40] = 255
        cv2.imwrite(str(folder / f'{k}.png'), np.full((48, 64, 3), 40 * k, np.uint8))
        cv2.imwrite(str(folder / f'mask{k}.png'), mask)
        T = se3.exp([0, 0, 1, 0, 0.1 * k, 0])
        frames.append(
            {
                'file_path': f'{k}.png',
                'mask_path': f'mask{k}.png',
                'transform_matrix': T.tolist(),
            }
        )
    intrinsics = {'fl_x': 60.0, 'fl_y': 60.0, 'cx': 32.0, 'cy': 24.0, 'w': 64, 'h': 48}
    (folder / 'transforms.json').write_text(json.dumps({**intrinsics, 'frames': frames}))
    return folder


def register_request(path: Path, object_id: str = 'can', **fields: Any) -> RegisterObject.Request:
    fields = {'source': RegisterObject.Request.SOURCE_TRANSFORMS, **fields}
    return RegisterObject.Request(object_id=object_id, path=str(path), **fields)


def register(world: World, request: RegisterObject.Request) -> RegisterObject.Response:
    return world.call(RegisterObject, 'object_database/register', request)


def ids(msg: ObjectList) -> list[str]:
    return [info.object_id for info in msg.objects]


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


def test_registration_answers_at_once_and_reports(
    world: World, lists: list, pictures: Path, store: ObjectDatabase, fitting: Fitting
) -> None:
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    fitting.gate.clear()
    answer = register(world, register_request(pictures))
    assert answer.accepted, answer.message
    world.until(lambda: any(p.stage == 'fitting' for p in progress), 'progress')
    listed = world.call(ListObjects, 'object_database/list', ListObjects.Request())
    assert ids(listed.objects) == ['mug']  # a service answers during work; nothing half-made
    fitting.gate.set()
    world.until(lambda: ids(lists[-1]) == ['can', 'mug'], 'the new list')
    world.until(
        lambda: progress[-1].state == RegistrationProgress.STATE_SUCCEEDED, 'the last report'
    )
    assert {p.job_id for p in progress} == {answer.job_id}
    assert progress[-1].fraction == 1.0
    assert progress[-1].psnr == pytest.approx(30.0)
    assert store.load('can').object_id == 'can'
    assert len(fitting.views) == 4
    assert all(view.mask is not None and view.mask.sum() == 400 for view in fitting.views)


def test_cancelled_registration_leaves_the_database(
    world: World, lists: list, pictures: Path, store: ObjectDatabase, fitting: Fitting
) -> None:
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    fitting.gate.clear()
    job_id = register(world, register_request(pictures)).job_id
    world.until(lambda: any(p.stage == 'fitting' for p in progress), 'progress')
    request = CancelRegistration.Request(job_id=job_id)
    assert world.call(CancelRegistration, 'object_database/cancel', request).success
    world.until(
        lambda: progress[-1].state == RegistrationProgress.STATE_CANCELLED, 'the last report'
    )
    assert store.object_ids() == ['mug']
    answer = world.call(CancelRegistration, 'object_database/cancel', request)
    assert not answer.success
    assert job_id in answer.message
    fitting.gate.set()
    assert register(world, register_request(pictures)).accepted  # the next one runs
    world.until(lambda: ids(lists[-1]) == ['can', 'mug'], 'the new list')


def test_a_failed_registration_has_its_reason_and_the_next_one_runs(
    world: World, lists: list, pictures: Path, fitting: Fitting
) -> None:
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    fitting.broken = True
    register(world, register_request(pictures))
    world.until(lambda: progress and progress[-1].state == RegistrationProgress.STATE_FAILED, 'it')
    assert 'a bug' in progress[-1].message
    fitting.broken = False
    (pictures / 'transforms.json').rename(pictures / 'gone.json')
    register(world, register_request(pictures))
    world.until(lambda: 'transforms.json' in progress[-1].message, 'the missing file')
    (pictures / 'gone.json').rename(pictures / 'transforms.json')
    register(world, register_request(pictures))
    world.until(lambda: ids(lists[-1]) == ['can', 'mug'], 'the new list')


@pytest.mark.parametrize(
    ('path', 'fields', 'words'),
    [
        ('/etc', {}, 'allowed_roots'),
        ('{tmp}/../..', {}, 'allowed_roots'),
        ('{tmp}/link', {}, 'allowed_roots'),
        ('', {}, 'path is empty'),
        ('{tmp}/pictures', {'object_id': 'mug'}, 'overwrite'),
        ('{tmp}/pictures', {'object_id': '../mug'}, '../mug'),
        ('{tmp}/pictures', {'source': 9}, 'unknown source'),
        ('{tmp}/pictures', {'source': RegisterObject.Request.SOURCE_BAG}, 'board'),
    ],
    ids=['outside', 'dots', 'link', 'empty', 'taken', 'name', 'source', 'no poses'],
)
def test_refused_requests_say_why(
    world: World, lists: list, pictures: Path, tmp_path: Path, path: str, fields: dict, words: str
) -> None:
    (tmp_path / 'link').symlink_to('/etc')
    request = register_request(Path(), **{'object_id': 'can', **fields})
    request.path = path.format(tmp=tmp_path)
    answer = register(world, request)
    assert not answer.accepted
    assert words in answer.message


def test_box_of_the_request_reaches_the_fit(
    world: World, lists: list, pictures: Path, fitting: Fitting
) -> None:
    request = register_request(pictures)
    request.box_min.x, request.box_min.y, request.box_min.z = -0.1, -0.2, -0.3
    request.box_max.x, request.box_max.y, request.box_max.z = 0.1, 0.2, 0.3
    assert register(world, request).accepted
    world.until(lambda: fitting.settings is not None, 'the fit')
    assert fitting.settings.box == ((-0.1, -0.2, -0.3), (0.1, 0.2, 0.3))


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


def test_registration_from_live_topics_takes_poses_from_tf(
    world: World, lists: list, fitting: Fitting
) -> None:
    request = RegisterObject.Request(
        object_id='can',
        source=RegisterObject.Request.SOURCE_TOPICS,
        object_frame='turntable',
        duration=2.0,
        max_views=5,
    )
    request.box_min.x = request.box_min.y = request.box_min.z = -0.06
    request.box_max.x = request.box_max.y = request.box_max.z = 0.06
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    answer = register(world, request)
    assert answer.accepted, answer.message
    T_cam_obj = se3.from_rotation_translation(np.eye(3), [0.0, 0.0, 0.5])

    color, depth = np.full((48, 64, 3), 60, np.uint8), np.full((48, 64), 0.6, np.float32)
    color[18:30, 26:38], depth[18:30, 26:38] = (200, 40, 40), 0.5

    def show() -> bool:
        stamp_ns = world.show(color, depth)
        transform = transform_to_message(header_at(stamp_ns), 'turntable', T_cam_obj)
        world.send('/tf', TFMessage(transforms=[transform]))
        return ids(lists[-1]) == ['can', 'mug']

    world.until(lambda: any(p.stage == 'reading' for p in progress), 'the recording')
    world.until(show, 'the new list', 20)
    assert len(fitting.views) == 5
    np.testing.assert_allclose(fitting.views[0].T_cam_obj, T_cam_obj, atol=1e-9)
    assert fitting.views[0].mask is not None
    assert fitting.views[0].mask[20:28, 28:36].all()
    assert fitting.views[0].mask.sum() < 20 * 20


def test_registration_from_live_topics_takes_poses_from_a_board(
    world: World, lists: list, fitting: Fitting
) -> None:
    request = RegisterObject.Request(
        object_id='can',
        source=RegisterObject.Request.SOURCE_TOPICS,
        board=RegisterObject.Request.BOARD_CHARUCO,
        board_columns=CHARUCO.columns,
        board_rows=CHARUCO.rows,
        board_square=CHARUCO.square_m,
        board_marker=CHARUCO.marker_m,
        board_dictionary=CHARUCO.dictionary,
        duration=2.0,
        max_views=3,
    )
    # A block of 5 cm stands in the middle of the board, seen from straight above.
    request.box_min.x = request.box_min.y = -0.03
    request.box_min.z = 0.01
    request.box_max.x = request.box_max.y = request.box_max.z = 0.06
    T_cam_board = look_at_board(0.0, 0.3, 0.6)
    color, depth = draw_board(CHARUCO, T_cam_board), np.full((480, 640), 0.6, np.float32)
    block = np.s_[215:257, 301:343]
    color[block], depth[block] = (200, 40, 40), 0.55
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    answer = register(world, request)
    assert answer.accepted, answer.message

    def show() -> bool:
        world.show(color, depth, BOARD_CAMERA)
        return ids(lists[-1]) == ['can', 'mug']

    world.until(lambda: any(p.stage == 'reading' for p in progress), 'the recording')
    world.until(show, 'the new list', 20)
    assert len(fitting.views) == 3
    view = fitting.views[0]
    np.testing.assert_allclose(view.T_cam_obj, T_cam_board, atol=0.005)
    assert view.mask is not None
    assert view.mask[220:250, 310:335].all()
    assert view.mask.sum() < 60 * 60


def test_registration_without_live_images_says_what_is_missing(world: World, lists: list) -> None:
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    request = RegisterObject.Request(
        object_id='can',
        source=RegisterObject.Request.SOURCE_TOPICS,
        object_frame='turntable',
        duration=0.5,
    )
    assert register(world, request).accepted
    world.until(lambda: progress and progress[-1].state == RegistrationProgress.STATE_FAILED, 'it')
    assert 'no images' in progress[-1].message


KILLED = """
import sys, threading
from pathlib import Path
from gs_pose_ros.nodes.object_database import DatabaseNode
from gs_pose_ros.nodes.runtime.stage import run

def endless(object_id, views, settings=None, on_progress=None, cancelled=None):
    print('fitting', flush=True)
    threading.Event().wait()

run(lambda: DatabaseNode(method=endless), sys.argv)
"""


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT], ids=['killed', 'interrupted'])
def test_a_process_that_ends_while_registering_leaves_the_database(
    world: World, store: ObjectDatabase, pictures: Path, tmp_path: Path, how: signal.Signals
) -> None:
    before = store.revision('mug')
    command = [sys.executable, '-c', KILLED, '--ros-args', '-r', f'__ns:={world.namespace}']
    command += ['-p', f'database:={store.root}', '-p', f'allowed_roots:=["{tmp_path}"]']
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        request = register_request(pictures, object_id='mug', overwrite=True)
        answer = world.call(RegisterObject, 'object_database/register', request, 30.0)
        assert answer.accepted, answer.message
        assert process.stdout is not None
        assert process.stdout.readline() == b'fitting\n'
        process.send_signal(how)
        process.wait(20)
    assert store.object_ids() == ['mug']
    assert store.revision('mug') == before
    world.add(DatabaseNode, parameters={'database': str(store.root)})
    got = world.listen(ObjectList, 'object_database/objects', LATCHED)
    world.until(lambda: got, 'the list of the next process')
    assert [info.status for info in got[-1].objects] == [ObjectInfo.STATUS_OK]
