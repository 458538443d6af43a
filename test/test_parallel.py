"""Work on threads gives what a loop would."""

from __future__ import annotations

import os
import threading

import pytest

from gs_pose_ros.parallel import map_threads


def test_results_come_in_the_order_of_the_items() -> None:
    assert map_threads(lambda x: x * x, range(50)) == [x * x for x in range(50)]
    assert map_threads(lambda x: x, []) == []


def test_pieces_run_at_the_same_time() -> None:
    # All of them must have started before any can end.
    together = min(2, os.cpu_count() or 1)
    barrier = threading.Barrier(together, timeout=20)
    map_threads(lambda _: barrier.wait(), range(together))


def test_an_error_reaches_the_caller_and_the_threads_live_on() -> None:
    def fail_at_three(x: int) -> int:
        if x == 3:
            raise ValueError('three')
        return x

    with pytest.raises(ValueError, match='three'):
        map_threads(fail_at_three, range(6))
    assert map_threads(fail_at_three, range(3)) == [0, 1, 2]
