"""Symbolic links in a folder that somebody else filled: they may lead anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.regular_files import check_under


def check_links(folder: Path, roots: Iterable[Path]) -> None:
    """Make sure that all links in the folder lead to something under `roots`.

    Raises:
        GsPoseError: one leads elsewhere, or the folder cannot be listed.

    """
    roots, done = list(roots), set[str]()
    waiting = [folder]
    try:
        while waiting:
            here = waiting.pop()
            real = os.path.realpath(here)
            if real in done:
                continue
            done.add(real)
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        check_under(Path(entry.path), roots)
                    if entry.is_dir():
                        waiting.append(Path(entry.path))
    except OSError as error:
        raise GsPoseError(f'{folder}: cannot be listed: {error.strerror or error}') from error
