"""Sources of a registration: what files name stays where it may, and nonsense is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.board import CharucoBoard
from gs_pose_ros.objects.masks import MaskMode
from gs_pose_ros.recording.registration_source import RegistrationSource
from gs_pose_ros.recording.source_kind import check_kind
from test.datasets.bop_set import write_bop_scene
from test.objects.capture_folder import frames, write_capture


def test_pictures_of_a_bop_set_may_be_links_within_what_is_allowed(tmp_path: Path) -> None:
    write_bop_scene(tmp_path / 'set/train/000001')
    picture = tmp_path / 'set/train/000001/rgb/000000.png'
    outside = picture.rename(tmp_path / 'outside.png')
    picture.symlink_to(outside)

    roots = (tmp_path / 'set',)
    for split in ('train', 'train:0-1'):
        path = tmp_path / 'set' / split
        assert RegistrationSource('bop', path, 1).views().views
        with pytest.raises(GsPoseError, match=r'000000\.png is not under the allowed'):
            RegistrationSource('bop', path, 1, roots=roots).views()
    picture.unlink()
    outside.rename(picture)
    assert len(RegistrationSource('bop', path, 1, roots=roots).views().views) == 2


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('max_views', -1),
        ('duration_s', -1.0),
        ('duration_s', float('nan')),
        ('duration_s', float('inf')),
        ('metres_per_unit', -1.0),
        ('metres_per_unit', float('nan')),
        ('box', np.zeros((2, 3))),
        ('box', np.array([[0, 0, 0], [1, np.inf, 1]])),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(field: str, value: Any) -> None:
    said = {
        'box': '3-D box',
        'max_views': r'^max_views \(--max-views\) is',
        'duration_s': '^duration is',
        'metres_per_unit': r'^metres_per_unit \(--metres-per-unit\) is',
    }
    with pytest.raises(GsPoseError, match=said[field]):
        RegistrationSource('transforms', Path('/nowhere'), **{field: value})


def test_a_source_that_lacks_what_its_kind_needs_is_refused() -> None:
    box, board = np.array([[-0.1] * 3, [0.1] * 3]), CharucoBoard(7, 5, 0.03, 0.02)
    bag = {'kind': 'bag', 'path': Path('/nowhere'), 'box': box}
    RegistrationSource(**bag, board=board)
    RegistrationSource(**bag, object_frame='mug')
    for fields, reason in (
        (bag, 'give a board'),
        ({**bag, 'box': None, 'board': board}, '3-D box'),
        ({**bag, 'mask_mode': MaskMode.GIVEN, 'board': board}, 'come without masks'),
        ({**bag, 'kind': 'bop', 'board': board}, 'for bags and topics alone'),
        ({**bag, 'board': board, 'metres_per_unit': 0.1}, 'for transforms.json alone'),
    ):
        with pytest.raises(GsPoseError, match=reason):
            RegistrationSource(**fields)


def test_depth_is_left_out_where_it_is_not_wanted(tmp_path: Path) -> None:
    fields = {'mask_path': 'masks/{}.png', 'depth_file_path': 'depth/{}.png'}
    write_capture(tmp_path, frames=frames(**fields))
    source = RegistrationSource('transforms', tmp_path)
    assert all(view.depth is not None for view in source.views().views)
    assert source.views().notes == ()  # depth says how large all is
    found = replace(source, use_depth=False).views()
    assert all(view.depth is None for view in found.views)
    assert 'no depth' in found.notes[0]


def test_a_folder_of_one_kind_is_not_taken_for_another(tmp_path: Path) -> None:
    capture = write_capture(tmp_path / 'capture')
    (tmp_path / 'old.bag').touch()
    (tmp_path / 'bare.mcap').touch()
    write_bop_scene(tmp_path / 'set/000001', images=1)
    for kind, path in {
        'transforms': capture,
        'bop': tmp_path / 'set',
        'bag': tmp_path / 'bare.mcap',
    }.items():
        check_kind(kind, path)
        for other in {'transforms', 'bop', 'bag'} - {kind}:
            with pytest.raises(GsPoseError, match=rf'{path.name}: .*kind {kind}'):
                check_kind(other, path)
    check_kind('transforms', capture / 'transforms.json')
    check_kind('bop', tmp_path / 'set:0-3')
    check_kind('bag', tmp_path / 'old.bag')
    check_kind('bag', capture / 'images')  # the reader of bags knows more
    with pytest.raises(GsPoseError, match='none: is not there'):
        check_kind('bop', tmp_path / 'none:0-3')
    for hopeless in ('x' * 300, 'a\0b'):
        with pytest.raises(GsPoseError, match=r'not readable|not there'):
            check_kind('transforms', tmp_path / hopeless)
