"""A pose shifted so that the rendered surface covers a mask: a start for every refiner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering.numba_rasterizer import rasterize

# Side (diameters) and size (px) of the windows, one after the other. Two: a small object appears
# too large in a rendering, as splats are widened to a pixel.
_WINDOWS = ((2.5, 64), (1.4, 96))
_LEAST_DEPTHS = 10  # pixels of the mask with known depth: fewer say nothing of the distance


def align_to_mask(observation: Observation, T_cam_obj: NDArray[np.float64]) -> NDArray[np.float64]:
    """T_cam_obj [4, 4] shifted so that the rendered surface covers the observation's mask.

    GS2Pose's z correction. The centroid of the visible surface is moved onto that of the masked
    pixels: with depth in space, without it in the image, the distance following the square root
    of the areas (GS-Pose, Eqs. 3-4). Unchanged where either is out of view.
    """
    for padding, size in _WINDOWS:
        T_cam_obj = _aligned(observation, T_cam_obj, padding, size)
    return T_cam_obj


def _aligned(
    observation: Observation, T_cam_obj: NDArray[np.float64], padding: float, size: int
) -> NDArray[np.float64]:
    window = ObjectWindow.around(observation, T_cam_obj, padding, size)
    if window is None or not (window.mask > 0.5).any():
        return T_cam_obj
    camera = window.camera
    image = rasterize(observation.reference.gaussians, camera, T_cam_obj)
    solid = (image[:, 4] > 0.5) & (window.mask >= 0)  # outside the image nothing is marked
    if not solid.any():
        return T_cam_obj
    labelled = window.mask > 0.5
    z = np.where(solid, image[:, 3] / np.maximum(image[:, 4], 1e-6), 0)
    rendered = camera.point_map(z)[solid]
    known = labelled & (window.depth > 0)
    out = T_cam_obj.copy()
    if np.count_nonzero(known) >= _LEAST_DEPTHS:
        observed = camera.point_map(window.depth)[known]
        out[:3, 3] += np.median(observed, 0) - np.median(rendered, 0)
        return out
    distance = T_cam_obj[2, 3] * np.sqrt(np.count_nonzero(solid) / np.count_nonzero(labelled))
    rows, cols = np.nonzero(labelled)
    center = camera.project(rendered.mean(0))
    shift = np.array([cols.mean(), rows.mean()]) - center
    anchor = camera.project(T_cam_obj[:3, 3]) + shift
    out[:3, 3] = camera.back_project(anchor, distance)
    return out
