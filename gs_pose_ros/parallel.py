"""Independent pieces of numeric work on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix='gs_pose')


def map_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`[function(item) for item in items]` on threads: numba, numpy and OpenCV release the GIL.

    Must not be called from within `function`: the pool would wait for itself.
    """
    return list(_pool().map(function, items))
