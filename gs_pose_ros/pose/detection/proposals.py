"""Where an object may be, and how turned: the most similar templates over the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
import torch
from numpy.typing import NDArray

from gs_pose_ros.bounds import Distance, Factor, Few, Positive
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.initialization.rays import ray_rotations
from gs_pose_ros.pose.initialization.templates import (
    TemplateBank,
    TemplateSettings,
    cell_offsets,
    color_features,
    depth_features,
    gradient_features,
    surface_normals,
    template_bank,
)

# Two proposals closer than this in both are one.
_SAME_PLACE = 0.2  # diameters
# Of an object whose templates are finer than the picture nothing is recognised, and it is looked
# for at every pixel: with a lens of 150 degrees that took a minute an object.
_LEAST_CELL_PX = 0.75
_SAME_ROTATION = np.radians(25)


@dataclass(frozen=True)
class DepthProposals:
    """Templates at foreground points, at the scale that the depth there gives."""

    templates: TemplateSettings = TemplateSettings()
    anchor_spacing: Positive = 0.75  # cells
    templates_per_place: Few = 8

    def propose(
        self, maps: DepthMaps, reference: ObjectReference, count: int
    ) -> list[NDArray[np.float64]]:
        """Up to `count` poses T_cam_obj [4, 4], best first."""
        s = self.templates
        bank = template_bank(reference, s)
        cell_m = reference.diameter_m * s.extent / s.cells
        anchors = maps.anchors(self.anchor_spacing * cell_m)
        if len(anchors) == 0:
            return []
        features = maps.features(anchors, reference.diameter_m, s)
        anchor, template, value = _best_pairs(features, bank, s, self.templates_per_place)
        points = maps.points[anchors[anchor, 1], anchors[anchor, 0]].astype(np.float64)
        return _distinct_poses(points, template, value, bank, reference, count)


@dataclass(frozen=True)
class ColorProposals:
    """Templates all over a colour image, at every distance of a ladder."""

    templates: TemplateSettings = TemplateSettings(
        viewpoints=80, in_plane=16, cells=12, with_depth=False
    )
    nearest_m: Distance = 0.3
    farthest_m: Distance = 1.2
    distance_step: Factor = 1.2  # factor from one distance to the next
    cell_px: Few = 3  # the image is resized so that a cell has so many pixels
    templates_per_place: Few = 2

    def __post_init__(self) -> None:
        if self.nearest_m > self.farthest_m:
            raise ValueError(
                f'nearest_m is {self.nearest_m:g}, beyond farthest_m, {self.farthest_m:g}'
            )

    def propose(
        self, frame: RGBDFrame, reference: ObjectReference, count: int
    ) -> list[NDArray[np.float64]]:
        """Up to `count` poses T_cam_obj [4, 4], best first."""
        s = self.templates
        bank = template_bank(reference, s)
        steps = int(np.ceil(np.log(self.farthest_m / self.nearest_m) / np.log(self.distance_step)))
        points, templates, values = [], [], []
        for z in np.geomspace(self.nearest_m, self.farthest_m, steps + 1):
            cell = reference.diameter_m * s.extent / s.cells * frame.camera.fx / z
            if cell < _LEAST_CELL_PX:
                continue
            factor = min(self.cell_px / cell, 1.0)
            small = frame.warp(frame.camera.scaled(factor), -0.5, -0.5, factor)
            features, anchors = self._features(small.color, cell * factor)
            if not len(anchors):  # nearer than the whole picture shows
                continue
            anchor, template, value = _best_pairs(features, bank, s, self.templates_per_place)
            keep = np.argsort(-value)[: 10 * count]
            points.append(small.camera.back_project(anchors[anchor[keep]], np.full(len(keep), z)))
            templates.append(template[keep])
            values.append(value[keep])
        if not points:
            return []
        return _distinct_poses(
            np.concatenate(points),
            np.concatenate(templates),
            np.concatenate(values),
            bank,
            reference,
            count,
        )

    def _features(
        self, color: NDArray[np.float32], cell: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        s = self.templates
        blurred = np.asarray(cv2.GaussianBlur(color, (0, 0), 0.4 * cell), np.float32)
        planes = np.concatenate(
            [
                color_features(blurred) * np.float32(s.color_weight),
                gradient_features(blurred, max(1, round(cell / 2)))
                * np.float32(s.gradient_weight),
            ],
            -1,
        )
        step = max(1, round(cell))
        height, width = color.shape[:2]
        x, y = np.meshgrid(np.arange(step // 2, width, step), np.arange(step // 2, height, step))
        anchors = np.stack([x.ravel(), y.ravel()], -1)
        offsets = cell_offsets(s.cells, s.extent) * (cell * s.cells / s.extent)
        col, row = np.round(anchors[:, None] + offsets).astype(np.int64).transpose(2, 0, 1)
        inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
        block = planes[row.clip(0, height - 1), col.clip(0, width - 1)] * inside[..., None]
        return block.reshape(len(anchors), planes.shape[-1] * len(offsets)), anchors


@dataclass(frozen=True)
class DepthMaps:
    """Per-pixel quantities of one RGB-D frame that all objects share."""

    focal: float
    depth: NDArray[np.float32]  # [H, W] m, nan unknown
    points: NDArray[np.float32]  # [H, W, 3] m
    normals: NDArray[np.float32]  # [H, W, 3]
    color: NDArray[np.float32]  # [H, W, 6] features
    foreground: NDArray[np.bool_]  # [H, W]

    @classmethod
    def of(cls, frame: RGBDFrame, foreground: NDArray[np.bool_]) -> DepthMaps:
        """The maps of a frame with depth and its foreground."""
        assert frame.depth is not None
        depth = np.where(frame.depth > 0, cv2.medianBlur(frame.depth, 5), 0)
        depth = np.where(depth > 0, depth, np.nan).astype(np.float32)
        known = np.isfinite(depth).astype(np.float32)
        smooth = cv2.GaussianBlur(np.nan_to_num(depth), (0, 0), 1.5)
        smooth /= np.maximum(cv2.GaussianBlur(known, (0, 0), 1.5), 1e-3)
        normals = surface_normals(frame.camera.point_map(np.where(known > 0, smooth, np.nan)), 3)
        blurred = np.asarray(cv2.GaussianBlur(frame.color, (0, 0), 2.0), np.float32)
        color = color_features(blurred)
        points = frame.camera.point_map(depth)
        return cls(frame.camera.fx, depth, points, normals, color, foreground)

    def anchors(self, spacing_m: float) -> NDArray[np.int64]:
        """Foreground pixels [A, 2] about `spacing_m` apart."""
        valid = self.foreground & np.isfinite(self.depth)
        if not valid.any():
            return np.zeros((0, 2), np.int64)
        z = float(np.median(self.depth[valid]))
        step = max(2, round(spacing_m * self.focal / z))
        rows, cols = np.nonzero(valid[step // 2 :: step, step // 2 :: step])
        return np.stack([cols * step + step // 2, rows * step + step // 2], -1)

    def features(
        self, anchors: NDArray[np.int64], diameter_m: float, s: TemplateSettings
    ) -> NDArray[np.float32]:
        """[A, cells * cells * channels] around pixels [A, 2]."""
        height, width = self.depth.shape
        z = self.depth[anchors[:, 1], anchors[:, 0]]
        scale = diameter_m * self.focal / z  # px per diameter
        offsets = cell_offsets(s.cells, s.extent)
        at = anchors[:, None] + scale[:, None, None] * offsets
        col, row = np.round(at).astype(np.int64).transpose(2, 0, 1)
        inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
        col, row = col.clip(0, width - 1), row.clip(0, height - 1)
        relative = (self.depth[row, col] - z[:, None]) / np.float32(diameter_m)
        figure = np.where(self.foreground[row, col], np.float32(1), np.float32(-1))
        block = np.concatenate(
            [
                depth_features(relative, self.normals[row, col]) * np.float32(s.geometry_weight),
                self.color[row, col] * np.float32(s.color_weight),
                figure[..., None],
            ],
            -1,
        )
        return (block * inside[..., None]).reshape(len(anchors), -1)


def _best_pairs(
    features: NDArray[np.float32], bank: TemplateBank, s: TemplateSettings, per_place: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Indices of anchors and templates, and their similarity; a few templates of every place.

    Limiting each place keeps one look-alike from filling the list.
    """
    similarity = bank.similarity(features)
    similarity *= torch.from_numpy(1 - s.small_penalty / np.sqrt(bank.coverage * s.cells**2))
    best = similarity.topk(min(per_place, similarity.shape[1]))
    anchor = np.repeat(np.arange(len(similarity)), best.indices.shape[1])
    return anchor, best.indices.numpy().ravel(), best.values.numpy().ravel()


def _distinct_poses(
    points: NDArray[np.float64],
    template: NDArray[np.int64],
    value: NDArray[np.float32],
    bank: TemplateBank,
    reference: ObjectReference,
    count: int,
) -> list[NDArray[np.float64]]:
    """Poses of templates anchored at points [P, 3] m, best first, near duplicates left out."""
    best = np.argsort(-value)[: 40 * count]
    template = template[best]
    centers = points[best] + reference.diameter_m * bank.center_from_anchor[template]
    # Templates were rendered on the optical axis: turn them to the ray they stand on.
    R = ray_rotations(centers) @ bank.R_cam_obj[template]
    near = _SAME_PLACE * reference.diameter_m
    kept = _keep_distinct(centers, R, count, near, np.cos(_SAME_ROTATION))
    poses = se3.from_rotation_translation(R, centers - R @ reference.center)
    return [poses[i] for i in kept]


@numba.njit(cache=True, nogil=True)
def _keep_distinct(centers, R, count, near, cos_near):
    """Indices of the first `count` poses that are not near one before them in place and turn."""
    kept = np.empty(count, np.int64)
    n = 0
    for i in range(len(R)):
        if n == count:
            break
        distinct = True
        for k in kept[:n]:
            shift = 0.0
            for axis in range(3):
                shift += (centers[k, axis] - centers[i, axis]) ** 2
            # The trace of R_k^T R_i is 1 + 2 cos of the angle between them.
            if shift < near * near and (np.sum(R[k] * R[i]) - 1) / 2 > cos_near:
                distinct = False
                break
        if distinct:
            kept[n] = i
            n += 1
    return kept[:n]
