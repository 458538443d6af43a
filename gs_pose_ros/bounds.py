"""Ranges of settings, as part of their types: nodes refuse parameters outside of them.

They stop what is absurd - negative sizes, divisors of zero, pictures that fill the memory - and
leave room for every sane value. The classes themselves do not check: `check_bounds` does.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Bounds:
    """An inclusive range; None is no limit."""

    low: float | None
    high: float | None


Share = Annotated[float, Bounds(0, 1)]
NonNegative = Annotated[float, Bounds(0, None)]
Positive = Annotated[float, Bounds(1e-9, None)]
Distance = Annotated[float, Bounds(0.01, 100)]  # m from the camera
Extent = Annotated[float, Bounds(0.5, 10)]  # side of a picture, in sizes of the object
Angle = Annotated[float, Bounds(1, 180)]  # degrees
Factor = Annotated[float, Bounds(1.01, 10)]  # by which scales differ; its logarithm divides

Few = Annotated[int, Bounds(1, 100)]
FewOrNone = Annotated[int, Bounds(0, 100)]
Many = Annotated[int, Bounds(1, 1000)]
Queue = Annotated[int, Bounds(2, 1000)]  # images that are held
Count = Annotated[int, Bounds(1, 1_000_000)]  # of iterations, Gaussians, pixels
CountOrNone = Annotated[int, Bounds(0, 1_000_000)]
CropSize = Annotated[int, Bounds(16, 1024)]  # px
Cells = Annotated[int, Bounds(4, 64)]  # across a template
Consensus = Annotated[int, Bounds(4, 1000)]  # matches that agree on a pose, which takes four


def check_bounds(settings: Any, prefix: str = '') -> None:
    """Raise ValueError naming the first field, nested ones too, that is NaN or out of range."""
    for name, value, bounds in _bounded(settings, prefix):
        low = -math.inf if bounds.low is None else bounds.low
        high = math.inf if bounds.high is None else bounds.high
        # An infinity is in no range, whatever its ends.
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f'{name} is {value}, not within {low:g} to {high:g}')


def _bounded(settings: Any, prefix: str) -> Iterator[tuple[str, float, Bounds]]:
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from _bounded(value, f'{prefix}{field.name}.')
            continue
        for extra in getattr(hints[field.name], '__metadata__', ()):
            if isinstance(extra, Bounds):
                yield f'{prefix}{field.name}', value, extra
