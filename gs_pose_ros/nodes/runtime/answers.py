"""Answers of services to requests that are not served."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any


def refused(_: Any, response: Any, *, reason: str) -> Any:
    """An answer of the response's type that says why, and nothing else of what was filled in."""
    out = type(response)()
    if hasattr(out, 'message'):
        out.message = reason
    return out


def in_line(answer: Callable[[Any, Any], Any], most: int) -> Callable[[Any, Any], Any]:
    """`answer` to one request after the other; to those beyond `most` at once a refusal.

    Each one that waits holds a thread of its node, and its caller's patience.
    """
    turn, count_lock, count = threading.Lock(), threading.Lock(), 0

    @functools.wraps(answer)
    def take(request: Any, response: Any) -> Any:
        nonlocal count
        with count_lock:
            if count >= most:
                reason = f'busy with {count} other request{"s"[: count - 1]}: ask again later'
                return refused(request, response, reason=reason)
            count += 1
        try:
            with turn:
                return answer(request, response)
        finally:
            with count_lock:
                count -= 1

    return take
