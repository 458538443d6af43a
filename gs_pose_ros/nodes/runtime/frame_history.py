"""Image sets that are held until what was found in them comes."""

from __future__ import annotations

import threading
from collections import deque

from gs_pose_ros.nodes.runtime.frame_input import ImageSet

# Detection may take seconds. Of this time every image is held, so that the one that the detector
# names is still there; of the time before only some, which is enough to follow an object.
_RECENT_NS = 500_000_000
_SPACING_NS = 90_000_000
_MOST_PINNED = 8
# What is found in an image may come before the image; never by more than this.
_AHEAD_NS = 10_000_000_000


class FrameHistory:
    """The newest sets by stamp; safe between the thread that adds and the one that reads.

    All of the last half second, one in 0.1 s of the time before, up to `size` sets; and those
    that were pinned, because somebody is at work on them.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._sets: list[ImageSet] = []
        self._pins: deque[int] = deque(maxlen=_MOST_PINNED)
        self._lock = threading.Lock()

    def add(self, images: ImageSet) -> None:
        """Hold a set, forgetting some of the old ones."""
        with self._lock:
            recent_ns = images.stamp_ns - _RECENT_NS
            kept: list[ImageSet] = []
            last_ns = -_SPACING_NS
            for old in self._sets:
                stamp_ns = old.stamp_ns
                if stamp_ns >= recent_ns or stamp_ns - last_ns >= _SPACING_NS:
                    kept.append(old)
                    last_ns = stamp_ns
                elif stamp_ns in self._pins:
                    kept.append(old)
            surplus = len(kept) + 1 - self._size
            pinned = [s for s in kept[: max(0, surplus)] if s.stamp_ns in self._pins]
            self._sets = [*pinned, *kept[max(0, surplus) :], images]

    def pin(self, stamp_ns: int) -> None:
        """Hold the set of that stamp, which may not have come yet, until others are pinned."""
        with self._lock:
            self._pins.append(stamp_ns)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._sets = []
            self._pins.clear()

    def at(self, stamp_ns: int) -> ImageSet | None:
        """The set of exactly that stamp."""
        with self._lock:
            return next((s for s in reversed(self._sets) if s.stamp_ns == stamp_ns), None)

    def near(self, stamp_ns: int, most_ns: int) -> ImageSet | None:
        """The first set after that stamp, if it is not more than that later."""
        images = self.after(stamp_ns, 0)
        return images if images is not None and images.stamp_ns - stamp_ns <= most_ns else None

    def after(self, stamp_ns: int, step_ns: int) -> ImageSet | None:
        """The last set within a step after that stamp, else the first one after it."""
        with self._lock:
            later = [s for s in self._sets if s.stamp_ns > stamp_ns]
        near = [s for s in later if s.stamp_ns <= stamp_ns + step_ns]
        return near[-1] if near else (later[0] if later else None)

    def awaits(self, stamp_ns: int) -> bool:
        """Whether the set of that stamp may still come."""
        newest_ns = self.newest_ns()
        return not newest_ns or newest_ns < stamp_ns < newest_ns + _AHEAD_NS

    def why_not(self, stamp_ns: int) -> str:
        """Why there is no set of that stamp, and none will come."""
        ahead_s = (stamp_ns - self.newest_ns()) / 1e9
        if ahead_s > 0:
            return f'their stamp is {ahead_s:.1f} s after the newest image: is a clock wrong?'
        return (
            f'their image, {-ahead_s:.1f} s old, is not held any more: raise the parameter '
            '`history`'
        )

    def newest_ns(self) -> int:
        """The newest stamp, 0 without any."""
        with self._lock:
            return self._sets[-1].stamp_ns if self._sets else 0
