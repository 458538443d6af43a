"""Where in the map a frame was taken, without a start: keyframes that look alike, then PnP.

A keyframe is found by its VLAD descriptor (Jegou et al. 2010), made of local features with a
vocabulary of the map's own: no weights, no download. Matches with its features, whose places in
the map its depth has given, give a pose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Angle, Consensus, Few, Many, NonNegative, Positive, Share
from gs_pose_ros.features.local_features import FrameFeatures
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.alignment import solve_pnp
from gs_pose_ros.localization.scene_map import SceneMap

_UNIT = 255.0  # RootSIFT entries are in [0, 1]; kept as bytes


@dataclass(frozen=True)
class Keyframe:
    """A frame of the map, as far as it is needed to find others that look like it."""

    T_map_cam: NDArray[np.float64]  # [4, 4]
    points: NDArray[np.float32]  # [N, 3] of its features, m, map frame
    descriptors: NDArray[np.uint8]  # [N, 128] RootSIFT times 255

    @property
    def unit_descriptors(self) -> NDArray[np.float32]:
        """RootSIFT [N, 128]."""
        return self.descriptors.astype(np.float32) / _UNIT


@dataclass(frozen=True)
class RelocalizationSettings:
    """How keyframes are chosen and compared."""

    # A keyframe is this far from every other, or turned so much.
    spacing_m: NonNegative = 0.15
    spacing_deg: Angle = 12.0
    max_keyframes: Many = 600
    features: Many = 600  # of a keyframe
    words: Many = 32
    # Keyframes that are compared feature by feature, and of these, those of most matches that get
    # a pose: in a room of one texture all words are alike, and the right one is seventh.
    retrieved: Few = 20
    compared: Few = 6
    ratio: Share = 0.85  # of the distances to the best and the second best match
    threshold_px: Positive = 4.0
    min_inliers: Consensus = 10
    best: Few = 3  # poses that are handed on
    as_they_are: Few = 2  # keyframes whose own poses are handed on after them


@dataclass(frozen=True)
class KeyframeRelocalizer:
    """Keyframes with their vocabulary; immutable."""

    keyframes: tuple[Keyframe, ...]
    words: NDArray[np.float32]  # [W, 128]
    vectors: NDArray[np.float32]  # [K, W * 128] VLAD of the keyframes
    settings: RelocalizationSettings = RelocalizationSettings()

    @classmethod
    def of(
        cls,
        frames: Iterable[tuple[RGBDFrame, NDArray[np.float64]]],
        settings: RelocalizationSettings | None = None,
    ) -> KeyframeRelocalizer:
        """From frames with their poses T_map_cam [4, 4], of which those far enough apart count."""
        settings = settings or RelocalizationSettings()
        keyframes: list[Keyframe] = []
        for frame, T in frames:
            if len(keyframes) < settings.max_keyframes and is_new(keyframes, T, settings):
                keyframes.append(keyframe(frame, T, settings))
        return cls.from_keyframes(keyframes, settings)

    @classmethod
    def from_keyframes(
        cls, keyframes: Sequence[Keyframe], settings: RelocalizationSettings | None = None
    ) -> KeyframeRelocalizer:
        """Learn the words from the keyframes' own features."""
        settings = settings or RelocalizationSettings()
        bank = [k.descriptors[:: max(1, len(k.descriptors) // 200)] for k in keyframes]
        samples = np.concatenate(bank) if bank else np.zeros((0, 128), np.uint8)
        words = np.zeros((1, 128), np.float32)
        if len(samples) >= settings.words:
            criteria = (cv2.TERM_CRITERIA_MAX_ITER, 15, 0.0)
            cv2.setRNGSeed(0)  # the same map, the same words
            _, _, words = cv2.kmeans(
                samples.astype(np.float32) / _UNIT,
                settings.words,
                np.zeros((len(samples), 1), np.int32),
                criteria,
                1,
                cv2.KMEANS_PP_CENTERS,
            )
        words = np.asarray(words, np.float32)
        vectors = [vlad(k.unit_descriptors, words) for k in keyframes]
        stacked = np.stack(vectors) if vectors else np.zeros((0, words.size), np.float32)
        return cls(tuple(keyframes), words, stacked, settings)

    def candidates(self, frame: RGBDFrame, scene: SceneMap) -> list[NDArray[np.float64]]:
        """See `camera_tracker.Relocalizer`: poses by PnP, the one of most matches first.

        After them the keyframes' own poses, for a picture without features.
        """
        if not self.keyframes:
            return []
        features = FrameFeatures.of(frame)
        # As of keyframes the largest, but twice as many: these are seen from nearer by, too.
        largest = np.argsort(-features.scales, kind='stable')[: 2 * self.settings.features]
        largest.sort()
        query, pixels = features.descriptors[largest], features.pixels[largest]
        similar = self.vectors @ vlad(query, self.words)
        nearest = np.argsort(-similar)[: self.settings.retrieved]
        matched = [
            (known, *mutual_matches(query, known.unit_descriptors, self.settings.ratio))
            for known in (self.keyframes[i] for i in nearest)
        ]
        matched.sort(key=lambda item: -len(item[1]))  # of equal ones the more similar first
        found: list[tuple[int, NDArray[np.float64]]] = []
        for known, own, other in matched[: self.settings.compared]:
            if len(own) < self.settings.min_inliers:
                break
            result = solve_pnp(
                known.points[other],
                pixels[own],
                frame.camera,
                self.settings.threshold_px,
                min_inliers=self.settings.min_inliers,
            )
            if result is not None:
                inliers = int(result.inliers.sum())
                found.append((inliers, se3.inverse(result.T_cam_obj)))
        found.sort(key=lambda item: -item[0])
        as_they_are = [known.T_map_cam for known, _, _ in matched[: self.settings.as_they_are]]
        return [T for _, T in found[: self.settings.best]] + as_they_are


def keyframe(
    frame: RGBDFrame, T_map_cam: NDArray[np.float64], settings: RelocalizationSettings
) -> Keyframe:
    """The features of a frame at a pose [4, 4] whose depth is known, the largest first."""
    assert frame.depth is not None
    features = FrameFeatures.of(frame)
    column, row = np.rint(features.pixels).astype(np.int64).T
    height, width = frame.depth.shape
    z = frame.depth[row.clip(0, height - 1), column.clip(0, width - 1)]
    # Large features are seen again from elsewhere.
    kept = np.flatnonzero(z > 0)
    kept = kept[np.argsort(-features.scales[kept], kind='stable')][: settings.features]
    points = frame.camera.back_project(features.pixels[kept], z[kept])
    return Keyframe(
        np.asarray(T_map_cam, np.float64),
        se3.transform(T_map_cam, points).astype(np.float32),
        np.round(features.descriptors[kept] * _UNIT).astype(np.uint8),
    )


def is_new(
    keyframes: Sequence[Keyframe], T_map_cam: NDArray[np.float64], settings: RelocalizationSettings
) -> bool:
    """Whether a pose [4, 4] is far enough from those of all keyframes."""
    if not keyframes:
        return True
    known = np.stack([k.T_map_cam for k in keyframes])
    near = np.linalg.norm(known[:, :3, 3] - T_map_cam[:3, 3], axis=1) < settings.spacing_m
    turned = se3.rotation_angle(known[:, :3, :3], T_map_cam[:3, :3])
    return not (near & (turned < np.radians(settings.spacing_deg))).any()


def vlad(descriptors: NDArray[np.float32], words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vector [W * 128]: what is left of the descriptors [N, 128] beside their words [W, 128].

    Each word's part has length one (Arandjelovic and Zisserman 2013): what repeats, as tiles do,
    counts once.
    """
    out = np.zeros_like(words)
    if len(descriptors):
        distance = (words**2).sum(1) - 2 * descriptors @ words.T
        word = distance.argmin(1)
        np.add.at(out, word, descriptors - words[word])
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
    return out.ravel() / max(float(np.linalg.norm(out)), 1e-9)


def mutual_matches(
    a: NDArray[np.float32], b: NDArray[np.float32], ratio: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of a and b, unit vectors [N, D] and [M, D], that are each other's best and distinct."""
    if len(a) < 2 or len(b) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similarity = a @ b.T
    rows = np.arange(len(a))
    best = similarity.argmax(1)
    top = similarity[rows, best]
    mutual = similarity.argmax(0)[best] == rows
    similarity[rows, best] = -1
    second = similarity.max(1)
    # Distances squared are 2 - 2 cos.
    distinct = 1 - top < ratio**2 * (1 - second)
    kept = np.flatnonzero(mutual & distinct)
    return kept, best[kept]
