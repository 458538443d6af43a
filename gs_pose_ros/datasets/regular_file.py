"""Files that others wrote: opened if they are regular and not too large."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gs_pose_ros.errors import GsPoseError


@contextmanager
def opened(path: Path, most_bytes: int) -> Iterator[IO[bytes]]:
    """The file, open for reading. FIFOs and devices are refused, and not waited for.

    Raises:
        GsPoseError: it is missing, no regular file, too large, or not to be read; also where the
            body of the `with` meets an OSError.

    """
    try:
        # Opening a FIFO would wait for whoever writes to it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 'rb') as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise GsPoseError(f'{path}: is no regular file')
            if status.st_size > most_bytes:
                raise GsPoseError(
                    f'{path}: has {status.st_size / 2**20:.0f} MiB, more than the '
                    f'{most_bytes / 2**20:.0f} MiB that such a file can have'
                )
            yield file
    except FileNotFoundError as error:
        raise GsPoseError(f'{path}: missing') from error
    except OSError as error:
        raise GsPoseError(f'{path}: not readable: {error.strerror or error}') from error
    except ValueError as error:  # a NUL or half a character in the name
        raise GsPoseError(f'{str(path)!a}: not readable: {error}') from error
