"""Look-alikes of a pose: an object turned over, or about its axis, looks almost the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gs_pose_ros.bounds import Angle
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.prepared import once_per_object
from gs_pose_ros.objects.splat_object import SplatObject

# A cup is round but for its handle: so much of its surface (mean distance, in diameters) may miss
# the surface of the turned object.
_ROUND_ENOUGH = 0.035
_PROBE = np.radians(50)


@dataclass(frozen=True)
class LookAlikes:
    """Turns that make an object look almost the same; see `poses`.

    Half turns about the three axes of the box, and smaller steps about each axis that the object
    is almost round about. From one look-alike a refiner does not reach another: the cost has a
    valley at each, and the refiner stays in the one it starts in.
    """

    # Angle from one turn to the next about an axis that the object is almost round about.
    step_deg: Angle = 20.0

    def poses(
        self, reference: SplatObject, T_cam_obj: NDArray[np.float64]
    ) -> list[NDArray[np.float64]]:
        """The pose T_cam_obj [4, 4] after every such turn, the identity left out."""
        return [T_cam_obj @ turn for turn in _turns(reference, self.step_deg)]


def turned_about(
    reference: SplatObject, T_cam_obj: NDArray[np.float64], count: int, angle_deg: float
) -> list[NDArray[np.float64]]:
    """T_cam_obj [4, 4] turned by the angle about `count` axes through the centre, evenly spread.

    Starts for a refiner whose basin is narrower than what is known of the rotation.
    """
    turn = np.radians(angle_deg) * se3.fibonacci_directions(count)
    xi = np.concatenate([np.zeros((count, 3)), turn], -1)
    R = se3.exp(xi)[:, :3, :3]
    turns = se3.from_rotation_translation(R, reference.center - R @ reference.center)
    return [T_cam_obj @ turn for turn in turns]


@once_per_object
def _turns(reference: SplatObject, step_deg: float) -> NDArray[np.float64]:
    g = reference.gaussians
    points = g.means[g.opacities > 0.3].detach().double().numpy()
    points = points[:: max(1, len(points) // 3000)]
    out = [_turn(np.pi, axis, reference.center) for axis in range(3)]
    for axis in range(3):
        center = _axis_center(points, axis, reference.center)
        probe = se3.transform(_turn(_PROBE, axis, center), points)
        miss = KDTree(points).query(probe)[0].mean() / reference.diameter_m
        if miss < _ROUND_ENOUGH:
            angles = np.radians(np.arange(step_deg, 360 - 1e-6, step_deg))
            out += [_turn(angle, axis, center) for angle in angles]
    return np.stack(out)


def _turn(angle: float, axis: int, center: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation [4, 4] by `angle` about the line through `center` along a coordinate axis."""
    R = se3.exp(np.concatenate([np.zeros(3), angle * np.eye(3)[axis]]))[:3, :3]
    return se3.from_rotation_translation(R, center - R @ center)


def _axis_center(
    points: NDArray[np.float64], axis: int, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where an axis of rotation would pierce the object: robust circle fit to its shadow."""
    plane = [i for i in range(3) if i != axis]
    p = points[:, plane]
    # The rim of the shadow: the farthest point in each direction.
    middle = np.median(p, axis=0)
    direction = np.arctan2(*(p - middle).T)
    sector = ((direction + np.pi) / (2 * np.pi) * 72).astype(int).clip(0, 71)
    radius = np.linalg.norm(p - middle, axis=1)
    rim = np.array([p[sector == k][radius[sector == k].argmax()] for k in np.unique(sector)])
    kept = np.ones(len(rim), bool)
    center = start.copy()
    for _ in range(5):
        A = np.column_stack([2 * rim[kept], np.ones(kept.sum())])
        fit, *_ = np.linalg.lstsq(A, (rim[kept] ** 2).sum(1), rcond=None)
        distance = np.linalg.norm(rim - fit[:2], axis=1)
        error = np.abs(distance - np.median(distance[kept]))
        kept = error <= max(2.5 * float(np.median(error)), 1e-9)
        center[plane] = fit[:2]
        if kept.sum() < 8:
            break
    return center
