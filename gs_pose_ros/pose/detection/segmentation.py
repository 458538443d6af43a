"""Figure and ground without weights: what stands on the support plane; what has one's colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Distance, FewOrNone, Many, NonNegative, Positive, Share
from gs_pose_ros.frame import RGBDFrame, warp_window
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering.level_of_detail import for_resolution
from gs_pose_ros.rendering.numba_rasterizer import rasterize


@dataclass(frozen=True)
class SupportPlaneSegmentation:
    """Support plane by RANSAC, foreground by height above it."""

    iterations: Many = 300
    inlier_m: Positive = 0.006  # at 1 m; grows with z^2 as sensor noise does
    min_inlier_m: Positive = 0.004  # stereo sees a plain white table no better, however near
    min_share: Share = 0.15  # of the valid pixels; a smaller plane is no support
    min_height_m: NonNegative = 0.006
    max_height_m: Positive = 0.5
    max_depth_m: Distance = 3.0
    max_planes: FewOrNone = 3
    backdrop_share: Share = 0.05  # of the pixels far in front of a plane: it is a wall

    def foreground(self, frame: RGBDFrame) -> NDArray[np.bool_]:
        """Pixels [H, W] that stand above the support plane; all valid ones if there is no plane.

        The largest plane may be a wall or a monitor behind the scene: it is taken away too, and
        the support is looked for in front of it. Pixels without depth are False. `frame.depth`
        must be there.
        """
        assert frame.depth is not None
        depth = np.asarray(cv2.medianBlur(frame.depth, 5), np.float32)
        mask = (depth > 0) & (depth < self.max_depth_m)
        points = frame.camera.point_map(depth)
        threshold = self.min_height_m * np.maximum(1, depth**2)
        for _ in range(self.max_planes):
            plane = self.fit_plane(points[mask][:: max(1, np.count_nonzero(mask) // 6000)])
            if plane is None:
                break
            height = points @ plane[:3].astype(np.float32) + np.float32(plane[3])
            surface = depth[mask & (np.abs(height) < threshold)]
            # High above a table is the room behind it; far in front of a wall is the scene.
            near = depth < np.median(surface) if len(surface) else np.zeros_like(mask)
            high = height > self.max_height_m
            in_front = np.count_nonzero(mask & high & near) / np.count_nonzero(mask)
            mask = mask & (height > threshold) & ~(high & ~near)
            if in_front < self.backdrop_share:
                break
        opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return opened > 0

    def fit_plane(self, points: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Plane (n, d) [4] with n . p + d > 0 on the camera's side, or None; points [N, 3] m."""
        if len(points) < 100:
            return None
        p = points.astype(np.float64)
        tolerance = np.maximum(self.inlier_m * p[:, 2] ** 2, self.min_inlier_m)
        rng = np.random.default_rng(0)
        triples = p[rng.integers(0, len(p), (self.iterations, 3))]
        normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
        length = np.linalg.norm(normals, axis=1)
        normals = normals[length > 1e-9] / length[length > 1e-9, None]
        offsets = -np.einsum('ni,ni->n', normals, triples[length > 1e-9, 0])
        inliers = (np.abs(p @ normals.T + offsets) < tolerance[:, None]).sum(0)
        if len(inliers) == 0 or inliers.max() < self.min_share * len(p):
            return None
        plane = np.append(normals[inliers.argmax()], offsets[inliers.argmax()])
        for _ in range(3):
            near = np.abs(p @ plane[:3] + plane[3]) < tolerance
            middle = p[near].mean(0)
            normal = np.linalg.svd(p[near] - middle, full_matrices=False)[2][2]
            plane = np.append(normal, -normal @ middle)
        return plane if plane[3] > 0 else -plane


def cut_out(
    observation: Observation, T_cam_obj: NDArray[np.float64], size: int = 112
) -> NDArray[np.bool_] | None:
    """Mask [H, W] of the object near a rough pose, by GrabCut (Rother et al. 2004), or None.

    GrabCut begins with the middle of the rendered silhouette as the object, the rest of it as
    probably the object, and a wide ring around it as probably not. The observation's own mask is
    not asked.
    """
    frame, reference, padding = observation.frame, observation.reference, 2.0
    window = ObjectWindow.around(observation, T_cam_obj, padding, size)
    if window is None:
        return None
    gaussians = for_resolution(reference.gaussians, padding * reference.diameter_m, size)
    solid = (rasterize(gaussians, window.camera, T_cam_obj)[:, 4] > 0.5) * 1
    solid = solid.astype(np.uint8)
    square = np.ones((3, 3), np.uint8)
    reach = max(2, size // 12)
    labels = np.full(solid.shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(solid, square, iterations=reach) > 0] = cv2.GC_PR_BGD
    labels[solid > 0] = cv2.GC_PR_FGD
    # Without a sure core GrabCut often gives the whole object to the background.
    inner = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    labels[inner > 0.5 * inner.max()] = cv2.GC_FGD
    # Only what the image shows: the black beyond its border is no colour of the background.
    known = ~np.isnan(window.color[..., 0])
    shown = np.ix_(known.any(1), known.any(0))
    inside = np.ascontiguousarray(labels[shown])
    figure = (inside == cv2.GC_FGD) | (inside == cv2.GC_PR_FGD)
    if np.count_nonzero(figure) < 20 or not (inside == cv2.GC_BGD).any():
        return None
    bgr = (np.nan_to_num(window.color[shown][..., ::-1]) * 255).astype(np.uint8)
    cv2.setRNGSeed(0)  # k-means starts anywhere: the same picture shall give the same mask
    cv2.grabCut(
        np.ascontiguousarray(bgr), inside, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 3,
        cv2.GC_INIT_WITH_MASK,
    )  # fmt: skip
    figure = np.zeros(solid.shape, np.uint8)
    figure[shown] = (inside == cv2.GC_FGD) | (inside == cv2.GC_PR_FGD)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(figure)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[largest, cv2.CC_STAT_AREA] < 0.3 * np.count_nonzero(solid):
        return None
    mask = _to_frame((parts == largest).astype(np.float32), window.camera, frame.camera)
    return mask if mask.any() else None


def _to_frame(picture: NDArray[np.float32], window: Camera, camera: Camera) -> NDArray[np.bool_]:
    """A window's picture [S, S] back in the image it was cropped from."""
    factor = window.fx / camera.fx
    # The inverse of Camera.crop: outline of the image in the window's pixels.
    left = (window.cx + 0.5) - (camera.cx + 0.5) * factor - 0.5
    top = (window.cy + 0.5) - (camera.cy + 0.5) * factor - 0.5
    return warp_window(picture, camera, left, top, 1 / factor) > 0.5
