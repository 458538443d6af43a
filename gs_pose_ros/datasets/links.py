"""Symbolic links in a folder that somebody else filled: they may lead anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gs_pose_ros.errors import GsPoseError


def check_links(folder: Path, check: Callable[[Path], object]) -> None:
    """Ask `check`, which raises GsPoseError, of all that links in the folder lead to.

    Raises:
        GsPoseError: `check` does, or the folder cannot be listed.

    """
    done: set[str] = set()
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
                        check(Path(entry.path))
                    if entry.is_dir():
                        waiting.append(Path(entry.path))
    except OSError as error:
        raise GsPoseError(f'{folder}: cannot be listed: {error.strerror or error}') from error
