"""Initial pose by retrieval (GS-Pose, Sec. 3.2): the most similar views, then Eqs. 3-5."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        picture = _Picture.of(
            frame.color, frame.depth, mask, frame.camera.fx, reference.diameter_m
        )
        query = _describe(picture, np.eye(2)[None], self)[0]
        similarity = bank.embeddings @ query
        poses = self._translations(frame, reference, bank, picture)
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
        picture: _Picture,
    ) -> NDArray[np.float64]:
        """T_cam_obj [M, 4, 4] of all templates: Eqs. 3-5, or the depth in the mask."""
        d = reference.diameter_m
        camera = frame.camera
        # Eq. 3: scale from the areas; a template's is known in squared diameters at its distance.
        scale = picture.root_area / (bank.root_area * d)  # px per metre at the object
        z = camera.fx / scale
        if frame.depth is not None:
            known = picture.mask & (frame.depth > 0)
            if np.count_nonzero(known) >= 10:
                # The surface's mean depth is the centre's plus the template's mean relief.
                z = np.median(frame.depth[known]) - d * bank.mean_relief
                scale = camera.fx / z
        # Eq. 4: the box centre, from the offset of the mask's centroid in the template.
        ray = camera.back_project(picture.centroid, 1.0)
        to_ray = ray_rotations(ray[None])[0]
        uv = picture.centroid + bank.center_from_centroid * (d * scale)[:, None]  # Eq. 5 follows
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
        # Depth in diameters with a distance of 5: a focal length of 5 / pixel.
        distance = np.nan_to_num(depth + 5, nan=0.0).astype(np.float32)
        picture = _Picture.of(color, distance, mask, 5 / pixel, 1.0)
        embeddings.append(_describe(picture, turns, s))
        rotations.append(turns3 @ R)
        areas.append(np.full(s.in_plane, picture.root_area * pixel))
        offsets.append((turns @ (middle - picture.centroid)) * pixel)
        reliefs.append(np.full(s.in_plane, float(np.median(depth[mask]))))
    return _Bank(
        np.concatenate(rotations),
        np.concatenate(embeddings).astype(np.float32),
        np.concatenate(areas),
        np.concatenate(offsets),
        np.concatenate(reliefs),
    )


@dataclass(frozen=True)
class _Picture:
    """What is embedded: an image or a rendered view, with a mask that is not empty."""

    color: NDArray[np.float32]  # [H, W, 3]
    depth: NDArray[np.float32] | None  # [H, W], 0 unknown, in any unit
    mask: NDArray[np.bool_]  # [H, W]
    focal: float  # px
    diameter: float  # of the object, in the unit of the depth
    root_area: float  # square root of the mask's area, px
    centroid: NDArray[np.float64]  # [2] x, y of the mask, px

    @classmethod
    def of(
        cls,
        color: NDArray[np.float32],
        depth: NDArray[np.float32] | None,
        mask: NDArray[np.bool_],
        focal: float,
        diameter: float,
    ) -> _Picture:
        """Fields as above; area and centroid are those of the mask."""
        rows, cols = np.nonzero(mask)
        centroid = np.array([cols.mean(), rows.mean()])
        return cls(color, depth, mask, focal, diameter, np.sqrt(float(len(rows))), centroid)


# The channels that an embedding samples.
_SHAPE, _COLOR, _GEOMETRY = slice(0, 1), slice(1, 7), slice(7, 14)
_CHANNELS = 14
_NORMAL_XY = slice(11, 13)  # geometry ends with the normal


def _describe(
    picture: _Picture, turns: NDArray[np.float64], s: TemplateRetrieval
) -> NDArray[np.float32]:
    """Unit embeddings [n, D] of a picture turned about its centroid by each of turns [n, 2, 2].

    D = cells * cells * 14: each cell of a square of `extent` root areas shows the planes there.
    """
    step = s.extent * picture.root_area / s.cells  # px per cell
    left, top, near = _neighbourhood(picture, int(np.ceil(2 * step)) + 2)
    planes = _planes(near, step, s)
    height, width = planes.shape[:2]
    c = (np.arange(s.cells) + 0.5 - s.cells / 2) * step
    grid = np.stack(np.meshgrid(c, c), -1).reshape(-1, 2)  # [cells^2, 2] px from the centroid
    # The turned picture shows source point Q^T o at o: [n, cells^2, 2].
    at = grid @ turns + picture.centroid
    col = np.round(at[..., 0] - left).astype(np.int64)
    row = np.round(at[..., 1] - top).astype(np.int64)
    inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
    cells = planes[row.clip(0, height - 1), col.clip(0, width - 1)]  # [n, cells^2, 14]
    cells *= inside[..., None]
    if picture.depth is not None:  # normals turn with the picture
        cells[..., _NORMAL_XY] = np.einsum('nij,ncj->nci', turns, cells[..., _NORMAL_XY])
    flat = cells.reshape(len(turns), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def _neighbourhood(picture: _Picture, margin: int) -> tuple[int, int, _Picture]:
    """The part of a picture within `margin` px of its mask's box, and its left and top, px."""
    rows, cols = np.nonzero(picture.mask)
    top, left = max(0, int(rows.min()) - margin), max(0, int(cols.min()) - margin)
    part = np.s_[top : rows.max() + margin + 1, left : cols.max() + margin + 1]
    depth = None if picture.depth is None else picture.depth[part]
    near = replace(picture, color=picture.color[part], depth=depth, mask=picture.mask[part])
    return left, top, near


def _planes(picture: _Picture, step: float, s: TemplateRetrieval) -> NDArray[np.float32]:
    """Shape, colour and geometry [H, W, 14] of a picture, blurred to cells of `step` px.

    Geometry is 0 without depth: so one bank serves both.
    """
    mask = picture.mask
    sigma = max(0.4 * step, 0.3)
    soft = np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma), np.float32)
    planes = np.zeros((*mask.shape, _CHANNELS), np.float32)
    planes[..., _SHAPE] = soft[..., None] * s.shape_weight
    planes[..., _COLOR] = _color_planes(picture, soft, sigma)
    if picture.depth is not None:
        planes[..., _GEOMETRY] = _geometry_planes(picture, step) * s.geometry_weight
    planes[..., 1:] *= soft[..., None]
    return planes


def _color_planes(
    picture: _Picture, soft: NDArray[np.float32], sigma: float
) -> NDArray[np.float32]:
    """`color_features` [H, W, 6] of the object's colours, blurred as its mask was to `soft`.

    Brightness is relative to the object's mean: the light's strength is unknown.
    """
    masked = picture.color * picture.mask[..., None]
    blurred = cv2.GaussianBlur(masked, (0, 0), sigma) / np.maximum(soft, 1e-3)[..., None]
    mean = float(picture.color[picture.mask].mean())
    return color_features(np.asarray(blurred * (0.4 / max(mean, 0.02)), np.float32))


def _geometry_planes(picture: _Picture, step: float) -> NDArray[np.float32]:
    """`depth_features` [H, W, 7] of the object's surface; 0 where its depth is unknown."""
    assert picture.depth is not None
    known = picture.mask & (picture.depth > 0)
    if not known.any():
        return np.zeros((*known.shape, 7), np.float32)
    z = np.where(known, picture.depth, np.nan).astype(np.float32)
    relief = (z - np.nanmedian(z)) / picture.diameter
    y, x = np.indices(z.shape).astype(np.float32)
    points = np.stack([x * z / picture.focal, y * z / picture.focal, z], -1)
    normals = surface_normals(points, max(1, round(step / 2)))
    return depth_features(relief.astype(np.float32), normals)
