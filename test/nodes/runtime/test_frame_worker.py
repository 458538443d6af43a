"""One slot, one thread: the newest item wins, errors do not end it."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from gs_pose_ros.nodes.runtime.frame_worker import FrameWorker


def test_the_newest_item_replaces_those_that_wait() -> None:
    gate, begun = threading.Event(), threading.Event()
    done: SimpleQueue[int] = SimpleQueue()

    def work(item: int) -> None:
        begun.set()
        gate.wait(5)
        done.put(item)

    worker: FrameWorker[int] = FrameWorker('test', work, lambda item, error: None)
    worker.put(0)
    assert begun.wait(5)
    for item in range(1, 10):
        worker.put(item)
    gate.set()
    assert [done.get(timeout=5) for _ in range(2)] == [0, 9]
    assert worker.replaced == 8
    assert worker.stop()
    assert done.empty()


def test_an_error_is_reported_with_its_item_and_the_next_item_runs() -> None:
    done = threading.Event()
    errors: SimpleQueue[tuple[int, Exception]] = SimpleQueue()

    def work(item: int) -> None:
        if item == 1:
            raise ValueError('one')
        done.set()

    worker: FrameWorker[int] = FrameWorker('test', work, lambda *args: errors.put(args))
    worker.put(1)
    item, error = errors.get(timeout=5)
    worker.put(2)
    assert done.wait(5)
    worker.stop()
    assert item == 1
    assert str(error) == 'one'


def test_stop_forgets_what_waits_and_waits_for_what_runs() -> None:
    gate, begun, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        begun.set()
        gate.wait(5)
        done.append(item)

    worker: FrameWorker[int] = FrameWorker('test', work, lambda item, error: None)
    worker.put(1)
    assert begun.wait(5)
    worker.put(2)
    assert not worker.stop(0.05)  # still at work
    gate.set()
    assert worker.stop(5)
    assert done == [1]
    worker.put(3)  # nobody is there; nothing happens
    assert done == [1]


def test_clear_forgets_what_waits() -> None:
    gate, begun = threading.Event(), threading.Event()
    done: SimpleQueue[int] = SimpleQueue()

    def work(item: int) -> None:
        begun.set()
        gate.wait(5)
        done.put(item)

    worker: FrameWorker[int] = FrameWorker('test', work, lambda item, error: None)
    worker.put(1)
    assert begun.wait(5)
    worker.put(2)
    worker.clear()
    gate.set()
    assert done.get(timeout=5) == 1
    worker.put(3)
    assert done.get(timeout=5) == 3  # 2 would have come before
    worker.stop()
