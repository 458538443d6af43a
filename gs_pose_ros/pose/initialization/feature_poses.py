"""Poses of textured objects from local features: SIFT, votes for the object's centre, PnP."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gs_pose_ros.bounds import (
    Consensus,
    Factor,
    Few,
    Many,
    NonNegative,
    Positive,
    Share,
)
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.alignment import solve_pnp
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.objects.prepared import once_per_object
from gs_pose_ros.rendering.numba_rasterizer import rasterize

# A mask's surroundings (px) belong to the descriptors of the keypoints in it.
_MARGIN = 24
_BORDER = 3  # px of a reference view's rim without keypoints: they describe the background
_MOST_KEYPOINTS = 4000  # in one picture, the strongest: more take long and say little new
# A keypoint agrees with a pose if it is where the pose puts one of the object's, as large and
# turned as that one would be, and looks like it.
_NEAR = 0.025  # diameters in the picture
_SCALE = 1.6  # factor
_TURN = np.radians(30)
_SIDE = np.cos(np.radians(45))  # between the directions from which the two were seen
_COSINE = 0.85  # of the descriptors
_CHUNK = 500  # keypoints compared at a time: tables of all with all would fill the memory


@dataclass(frozen=True)
class FrameFeatures:
    """The keypoints of one frame, which all objects share."""

    camera: Camera
    pixels: NDArray[np.float32]  # [N, 2]
    scales: NDArray[np.float32]  # [N] diameter of the described neighbourhood, px
    angles: NDArray[np.float32]  # [N] rad
    descriptors: NDArray[np.float32]  # [N, 128] RootSIFT, unit length

    @classmethod
    def of(cls, frame: RGBDFrame, mask: NDArray[np.bool_] | None = None) -> FrameFeatures:
        """The keypoints of the whole frame or inside a mask [H, W], which must not be empty."""
        color, corner = frame.color, np.zeros(2, np.float32)
        inside = np.ones(frame.camera.shape, bool)
        if mask is not None:
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            top, left = max(0, rows[0] - _MARGIN), max(0, cols[0] - _MARGIN)
            window = np.s_[top : rows[-1] + _MARGIN, left : cols[-1] + _MARGIN]
            color, inside = color[window], mask[window]
            corner = np.array([left, top], np.float32)
        pixels, scales, angles, descriptors = _describe(
            (color * 255).round().astype(np.uint8), inside
        )
        return cls(frame.camera, pixels + corner, scales, angles, descriptors)

    @classmethod
    def around(
        cls, frame: RGBDFrame, reference: ObjectReference, T_cam_obj: NDArray[np.float64]
    ) -> FrameFeatures | None:
        """The keypoints where the object would be at a pose; None if that is not in the image."""
        center = reference.center_in(T_cam_obj)
        if center[2] <= 0:
            return None
        col, row = frame.camera.project(center)
        radius = 0.5 * reference.diameter_m * frame.camera.fx / center[2]
        rows, cols = np.ogrid[: frame.camera.height, : frame.camera.width]
        mask = np.asarray((rows - row) ** 2 + (cols - col) ** 2 <= radius**2)
        return cls.of(frame, mask) if mask.any() else None


@dataclass(frozen=True)
class KeypointPairs:
    """Keypoints of a frame and of an object that look alike, wherever the object may be."""

    features: FrameFeatures
    reference: ObjectReference
    frame: NDArray[np.int64]  # [M] of the frame's keypoints
    keypoint: NDArray[np.int64]  # [M] of the object's

    @classmethod
    def of(cls, features: FrameFeatures, reference: ObjectReference) -> KeypointPairs:
        """All pairs; none for an object without texture."""
        bank, found = _bank(reference, _BORDER), []
        for start in range(0, len(features.descriptors), _CHUNK):
            similarity = features.descriptors[start : start + _CHUNK] @ bank.descriptors.T
            row, column = np.nonzero(similarity > _COSINE)
            found.append(np.stack([row + start, column]))
        frame, keypoint = np.concatenate(found, 1) if found else np.zeros((2, 0), np.int64)
        return cls(features, reference, frame, keypoint)

    def agreeing(self, T_cam_obj: NDArray[np.float64]) -> int:
        """How many keypoints of the frame agree with the pose, beyond those that do by chance.

        Hardly depends on light and camera. What chance makes of this picture and this object is
        seen by turning the object's keypoints in the picture.
        """
        features, reference = self.features, self.reference
        center = reference.center_in(T_cam_obj)
        if len(self.frame) == 0 or center[2] <= 0.5 * reference.diameter_m:
            return 0
        bank, views = _bank(reference, _BORDER), reference.views.T_cam_obj
        toward = _camera_direction(T_cam_obj)
        seen = np.array([toward @ _camera_direction(T) > _SIDE for T in views], bool)
        size = reference.diameter_m * features.camera.fx / center[2]
        middle = features.camera.project(center)
        near = np.linalg.norm(features.pixels - middle, axis=1) < 0.6 * size
        use = near[self.frame] & seen[bank.view[self.keypoint]]
        frame, keypoint = self.frame[use], self.keypoint[use]
        scale = features.scales[frame] * bank.sizes[keypoint] / (bank.scales[keypoint] * size)
        # In the image plane, what the pose turns against the view: exact where both look alike.
        turns = np.array([_image_turn(T_cam_obj, T) for T in views])[bank.view[keypoint]]
        turn = features.angles[frame] - bank.angles[keypoint] - turns
        alike = (np.abs(np.log(scale)) < np.log(_SCALE)) & (np.cos(turn) > np.cos(_TURN))
        frame = frame[alike]
        points = se3.transform(T_cam_obj, bank.points[keypoint[alike]])
        pixels = features.camera.project(points) - middle
        observed = features.pixels[frame] - middle
        limit = max(2.0, _NEAR * size)

        def agreeing(quarter_turns: int) -> int:
            cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter_turns]
            turned = pixels @ np.array([[cos, sin], [-sin, cos]], np.float64)
            close = np.linalg.norm(observed - turned, axis=1) < limit
            return len(np.unique(frame[close]))

        return max(0, agreeing(0) - max(agreeing(k) for k in (1, 2, 3)))


def _camera_direction(T_cam_obj: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit vector [3] from the object to the camera, in the object's frame."""
    position = -T_cam_obj[:3, :3].T @ T_cam_obj[:3, 3]
    return position / np.linalg.norm(position)


def _image_turn(T_cam_obj: NDArray[np.float64], T_view_obj: NDArray[np.float64]) -> float:
    """The angle (rad) by which a picture of the view appears turned at the pose."""
    R = T_cam_obj[:3, :3] @ T_view_obj[:3, :3].T
    return float(np.arctan2(R[1, 0] - R[0, 1], R[0, 0] + R[1, 1]))


@dataclass(frozen=True)
class FeatureMatching:
    """Settings and method; see `hypotheses`."""

    ratio: Share = 0.85  # distance to the best over that to the best elsewhere on the object
    elsewhere: NonNegative = 0.1  # diameters
    neighbors: Many = 24  # the most similar keypoints among which the best elsewhere is looked for
    # Every match predicts where the object's centre is and how large the object: those agree
    # within these limits before a pose is computed from them.
    center_tolerance: Positive = 0.35  # diameters
    scale_tolerance: Factor = 1.6  # factor
    threshold: Positive = 0.025  # reprojection error of an inlier, diameters in the picture
    min_inliers: Consensus = 8
    iterations: Many = 300  # of RANSAC; enough where a third of those that agree are right
    max_instances: Few = 5

    def hypotheses(
        self, features: FrameFeatures, reference: ObjectReference
    ) -> list[tuple[NDArray[np.float64], int]]:
        """Poses T_cam_obj [4, 4] with their numbers of inliers, most inliers first.

        Empty when too few matches agree; always for an object without texture.
        """
        bank = _bank(reference, _BORDER)
        frame, keypoint = self._matches(features, bank, reference.diameter_m)
        center, size = self._votes(features, frame, bank, keypoint)
        found: list[tuple[NDArray[np.float64], int]] = []
        for _ in range(3 * self.max_instances):
            if len(frame) < self.min_inliers or len(found) == self.max_instances:
                break
            apart = np.linalg.norm(center[:, None] - center[None], axis=-1)
            near = apart < self.center_tolerance * np.minimum(size[:, None], size[None])
            near &= np.abs(np.log(size[:, None] / size[None])) < np.log(self.scale_tolerance)
            members = near[near.sum(1).argmax()]
            if np.count_nonzero(members) < self.min_inliers:
                break
            pnp = solve_pnp(
                bank.points[keypoint[members]],
                features.pixels[frame[members]],
                features.camera,
                max(1.5, self.threshold * float(np.median(size[members]))),
                min_inliers=self.min_inliers,
                iterations=self.iterations,
            )
            if pnp is not None:
                found.append((pnp.T_cam_obj, int(np.count_nonzero(pnp.inliers))))
            rest = ~members
            frame, keypoint, center, size = frame[rest], keypoint[rest], center[rest], size[rest]
        return sorted(found, key=lambda f: -f[1])

    def _matches(
        self, features: FrameFeatures, bank: _Bank, diameter: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices [M] into the frame's keypoints, none twice, and into the object's."""
        if len(bank.points) < self.min_inliers:
            none = np.zeros(0, np.int64)
            return none, none
        nearest, values = _nearest(features.descriptors, bank.descriptors, self.neighbors)
        # The same point seen in another view is no rival.
        points = bank.points[nearest]
        rival = np.linalg.norm(points - points[:, :1], axis=-1) > self.elsewhere * diameter
        best = np.where(rival, values, -1).max(1)
        best = np.maximum(best, values[:, -1])  # all the others are below the last one
        distinct = 1 - values[:, 0] < self.ratio**2 * (1 - best)
        kept = np.flatnonzero(distinct)
        return kept, nearest[kept, 0]

    def _votes(
        self,
        features: FrameFeatures,
        frame: NDArray[np.int64],
        bank: _Bank,
        keypoint: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each match sees the object's centre [M, 2] px and its diameter [M] px."""
        zoom = features.scales[frame] / bank.scales[keypoint]
        turn = features.angles[frame] - bank.angles[keypoint]
        x, y = (bank.to_center[keypoint] * zoom[:, None]).T
        cos, sin = np.cos(turn), np.sin(turn)
        center = features.pixels[frame] + np.stack([cos * x - sin * y, sin * x + cos * y], -1)
        return center.astype(np.float32), (bank.sizes[keypoint] * zoom).astype(np.float32)


@dataclass(frozen=True)
class _Bank:
    """The keypoints of all reference views."""

    points: NDArray[np.float64]  # [K, 3] on the object, m
    scales: NDArray[np.float32]  # [K] as in FrameFeatures
    angles: NDArray[np.float32]  # [K]
    descriptors: NDArray[np.float32]  # [K, 128]
    to_center: NDArray[np.float32]  # [K, 2] from the keypoint to the object's centre, px
    sizes: NDArray[np.float32]  # [K] the object's diameter in the keypoint's view, px
    view: NDArray[np.int64]  # [K] the reference view


@once_per_object
def _bank(reference: ObjectReference, border: int) -> _Bank:
    views, middle = reference.views, reference.center
    none = np.zeros(0, np.float32)
    no_view = np.zeros(0, np.int64)
    parts = [
        _Bank(
            np.zeros((0, 3)), none, none, none.reshape(0, 128), none.reshape(0, 2), none, no_view
        )
    ]
    for view, (T, K, color, mask) in enumerate(
        zip(views.T_cam_obj, views.intrinsics, views.color, views.mask, strict=True)
    ):
        fx, fy, cx, cy = (float(k) for k in K)
        camera = Camera(fx, fy, cx, cy, color.shape[1], color.shape[0])
        image = rasterize(reference.gaussians, camera, T)
        solid = (mask > 127) & (image[:, 4] > 0.5)
        inner = cv2.erode(solid.astype(np.uint8), np.ones((2 * border + 1,) * 2, np.uint8))
        pixels, scales, angles, descriptors = _describe(color, inner > 0)
        if len(pixels) == 0:
            continue
        col, row = np.round(pixels).astype(np.int64).T
        depth = image[row, 3, col] / image[row, 4, col]
        points = se3.transform(se3.inverse(T), camera.back_project(pixels, depth))
        center = se3.transform(T, middle[None])[0]
        size = reference.diameter_m * camera.fx / center[2]
        sizes = np.full(len(pixels), size, np.float32)
        to_center = (camera.project(center) - pixels).astype(np.float32)
        of_view = np.full(len(pixels), view)
        parts.append(_Bank(points, scales, angles, descriptors, to_center, sizes, of_view))
    return _Bank(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Bank))
    )


def _nearest(
    queries: NDArray[np.float32], descriptors: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most similar descriptors of each query [N, count], best first, and the cosines."""
    count, bank = min(count, len(descriptors)), torch.from_numpy(descriptors)
    # An empty frame has one chunk, too.
    best = [
        (torch.from_numpy(queries[start : start + _CHUNK]) @ bank.T).topk(count)
        for start in range(0, max(len(queries), 1), _CHUNK)
    ]
    indices = torch.cat([b.indices for b in best]).numpy()
    return indices, torch.cat([b.values for b in best]).numpy()


def _describe(
    rgb: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Pixels [N, 2], scales [N], angles [N] and RootSIFT descriptors [N, 128] inside the mask.

    RootSIFT: Arandjelovic and Zisserman 2012; the root makes the Euclidean distance Hellinger's.
    """
    gray = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT.create(_MOST_KEYPOINTS, contrastThreshold=0.02)
    keypoints, descriptors = sift.detectAndCompute(gray, mask.astype(np.uint8))
    if descriptors is None:
        none = np.zeros(0, np.float32)
        return none.reshape(0, 2), none, none, none.reshape(0, 128)
    pixels = np.array([k.pt for k in keypoints], np.float32)
    scales = np.array([k.size for k in keypoints], np.float32)
    angles = np.radians(np.array([k.angle for k in keypoints], np.float32))
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return pixels, scales, angles, descriptors
