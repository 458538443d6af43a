"""Paths of services: what may be named, and words for all that may not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.nodes.runtime.allowed_paths import allowed_path, usable_path

ODD = [
    ('', 'the path is empty'),
    ('~nosuchuser', 'no usable path'),
    ('~nosuchuser/objects', 'no usable path'),
    ('{tmp}/loop', 'no usable path'),
    ('{tmp}/loop/below', 'no usable path'),
    ('{tmp}/' + 'x' * 300, 'File name too long'),
    ('{tmp}/' + 'x' * 300 + '/below', 'File name too long'),
    ('{tmp}' + '/a' * 2000, r'20\d\d folders within each other, at most 200'),
    ('{tmp}/' + 'x/' * 3000, 'folders within each other'),
    ('x' * 5000, 'File name too long'),
    ('{tmp}/\0', 'null'),
    ('\0', 'null'),
    ('/etc', 'not under the allowed roots'),
    ('{tmp}/../..', 'not under the allowed roots'),
    ('{tmp}/out', 'not under the allowed roots'),
    ('relative', 'not under the allowed roots'),
]


@pytest.fixture(autouse=True)
def _links(tmp_path: Path) -> None:
    (tmp_path / 'loop').symlink_to('loop')
    (tmp_path / 'out').symlink_to('/etc')


@pytest.mark.parametrize(('text', 'message'), ODD, ids=[text[:20] for text, _ in ODD])
def test_a_path_of_no_use_is_refused_in_words(tmp_path: Path, text: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(GsPoseError, match=message) as error:
        allowed_path(text.format(tmp=tmp_path), [str(tmp_path)])
    assert len(str(error.value)) < 1000
    assert '\0' not in str(error.value)
    assert time.monotonic() - start < 1


def test_folders_that_are_really_2000_deep_are_refused(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(2000):
            os.mkdir('a')  # noqa: PTH102 - a path of all of them would be too long
            os.chdir('a')
        with pytest.raises(GsPoseError, match='folders within each other'):
            allowed_path(str(tmp_path) + '/a' * 1900, [str(tmp_path)])
        # pytest's own way to remove them calls itself for each.
        for _ in range(2000):
            os.chdir('..')
            os.rmdir('a')  # noqa: PTH106
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    'root', ['~nosuchuser', '{tmp}/loop', 'x' * 5000, '\0', '', '/' + 'a/' * 2000]
)
def test_a_root_of_no_use_neither_ends_nor_opens_anything(tmp_path: Path, root: str) -> None:
    root = root.format(tmp=tmp_path)
    good = str(tmp_path / 'new')
    assert allowed_path(good, [root, str(tmp_path)]) == (tmp_path / 'new').resolve()
    with pytest.raises(GsPoseError, match='allowed_roots') as error:
        allowed_path(good, [root])
    assert len(str(error.value)) < 1000


def test_usable_paths_may_be_new_and_anywhere(tmp_path: Path) -> None:
    assert usable_path(str(tmp_path / 'a' / 'b')) == (tmp_path / 'a' / 'b').resolve()
    assert usable_path('~') == Path.home().resolve()
    assert usable_path(str(tmp_path / 'out')) == Path('/etc').resolve()
    (tmp_path / 'file').write_text('')
    assert usable_path(str(tmp_path / 'file' / 'below')) == (tmp_path / 'file/below').resolve()
