"""Colours of a map that fit the pictures it was made of; where its Gaussians lie stays.

Fusion gives a Gaussian the mean colour of its voxel. What is drawn blends it with its neighbours,
which one that is fitted through the renderer (3DGS) makes up for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import SH_C0, Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.losses import psnr
from gs_pose_ros.rendering import Rendering, render

_WIDTH = 320  # px of the kept pictures
_MOST = 100  # of them: 50 MB
_HELDOUT_EVERY = 8
_RATE, _LAST_RATE = 0.02, 0.1  # of the SH coefficients; the second as a share of the first
_SAME_SURFACE = 0.05  # share of the distance


@dataclass(frozen=True)
class MapPicture:
    """A frame as it is kept for polishing."""

    color: NDArray[np.uint8]  # [H, W, 3]
    depth: NDArray[np.float32]  # [H, W] m, 0 where unknown
    camera: Camera
    T_cam_map: NDArray[np.float64]  # [4, 4]


class MapPictures:
    """At most a hundred small pictures, spread evenly over all frames that were added."""

    def __init__(self) -> None:
        self.kept: list[MapPicture] = []
        self._added, self._every = 0, 1

    def add(self, frame: RGBDFrame, T_map_cam: NDArray[np.float64]) -> None:
        """Keep this frame with depth, taken at a pose [4, 4], if it is its turn."""
        if self._added % self._every == 0:
            self.kept.append(_small(frame, T_map_cam))
        self._added += 1
        if len(self.kept) > _MOST:
            del self.kept[1::2]
            self._every *= 2


class Polished(NamedTuple):
    """Gaussians, and how well they fit the pictures that were kept back."""

    gaussians: Gaussians
    before_db: float  # mean PSNR; NaN where there are too few pictures to keep one back
    after_db: float


def polished(gaussians: Gaussians, pictures: Sequence[MapPicture], steps: int) -> Polished:
    """Fit the constant SH by Adam, one picture a step.

    Every eighth picture is kept back. If those fit no better afterwards, all stays as it was.
    """
    heldout = pictures[_HELDOUT_EVERY - 1 :: _HELDOUT_EVERY]
    used = [p for i, p in enumerate(pictures) if i % _HELDOUT_EVERY != _HELDOUT_EVERY - 1]
    before_db = _mean_psnr(gaussians, heldout)
    fitted = _fitted(gaussians, used, steps)
    after_db = _mean_psnr(fitted, heldout)
    if after_db < before_db:
        return Polished(gaussians, before_db, before_db)
    return Polished(fitted, before_db, after_db)


def _fitted(gaussians: Gaussians, pictures: Sequence[MapPicture], steps: int) -> Gaussians:
    sh = gaussians.sh.clone().requires_grad_()
    adam = torch.optim.Adam([sh], lr=_RATE, eps=1e-15)
    decay = torch.optim.lr_scheduler.ExponentialLR(adam, _LAST_RATE ** (1 / max(steps, 1)))
    generator = torch.Generator().manual_seed(0)
    order: list[int] = []
    for _ in range(steps):
        order = order or torch.randperm(len(pictures), generator=generator).tolist()
        picture = pictures[order.pop()]
        drawn, seen = _drawn(replace(gaussians, sh=sh), picture)
        error = (drawn.color - _color(picture)).abs().mean(-1) * seen
        (error.sum() / seen.sum().clamp(min=1)).backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        decay.step()
    low, high = -0.5 / SH_C0, 0.5 / SH_C0  # black and white
    return replace(gaussians, sh=sh.detach().clamp(low, high))


def _mean_psnr(gaussians: Gaussians, pictures: Sequence[MapPicture]) -> float:
    values = []
    for picture in pictures:
        with torch.no_grad():
            drawn, seen = _drawn(gaussians, picture)
        if seen.any():
            color = drawn.color.clamp(0, 1).numpy()
            values.append(psnr(color, _color(picture).numpy(), seen.numpy()))
    return float(np.mean(values)) if values else float('nan')


def _drawn(gaussians: Gaussians, picture: MapPicture) -> tuple[Rendering, Tensor]:
    """The map at the picture's pose, and where both show the same surface, [H, W] bool."""
    drawn = render(gaussians, picture.camera, torch.from_numpy(picture.T_cam_map))
    z = torch.from_numpy(picture.depth)
    is_near = (drawn.depth.detach() - z).abs() < _SAME_SURFACE * z
    return drawn, (z > 0) & (drawn.alpha.detach() > 0.5) & is_near


def _color(picture: MapPicture) -> Tensor:
    return torch.from_numpy(picture.color).float() / 255


def _small(frame: RGBDFrame, T_map_cam: NDArray[np.float64]) -> MapPicture:
    factor = min(1.0, _WIDTH / frame.camera.width)
    # From the outer edge of the first pixel on.
    small = frame.warp(frame.camera.scaled(factor), -0.5, -0.5, factor)
    assert small.depth is not None
    color = (small.color * 255).round().clip(0, 255).astype(np.uint8)
    return MapPicture(color, small.depth, small.camera, se3.inverse(T_map_cam))
