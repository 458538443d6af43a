"""`gs-pose register`: what is wrong with the arguments is said before the work starts."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gs_pose_ros import cli
from gs_pose_ros.commands import register as command
from gs_pose_ros.objects.database import ObjectDatabase
from test import synthetic
from test.datasets.bop_set import write_bop_scene
from test.fakes import make_reference
from test.objects.capture_folder import camera_to_world_gl, write_capture


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The views that reach the fit, which takes no time."""
    got: list[Any] = []

    def register(object_id: str, views: Any, *_: Any) -> Any:
        got.append(views)
        reference = make_reference(object_id)
        return replace(reference, facts={**reference.facts, 'with_depth': 0})

    monkeypatch.setattr(command, 'register', register)
    monkeypatch.setattr(command.PoseEstimator, 'rehearse', lambda *_, **__: None)
    return got


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """The exit code, and what is printed to stderr as one line."""
    code = cli.main(['register', *map(str, words)])
    return code, ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (('my mug', 'transforms', '{good}'), "object id 'my mug': only letters"),
        (('../mug', 'transforms', '{good}'), "'../mug'"),
        (('mug', 'transforms', '{tmp}/none'), '/none: is not there'),
        (('mug', 'transforms', '~nosuchuser/x'), '~nosuchuser/x: '),
        (('mug', 'transforms', '{tmp}/bag'), 'no transforms.json; it is a bag (kind bag)'),
        (('mug', 'transforms', '{tmp}/bop'), 'it is a BOP split (kind bop)'),
        (('mug', 'transforms', '{tmp}/split'), 'it is transforms_train.json; name the file'),
        (('mug', 'bag', '{good}'), 'is no bag; it is a capture with transforms.json'),
        (('mug', 'bop', '{good}'), 'no BOP split; it is a capture with transforms.json'),
        (('mug', 'bop', '{tmp}/bop/000001/rgb:0-3'), 'it is no BOP split'),
        (('mug', 'transforms', '{good}', '--max-views', -1), 'max_views (--max-views) is -1'),
        (
            ('mug', 'transforms', '{good}', '--metres-per-unit', 'nan'),
            'metres_per_unit (--metres-per-unit) is nan',
        ),
        (
            ('mug', 'transforms', '{good}', '--metres-per-unit', -0.1),
            'metres_per_unit (--metres-per-unit) is -0.1',
        ),
        (('mug', 'transforms', '{good}', '--box', *'111000'), 'lowest and highest corner'),
        (('mug', 'transforms', '{good}', '--box', *'00011', 'inf'), 'lowest and highest corner'),
        (('mug', 'transforms', '{good}', '--settings.points-across', 2), 'settings.points-across'),
        (
            ('mug', 'bag', '{tmp}/bag', *['--board', 'charuco', '--board-fields', '1', '5']),
            '1 x 5',
        ),
        (
            ('mug', 'bag', '{tmp}/bag', *['--board', 'apriltag', '--board-fields', '0', '5']),
            '0 x 5',
        ),
        (
            ('mug', 'bag', '{tmp}/bag', *['--board', 'charuco', '--board-metres', '30', '22']),
            'side of a square is 30 m',
        ),
        (
            ('mug', 'bag', '{tmp}/bag', *['--board', 'charuco', '--board-dictionary', 'X']),
            "dictionary 'X' is unknown",
        ),
        (
            ('mug', 'transforms', '{good}', '--db', '{good}/transforms.json'),
            'is a file, a folder is needed',
        ),
        (('mug', 'transforms', '{good}', '--db', '/proc/x'), '/proc/x: cannot be made'),
        (('mug', 'transforms', '{good}', '--db', '~nosuchuser/x'), '~nosuchuser/x: '),
    ],
)
def test_a_wrong_argument_is_named_before_the_work(
    words: tuple[object, ...],
    said: str,
    tmp_path: Path,
    fitted: list,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_capture(tmp_path / 'good')
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag/metadata.yaml').touch()
    write_bop_scene(tmp_path / 'bop/000001', images=1)
    (tmp_path / 'split').mkdir()
    (tmp_path / 'split/transforms_train.json').touch()
    filled = [str(word).format(tmp=tmp_path, good=tmp_path / 'good') for word in words]
    if '--db' not in filled:
        filled += ['--db', str(tmp_path / 'objects')]
    code, text = run(capsys, *filled)
    assert code == 1
    assert text.startswith('gs-pose register: ')
    assert said in text
    assert fitted == []


def test_a_database_that_cannot_be_written_is_named(
    tmp_path: Path,
    fitted: list,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, 'access', lambda *_: False)  # whoever tests may be root
    good = write_capture(tmp_path / 'good')
    code, text = run(capsys, 'mug', 'transforms', good, '--db', tmp_path / 'objects')
    assert (code, fitted) == (1, [])
    assert 'objects: cannot be written: the permissions of' in text


def test_what_was_odd_about_the_pictures_is_said(
    tmp_path: Path, fitted: list, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_capture(tmp_path / 'good')
    content = json.loads((good / 'transforms.json').read_text())
    for k, frame in enumerate(content['frames']):
        frame['mask_path'] = f'masks/{k}.png'
    content['frames'].append({**content['frames'][0], 'file_path': 'images/7.png'})
    (good / 'transforms.json').write_text(json.dumps(content))
    cv2.imwrite(str(good / 'masks/1.png'), np.zeros((48, 64), np.uint8))
    where = '--db', tmp_path / 'objects'
    code, text = run(capsys, 'mug', 'transforms', good, *where)
    assert code == 0
    assert len(fitted[0]) == 2
    assert '1 of 4 pictures are not there' in text
    assert '1 of 3 pictures have no usable mask and are left out' in text
    assert 'no depth: sizes are in the unit of transforms.json' in text
    assert '--metres-per-unit' in text
    _, text = run(capsys, 'mug', 'transforms', good, *where, '--metres-per-unit', 0.1)
    assert 'metres-per-unit' not in text
    np.testing.assert_allclose(fitted[1][0].T_cam_obj[:3, 3], 0.1 * fitted[0][0].T_cam_obj[:3, 3])


@pytest.mark.slow
def test_a_capture_in_other_units_is_registered_in_metres(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 m is 3.7 units, as COLMAP may have it."""
    known = synthetic.reference()
    views = synthetic.sphere_views(known.gaussians, 8, known.gaussians.means.mean(0).numpy(), 0.4)
    (tmp_path / 'x').mkdir()
    frames = []
    for k, view in enumerate(views):
        assert view.mask is not None
        pixels = np.dstack([view.color[..., ::-1], view.mask.astype(np.uint8) * 255])
        cv2.imwrite(str(tmp_path / f'x/{k}.png'), pixels)
        T = view.T_cam_obj.copy()
        T[:3, 3] *= 3.7
        frames.append({'file_path': f'{k}.png', 'transform_matrix': camera_to_world_gl(T)})
    camera = views[0].camera
    top = {'fl_x': camera.fx, 'fl_y': camera.fy, 'w': camera.width, 'h': camera.height}
    (tmp_path / 'x/transforms.json').write_text(json.dumps({**top, 'frames': frames}))
    quick = ['--settings.fitting.iterations', '10', '--settings.final-iterations', '0']
    quick += ['--settings.points-across', '16']
    code, text = run(
        *(capsys, 'mug', 'transforms', tmp_path / 'x', '--db', tmp_path / 'objects', *quick),
        *('--metres-per-unit', 1 / 3.7),
    )
    assert code == 0, text
    stored = ObjectDatabase(tmp_path / 'objects').load('mug')
    assert stored.diameter_m == pytest.approx(known.diameter_m, rel=0.15)
    assert stored.facts['with_depth'] == 0
