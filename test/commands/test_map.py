"""`gs-pose map`: a folder of frames becomes a folder of a map."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from gs_pose_ros import cli
from gs_pose_ros.datasets.rgbd_sequences import write_tum_trajectory
from gs_pose_ros.localization.map_store import load_map
from test.localization.room import CAMERA, EYES, camera_pose, view

POSES = [camera_pose(eye) for eye in EYES[:3]]


@pytest.fixture(scope='module')
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('folders') / 'room'
    path.mkdir()
    for k, T in enumerate(POSES):
        frame = view(T)
        assert frame.depth is not None
        for name, picture, dtype in (
            ('rgb', frame.color[..., ::-1] * 255, np.uint8),
            ('depth', frame.depth * 1000, np.uint16),
        ):
            cv2.imwrite(str(path / f'{name}{k}.png'), picture.round().astype(dtype))
    for name in ('rgb', 'depth'):
        lines = [f'{k + 1:.6f} {name}{k}.png' for k in range(len(POSES))]
        (path / f'{name}.txt').write_text('\n'.join(lines))
    camera = (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy, CAMERA.width, CAMERA.height, 1000)
    (path / 'intrinsics.txt').write_text(' '.join(map(str, camera)))
    stamps = [(k + 1) * 10**9 for k in range(len(POSES))]
    write_tum_trajectory(path / 'groundtruth.txt', stamps[:2], POSES[:2])  # the last has no pose
    return path


def test_a_folder_becomes_a_map(
    sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'maps' / 'hall'
    options = ['--map-frame', 'hall', '--settings.fusion.voxel-m', '0.02']
    assert cli.main(['map', 'folder', str(sequence), '--out', str(out), *options]) == 0
    stored = load_map(out)
    assert (stored.scene.voxel_m, stored.frame_id) == (0.02, 'hall')
    assert len(stored.relocalizer.keyframes) == 2
    counts = {k: stored.facts[k] for k in ('source', 'frames', 'skipped', 'without_pose')}
    assert counts == {'source': 'folder room', 'frames': 2, 'skipped': 0, 'without_pose': 1}
    text = ' '.join(capsys.readouterr().err.split())
    assert f'{len(stored.scene)} Gaussians, 2 keyframes, voxel 20 mm' in text
    assert '1 frames are left out: groundtruth.txt has no pose within 0.02 s' in text


def test_a_map_is_replaced_and_nothing_else_is(
    sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'hall'
    command = ['map', 'folder', str(sequence), '--out', str(out)]
    coarse = ['--settings.fusion.voxel-m']
    for voxel_m in (0.04, 0.08):
        assert cli.main([*command, *coarse, str(voxel_m)]) == 0
        assert load_map(out).scene.voxel_m == voxel_m
    shutil.rmtree(out)
    out.mkdir()
    (out / 'thesis.tex').write_text('ten years of work')
    capsys.readouterr()
    assert cli.main(command) == 1
    assert "holds 'thesis.tex', which is not of maps" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ['thesis.tex']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--out', 'a b'], 'map id'),
        (
            ['--out', 'hall', '--settings.fusion.voxel-m', '-0.01'],
            '--settings.fusion.voxel-m is -0.01',
        ),
        (['--out', 'hall', '--frame-list', 'missing.txt'], '--frame-list missing.txt: is not'),
        (['--out', 'hall', '--frame-list', '.'], '--frame-list .: is a folder, a file is needed'),
        (['--out', 'hall', '--max-frames', '-1'], '--max-frames is -1'),
        (['--out', 'hall', '--duration-s', 'nan'], '--duration-s is nan'),
        (
            ['--out', 'hall', '--map-frame', 'a b'],
            "--map-frame 'a b': is not the name of a TF frame",
        ),
        (['--out', 'hall', '--odometry-topic', '/odom'], '--odometry-topic belongs to a bag'),
        (['--out', '~nosuchuser/hall'], '--out ~nosuchuser/hall'),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(
    sequence: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(['map', 'folder', str(sequence), *options]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_camera_that_is_assumed_is_announced_and_stored(
    sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'own'
    shutil.copytree(sequence, folder)
    (folder / 'intrinsics.txt').unlink()
    command = ['map', 'folder', str(folder), '--out', str(tmp_path / 'map')]
    assert cli.main(command) == 1
    assert 'write this file, with one line "fx fy cx cy width' in capsys.readouterr().err
    for path in folder.glob('*.png'):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        cv2.imwrite(str(path), cv2.resize(picture, (640, 480), interpolation=cv2.INTER_NEAREST))
    assert cli.main([*command, '--settings.fusion.voxel-m', '0.02']) == 0
    said = 'own/intrinsics.txt: missing; assumed is a Kinect of the TUM benchmark: fx 525, fy 525'
    assert said in capsys.readouterr().err
    assert str(load_map(tmp_path / 'map').facts['notes']).startswith(said)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--out', '.'], '--out .: exists already'),
        (['--out', 'file/bag'], 'file is a file, not a folder'),
        (['--out', 'bag', '--frame-list', 'none'], '--frame-list none: is not there'),
        (['--out', 'bag', '--tf', 'a b'], "--tf 'a b': is not the name of a TF frame"),
        (['--out', 'bag', '--tf', '/camera'], 'the frame of the camera itself'),
    ],
)
def test_a_bag_that_cannot_be_made_is_said_and_leaves_nothing(
    sequence: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    assert cli.main(['bag', str(sequence), *options]) == 1
    assert message in ' '.join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_frames_of_a_bag_without_a_pose_are_counted(
    sequence: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'bag'
    assert cli.main(['bag', str(sequence), '--out', str(out), '--tf', 'hall']) == 0
    said = capsys.readouterr().err
    assert '3 frames' in said
    assert '1 frames are without TF: groundtruth.txt has no pose within 0.02 s' in said
