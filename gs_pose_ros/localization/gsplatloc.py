"""GSplatLoc: an RGB-D camera localizes itself in a map of Gaussians (Zhou et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import NonNegative, Positive
from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.scene_problem import DEPTH, SceneProblem, shrink
from gs_pose_ros.pose.levenberg_marquardt import NormalEquations, minimize
from gs_pose_ros.rendering.numba_rasterizer import view_of, work_for

_BLOCKS = 8
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class CameraEstimate:
    """The pose of the camera in one frame.

    `covariance` is of the left tangent (translation m, rotation rad) in the camera frame, of
    T_cam_map: the true one is exp(xi) T_cam_map with xi ~ N(0, covariance).
    """

    T_map_cam: NDArray[np.float64]  # [4, 4]
    status: Status
    reason: str = ''
    covariance: NDArray[np.float64] | None = None  # [6, 6]
    overlap: float = 0.0  # share of the measured pixels before which the map has a surface
    agreement: float = 0.0  # share of these whose depth agrees
    residual_m: float = 0.0  # median |depth - map| of those
    iterations: int = 0
    stamp_ns: int = 0


@dataclass(frozen=True)
class Level:
    """One resolution."""

    width: int  # px
    iterations: int
    most: float  # the largest scale of the residuals, in sigmas of the sensor


@dataclass(frozen=True)
class GSplatLoc:
    """Gauss-Newton/LM on rendered depth, contour and gray; stateless."""

    levels: tuple[Level, ...] = (
        Level(80, 10, 5.0),
        Level(160, 10, 2.0),
        Level(320, 5, 1.0),
        Level(320, 3, 1.0),
    )
    contour_weight: NonNegative = 0.25
    gray_weight: NonNegative = 0.0
    gray_sigma: Positive = 0.1
    depth_noise_m: NonNegative = 0.001
    depth_noise_per_m2: NonNegative = 0.002
    robust_cut: Positive = 5.0
    least_scale: Positive = 0.1
    narrowing: Share = 0.4
    far_m: Positive = 8.0
    convergence: NonNegative = 1e-5

    def refine(
        self,
        frame: RGBDFrame,
        scene: SceneMap,
        T_map_cam: NDArray[np.float64],
    ) -> CameraEstimate:
        T = se3.inverse(T_map_cam)
        total, end, scale = 0, None, self.levels[0].most
        for level in self.levels:
            T, used, end, scale = self._level(frame, scene, T, level, min(scale, level.most))
            total += used
        return CameraEstimate(
            T_map_cam=se3.inverse(T),
            status=Status.CONVERGED if end is not None else Status.LOST,
            iterations=total,
            stamp_ns=frame.stamp_ns,
        )

    def _level(
        self,
        frame: RGBDFrame,
        scene: SceneMap,
        T: NDArray[np.float64],
        level: Level,
        scale: float,
    ) -> tuple[NDArray[np.float64], int, NormalEquations | None, float]:
        factor = max(1, frame.camera.width // level.width)
        camera, seen = observe(frame, factor)
        z = seen[..., DEPTH][seen[..., DEPTH] > 0]
        if not len(z):
            return T, 0, None, scale
        distance = float(np.median(z))
        center = se3.transform(se3.inverse(T), np.array([[0, 0, distance]]))[0]
        splats = scene.in_view(camera, T, distance / camera.fx, self.far_m)
        problem = SceneProblem(
            prepared=splats.prepared,
            sh=splats.sh,
            starts=np.array([0, len(splats)]),
            placed=view_of(camera, np.eye(4), sloped=True)[None],
            seen=seen,
            K=np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            center=center,
            size_m=distance,
            scale=scale,
            noise_m=self.depth_noise_m,
            noise_per_m2=self.depth_noise_per_m2,
            contour_weight=self.contour_weight,
            gray_weight=self.gray_weight,
            sigma_gray=self.gray_sigma,
            cut=self.robust_cut,
            work=work_for(splats, camera),
            image=np.empty((camera.height, 5, camera.width), np.float32),
            residuals=np.full(camera.shape, np.nan, np.float32),
        )
        T, gain = T.copy(), np.array([1.0, 0.0])
        H, gradients = np.empty((6, 6)), np.empty((_BLOCKS, _BLOCKS, 6))
        used = 0
        while True:
            steps, cost, support, needed = minimize(
                problem, T, gain, level.iterations, self.convergence, H, gradients
            )
            used += steps
            if needed <= problem.work.pairs.shape[1]:
                break
            problem = problem._replace(work=work_for(splats, camera, needed))
        if support == 0:
            return T, used, None, scale
        center = se3.transform(T, problem.center[None])[0]
        spread = 1.4826 * float(np.nanmedian(np.abs(problem.residuals)))
        # Not at once: what moves along a large wall would be left behind.
        scale = max(scale * max(spread, self.narrowing), self.least_scale)
        return T, used, NormalEquations(center, H, gradients, cost), scale


def observe(frame: RGBDFrame, factor: int) -> tuple[Camera, NDArray[np.float32]]:
    """The camera and what it saw [h, w, 4] with `factor` pixels for one, see `shrink`."""
    assert frame.depth is not None
    height, width = frame.camera.height // factor, frame.camera.width // factor
    out = np.empty((height, width, 4), np.float32)
    shrink(frame.depth, frame.color @ _GRAY, factor, out)
    camera = frame.camera.crop(-0.5, -0.5, width * factor, height * factor, 1 / factor)
    return camera, out
