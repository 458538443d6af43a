"""The comments of dataclass fields as their documentation, so that it is written once."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from types import MappingProxyType


@functools.cache
def field_docs(cls: type) -> Mapping[str, str]:
    """Per field of a dataclass the comment beside it, or else the one in the lines above it."""
    out: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        try:
            source = _source(owner)
        except (OSError, TypeError):  # made at run time, or shipped without source
            continue
        above: list[str] = []
        for code, comment in _lines(source):
            name = code.split(':', 1)[0].strip()
            if code and name.isidentifier():
                out[name] = (comment or ' '.join(above)).strip()
            above = [*above, comment] if comment and not code else []
    return MappingProxyType(out)


def _source(cls: type) -> str:
    for _ in range(10):
        try:
            return inspect.getsource(cls)
        except SystemError:  # Python 3.11 with other threads: "AST constructor recursion depth"
            continue
    raise OSError(f'the source of {cls.__name__} cannot be parsed')


def _lines(source: str) -> Iterator[tuple[str, str]]:
    """Code and comment of each line."""
    comments = {
        token.start[0]: token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    for number, line in enumerate(source.splitlines(), 1):
        token = comments.get(number)
        if token is None:
            yield line.strip(), ''
        else:
            yield line[: token.start[1]].strip(), token.string.lstrip('#').strip()
