"""Paths that a person typed: `~` is filled in, and what cannot be written is known at once."""

from __future__ import annotations

import os
from pathlib import Path

from gs_pose_ros.errors import GsPoseError


def expanded(path: Path) -> Path:
    """The path with `~` filled in.

    Raises:
        GsPoseError: there is no such user.

    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise GsPoseError(f'{path}: {error}') from error


def writable_folder(path: Path) -> Path:
    """The folder, made if it is not there, with `~` filled in.

    Raises:
        GsPoseError: a file is in its place, it cannot be made, or not be written to.

    """
    folder = expanded(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise GsPoseError(f'{folder}: is a file, not a folder') from error
    except OSError as error:
        raise GsPoseError(f'{folder}: cannot be made: {error.strerror}') from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise GsPoseError(f'{folder}: cannot be written to')
    return folder
