"""Pose refinement by Gauss-Newton/Levenberg-Marquardt on rendered colour, silhouette and depth.

Each step renders colour, alpha and depth once and takes the image Jacobian from the rendered depth
(dI/dxi = grad I . dpi/dX . dX/dxi) instead of differentiating through the rasterizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import (
    Angle,
    CropSize,
    Extent,
    Few,
    FewOrNone,
    NonNegative,
    Positive,
    Share,
)
from gs_pose_ros.estimate import PoseEstimate, Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.optimization.drawing import Drawing
from gs_pose_ros.optimization.levenberg_marquardt import NormalEquations, solve
from gs_pose_ros.parallel import map_threads
from gs_pose_ros.pose.refinement.ambiguity import LookAlikes, turned_about
from gs_pose_ros.pose.refinement.appearance import Adaptation, Exposure, PhotometricLoss, Target
from gs_pose_ros.pose.refinement.object_problem import ObjectProblem
from gs_pose_ros.pose.verification.check import PoseCheck, Verification
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering.level_of_detail import for_resolution
from gs_pose_ros.rendering.numba_rasterizer import Splats, rasterize


@dataclass(frozen=True)
class PyramidLevel:
    """One resolution of the coarse-to-fine refinement."""

    crop_size: int  # px
    iterations: int
    depth_sigma: float  # scale of a depth residual, in diameters, on top of the sensor's noise
    color_sigma: float  # scale of a colour residual, of [0, 1]
    # Gaussians closer than so many pixels are merged: smooth surfaces have smooth costs, but their
    # distance is less exact.
    merged_px: float = 1.0


_NEUTRAL = np.array([1.0, 1, 1, 0, 0, 0])  # gains and offsets of the colours
COARSE = (PyramidLevel(40, 10, 0.1, 0.2), PyramidLevel(64, 10, 0.03, 0.1, 2.0))
# The last one is as fine as the splats were fitted: at 144 px the pixel filter widens outlines
# so that distances without depth come out 1.5 % wrong (0.6 % so).
FINE = (PyramidLevel(96, 10, 0.01, 0.08), PyramidLevel(224, 10, 0.004, 0.06))


@dataclass(frozen=True)
class LMRefiner:
    """Refine pose hypotheses of one object in one frame; stateless."""

    crop_padding: Extent = 1.3  # side of the crop in diameters at the object's distance
    silhouette_sigma: Positive = 0.25
    # Colours are compared without what varies slower than this share of the crop: shading moves
    # with the light, not with the object. 0 compares them as they are.
    detail: Share = 0.12
    detail_from: CropSize = 64  # coarser levels only find the valley, and shading helps there
    # A gain and an offset are fitted for each channel; off, the colours are taken as they are.
    exposure: bool = True
    # The splat is wrong as well, which the residuals of one image hardly show. Factor on their
    # standard deviations, what is added to that of the position (diameters), and a factor on both
    # where there is no depth: such that 95 % of errors lie in the 95 % ellipsoid, on scenes of our
    # own.
    splat_error: Positive = 4.0
    splat_offset: NonNegative = 0.002
    splat_error_without_depth: Positive = 2.75
    robust_cut: Positive = 6.0  # Tukey's limit in sigmas
    coarse: tuple[PyramidLevel, ...] = COARSE
    fine: tuple[PyramidLevel, ...] = FINE
    look_alikes: LookAlikes = LookAlikes()
    turned: FewOrNone = 4  # look-alikes of the best hypothesis that are tried as well
    refine_best: Few = 3  # hypotheses that also pass the fine levels
    promising: Share = 0.75  # the share of the best one's fit that they have at least
    one_valley: NonNegative = 0.05  # diameters; those closer after the coarse levels are one
    # The first hypothesis is believed unless another fits better by this factor: a detector that
    # saw the surroundings knows more than its mask says.
    first_factor: Positive = 1.1
    # Another pose that fits as well as this share of the best is reported, not chosen in silence.
    as_good: Share = 0.95
    undetermined_deg: Angle = 10.0  # standard deviation from which on a rotation is unknown
    # A lone hypothesis is joined by others, turned about the object's centre by so much.
    spread: Few = 1  # hypotheses, the given one included
    spread_deg: Angle = 30.0
    convergence: NonNegative = 1e-3  # stop when a step moves less than this share of the diameter
    track_rounds: Few = 4  # of the first fine level, until a tracked pose is at rest
    at_rest: Positive = 0.005  # shares of the diameter by which a pose at rest moves at most
    verification: Verification = Verification()
    # Last, a copy of the splat takes on the light of the picture (GS2Pose), and the finest level
    # is gone through again: 0.3 s.
    adapt: bool = False
    adaptation: Adaptation = Adaptation()
    appearance: PhotometricLoss = PhotometricLoss()

    def refine(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        hypotheses: Sequence[NDArray[np.float64]],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        """The best pose near the hypotheses T_cam_obj [4, 4]; all coarsely, the best ones finely.

        `mask` [H, W] marks the visible object; without it the silhouette comes from the depth.
        The score is that of `Verification`. LOST with a reason when no hypothesis explains the
        image; the pose is then the best of the bad ones and must not be used.
        """
        if not hypotheses:
            return PoseEstimate.lost(np.eye(4), 'no initial pose', frame.stamp_ns)
        if mask is not None and not mask.any():
            T = np.asarray(hypotheses[0], np.float64)
            return PoseEstimate.lost(T, 'the mask is empty', frame.stamp_ns)

        def placed(T: NDArray[np.float64]) -> NDArray[np.float64]:
            assert mask is not None
            aligned = align_to_mask(frame, reference, T, mask)
            # A part of the object may be hidden: then the given place can be the better one.
            return self._better_start(frame, reference, (T, aligned), mask)

        def coarsely(T: NDArray[np.float64]) -> tuple[PoseCheck, NDArray[np.float64], int]:
            T, iterations, _ = self._run(frame, reference, T, mask, self.coarse)
            return self.verification.check(frame, reference, T, mask), T, iterations

        def finely(
            T: NDArray[np.float64],
        ) -> tuple[PoseCheck, NDArray[np.float64], int, NormalEquations | None]:
            T, iterations, end = self._run(frame, reference, T, mask, self.fine)
            if self.adapt and end is not None:
                adapted = self._adapted(frame, reference, T, mask)
                T, more, end = self._run(frame, adapted, T, mask, self.fine[-1:])
                iterations += self.adaptation.steps + more
            return self.verification.verdict(frame, reference, T, mask), T, iterations, end

        def belief(index: int, check: PoseCheck) -> float:
            return check.fit * (self.first_factor if index == 0 else 1.0)

        starts = [np.asarray(T, np.float64) for T in hypotheses]
        if len(starts) == 1 and self.spread > 1:
            starts += turned_about(reference, starts[0], self.spread - 1, self.spread_deg)
        if mask is not None:
            starts = map_threads(placed, starts)
        candidates = map_threads(coarsely, starts)
        _, T, _ = max(candidates, key=lambda c: c[0].fit)
        turned = self.turned_poses(frame, reference, T, mask)
        candidates += map_threads(coarsely, turned)
        best = self._worth_refining(
            reference, [(belief(i, c[0]), c[1]) for i, c in enumerate(candidates)]
        )
        results = map_threads(finely, [candidates[i][1] for i in best])
        total = sum(c[2] for c in candidates) + sum(r[2] for r in results)
        beliefs = [belief(i, r[0]) for i, r in zip(best, results, strict=True)]
        check, T, _, end = results[int(np.argmax(beliefs))]
        estimate = self._estimate(frame, reference, T, check, end, total, Status.CONVERGED)
        if not estimate.found:
            return estimate
        rivals = self._rivals(frame, reference, T, mask, check, [(r[0], r[1]) for r in results])
        return replace(estimate, alternatives=rivals)

    def _worth_refining(
        self, reference: ObjectReference, candidates: Sequence[tuple[float, NDArray[np.float64]]]
    ) -> list[int]:
        """Places of the best, each in a valley of its own, by belief and pose [4, 4]."""
        order = sorted(range(len(candidates)), key=lambda i: -candidates[i][0])
        best: list[int] = []
        for i in order:
            belief, T = candidates[i]
            if len(best) == self.refine_best or belief < self.promising * candidates[order[0]][0]:
                break
            if _is_apart(reference, T, [candidates[k][1] for k in best], self.one_valley):
                best.append(i)
        return best

    def _rivals(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        mask: NDArray[np.bool_] | None,
        check: PoseCheck,
        refined: Sequence[tuple[PoseCheck, NDArray[np.float64]]],
    ) -> tuple[NDArray[np.float64], ...]:
        """Poses that fit about as well as the best: others refined, and its look-alikes."""
        rivals = [T_cam_obj]
        for other, T in (*refined, *self._turns(frame, reference, T_cam_obj, mask)):
            as_good = other.fit > self.as_good * check.fit
            if as_good and _is_apart(reference, T, rivals, 0.1):
                rivals.append(T)
        return tuple(rivals[1:])

    def _adapted(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        mask: NDArray[np.bool_] | None,
    ) -> ObjectReference:
        """The object in the light of the frame; itself where the window is out of view."""
        size = self.fine[-1].crop_size
        window = ObjectWindow.around(frame, reference, T_cam_obj, mask, self.crop_padding, size)
        if window is None:
            return reference
        gaussians = self.adaptation.adapted(
            reference.gaussians, Target.of(window), T_cam_obj, Exposure.neutral(), self.appearance
        )
        return replace(reference, gaussians=gaussians)

    def turned_poses(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        mask: NDArray[np.bool_] | None = None,
        foreground: NDArray[np.bool_] | None = None,
    ) -> list[NDArray[np.float64]]:
        """The look-alikes of a pose that fit best, not refined yet.

        They are in other valleys of the cost: an object turned over, or a cup about its axis.
        """
        turns = self._turns(frame, reference, T_cam_obj, mask, foreground)
        best = sorted(turns, key=lambda turn: -turn[0].fit)[: self.turned]
        return [T for check, T in best if check.fit > 0]

    def _turns(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        mask: NDArray[np.bool_] | None,
        foreground: NDArray[np.bool_] | None = None,
    ) -> list[tuple[PoseCheck, NDArray[np.float64]]]:
        """All look-alikes of a pose with their checks; none if none are to be tried."""
        poses = self.look_alikes.poses(reference, T_cam_obj) if self.turned else []
        checks = self.verification.check_all(frame, reference, poses, mask, foreground)
        return list(zip(checks, poses, strict=True))

    def track(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        T_predicted: NDArray[np.float64] | None = None,
    ) -> PoseEstimate:
        """Follow the object from its pose in the frame before; TRACKED, or LOST with a reason.

        Starts at the predicted pose where that explains the image better. Goes on until the pose
        is at rest: after a large step (images left out) it is not there when the iterations of one
        level are used up.
        """
        if T_predicted is not None:
            T_cam_obj = self._better_start(frame, reference, (T_cam_obj, T_predicted))
        T, iterations, _ = self._run(frame, reference, T_cam_obj, None, self.coarse)
        for _ in range(self.track_rounds):
            before = T
            T, used, end = self._run(frame, reference, T, None, self.fine[:1])
            iterations += used
            shift = _largest_shift(reference, before, T)
            if end is None or shift < self.at_rest * reference.diameter_m:
                break
        else:
            return PoseEstimate.lost(T, 'the pose does not come to rest', frame.stamp_ns)
        check = self.verification.verdict(frame, reference, T)
        return self._estimate(frame, reference, T, check, end, iterations, Status.TRACKED)

    def _better_start(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        poses: Sequence[NDArray[np.float64]],
        mask: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float64]:
        """The pose of the lowest cost at the first level, in one window for all."""
        level = (self.coarse or self.fine)[0]
        window = ObjectWindow.around(
            frame, reference, poses[-1], mask, self.crop_padding, level.crop_size
        )
        if window is None:
            return poses[-1]
        gaussians = self._gaussians(reference, level)
        costs = []
        for T in poses:
            # Without a step, what remains is the cost there.
            _, _, end = self._level(gaussians, reference, window, T, replace(level, iterations=0))
            costs.append(np.inf if end is None else end.cost)
        return poses[int(np.argmin(costs))]

    def _gaussians(self, reference: ObjectReference, level: PyramidLevel) -> Gaussians:
        extent = self.crop_padding * reference.diameter_m
        pixels = round(level.crop_size / level.merged_px)
        return for_resolution(reference.gaussians, extent, pixels)

    def descend(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        levels: Sequence[PyramidLevel],
        mask: NDArray[np.bool_] | None = None,
        foreground: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float64]:
        """The pose after the given levels, from the visible object's mask [H, W] or foreground."""
        return self._run(frame, reference, T_cam_obj, mask, levels, foreground)[0]

    def _estimate(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T: NDArray[np.float64],
        check: PoseCheck,
        end: NormalEquations | None,
        iterations: int,
        success: Status,
    ) -> PoseEstimate:
        if check.reason:
            return PoseEstimate.lost(T, check.reason, frame.stamp_ns, check.score)
        if end is None:
            return PoseEstimate.lost(T, 'the object is not in view', frame.stamp_ns)
        covariance = self.splat_error**2 * end.covariance()
        covariance[:3, :3] += np.eye(3) * (self.splat_offset * reference.diameter_m) ** 2
        if frame.depth is None or not frame.depth.any():
            covariance *= self.splat_error_without_depth**2
        variance, axes = np.linalg.eigh(covariance[3:, 3:])
        free = np.sqrt(variance[-1]) > np.radians(self.undetermined_deg)
        return PoseEstimate(
            T_cam_obj=T,
            score=check.score,
            status=success,
            covariance=covariance,
            iterations=iterations,
            stamp_ns=frame.stamp_ns,
            free_axis=T[:3, :3].T @ axes[:, -1] if free else None,
        )

    def _run(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T: NDArray[np.float64],
        mask: NDArray[np.bool_] | None,
        levels: Sequence[PyramidLevel],
        foreground: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float64], int, NormalEquations | None]:
        """Pose, renders used and the last linearisation, None if the object is out of view."""
        iterations, end = 0, None
        for level in levels:
            gaussians = self._gaussians(reference, level)
            window = ObjectWindow.around(
                frame, reference, T, mask, self.crop_padding, level.crop_size, foreground
            )
            if window is None:
                return T, iterations, None
            T, used, end = self._level(gaussians, reference, window, T, level)
            iterations += used
        return T, iterations, end

    def _level(
        self,
        gaussians: Gaussians,
        reference: ObjectReference,
        window: ObjectWindow,
        T: NDArray[np.float64],
        level: PyramidLevel,
    ) -> tuple[NDArray[np.float64], int, NormalEquations | None]:
        """Levenberg-Marquardt at one resolution."""
        problem = self._problem(gaussians, reference, window, level)
        T, used, end, _ = solve(
            problem, window.camera, T, _NEUTRAL, level.iterations, self.convergence
        )
        return T, used, end

    def _problem(
        self,
        gaussians: Gaussians,
        reference: ObjectReference,
        window: ObjectWindow,
        level: PyramidLevel,
    ) -> ObjectProblem:
        camera = window.camera
        with_detail = level.crop_size >= self.detail_from
        return ObjectProblem(
            drawing=Drawing.of(Splats.of(gaussians), camera),
            color=window.color,
            depth=window.depth,
            mask=window.mask,
            center=reference.center,
            size_m=reference.diameter_m,
            sigma_color=level.color_sigma,
            sigma_depth=level.depth_sigma * reference.diameter_m,
            sigma_silhouette=self.silhouette_sigma,
            noise_m=window.depth_noise.constant_m,
            noise_per_m2=window.depth_noise.per_m2,
            cut=self.robust_cut,
            shading_px=self.detail * camera.width if with_detail else 0.0,
            exposure=self.exposure,
            seen=np.empty_like(window.color),
        )


def align_to_mask(
    frame: RGBDFrame,
    reference: ObjectReference,
    T_cam_obj: NDArray[np.float64],
    mask: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Shift T so that the rendered surface covers the mask [H, W] (GS2Pose's z correction).

    The centroid of the visible surface is moved onto that of the masked pixels: with depth in
    space, without it in the image, the distance following the square root of the areas (GS-Pose,
    Eqs. 3-4).
    """
    # Twice: a small object appears too large in a rendering, as splats are widened to a pixel.
    for padding, size in ((2.5, 64), (1.4, 96)):
        T_cam_obj = _aligned(frame, reference, T_cam_obj, mask, padding, size)
    return T_cam_obj


def _aligned(
    frame: RGBDFrame,
    reference: ObjectReference,
    T_cam_obj: NDArray[np.float64],
    mask: NDArray[np.bool_],
    padding: float,
    size: int,
) -> NDArray[np.float64]:
    window = ObjectWindow.around(frame, reference, T_cam_obj, mask, padding, size)
    if window is None or not (window.mask > 0.5).any():
        return T_cam_obj
    camera = window.camera
    image = rasterize(reference.gaussians, camera, T_cam_obj)
    solid = (image[:, 4] > 0.5) & (window.mask >= 0)  # outside the image nothing is marked
    if not solid.any():
        return T_cam_obj
    labelled = window.mask > 0.5
    z = np.where(solid, image[:, 3] / np.maximum(image[:, 4], 1e-6), 0)
    rendered = camera.point_map(z)[solid]
    known = labelled & (window.depth > 0)
    out = T_cam_obj.copy()
    if np.count_nonzero(known) >= 10:
        observed = camera.point_map(window.depth)[known]
        out[:3, 3] += np.median(observed, 0) - np.median(rendered, 0)
        return out
    distance = T_cam_obj[2, 3] * np.sqrt(np.count_nonzero(solid) / np.count_nonzero(labelled))
    rows, cols = np.nonzero(labelled)
    center = camera.project(rendered.mean(0))
    shift = np.array([cols.mean(), rows.mean()]) - center
    anchor = camera.project(T_cam_obj[:3, 3]) + shift
    out[:3, 3] = camera.back_project(anchor, distance)
    return out


def _largest_shift(
    reference: ObjectReference, T_a: NDArray[np.float64], T_b: NDArray[np.float64]
) -> float:
    """How far the centre, or the rim by rotation, is apart in two poses, m."""
    center_a, center_b = reference.center_in(T_a), reference.center_in(T_b)
    turned = float(se3.rotation_angle(T_a[:3, :3], T_b[:3, :3])) * reference.diameter_m / 2
    return max(float(np.linalg.norm(center_a - center_b)), turned)


def _is_apart(
    reference: ObjectReference,
    T: NDArray[np.float64],
    others: Sequence[NDArray[np.float64]],
    share: float,
) -> bool:
    """Whether a pose is further than this share of the diameter from each of the others."""
    reach = share * reference.diameter_m
    return all(_largest_shift(reference, T, other) > reach for other in others)
