"""Options are checked before the work: what is there, what can be written, which numbers fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gs_pose_ros.bounds import CountOrNone, NonNegative
from gs_pose_ros.command_options import (
    check_frame_name,
    check_numbers,
    existing_file,
    existing_folder,
    file_to_write,
    folder_to_write,
)
from gs_pose_ros.errors import GsPoseError


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder, a bag in a folder, files, and what is neither."""
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'metadata.yaml').write_text('')
    for name in ('file.txt', 'tour.mcap'):
        (tmp_path / name).write_text('')
    os.mkfifo(tmp_path / 'fifo')
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    return tmp_path


@pytest.mark.parametrize(
    ('check', 'name', 'said'),
    [
        (existing_folder, 'none', 'is not there, a folder is needed'),
        (existing_folder, 'file.txt', 'is a file, a folder is needed'),
        (existing_folder, 'tour.mcap', 'is a bag, a folder is needed'),
        (existing_folder, 'fifo', 'is neither a file nor a folder'),
        (existing_folder, 'loop', 'is neither a file nor a folder'),
        (existing_folder, 'x' * 300, 'is not there'),
        (existing_folder, 'a\0b', 'is not there'),
        (existing_file, 'none', 'is not there, a file is needed'),
        (existing_file, 'folder', 'is a folder, a file is needed'),
        (existing_file, 'bag', 'is a rosbag2, a file is needed'),
        (existing_file, 'fifo', 'is neither a file nor a folder'),
        (folder_to_write, 'file.txt', 'is a file, a folder is needed'),
        (folder_to_write, 'file.txt/deeper', 'is a file, not a folder'),
        (folder_to_write, 'fifo', 'is neither a file nor a folder'),
        (file_to_write, 'folder', 'is a folder, a file is needed'),
        (file_to_write, 'fifo', 'is neither a file nor a folder'),
        (file_to_write, 'file.txt/deeper', 'is a file, not a folder'),
    ],
)
def test_what_is_there_in_its_place_is_said(
    places: Path, check: Callable[[Path, str], Path], name: str, said: str
) -> None:
    with pytest.raises(GsPoseError, match=f'^--thing .*{said}'):
        check(places / name, '--thing')


def test_what_is_as_it_should_be_is_taken(places: Path) -> None:
    assert existing_folder(places / 'folder', '--a') == places / 'folder'
    assert existing_file(places / 'file.txt', '--a') == places / 'file.txt'
    assert folder_to_write(places / 'folder', '--a') == places / 'folder'
    assert folder_to_write(places / 'new' / 'deeper', '--a') == places / 'new' / 'deeper'
    assert file_to_write(places / 'file.txt', '--a') == places / 'file.txt'
    assert file_to_write(places / 'new' / 'a.json', '--a') == places / 'new' / 'a.json'
    assert not (places / 'new').exists()


def test_the_home_folder_may_be_written_short(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HOME', str(places))
    assert existing_folder(Path('~/folder'), '--a') == places / 'folder'
    for check in (existing_folder, existing_file, folder_to_write, file_to_write):
        with pytest.raises(GsPoseError, match='^--a ~nosuchuser'):
            check(Path('~nosuchuser/x'), '--a')


@pytest.mark.parametrize('check', [folder_to_write, file_to_write])
def test_a_place_where_nothing_may_be_written_is_named(
    places: Path, check: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'access', lambda *_: False)  # root may write everywhere
    with pytest.raises(GsPoseError, match='--a .*the permissions of .*folder'):
        check(places / 'folder' / 'new', '--a')


@dataclass(frozen=True)
class _Command:
    most_frames: CountOrNone = 0
    duration_s: NonNegative = 0.0


@pytest.mark.parametrize(
    ('command', 'said'),
    [
        (_Command(most_frames=-1), '--most-frames is -1, not within 0'),
        (_Command(duration_s=-0.5), '--duration-s is -0.5, not within 0'),
        (_Command(duration_s=float('nan')), '--duration-s is nan'),
        (_Command(duration_s=float('inf')), '--duration-s is inf'),
    ],
)
def test_numbers_out_of_range_are_named_as_the_option(command: _Command, said: str) -> None:
    check_numbers(_Command())
    with pytest.raises(GsPoseError, match=said):
        check_numbers(command)


@pytest.mark.parametrize('name', ['', ' ', 'a b', 'a\n', 'a\0b', 'x' * 300])
def test_names_of_frames_are_one_word(name: str) -> None:
    check_frame_name('camera/optical_1', '--tf')
    with pytest.raises(GsPoseError, match='^--tf .*is not the name of a TF frame'):
        check_frame_name(name, '--tf')
