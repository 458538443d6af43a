"""GSplatLoc as published: Adam on quaternion and translation, through the rasterizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.bounds import Count, CountOrNone, Many, NonNegative, Positive, Share
from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.motion import rigid_motion
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.map_check import MapCheck
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.surfels import oriented_points
from gs_pose_ros.rendering import Device, render, require


@dataclass(frozen=True)
class GSplatLoc:
    """The `paper` preset, the reference for the faster one; full resolution, depth only."""

    max_steps: Count = 2000
    lr_quaternion: Positive = 5e-4
    lr_translation: Positive = 1e-3
    weight_decay: NonNegative = 1e-3
    final_rate: Share = 0.2  # of the learning rates, at the last step
    patience_from: CountOrNone = 100
    patience: Many = 20  # steps without a lower loss, after which it ends
    depth_weight: Share = 0.8
    min_alpha: Share = 0.5  # of a pixel in the mask
    device: Device = 'cpu'
    check: MapCheck = MapCheck()

    def refine(
        self, frame: RGBDFrame, scene: SceneMap, T_map_cam: NDArray[np.float64]
    ) -> CameraEstimate:
        """See `Localizer`. No covariance: Adam has no Hessian."""
        require(self.device)
        start = CameraEstimate(np.asarray(T_map_cam, np.float64), Status.CONVERGED)
        start = replace(start, stamp_ns=frame.stamp_ns)
        if frame.depth is None or not frame.depth.any():
            return start.lost('the depth image has no valid pixel')
        if len(scene) < 2:
            return start.lost('the map has nothing before the camera')
        gaussians, T_map_aligned = aligned(isotropic(scene))
        gaussians = gaussians.to(self.device)
        observed = torch.from_numpy(frame.depth).to(self.device)
        T = torch.from_numpy(se3.inverse(start.T_map_cam) @ T_map_aligned)
        q = torch.tensor(se3.mat_to_quat(T[:3, :3].numpy()), requires_grad=True)
        t = T[:3, 3].clone().requires_grad_()
        groups = [
            {'params': [q], 'lr': self.lr_quaternion},
            {'params': [t], 'lr': self.lr_translation},
        ]
        optimizer = torch.optim.Adam(groups, weight_decay=self.weight_decay)
        decay = self.final_rate ** (1 / self.max_steps)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
        best, best_step, steps = (math.inf, T.numpy()), 0, 0
        for step in range(self.max_steps):
            pose = rigid_motion(q, t, torch.zeros(3, dtype=torch.float64))
            loss = self._loss(render(gaussians, frame.camera, pose), observed)
            steps = step + 1
            if loss.item() < best[0]:
                best, best_step = (loss.item(), pose.detach().numpy().copy()), step
            if step >= self.patience_from and step - best_step >= self.patience:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        T_cam_map = best[1] @ se3.inverse(T_map_aligned)
        out = replace(start, T_map_cam=se3.inverse(T_cam_map), iterations=steps)
        with torch.no_grad():
            color, alpha, depth = render(gaussians, frame.camera, torch.from_numpy(best[1]))
        known = ((alpha > self.min_alpha) & (observed > 0)).cpu().numpy()
        mapped = depth.double().cpu().numpy()
        difference = np.where(known, mapped - frame.depth, np.nan)
        noise = frame.depth_noise.at(mapped)
        gray = _gray(color.float().cpu().numpy()), _gray(frame.color)
        return self.check.judged(out, frame.depth, difference, noise, gray, scene.voxel_m)

    def drawn(
        self, frame: RGBDFrame, scene: SceneMap, T_map_cam: NDArray[np.float64]
    ) -> RGBDFrame:
        """The frame with the depth that a map's balls show at a pose, as the paper has it."""
        T_cam_map = torch.from_numpy(se3.inverse(T_map_cam))
        with torch.no_grad():
            _, alpha, depth = render(isotropic(scene).to(self.device), frame.camera, T_cam_map)
        known = alpha > self.min_alpha
        return replace(frame, depth=torch.where(known, depth, 0.0).float().cpu().numpy())

    def _loss(self, rendering: tuple[Tensor, Tensor, Tensor], observed: Tensor) -> Tensor:
        _, alpha, depth = rendering
        mask = (alpha.detach() > self.min_alpha) & (observed > 0)
        loss = (depth - observed)[mask].abs().sum()
        # The slopes at a pixel take the eight around it as well.
        whole = -F.max_pool2d(-mask[None].float(), 3, 1, 1)[0] > 0
        whole[[0, -1]] = False
        whole[:, [0, -1]] = False
        contour = (sobel(depth) - sobel(observed)).norm(dim=0)[whole].sum()
        return self.depth_weight * loss + (1 - self.depth_weight) * contour


def sobel(image: Tensor) -> Tensor:
    """Slopes [2, H, W] across and down of an image [H, W], per pixel."""
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=image.device) / 8
    kernels = torch.stack([across, across.T])[:, None]
    return F.conv2d(image[None, None], kernels.to(image.dtype), padding=1)[0]


def isotropic(scene: SceneMap) -> Gaussians:
    """The map's points as the paper has them: balls as wide as the points are apart, opaque."""
    points = oriented_points(scene.gaussians)
    spacing = points.reach_m / scene.surfel.spread
    return Gaussians.from_points(points.points, points.colors, spacing, 0.999, sh_degree=0)


def aligned(gaussians: Gaussians) -> tuple[Gaussians, NDArray[np.float64]]:
    """The Gaussians about their median along their principal axes, and T_map_aligned [4, 4].

    Balls only: the turn does not reach their orientations.
    """
    means = gaussians.means.double().numpy()
    center = np.median(means, 0)
    _, axes = np.linalg.eigh(np.cov((means - center).T))
    axes = axes[:, ::-1]
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    moved = torch.tensor((means - center) @ axes, dtype=torch.float32)
    return replace(gaussians, means=moved), se3.from_rotation_translation(axes, center)


def _gray(color: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(color, cv2.COLOR_RGB2GRAY), np.float32)
