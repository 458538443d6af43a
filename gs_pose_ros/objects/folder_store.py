"""Folders on disk that are replaced whole or not at all, safe against crashes and processes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from gs_pose_ros.errors import GsPoseError, shown
from gs_pose_ros.objects.file_lock import locked, shared_if_there
from gs_pose_ros.objects.stored_header import bears_mark
from gs_pose_ros.regular_files import shown_path

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

        Folders whose names are not plain are among them if they hold a header; those that begin
        with a dot are not.

        Raises:
            GsPoseError: the root cannot be listed; one that is not there is empty.

        """
        try:
            with os.scandir(self.root) as entries:
                names = [entry.name for entry in entries if _may_be_folder(entry)]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise GsPoseError(
                f'{shown_path(self.root)}: cannot be listed: {_reason(error)}'
            ) from error
        names = [name.removeprefix('.old-') for name in names]
        return sorted({name for name in names if self._is_ours(name)})

    def _is_ours(self, name: str) -> bool:
        if _NAME.fullmatch(name):
            return True
        return not name.startswith('.') and os.path.lexists(self.root / name / self._files[0])

    def folder(self, name: str) -> Path:
        """Where it is to be read: its folder, or the one a killed `replace` left aside.

        Raises:
            GsPoseError: there is none.

        """
        target = self.root / checked_name(name, self._kind)
        with _disk_errors(target):
            for folder in (target, target.with_name(f'.old-{target.name}')):
                if folder.is_dir():
                    return folder
            if target.is_symlink():
                raise GsPoseError(f'{target}: is a link that leads to no folder')
            if self.root.exists() and not self.root.is_dir():
                raise GsPoseError(f'{self.root}: is no folder of {self._kind}s')
        raise GsPoseError(f'{shown_path(target)}: no such {self._kind}')

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
            with self._renaming():
                if target.exists():
                    target.rename(old)
                new.rename(target)
                _fsync(self.root)
            if old.exists():
                _delete(old)

    def remove(self, name: str) -> None:
        """Delete a folder.

        Raises:
            GsPoseError: there is none, or none of ours, or the disk refuses.

        """
        target = self.root / checked_name(name, self._kind)
        self.folder(name)
        with self._writing(), _disk_errors(target):
            _, trash = self._clear_leftovers(target)
            if not target.is_dir():
                raise GsPoseError(f'{target}: no such {self._kind}')
            self.check_ours(target)
            with self._renaming():
                target.rename(trash)
                _fsync(self.root)
            _delete(trash)

    def clear_leftovers(self) -> None:
        """Put right what killed processes left; not while another writes, or where none may."""
        with suppress(OSError, ValueError, GsPoseError), os.scandir(self.root) as entries:
            left = {e.name[5:] for e in entries if e.name.startswith(('.new-', '.old-'))}
            if not left:
                return
            with self._writing(wait=False):
                for name in filter(_NAME.fullmatch, left):
                    with suppress(OSError, GsPoseError):
                        self._clear_leftovers(self.root / name)

    def check_ours(self, target: Path) -> None:
        """Raise GsPoseError if there is something at `target` that was not written by `replace`.

        Other programs have files of such names as well: nav2's maps a `map.yaml`. Nothing foreign
        may be inside, and the header bears our mark, or there are more of our files beside it.
        """
        with _disk_errors(target):
            if not target.exists():
                return
            refused = f'{target}: is not replaced or removed, because it'
            if not target.is_dir():
                raise GsPoseError(f'{refused} is no folder')
            names = self._checked_content(target, refused)
            if not names & set(self._files[1:]) and not bears_mark(target / self._files[0]):
                raise GsPoseError(f'{refused} holds no {self._kind} that gs_pose_ros has written')

    def _checked_content(self, folder: Path, refused: str) -> set[str]:
        """The names of its files; GsPoseError, which starts with `refused`, for foreign ones."""
        names: set[str] = set()
        for path in folder.iterdir():
            if path.name not in self._files or (path.is_dir() and not path.is_symlink()):
                raise GsPoseError(
                    f'{refused} holds {path.name!r}, which is not of {self._kind}s: '
                    'move that away, or take another name'
                )
            names.add(path.name)
        return names

    def _clear_leftovers(self, target: Path) -> tuple[Path, Path]:
        """Put right what a killed process left of `target`.

        Returns:
            The names, free now, for its old folder and for its next one.

        """
        old, new = target.with_name(f'.old-{target.name}'), target.with_name(f'.new-{target.name}')
        if new.exists():
            self._check_aside(new)
            _delete(new)
        if old.exists() and target.exists():
            self._check_aside(old)
            _delete(old)
        elif old.exists():
            self.check_ours(old)
            with self._renaming():
                old.rename(target)
        return old, new

    def _check_aside(self, folder: Path) -> None:
        """Raise GsPoseError if there is more in it than what this class puts aside."""
        self._checked_content(folder, f'{folder}: is in the way, and not removed, because it')

    # Two locks, over all processes: one writer at a time, and no reader during its two renames -
    # but readers while it writes its files.

    @contextmanager
    def _writing(self, wait: bool = True) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError, RecursionError) as error:
            raise GsPoseError(
                f'{shown_path(self.root)}: cannot be written: {_reason(error)}'
            ) from error
        with _disk_errors(self.root), locked(self.root / '.writer-lock', wait=wait):
            # Makes the file of the other lock, for readers.
            with suppress(BlockingIOError), locked(self.root / '.lock', wait=False):
                pass
            yield

    def _renaming(self) -> AbstractContextManager[None]:
        return locked(self.root / '.lock')

    def reading(self) -> AbstractContextManager[None]:
        """Nothing is renamed meanwhile."""
        return shared_if_there(self.root / '.lock')


def checked_name(name: str, kind: str = 'object') -> str:
    """`name` if it is a plain name (letters, digits, `_.-`, no leading dot).

    Raises:
        GsPoseError: it is not; it would be used as a folder name.

    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 100:
        raise GsPoseError(
            f'{kind} id {shown(repr(name))}: only letters, digits, "_", "-" and "." are allowed, '
            'at most 100, and no leading dot'
        )
    return name


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is one, or cannot be looked at: who reads it says why."""
    try:
        return entry.is_dir() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        path = shown_path(error.filename or target)
        raise GsPoseError(f'{path}: {_reason(error)}') from error


def _delete(folder: Path) -> None:
    if folder.is_symlink():  # to an object that is stored elsewhere, and stays there
        folder.unlink()
    else:
        shutil.rmtree(folder)


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
