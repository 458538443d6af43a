"""One thread that works on the newest item; older ones that it has not begun are replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')


class FrameWorker(Generic[T]):
    """A slot for one item and the thread that empties it.

    `work(item)` runs in the thread, never twice at a time. What it raises goes to
    `on_error(item, error)`, and the thread goes on with the next item.
    """

    def __init__(
        self, name: str, work: Callable[[T], None], on_error: Callable[[T, Exception], None]
    ) -> None:
        self._work, self._on_error = work, on_error
        self._changed = threading.Condition()
        self._slot: list[T] = []  # at most one
        self._stopping = False
        self.replaced = 0  # items that were never worked on
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Work on this item next, instead of one that still waits; never blocks."""
        with self._changed:
            self.replaced += len(self._slot)
            self._slot = [item]
            self._changed.notify()

    def clear(self) -> None:
        """Forget the item that waits."""
        with self._changed:
            self._slot = []

    def stop(self, timeout_s: float | None = 10.0) -> bool:
        """End after the item in work; whether the thread did end in time."""
        with self._changed:
            self._stopping, self._slot = True, []
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot or self._stopping)
                if self._stopping:
                    return
                item = self._slot.pop()
            try:
                self._work(item)
            except Exception as error:  # the node's boundary: one bad frame must not end it
                self._on_error(item, error)
