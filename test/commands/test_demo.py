"""The demo: what is registered anew, its verdict and its picture, and how a run ends."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gs_pose_ros import graph
from gs_pose_ros.commands.demo import Demo
from gs_pose_ros.commands.demo_data import DATA, DemoData, RegistrationRecord
from gs_pose_ros.commands.demo_results import accuracy_table, save_picture
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.evaluation.evaluation import Evaluation, evaluate_poses
from gs_pose_ros.evaluation.truth import read_truth
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectDatabase
from test.fakes import make_reference

from .conftest import NAMES, printed


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(GsPoseError, match=r'models_info.json: missing; --data'):
        Demo(out=tmp_path / 'out', data=tmp_path).run()
    (tmp_path / 'models').mkdir()
    (tmp_path / 'models' / 'models_info.json').write_text('{"1": {}}')
    with pytest.raises(GsPoseError, match=r'models_info.json: not readable'):
        _ = DemoData(tmp_path).names


# ---- repeated runs ----


def test_objects_are_registered_again_only_when_something_changed(tmp_path: Path) -> None:
    database = ObjectDatabase(tmp_path / 'objects')
    database.root.mkdir()
    record = RegistrationRecord(tmp_path / 'registered.json', database)
    assert not record.is_current('mug', 'abc')
    database.save(make_reference('mug'))
    record.note('mug', 'abc')
    assert record.is_current('mug', 'abc')
    assert not record.is_current('mug', 'other pictures')
    database.save(make_reference('mug', seed=1))  # somebody else registered it
    assert not record.is_current('mug', 'abc')
    record.note('mug', 'abc')
    database.remove('mug')
    assert not record.is_current('mug', 'abc')


@pytest.mark.parametrize('text', ['', '[1, 2]', '{"mug": 3}', 'no json'])
def test_a_broken_record_means_registering_again(tmp_path: Path, text: str) -> None:
    database = ObjectDatabase(tmp_path / 'objects')
    database.root.mkdir()
    database.save(make_reference('mug'))
    record = RegistrationRecord(tmp_path / 'registered.json', database)
    record.path.write_text(text)
    assert not record.is_current('mug', 'abc')


def test_content_changes_with_the_pictures(tmp_path: Path, data: DemoData) -> None:
    copy = DemoData(tmp_path)
    shutil.copytree(data.references / '000001', copy.references / '000001')
    assert copy.content(1) == data.content(1)
    (copy.references / '000001' / 'rgb' / '000003.jpg').write_bytes(b'another picture')
    assert copy.content(1) != data.content(1)
    with pytest.raises(GsPoseError, match='no reference pictures'):
        copy.content(2)


# ---- results ----


def perfect_evaluation(data: DemoData, error_m: float = 0.0) -> Evaluation:
    """As if the nodes had found everything, too far away by an error."""
    truth, objects = read_truth(data.root, 'test', data.names, data.frames[0].camera)
    shift = se3.exp([0, 0, error_m, 0, 0, 0])
    estimates = [
        (image.stamp_ns or 0, i.object_id, shift @ i.T_cam_obj, 0.9)
        for image in truth
        for i in image.instances
    ]
    return evaluate_poses(estimates, truth, objects)


def test_verdict_follows_the_poses(
    data: DemoData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = Demo(out=tmp_path)
    good, bad = perfect_evaluation(data), perfect_evaluation(data, error_m=0.05)
    assert demo._verdict(good) == 0
    assert '100.0%' in printed(accuracy_table(good))
    assert demo._verdict(bad) == 1
    assert 'ADD(S)-0.1d is 0.0%, 90% is required' in capsys.readouterr().err.replace('\n', ' ')


def test_frames_without_a_pose_are_misses(data: DemoData) -> None:
    truth, objects = read_truth(data.root, 'test', data.names, data.frames[0].camera)
    first = truth[0]
    estimates = [(first.stamp_ns or 0, i.object_id, i.T_cam_obj, 0.9) for i in first.instances]
    evaluation = evaluate_poses(estimates, truth, objects)
    assert evaluation.overall['adds_0.1d'] == pytest.approx(1 / 60)
    assert '1.7%' in printed(accuracy_table(evaluation))


def test_picture_shows_the_poses(data: DemoData, tmp_path: Path) -> None:
    import cv2

    truth, _ = read_truth(data.root, 'test', data.names, data.frames[0].camera)
    estimates = [
        (image.stamp_ns or 0, i.object_id, i.T_cam_obj, 0.9)
        for image in truth
        for i in image.instances
    ]
    references = {name: make_reference(name) for name in NAMES.values()}
    save_picture(tmp_path / 'with.png', data.frames, estimates, references)
    save_picture(tmp_path / 'without.png', data.frames, [], references)
    drawn, plain = (cv2.imread(str(tmp_path / f'{n}.png')) for n in ('with', 'without'))
    assert drawn.shape == plain.shape == (1200, 1600, 3)
    changed = (drawn != plain).any(-1)
    assert all(tile.any() for half in np.split(changed, 2) for tile in np.split(half, 2, axis=1))


# ---- whole runs ----


@pytest.mark.slow
def test_a_node_that_dies_ends_the_demo_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = graph.command

    def command(node: graph.GraphNode, arguments: graph.GraphArguments) -> list[str]:
        if node.executable == 'detector':
            return [sys.executable, '-c', "raise SystemExit('no memory left')"]
        return whole(node, arguments)

    monkeypatch.setattr(graph, 'command', command)
    with pytest.raises(GsPoseError, match=r'(?s)detector ended with code 1.*no memory left'):
        Demo(out=tmp_path).run()


@pytest.mark.slow
def test_a_killed_demo_takes_its_nodes_along(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'gs_pose_ros.cli', 'demo', '--out', str(tmp_path)]
    demo = subprocess.Popen(command, cwd=DATA.parents[1], stdout=subprocess.DEVNULL)
    log = tmp_path / 'logs' / 'object_database.log'
    deadline = time.monotonic() + 60
    while not (log.exists() and '0 objects' in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    nodes = children(demo.pid)
    values = dataclasses.asdict(graph.GraphArguments())
    assert len(nodes) == sum(node.wanted(values) for node in graph.NODES)
    demo.terminate()
    assert demo.wait(60) == 128 + signal.SIGTERM
    assert not [pid for pid in nodes if Path(f'/proc/{pid}').exists()]


def children(pid: int) -> list[int]:
    """The processes that a process has started, Linux."""
    out = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            parent = int(stat.read_text().rpartition(')')[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == pid:
            out.append(int(stat.parent.name))
    return out


def test_demo_is_a_command_with_documented_fields() -> None:
    assert {f.name for f in dataclasses.fields(Demo)} == {
        'out',
        'data',
        'rate',
        'fresh',
        'required',
    }
