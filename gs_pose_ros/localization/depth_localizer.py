"""The camera's pose in a map of Gaussians, by Gauss-Newton on depth, its contour, and gray.

GSplatLoc (Zhou 2024) minimises the difference between the depth that the map has at a pose and the
depth that was measured; its own descent is `gsplatloc`. Here the same solver as for objects
does it from coarse to fine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Distance, NonNegative, Positive, Share
from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import DepthNoise, RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.map_check import MapCheck
from gs_pose_ros.localization.observation import DEPTH, GRAY, observe
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.scene_problem import SceneProblem, shown
from gs_pose_ros.optimization.anderson import accelerated
from gs_pose_ros.optimization.drawing import Drawing
from gs_pose_ros.optimization.levenberg_marquardt import (
    NormalEquations,
    move_about,
    reach,
    solve,
)

_NEUTRAL = np.array([1.0, 0.0])  # gain and offset of the gray
_NOTHING = 'the map has nothing before the camera'
_KEPT = 0.995  # of the residuals, while the pose still moves
# Pixels that a voxel of the map is wide at most; coarse levels only lead there, and do with wider.
_VOXEL_PX, _COARSE_PX = 1.0, 1.4


class Level(NamedTuple):
    """One resolution at which the picture is compared with the map."""

    width: int  # of the picture, px, or as close to it as whole pixels joined come
    iterations: int  # steps at most
    most: float  # the largest scale of the residuals, in sigmas of the sensor
    # The level ends when the pose is at rest: when a step would shift what is seen by less than
    # this share of its distance. At the finest level by less than this share times the scale of
    # the residuals (sigmas): what fits the map exactly is followed further than what does not.
    at_rest: float


class Picture(NamedTuple):
    """What is compared at a level."""

    level: Level
    camera: Camera
    seen: NDArray[np.float32]  # [h, w, 4], see `observation.shrink`
    depth_noise: DepthNoise
    voxel_px: float = _COARSE_PX  # how wide the map's voxels are at most

    @classmethod
    def all_of(cls, frame: RGBDFrame, levels: Sequence[Level]) -> list[Picture]:
        """Those of the levels at which any depth is known."""
        pictures = [cls(lv, *observe(frame, lv.width), frame.depth_noise) for lv in levels]
        pictures = [picture for picture in pictures if (picture.seen[..., DEPTH] > 0).any()]
        return [*pictures[:-1], *(finest._replace(voxel_px=_VOXEL_PX) for finest in pictures[-1:])]


class _Descent(NamedTuple):
    """How far the descent has come, at one level."""

    level: Level
    camera: Camera
    problem: SceneProblem  # its picture and residuals are those of the pose that was drawn last
    T_cam_map: NDArray[np.float64]  # [4, 4]
    iterations: int  # of all levels until now
    # At the pose that was drawn last; None before the first one, and where the map has nothing.
    end: NormalEquations | None = None

    def solved(self, iterations: int) -> _Descent:
        """After so many steps of Levenberg-Marquardt, or fewer if the pose comes to rest."""
        T, used, end, problem = solve(
            self.problem, self.camera, self.T_cam_map, _NEUTRAL, iterations, self.level.at_rest
        )
        return self._replace(
            problem=problem, T_cam_map=T, iterations=self.iterations + used, end=end
        )

    def drawn(self) -> _Descent:
        """The same, compared with the picture at its pose."""
        return self.solved(0)

    def moved(self, end: NormalEquations, step: NDArray[np.float64]) -> _Descent:
        """After a step [6] about the centre of `end`; nothing is drawn there yet."""
        T = move_about(self.T_cam_map, end.center, step)
        return self._replace(T_cam_map=T, iterations=self.iterations + 1)

    def with_scale(self, scale: float) -> _Descent:
        """From here on with another scale of the residuals."""
        return self._replace(problem=self.problem._replace(scale=scale))


@dataclass(frozen=True)
class DepthLocalizer:
    """Refines the pose of the camera; stateless."""

    levels: tuple[Level, ...] = (
        Level(80, 10, 100.0, 5e-4),
        Level(160, 10, 2.0, 1e-4),
        Level(320, 12, 1.0, 2e-4),
    )
    # At the finest level the pose is at rest, too, when a step is shorter than so many of its
    # standard deviations, as the residuals have them.
    enough_sigmas: NonNegative = 0.7
    # A coarse level is left out if its first step would shift the picture by less than so many of
    # its pixels: coarse levels of detail are centimetres off and would lead a good start astray.
    lead_px: NonNegative = 0.7
    # Residuals are divided by the sensor's noise times a scale. At the start this is so large that
    # a residual of so many metres is one sigma.
    start_m: Positive = 0.1
    # Then the scale follows what is left of the residuals, but shrinks to no less than this share
    # of itself at a time: where most of the picture is one wall, what moves along that wall would
    # be left behind.
    narrowing: Share = 0.3
    least_scale: Positive = 0.15  # of the residuals; what is less is the map, not the sensor
    contour_weight: NonNegative = 0.1  # of the slopes of the depth; the depth has 1
    gray_weight: NonNegative = 0.1  # of the gray; the depth has 1
    gray_sigma: Positive = 0.1  # residual of the gray, in [0, 1], that is one sigma
    robust_cut: Positive = 5.0  # Tukey's limit, in scales
    # The map's error, shared by all of a block of the picture (an eighth of its sides), which the
    # covariance includes.
    bias_voxels: NonNegative = 0.15
    far_m: Distance = 8.0  # what of the map is further away is not drawn
    check: MapCheck = MapCheck()

    def refine(
        self, frame: RGBDFrame, scene: SceneMap, T_map_cam: NDArray[np.float64]
    ) -> CameraEstimate:
        """See `Localizer`."""
        start = CameraEstimate(np.asarray(T_map_cam, np.float64), Status.CONVERGED)
        start = replace(start, stamp_ns=frame.stamp_ns)
        if frame.depth is None or not frame.depth.any():
            return start.lost('the depth image has no valid pixel')
        pictures = Picture.all_of(frame, self.levels)
        if not pictures:
            return start.lost(_NOTHING)
        descent = self._descended(pictures, scene, se3.inverse(start.T_map_cam))
        T_map_cam = se3.inverse(descent.T_cam_map)
        out = replace(start, T_map_cam=T_map_cam, iterations=descent.iterations)
        return self._judged(out, descent, scene)

    def _descended(
        self, pictures: Sequence[Picture], scene: SceneMap, T_cam_map: NDArray[np.float64]
    ) -> _Descent:
        """From coarse to fine, as long as the map has anything before the camera."""
        descent = self._begun(pictures[0], scene, T_cam_map)
        for finer in pictures[1:]:
            descent = self._led(descent)
            if descent.end is None:
                return descent
            scale = self._next_scale(descent.problem)
            descent = self._begun(finer, scene, descent.T_cam_map, scale, descent.iterations)
        return self._settled(descent)

    def _begun(
        self,
        picture: Picture,
        scene: SceneMap,
        T_cam_map: NDArray[np.float64],
        scale: float = 0.0,
        iterations: int = 0,
    ) -> _Descent:
        """A level, with the scale and the iterations of those before; 0 at first."""
        problem = self._problem(picture, scene, T_cam_map, min(scale, picture.level.most))
        return _Descent(picture.level, picture.camera, problem, T_cam_map, iterations)

    def _led(self, descent: _Descent) -> _Descent:
        """A coarse level, by Levenberg-Marquardt; not moved where a finer one may go on."""
        descent = descent.drawn()
        if descent.end is None:
            return descent
        size_m = descent.problem.size_m
        if reach(descent.end.step(size_m), size_m) * descent.camera.fx < self.lead_px:
            return descent
        return descent.solved(descent.level.iterations)

    def _settled(self, descent: _Descent) -> _Descent:
        """The finest level, by Gauss-Newton: the scale of the residuals follows every step.

        Its steps fall short, each by about the same share: Tukey's cost is less curved than the
        weighted squares. So two of them tell where they lead, see `accelerated`.
        """
        step = taken = np.zeros(6)
        for _ in range(descent.level.iterations):
            descent = descent.drawn()
            end, problem = descent.end, descent.problem
            if end is None:
                return descent
            step_before, step = step, end.step(problem.size_m)
            taken = accelerated(step, step_before, taken, end.H)
            descent = descent.moved(end, taken)
            scale = min(self._next_scale(problem), descent.level.most)
            at_rest = (
                reach(taken, problem.size_m) < descent.level.at_rest * scale
                or end.sigmas(taken) < self.enough_sigmas
            )
            # So short a step changes nothing that is worth another rendering, unless what is
            # left has become much smaller than was expected.
            if at_rest and scale > 0.5 * problem.scale:
                return descent
            if not at_rest:  # what still moves has to be seen to move
                scale = max(scale, self._kept_scale(problem))
            descent = descent.with_scale(scale)
        return descent.drawn()

    def _judged(
        self, estimate: CameraEstimate, descent: _Descent, scene: SceneMap
    ) -> CameraEstimate:
        """The estimate with what the map says of it where it was drawn last, and a covariance."""
        end, problem = descent.end, descent.problem
        if end is None:
            return estimate.lost(_NOTHING)
        measured = problem.seen[..., DEPTH]
        mapped, drawn_gray = shown(problem.drawing.image)
        noise = problem.depth_noise.at(mapped.astype(np.float64))
        difference = problem.residuals * problem.scale * noise
        gray = drawn_gray, problem.seen[..., GRAY]
        estimate = self.check.judged(estimate, measured, difference, noise, gray, scene.voxel_m)
        if not estimate.found:
            return estimate
        return replace(estimate, covariance=self._covariance(end, problem, scene.voxel_m))

    def _next_scale(self, problem: SceneProblem) -> float:
        """The scale of the residuals that are left."""
        spread = 1.4826 * float(np.nanmedian(np.abs(problem.residuals)))
        return max(problem.scale * max(spread, self.narrowing), self.least_scale)

    def _covariance(
        self, end: NormalEquations, problem: SceneProblem, voxel_m: float
    ) -> NDArray[np.float64]:
        noise_m = float(problem.depth_noise.at(np.array(problem.size_m)))
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

    def _problem(
        self, picture: Picture, scene: SceneMap, T_cam_map: NDArray[np.float64], scale: float
    ) -> SceneProblem:
        """With residuals of this scale (sigmas), at first, where it is 0, of the start's."""
        camera, seen, noise = picture.camera, picture.seen, picture.depth_noise
        distance = float(np.median(seen[..., DEPTH][seen[..., DEPTH] > 0]))
        center = se3.transform(se3.inverse(T_cam_map), np.array([[0, 0, distance]]))[0]
        voxel_m = picture.voxel_px * distance / camera.fx
        splats = scene.in_view(camera, T_cam_map, voxel_m, self.far_m)
        return SceneProblem(
            drawing=Drawing.of(splats, camera, sloped=True),
            seen=seen,
            center=center,
            size_m=distance,
            scale=scale or self.start_m / float(noise.at(np.array(distance))),
            noise_m=noise.constant_m,
            noise_per_m2=noise.per_m2,
            contour_weight=self.contour_weight,
            gray_weight=self.gray_weight,
            sigma_gray=self.gray_sigma,
            cut=self.robust_cut,
            residuals=np.full(camera.shape, np.nan, np.float32),
        )
