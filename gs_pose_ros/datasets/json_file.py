"""JSON files that others wrote, and numbers in them: of the shape that is needed, and finite."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.regular_files import read_regular

# The truth of a hundred thousand images of twenty objects takes as much.
_MOST_BYTES = 2**29
_SHOWN = 60  # characters of a value in a message


def read_json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; a byte order mark before it is skipped.

    Raises:
        GsPoseError: it is missing, no regular file, no JSON, or holds something else.

    """
    content = read_regular(path, _MOST_BYTES)
    try:
        found = json.loads(content.decode('utf-8-sig'))
    except UnicodeDecodeError as error:
        raise GsPoseError(
            f'{path}: not readable: it is not text in UTF-8 ({error.reason})'
        ) from error
    except ValueError as error:  # malformed, or a number of more than 4300 digits
        raise GsPoseError(f'{path}: not readable: {error}') from error
    except RecursionError as error:
        raise GsPoseError(
            f'{path}: not readable: its lists and objects are nested too deep'
        ) from error
    if not isinstance(found, dict):
        raise GsPoseError(f'{path}: holds {_kind(found)}, an object {{...}} is needed')
    return found


def numbered_entries(path: Path, what: str) -> dict[int, Any]:
    """The entries of a file by their keys, numbers of `what`, which may have leading zeros.

    Raises:
        GsPoseError: as `read_json_object`; or a key is no number, or there twice.

    """
    out: dict[int, Any] = {}
    for key, entry in read_json_object(path).items():
        if re.fullmatch(r'\d{1,9}', key, re.ASCII) is None:
            raise GsPoseError(f'{path}: the key {key[:40]!a} is not the number of {what}')
        if int(key) in out:
            raise GsPoseError(f'{path}: the number {int(key)} of {what} is there twice')
        out[int(key)] = entry
    return out


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is an object; raises TypeError if not."""
    if not isinstance(value, dict):
        raise TypeError(f'holds {_kind(value)} where an object {{...}} is needed')
    return value


def as_list(value: Any) -> list[Any]:
    """The value if it is a list; raises TypeError if not."""
    if not isinstance(value, list):
        raise TypeError(f'holds {_kind(value)} where a list [...] is needed')
    return value


def whole_number(entry: Mapping[str, Any], key: str) -> int:
    """A whole number from 0 to 2^63 - 1, as numbers and stamps of objects are.

    Raises:
        ValueError: it is not there, or something else.

    """
    value: Any = entry.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and 0 <= value < 2**63 and value == int(value):
        return int(value)
    raise ValueError(f'{_said(entry, key)}, a whole number is needed')


def number(entry: Mapping[str, Any], key: str) -> float:
    """A finite number.

    Raises:
        ValueError: it is not there, or something else.

    """
    return float(numbers(entry, key, 1)[0])


def numbers(entry: Mapping[str, Any], key: str, count: int) -> NDArray[np.float64]:
    """So many finite numbers [count], from a list of them, or of lists.

    Raises:
        ValueError: they are not there, fewer or more, or something else.

    """
    value = entry.get(key)
    try:
        found = np.array(value, np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        found = np.zeros(0)
    if value is None or len(found) != count:
        needed = 'a number is' if count == 1 else f'{count} numbers are'
        raise ValueError(f'{_said(entry, key)}, {needed} needed')
    if not np.isfinite(found).all():
        raise ValueError(f'{_said(entry, key)}: NaN and infinity are not allowed')
    return found


def _kind(value: Any) -> str:
    """What a value is in the words of JSON."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace('none', 'null')
    kinds = {dict: 'an object', list: 'a list', str: 'a text'}
    return kinds.get(type(value), 'a number')


def _said(entry: Mapping[str, Any], key: str) -> str:
    if key not in entry:
        return f'{key} is missing'
    value = entry[key]
    text = _kind(value) if value is None or isinstance(value, bool) else ascii(value)
    return f'{key} is {text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."}'
