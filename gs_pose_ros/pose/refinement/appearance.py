"""Environment adaptation (GS2Pose): a copy of the splat takes on the light of one picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.bounds import Count, NonNegative, Share
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.losses import ssim
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering import Device, Rendering, render


class Exposure(NamedTuple):
    """Brightness of one picture: image = exp(gain) * rendering + offset."""

    gain: Tensor  # scalar
    offset: Tensor  # scalar

    @classmethod
    def neutral(cls, device: Device = 'cpu') -> Exposure:
        """Nothing changed yet; both learn."""
        return cls(*(torch.zeros((), device=device, requires_grad=True) for _ in range(2)))

    def of(self, rendering: Rendering) -> Tensor:
        """The rendering's colours [H, W, 3] as the picture would show them, on black."""
        return self.gain.exp() * rendering.color + self.offset * rendering.alpha[..., None]


class Target(NamedTuple):
    """What a rendering is compared with, one window of an image."""

    camera: Camera
    color: Tensor  # [S, S, 3], 0 where the object is not visible
    soft: Tensor  # [S, S] the mask in [0, 1]
    depth: Tensor  # [S, S] m, 0 where unknown

    @classmethod
    def of(cls, window: ObjectWindow, device: Device = 'cpu') -> Target:
        """The window times its mask; all of it where that is unknown."""
        soft = torch.from_numpy(np.where(window.mask < 0, 1, window.mask).astype(np.float32))
        color = torch.from_numpy(np.nan_to_num(window.color)) * soft[..., None]
        depth = torch.from_numpy(window.depth)
        return cls(window.camera, color.to(device), soft.to(device), depth.to(device))


@dataclass(frozen=True)
class PhotometricLoss:
    """GS2Pose, Eq. 4, with the weights of its public code."""

    l1_weight: Share = 0.3  # of the colours, where the rendering is opaque; the rest is 1 - SSIM
    opaque: Share = 0.99
    depth_weight: NonNegative = 0.02  # per metre, where both show a surface

    def __call__(self, rendering: Rendering, target: Target, exposure: Exposure) -> Tensor:
        """Scalar loss of a rendering."""
        color = exposure.of(rendering)
        opaque = rendering.alpha.detach() > self.opaque
        error = (color - target.color).abs().mean(-1)
        loss = self.l1_weight * (error * opaque).sum() / opaque.sum().clamp(min=1)
        loss = loss + (1 - self.l1_weight) * (1 - ssim(color, target.color))
        known = opaque & (target.depth > 0)
        if self.depth_weight > 0 and known.any():
            surface = (rendering.depth - target.depth).abs() * known
            loss = loss + self.depth_weight * surface.sum() / known.sum()
        return loss


@dataclass(frozen=True)
class Adaptation:
    """What learns: all spherical harmonics, and the rotations of the Gaussians.

    Means, scales and opacities stay, so that the shape, and with it the pose, is not bent to fit.
    """

    steps: Count = 20
    lr_sh: NonNegative = 2.5e-3  # of degree 0; the others take a twentieth, as in 3DGS
    lr_quats: NonNegative = 1e-3
    lr_exposure: NonNegative = 0.01

    def adapted(
        self,
        gaussians: Gaussians,
        target: Target,
        T_cam_obj: NDArray[np.float64],
        exposure: Exposure,
        loss: Callable[[Rendering, Target, Exposure], Tensor],
    ) -> Gaussians:
        """A copy of the Gaussians that looks more as the target does at T_cam_obj [4, 4].

        The exposure learns with them; the given Gaussians stay as they are.
        """
        quats = gaussians.quats.detach().clone().requires_grad_()
        base = gaussians.sh[:, :1].detach().clone().requires_grad_()
        rest = gaussians.sh[:, 1:].detach().clone().requires_grad_()
        optimizer = torch.optim.Adam(
            [
                {'params': [base], 'lr': self.lr_sh},
                {'params': [rest], 'lr': self.lr_sh / 20},
                {'params': [quats], 'lr': self.lr_quats},
                {'params': list(exposure), 'lr': self.lr_exposure},
            ],
            eps=1e-15,
        )
        pose = torch.from_numpy(T_cam_obj)
        fixed = gaussians.detached()
        for _ in range(self.steps):
            copy = replace(fixed, quats=quats, sh=torch.cat([base, rest], 1))
            optimizer.zero_grad()
            loss(render(copy, target.camera, pose), target, exposure).backward()
            optimizer.step()
        return replace(fixed, quats=quats, sh=torch.cat([base, rest], 1)).detached()
