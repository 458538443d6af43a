"""The objects that the refiner node follows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry.motion import constant_velocity


@dataclass
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

    def position_at(self, stamp_ns: int) -> NDArray[np.float64]:
        """Where it was [3], m, in the image nearest to that stamp."""
        return min(self.path, key=lambda entry: abs(entry[0] - stamp_ns))[1][:3, 3]


class Tracks:
    """All instances that are followed."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, int], Track] = {}

    def __len__(self) -> int:
        return len(self._tracks)

    def all(self) -> list[Track]:
        """Every track, in order of object and instance."""
        return [self._tracks[key] for key in sorted(self._tracks)]

    def near(
        self, object_id: str, stamp_ns: int, position: NDArray[np.float64], distance_m: float
    ) -> Track | None:
        """The track of that object that was within a distance of a position [3] at that time."""
        for track in self.all():
            if track.object_id == object_id:
                gap = np.linalg.norm(track.position_at(stamp_ns) - position)
                if gap < distance_m:
                    return track
        return None

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

    def due(self) -> list[Track]:
        """The tracks that are furthest behind; all of them have one stamp."""
        oldest = min((track.stamp_ns for track in self.all()), default=0)
        return [track for track in self.all() if track.stamp_ns == oldest]
