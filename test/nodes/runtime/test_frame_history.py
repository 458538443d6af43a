"""What is held of the past: all of the newest, some of the old, and what is being worked on."""

from __future__ import annotations

import itertools

from sensor_msgs.msg import CameraInfo, Image

from gs_pose_ros.nodes.runtime.frame_history import FrameHistory
from gs_pose_ros.nodes.runtime.frame_input import ImageSet
from test.nodes.conftest import header_at

MS = 10**6


def filled(size: int, count: int, step_ms: int = 33, pin_ms: int | None = None) -> FrameHistory:
    history = FrameHistory(size)
    for k in range(count):
        if pin_ms == k * step_ms:  # the announcement may be earlier than the image
            history.pin(k * step_ms * MS)
        image = Image(header=header_at(k * step_ms * MS))
        history.add(ImageSet(image, CameraInfo(), None))
    return history


def stamps(history: FrameHistory) -> list[int]:
    return [images.stamp_ns // MS for images in history._sets]


def test_recent_images_are_all_held_and_old_ones_thinned() -> None:
    held = stamps(filled(100, 90))  # three seconds at 30 Hz
    newest = 89 * 33
    assert [s for s in held if s >= newest - 500] == list(range(newest - 15 * 33, newest + 1, 33))
    old = [s for s in held if s < newest - 500]
    assert old[0] == 0
    gaps = [b - a for a, b in itertools.pairwise(old)]
    assert min(gaps) >= 90
    assert max(gaps) <= 132


def test_a_slow_camera_is_not_thinned() -> None:
    assert len(stamps(filled(100, 60, step_ms=100))) == 60


def test_the_size_is_a_limit_and_pins_survive_it() -> None:
    history = filled(20, 200, pin_ms=33 * 7)
    held = stamps(history)
    assert held[0] == 33 * 7
    assert len(held) <= 21
    assert history.at(33 * 7 * MS) is not None
    assert history.at(33 * 8 * MS) is None


def test_after_takes_a_step_or_the_next_there_is() -> None:
    history = filled(100, 10, step_ms=100)

    def after(stamp_ms: int, step_ms: int) -> int | None:
        images = history.after(stamp_ms * MS, step_ms * MS)
        return None if images is None else images.stamp_ns // MS

    assert after(0, 0) == 100
    assert after(0, 350) == 300
    assert after(850, 10) == 900
    assert after(900, 1000) is None
    near = history.near(110 * MS, 100 * MS)
    assert near is not None
    assert near.stamp_ns == 200 * MS
    assert history.near(110 * MS, 80 * MS) is None
    assert history.newest_ns() == 900 * MS
    history.clear()
    assert after(0, 100) is None
    assert history.newest_ns() == 0
