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
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.optimization.drawing import Drawing
from gs_pose_ros.optimization.levenberg_marquardt import NormalEquations, solve
from gs_pose_ros.parallel import map_threads
from gs_pose_ros.pose.distinct import distinct, largest_shift
from gs_pose_ros.pose.refinement.ambiguity import LookAlikes, turned_about
from gs_pose_ros.pose.refinement.appearance import Adaptation, Exposure, PhotometricLoss, Target
from gs_pose_ros.pose.refinement.mask_alignment import align_to_mask
from gs_pose_ros.pose.refinement.object_problem import ObjectProblem
from gs_pose_ros.pose.refinement.pyramid import COARSE, FINE, PyramidLevel
from gs_pose_ros.pose.verification.check import PoseCheck, Verification
from gs_pose_ros.pose.verification.keypoints import keypoint_bank
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering.numba_rasterizer import Splats

_Pose = NDArray[np.float64]  # T_cam_obj [4, 4]
_SAME_ANSWER = 0.1  # diameters: poses that differ by less are one answer
_NEUTRAL = np.array([1.0, 1, 1, 0, 0, 0])  # gains and offsets of the colours


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A pose on its way through the levels."""

    T_cam_obj: _Pose
    check: PoseCheck
    iterations: int
    # The last linearisation, of which the covariance comes; None if the object is out of view.
    end: NormalEquations | None
    is_first: bool = False  # whether it comes from the first hypothesis


@dataclass(frozen=True)
class LMRefiner:
    """Refine pose hypotheses of one object in one frame; stateless.

    All hypotheses pass the coarse levels; the best one's look-alikes join them; the best of all
    pass the fine levels; of these, the one that explains the image best is the answer.
    """

    # Side of the compared window, in diameters at the object's distance.
    crop_padding: Extent = 1.3
    silhouette_sigma: Positive = 0.25  # scale of a residual of the silhouette's alpha, of [0, 1]
    # Before colours are compared, what varies slower than this share of the window is taken out:
    # such shading moves with the light, not with the object. 0 compares the colours as they are.
    detail: Share = 0.12
    # px; levels of smaller windows compare the shading too: it helps to find the valley.
    detail_from: CropSize = 64
    # A gain and an offset are fitted for each channel; off, the colours are taken as they are.
    exposure: bool = True
    # The splat differs from the object, which the residuals of one image hardly show: the standard
    # deviations of the pose are multiplied by this. With the next two it makes 95 % of the errors
    # lie in the 95 % ellipsoid, on scenes of our own.
    splat_error: Positive = 4.0
    splat_offset: NonNegative = 0.002  # diameters, added to the position's standard deviation
    splat_error_without_depth: Positive = 2.75  # a further factor where the frame has no depth
    robust_cut: Positive = 6.0  # Tukey's limit in sigmas
    coarse: tuple[PyramidLevel, ...] = COARSE
    fine: tuple[PyramidLevel, ...] = FINE
    look_alikes: LookAlikes = LookAlikes()
    # How many look-alikes of the best hypothesis are tried as well, the best after a check.
    turned: FewOrNone = 4
    refine_best: Few = 3  # how many of the hypotheses pass the fine levels
    promising: Share = 0.75  # of the best one's fit: those that fit worse do not pass them
    # Diameters: hypotheses that are this close after the coarse levels are in one valley of the
    # cost, and only the best of them goes on.
    one_valley: NonNegative = 0.05
    # The first hypothesis is believed unless another fits better by this factor: a detector that
    # saw the surroundings knows more than its mask says.
    first_factor: Positive = 1.1
    # Another pose that fits as well as this share of the best is reported, not chosen in silence.
    as_good: Share = 0.95
    undetermined_deg: Angle = 10.0  # standard deviation from which on a rotation is unknown
    # To a lone hypothesis, others are added that are turned about the object's centre: so many
    # hypotheses in all.
    spread: Few = 1
    spread_deg: Angle = 30.0  # angle by which the added ones are turned
    convergence: NonNegative = 1e-3  # stop when a step moves less than this share of the diameter
    # How often a tracked pose passes the first fine level at most, until it is at rest.
    track_rounds: Few = 4
    # A pose is at rest if one more pass moves it by less than this share of the diameter.
    at_rest: Positive = 0.005
    verification: Verification = Verification()
    # After the fine levels, a copy of the splat takes on the light of the picture (GS2Pose), and
    # the finest level is passed again: 0.3 s.
    adapt: bool = False
    adaptation: Adaptation = Adaptation()
    appearance: PhotometricLoss = PhotometricLoss()

    def refine(
        self,
        frame: RGBDFrame,
        reference: SplatObject,
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
        observation = Observation(frame, reference, mask)
        starts = self._starts(observation, hypotheses)
        coarse = map_threads(lambda T: self._coarsely(observation, T), starts)
        coarse[0] = replace(coarse[0], is_first=True)
        best = max(coarse, key=lambda candidate: candidate.check.fit)
        turned = self.turned_poses(observation, best.T_cam_obj)
        coarse += map_threads(lambda T: self._coarsely(observation, T), turned)
        promising = self._worth_refining(reference, coarse)
        fine = map_threads(lambda candidate: self._finely(observation, candidate), promising)
        best = max(fine, key=self._belief)
        iterations = sum(candidate.iterations for candidate in (*coarse, *fine))
        estimate = self._estimate(observation, best, iterations, Status.CONVERGED)
        if not estimate.found:
            return estimate
        return replace(estimate, alternatives=self._rivals(observation, best, fine))

    def _starts(self, observation: Observation, hypotheses: Sequence[_Pose]) -> list[_Pose]:
        """The hypotheses, a lone one with others beside it; each moved to the mask if it helps."""
        starts = [np.asarray(T, np.float64) for T in hypotheses]
        if len(starts) == 1 and self.spread > 1:
            reference = observation.reference
            starts += turned_about(reference, starts[0], self.spread - 1, self.spread_deg)
        if observation.mask is None:
            return starts

        def placed(T: _Pose) -> _Pose:
            # A part of the object may be hidden: then the given place can be the better one.
            return self._better_start(observation, (T, align_to_mask(observation, T)))

        return map_threads(placed, starts)

    def _coarsely(self, observation: Observation, T: _Pose) -> _Candidate:
        """A start after the coarse levels."""
        T, iterations, end = self._run(observation, T, self.coarse)
        return _Candidate(T, self.verification.check(observation, T), iterations, end)

    def _finely(self, observation: Observation, candidate: _Candidate) -> _Candidate:
        """A candidate after the fine levels; its iterations are those of the fine levels alone."""
        T, iterations, end = self._run(observation, candidate.T_cam_obj, self.fine)
        if self.adapt and end is not None:
            adapted = self._adapted(observation, T)
            T, more, end = self._run(adapted, T, self.fine[-1:])
            iterations += self.adaptation.steps + more
        check = self.verification.verdict(observation, T)
        return _Candidate(T, check, iterations, end, candidate.is_first)

    def _belief(self, candidate: _Candidate) -> float:
        """The fit, by which candidates are ordered, in favour of the first hypothesis."""
        return candidate.check.fit * (self.first_factor if candidate.is_first else 1.0)

    def _worth_refining(
        self, reference: SplatObject, candidates: Sequence[_Candidate]
    ) -> list[_Candidate]:
        """The best of them, each in a valley of its own."""
        ordered = sorted(candidates, key=self._belief, reverse=True)
        least = self.promising * self._belief(ordered[0])
        promising = [c for c in ordered if self._belief(c) >= least]
        reach = self.one_valley * reference.diameter_m

        def in_one_valley(a: _Candidate, b: _Candidate) -> bool:
            return largest_shift(reference, a.T_cam_obj, b.T_cam_obj) <= reach

        return distinct(promising, in_one_valley, self.refine_best)

    def _rivals(
        self, observation: Observation, best: _Candidate, fine: Sequence[_Candidate]
    ) -> tuple[_Pose, ...]:
        """Poses that fit about as well as the best: others refined, and its look-alikes."""
        reference = observation.reference
        checked = [(c.check, c.T_cam_obj) for c in fine]
        checked += self._turns(observation, best.T_cam_obj)
        least, reach = self.as_good * best.check.fit, _SAME_ANSWER * reference.diameter_m
        as_good = [T for check, T in checked if check.fit > least]

        def same(a: _Pose, b: _Pose) -> bool:
            return largest_shift(reference, a, b) <= reach

        return tuple(distinct([best.T_cam_obj, *as_good], same)[1:])

    def _adapted(self, observation: Observation, T_cam_obj: _Pose) -> Observation:
        """The object in the light of the frame; itself where the window is out of view."""
        size = self.fine[-1].crop_size
        window = ObjectWindow.around(observation, T_cam_obj, self.crop_padding, size)
        if window is None:
            return observation
        reference = observation.reference
        gaussians = self.adaptation.adapted(
            reference.gaussians, Target.of(window), T_cam_obj, Exposure.neutral(), self.appearance
        )
        return replace(observation, reference=replace(reference, gaussians=gaussians))

    def turned_poses(self, observation: Observation, T_cam_obj: _Pose) -> list[_Pose]:
        """The look-alikes of a pose T_cam_obj [4, 4] that fit best, not refined yet.

        They are in other valleys of the cost: an object turned over, or a cup about its axis.
        """
        turns = self._turns(observation, T_cam_obj)
        best = sorted(turns, key=lambda turn: -turn[0].fit)[: self.turned]
        return [T for check, T in best if check.fit > 0]

    def _turns(self, observation: Observation, T_cam_obj: _Pose) -> list[tuple[PoseCheck, _Pose]]:
        """All look-alikes of a pose with their checks; none if none are to be tried."""
        reference = observation.reference
        poses = self.look_alikes.poses(reference, T_cam_obj) if self.turned else []
        checks = self.verification.check_all(observation, poses)
        return list(zip(checks, poses, strict=True))

    def prepare(self, reference: SplatObject) -> None:
        """Make, or read from disk, all that is made of an object once."""
        self.look_alikes.poses(reference, np.eye(4))
        if isinstance(reference, ObjectReference):
            keypoint_bank(reference)
        for level in (*self.coarse, *self.fine):
            level.gaussians(reference, self.crop_padding)

    def track(
        self,
        frame: RGBDFrame,
        reference: SplatObject,
        T_cam_obj: NDArray[np.float64],
        T_predicted: NDArray[np.float64] | None = None,
    ) -> PoseEstimate:
        """Follow the object from its pose in the frame before; TRACKED, or LOST with a reason.

        Starts at the predicted pose where that explains the image better. Goes on until the pose
        is at rest: after a large step (images left out) it is not there when the iterations of one
        level are used up.
        """
        observation = Observation(frame, reference)
        if T_predicted is not None:
            T_cam_obj = self._better_start(observation, (T_cam_obj, T_predicted))
        T, iterations, _ = self._run(observation, T_cam_obj, self.coarse)
        for _ in range(self.track_rounds):
            before = T
            T, used, end = self._run(observation, T, self.fine[:1])
            iterations += used
            shift = largest_shift(reference, before, T)
            if end is None or shift < self.at_rest * reference.diameter_m:
                break
        else:
            return PoseEstimate.lost(T, 'the pose does not come to rest', frame.stamp_ns)
        check = self.verification.verdict(observation, T)
        followed = _Candidate(T, check, iterations, end)
        return self._estimate(observation, followed, iterations, Status.TRACKED)

    def _better_start(self, observation: Observation, poses: Sequence[_Pose]) -> _Pose:
        """The pose of the lowest cost at the first level, in one window for all."""
        level = (self.coarse or self.fine)[0]
        window = ObjectWindow.around(observation, poses[-1], self.crop_padding, level.crop_size)
        if window is None:
            return poses[-1]
        reference, costs = observation.reference, []
        gaussians = level.gaussians(reference, self.crop_padding)
        for T in poses:
            # Without a step, what remains is the cost there.
            _, _, end = self._level(gaussians, reference, window, T, replace(level, iterations=0))
            costs.append(np.inf if end is None else end.cost)
        return poses[int(np.argmin(costs))]

    def descend(
        self, observation: Observation, T_cam_obj: _Pose, levels: Sequence[PyramidLevel]
    ) -> _Pose:
        """The pose T_cam_obj [4, 4] after the given levels alone, without a check."""
        return self._run(observation, T_cam_obj, levels)[0]

    def _estimate(
        self, observation: Observation, best: _Candidate, iterations: int, success: Status
    ) -> PoseEstimate:
        """The answer that a candidate is; `iterations` are those of all candidates."""
        frame, diameter_m = observation.frame, observation.reference.diameter_m
        T, check = best.T_cam_obj, best.check
        if check.reason:
            return PoseEstimate.lost(T, check.reason, frame.stamp_ns, check.score)
        if best.end is None:
            return PoseEstimate.lost(T, 'the object is not in view', frame.stamp_ns)
        covariance = self.splat_error**2 * best.end.covariance()
        covariance[:3, :3] += np.eye(3) * (self.splat_offset * diameter_m) ** 2
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
        self, observation: Observation, T: _Pose, levels: Sequence[PyramidLevel]
    ) -> tuple[_Pose, int, NormalEquations | None]:
        """Pose, renders used and the last linearisation, None if the object is out of view."""
        iterations, end = 0, None
        for level in levels:
            gaussians = level.gaussians(observation.reference, self.crop_padding)
            window = ObjectWindow.around(observation, T, self.crop_padding, level.crop_size)
            if window is None:
                return T, iterations, None
            T, used, end = self._level(gaussians, observation.reference, window, T, level)
            iterations += used
        return T, iterations, end

    def _level(
        self,
        gaussians: Gaussians,
        reference: SplatObject,
        window: ObjectWindow,
        T: _Pose,
        level: PyramidLevel,
    ) -> tuple[_Pose, int, NormalEquations | None]:
        """Levenberg-Marquardt at one resolution."""
        problem = self._problem(gaussians, reference, window, level)
        T, used, end, _ = solve(
            problem, window.camera, T, _NEUTRAL, level.iterations, self.convergence
        )
        return T, used, end

    def _problem(
        self,
        gaussians: Gaussians,
        reference: SplatObject,
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
