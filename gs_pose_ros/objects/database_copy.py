"""A database copied to another folder, whole or not at all; leftovers of killed copies go."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.objects.file_lock import locked
from gs_pose_ros.regular_files import read_regular, shown_path

_BEGUN = '.copies'  # of the database: a file for each copy that runs, which says where
_MARK = '.copying'  # in the folder of a copy that runs: locked by it, holds the name of that file
_MOST_BYTES = 1 << 13  # of those files; a path has at most 4 kB


def copy_database(database: ObjectDatabase, target: Path) -> tuple[int, dict[str, str]]:
    """Copy all objects that can be read to a folder that is empty or absent.

    Returns:
        How many were copied, and why the others were not, by object id.

    Raises:
        GsPoseError: something is there, or the disk refuses; then nothing was copied.

    """
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise GsPoseError(f'{target}: is there already and not empty: name another folder')
        if target.is_relative_to(database.root):
            raise GsPoseError(f'{target}: lies in the database itself: name another folder')
        if target.parent.exists() and not target.parent.is_dir():
            raise GsPoseError(f'{target}: {target.parent} is no folder: name another one')
        target.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(database, target) as scratch:
            return _copied(database, scratch, target)
    except (OSError, ValueError, RecursionError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise GsPoseError(f'{shown_path(target)}: cannot be written: {reason}') from error


def _copied(database: ObjectDatabase, scratch: Path, target: Path) -> tuple[int, dict[str, str]]:
    copy, left_out = ObjectDatabase(scratch / 'objects'), dict[str, str]()
    copy.root.mkdir()
    ids = database.object_ids()
    for object_id in ids:  # one at a time: all together may not fit into memory
        try:
            reference = database.load(object_id)
        except GsPoseError as error:
            left_out[object_id] = str(error)
        else:
            copy.save(reference)
    copy.root.rename(target)  # in place of an empty folder as well
    return len(ids) - len(left_out), left_out


@contextmanager
def _scratch(database: ObjectDatabase, target: Path) -> Iterator[Path]:
    """An empty folder beside the target; removed at the end, or at the next start if killed."""
    token = secrets.token_hex(8)
    scratch = target.with_name(f'.{target.name}-{token}')
    begun = database.root / _BEGUN / token
    with ExitStack() as stack:
        with suppress(OSError):  # of a read-only database nobody clears anything
            begun.parent.mkdir(exist_ok=True)
            begun.write_bytes(os.fsencode(scratch))
            stack.callback(begun.unlink, missing_ok=True)
        scratch.mkdir()
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        stack.enter_context(locked(scratch / _MARK))
        (scratch / _MARK).write_text(token)
        yield scratch


def clear_copies(database: ObjectDatabase) -> None:
    """Remove what killed copies of a database left, wherever that is."""
    with suppress(OSError, ValueError):
        for begun in list((database.root / _BEGUN).iterdir()):
            with suppress(OSError, GsPoseError, ValueError, RecursionError):
                scratch = Path(os.fsdecode(read_regular(begun, _MOST_BYTES)))
                if _is_cleared(scratch, begun.name):
                    begun.unlink()


def _is_cleared(scratch: Path, token: str) -> bool:
    """Remove the folder, if a copy made it and runs no more; whether it is gone.

    A database may come from a stranger: what it names is removed only if the folder says the same.
    """
    if not scratch.name.endswith(f'-{token}') or scratch.is_symlink():
        return False
    if not scratch.exists():
        return scratch.parent.is_dir()  # else it may be on a disk that is not there now
    if not (scratch / _MARK).exists():  # killed before it could write anything
        scratch.rmdir()
        return True
    with locked(scratch / _MARK, wait=False):
        if read_regular(scratch / _MARK, _MOST_BYTES) not in (b'', token.encode()):
            return False
        shutil.rmtree(scratch)
    return True
