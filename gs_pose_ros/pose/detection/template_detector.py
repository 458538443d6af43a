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
from gs_pose_ros.pose.initialization.feature_poses import FeatureMatching
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from gs_pose_ros.pose.refinement.lm import LMRefiner, align_to_mask
from gs_pose_ros.pose.verification.check import PoseCheck, Verification
from gs_pose_ros.pose.verification.keypoints import KeypointPairs
from gs_pose_ros.rendering.numba_rasterizer import rasterize


@dataclass(frozen=True)
class TemplateDetector:
    """Settings and method of the detector; see `detect`."""

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
    # Of them, those that are refined at the lowest resolution: the most similar, and the best by a
    # quick look (at the best of a glance), which misjudges what is a little off.
    most_similar: Many = 24
    glanced: Many = 200
    best_looking: Many = 24
    refined: Few = 10  # of them that are refined further
    places: Few = 6  # that are cut out, without depth only
    cut_out_again: FewOrNone = 3  # of the places, from the pose found there
    turned: FewOrNone = 2  # refined proposals whose look-alikes are tried
    max_instances: Few = 5
    min_score: Share = 0.58  # of the verification
    min_score_color: Share = 0.64  # the same without depth, where more passes for the object
    min_distance: Share = 0.25  # diameters between two instances
    max_overlap: Share = 0.4  # share of a detection's pixels that a better one may claim

    def detect(
        self, frame: RGBDFrame, references: Sequence[ObjectReference], effort: float = 1.0
    ) -> list[Detection]:
        """All instances of the objects in one frame, best first; empty when there are none.

        `effort` is the share of the proposals that are looked into. Below 1 local features are
        left out as well: an object in plain view is found with a tenth of the proposals in a third
        of the time.

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
                found += self._verify(frame, keypoints, foreground, reference, poses)
        else:
            frame, foreground = frame.without_depth(), None
            for reference in references:
                poses, keypoints = self._recognized(features, reference)
                poses += self.color_proposals.propose(frame, reference, self.proposals)
                found += self._verify_colors(frame, keypoints, reference, poses)
        return self._select(frame, foreground, found)

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
        self,
        frame: RGBDFrame,
        keypoints: KeypointPairs | None,
        foreground: NDArray[np.bool_] | None,
        reference: ObjectReference,
        poses: Sequence[NDArray[np.float64]],
    ) -> list[_Found]:
        """Look at all proposals, refine the promising ones, the best further; keep what fits."""
        levels, descend = self.refiner.coarse, self.refiner.descend

        def looked_at(poses: Sequence[NDArray[np.float64]]) -> list[_Found]:
            checks = self.first_check.check_all(frame, reference, poses)
            return [_Found(reference, T, c) for T, c in zip(poses, checks, strict=True)]

        def roughly(T: NDArray[np.float64]) -> NDArray[np.float64]:
            return descend(frame, reference, T, levels[:1], None, foreground)

        def refined(T: NDArray[np.float64]) -> _Found:
            T = descend(frame, reference, T, levels[1:], None, foreground)
            check = self.refiner.verification.check(
                frame, reference, T, None, foreground, keypoints
            )
            return _Found(reference, T, check, keypoints)

        promising = list(poses[: self.most_similar])
        others = poses[self.most_similar :]
        glances = self.first_check.glance(frame, reference, others)
        seen = looked_at([others[i] for i in np.argsort(-glances)[: self.glanced]])
        promising += [f.T_cam_obj for f in _best_first(seen)[: self.best_looking]]
        rough = self._distinct(looked_at(map_threads(roughly, promising)))[: self.refined]
        found = map_threads(refined, [f.T_cam_obj for f in rough])
        # What looks much the same after a turn is told apart by rendering both.
        turned = [
            T
            for f in _best_first(found)[: self.turned]
            for T in self.refiner.turned_poses(frame, reference, f.T_cam_obj, None, foreground)
        ]
        found += map_threads(refined, turned)
        return self._fittest([f for f in found if f.check.score >= 0.7 * self.min_score])

    def _verify_colors(
        self,
        frame: RGBDFrame,
        keypoints: KeypointPairs | None,
        reference: ObjectReference,
        poses: Sequence[NDArray[np.float64]],
    ) -> list[_Found]:
        """Without depth: cut the object out where a template fits, then retrieve and refine.

        A colour proposal knows the place well and the pose badly, and without a silhouette a plain
        object fits into itself at any smaller size. So a mask first (GrabCut), then what GS-Pose
        does with a mask.
        """

        def place(T: NDArray[np.float64]) -> _Found | None:
            mask = cut_out(frame, reference, T)
            if mask is None:
                return None
            detection = Detection.from_full_mask(reference.object_id, 0.5, mask)
            hypotheses = [
                h.T_cam_obj for h in self.retrieval.initialize(frame, reference, detection)
            ]
            candidates = []
            for start in (T, *hypotheses):
                start = align_to_mask(frame, reference, start, mask)
                refined = self.refiner.descend(frame, reference, start, self.refiner.coarse, mask)
                check = self.refiner.verification.check(
                    frame, reference, refined, mask, keypoints=keypoints
                )
                score = check.score * min(1.0, check.silhouette / 0.9)
                candidates.append(
                    _Found(reference, refined, replace(check, score=score), keypoints)
                )
            return max(candidates, key=lambda c: c.check.score)

        def uncut(f: _Found) -> _Found:
            # The cut is good to a few pixels; colours and their edges tell the distance better.
            T = self.refiner.descend(frame, reference, f.T_cam_obj, self.refiner.coarse[1:])
            check = self.refiner.verification.check(frame, reference, T, keypoints=keypoints)
            return _Found(reference, T, check, keypoints)

        places: list[NDArray[np.float64]] = []
        for T in poses:
            if len(places) == self.places:
                break
            pixel = frame.camera.project(T[:3, 3])
            size = reference.diameter_m * frame.camera.fx / T[2, 3]
            taken = (np.linalg.norm(frame.camera.project(p[:3, 3]) - pixel) for p in places)
            if not any(distance < 0.25 * size for distance in taken):
                places.append(T)
        found = [f for f in map_threads(place, places) if f is not None]
        # A better pose cuts out better.
        best = _best_first(found)[: self.cut_out_again]
        found += [f for f in map_threads(place, [f.T_cam_obj for f in best]) if f is not None]
        found = map_threads(uncut, [f for f in found if f.check.score >= 0.7 * self.min_score])
        near, far = 0.9 * self.color_proposals.nearest_m, 1.1 * self.color_proposals.farthest_m
        return [f for f in found if near < f.T_cam_obj[2, 3] < far]

    def _fittest(self, found: list[_Found]) -> list[_Found]:
        """Of those in one place that score about as well, the one that fits best.

        It has the best score of them: that the object is there is as sure as its surest pose.
        """
        kept: list[_Found] = []
        rest = _best_first(found)
        while rest:
            first = rest[0]
            near = [f for f in rest if self._same_place(f.T_cam_obj, first)]
            rivals = [f for f in near if f.check.score > 0.8 * first.check.score]
            best = max(rivals, key=lambda f: f.check.fit)
            kept.append(replace(best, check=replace(best.check, score=first.check.score)))
            rest = [f for f in rest if f not in near]
        return kept

    def _same_place(self, T_cam_obj: NDArray[np.float64], found: _Found) -> bool:
        center_in = found.reference.center_in
        apart = center_in(T_cam_obj) - center_in(found.T_cam_obj)
        return bool(np.linalg.norm(apart) < self.min_distance * found.reference.diameter_m)

    def _distinct(self, found: list[_Found]) -> list[_Found]:
        """Best first, without those that refinement has brought to the pose of a better one."""
        kept: list[_Found] = []
        for f in _best_first(found):
            near = (
                np.linalg.norm(k.T_cam_obj[:3, 3] - f.T_cam_obj[:3, 3])
                < 0.1 * f.reference.diameter_m
                and se3.rotation_angle(k.T_cam_obj[:3, :3], f.T_cam_obj[:3, :3]) < np.radians(10)
                for k in kept
            )
            if not any(near):
                kept.append(f)
        return kept

    def _select(
        self,
        frame: RGBDFrame,
        foreground: NDArray[np.bool_] | None,
        found: list[_Found],
    ) -> list[Detection]:
        """Greedy: the best claims its pixels, later ones must stand on others."""
        taken = np.zeros(frame.camera.shape, bool)
        counts: dict[str, int] = {}
        detections = []
        for candidate in _best_first(found):
            object_id = candidate.reference.object_id
            if counts.get(object_id, 0) == self.max_instances:
                continue
            visible = self.visible_mask(frame, candidate.reference, candidate.T_cam_obj)
            if not visible.any():
                continue
            if np.count_nonzero(visible & taken) > self.max_overlap * np.count_nonzero(visible):
                continue
            fine = self.refiner.descend(
                frame,
                candidate.reference,
                candidate.T_cam_obj,
                self.refiner.fine[:1],
                None,
                foreground,
            )
            check = self.refiner.verification.check(
                frame, candidate.reference, fine, keypoints=candidate.keypoints
            )
            score = max(check.score, candidate.check.score) if check.score > 0 else 0.0
            if score < (self.min_score if frame.depth is not None else self.min_score_color):
                continue
            visible = self.visible_mask(frame, candidate.reference, fine)
            if not visible.any():
                continue
            taken |= visible
            counts[object_id] = counts.get(object_id, 0) + 1
            detections.append(Detection.from_full_mask(object_id, score, visible, (fine,)))
        return sorted(detections, key=lambda d: -d.score)

    def visible_mask(
        self, frame: RGBDFrame, reference: ObjectReference, T_cam_obj: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """The part [H, W] of the rendered silhouette that nothing hides."""
        image = rasterize(reference.gaussians, frame.camera, T_cam_obj)
        visible = image[:, 4] > 0.5
        if frame.depth is not None:
            z = image[:, 3] / np.maximum(image[:, 4], 1e-6)
            tolerance = self.refiner.verification.tolerance_m(frame, reference, z)
            visible &= (frame.depth == 0) | (np.abs(frame.depth - z) < tolerance)
        return visible


@dataclass(frozen=True, eq=False)
class _Found:
    reference: ObjectReference
    T_cam_obj: NDArray[np.float64]
    check: PoseCheck
    keypoints: KeypointPairs | None = None  # of the frame with the object


def _best_first(found: Sequence[_Found]) -> list[_Found]:
    """By score, those left out that the check has ruled out."""
    return sorted((f for f in found if f.check.score > 0), key=lambda f: -f.check.score)
