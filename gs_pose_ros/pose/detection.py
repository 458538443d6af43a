"""Weight-free detection: templates propose, rendering verifies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.estimate import Detection
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.parallel import map_threads
from gs_pose_ros.pose.lm_refiner import LMRefiner
from gs_pose_ros.pose.rays import ray_rotations
from gs_pose_ros.pose.segmentation import SupportPlaneSegmentation
from gs_pose_ros.pose.templates import (
    TemplateSettings,
    cell_offsets,
    color_features,
    depth_features,
    surface_normals,
    template_bank,
)
from gs_pose_ros.pose.verification import PoseCheck, Verification
from gs_pose_ros.rendering.numba_rasterizer import GaussianArrays, composite, project


@dataclass(frozen=True)
class TemplateDetector:
    """Settings and method of the detector; see `detect`."""

    templates: TemplateSettings = TemplateSettings()
    segmentation: SupportPlaneSegmentation = SupportPlaneSegmentation()
    refiner: LMRefiner = LMRefiner()
    # A quick look at many proposals, before the best are refined.
    first_check: Verification = Verification(crop_size=48, depth_tolerance=0.1, color_sigma=0.2)
    proposals: int = 120  # an object and image, after suppression of near duplicates
    templates_per_place: int = 8
    refined: int = 10  # proposals that are refined coarsely
    turned_over: int = 2  # refined proposals whose half turns about the box axes are tried
    max_instances: int = 5
    min_score: float = 0.6  # of the verification
    max_overlap: float = 0.4  # share of a detection's pixels that a better one may claim

    def detect(self, frame: RGBDFrame, references: Sequence[ObjectReference]) -> list[Detection]:
        """All instances of the objects in one frame, best first; empty when there are none.

        Needs depth: templates are placed on the foreground at the scale its depth gives.
        """
        if frame.depth is None:
            return []
        foreground = self.segmentation.foreground(frame)
        maps = _FeatureMaps.of(frame, foreground)
        found: list[_Found] = []
        for reference in references:
            poses = self._propose(maps, reference)
            found += self._verify(frame, foreground, reference, poses)
        return self._select(frame, foreground, found)

    def _propose(
        self, maps: _FeatureMaps, reference: ObjectReference
    ) -> list[NDArray[np.float64]]:
        """Poses T_cam_obj of the most similar templates, best first."""
        s = self.templates
        bank = template_bank(reference, s)
        anchors = _anchors(maps, 0.75 * reference.diameter_m * s.extent / s.cells)
        if len(anchors) == 0:
            return []
        features = maps.features(anchors, reference.diameter_m, s)
        similarity = features @ bank.features.T  # [A, M]
        similarity *= 1 - s.small_penalty / np.sqrt(bank.coverage * s.cells**2)
        # A few templates of every place, so that one look-alike does not fill the list.
        few = min(self.templates_per_place, similarity.shape[1])
        template = np.argpartition(similarity, -few, axis=1)[:, -few:]
        anchor = np.repeat(np.arange(len(anchors)), few)
        template = template.ravel()
        value = similarity[anchor, template]
        best = np.argsort(-value)[: 40 * self.proposals]
        anchor, template = anchor[best], template[best]
        points = maps.points[anchors[anchor, 1], anchors[anchor, 0]].astype(np.float64)
        centers = points + reference.diameter_m * bank.center_from_anchor[template]
        # Templates were rendered on the optical axis: turn them to the ray they stand on.
        R = ray_rotations(centers) @ bank.R_cam_obj[template]
        t = centers - R @ reference.box.mean(0)
        poses = se3.from_rotation_translation(R, t)
        kept: list[int] = []
        for i in range(len(poses)):
            if len(kept) == self.proposals:
                break
            if kept:
                near = np.linalg.norm(centers[kept] - centers[i], axis=1) < 0.2 * reference.diameter_m
                if (se3.rotation_angle(R[kept], R[i]) < np.radians(25))[near].any():
                    continue
            kept.append(i)
        return [poses[i] for i in kept]

    def _verify(
        self,
        frame: RGBDFrame,
        foreground: NDArray[np.bool_],
        reference: ObjectReference,
        poses: Sequence[NDArray[np.float64]],
    ) -> list[_Found]:
        """Refine all proposals at the lowest resolution, the best further; keep what fits."""
        levels = self.refiner.coarse

        def roughly(T: NDArray[np.float64]) -> _Found:
            T = self.refiner.refine_unmasked(frame, reference, T, foreground, levels[:1])
            return _Found(reference, T, self.first_check.check(frame, reference, T))

        def refined(T: NDArray[np.float64]) -> _Found:
            T = self.refiner.refine_unmasked(frame, reference, T, foreground, levels[1:])
            return _Found(reference, T, self.refiner.verification.check(frame, reference, T))

        rough = self._distinct(map_threads(roughly, poses))[: self.refined]
        found = map_threads(refined, [f.T_cam_obj for f in rough])
        # What looks much the same turned over by half a turn is told apart by rendering both.
        best = sorted(found, key=lambda f: -f.check.score)[: self.turned_over]
        found += map_threads(refined, [T for f in best for T in _half_turns(reference, f.T_cam_obj)])
        return [f for f in found if f.check.score >= 0.7 * self.min_score]

    def _distinct(self, found: list[_Found]) -> list[_Found]:
        """Best first, without those that refinement has brought to the pose of a better one."""
        kept: list[_Found] = []
        for f in sorted(found, key=lambda f: -f.check.score):
            if f.check.score == 0:
                break
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
        self, frame: RGBDFrame, foreground: NDArray[np.bool_], found: list[_Found]
    ) -> list[Detection]:
        """Greedy: the best claims its pixels, later ones must stand on others."""
        taken = np.zeros(frame.camera.shape, bool)
        counts: dict[str, int] = {}
        detections = []
        for candidate in sorted(found, key=lambda f: -f.check.score):
            object_id = candidate.reference.object_id
            if counts.get(object_id, 0) == self.max_instances:
                continue
            silhouette, visible = self.visible_mask(frame, candidate.reference, candidate.T_cam_obj)
            if not visible.any():
                continue
            if np.count_nonzero(visible & taken) > self.max_overlap * np.count_nonzero(visible):
                continue
            fine = self.refiner.refine_unmasked(
                frame,
                candidate.reference,
                candidate.T_cam_obj,
                foreground,
                self.refiner.fine[:1],
            )
            check = self.refiner.verification.check(frame, candidate.reference, fine)
            if check.score < self.min_score:
                continue
            silhouette, visible = self.visible_mask(frame, candidate.reference, fine)
            if not visible.any():
                continue
            taken |= visible
            counts[object_id] = counts.get(object_id, 0) + 1
            detections.append(
                Detection.from_full_mask(object_id, check.score, visible, (fine,))
            )
        return sorted(detections, key=lambda d: -d.score)

    def visible_mask(
        self, frame: RGBDFrame, reference: ObjectReference, T_cam_obj: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Silhouette [H, W] of the rendering, and the part of it that nothing hides."""
        image = composite(
            project(GaussianArrays.of(reference.gaussians), frame.camera, T_cam_obj), frame.camera
        )
        silhouette = image[:, 4] > 0.5
        visible = silhouette.copy()
        if frame.depth is not None:
            v = self.refiner.verification
            z = image[:, 3] / np.maximum(image[:, 4], 1e-6)
            tolerance = v.depth_tolerance * reference.diameter_m + v.depth_noise_per_m2 * z**2
            visible &= (frame.depth == 0) | (np.abs(frame.depth - z) < tolerance)
        return silhouette, visible


@dataclass(frozen=True)
class _Found:
    reference: ObjectReference
    T_cam_obj: NDArray[np.float64]
    check: PoseCheck


@dataclass(frozen=True)
class _FeatureMaps:
    """Per-pixel quantities of one frame that all objects share."""

    frame: RGBDFrame
    depth: NDArray[np.float32]  # [H, W] m, nan unknown
    points: NDArray[np.float32]  # [H, W, 3] m
    normals: NDArray[np.float32]  # [H, W, 3]
    color: NDArray[np.float32]  # [H, W, 6] features
    foreground: NDArray[np.bool_]  # [H, W]

    @classmethod
    def of(cls, frame: RGBDFrame, foreground: NDArray[np.bool_]) -> _FeatureMaps:
        assert frame.depth is not None
        depth = cv2.medianBlur(frame.depth, 5)
        depth = np.where(frame.depth > 0, depth, 0)
        depth = np.where(depth > 0, depth, np.nan).astype(np.float32)
        points = frame.camera.point_map(depth)
        smooth = cv2.GaussianBlur(np.nan_to_num(depth), (0, 0), 1.5) / np.maximum(
            cv2.GaussianBlur(np.isfinite(depth).astype(np.float32), (0, 0), 1.5), 1e-3
        )
        normals = surface_normals(
            frame.camera.point_map(np.where(np.isfinite(depth), smooth, np.nan)), 3
        )
        color = color_features(cv2.GaussianBlur(frame.color, (0, 0), 2.0))
        return cls(frame, depth, points, normals, color, foreground)

    def features(
        self, anchors: NDArray[np.int64], diameter_m: float, s: TemplateSettings
    ) -> NDArray[np.float32]:
        """[A, cells * cells * channels] around pixels [A, 2]."""
        height, width = self.depth.shape
        z = self.depth[anchors[:, 1], anchors[:, 0]]
        scale = diameter_m * self.frame.camera.fx / z  # px per diameter
        offsets = cell_offsets(s.cells, s.extent)
        at = anchors[:, None] + scale[:, None, None] * offsets
        col = np.round(at[..., 0]).astype(np.int64)
        row = np.round(at[..., 1]).astype(np.int64)
        inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
        col, row = col.clip(0, width - 1), row.clip(0, height - 1)
        relative = (self.depth[row, col] - z[:, None]) / np.float32(diameter_m)
        geometry = depth_features(relative, self.normals[row, col])
        block = np.concatenate(
            [
                geometry * np.float32(s.geometry_weight),
                self.color[row, col] * np.float32(s.color_weight),
            ],
            -1,
        )
        figure = np.where(self.foreground[row, col], np.float32(1), np.float32(-1))
        block = np.concatenate([block, figure[..., None]], -1)
        block *= inside[..., None]
        return block.reshape(len(anchors), -1)


def _anchors(
    maps: _FeatureMaps, spacing_m: float
) -> NDArray[np.int64]:
    """Foreground pixels [A, 2] about `spacing_m` apart on the surface."""
    valid = maps.foreground & np.isfinite(maps.depth)
    if not valid.any():
        return np.zeros((0, 2), np.int64)
    z = float(np.median(maps.depth[valid]))
    step = max(2, int(round(spacing_m * maps.frame.camera.fx / z)))
    rows, cols = np.nonzero(valid[step // 2 :: step, step // 2 :: step])
    return np.stack([cols * step + step // 2, rows * step + step // 2], -1)


def _half_turns(
    reference: ObjectReference, T_cam_obj: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """T turned by 180 degrees about the three axes of the object's box."""
    center = reference.box.mean(0)
    turned = []
    for axis in range(3):
        R = -np.eye(3)
        R[axis, axis] = 1
        turned.append(T_cam_obj @ se3.from_rotation_translation(R, center - R @ center))
    return turned
