"""The camera's pose in a map of Gaussians, by Gauss-Newton on depth, its contour, and gray.

GSplatLoc (Zhou 2024) minimises the difference between the depth that the map has at a pose and the
depth that was measured; its own descent is `gsplatloc`. Here the same solver as for objects
does it from coarse to fine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Distance, NonNegative, Positive, Share
from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.map_check import MapCheck
from gs_pose_ros.localization.observation import DEPTH, GRAY, observe
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.scene_problem import SceneProblem, shown
from gs_pose_ros.optimization.drawing import Drawing
from gs_pose_ros.optimization.levenberg_marquardt import (
    NormalEquations,
    Solution,
    move_about,
    reach,
    solve,
)

_NEUTRAL = np.array([1.0, 0.0])  # gain and offset of the gray
_KEPT = 0.995  # of the residuals, while the pose still moves
_FURTHEST = -3.0  # steps before that Gauss-Newton is trusted to go on
# Coarse levels only lead there: voxels somewhat wider than a pixel do for them.
_COARSE_PX = 1.4


class Level(NamedTuple):
    """One resolution."""

    width: int  # px, or as close to it as whole pixels joined come
    iterations: int
    most: float  # the largest scale of the residuals, in sigmas of the sensor
    # Share of the distance by which the last step moves at most; at the finest level for residuals
    # of one sigma, less for smaller ones: what fits the map exactly is followed further.
    at_rest: float


@dataclass(frozen=True)
class DepthLocalizer:
    """Refines the pose of the camera; stateless."""

    levels: tuple[Level, ...] = (
        Level(80, 10, 100.0, 5e-4),
        Level(160, 10, 2.0, 1e-4),
        Level(320, 12, 1.0, 2e-4),
    )
    # Nor does it go on for steps shorter than this share of what the residuals leave open.
    enough_sigmas: NonNegative = 0.7
    # Coarse levels of detail are centimetres off. Where the first step of a level would be shorter
    # than this, it would only lead a good start astray.
    lead_px: NonNegative = 0.7
    start_m: Positive = 0.1  # scale of the residuals at the start
    # The scale follows what is left, but never shrinks faster: where most of the
    # picture is one wall, what moves along that wall would be left behind.
    narrowing: Share = 0.3
    least_scale: Positive = 0.15  # less is the map, not the sensor
    contour_weight: NonNegative = 0.1  # of the slopes of the depth
    gray_weight: NonNegative = 0.1
    gray_sigma: Positive = 0.1
    # Sensor noise (m) = depth_noise_m + depth_noise_per_m2 z^2.
    depth_noise_m: Positive = 0.001
    depth_noise_per_m2: NonNegative = 0.002
    robust_cut: Positive = 5.0  # Tukey's limit, in scales
    # The map's error, shared by all of a block of the picture (an eighth of its sides), which the
    # covariance includes.
    bias_voxels: NonNegative = 0.15
    far_m: Distance = 8.0
    check: MapCheck = MapCheck()

    def refine(
        self, frame: RGBDFrame, scene: SceneMap, T_map_cam: NDArray[np.float64]
    ) -> CameraEstimate:
        """See `Localizer`."""
        start = CameraEstimate(np.asarray(T_map_cam, np.float64), Status.CONVERGED)
        start = replace(start, stamp_ns=frame.stamp_ns)
        if frame.depth is None or not frame.depth.any():
            return start.lost('the depth image has no valid pixel')
        pictures = [(level, *observe(frame, level.width)) for level in self.levels]
        pictures = [picture for picture in pictures if (picture[2][..., DEPTH] > 0).any()]
        T, scale, total, end, problem = se3.inverse(start.T_map_cam), 0.0, 0, None, None
        for k, (level, camera, seen) in enumerate(pictures):
            finest = k == len(pictures) - 1
            problem = self._problem(
                camera, seen, scene, T, min(scale, level.most), 1.0 if finest else _COARSE_PX
            )
            descend = self._settled if finest else self._led
            T, used, end, problem = descend(problem, camera, T, level)
            total += used
            if end is None:
                break
            scale = self._next_scale(problem)
        out = replace(start, T_map_cam=se3.inverse(T), iterations=total)
        if end is None or problem is None:
            return out.lost('the map has nothing before the camera')
        measured = problem.seen[..., DEPTH]
        mapped, drawn_gray = shown(problem.drawing.image)
        noise = self._noise(mapped.astype(np.float64))
        difference = problem.residuals * problem.scale * noise
        gray = drawn_gray, problem.seen[..., GRAY]
        out = self.check.judged(out, measured, difference, noise, gray, scene.voxel_m)
        if not out.found:
            return out
        return replace(out, covariance=self._covariance(end, problem, scene.voxel_m))

    def _led(
        self, problem: SceneProblem, camera: Camera, T: NDArray[np.float64], level: Level
    ) -> Solution:
        """A coarse level, by Levenberg-Marquardt; T itself where a finer one may go on."""
        first = solve(problem, camera, T, _NEUTRAL, 0, level.at_rest)
        if first.end is None:
            return first
        step = first.end.step(problem.size_m)
        if reach(step, problem.size_m) * camera.fx < self.lead_px:
            return first
        return solve(first.problem, camera, T, _NEUTRAL, level.iterations, level.at_rest)

    def _settled(
        self, problem: SceneProblem, camera: Camera, T: NDArray[np.float64], level: Level
    ) -> Solution:
        """The finest level, by Gauss-Newton: the scale of the residuals follows every step.

        Its steps fall short, each by about the same share: Tukey's cost is less curved than the
        weighted squares. Two of them tell where they lead (Anderson 1965, with one step before).
        """
        used, taken, last = 0, np.zeros(6), np.zeros(6)
        while True:
            _, _, end, problem = solve(problem, camera, T, _NEUTRAL, 0, level.at_rest)
            if end is None or used == level.iterations:
                return Solution(T, used, end, problem)
            step = end.step(problem.size_m)
            change = step - last
            share = change @ end.H @ step / max(change @ end.H @ change, 1e-12)
            share = float(np.clip(share, _FURTHEST, 0.0)) if used else 0.0
            taken, last = step - share * (taken + change), step
            T = move_about(T, end.center, taken)
            used += 1
            scale = min(self._next_scale(problem), level.most)
            # So short a step changes nothing that is worth another rendering, unless what is
            # left has become much smaller than was expected.
            at_rest = (
                reach(taken, problem.size_m) < level.at_rest * scale
                or end.sigmas(taken) < self.enough_sigmas
            )
            if at_rest and scale > 0.5 * problem.scale:
                return Solution(T, used, end, problem)
            if not at_rest:  # what still moves has to be seen to move
                scale = max(scale, self._kept_scale(problem))
            problem = problem._replace(scale=scale)

    def _next_scale(self, problem: SceneProblem) -> float:
        """The scale of the residuals that are left."""
        spread = 1.4826 * float(np.nanmedian(np.abs(problem.residuals)))
        return max(problem.scale * max(spread, self.narrowing), self.least_scale)

    def _covariance(
        self, end: NormalEquations, problem: SceneProblem, voxel_m: float
    ) -> NDArray[np.float64]:
        noise_m = float(self._noise(np.array(problem.size_m)))
        bias = self.bias_voxels * voxel_m / (problem.scale * noise_m)
        return end.covariance(bias**2, int(np.isfinite(problem.residuals).sum()))

    def _kept_scale(self, problem: SceneProblem) -> float:
        """The least scale that leaves nearly all residuals of now within the robust cut."""
        size = np.abs(problem.residuals)
        size = size[size < problem.cut]  # NaN is not
        if not len(size):
            return problem.scale
        place = int(_KEPT * (len(size) - 1))
        return problem.scale * float(np.partition(size, place)[place]) / problem.cut

    def _noise(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.depth_noise_m + self.depth_noise_per_m2 * z**2

    def _problem(
        self,
        camera: Camera,
        seen: NDArray[np.float32],
        scene: SceneMap,
        T_cam_map: NDArray[np.float64],
        scale: float,
        voxel_px: float,
    ) -> SceneProblem:
        """With voxels of at most so many pixels; at first, where the scale is 0, the start's."""
        distance = float(np.median(seen[..., DEPTH][seen[..., DEPTH] > 0]))
        center = se3.transform(se3.inverse(T_cam_map), np.array([[0, 0, distance]]))[0]
        splats = scene.in_view(camera, T_cam_map, voxel_px * distance / camera.fx, self.far_m)
        return SceneProblem(
            drawing=Drawing.of(splats, camera, sloped=True),
            seen=seen,
            center=center,
            size_m=distance,
            scale=scale or self.start_m / float(self._noise(np.array(distance))),
            noise_m=self.depth_noise_m,
            noise_per_m2=self.depth_noise_per_m2,
            contour_weight=self.contour_weight,
            gray_weight=self.gray_weight,
            sigma_gray=self.gray_sigma,
            cut=self.robust_cut,
            residuals=np.full(camera.shape, np.nan, np.float32),
        )
