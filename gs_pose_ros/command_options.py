"""What a person gives to a command, checked before the work starts and not after hours of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from gs_pose_ros.bounds import check_bounds
from gs_pose_ros.errors import GsPoseError


def check_numbers(command: Any) -> None:
    """Raise GsPoseError, naming the option, if a number of a command is out of its `Bounds`."""
    try:
        check_bounds(command)
    except ValueError as error:
        name, space, rest = str(error).partition(' ')
        raise GsPoseError(f'--{name.replace("_", "-")}{space}{rest}') from error


def existing_folder(path: Path, name: str) -> Path:
    """The folder that an option of that name gives, `~` expanded.

    Raises:
        GsPoseError: it is not there, or something else.

    """
    path = expanded(path, name)
    if not os.path.isdir(path):  # noqa: PTH112 - which raises nothing, whatever the name
        raise GsPoseError(f'{name} {path}: {_what_is_there(path)}, a folder is needed')
    return path


def existing_file(path: Path, name: str) -> Path:
    """The file that an option of that name gives, `~` expanded.

    Raises:
        GsPoseError: it is not there, or no regular file.

    """
    path = expanded(path, name)
    if not os.path.isfile(path):  # noqa: PTH113 - as above
        raise GsPoseError(f'{name} {path}: {_what_is_there(path)}, a file is needed')
    return path


def folder_to_write(path: Path, name: str) -> Path:
    """A folder that an option of that name gives, `~` expanded: it can be made and written in.

    Raises:
        GsPoseError: something else is there, or nothing can be written there.

    """
    path = expanded(path, name)
    if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112 - as above
        raise GsPoseError(f'{name} {path}: {_what_is_there(path)}, a folder is needed')
    _check_writable(path, name)
    return path


def file_to_write(path: Path, name: str) -> Path:
    """A file that an option of that name gives, `~` expanded: it can be written.

    Raises:
        GsPoseError: something else is there, or nothing can be written there.

    """
    path = expanded(path, name)
    if os.path.lexists(path) and not os.path.isfile(path):  # noqa: PTH113 - as above
        raise GsPoseError(f'{name} {path}: {_what_is_there(path)}, a file is needed')
    _check_writable(path.parent, name)
    if path.exists() and not os.access(path, os.W_OK):
        raise GsPoseError(f'{name} {path}: cannot be written: its permissions forbid it')
    return path


def check_frame_name(name: str, option: str) -> None:
    """Raise GsPoseError unless that is the name of a frame of TF: one word."""
    if not re.fullmatch(r'\S{1,200}', name) or not name.isprintable():
        raise GsPoseError(
            f'{option} {name[:80]!r}: is not the name of a TF frame: one word is needed'
        )


def expanded(path: Path, name: str) -> Path:
    """The path that an option gives, `~` expanded; raises GsPoseError where it cannot be."""
    try:
        return path.expanduser()
    except RuntimeError as error:  # ~nosuchuser
        raise GsPoseError(f'{name} {path}: {error}') from error


def _what_is_there(path: Path) -> str:
    if os.path.isdir(path):  # noqa: PTH112 - as above
        is_bag = os.path.isfile(path / 'metadata.yaml')  # noqa: PTH113 - as above
        return 'is a rosbag2' if is_bag else 'is a folder'
    if os.path.isfile(path):  # noqa: PTH113 - as above
        return 'is a bag' if path.suffix in ('.mcap', '.db3', '.bag') else 'is a file'
    if os.path.lexists(path):
        return 'is neither a file nor a folder'
    return 'is not there'


def _check_writable(folder: Path, name: str) -> None:
    """Raise GsPoseError unless the folder can be written, or made within one that can."""
    line = [folder, *folder.absolute().parents]
    there = next(p for p in line if os.path.lexists(p))
    if not os.path.isdir(there):  # noqa: PTH112 - as above
        raise GsPoseError(f'{name} {folder}: {there} {_what_is_there(there)}, not a folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise GsPoseError(
            f'{name} {folder}: cannot be written: the permissions of {there} forbid it'
        )
    if there == folder:
        return
    first = line[line.index(there) - 1]
    try:  # some say that they can be written in, as /proc does
        first.mkdir()
        first.rmdir()
    except FileExistsError:  # another program was quicker
        pass
    except OSError as error:
        raise GsPoseError(f'{name} {folder}: cannot be made: {error.strerror}') from error
