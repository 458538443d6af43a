"""Files that strangers may have put there, read whole: regular ones, of a bounded size."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gs_pose_ros.errors import GsPoseError, shown

_KINDS = (
    *((stat.S_ISDIR, 'a folder'), (stat.S_ISFIFO, 'a FIFO'), (stat.S_ISSOCK, 'a socket')),
    *((stat.S_ISCHR, 'a device'), (stat.S_ISBLK, 'a device')),
)


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        GsPoseError: it cannot be read, is a folder, FIFO, socket or device, or holds more bytes.

    """
    try:
        # Before it is opened: opening may block, and some devices act on that alone.
        _check(path, path.stat(), most_bytes)
        # By now another file may have taken its place; a FIFO would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, 'rb') as file:
            found = os.fstat(descriptor)
            _check(path, found, most_bytes)
            content = file.read(found.st_size + 1)
    except FileNotFoundError as error:
        raise GsPoseError(f'{shown_path(path)}: missing') from error
    except OSError as error:
        raise GsPoseError(f'{shown_path(path)}: cannot be read: {error.strerror}') from error
    except ValueError as error:  # a NUL in the path
        raise GsPoseError(f'{shown_path(path)}: cannot be read: {error}') from error
    if len(content) != found.st_size:
        raise GsPoseError(f'{shown_path(path)}: changed while it was read: try again')
    return content


def shown_path(path: str | Path) -> str:
    """A path for an error: as it is, unless it is longer than any file's or not printable."""
    text = str(path)
    return text if len(text) < 500 and text.isprintable() else shown(text)


def _check(path: Path, found: os.stat_result, most_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), 'something else')
        raise GsPoseError(f'{shown_path(path)}: is {kind}, no regular file')
    if found.st_size > most_bytes:
        raise GsPoseError(
            f'{shown_path(path)}: has {found.st_size / 1e6:.6g} MB, '
            f'at most {most_bytes / 1e6:.6g} MB are read'
        )
