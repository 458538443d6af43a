"""Weight-free detection: templates propose, rendering verifies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Few, FewOrNone, Many, Share
from gs_pose_ros.estimate import Detection
from gs_pose_ros.features.local_features import FrameFeatures
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.parallel import map_threads
from gs_pose_ros.pose.detection.proposals import ColorProposals, DepthMaps, DepthProposals
from gs_pose_ros.pose.detection.segmentation import SupportPlaneSegmentation, cut_out
from gs_pose_ros.pose.distinct import distinct
from gs_pose_ros.pose.initialization.feature_poses import FeatureMatching
from gs_pose_ros.pose.initialization.templates import template_bank
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.refinement.mask_alignment import align_to_mask
from gs_pose_ros.pose.refinement.pyramid import PyramidLevel
from gs_pose_ros.pose.verification.check import PoseCheck, Verification
from gs_pose_ros.pose.verification.keypoints import KeypointPairs
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.rendering.numba_rasterizer import rasterize

# Poses of one object closer than this in both are one.
_SAME_SHIFT = 0.1  # diameters, of the object's origin
_SAME_ROTATION = np.radians(10)
# Diameters in the picture: places to be cut out that are closer than this are one.
_SAME_CUT = 0.25
# What scores less than this share of the least score is dropped; the finest level, which comes
# later, makes up for no more.
_CATCHING_UP = 0.7
# In one place, poses that score at least this share of the best are told apart by their fit.
_AS_SURE = 0.8
# A silhouette that overlaps the cut by this much is as good as one that covers it: the cut itself
# is no better.
_FULL_OVERLAP = 0.9
# Refinement may leave the range of the proposals by these factors of its ends.
_NEARER, _FARTHER = 0.9, 1.1
_CUT_SCORE = 0.5  # of the detection that stands for a cut: nobody asks it


@dataclass(frozen=True)
class TemplateDetector:
    """Finds objects in a frame by their templates; see `detect`."""

    depth_proposals: DepthProposals = DepthProposals()
    color_proposals: ColorProposals = ColorProposals()
    features: FeatureMatching = FeatureMatching()
    with_features: bool = True  # propose and recognize what has texture by its local features
    segmentation: SupportPlaneSegmentation = SupportPlaneSegmentation()
    retrieval: TemplateRetrieval = TemplateRetrieval(top_k=4)  # without depth only
    refiner: LMRefiner = LMRefiner()
    # A quick look at many proposals, before the best are refined.
    first_check: Verification = Verification(crop_size=48, depth_tolerance=0.1, color_sigma=0.2)
    proposals: Many = 300  # an object and image, after suppression of near duplicates
    # So many of the proposals, the most similar ones, are refined at the lowest resolution. So are
    # those of the others that look best: a rendering judges better than a template, but misjudges
    # what is a little off.
    most_similar: Many = 24
    glanced: Many = 200  # how many of the others, the best at a glance, are checked
    best_looking: Many = 24  # how many of these, the best by the check, are refined
    refined: Few = 10  # how many of all those, the best then, are refined further
    places: Few = 6  # in the picture where the object is cut out; without depth only
    cut_out_again: FewOrNone = 3  # how many places are cut out again, from the pose found there
    turned: FewOrNone = 2  # how many refined proposals have their look-alikes tried as well
    max_instances: Few = 5
    min_score: Share = 0.58  # of the verification
    min_score_color: Share = 0.64  # the same without depth, where more passes for the object
    min_distance: Share = 0.25  # diameters between two instances
    max_overlap: Share = 0.4  # share of a detection's pixels that a better one may claim

    def detect(
        self, frame: RGBDFrame, references: Sequence[ObjectReference], effort: float = 1.0
    ) -> list[Detection]:
        """All instances of the objects in one frame, best first; empty when there are none.

        Poses are proposed, the promising ones rendered and refined, and what explains the image
        best claims its pixels.

        `effort` in [0, 1] is the share of the proposals that are looked into. Below 1 local
        features are left out as well: an object in plain view is found with a tenth of the
        proposals in a third of the time.

        With depth, templates stand on the foreground at the scale its depth gives; without, they
        are tried at a ladder of distances, which is slower and finds less. What has texture is
        also proposed by its local features.
        """
        if effort < 1:
            return self._with_effort(effort).detect(frame, references)
        found: list[_Found] = []
        features = FrameFeatures.of(frame) if self.with_features else None
        if frame.depth is not None and (frame.depth > 0).any():
            foreground = self.segmentation.foreground(frame)
            maps = DepthMaps.of(frame, foreground)
            for reference in references:
                poses, keypoints = self._recognized(features, reference)
                poses += self.depth_proposals.propose(maps, reference, self.proposals)
                observation = Observation(frame, reference, None, foreground, keypoints)
                found += self._verify(observation, poses)
        else:
            frame = frame.without_depth()
            for reference in references:
                poses, keypoints = self._recognized(features, reference)
                poses += self.color_proposals.propose(frame, reference, self.proposals)
                observation = Observation(frame, reference, keypoints=keypoints)
                found += self._verify_colors(observation, poses)
        return self._select(frame, found)

    def prepare(self, reference: ObjectReference, use_depth: bool = True) -> None:
        """Make, or read from disk, all that is made of an object once."""
        proposals = self.depth_proposals if use_depth else self.color_proposals
        template_bank(reference, proposals.templates)
        self.refiner.prepare(reference)
        if not use_depth:
            self.retrieval.prepare(reference)

    def _with_effort(self, share: float) -> TemplateDetector:
        def few(count: int) -> int:
            return max(1, round(share * count))

        return replace(
            self,
            proposals=few(self.proposals),
            most_similar=few(self.most_similar),
            glanced=few(self.glanced),
            best_looking=few(self.best_looking),
            refined=few(self.refined),
            places=few(self.places),
            cut_out_again=round(share * self.cut_out_again),
            turned=round(share * self.turned),
            with_features=False,
        )

    def _recognized(
        self, features: FrameFeatures | None, reference: ObjectReference
    ) -> tuple[list[NDArray[np.float64]], KeypointPairs | None]:
        """Poses T_cam_obj [4, 4] by local features, and their pairs, which a check can ask."""
        if features is None:
            return [], None
        poses = [T for T, _ in self.features.hypotheses(features, reference)]
        return poses, KeypointPairs.of(features, reference)

    def _verify(
        self, observation: Observation[ObjectReference], poses: Sequence[NDArray[np.float64]]
    ) -> list[_Found]:
        """Of the proposed poses (best first) those that fit: glance, check, refine, turn."""

        def refined(T: NDArray[np.float64]) -> _Found:
            return self._refined(observation, T, self.refiner.coarse[1:])

        promising = self._promising(observation, poses)
        rough = self._roughly_refined(observation, promising)[: self.refined]
        found = map_threads(refined, [f.T_cam_obj for f in rough])
        # What looks much the same after a turn is told apart by rendering both.
        turned = [
            T
            for f in _best_first(found)[: self.turned]
            for T in self.refiner.turned_poses(observation, f.T_cam_obj)
        ]
        found += map_threads(refined, turned)
        return self._fittest(self._catching_up(found))

    def _promising(
        self, observation: Observation[ObjectReference], poses: Sequence[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]]:
        """The most similar proposals and, of the others, those that look best when rendered.

        All others are glanced at, and the best at a glance checked at a low resolution.
        """
        similar, others = list(poses[: self.most_similar]), poses[self.most_similar :]
        glances = self.first_check.glance(observation, others)
        glanced = [others[i] for i in np.argsort(-glances)[: self.glanced]]
        looking = _best_first(self._looked_at(observation, glanced))[: self.best_looking]
        return similar + [f.T_cam_obj for f in looking]

    def _roughly_refined(
        self, observation: Observation[ObjectReference], poses: Sequence[NDArray[np.float64]]
    ) -> list[_Found]:
        """The poses after the coarsest level, best first; those that meet there are one."""

        def roughly(T: NDArray[np.float64]) -> NDArray[np.float64]:
            return self.refiner.descend(observation, T, self.refiner.coarse[:1])

        found = self._looked_at(observation, map_threads(roughly, poses))
        return distinct(_best_first(found), _is_same_pose)

    def _looked_at(
        self, observation: Observation[ObjectReference], poses: Sequence[NDArray[np.float64]]
    ) -> list[_Found]:
        """The poses with the detector's first check."""
        # The foreground says how well a pose fits, not whether the object is there: not asked yet.
        checks = self.first_check.check_all(replace(observation, foreground=None), poses)
        return [_Found(observation, T, c) for T, c in zip(poses, checks, strict=True)]

    def _refined(
        self,
        observation: Observation[ObjectReference],
        T_cam_obj: NDArray[np.float64],
        levels: Sequence[PyramidLevel],
    ) -> _Found:
        """A pose after these levels of the refiner, with its check."""
        T_cam_obj = self.refiner.descend(observation, T_cam_obj, levels)
        check = self.refiner.verification.check(observation, T_cam_obj)
        return _Found(observation, T_cam_obj, check)

    def _catching_up(self, found: Sequence[_Found]) -> list[_Found]:
        """Those whose score may still become that of a detection."""
        return [f for f in found if f.check.score >= _CATCHING_UP * self.min_score]

    def _verify_colors(
        self, observation: Observation[ObjectReference], poses: Sequence[NDArray[np.float64]]
    ) -> list[_Found]:
        """Without depth: cut the object out where a template fits, then retrieve and refine.

        A colour proposal knows the place well and the pose badly, and without a silhouette a plain
        object fits into itself at any smaller size. So a mask first (GrabCut), then what GS-Pose
        does with a mask.
        """

        def cut(poses: Sequence[NDArray[np.float64]]) -> list[_Found]:
            found = map_threads(lambda T: self._refined_in_a_cut(observation, T), poses)
            return [f for f in found if f is not None]

        def uncut(f: _Found) -> _Found:
            # The cut is good to a few pixels; colours and their edges tell the distance better.
            return self._refined(observation, f.T_cam_obj, self.refiner.coarse[1:])

        found = cut(self._places(observation, poses))
        # A better pose cuts out better.
        found += cut([f.T_cam_obj for f in _best_first(found)[: self.cut_out_again]])
        found = map_threads(uncut, self._catching_up(found))
        near = _NEARER * self.color_proposals.nearest_m
        far = _FARTHER * self.color_proposals.farthest_m
        return [f for f in found if near < f.T_cam_obj[2, 3] < far]

    def _places(
        self, observation: Observation[ObjectReference], poses: Sequence[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]]:
        """The first pose of every place in the picture, so many places as are cut out."""
        camera, diameter_m = observation.frame.camera, observation.reference.diameter_m

        def same(T: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
            apart = camera.project(other[:3, 3]) - camera.project(T[:3, 3])
            size = diameter_m * camera.fx / T[2, 3]
            return bool(np.linalg.norm(apart) < _SAME_CUT * size)

        return distinct(poses, same, self.places)

    def _refined_in_a_cut(
        self, observation: Observation[ObjectReference], T_cam_obj: NDArray[np.float64]
    ) -> _Found | None:
        """The best pose within what is cut out about a rough one; None if that fails."""
        mask = cut_out(observation, T_cam_obj)
        if mask is None:
            return None
        frame, reference = observation.frame, observation.reference
        in_cut = replace(observation, mask=mask)
        detection = Detection.from_full_mask(reference.object_id, _CUT_SCORE, mask)
        retrieved = self.retrieval.initialize(frame, reference, detection)

        def refined(T: NDArray[np.float64]) -> _Found:
            found = self._refined(in_cut, align_to_mask(in_cut, T), self.refiner.coarse)
            return found.scored(
                found.check.score * min(1.0, found.check.silhouette / _FULL_OVERLAP)
            )

        # One after the other: this runs on a thread of its own already.
        candidates = [refined(T) for T in (T_cam_obj, *(h.T_cam_obj for h in retrieved))]
        return max(candidates, key=lambda c: c.check.score)

    def _fittest(self, found: list[_Found]) -> list[_Found]:
        """Of those in one place that score about as well, the one that fits best.

        It has the best score of them: that the object is there is as sure as its surest pose.
        """
        kept: list[_Found] = []
        rest = _best_first(found)
        while rest:
            first = rest[0]
            near = [f for f in rest if self._same_place(f.T_cam_obj, first)]
            rivals = [f for f in near if f.check.score > _AS_SURE * first.check.score]
            best = max(rivals, key=lambda f: f.check.fit)
            kept.append(best.scored(first.check.score))
            rest = [f for f in rest if f not in near]
        return kept

    def _same_place(self, T_cam_obj: NDArray[np.float64], found: _Found) -> bool:
        reference = found.observation.reference
        apart = reference.center_in(T_cam_obj) - reference.center_in(found.T_cam_obj)
        return bool(np.linalg.norm(apart) < self.min_distance * reference.diameter_m)

    def _select(self, frame: RGBDFrame, found: Sequence[_Found]) -> list[Detection]:
        """Greedy: the best claims its pixels, later ones must stand on others."""
        taken = np.zeros(frame.camera.shape, bool)
        counts: dict[str, int] = {}
        detections = []
        min_score = self.min_score if frame.depth is not None else self.min_score_color
        for candidate in _best_first(found):
            observation = candidate.observation
            object_id = observation.reference.object_id
            if counts.get(object_id, 0) == self.max_instances:
                continue
            visible = self.visible_mask(observation, candidate.T_cam_obj)
            if not visible.any():
                continue
            if np.count_nonzero(visible & taken) > self.max_overlap * np.count_nonzero(visible):
                continue
            fine = self._finely(candidate)
            if fine.check.score < min_score:
                continue
            visible = self.visible_mask(observation, fine.T_cam_obj)
            if not visible.any():
                continue
            taken |= visible
            counts[object_id] = counts.get(object_id, 0) + 1
            hints = (fine.T_cam_obj,)
            detections.append(
                Detection.from_full_mask(object_id, fine.check.score, visible, hints)
            )
        return sorted(detections, key=lambda d: -d.score)

    def _finely(self, found: _Found) -> _Found:
        """After the first fine level, with the better of both scores; 0 if it got lost there."""
        fine = self._refined(found.observation, found.T_cam_obj, self.refiner.fine[:1])
        return fine.scored(max(fine.check.score, found.check.score) if fine.check.score > 0 else 0)

    def visible_mask(
        self, observation: Observation[ObjectReference], T_cam_obj: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """The part [H, W] of the rendered silhouette that nothing hides."""
        frame, reference = observation.frame, observation.reference
        image = rasterize(reference.gaussians, frame.camera, T_cam_obj)
        visible = image[:, 4] > 0.5
        if frame.depth is not None:
            z = image[:, 3] / np.maximum(image[:, 4], 1e-6)
            observation = Observation(frame, reference)
            tolerance = self.refiner.verification.tolerance_m(observation, z)
            visible &= (frame.depth == 0) | (np.abs(frame.depth - z) < tolerance)
        return visible


@dataclass(frozen=True, eq=False)
class _Found:
    """A pose of an object, and how well it explains the frame."""

    observation: Observation
    T_cam_obj: NDArray[np.float64]
    check: PoseCheck

    def scored(self, score: float) -> _Found:
        """The same with another score."""
        return replace(self, check=replace(self.check, score=score))


def _best_first(found: Sequence[_Found]) -> list[_Found]:
    """By score, those left out that the check has ruled out."""
    return sorted((f for f in found if f.check.score > 0), key=lambda f: -f.check.score)


def _is_same_pose(a: _Found, b: _Found) -> bool:
    shift = np.linalg.norm(a.T_cam_obj[:3, 3] - b.T_cam_obj[:3, 3])
    if shift >= _SAME_SHIFT * a.observation.reference.diameter_m:
        return False
    angle = se3.rotation_angle(a.T_cam_obj[:3, :3], b.T_cam_obj[:3, :3])
    return bool(angle < _SAME_ROTATION)
