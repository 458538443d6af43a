"""What saving a map may replace: a map of ours, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.localization.map_store import check_free, load_map, save_map
from test.localization.test_map_store import assert_equal, make_map


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a stored map."""
    save_map(tmp_path / 'hall', make_map())
    return tmp_path / 'hall'


def nav2_map(folder: Path) -> None:
    """What nav2's map_saver writes, with its picture in another folder."""
    (folder / 'map.yaml').write_text(
        'image: /maps/hall.pgm\nresolution: 0.05\norigin: [0, 0, 0]\n'
    )


def nav2_map_with_its_picture(folder: Path) -> None:
    nav2_map(folder)
    (folder / 'hall.pgm').write_bytes(b'P5 1 1 255 \0')


def our_map_and_a_thesis(folder: Path) -> None:
    save_map(folder, make_map())
    (folder / 'thesis.tex').write_text('years of work')


@pytest.mark.parametrize(
    'fill', [nav2_map, nav2_map_with_its_picture, our_map_and_a_thesis, lambda folder: None]
)
def test_what_we_have_not_written_is_not_replaced(
    tmp_path: Path, fill: Callable[[Path], None]
) -> None:
    folder = tmp_path / 'home'
    folder.mkdir()
    if fill is our_map_and_a_thesis:
        folder.rmdir()
    fill(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for refuse in (
        lambda: check_free(folder, overwrite=True),
        lambda: save_map(folder, make_map(seed=1)),
    ):
        with pytest.raises(GsPoseError, match='home'):
            refuse()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ['home']


def test_a_file_in_the_place_of_a_map_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / 'hall').write_text('years of work')
    with pytest.raises(GsPoseError, match='no folder'):
        save_map(tmp_path / 'hall', make_map())
    assert (tmp_path / 'hall').read_text() == 'years of work'


@pytest.mark.parametrize('file', ['map.yaml', 'keyframes.npz'])
def test_a_broken_map_of_ours_may_be_replaced(path: Path, file: str) -> None:
    (path / file).write_bytes(b'\0')
    check_free(path, overwrite=True)
    save_map(path, make_map(seed=1))
    assert_equal(load_map(path), make_map(seed=1))
