"""Colour, depth and camera_info of one moment, by their stamps.

A camera_info holds for the image with its stamp. Drivers that send it less often, or with stamps
of its own, say one thing all the time: while that is so, it holds for images without their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.recording.camera_topics import CameraTopics
from gs_pose_ros.recording.rectification import content_of

# Topics may be a few frames out of step with each other; what starts again is further off.
JUMP_NS = 500_000_000
NO_STAMPS = 'the images have no stamps: they are 0; their driver has to set them'
# Topics of one camera may be a few frames out of step in a bag; more never comes together.
_WAITING = 50
# Images that may wait for a camera_info of their own.
PATIENCE = 10


def stamp_fault(stamp: Any) -> str:
    """Why a stamp says no time; '' if it does."""
    if stamp.sec < 0 or stamp.nanosec >= 1_000_000_000:
        return f'the stamp of {stamp.sec} s and {stamp.nanosec} ns is no time'
    return '' if stamp.sec or stamp.nanosec else NO_STAMPS


def never_equal(topics: Sequence[str], nearest_ns: int | None, option: str) -> str:
    """What to say of topics whose stamps never agree; `nearest_ns` is how near they come."""
    out = f'the stamps of {", ".join(topics)} are never equal'
    if nearest_ns is None:
        return out
    ms = nearest_ns / 1e6
    return f'{out}; the nearest are {ms:.3f} ms apart: {option} may allow for that'


def nearest_ns(a: Sequence[int], b: Sequence[int]) -> int | None:
    """How near the stamps of two topics come; None where there are none."""
    if not len(a) or not len(b):
        return None
    first, second = np.array(a, np.int64), np.unique(np.array(b, np.int64))
    at = np.searchsorted(second, first)
    sides = [np.abs(second[(at + k).clip(0, len(second) - 1)] - first) for k in (-1, 0)]
    return int(np.minimum(*sides).min())


class HeldInfo:
    """The camera_info of images that have none of their own, while it says one thing."""

    def __init__(self, first: Any = None) -> None:
        self.last = first
        self.changed = False
        self._content = None if first is None else content_of(first)

    def add(self, info: Any) -> None:
        """Take in the next one."""
        content = content_of(info)
        self.changed |= self._content not in (None, content)
        self._content, self.last = content, info

    @property
    def held(self) -> Any:
        """What holds for all images so far; None if nothing does."""
        return None if self.changed else self.last


class Joined(NamedTuple):
    """The messages of one frame."""

    color: Any
    info: Any
    depth: Any
    depth_info: Any


@dataclass(eq=False)
class _Waiting:
    color: Any
    stamp_ns: int
    number: int
    depth: Any = None


class _OwnInfo:
    """Camera_infos by stamp, and the one that is held."""

    def __init__(self, first: Any, tolerance_ns: int) -> None:
        self.held = HeldInfo(first)
        self._recent: dict[int, Any] = {}
        self._tolerance_ns = tolerance_ns

    def add(self, stamp_ns: int, info: Any) -> None:
        self.held.add(info)
        self._recent[stamp_ns] = info
        if len(self._recent) > _WAITING:
            del self._recent[next(iter(self._recent))]

    def at(self, stamp_ns: int, waited: int) -> Any:
        """That of an image; None if it may still come, or if nothing is sure."""
        own = self._recent.get(stamp_ns)
        if own is None and self.held.changed and self._tolerance_ns:
            near = min(self._recent, key=lambda s: abs(s - stamp_ns), default=None)
            if near is not None and abs(near - stamp_ns) <= self._tolerance_ns:
                own = self._recent[near]
        if own is None and waited >= PATIENCE:
            own = self.held.held
        return own


class StampJoin:
    """Takes messages in the order of recording; gives frames as soon as they are whole.

    `left_out(stamp_ns, reason)` is told of each colour image that does not become one; errors name
    the `source`. A camera_info to begin with holds for images before the first that comes.
    """

    def __init__(
        self,
        source: str,
        topics: CameraTopics,
        tolerance_ns: int,
        left_out: Callable[[int, str], None],
        first_info: Any = None,
        first_depth_info: Any = None,
    ) -> None:
        self._source, self._topics = source, topics
        self._tolerance_ns, self._left_out = tolerance_ns, left_out
        self._info = _OwnInfo(first_info, tolerance_ns)
        self._depth_info = _OwnInfo(first_depth_info, tolerance_ns)
        self._waiting: list[_Waiting] = []
        self._depths: dict[int, Any] = {}
        self._color_ns: list[int] = []
        self._depth_ns: list[int] = []
        self._seen, self._without_stamp = [0, 0], [0, 0]  # of colour, depth
        self._joined = 0

    def add(self, topic: str, msg: Any) -> Iterator[Joined]:
        """Take one message in.

        Raises:
            GsPoseError: the stamps jump back.

        """
        stamp = msg.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if topic == self._topics.camera_info:
            self._info.add(stamp_ns, msg)
        if topic == self._topics.depth_info:
            self._depth_info.add(stamp_ns, msg)
        if topic in (self._topics.color, self._topics.depth):
            which = int(topic == self._topics.depth)
            self._seen[which] += 1
            fault = stamp_fault(stamp)
            self._without_stamp[which] += bool(fault) and stamp_ns == 0
            if not fault:
                self._take_image(which, stamp_ns, msg)
            elif which == 0:
                self._left_out(stamp_ns, fault)
        yield from self._whole(False)
        while len(self._waiting) > _WAITING:
            self._give_up(self._waiting.pop(0))

    def finish(self) -> Iterator[Joined]:
        """What is left when all messages were taken in.

        Raises:
            GsPoseError: no frame came together at all; the message says why.

        """
        yield from self._whole(True)
        for item in self._waiting:
            self._give_up(item)
        self._waiting.clear()
        if not self._joined:
            raise GsPoseError(f'{self._source}: {self._why_none()}')

    def _take_image(self, which: int, stamp_ns: int, msg: Any) -> None:
        if which:
            self._depth_ns.append(stamp_ns)
            self._depths[stamp_ns] = msg
            if len(self._depths) > _WAITING:
                del self._depths[next(iter(self._depths))]
            return
        newest = self._color_ns[-1] if self._color_ns else stamp_ns
        if stamp_ns < newest - JUMP_NS:
            raise GsPoseError(
                f'{self._source}: the stamps of {self._topics.color} jump back by '
                f'{(newest - stamp_ns) / 1e9:.3f} s at image {self._seen[0]}, so which poses are '
                'meant is not sure: split the bag there'
            )
        self._color_ns.append(stamp_ns)
        self._waiting.append(_Waiting(msg, stamp_ns, self._seen[0]))

    def _whole(self, at_end: bool) -> Iterator[Joined]:
        for item in list(self._waiting):
            if self._topics.depth and item.depth is None:
                item.depth = self._depth_at(item.stamp_ns, at_end)
                if item.depth is None:
                    continue
            waited = PATIENCE if at_end else self._seen[0] - item.number
            info = self._info.at(item.stamp_ns, waited)
            depth_info = None
            if self._topics.depth_info and item.depth is not None:
                stamp = item.depth.header.stamp
                depth_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
                depth_info = self._depth_info.at(depth_ns, waited)
            missing = [info] if not self._topics.depth_info else [info, depth_info]
            if None in missing:
                if waited < PATIENCE:  # the next ones come after it
                    return
                continue
            self._waiting.remove(item)
            self._joined += 1
            yield Joined(item.color, info, item.depth, depth_info)

    def _depth_at(self, stamp_ns: int, at_end: bool) -> Any:
        """The depth of a moment; with a tolerance the nearest, once a later one has come."""
        if stamp_ns in self._depths:
            return self._depths.pop(stamp_ns)
        if not self._tolerance_ns or not self._depths:
            return None
        if not at_end and self._depth_ns[-1] < stamp_ns:
            return None
        near = min(self._depths, key=lambda s: abs(s - stamp_ns))
        return self._depths.pop(near) if abs(near - stamp_ns) <= self._tolerance_ns else None

    def _give_up(self, item: _Waiting) -> None:
        within = f' within {self._tolerance_ns / 1e9:g} s' if self._tolerance_ns else ''
        if self._topics.depth and item.depth is None:
            reason = f'no image on {self._topics.depth} has its stamp{within}'
        else:
            reason = (
                f'no message on {self._topics.camera_info} has its stamp{within}, and what they '
                'say changes'
            )
        self._left_out(item.stamp_ns, reason)

    def _why_none(self) -> str:
        topics = self._topics
        names = [topics.color, topics.depth] if topics.depth else [topics.color]
        for name, seen, without in zip(names, self._seen, self._without_stamp, strict=False):
            if not seen:
                return f'no image on {name}'
            if seen == without:
                return f'{name}: {NO_STAMPS}'
        if not self._color_ns:
            return f'the stamps of {topics.color} are no times'
        if self._info.held.last is None:
            return f'no camera info on {topics.camera_info}'
        nearest = nearest_ns(self._color_ns, self._depth_ns) if topics.depth else None
        option = 'stamp_tolerance (--stamp-tolerance)'
        return never_equal([*names, topics.camera_info], nearest or None, option)
