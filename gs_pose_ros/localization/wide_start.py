"""The camera in a map after a motion too large for one start: several starts, on coarse pictures.

An arm that goes round what it looks at turns by ten degrees and more between two pictures. Beside
the right pose there is then a wrong one in which most of what is seen fits: the descent ends
there, and only the depths, which agree less, tell. Features would do as well, but need texture.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Angle, Few, Share
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.depth_localizer import DepthLocalizer
from gs_pose_ros.localization.scene_map import SceneMap

# What has turned further from the given pose, in turns of the starts, is no neighbour of it: a
# wall fits a wall from anywhere.
_REACH = 2.5


@dataclass(frozen=True)
class WideStart:
    """Refines from the given pose, and from poses round it where the map contradicts what ensues.

    Stateless. What the map confirms at once takes no longer than with `localizer` alone.
    """

    localizer: DepthLocalizer = field(default_factory=DepthLocalizer)
    sure: Share = 0.7  # of the depths agree: no other start is tried
    turn_deg: Angle = 10.0  # by which the other starts go round what is seen
    directions: Few = 8  # in which they do
    refined: Few = 2  # of them to the end

    def refine(
        self, frame: RGBDFrame, scene: SceneMap, T_map_cam: NDArray[np.float64]
    ) -> CameraEstimate:
        """See `gsplatloc.Localizer`; of several poses the one with most agreement."""
        best = self.localizer.refine(frame, scene, T_map_cam)
        if best.agreement > self.sure or frame.depth is None or not frame.depth.any():
            return best
        total = best.iterations
        distance = float(np.median(frame.depth[frame.depth > 0]))
        starts = round_about(T_map_cam, distance, np.radians(self.turn_deg), self.directions)
        rough = self._rough()
        coarse = [rough.refine(frame, scene, start) for start in starts]
        total += sum(estimate.iterations for estimate in coarse)
        coarse.sort(key=lambda estimate: (not estimate.found, -estimate.agreement))
        for start in coarse[: self.refined]:
            estimate = self.localizer.refine(frame, scene, start.T_map_cam)
            total += estimate.iterations
            if self._turned(estimate, T_map_cam) > _REACH * self.turn_deg:
                continue
            if (estimate.found, estimate.agreement) > (best.found, best.agreement):
                best = estimate
        return replace(best, iterations=total)

    def _turned(self, estimate: CameraEstimate, T_map_cam: NDArray[np.float64]) -> float:
        return float(np.degrees(se3.rotation_angle(estimate.T_map_cam[:3, :3], T_map_cam[:3, :3])))

    def _rough(self) -> DepthLocalizer:
        """The coarsest level, then how well its pose agrees on the finest picture."""
        first, last = self.localizer.levels[0], self.localizer.levels[-1]
        return replace(
            self.localizer,
            levels=(first, last._replace(iterations=0)),
            check=replace(self.localizer.check, min_agreement=0.0),
        )


def round_about(
    T_map_cam: NDArray[np.float64], distance_m: float, turn_rad: float, directions: int
) -> list[NDArray[np.float64]]:
    """Poses [4, 4] turned about the point so far before the camera, to all sides of it alike."""
    T_cam_point = se3.exp([0, 0, distance_m, 0, 0, 0])
    out = []
    for angle in 2 * np.pi * np.arange(directions) / directions:
        turn = se3.exp([0, 0, 0, turn_rad * np.cos(angle), turn_rad * np.sin(angle), 0])
        out.append(T_map_cam @ T_cam_point @ turn @ se3.inverse(T_cam_point))
    return out
