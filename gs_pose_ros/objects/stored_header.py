"""The YAML header of a stored folder: checked entries, and checksums of the files beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from gs_pose_ros.bounds import check_bounds
from gs_pose_ros.errors import GsPoseError, shown
from gs_pose_ros.objects.stored_arrays import MOST_BYTES
from gs_pose_ros.regular_files import read_regular

Facts = dict[str, 'float | int | str']
S = TypeVar('S')  # a dataclass

# Twice what an object of 300 symmetries takes; PyYAML reads 100 kB a second.
_MOST_BYTES = 1 << 18
_MOST_NESTED = 20  # symmetries are 4 deep; PyYAML calls itself for each
_SUMS = 'sha256'
_UNITS = 'metres, radians'
_LARGEST = 1e300  # of a number; those that are squared are checked where they mean something
# What PyYAML raises for text that is YAML, but of impossible dates, numbers or nesting.
_UNREADABLE = (
    *(yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    RecursionError,
)


class _Loader(yaml.SafeLoader):
    """Without aliases: some hundred bytes of them stand for gigabytes, and we write none."""

    _depth = 0  # of lists and tables

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError('it holds an alias (*), which is not read')
        if self._depth > _MOST_NESTED:
            raise yaml.YAMLError(f'more than {_MOST_NESTED} lists within each other')
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def write_header(path: Path, entries: Mapping[str, Any], files: Sequence[str]) -> None:
    """Write a header at last, with the checksums of the files beside it and of itself.

    Raises:
        GsPoseError: a file is so large that it would not be read again.

    """
    text = yaml.safe_dump(dict(entries), sort_keys=False).encode()
    if len(text) > _MOST_BYTES // 2:
        raise GsPoseError(f'{path.name} would have {len(text)} bytes, at most {_MOST_BYTES // 2}')
    sums = {name: _sum(read_regular(path.with_name(name), MOST_BYTES)) for name in files}
    sums[path.name] = _sum(text)  # of what stands above them
    path.write_bytes(text + yaml.safe_dump({_SUMS: sums}, sort_keys=False).encode())


def bears_mark(path: Path) -> bool:
    """Whether the YAML file says what only ours say."""
    try:
        entries = _load(path)[1]
    except GsPoseError:
        return False
    return isinstance(entries, dict) and {'format_version', 'package_version'} <= entries.keys()


class StoredHeader:
    """What a header says; every entry is taken out with a check of its type.

    A context, at whose end all that was read of the folder is compared with its checksums: they
    are computed meanwhile, in another thread. Headers of before there were checksums have none.
    """

    def __init__(self, path: Path, version: int) -> None:
        """Read it.

        Raises:
            GsPoseError: it cannot be read, or is of another format version.

        """
        self.path = path
        self._content, entries = _load(path)
        found = entries.get('format_version') if isinstance(entries, dict) else None
        if type(found) is not int or found != version:
            raise GsPoseError(
                f'{path}: format version {shown(found)}, this program reads {version}'
            )
        self._entries: dict[str, Any] = entries
        for key in ('created', 'package_version', 'units'):
            if key in entries:
                self.text(key)
        if entries.get('units', _UNITS) != _UNITS:
            raise self._wrong('units', entries['units'], repr(_UNITS))
        self._summing = ThreadPoolExecutor(1, 'sha256')
        self._sums: dict[str, Future[str]] = {}

    def __enter__(self) -> StoredHeader:
        """Take out of it what is needed."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Compare; what damaged files are taken for is not what is wrong with them."""
        with self._summing:
            if error is not None and not isinstance(error, GsPoseError):
                return
            for name, computed in self._sums.items():
                self._compare(name, computed.result())
            if error is None and _SUMS in self._entries:  # else its entries say more
                end = self._content.rfind(f'\n{_SUMS}:'.encode()) + 1
                self._compare(self.path.name, _sum(self._content[:end]))

    def file(self, name: str) -> tuple[bytes, Path]:
        """The content of a file beside it, and its path.

        Raises:
            GsPoseError: it cannot be read.

        """
        path = self.path.with_name(name)
        content = read_regular(path, MOST_BYTES)
        if _SUMS in self._entries:
            self._sums[name] = self._summing.submit(_sum, content)
        return content, path

    def _compare(self, name: str, computed: str) -> None:
        stored = self._entries[_SUMS]
        if not isinstance(stored, dict) or stored.get(name) != computed:
            raise GsPoseError(
                f'{self.path.with_name(name)}: damaged or changed since it was stored, its sha256 '
                f'is not the one in {self.path.name} (who changed it on purpose removes the lines '
                f'from "{_SUMS}:" on there)'
            )

    # ---- entries; all of them raise GsPoseError for one that is not there or of another kind ----

    def number(self, key: str) -> float:
        """A finite number."""
        return self._number(key, self._entry(key))

    def whole(self, key: str) -> int:
        """A whole number."""
        return self._whole(key, self._entry(key))

    def text(self, key: str) -> str:
        """A text that can be printed."""
        value = self._entry(key)
        if not isinstance(value, str) or not value.isprintable():
            raise self._wrong(key, value, 'a text')
        return value

    def numbers(self, key: str, *shape: int) -> NDArray[np.float64]:
        """Nested lists of finite numbers as an array; an axis of -1 has any length."""
        value = self._entry(key)
        if value == [] and shape[0] == -1:
            return np.zeros((0, *shape[1:]))
        wrong = self._wrong(key, value, f'numbers {["any" if n < 0 else n for n in shape]}')
        if not _all_numbers(value):
            raise wrong
        try:
            out = np.asarray(value, np.float64)
        except ValueError as error:  # lists of several lengths
            raise wrong from error
        if out.ndim != len(shape) or any(
            n not in (-1, found) for n, found in zip(shape, out.shape, strict=True)
        ):
            raise wrong
        return out

    def facts(self) -> Facts:
        """Numbers and texts by name."""
        return checked_facts(self._table('facts'), str(self.path))

    def settings(self, key: str, default: S) -> S:
        """A dataclass of numbers within their bounds; the default's of what is not said."""
        given = self._table(key) if key in self._entries else {}
        values: dict[str, float] = {}
        for field in fields(default):  # pyright: ignore[reportArgumentType]
            if field.name in given:
                is_whole = isinstance(getattr(default, field.name), int)
                taken = self._whole if is_whole else self._number
                values[field.name] = taken(f'{key}.{field.name}', given[field.name])
        stored = replace(default, **values)  # pyright: ignore[reportArgumentType]
        try:
            check_bounds(stored, f'{key}.')
        except ValueError as error:
            raise GsPoseError(f'{self.path}: {error}') from error
        return stored

    def _entry(self, key: str) -> Any:
        if key not in self._entries:
            raise GsPoseError(f'{self.path}: lacks {key}')
        return self._entries[key]

    def _number(self, key: str, value: Any) -> float:
        if not _is_number(value):
            raise self._wrong(key, value, 'a number')
        return float(value)

    def _whole(self, key: str, value: Any) -> int:
        if not _is_number(value) or int(value) != value:
            raise self._wrong(key, value, 'a whole number')
        return int(value)

    def _table(self, key: str) -> dict[str, Any]:
        value = self._entry(key)
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            raise self._wrong(key, value, 'names with values')
        return dict(value)

    def _wrong(self, key: str, value: Any, expected: str) -> GsPoseError:
        return GsPoseError(f'{self.path}: {key} is {shown(value)}, expected {expected}')


def checked_facts(facts: Mapping[str, Any], source: str) -> Facts:
    """The facts as plain numbers, which may be NaN, and texts.

    Raises:
        GsPoseError: one is neither.

    """
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in facts.items()}
    for name, value in plain.items():
        if not (isinstance(value, str | bool | float) or _is_number(value)):
            raise GsPoseError(f'{source}: facts.{name} is {shown(value)}, expected number or text')
    return plain


def _is_number(value: Any) -> bool:
    """Whether it is a finite number, which a float can hold."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < _LARGEST


def _all_numbers(value: Any) -> bool:
    return all(map(_all_numbers, value)) if isinstance(value, list) else _is_number(value)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _load(path: Path) -> tuple[bytes, Any]:
    """The bytes of a YAML file, and what they say."""
    content = read_regular(path, _MOST_BYTES)
    try:
        return content, yaml.load(content, _Loader)  # noqa: S506 - a safe one
    except _UNREADABLE as error:
        raise GsPoseError(f'{path}: not readable: {_in_short(error)}') from error


def _in_short(error: Exception) -> str:
    """What is wrong, and in which line."""
    mark = getattr(error, 'problem_mark', None)
    line = '' if mark is None else f'line {mark.line + 1}: '
    return line + shown(str(getattr(error, 'problem', None) or error).split('\n')[0])
