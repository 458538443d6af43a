"""Locks between processes, which the system frees when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is not there; alone, or shared.

    Raises:
        BlockingIOError: somebody holds it, and it was not to be waited for.
        OSError: the file cannot be made, or is a link, a folder or a FIFO.

    """
    # Nothing is cut off, followed or waited for: who knows what is in its place.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def shared_if_there(path: Path) -> Iterator[None]:
    """Hold a lock that others share, where that can be done; else nobody writes there."""
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except (OSError, ValueError):  # a read-only copy, a file system without locks, no path at all
        pass
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
