"""Does a rendering at a pose explain the image? The one place that says found or not found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Count, CropSize, Extent, Positive, Share
from gs_pose_ros.features.local_features import FrameFeatures
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.parallel import map_threads
from gs_pose_ros.pose.verification.agreement import (
    color_agreement,
    glances,
    label_pixels,
    outline_agreement,
    seamless_share,
    silhouette_overlap,
    structure_agreement,
)
from gs_pose_ros.pose.verification.keypoints import KeypointPairs
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow, place_window
from gs_pose_ros.rendering.level_of_detail import for_resolution
from gs_pose_ros.rendering.numba_rasterizer import rasterize, rasterize_batch

# Keypoints that agree with a wrong pose by chance, and with a right one for certain: on scenes of
# our own, in two of three with a made-up camera, of 1714 wrong poses none had more than 3.
_BY_CHANCE, _CERTAIN = 2, 8
# Depths agree within the tolerance and so many times the sensor's noise that grows with z^2.
_NOISE_SIGMAS = 2.0


@dataclass(frozen=True)
class PoseCheck:
    """What a rendering and the image have in common; shares are in [0, 1]."""

    score: float  # product of the agreements below, discounted for what is hidden
    reason: str  # empty when the pose explains the image
    visible: float  # share of the rendered silhouette that nothing hides
    depth: float  # share of the visible pixels with known depth that agree; 1 without depth
    color: float  # agreement of colour after a gain for the light
    structure: float  # correlation of the pattern without shading, 1 where the object has none
    pattern: float  # the same, 0 where the object has none: then only its colour speaks for it
    keypoints: int  # that agree with the pose (`KeypointPairs`); 0 if not asked
    outline: float  # share of the visible outline that lies on an edge of the image
    seamless: float  # share of it across which neither depth nor colour changes; 0 without depth
    # Intersection over union with the mask, or with what of the foreground is near enough to be
    # the object; 1 if neither is known.
    silhouette: float

    @property
    def recognized(self) -> float:
        """What the keypoints say: 0 for so few that they may agree by chance, 1 for certain."""
        return float(np.clip((self.keypoints - _BY_CHANCE) / (_CERTAIN - _BY_CHANCE), 0, 1))

    @property
    def likeness(self) -> float:
        """Of colour and pattern, in [0, 1].

        Another camera changes the colours, other light as well: where the pattern is right, they
        need not be. Keypoints say even more, though not how well the pose fits.
        """
        seen = max(self.color, self.pattern) * (0.2 + 0.8 * self.structure)
        return 1 - (1 - seen) * (1 - 0.9 * self.recognized)

    @property
    def fit(self) -> float:
        """For choosing among poses of one place; only `score` says whether the object is there.

        Shape decides, for shading can make the wrong side look right; what stands around the
        object is the same for all of them.
        """
        if self.score == 0:
            return 0.0
        inner = self.color**0.3 * (0.1 + 0.9 * self.structure)
        return self.product(self.depth**3, inner) * self.silhouette**2

    def product(self, depth: float, inner: float) -> float:
        """What `score` and `fit` have in common, times their own weights of depth and inside.

        Exponents and offsets: least false positives at equal recall, on scenes of our own.
        """
        return (
            self.visible**0.25
            * depth
            * inner
            * self.outline**0.5
            * (1 - 0.9 * self.seamless) ** 0.7
        )


@dataclass(frozen=True)
class Verification:
    """Limits of the check; lengths are shares of the object's diameter."""

    crop_size: CropSize = 96
    crop_padding: Extent = 1.3
    depth_tolerance: Positive = 0.05
    color_sigma: Positive = 0.12
    detail: Positive = 0.1  # of the crop: what varies slower is shading
    seam_contrast: Share = 0.06  # colours that differ less across the outline are one surface
    min_pixels: Count = 30  # of the silhouette in the crop that lie inside the image
    min_visible: Share = 0.25
    min_score: Share = 0.42

    def check(self, observation: Observation, T_cam_obj: NDArray[np.float64]) -> PoseCheck:
        """Compare a rendering at T_cam_obj [4, 4] with the frame, and ask the known keypoints."""
        window = self._window(observation, T_cam_obj)
        if window is None:
            return self._rejected('the object is not in view')
        reference, keypoints = observation.reference, observation.keypoints
        image = rasterize(self._gaussians(reference), window.camera, T_cam_obj)
        agreeing = keypoints.agreeing(T_cam_obj) if keypoints is not None else 0
        return self._compared(window, image, reference, T_cam_obj, agreeing)

    def check_all(
        self, observation: Observation, poses: Sequence[NDArray[np.float64]]
    ) -> list[PoseCheck]:
        """`check` of many poses, rendered in one call and compared on all cores.

        Keypoints are not asked. Not to be called from a thread of `map_threads`.
        """
        reference = observation.reference
        windows = map_threads(lambda T: self._window(observation, T), poses)
        out = [self._rejected('the object is not in view')] * len(windows)
        seen = [(i, window) for i, window in enumerate(windows) if window is not None]
        if not seen:
            return out
        images = rasterize_batch(
            self._gaussians(reference),
            [window.camera for _, window in seen],
            [poses[i] for i, _ in seen],
        )

        def compared(k: int) -> PoseCheck:
            i, window = seen[k]
            return self._compared(window, images[k], reference, poses[i], 0)

        checks = map_threads(compared, range(len(seen)))
        for (i, _), check in zip(seen, checks, strict=True):
            out[i] = check
        return out

    def glance(
        self, observation: Observation, poses: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """A rough agreement in [0, 1] of each pose [k], by a fifth of the work of `check_all`.

        Renders every pose and compares visibility, depth and colour at the image's nearest pixels;
        edges, patterns and surroundings are left out. 0 for a pose out of view. Tells which of
        many poses are worth a check.
        """
        frame, reference = observation.frame, observation.reference
        scores, size = np.zeros(len(poses)), self.crop_size
        places = [place_window(frame.camera, reference, T, self.crop_padding, size) for T in poses]
        seen = [(i, place[0]) for i, place in enumerate(places) if place is not None]
        if not seen:
            return scores
        images = rasterize_batch(
            self._gaussians(reference), [camera for _, camera in seen], [poses[i] for i, _ in seen]
        )
        c, depth, of_seen = frame.camera, frame.depth, np.empty(len(seen))
        glances(
            images,
            np.array([(w.fx, w.fy, w.cx, w.cy) for _, w in seen]),
            frame.color,
            np.zeros(c.shape, np.float32) if depth is None else depth,
            np.array([c.fx, c.fy, c.cx, c.cy]),
            self.depth_tolerance * reference.diameter_m,
            _NOISE_SIGMAS * frame.depth_noise.per_m2,
            self.color_sigma,
            of_seen,
        )
        scores[[i for i, _ in seen]] = of_seen
        return scores

    def _window(
        self, observation: Observation, T_cam_obj: NDArray[np.float64]
    ) -> ObjectWindow | None:
        return ObjectWindow.around(observation, T_cam_obj, self.crop_padding, self.crop_size)

    def tolerance_m(self, observation: Observation, z: NDArray) -> NDArray:
        """How far (m) a depth of the object may be from the frame's, at depths z [...] m."""
        tolerance_m = self.depth_tolerance * observation.reference.diameter_m
        return tolerance_m + _NOISE_SIGMAS * observation.frame.depth_noise.per_m2 * z**2

    def _gaussians(self, reference: SplatObject) -> Gaussians:
        extent = self.crop_padding * reference.diameter_m
        return for_resolution(reference.gaussians, extent, self.crop_size)

    def _compared(
        self,
        window: ObjectWindow,
        image: NDArray[np.float32],
        reference: SplatObject,
        T_cam_obj: NDArray[np.float64],
        keypoints: int,
    ) -> PoseCheck:
        """The check of a rendering [S, 5, S]."""
        labels = np.empty(window.camera.shape, np.uint8)
        counts, tolerance = label_pixels(
            image,
            window.color,
            window.depth,
            self.depth_tolerance * reference.diameter_m,
            _NOISE_SIGMAS * window.depth_noise.per_m2,
            labels,
        )
        agree, unknown, hidden, behind, beyond, _ = counts.tolist()
        inside = agree + unknown + hidden + behind
        if inside < self.min_pixels:
            return self._rejected('the object is not in view')
        visible = (inside - hidden) / (inside + beyond)
        if 1 - hidden / inside < self.min_visible or visible < self.min_visible / 2:
            return self._rejected(f'only {visible:.0%} of the object would be visible', visible)
        if agree + unknown < self.min_pixels:
            return self._rejected('the depth lies behind the object everywhere', visible)
        with_depth = agree + hidden + behind > 0
        color, gain = color_agreement(image, window.color, labels, self.color_sigma)
        # Noise and half pixels out as well.
        structure, pattern = structure_agreement(
            image, window.color, labels, gain, 0.01 * self.crop_size, self.detail * self.crop_size
        )
        seen = np.nan_to_num(window.color)
        # Where no depth can contradict, an edge must also run as the outline does.
        edges = _edges(seen) if with_depth else _edges_along(image[:, 4], seen)
        seamless = 0.0
        if window.depth.any():
            seamless = seamless_share(
                cv2.GaussianBlur(image[:, 4], (0, 0), 1.5),
                cv2.GaussianBlur(seen, (0, 0), 0.8),
                window.depth,
                labels,
                tolerance,
                max(2.0, 0.03 * self.crop_size),
                self.seam_contrast,
            )
        camera = window.camera
        silhouette = silhouette_overlap(
            labels,
            window.mask,
            window.depth,
            np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            reference.center_in(T_cam_obj),
            0.55 * reference.diameter_m,
        )
        check = PoseCheck(
            score=0.0,  # judged below
            reason='',
            visible=visible,
            depth=agree / max(agree + behind, 1) if with_depth else 1.0,
            color=color,
            structure=structure,
            pattern=pattern,
            keypoints=keypoints,
            outline=outline_agreement(labels, edges),
            seamless=seamless,
            silhouette=silhouette,
        )
        return self._judged(check)

    def _judged(self, check: PoseCheck) -> PoseCheck:
        """The check with the score that its parts make, and a reason if that is too low."""
        score = float(check.product(check.depth, check.likeness))
        reason = ''
        if score < self.min_score:
            reason = (
                f'score {score:.2f} < {self.min_score:.2f}: '
                f'visible {check.visible:.2f}, depth {check.depth:.2f}, '
                f'colour {check.color:.2f}, structure {check.structure:.2f}, '
                f'outline {check.outline:.2f}, seamless {check.seamless:.2f}'
            )
        return replace(check, score=score, reason=reason)

    def verdict(self, observation: Observation, T_cam_obj: NDArray[np.float64]) -> PoseCheck:
        """`check` of a final pose: where it refuses, the pose is doubted, not yet refused.

        The frame's keypoints around the object are then found and asked; they may save the pose.
        """
        check = self.check(observation, T_cam_obj)
        if not check.reason or check.score == 0:
            return check
        agreeing = self.keypoints(observation, T_cam_obj)
        return self._judged(replace(check, keypoints=agreeing)) if agreeing else check

    def keypoints(self, observation: Observation, T_cam_obj: NDArray[np.float64]) -> int:
        """How many of the frame's keypoints around the object agree with a pose.

        None do of an object without reference views.
        """
        frame, reference = observation.frame, observation.reference
        if not isinstance(reference, ObjectReference):
            return 0
        features = FrameFeatures.around(frame, reference, T_cam_obj)
        if features is None:
            return 0
        return KeypointPairs.of(features, reference).agreeing(T_cam_obj)

    def _rejected(self, reason: str, visible: float = 0.0) -> PoseCheck:
        return PoseCheck(
            score=0.0,
            reason=reason,
            visible=visible,
            depth=0.0,
            color=0.0,
            structure=0.0,
            pattern=0.0,
            keypoints=0,
            outline=0.0,
            seamless=1.0,
            silhouette=0.0,
        )


def _edges(color: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Not 0 within 2 px of an edge of any channel."""
    edges = [cv2.Canny(c, 20, 50) for c in cv2.split((color * 255).astype(np.uint8))]
    return np.asarray(cv2.dilate(np.max(edges, 0), np.ones((5, 5), np.uint8)), np.uint8)


def _edges_along(alpha: NDArray[np.float32], color: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Not 0 within 1 px of an edge that runs as the outline of alpha [S, S] does there."""
    soft = cv2.GaussianBlur(alpha, (0, 0), 1.0)
    normal = np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
    smooth = cv2.GaussianBlur(color, (0, 0), 1.0)
    # Of a ramp of slope 1 a px, Sobel's sum is 8.
    gx, gy = (cv2.Sobel(smooth, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    across = np.abs(gx * normal[..., :1] + gy * normal[..., 1:])
    edges = ((across > 0.025) & (across > 0.9 * np.hypot(gx, gy))).any(-1)
    return np.asarray(cv2.dilate(edges.astype(np.uint8), np.ones((3, 3), np.uint8)), np.uint8)
