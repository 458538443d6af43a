"""Folders on disk that are replaced whole or not at all, safe against crashes and processes."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError

# RuntimeError: a flipped bit may ask for a method or an encryption that zipfile lacks.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
_NAME = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9_.-]*')


class FolderStore:
    """A folder `root` of named folders, none of which is ever changed in place.

    `replace` writes a complete new folder, renames the old one aside, the new one in and deletes
    the old one. Whoever is killed in between leaves the old folder aside, where readers look too:
    they see the old one or the new one whole.
    """

    def __init__(self, root: Path, kind: str, files: Sequence[str]) -> None:
        """Of one kind of thing, stored in these files; the first one is its YAML header."""
        self.root, self._kind, self._files = Path(root), kind, tuple(files)

    def names(self) -> list[str]:
        """The stored folders, broken ones included, sorted.

        Raises:
            GsPoseError: the root cannot be listed; one that is not there is empty.

        """
        try:
            names = [entry.name for entry in self.root.iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise GsPoseError(f'{self.root}: cannot be listed: {error}') from error
        names = [name.removeprefix('.old-') for name in names]
        return sorted({name for name in names if _NAME.fullmatch(name)})

    def folder(self, name: str) -> Path:
        """Where it is to be read: its folder, or the one a killed `replace` left aside.

        Raises:
            GsPoseError: there is none.

        """
        target = self.root / checked_name(name, self._kind)
        for folder in (target, target.with_name(f'.old-{target.name}')):
            if folder.is_dir():
                return folder
        raise GsPoseError(f'{target}: no such {self._kind}')

    def replace(self, name: str, write: Callable[[Path], None]) -> None:
        """Store what `write(folder)` writes into an empty folder.

        Raises:
            GsPoseError: the name is not a plain one, what is there is none of ours, or the disk
                refuses; what was stored before is then unharmed.

        """
        target = self.root / checked_name(name, self._kind)
        with self._writing(), _disk_errors(target):
            old, new = self._clear_leftovers(target)
            self.check_ours(target)
            new.mkdir()
            write(new)
            for path in new.iterdir():
                _fsync(path)
            _fsync(new)
            with self._locked('.lock'):
                if target.exists():
                    target.rename(old)
                new.rename(target)
                _fsync(self.root)
            if old.exists():
                shutil.rmtree(old)

    def remove(self, name: str) -> None:
        """Delete a folder.

        Raises:
            GsPoseError: there is none, or none of ours, or the disk refuses.

        """
        target = self.root / checked_name(name, self._kind)
        if not self.root.is_dir():
            raise GsPoseError(f'{target}: no such {self._kind}')
        with self._writing(), _disk_errors(target):
            _, trash = self._clear_leftovers(target)
            if not target.is_dir():
                raise GsPoseError(f'{target}: no such {self._kind}')
            self.check_ours(target)
            with self._locked('.lock'):
                target.rename(trash)
                _fsync(self.root)
            shutil.rmtree(trash)

    def check_ours(self, target: Path) -> None:
        """Raise GsPoseError if there is something at `target` that was not written by `replace`.

        Other programs have files of such names as well: nav2's maps a `map.yaml`. Nothing foreign
        may be inside, and the header bears our mark, or there are more of our files beside it.
        """
        if not target.exists():
            return
        refused = f'{target}: is not replaced or removed, because it'
        if not target.is_dir():
            raise GsPoseError(f'{refused} is no folder')
        names = {path.name for path in target.iterdir()}
        if foreign := sorted(names - set(self._files)):
            raise GsPoseError(f'{refused} holds {foreign[0]!r}, which is not of {self._kind}s')
        if not names & set(self._files[1:]) and not _bears_mark(target / self._files[0]):
            raise GsPoseError(f'{refused} holds no {self._kind} that gs_pose_ros has written')

    def _clear_leftovers(self, target: Path) -> tuple[Path, Path]:
        """Put right what a killed process left of `target`.

        Returns:
            The names, free now, for its old folder and for its next one.

        """
        old, new = target.with_name(f'.old-{target.name}'), target.with_name(f'.new-{target.name}')
        if new.exists():
            shutil.rmtree(new)
        if old.exists() and target.exists():
            shutil.rmtree(old)
        elif old.exists():
            with self._locked('.lock'):
                old.rename(target)
        return old, new

    # Two locks, over all processes, that the system frees when their holder dies: one writer at
    # a time, and no reader during its two renames - but readers while it writes its files.

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            (self.root / '.lock').touch()
        except OSError as error:
            raise GsPoseError(f'{self.root}: cannot be written: {error.strerror}') from error
        with self._locked('.writer-lock'):
            yield

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self.root / name).open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nothing is renamed meanwhile."""
        try:
            lock = (self.root / '.lock').open()
        except OSError:  # a read-only copy of a database: nobody writes there
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield


def checked_name(name: str, kind: str = 'object') -> str:
    """`name` if it is a plain name (letters, digits, `_.-`, no leading dot).

    Raises:
        GsPoseError: it is not; it would be used as a folder name.

    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 100:
        raise GsPoseError(
            f'{kind} id {name!r}: only letters, digits, "_", "-" and "." are allowed, '
            'at most 100, and no leading dot'
        )
    return name


def read_header(path: Path, version: int) -> dict[str, Any]:
    """The entries of a YAML file that says its `format_version`.

    Raises:
        GsPoseError: it cannot be read, or is of another version.

    """
    try:
        header = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GsPoseError(f'{path}: not readable: {error}') from error
    found = header.get('format_version') if isinstance(header, dict) else None
    if found != version:
        raise GsPoseError(f'{path}: format version {found!r}, this program reads {version}')
    return header


def _bears_mark(header: Path) -> bool:
    """Whether the YAML file says what only ours say."""
    try:
        content = yaml.safe_load(header.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and {'format_version', 'package_version'} <= content.keys()


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The named arrays of an npz file, without pickle.

    Raises:
        GsPoseError: it cannot be read or lacks one.

    """
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.lib.npyio.NpzFile):
            with archive:
                return {name: archive[name] for name in names}
    except _UNREADABLE as error:
        raise GsPoseError(f'{path}: not readable: {error}') from error
    raise GsPoseError(f'{path}: holds a single array')


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GsPoseError(f'{error.filename or target}: {error.strerror or error}') from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
