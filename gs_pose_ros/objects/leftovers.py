"""What killed processes left in a database, removed by the one who opens it to write."""

from __future__ import annotations

import shutil
from contextlib import suppress

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.database import PREPARED, ObjectDatabase
from gs_pose_ros.objects.database_copy import clear_copies
from gs_pose_ros.objects.file_lock import locked
from gs_pose_ros.objects.prepared import LOCK, TEMPORARY


def clear_leftovers(database: ObjectDatabase) -> None:
    """Put right or remove half-written objects, copies, and what was prepared of none.

    What another process writes meanwhile stays, and where nothing may be written all does.
    """
    database.clear_leftovers()
    clear_copies(database)
    # RecursionError: shutil calls itself for each of 2 000 folders within each other.
    with suppress(OSError, ValueError, GsPoseError, RecursionError):
        _clear_prepared(database)


def _clear_prepared(database: ObjectDatabase) -> None:
    """Remove what was prepared of objects that are gone, and files that were never finished."""
    folder = database.root / PREPARED
    if folder.is_symlink() or not folder.is_dir():  # a stranger's database may point anywhere
        return
    with locked(folder / LOCK, wait=False):  # writers share it
        present = set(database.object_ids())
        for of_object in folder.iterdir():
            if of_object.is_symlink() or not of_object.is_dir():
                continue
            if of_object.name not in present:
                shutil.rmtree(of_object, ignore_errors=True)
                continue
            for left in of_object.glob(f'{TEMPORARY}*'):
                shutil.rmtree(left, ignore_errors=True)
