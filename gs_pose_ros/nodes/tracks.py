"""The objects that the refiner node follows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry.motion import constant_velocity
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.pose.distinct import ONE_PLACE, center_gap, distinct


@dataclass(eq=False)
class Track:
    """One instance of an object that is followed from image to image."""

    object_id: str
    instance: int
    lost_images: int = 0  # in a row
    path: deque[tuple[int, NDArray[np.float64]]] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def stamp_ns(self) -> int:
        """The stamp of the image it was last looked for in."""
        return self.path[-1][0]

    @property
    def T_cam_obj(self) -> NDArray[np.float64]:
        """The last pose [4, 4] that was good."""
        return self.path[-1][1]

    def moved_to(self, stamp_ns: int, T_cam_obj: NDArray[np.float64]) -> None:
        """Take the pose [4, 4] of a later image."""
        self.path.append((stamp_ns, T_cam_obj))

    def predicted(self, stamp_ns: int) -> NDArray[np.float64]:
        """The pose [4, 4] at a later stamp if it goes on as between the last two images.

        Never further than these two are apart: after images left out nobody knows.
        """
        if len(self.path) < 2:
            return self.T_cam_obj
        return constant_velocity(self.path[-2], self.path[-1], stamp_ns, at_most=1.0)

    def pose_at(self, stamp_ns: int) -> NDArray[np.float64]:
        """Its pose [4, 4] in the image nearest to that stamp."""
        return min(self.path, key=lambda entry: abs(entry[0] - stamp_ns))[1]


class Tracks:
    """All instances that are followed."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, int], Track] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._tracks)

    def all(self) -> list[Track]:
        """Every track, in order of object and instance."""
        return [self._tracks[key] for key in sorted(self._tracks)]

    def near(
        self,
        object_id: str,
        thing: SplatObject,
        stamp_ns: int,
        T_cam_obj: NDArray[np.float64],
        diameters: float,
    ) -> list[Track]:
        """The tracks of that object whose centre was not further than that from its centre here.

        At that time; those that are not lost first, of these the nearest.
        """
        gaps = {
            track: center_gap(thing, track.pose_at(stamp_ns), T_cam_obj)
            for track in self.all()
            if track.object_id == object_id
        }
        found = [track for track, gap in gaps.items() if gap < diameters]
        return sorted(found, key=lambda track: (track.lost_images > 0, gaps[track]))

    def begin(
        self, object_id: str, instance: int, stamp_ns: int, T_cam_obj: NDArray[np.float64]
    ) -> Track:
        """Follow a new instance, under the first number from `instance` on that is free."""
        while (object_id, instance) in self._tracks:
            instance += 1
        track = Track(object_id, instance)
        track.moved_to(stamp_ns, T_cam_obj)
        self._tracks[object_id, instance] = track
        return track

    def end(self, track: Track) -> None:
        """Follow it no longer."""
        self._tracks.pop((track.object_id, track.instance), None)

    def end_doubles(self, object_id: str, thing: SplatObject) -> list[tuple[Track, Track]]:
        """Of tracks of one object in one place the oldest goes on; the others, each with it.

        They may have begun apart, one of them at a wrong pose that led to the object; or one was
        lost, was found elsewhere under a new number, and has found it again itself. What is lost
        now is nowhere.
        """
        mine = [t for t in self._tracks.values() if t.object_id == object_id and not t.lost_images]

        def same(a: Track, b: Track) -> bool:  # in the last image in which both were looked for
            stamp_ns = min(a.stamp_ns, b.stamp_ns)
            return center_gap(thing, a.pose_at(stamp_ns), b.pose_at(stamp_ns)) < ONE_PLACE

        kept = distinct(mine, same)
        ended = [track for track in mine if track not in kept]
        for track in ended:
            self.end(track)
        return [(track, next(k for k in kept if same(track, k))) for track in ended]

    def due(self) -> list[Track]:
        """The tracks that are furthest behind; all of them have one stamp."""
        oldest = min((track.stamp_ns for track in self.all()), default=0)
        return [track for track in self.all() if track.stamp_ns == oldest]
