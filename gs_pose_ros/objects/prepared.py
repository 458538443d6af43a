"""What is made from an object once: kept in memory as long as it lives, and beside it on disk.

Templates and keypoints of an object take seconds to make. An object that comes from a database
has a folder for them there; each file is named by what it is made of, so that a changed object,
other settings or other code never meet an old one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import tempfile
import threading
import typing
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

import gs_pose_ros
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.objects.database import ObjectReference, StoredCopy
from gs_pose_ros.objects.file_lock import locked
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.objects.stored_arrays import read_arrays

# In the folder of what is prepared: locked by who writes there, and how unfinished files begin.
LOCK, TEMPORARY = '.lock', '.new-'
# Of an object: four kinds of things with the settings of a few nodes; others are made again.
_MOST_FILES = 24

O = TypeVar('O', bound=SplatObject)  # noqa: E741 - an object
K = TypeVar('K', bound=Hashable)
V = TypeVar('V')


@dataclass
class _Slot(Generic[V]):
    """One thing that is or will be made; who waits for the lock finds it made."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: list[V] = field(default_factory=list)  # none or one


def once_per_object(make: Callable[[O, K], V]) -> Callable[[O, K], V]:
    """`make(object, settings)`, run once for each object and settings, by one thread."""
    # By the splat: an object has arrays, and so no hash.
    slots: WeakKeyDictionary[Gaussians, dict[K, _Slot[V]]] = WeakKeyDictionary()
    lock = threading.Lock()

    @functools.wraps(make)
    def kept(obj: O, settings: K) -> V:
        with lock:
            slot = slots.setdefault(obj.gaussians, {}).setdefault(settings, _Slot())
        with slot.lock:
            if not slot.made:
                slot.made.append(make(obj, settings))
            return slot.made[0]

    return kept


def prepared(make: Callable[[ObjectReference, K], V]) -> Callable[[ObjectReference, K], V]:
    """`once_per_object`, and kept on disk: `make` returns an array or a dataclass of arrays.

    A file that cannot be read is made anew; where nothing can be written, nothing is kept.
    """

    @functools.wraps(make)
    def read_or_made(reference: ObjectReference, settings: K) -> V:
        if reference.stored is None:
            return make(reference, settings)
        path = _path(reference.stored, make, settings)
        try:
            return _read(path, typing.get_type_hints(make)['return'])
        except (GsPoseError, TypeError, ValueError):  # damaged, or not what its maker makes
            value = make(reference, settings)
            _write(path, value)
            return value

    return once_per_object(read_or_made)


def _path(copy: StoredCopy, make: Callable[..., Any], settings: Hashable) -> Path:
    name = f'{Path(inspect.getfile(make)).stem}.{make.__name__.strip("_")}'
    source = _digest(copy.revision, _code(inspect.getfile(make)))
    return copy.prepared / f'{name}-{source}-{_digest(repr(settings))}.npz'


def _digest(*texts: str) -> str:
    return hashlib.sha256('\0'.join(texts).encode()).hexdigest()[:12]


@functools.cache
def _code(module: str) -> str:
    """A text that changes with the code that makes it."""
    return _digest(*(path.read_text() for path in _sources(module)))


def _sources(module: str) -> list[Path]:
    """The files of a module's room, and of those whose code all makers call."""
    package = Path(gs_pose_ros.__file__).parent
    rooms = [Path(module).parent, *(package / name for name in ('features', 'rendering'))]
    return [path for room in rooms for path in sorted(room.glob('*.py'))]


def _read(path: Path, kind: Any) -> Any:
    """An object of the kind, an array type or a dataclass of arrays and numbers.

    Raises:
        GsPoseError: the file is not there, damaged, or holds something else.

    """
    if not is_dataclass(kind):
        return read_arrays(path, ['value'])['value']
    arrays = read_arrays(path, [f.name for f in fields(kind)])
    values = {k: v.item() if v.ndim == 0 else v for k, v in arrays.items()}
    return typing.cast(Callable[..., Any], kind)(**values)


def _write(path: Path, value: Any) -> None:
    """Keep it, in place of what was made of another revision of the object or by other code."""
    arrays = {'value': value}
    if is_dataclass(value):
        arrays = {f.name: getattr(value, f.name) for f in fields(value)}
    with contextlib.suppress(OSError):  # a read-only or full disk: it is made again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        # Held by all who write: who clears leftovers waits until nobody does.
        with locked(path.parent.parent / LOCK, shared=True):
            # Of a name of its own: other processes may do the same now.
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=TEMPORARY) as folder:
                new = Path(folder) / path.name
                np.savez(new, **arrays)
                new.replace(path)
            _forget(path)


def _forget(path: Path) -> None:
    """Remove what others of its kind were made of, and the oldest of too many files."""
    kind, source, _ = path.name.rsplit('-', 2)
    for other in path.parent.glob(f'{kind}-*'):
        if not other.name.startswith(f'{kind}-{source}-'):
            other.unlink(missing_ok=True)
    kept = sorted(path.parent.glob('*.npz'), key=lambda file: file.stat().st_mtime_ns)
    for old in kept[:-_MOST_FILES]:
        old.unlink(missing_ok=True)
