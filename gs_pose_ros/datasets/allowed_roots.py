"""Files that other files name, and links, may lead out of the folders that may be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gs_pose_ros.errors import GsPoseError


def check_under(path: Path, roots: Sequence[Path]) -> None:
    """Make sure that a path, its links followed, lies under one of the roots; () allows any.

    Raises:
        GsPoseError: it does not, or its links never end.

    """
    if not roots:
        return
    try:
        real = Path(os.path.realpath(path))
        under = any(real.is_relative_to(os.path.realpath(root.expanduser())) for root in roots)
    except (OSError, RuntimeError, ValueError) as error:  # no such user; a NUL
        raise GsPoseError(f'{str(path)!a}: {error}') from error
    if not under:
        names = ', '.join(map(str, roots))
        raise GsPoseError(
            f'{path} is not under the allowed roots ({names}); the parameter '
            '`allowed_roots` sets them'
        )


def check_links(folder: Path, roots: Sequence[Path]) -> None:
    """`check_under` of all that links in the folder lead to, and of links in there.

    Raises:
        GsPoseError: one leads out, or the folder cannot be listed.

    """
    done: set[str] = set()
    waiting = [folder]
    try:
        while waiting and roots:
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
