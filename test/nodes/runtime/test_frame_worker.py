"""One slot, one thread: the newest item wins, errors do not end it."""

from __future__ import annotations

import threading
import time

from gs_pose_ros.nodes.runtime.frame_worker import FrameWorker


def test_the_newest_item_replaces_those_that_wait() -> None:
    gate, begun, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        begun.set()
        gate.wait(5)
        done.append(item)

    worker: FrameWorker[int] = FrameWorker('test', work, lambda item, error: None)
    worker.put(0)
    assert begun.wait(5)
    for item in range(1, 10):
        worker.put(item)
    gate.set()
    deadline = time.monotonic() + 5
    while len(done) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert done == [0, 9]
    assert worker.replaced == 8
    assert worker.stop()


def test_an_error_is_reported_with_its_item_and_the_next_item_runs() -> None:
    errors, done = [], threading.Event()

    def work(item: int) -> None:
        if item == 1:
            raise ValueError('one')
        done.set()

    worker: FrameWorker[int] = FrameWorker('test', work, lambda *args: errors.append(args))
    worker.put(1)
    while not errors:
        time.sleep(0.01)
    worker.put(2)
    assert done.wait(5)
    worker.stop()
    item, error = errors[0]
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
    gate, begun, done = threading.Event(), threading.Event(), []

    def work(item: int) -> None:
        begun.set()
        gate.wait(5)
        done.append(item)

    worker: FrameWorker[int] = FrameWorker('test', work, lambda item, error: None)
    worker.put(1)
    assert begun.wait(5)
    worker.put(2)
    worker.clear()
    gate.set()
    time.sleep(0.1)
    worker.stop()
    assert done == [1]
