"""Gaussian splatting on a CUDA device through gsplat (Apache-2.0, Ye et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.camera import Camera


def rasterize(gaussians: Gaussians, camera: Camera, T_cam_obj: Tensor) -> Tensor:
    """Image [H, 5, W] as `numba_rasterizer.Rasterize` gives it; all tensors on one CUDA device."""
    from gsplat import rasterization  # pyright: ignore[reportMissingImports]

    device = gaussians.means.device
    # gsplat has its pixel centres at half integers, we have them at integers.
    K = torch.tensor(
        [[camera.fx, 0, camera.cx + 0.5], [0, camera.fy, camera.cy + 0.5], [0, 0, 1]],
        dtype=torch.float32,
        device=device,
    )
    image, alpha, _ = rasterization(
        means=gaussians.means,
        quats=gaussians.quats,
        scales=gaussians.scales,
        opacities=gaussians.opacities,
        colors=gaussians.sh,
        viewmats=T_cam_obj.to(device, torch.float32)[None],
        Ks=K[None],
        width=camera.width,
        height=camera.height,
        sh_degree=gaussians.sh_degree,
        render_mode='RGB+D',
        packed=False,
    )
    return torch.cat([image[0], alpha[0]], -1).transpose(1, 2)
