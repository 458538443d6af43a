"""Does a rendering at a pose explain the image? The one place that says found or not found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Count, CropSize, Extent, NonNegative, Positive, Share
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.feature_matching import FrameFeatures, agreeing_keypoints
from gs_pose_ros.pose.window import ObjectWindow
from gs_pose_ros.rendering.level_of_detail import for_resolution
from gs_pose_ros.rendering.numba_rasterizer import rasterize

# Keypoints that agree with a wrong pose by chance, and with a right one for certain: on scenes of
# our own, in two of three with a made-up camera, of 1714 wrong poses none had more than 3.
_BY_CHANCE, _CERTAIN = 2, 8


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
    keypoints: int  # that agree with the pose (`agreeing_keypoints`); 0 if not asked
    outline: float  # share of the visible outline that lies on an edge of the image
    seamless: float  # share of it across which neither depth nor colour changes; 0 without depth
    silhouette: float  # overlap with the visible mask, or with what stands there; 1 if unknown

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
        return (
            self.visible**0.25
            * self.depth**3
            * self.color**0.3
            * (0.1 + 0.9 * self.structure)
            * self.outline**0.5
            * (1 - 0.9 * self.seamless) ** 0.7
            * self.silhouette**2
        )


@dataclass(frozen=True)
class Verification:
    """Limits of the check; lengths are shares of the object's diameter."""

    crop_size: CropSize = 96
    crop_padding: Extent = 1.3
    depth_tolerance: Positive = 0.05
    depth_noise_per_m2: NonNegative = 0.004
    color_sigma: Positive = 0.12
    detail: Positive = 0.1  # of the crop: what varies slower is shading
    seam_contrast: Share = 0.06  # colours that differ less across the outline are one surface
    min_pixels: Count = 30  # of the silhouette in the crop that lie inside the image
    min_visible: Share = 0.25
    min_score: Share = 0.45

    def check(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        mask: NDArray[np.bool_] | None = None,
        foreground: NDArray[np.bool_] | None = None,
        features: FrameFeatures | None = None,
    ) -> PoseCheck:
        """Compare a rendering at T_cam_obj with the frame.

        The silhouette is compared with the visible mask [H, W] if there is one, else with what of
        the foreground [H, W] is near enough to be the object. With the frame's keypoints, those
        count as well.
        """
        window = ObjectWindow.around(
            frame, reference, T_cam_obj, mask, self.crop_padding, self.crop_size, foreground
        )
        if window is None:
            return self._rejected('the object is not in view')
        extent = self.crop_padding * reference.diameter_m
        gaussians = for_resolution(reference.gaussians, extent, self.crop_size)
        image = rasterize(gaussians, window.camera, T_cam_obj)
        alpha = image[:, 4]
        solid = alpha > 0.5
        inside = solid & ~np.isnan(window.color[..., 0])
        if np.count_nonzero(inside) < self.min_pixels:
            return self._rejected('the object is not in view')
        z = image[:, 3] / np.maximum(alpha, 1e-6)
        tolerance = (
            self.depth_tolerance * reference.diameter_m
            + self.depth_noise_per_m2 * float(np.median(z[inside])) ** 2
        )
        known = inside & (window.depth > 0)
        error = window.depth - z
        hidden = known & (error < -tolerance)
        behind = known & (error > tolerance)
        agree = known & ~hidden & ~behind
        shown = inside & ~hidden
        visible = np.count_nonzero(shown) / np.count_nonzero(solid)
        unhidden = np.count_nonzero(shown) / np.count_nonzero(inside)
        if unhidden < self.min_visible or visible < self.min_visible / 2:
            return self._rejected(f'only {visible:.0%} of the object would be visible', visible)
        depth = np.count_nonzero(agree) / max(np.count_nonzero(agree | behind), 1)
        if not known.any():
            depth = 1.0
        compared = shown & ~behind
        if np.count_nonzero(compared) < self.min_pixels:
            return self._rejected('the depth lies behind the object everywhere', visible)
        rendered = image[:, :3].transpose(0, 2, 1) / np.maximum(alpha, np.float32(1e-6))[..., None]
        color, gain = self._colors(rendered[compared].astype(np.float32), window.color[compared])
        lit = np.asarray(rendered * gain, np.float32)
        structure, pattern = self._structure(lit, window.color, compared)
        # Where no depth can contradict, an edge must also run as the outline does.
        edges = _edges(window.color) if known.any() else _edges_along(alpha, window.color)
        outline = self._outline(solid, hidden, window, edges)
        seamless = self._seamless(alpha, solid, hidden, window, tolerance)
        silhouette = 1.0
        if mask is not None or foreground is not None:
            labelled = window.mask > 0.5
            if mask is None:
                center = reference.center_in(T_cam_obj)
                points = window.camera.point_map(window.depth)
                distance = np.linalg.norm(points - center.astype(np.float32), axis=-1)
                labelled = (window.mask < -1.5) & (distance < 0.55 * reference.diameter_m)
            union = np.count_nonzero((labelled | shown) & (window.mask != -1))
            silhouette = np.count_nonzero(labelled & shown) / max(union, 1)
        check = PoseCheck(
            score=0.0,  # judged below
            reason='',
            visible=visible,
            depth=depth,
            color=color,
            structure=structure,
            pattern=pattern,
            keypoints=agreeing_keypoints(features, reference, T_cam_obj) if features else 0,
            outline=outline,
            seamless=seamless,
            silhouette=silhouette,
        )
        return self._judged(check)

    def _judged(self, check: PoseCheck) -> PoseCheck:
        """The check with the score that its parts make, and a reason if that is too low."""
        # Exponents and offsets: least false positives at equal recall, on scenes of our own.
        score = float(
            check.visible**0.25
            * check.depth
            * check.likeness
            * check.outline**0.5
            * (1 - 0.9 * check.seamless) ** 0.7
        )
        reason = ''
        if score < self.min_score:
            reason = (
                f'score {score:.2f} < {self.min_score:.2f}: '
                f'visible {check.visible:.2f}, depth {check.depth:.2f}, '
                f'colour {check.color:.2f}, structure {check.structure:.2f}, '
                f'outline {check.outline:.2f}, seamless {check.seamless:.2f}'
            )
        return replace(check, score=score, reason=reason)

    def verdict(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        T_cam_obj: NDArray[np.float64],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseCheck:
        """`check`; the keypoints around the object are asked before it is refused."""
        check = self.check(frame, reference, T_cam_obj, mask)
        if not check.reason or check.score == 0:
            return check
        features = FrameFeatures.around(frame, reference, T_cam_obj)
        if features is None:
            return check
        keypoints = agreeing_keypoints(features, reference, T_cam_obj)
        return self._judged(replace(check, keypoints=keypoints))

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

    def _colors(
        self, rendered: NDArray[np.float32], observed: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32]]:
        """Agreement of colour over pixels [P, 3], and the gain [3] of the light.

        Light may change brightness freely (0.4 to 2.5) and its colour by a quarter, not more: a
        free gain a channel would turn any plain object into any other.
        """
        weight = np.ones(len(rendered))
        gain, squared = np.ones(3), np.zeros(len(rendered))
        for _ in range(3):
            w = weight[:, None]
            common = np.sum(w * rendered * observed) / max(np.sum(w * rendered**2), 1e-9)
            common = np.clip(common, 0.4, 2.5)
            channel = np.sum(w * rendered * observed, 0) / np.maximum(
                np.sum(w * rendered**2, 0), 1e-9
            )
            gain = np.clip(channel, 0.8 * common, 1.25 * common)
            squared = np.sum((rendered * gain - observed) ** 2, 1) / 3
            weight = 1 / (1 + squared / self.color_sigma**2)
        color = float(np.mean(np.exp(-0.5 * squared / self.color_sigma**2)))
        return color, gain.astype(np.float32)

    def _structure(
        self,
        rendered: NDArray[np.float32],
        observed: NDArray[np.float32],
        compared: NDArray[np.bool_],
    ) -> tuple[float, float]:
        """Correlation of two pictures [S, S, 3] over `compared` [S, S] pixels, less shading.

        Shading is what varies slower than `detail` of the crop: it comes with the light. Noise
        counts as agreement in the first number and as disagreement in the second.
        """
        weight = compared.astype(np.float32)[..., None]
        both = np.concatenate([rendered, np.nan_to_num(observed), weight], -1) * weight
        # Noise and half pixels out as well.
        fine, wide = (
            cv2.GaussianBlur(both, (0, 0), sigma)
            for sigma in (0.01 * self.crop_size, self.detail * self.crop_size)
        )
        fine, wide = (b[compared, :6] / np.maximum(b[compared, 6:], 1e-3) for b in (fine, wide))
        a, b = np.split(fine - wide, 2, axis=1)
        # 0.02 of contrast is noise: an object without a pattern is not asked for one.
        noise = 0.02**2
        common = float(np.mean(a * b))
        total = float(np.sqrt(np.mean(a * a) * np.mean(b * b))) + noise
        return float(np.clip((common + noise) / total, 0, 1)), max(common / total, 0.0)

    def _outline(
        self,
        solid: NDArray[np.bool_],
        hidden: NDArray[np.bool_],
        window: ObjectWindow,
        edges: NDArray[np.bool_],
    ) -> float:
        """Share of the outline that lies on the edges [S, S]; hidden parts left out."""
        square = np.ones((3, 3), np.uint8)
        outline = _rim(solid) & ~np.isnan(window.color[..., 0])
        outline &= cv2.dilate(hidden.astype(np.uint8), square) == 0
        if np.count_nonzero(outline) < 10:
            return 1.0
        return np.count_nonzero(edges & outline) / np.count_nonzero(outline)

    def _seamless(
        self,
        alpha: NDArray[np.float32],
        solid: NDArray[np.bool_],
        hidden: NDArray[np.bool_],
        window: ObjectWindow,
        tolerance: float,
    ) -> float:
        """Share of the visible outline where the surface goes on as it was, in depth and colour.

        A small object fits onto a larger one anywhere; what it cannot have there is an end.
        """
        if not window.depth.any():
            return 0.0
        square = np.ones((3, 3), np.uint8)
        rim = _rim(solid) & (cv2.dilate(hidden.astype(np.uint8), square, iterations=2) == 0)
        row, col = np.nonzero(rim)
        soft = cv2.GaussianBlur(alpha, (0, 0), 1.5)
        outward = -np.stack([cv2.Sobel(soft, cv2.CV_32F, *d)[rim] for d in ((0, 1), (1, 0))], -1)
        outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9
        reach = max(2.0, 0.03 * self.crop_size)
        limit = np.array(rim.shape) - 1
        sides = [np.stack([row, col], -1) + sign * reach * outward for sign in (-1, 1)]
        inner, outer = (tuple(np.round(s).astype(np.int64).clip(0, limit).T) for s in sides)
        near, far = window.depth[inner], window.depth[outer]
        step = far - near
        judged = (near > 0) & (far > 0) & (step > -tolerance)  # nearer things may touch it
        if np.count_nonzero(judged) < 10:
            return 0.0
        color = cv2.GaussianBlur(np.nan_to_num(window.color), (0, 0), 0.8)
        contrast = np.abs(color[outer] - color[inner]).max(-1)
        seamless = (step < tolerance) & (contrast < self.seam_contrast)
        return np.count_nonzero(seamless & judged) / np.count_nonzero(judged)


def _rim(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost pixels of a silhouette [S, S]."""
    return solid & (cv2.erode(solid.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)


def _edges(color: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What lies within 2 px of an edge of any channel."""
    gray = (np.nan_to_num(color) * 255).astype(np.uint8)
    edges = [cv2.Canny(np.ascontiguousarray(gray[..., c]), 20, 50) for c in range(3)]
    return cv2.dilate(np.max(edges, 0), np.ones((5, 5), np.uint8)) > 0


def _edges_along(alpha: NDArray[np.float32], color: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What lies within 1 px of an edge that runs as the outline of alpha [S, S] does there."""
    soft = cv2.GaussianBlur(alpha, (0, 0), 1.0)
    normal = np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
    smooth = cv2.GaussianBlur(np.nan_to_num(color), (0, 0), 1.0)
    # Of a ramp of slope 1 a px, Sobel's sum is 8.
    gx, gy = (cv2.Sobel(smooth, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    across = np.abs(gx * normal[..., :1] + gy * normal[..., 1:])
    edges = ((across > 0.025) & (across > 0.9 * np.hypot(gx, gy))).any(-1)
    return cv2.dilate(edges.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
