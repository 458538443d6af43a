"""Which keypoints of a frame agree with a pose of an object, and the keypoints an object has."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.features.local_features import CHUNK, FrameFeatures, describe
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.objects.prepared import prepared
from gs_pose_ros.rendering.numba_rasterizer import rasterize

_BORDER = 3  # px of a reference view's rim without keypoints: they describe the background
# A keypoint agrees with a pose if it is where the pose puts one of the object's, as large and
# turned as that one would be, and looks like it.
_NEAR = 0.025  # diameters in the picture
_SCALE = 1.6  # factor
_TURN = np.radians(30)
_SIDE = np.cos(np.radians(45))  # between the directions from which the two were seen
_COSINE = 0.85  # of the descriptors


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
        bank, found = keypoint_bank(reference), []
        for start in range(0, len(features.descriptors), CHUNK):
            similarity = features.descriptors[start : start + CHUNK] @ bank.descriptors.T
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
        bank, views = keypoint_bank(reference), reference.views.T_cam_obj
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
class KeypointBank:
    """The keypoints of all reference views."""

    points: NDArray[np.float64]  # [K, 3] on the object, m
    scales: NDArray[np.float32]  # [K] as in FrameFeatures
    angles: NDArray[np.float32]  # [K]
    descriptors: NDArray[np.float32]  # [K, 128]
    to_center: NDArray[np.float32]  # [K, 2] from the keypoint to the object's centre, px
    sizes: NDArray[np.float32]  # [K] the object's diameter in the keypoint's view, px
    view: NDArray[np.int64]  # [K] the reference view


def keypoint_bank(reference: ObjectReference) -> KeypointBank:
    """The keypoints of an object's reference views, placed on its splat; made once."""
    return _keypoint_bank(reference, _BORDER)


@prepared
def _keypoint_bank(reference: ObjectReference, border: int) -> KeypointBank:
    views, middle = reference.views, reference.center
    none = np.zeros(0, np.float32)
    no_view = np.zeros(0, np.int64)
    parts = [
        KeypointBank(
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
        pixels, scales, angles, descriptors = describe(color, inner > 0)
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
        parts.append(KeypointBank(points, scales, angles, descriptors, to_center, sizes, of_view))
    return KeypointBank(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(KeypointBank))
    )
