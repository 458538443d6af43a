"""One renderer, two backends with equal values and gradients: Numba on a CPU, gsplat on CUDA."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.extras import require_modules
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.camera import Camera

Backend = Literal['auto', 'numba', 'gsplat']
Device = Literal['cpu', 'cuda']


def require(device: Device) -> None:
    """Raise GsPoseError if there is no such device, or nothing to render on it."""
    if device == 'cuda' and not torch.cuda.is_available():
        raise GsPoseError('device is cuda, but torch sees no CUDA device: set device to cpu')
    if device == 'cuda':
        require_modules('gsplat')


class Rendering(NamedTuple):
    """What a camera sees of the Gaussians."""

    color: Tensor  # [H, W, 3], over the background
    alpha: Tensor  # [H, W] in [0, 1)
    depth: Tensor  # [H, W] expected depth m where alpha > 0, else 0


def render(
    gaussians: Gaussians,
    camera: Camera,
    T_cam_obj: Tensor,
    *,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    backend: Backend = 'auto',
) -> Rendering:
    """Render Gaussians by splatting, differentiably in every parameter and in the pose [4, 4].

    Depth is the alpha-weighted mean of the Gaussians' z, divided by alpha. The order of the
    Gaussians and which of them are culled are not differentiated.

    Raises:
        ValueError: the pose is not [4, 4].

    """
    if T_cam_obj.shape != (4, 4):
        raise ValueError(f'T_cam_obj must be (4, 4), got {tuple(T_cam_obj.shape)}')
    if backend == 'auto':
        backend = 'gsplat' if gaussians.means.is_cuda else 'numba'
    if backend == 'gsplat':
        from gs_pose_ros.rendering.gsplat_rasterizer import rasterize

        image = rasterize(gaussians, camera, T_cam_obj)
    else:
        from gs_pose_ros.rendering.numba_rasterizer import Rasterize

        g = gaussians
        image: Tensor = Rasterize.apply(  # type: ignore[assignment]
            g.means, g.quats, g.log_scales, g.logit_opacities, g.sh, T_cam_obj, camera
        )
    # One split: its gradient is one copy, those of three slices are three sums.
    color, depth, alpha = image.split((3, 1, 1), 1)
    color, depth, alpha = color.transpose(1, 2), depth[:, 0], alpha[:, 0]
    if any(background):
        color = color + (1 - alpha)[..., None] * torch.tensor(background, device=color.device)
    return Rendering(color, alpha, depth / alpha.clamp(min=1e-10))
