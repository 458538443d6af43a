"""Good inputs made bad: what the property tests of all readers share.

`HYPOTHESIS_PROFILE=thorough` runs a thousand examples of each.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gs_pose_ros.errors import GsPoseError

Result = TypeVar('Result')

_THOROUGH = os.environ.get('HYPOTHESIS_PROFILE') == 'thorough'

# What other programs, or a slip, put where a number, a name or a list belongs.
_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 10**400, 0.5, 1e308, -1e308, 1e-320),
    *(float('nan'), float('inf'), float('-inf')),
    *('', 'x', '0', '1e3', 'nan', '~', '/', '..', '../../etc/passwd', '\0', 'ä' * 300),
    *([], {}, [[]], [None], [0] * 1000, {'x': 1}),
)


def examples(count: int) -> Callable[[Any], Any]:
    """Settings for a property test of so many examples; a thousand in a thorough run."""
    return settings(
        max_examples=1000 if _THOROUGH else count,
        deadline=None,
        derandomize=True,
        # The folder of a test may serve all of its examples: each writes its files anew.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def result_or_message(read: Callable[[], Result]) -> tuple[Result | None, str]:
    """What was read, or with None what the refusal says; any other error is raised."""
    try:
        return read(), ''
    except GsPoseError as error:
        return None, str(error)


@st.composite
def mutated_bytes(draw: st.DrawFn, good: bytes, header: int = 0) -> bytes:
    """The bytes with some overwritten, cut out, put in or cut off.

    Half of the changes fall within the first `header` bytes, where formats say what follows.
    """
    out = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        end = len(out)
        if header and draw(st.booleans()):
            end = min(end, header)
        at = draw(st.integers(0, max(0, end - 1)))
        kind = draw(st.sampled_from(('overwrite', 'remove', 'insert', 'truncate')))
        if kind == 'overwrite':
            new = draw(st.binary(min_size=1, max_size=8))
            out[at : at + len(new)] = new
        elif kind == 'remove':
            del out[at : at + draw(st.integers(1, 64))]
        elif kind == 'insert':
            out[at:at] = draw(st.binary(min_size=1, max_size=64))
        else:
            del out[at:]
    return bytes(out)


@st.composite
def mutated_content(draw: st.DrawFn, good: Any) -> Any:
    """Nested lists and dicts, as of a JSON or YAML file, with some entries odd or gone."""
    out = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(out))
        if not places:
            return draw(st.sampled_from(_ODD_VALUES))
        parent, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(('odd', 'odd', 'remove', 'double')))
        if kind == 'odd':
            parent[key] = copy.deepcopy(draw(st.sampled_from(_ODD_VALUES)))
        elif kind == 'remove':
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
    return out


def mutated_json(good: Any) -> st.SearchStrategy[bytes]:
    """A JSON file with changed entries, or with changed bytes."""
    text = json.dumps(good).encode()
    return mutated_content(good).map(lambda content: json.dumps(content).encode()) | mutated_bytes(
        text
    )


@st.composite
def mutated_rows(draw: st.DrawFn, good: str) -> bytes:
    """A text of rows of words, as trajectories are, with odd, missing, more or swapped words."""
    rows = [line.split(' ') for line in good.splitlines()]
    odd = ('', 'nan', 'inf', '-inf', '1e400', '-1', '0', '1e308', 'x', '#', ',', '\t', 'é', '1_0')
    for _ in range(draw(st.integers(1, 4))):
        row = draw(st.sampled_from(rows))
        at = draw(st.integers(0, max(0, len(row) - 1)))
        kind = draw(st.sampled_from(('odd', 'remove', 'insert', 'empty', 'twice')))
        if kind == 'odd' and row:
            row[at] = draw(st.sampled_from(odd))
        elif kind == 'remove' and row:
            del row[at]
        elif kind == 'insert':
            row.insert(at, draw(st.sampled_from(odd)))
        elif kind == 'empty':
            row.clear()
        elif kind == 'twice':
            rows.append(list(row))
    end = draw(st.sampled_from(('\n', '\r\n', '\n\n')))
    encoding = draw(st.sampled_from(('utf-8', 'utf-8-sig', 'utf-16')))
    return end.join(' '.join(row) for row in rows).encode(encoding)


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every list and dict inside with each of its keys."""
    keys: Any = ()
    if isinstance(content, dict):
        keys = list(content)
    elif isinstance(content, list):
        keys = range(len(content))
    for key in keys:
        yield content, key
        yield from _places(content[key])
