"""Which objects the detector looks for in the next image, and how thoroughly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated

from gs_pose_ros.bounds import Bounds, Share
from gs_pose_ros.nodes.runtime.parameters import setting


@dataclass(frozen=True)
class SearchSettings:
    """Parameters of the detector node that say when it looks for what."""

    rest_while_tracked: bool = setting(True, 'Do not look for objects that are tracked.')
    track_timeout_s: Annotated[float, Bounds(0.1, 60)] = setting(
        2.0, 'A track that gs_refiner is silent about for so long is over.'
    )
    redetect_period_s: Annotated[float, Bounds(0, 3600)] = setting(
        10.0, 'Look for tracked objects too, this often: more may have come. 0: never.'
    )
    answer_s: Annotated[float, Bounds(0, 60)] = setting(
        1.0, 'What was found is not looked for again until gs_refiner has answered, or so long.'
    )
    recovery_s: Annotated[float, Bounds(0, 60)] = setting(
        3.0, 'For so long, an object that was tracked and is lost is searched for in a hurry.'
    )
    recovery_effort: Share = setting(
        0.15,
        'Share of the proposals looked into meanwhile, and in the first image that an object is '
        'looked for in; all other objects have to wait.',
    )


@dataclass
class _Times:
    """Of one object, s; far back where it has never happened."""

    searched: float | None = None  # with all effort
    hurried: bool = False  # searched in a hurry at least
    found: float = -1e9
    tracked: float = -1e9
    lost: float = -1e9

    @property
    def is_new(self) -> bool:
        """Whether it was never looked for."""
        return self.searched is None and not self.hurried


class SearchPlan:
    """Remembers what was searched, found, tracked and lost; times are monotonic, in s."""

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._times: defaultdict[str, _Times] = defaultdict(_Times)
        self._answers = False  # whether there is a refiner

    def next(self, object_ids: Iterable[str], now: float) -> tuple[list[str], float]:
        """Those of the objects to look for now, and the share of the usual effort."""
        wanted = [name for name in object_ids if self._is_wanted(name, now)]
        # What has just been lost is behind something, or will be back in a moment; what is in
        # plain view at the start is found in a third of the time.
        recovery_s = self._settings.recovery_s
        hurried = [name for name in wanted if now - self._times[name].lost < recovery_s]
        hurried = hurried or [name for name in wanted if self._times[name].is_new]
        if hurried:
            for name in hurried:
                self._times[name].hurried = True
            return hurried, self._settings.recovery_effort
        for name in wanted:
            self._times[name].searched = now
        return wanted, 1.0

    def _is_wanted(self, object_id: str, now: float) -> bool:
        s, times = self._settings, self._times[object_id]
        if not s.rest_while_tracked:
            return True
        if self._answers and now - times.found < s.answer_s:
            return False
        if now - times.tracked >= s.track_timeout_s:
            return True
        # Of what was found in a hurry there may be more.
        before = -1e9 if times.hurried else None
        searched = before if times.searched is None else times.searched
        return searched is not None and now - searched > s.redetect_period_s > 0

    def found(self, object_ids: Iterable[str], now: float) -> None:
        """These were found; the refiner has yet to say whether they are followed."""
        for object_id in object_ids:
            self._times[object_id].found = now

    def answered(self, followed: Collection[str], others: Iterable[str], now: float) -> None:
        """What the refiner says: these objects it follows, the others it does not."""
        self._answers = True
        for object_id in followed:
            self._times[object_id].tracked = now
        for object_id in others:
            times = self._times[object_id]
            if times.tracked > times.lost:
                times.lost = now
            times.found = times.tracked = -1e9
