"""Good messages and requests made hostile: fields that are odd, of other lengths, or no CDR."""

from __future__ import annotations

import copy
import random
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

_FLOATS = (float('nan'), float('inf'), float('-inf'), 1e308, -1e308, 1e-320, -1.0, 0.0, 1e9)
_STRINGS = (
    *('', '/', '.', '..', '~', '~nosuchuser', '../../etc', '/etc/passwd', '/dev/zero', '/proc/1'),
    *('x' * 300, 'x' * 5000, 'd/' * 2000, 'a\nb', 'a\x00b', 'ä€😀', '%s%n{}', 'nan', 'None'),
)
_BITS = {'8': 8, '16': 16, '32': 32, '64': 64}
_LONGEST = 2000  # of a sequence that is made longer: bytes of DDS are not what is tried


def hostile(good: Any, rng: random.Random) -> Any:
    """A copy with one to three of its fields, nested ones too, made odd."""
    out = copy.deepcopy(good)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(out))
        if not places:
            break
        message, name, kind = rng.choice(places)
        setattr(message, name, _odd(getattr(message, name), kind, rng))
    return out


def broken_bytes(good: Any, rng: random.Random) -> bytes:
    """The serialized message with bytes changed, or cut off: no program of ROS sends such."""
    data = bytearray(serialize_message(good))
    if rng.random() < 0.5:
        del data[rng.randrange(4, max(5, len(data))) :]
    else:
        for _ in range(rng.randint(1, 20)):
            # Lengths stand early; the encapsulation's four bytes are the middleware's own.
            at = rng.randrange(4, min(len(data), 200) if rng.random() < 0.7 else len(data))
            data[at] = rng.randrange(256)
    return bytes(data)


def _places(message: Any) -> Iterator[tuple[Any, str, str]]:
    """Every field with the message that holds it and its type; of sequences some members'."""
    for name, kind in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        yield message, name, kind
        members = [value] if hasattr(value, 'get_fields_and_field_types') else []
        if isinstance(value, list):
            members = [v for v in value[:3] if hasattr(v, 'get_fields_and_field_types')]
        for member in members:
            yield from _places(member)


def _odd(value: Any, kind: str, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, bytes):  # an octet
        return bytes([rng.randrange(256)])
    if isinstance(value, str):
        return rng.choice(_STRINGS)
    if isinstance(value, float):
        return rng.choice(_FLOATS if kind == 'double' else _FLOATS[:3] + _FLOATS[6:])
    if isinstance(value, int):
        bits = next((n for digits, n in _BITS.items() if kind.endswith(digits)), 8)
        low, high = (
            (0, 2**bits - 1) if kind.startswith('u') else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        )
        if kind in ('octet', 'byte', 'char'):
            low, high = 0, 255
        return rng.choice((low, high, rng.randint(low, high), min(1, high), 0))
    if isinstance(value, np.ndarray):  # of a fixed length
        out = value.copy()
        out[rng.randrange(out.size) if rng.random() < 0.5 else slice(None)] = rng.choice(_FLOATS)
        return out
    if isinstance(value, array):
        return _odd_array(value, rng)
    if isinstance(value, (list, tuple)):
        return _odd_list(list(value), rng)
    return type(value)()  # a nested message, unfilled


def _odd_array(value: array[Any], rng: random.Random) -> array[Any]:
    out = array(value.typecode, value)
    kind = rng.choice(('empty', 'short', 'long', 'noise'))
    if kind == 'empty':
        return array(value.typecode)
    if kind == 'short':
        return out[: len(out) // rng.randint(2, 9)]
    if kind == 'long':
        out.extend(out[:_LONGEST] or array(value.typecode, [0] * rng.randint(1, 9)))
        return out
    for _ in range(min(len(out), 1000)):
        if value.typecode in 'fd':
            out[rng.randrange(len(out))] = rng.choice(_FLOATS[:3])
        else:
            out[rng.randrange(len(out))] = rng.randrange(100)
    return out


def _odd_list(value: list[Any], rng: random.Random) -> list[Any]:
    kind = rng.choice(('empty', 'twice', 'many', 'first'))
    if kind == 'empty' or not value:
        return []
    if kind == 'twice':
        return value + copy.deepcopy(value)
    if kind == 'many':
        return value[:1] * rng.choice((100, _LONGEST))
    return value[:1]
