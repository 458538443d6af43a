"""Registrations by the object database node: in the background, cancelled, failed, refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import Point

from gs_pose_ros.msg import ObjectInfo, ObjectList, RegistrationProgress
from gs_pose_ros.nodes.object_database import DatabaseNode
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.recording.bag_writing import write_bag
from gs_pose_ros.srv import CancelRegistration, ListObjects, RegisterObject
from test.nodes.conftest import LATCHED, World
from test.recording.small_bags import COLOR, COUNT, DEPTH, changed, recording

from .conftest import Fitting, ids, register, register_request


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


def test_what_a_registration_went_without_is_said(
    world: World, lists: list, tmp_path: Path, fitting: Fitting
) -> None:
    messages = changed(recording(), DEPTH, lambda k, msg: None if k == 1 else msg)
    write_bag(tmp_path / 'bag', messages)
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    request = register_request(
        tmp_path / 'bag', source=RegisterObject.Request.SOURCE_BAG, object_frame='world'
    )
    request.box_min.x, request.box_min.y, request.box_min.z = -0.3, -0.3, 0.9
    request.box_max.x, request.box_max.y, request.box_max.z = 0.3, 0.3, 1.1
    request.color_topic, request.stamp_tolerance = COLOR, 0.01
    assert register(world, request).accepted
    world.until(lambda: progress and progress[-1].stage == 'end', 'the last report')
    assert progress[-1].state == RegistrationProgress.STATE_SUCCEEDED, progress[-1].message
    assert f'1 images were left out: 1: no image on {DEPTH} has' in progress[-1].message
    assert len(fitting.views) == COUNT - 1
    request.object_id, request.depth_topic = 'cup', '/no/such'
    assert register(world, request).accepted
    failed = RegistrationProgress.STATE_FAILED
    world.until(lambda: progress[-1].state == failed, 'the failure')
    assert 'has no depth topic /no/such' in progress[-1].message


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
    good = (pictures / 'transforms.json').read_bytes()
    (pictures / 'transforms.json').write_text('{')
    register(world, register_request(pictures))
    world.until(lambda: 'transforms.json' in progress[-1].message, 'the broken file')
    (pictures / 'transforms.json').write_bytes(good)
    register(world, register_request(pictures))
    world.until(lambda: ids(lists[-1]) == ['can', 'mug'], 'the new list')


TOPICS = {'source': RegisterObject.Request.SOURCE_TOPICS}
BOX = {'box_min': Point(x=-0.1, y=-0.1, z=0.0), 'box_max': Point(x=0.1, y=0.1, z=0.1)}
BOARD = {
    'board': RegisterObject.Request.BOARD_CHARUCO,
    'board_columns': 8,
    'board_rows': 6,
    'board_square': 0.03,
    'board_marker': 0.02,
}


@pytest.mark.parametrize(
    ('path', 'fields', 'words'),
    [
        ('/etc', {}, 'allowed_roots'),
        ('{tmp}/../..', {}, 'allowed_roots'),
        ('{tmp}/link', {}, 'allowed_roots'),
        ('', {}, 'path is empty'),
        ('{tmp}/pictures', {'object_id': 'mug'}, 'overwrite'),
        ('{tmp}/pictures', {'object_id': '../mug'}, '../mug'),
        ('{tmp}/pictures', {'source': 9}, 'source is 9'),
        ('{tmp}/pictures', {'source': RegisterObject.Request.SOURCE_BAG}, 'is no bag'),
        ('', TOPICS, 'give a board'),
        ('', {**TOPICS, 'object_frame': 'mug'}, '3-D box of the object'),
        ('', {**TOPICS, 'object_frame': 'mug', **BOX, 'mask_mode': 1}, 'come without masks'),
        (
            '',
            {**TOPICS, 'object_frame': 'mug', **BOX, 'metres_per_unit': 1.0},
            'is for transforms.json alone',
        ),
        ('{tmp}/pictures', BOARD, 'is for bags and topics alone'),
        ('{tmp}/objects', {}, 'has no transforms.json'),
        ('{tmp}/none', {}, 'is not there'),
        ('{tmp}/pictures', {'source': RegisterObject.Request.SOURCE_BOP}, 'it is a capture with'),
        ('{tmp}/pictures', {'metres_per_unit': -1.0}, 'metres_per_unit (--metres-per-unit) is -1'),
        (
            '{tmp}/pictures',
            {'metres_per_unit': float('inf')},
            'metres_per_unit (--metres-per-unit) is inf',
        ),
        ('{tmp}/pictures', {'duration': float('nan')}, 'duration is nan'),
        ('{tmp}/pictures', {'box_min': Point(x=float('nan'))}, 'box_min [nan'),
        (
            *('{tmp}/pictures', {'box_min': Point(x=-1e999, y=-1.0, z=-1.0)}),
            'box_min [-inf',
        ),
        ('{tmp}/pictures', {**BOARD, 'board_dictionary': 'DICT_9'}, "'DICT_9' is unknown"),
        ('{tmp}/pictures', {**BOARD, 'board_columns': 0}, 'board of 0 x 6 squares'),
        ('{tmp}/pictures', {**BOARD, 'board_columns': 60_000}, 'needs 180000 markers'),
        ('{tmp}/pictures', {**BOARD, 'board_square': float('nan')}, 'side of a square is nan'),
        ('{tmp}/pictures', {**BOARD, 'board_marker': 0.03}, 'do not fit into squares'),
        ('{tmp}/pictures', {**BOARD, 'board': 7}, 'board is 7'),
    ],
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


def test_the_line_of_registrations_has_an_end(
    world: World, lists: list, pictures: Path, fitting: Fitting
) -> None:
    fitting.gate.clear()
    answers = [register(world, register_request(pictures, f'can{k}')) for k in range(25)]
    accepted = [answer for answer in answers if answer.accepted]
    assert 20 <= len(accepted) <= 21  # one is at work, or about to be
    assert all('20 registrations wait already' in a.message for a in answers if not a.accepted)
    for answer in accepted:
        request = CancelRegistration.Request(job_id=answer.job_id)
        assert world.call(CancelRegistration, 'object_database/cancel', request).success
    fitting.gate.set()
    world.until(lambda: register(world, register_request(pictures)).accepted, 'room for the next')
    world.until(lambda: ids(lists[-1]) == ['can', 'mug'], 'the new list')


def test_box_of_the_request_reaches_the_fit(
    world: World, lists: list, pictures: Path, fitting: Fitting
) -> None:
    request = register_request(pictures)
    request.box_min.x, request.box_min.y, request.box_min.z = -0.1, -0.2, -0.3
    request.box_max.x, request.box_max.y, request.box_max.z = 0.1, 0.2, 0.3
    assert register(world, request).accepted
    world.until(lambda: fitting.settings is not None, 'the fit')
    assert fitting.settings.box == ((-0.1, -0.2, -0.3), (0.1, 0.2, 0.3))


def test_files_name_nothing_outside_of_the_allowed_roots(
    world: World, lists: list, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A person at the command line may point anywhere; who can call the service may not."""
    outside = tmp_path_factory.mktemp('outside') / 'secret.png'
    outside.write_bytes((pictures / '0.png').read_bytes())
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    content = json.loads((pictures / 'transforms.json').read_text())
    content['frames'][2]['file_path'] = str(outside)
    (pictures / 'transforms.json').write_text(json.dumps(content))
    register(world, register_request(pictures))
    world.until(lambda: progress and progress[-1].state == RegistrationProgress.STATE_FAILED, 'it')
    assert 'allowed_roots' in progress[-1].message
    assert 'secret.png' in progress[-1].message


def test_the_unit_of_the_request_scales_the_poses_and_what_was_odd_is_said(
    world: World, lists: list, pictures: Path, fitting: Fitting
) -> None:
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    (pictures / '3.png').unlink()

    def final() -> RegistrationProgress:
        world.until(lambda: progress and progress[-1].stage == 'end', 'the last report')
        return progress[-1]

    assert register(world, register_request(pictures)).accepted
    said = final().message
    assert '1 of 4 pictures are not there' in said
    assert 'set metres_per_unit' in said  # no depth: nobody knows
    position = fitting.views[1].T_cam_obj[:3, 3]
    progress.clear()
    request = register_request(pictures, overwrite=True, metres_per_unit=0.1)
    assert register(world, request).accepted
    assert 'metres_per_unit' not in final().message
    np.testing.assert_allclose(fitting.views[1].T_cam_obj[:3, 3], 0.1 * position)


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
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(process.kill)  # or a failure here would wait for it without end
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
