"""The camera in a map after a large motion: refined from several starts, the best one is taken.

A camera on an arm that goes round an object turns by ten degrees and more between two pictures.
From that far the localizer may end at a wrong pose where most of what is seen fits the map; that
fewer depths agree there is all that tells it from the right one. Features would lead to the right
pose as well, but need texture.
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

# A pose is rejected if it is turned from the given one by more than so many times `turn_deg`: a
# wall fits a wall from anywhere.
_REACH = 2.5


@dataclass(frozen=True)
class WideStart:
    """Refines from the given pose and, where the map contradicts the result, from poses round it.

    The other starts look at the same point from other sides. All of them are refined at the
    coarsest level, the best of those at all levels; the pose at which the most depths agree with
    the map is the result. Stateless. A first result that the map confirms takes no longer than
    with `localizer` alone.
    """

    localizer: DepthLocalizer = field(default_factory=DepthLocalizer)
    sure: Share = 0.7  # share of the depths that agree, above which no other start is tried
    turn_deg: Angle = 10.0  # angle by which the other starts are turned about what is seen
    directions: Few = 8  # number of the other starts, turned to all sides alike
    refined: Few = 2  # number of the other starts that are refined at all levels

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
