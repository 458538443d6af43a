"""Initial pose by retrieval (GS-Pose, Sec. 3.2): the most similar views, then Eqs. 3-5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Bounds, Cells, Count, Extent, Few, FewOrNone, Many, NonNegative
from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.features.local_features import FrameFeatures
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.objects.prepared import prepared
from gs_pose_ros.pose.initialization.feature_poses import FeatureMatching
from gs_pose_ros.pose.initialization.rays import ray_rotations
from gs_pose_ros.pose.initialization.templates import (
    cached_views,
    color_features,
    depth_features,
    surface_normals,
)
from gs_pose_ros.pose.verification.keypoints import keypoint_bank


@dataclass(frozen=True)
class TemplateRetrieval:
    """Weight-free retrieval: every view is an embedding of its masked, normalised picture.

    Pictures are centred on the mask's centroid and scaled by the square root of its area, so
    templates and query are compared without knowing the distance; Eqs. 3-5 give it afterwards.
    """

    viewpoints: Many = 160
    in_plane: Many = 24
    cells: Cells = 14
    extent: Extent = 2.4  # side of the normalised picture in sqrt(area)
    shape_weight: NonNegative = 1.0
    geometry_weight: NonNegative = 0.7
    top_k: Few = 8
    beside_hints: FewOrNone = 3  # instead of top_k, where the detector has verified a pose
    min_angle_deg: Annotated[float, Bounds(0, 180)] = 20.0  # between two hypotheses
    min_mask_pixels: Count = 25
    features: FeatureMatching = FeatureMatching()

    def prepare(self, reference: ObjectReference) -> None:
        """Make, or read from disk, all that is made of an object once."""
        _bank(reference, self)
        keypoint_bank(reference)

    def initialize(
        self, frame: RGBDFrame, reference: ObjectReference, detection: Detection
    ) -> list[PoseEstimate]:
        """Hypotheses: verified by the detector, then from features, then retrieved.

        Up to `top_k` or, where there are verified ones, those and `beside_hints`. The score is
        the detection's, the inliers n as n / (n + least inliers), or the cosine between the
        embeddings. Only the detector's if the mask has too few pixels.
        """
        mask = detection.full_mask(frame.camera.shape)
        hints = [
            PoseEstimate(T, detection.score, Status.INITIAL, stamp_ns=frame.stamp_ns)
            for T in detection.pose_hints
            if se3.is_rigid(T)
        ]
        if np.count_nonzero(mask) < self.min_mask_pixels:
            return hints
        bank = _bank(reference, self)
        area, center = _area_and_centroid(mask)
        query = _describe(
            frame.color,
            frame.depth,
            frame.camera.fx,
            mask,
            center,
            np.sqrt(area),
            np.eye(2)[None],
            self,
            reference.diameter_m,
        )[0]
        similarity = bank.embeddings @ query
        poses = self._translations(frame, reference, bank, mask, area, center)
        order = np.argsort(-similarity)
        kept: list[PoseEstimate] = hints + self._from_features(frame, reference, mask)
        count = len(hints) + self.beside_hints if hints else self.top_k
        for i in order:
            if len(kept) >= count:
                break
            R = poses[i][:3, :3]
            angles = [se3.rotation_angle(k.T_cam_obj[:3, :3], R) for k in kept]
            if angles and min(angles) < np.radians(self.min_angle_deg):
                continue
            score = float(np.clip(similarity[i], 0, 1))
            kept.append(PoseEstimate(poses[i], score, Status.INITIAL, stamp_ns=frame.stamp_ns))
        return kept

    def _from_features(
        self, frame: RGBDFrame, reference: ObjectReference, mask: NDArray[np.bool_]
    ) -> list[PoseEstimate]:
        found = self.features.hypotheses(FrameFeatures.of(frame, mask), reference)
        return [
            PoseEstimate(
                T, n / (n + self.features.min_inliers), Status.INITIAL, stamp_ns=frame.stamp_ns
            )
            for T, n in found
        ]

    def _translations(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        bank: _Bank,
        mask: NDArray[np.bool_],
        area: float,
        center: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """T_cam_obj [M, 4, 4] of all templates: Eqs. 3-5, or the depth in the mask."""
        d = reference.diameter_m
        camera = frame.camera
        # Eq. 3: scale from the areas; a template's is known in squared diameters at its distance.
        scale = np.sqrt(area) / (bank.root_area * d)  # px per metre at the object
        z = camera.fx / scale
        if frame.depth is not None:
            known = mask & (frame.depth > 0)
            if np.count_nonzero(known) >= 10:
                # The surface's mean depth is the centre's plus the template's mean relief.
                z = np.median(frame.depth[known]) - d * bank.mean_relief
                scale = camera.fx / z
        # Eq. 4: the box centre, from the offset of the mask's centroid in the template.
        ray = camera.back_project(center, 1.0)
        to_ray = ray_rotations(ray[None])[0]
        uv = center + bank.center_from_centroid * (d * scale)[:, None]  # Eq. 5 follows
        centers = camera.back_project(uv, z)
        R = to_ray @ bank.R_cam_obj
        return se3.from_rotation_translation(R, centers - R @ reference.center)


@dataclass(frozen=True)
class _Bank:
    R_cam_obj: NDArray[np.float64]  # [M, 3, 3]
    embeddings: NDArray[np.float32]  # [M, D], unit length
    root_area: NDArray[np.float64]  # [M] square root of the silhouette's area, diameters
    center_from_centroid: NDArray[np.float64]  # [M, 2] diameters
    mean_relief: NDArray[np.float64]  # [M] mean depth of the surface from the centre, diameters


@prepared
def _bank(reference: ObjectReference, s: TemplateRetrieval) -> _Bank:
    views = cached_views(reference, s.viewpoints)
    size = views.mask.shape[1]
    pixel = views.extent / size
    angles = 2 * np.pi * np.arange(s.in_plane) / s.in_plane
    turns = np.stack([np.stack([np.cos(angles), -np.sin(angles)], -1),
                      np.stack([np.sin(angles), np.cos(angles)], -1)], 1)  # fmt: skip
    turns3 = np.zeros((s.in_plane, 3, 3))
    turns3[:, :2, :2], turns3[:, 2, 2] = turns, 1
    middle = np.array([(size - 1) / 2] * 2)
    rotations, embeddings, areas, offsets, reliefs = [], [], [], [], []
    for R, color, depth, mask in zip(
        views.R_cam_obj, views.color, views.depth, views.mask, strict=True
    ):
        if np.count_nonzero(mask) < s.min_mask_pixels:
            continue
        area, center = _area_and_centroid(mask)
        # Depth in diameters with a distance of 5: a focal length of 5 / pixel.
        embeddings.append(
            _describe(
                color, np.nan_to_num(depth + 5, nan=0.0).astype(np.float32), 5 / pixel, mask,
                center, np.sqrt(area), turns, s, 1.0,
            )
        )  # fmt: skip
        rotations.append(turns3 @ R)
        areas.append(np.full(s.in_plane, np.sqrt(area) * pixel))
        offsets.append((turns @ (middle - center)) * pixel)
        reliefs.append(np.full(s.in_plane, float(np.median(depth[mask]))))
    return _Bank(
        np.concatenate(rotations),
        np.concatenate(embeddings).astype(np.float32),
        np.concatenate(areas),
        np.concatenate(offsets),
        np.concatenate(reliefs),
    )


def _area_and_centroid(mask: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64]]:
    rows, cols = np.nonzero(mask)
    return float(len(rows)), np.array([cols.mean(), rows.mean()])


def _describe(
    color: NDArray[np.float32],
    depth: NDArray[np.float32] | None,
    focal: float,
    mask: NDArray[np.bool_],
    center: NDArray[np.float64],
    root_area: float,
    turns: NDArray[np.float64],
    s: TemplateRetrieval,
    diameter: float,
) -> NDArray[np.float32]:
    """Unit embeddings [len(turns), D] of a masked picture turned by each of turns [n, 2, 2]."""
    step = s.extent * root_area / s.cells  # source pixels per cell
    c = (np.arange(s.cells) + 0.5 - s.cells / 2) * step
    grid = np.stack(np.meshgrid(c, c), -1).reshape(-1, 2)
    at = grid @ turns + center  # the turned picture shows source point Q^T o at o: [n, cells^2, 2]
    # Only the neighbourhood of the mask is needed.
    pad = int(np.ceil(2 * step)) + 2
    rows, cols = np.nonzero(mask)
    y0, y1 = max(0, rows.min() - pad), min(mask.shape[0], rows.max() + pad + 1)
    x0, x1 = max(0, cols.min() - pad), min(mask.shape[1], cols.max() + pad + 1)
    sigma = max(0.4 * step, 0.3)
    soft = cv2.GaussianBlur(mask[y0:y1, x0:x1].astype(np.float32), (0, 0), sigma)
    masked = color[y0:y1, x0:x1] * mask[y0:y1, x0:x1, None]
    blurred = cv2.GaussianBlur(masked, (0, 0), sigma) / np.maximum(soft, 1e-3)[..., None]
    # Brightness relative to the object's mean: the light's strength is unknown.
    mean = float(color[mask].mean())
    planes = [
        soft[..., None] * s.shape_weight,
        color_features(np.asarray(blurred * (0.4 / max(mean, 0.02)), np.float32)),
    ]
    if depth is not None:
        window = depth[y0:y1, x0:x1]
        known = mask[y0:y1, x0:x1] & (window > 0)
        if known.any():
            z = np.where(known, window, np.nan).astype(np.float32)
            relative = (z - np.nanmedian(z)) / diameter
            y, x = np.indices(z.shape).astype(np.float32)
            points = np.stack([x * z / focal, y * z / focal, z], -1)
            normals = surface_normals(points, max(1, round(step / 2)))
            planes.append(depth_features(relative.astype(np.float32), normals) * s.geometry_weight)
    features = np.concatenate(planes, -1).astype(np.float32)
    if len(planes) == 2:  # no depth: leave the place empty, so that banks serve both
        features = np.concatenate([features, np.zeros((*soft.shape, 7), np.float32)], -1)
    shape_channels = 1
    features[..., shape_channels:] *= soft[..., None]
    col = np.round(at[..., 0] - x0).astype(np.int64)
    row = np.round(at[..., 1] - y0).astype(np.int64)
    inside = (col >= 0) & (col < soft.shape[1]) & (row >= 0) & (row < soft.shape[0])
    sampled = features[row.clip(0, soft.shape[0] - 1), col.clip(0, soft.shape[1] - 1)]
    sampled *= inside[..., None]
    if depth is not None:  # normals turn with the picture: the last three channels
        sampled[..., -3:-1] = np.einsum('nij,ncj->nci', turns, sampled[..., -3:-1])
    flat = sampled.reshape(len(turns), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
