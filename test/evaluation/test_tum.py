"""The evaluation of the camera's pose, on a few small pictures of the rendered room."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from gs_pose_ros import cli
from gs_pose_ros.datasets.rgbd_sequences import (
    read_sequence,
    read_tum_trajectory,
    write_tum_trajectory,
)
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Status
from gs_pose_ros.evaluation import camera_protocols, tum
from gs_pose_ros.evaluation.camera_run import FramePose
from gs_pose_ros.evaluation.tum import TumEvaluation
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization import camera_tracker
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.gsplatloc import GSplatLoc
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
CAMERA = Camera(130.0, 130.0, 79.5, 59.5, 160, 120)
FRAMES = 6
QUIET = Console(quiet=True)


@pytest.fixture(scope='module')
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location('room', BENCHMARKS / 'rendered_room.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules['room'] = module  # a dataclass looks there for its types
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp('sequences') / 'room'
    poses = module.trajectory(FRAMES, fps=8.0)
    names = {'rgb': [], 'depth': []}
    for i, T in enumerate(poses):
        color, depth = module.cast(CAMERA, T)
        for name, image in (('rgb', color[..., ::-1]), ('depth', (depth * 5000).round())):
            (folder / name).mkdir(parents=True, exist_ok=True)
            dtype = np.uint8 if name == 'rgb' else np.uint16
            cv2.imwrite(str(folder / name / f'{i:06d}.png'), image.astype(dtype))
            names[name].append(f'{i / 8:.6f} {name}/{i:06d}.png')
    for name, lines in names.items():
        (folder / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    stamps = [i * 125_000_000 for i in range(FRAMES)]
    write_tum_trajectory(folder / 'groundtruth.txt', stamps, poses)
    (folder / 'intrinsics.txt').write_text('130 130 79.5 59.5 160 120 5000\n')
    return folder


@pytest.fixture
def list_of(tmp_path: Path):
    def write(*numbers: int) -> Path:
        path = tmp_path / f'list_{"_".join(map(str, numbers))}.txt'
        path.write_text('\n'.join(f'{n:06d}' for n in numbers) + '\n')
        return path

    return write


def _without_depth(room: Path, target: Path, number: int) -> Path:
    shutil.copytree(room, target)
    cv2.imwrite(str(target / f'depth/{number:06d}.png'), np.zeros((120, 160), np.uint16))
    return target


def test_a_frame_to_frame_pose_is_better_than_none(room: Path, tmp_path: Path) -> None:
    pytest.importorskip('small_gicp')
    path, report = tmp_path / 'out' / 'a.json', tmp_path / 'report'
    TumEvaluation(room, json=path, report=report).run(QUIET)
    figures = json.loads(path.read_text())
    assert list(figures['rows']) == ['no motion', 'constant velocity', 'gicp', 'lm']
    still, lm = figures['rows']['no motion'], figures['rows']['lm']
    assert lm['lost'] == 0
    assert lm['median_trans_mm'] < 0.2 * still['median_trans_mm']
    assert lm['p95_rot_deg'] < 0.2 * still['p95_rot_deg']
    assert figures['rows']['gicp']['median_trans_mm'] < still['median_trans_mm']
    assert lm['ms_p95'] >= lm['ms_p50'] > 0 and lm['map_ms_p50'] > 0
    assert still['ms_p50'] is None
    # Where it came from is there, where it lies on this machine is not.
    assert {'commit', 'machine', 'libraries', 'settings', 'meaning', 'map'} <= set(figures)
    assert figures['settings']['root'] == 'room'
    assert str(tmp_path) not in path.read_text() and str(room.parent) not in path.read_text()
    assert [row['frame'] for row in figures['frames']['lm']] == [
        f'{i:06d}' for i in range(1, FRAMES)
    ]
    assert {'stamp_ns', 'found', 'trans_mm', 'rot_deg', 'ms', 'overlap'} <= set(
        figures['frames']['lm'][0]
    )
    stamps, poses = read_tum_trajectory(report / 'trajectories' / 'lm.txt')
    assert stamps == pytest.approx([i / 8 for i in range(1, FRAMES)])
    true = [frame.T_world_cam for frame in read_sequence(room)]
    assert np.linalg.norm(np.array(poses) - np.array(true[1:]), axis=(1, 2)).max() < 0.02
    assert (report / 'trajectories' / 'truth.txt').is_file()
    assert (report / 'trajectory.png').is_file() and (report / 'errors.png').is_file()
    pictures = sorted((report / 'frames').iterdir())
    assert len(pictures) == FRAMES - 1
    assert cv2.imread(str(pictures[0])).shape[1] == 4 * 320


def test_the_command_line_takes_its_options(
    room: Path, tmp_path: Path, list_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = functools.partial(GSplatLoc, max_steps=2)
    monkeypatch.setattr(camera_protocols, 'GSplatLoc', quick)
    monkeypatch.setitem(sys.modules, 'small_gicp', None)  # as if not installed
    command = ['eval', 'tum', '--root', str(room), '--query-frames', str(list_of(0, 1, 3, 4))]
    few = ['--max-pairs', '2', '--paper-pairs', '1', '--json', str(tmp_path / 'a.json')]
    assert cli.main([*command, *few]) == 0
    figures = json.loads((tmp_path / 'a.json').read_text())
    counts = {name: row['frames'] for name, row in figures['rows'].items()}
    assert counts == {
        'no motion': 2,
        'constant velocity': 2,
        'lm': 2,
        'lm, the same pairs': 1,
        'paper': 1,
        'paper, drawn depth': 1,
    }
    assert 'pip install small_gicp' in figures['left_out']['gicp']
    assert [row['frame'] for row in figures['frames']['lm']] == ['000001', '000004']


def test_a_frame_without_depth_is_lost_and_no_error(room: Path, tmp_path: Path) -> None:
    broken = _without_depth(room, tmp_path / 'broken', 2)
    figures = TumEvaluation(broken).run(QUIET)
    # Frame 2 cannot be found, and frame 3 has no map.
    for name in ('lm', 'gicp') if 'gicp' in figures['rows'] else ('lm',):
        assert figures['rows'][name]['lost'] == 2
        assert figures['rows'][name]['scored'] == FRAMES - 3
        assert [row['frame'] for row in figures['lost'][name]] == ['000002', '000003']
        assert all(row['reason'] for row in figures['lost'][name])
    assert 'no motion' not in figures['lost']


class _Tracker:
    """Refines the last pose, and loses its third frame."""

    def __init__(self, scene, relocalizer=None, settings=None, localizer=None) -> None:
        self.scene, self.relocalizer, self.localizer = scene, relocalizer, localizer
        self.T_map_cam, self.count = None, 0

    def reset(self, T_map_cam=None) -> None:
        self.T_map_cam = T_map_cam

    def track(self, frame: RGBDFrame, T_last_cam=None) -> CameraEstimate:
        if self.T_map_cam is None:
            self.T_map_cam = self.relocalizer.candidates(frame, self.scene)[0]
        self.count += 1
        estimate = self.localizer.refine(frame, self.scene, self.T_map_cam)
        self.T_map_cam = estimate.T_map_cam
        return estimate.lost('the third') if self.count == 3 else estimate


def _first_keyframe(relocalizer: KeyframeRelocalizer, frame, scene) -> list[np.ndarray]:
    """Says that the camera is at the first map frame."""
    return [relocalizer.keyframes[0].T_map_cam]


@pytest.fixture
def fake_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyframeRelocalizer, 'candidates', _first_keyframe)
    monkeypatch.setattr(camera_tracker, 'CameraTracker', _Tracker)


@pytest.mark.usefixtures('fake_tracker')
@pytest.mark.parametrize('start', ['truth', 'relocalize'])
def test_a_camera_is_followed_through_a_map(room: Path, tmp_path: Path, list_of, start) -> None:
    pytest.importorskip('small_gicp')
    evaluation = TumEvaluation(
        room,
        protocol='b',
        map_frames=list_of(0, 3),
        start=start,
        json=tmp_path / 'b.json',
        report=tmp_path / 'report',
    )
    evaluation.run(QUIET)
    figures = json.loads((tmp_path / 'b.json').read_text())
    rows = figures['rows']
    assert list(rows) == ['no motion', 'gicp frame to frame', 'gicp frame to map', 'lm']
    assert {row['frames'] for row in rows.values()} == {FRAMES - 2}
    assert figures['map']['frames'] == 2 and figures['map']['queries_in_it'] == 0
    lm = rows['lm']
    assert lm['ate_rmse_cm'] < 0.5 < rows['no motion']['ate_rmse_cm']
    assert lm['ate_rmse_aligned_cm'] < lm['ate_rmse_cm'] + 1e-6
    assert lm['rpe_pairs'] == 1  # the lost frame is an end of the other two
    assert lm['hz'] == pytest.approx(1000 / lm['ms_p50'])
    assert figures['lost'] == {'lm': [{'frame': '000004', 'reason': 'the third'}]}
    assert lm['lost'] == 1 and lm['scored'] == 3
    assert (tmp_path / 'report' / 'frames' / '000004_lost.png').is_file()
    assert len(read_tum_trajectory(tmp_path / 'report' / 'trajectories' / 'lm.txt')[0]) == 3


@pytest.mark.usefixtures('fake_tracker')
def test_queries_without_a_true_pose_are_followed_and_not_scored(
    room: Path, tmp_path: Path
) -> None:
    partial = tmp_path / 'partial'
    shutil.copytree(room, partial)
    lines = (partial / 'groundtruth.txt').read_text().splitlines()
    (partial / 'groundtruth.txt').write_text('\n'.join([*lines[:1], *lines[2:4], *lines[5:]]))
    figures = TumEvaluation(partial, protocol='b', map_root=room, start='truth').run(QUIET)
    # Frame 0 has no truth to start from, frame 3 (which is lost as well) none to compare with.
    assert [row['frame'] for row in figures['frames']['lm']] == [
        f'{i:06d}' for i in range(1, FRAMES)
    ]
    assert figures['rows']['lm']['scored'] == FRAMES - 2
    (unknown,) = [row for row in figures['frames']['lm'] if row['trans_mm'] is None]
    assert unknown['frame'] == '000003'


def test_what_cannot_be_evaluated_is_named(
    room: Path, tmp_path: Path, list_of, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(['eval', 'tum', '--root', str(tmp_path / 'nowhere')]) == 1
    assert 'nowhere: is not there, a folder is needed' in capsys.readouterr().err
    for options, message in (
        ({'query_frames': list_of(1, 77)}, 'names 000077, which the sequence has not'),
        ({'query_frames': list_of(1)}, 'two frames with a true pose, there are 1'),
        ({'map_frames': list_of(1)}, 'belong to protocol b'),
        ({'protocol': 'b'}, 'needs --map-frames or --map-root'),
        ({'protocol': 'b', 'map_frames': list_of(9)}, 'names 000009'),
        ({'protocol': 'b', 'map_frames': list_of(*range(FRAMES))}, 'none is left'),
        ({'protocol': 'b', 'map_root': tmp_path}, 'has neither'),
    ):
        with pytest.raises(GsPoseError, match=message):
            TumEvaluation(room, **options).run(QUIET)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'json': Path('folder')}, '--json .*folder: is a folder, a file is needed'),
        ({'report': Path('file/report')}, '--report .*file is a file, not a folder'),
        ({'query_frames': Path('folder')}, '--query-frames .*is a folder, a file is needed'),
        ({'query_frames': Path('none')}, '--query-frames none: is not there'),
        ({'protocol': 'b', 'map_root': Path('file')}, '--map-root file: is a file'),
        ({'max_pairs': -1}, '--max-pairs is -1'),
        ({'paper_pairs': -2}, '--paper-pairs is -2'),
        ({'voxel_m': -0.01}, '--voxel-m is -0.01'),
        ({'voxel_m': float('nan')}, '--voxel-m is nan'),
    ],
)
def test_options_are_checked_before_anything_is_read(
    room: Path,
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').write_text('')
    monkeypatch.setattr(tum, 'read_sequence', None)
    with pytest.raises(GsPoseError, match=message):
        replace(TumEvaluation(room), **change).run(QUIET)


def test_what_is_left_out_of_a_sequence_is_in_the_report(room: Path, tmp_path: Path) -> None:
    partial = tmp_path / 'partial'
    shutil.copytree(room, partial)
    (partial / 'rgb' / '000001.png').unlink()
    lost = (partial / 'groundtruth.txt').read_text().split('\n')[4].split()[0]
    (partial / 'groundtruth.txt').write_text(
        re.sub(
            rf'^{lost} .*$', lost + ' nan' * 7, (room / 'groundtruth.txt').read_text(), flags=re.M
        )
    )
    figures = TumEvaluation(partial, max_pairs=1).run(QUIET)
    assert figures['notes'] == [
        'partial/groundtruth.txt: 1 of 6 rows hold NaN or infinity and are left out',
        '1 pictures are left out: its picture of rgb.txt is missing, as rgb/000001.png',
    ]


def test_a_lost_frame_is_lost_without_a_reason_too(room: Path) -> None:
    estimate = CameraEstimate(np.eye(4), Status.LOST)
    assert not FramePose.of(read_sequence(room)[0], estimate, 0.1).found
