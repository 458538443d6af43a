"""Fit Gaussians to posed, masked pictures of one object (the 3DGO of GS-Pose, Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.bounds import Count, CountOrNone, NonNegative, Share
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.losses import psnr, ssim
from gs_pose_ros.rendering import render


@dataclass(frozen=True)
class FittingView:
    """One masked crop."""

    color: Tensor  # [H, W, 3], 0 outside the mask
    mask: Tensor  # [H, W] in [0, 1]
    depth: Tensor | None  # [H, W] m, 0 where unknown
    camera: Camera
    T_cam_obj: Tensor  # [4, 4] float64
    # [H, W] in [0, 1]: the part that lies inside the picture; None if all does. Color, mask and
    # depth are 0 elsewhere, which says nothing of the object.
    inside: Tensor | None = None
    session: int = 0  # views of one session show the object in the same light


@dataclass(frozen=True)
class LitGaussians:
    """Gaussians in the mean of the sessions' lights, and how each light changes their colours.

    An object turned over between two series of pictures is shaded otherwise in each. One colour a
    Gaussian blurs that, or hides it in the view dependence, which no third light confirms.
    """

    gaussians: Gaussians
    light: Tensor  # [N, sessions, 3] on top of the constant term of the SH; 0 where never seen

    @classmethod
    def in_one_light(cls, gaussians: Gaussians, sessions: int) -> LitGaussians:
        """The same in every session."""
        return cls(gaussians, gaussians.means.new_zeros(len(gaussians), sessions, 3))

    def in_session(self, session: int) -> Gaussians:
        """As the views of that session show them."""
        sh = self.gaussians.sh
        lit = sh[:, :1] + self.light[:, session : session + 1]
        return replace(self.gaussians, sh=torch.cat([lit, sh[:, 1:]], 1))


@dataclass(frozen=True)
class GaussianFitting:
    """Settings of the optimisation; rates as in 3DGS, those of positions in diameters."""

    iterations: Count = 1200
    max_gaussians: Count = 12_000
    densify_from: CountOrNone = 200
    densify_until: CountOrNone = 900
    densify_every: Count = 100
    # Share of the Gaussians, those with the largest gradients, that is split or cloned each time.
    densify_share: Share = 0.08
    prune_opacity: Share = 0.03
    lr_means: NonNegative = 4e-4  # in diameters, falls to 1 % of it
    lr_quats: NonNegative = 2e-3
    lr_log_scales: NonNegative = 8e-3
    lr_logit_opacities: NonNegative = 4e-2
    lr_sh: NonNegative = 2.5e-3  # and of the light; higher degrees take a tenth of it
    ssim_weight: Share = 0.2  # lambda_dssim of 3DGS
    mask_weight: NonNegative = 0.5
    depth_weight: NonNegative = 1.0  # per diameter of depth error

    def fit(
        self,
        initial: LitGaussians,
        views: Sequence[FittingView],
        diameter_m: float,
        on_step: Callable[[int, float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> LitGaussians:
        """Optimise `initial` against the views; `on_step(iteration, loss)` after each step.

        Stops early, returning what there is, when `cancelled()` is true.
        """
        generator = torch.Generator().manual_seed(0)
        optimizer = GaussianOptimizer(initial, self, diameter_m)
        order: list[int] = []
        for i in range(self.iterations):
            if cancelled is not None and cancelled():
                break
            if not order:
                order = torch.randperm(len(views), generator=generator).tolist()
            optimizer.decay(i / self.iterations)
            loss = optimizer.step(views[order.pop()])
            if i % self.densify_every == self.densify_every - 1:
                optimizer.balance_light()
                if self.densify_from <= i < self.densify_until:
                    optimizer.densify(generator)
            if on_step is not None:
                on_step(i, loss)
        optimizer.balance_light()
        optimizer.prune()
        lit = optimizer.lit()
        return LitGaussians(lit.gaussians.detached(), lit.light.detach())

    def loss(self, gaussians: Gaussians, view: FittingView, diameter_m: float) -> Tensor:
        """How far a rendering is from a view: colour, SSIM, mask, and depth if there is one."""
        color, alpha, depth = render(gaussians, view.camera, view.T_cam_obj)
        if view.inside is not None:
            color, alpha = color * view.inside[..., None], alpha * view.inside
        loss = (1 - self.ssim_weight) * (color - view.color).abs().mean()
        loss = loss + self.ssim_weight * (1 - ssim(color, view.color))
        loss = loss + self.mask_weight * (alpha - view.mask).abs().mean()
        if view.depth is not None and self.depth_weight > 0:
            # Only where both see a surface; sensor outliers at edges are cut off.
            error = (depth - view.depth) / diameter_m
            known = (view.depth > 0) & (alpha.detach() > 0.5) & (error.detach().abs() < 0.1)
            loss = loss + self.depth_weight * (error.abs() * known).mean()
        return loss


class GaussianOptimizer:
    """Adam over Gaussians whose number changes; the state of a fit, which its caller holds.

    `GaussianFitting.fit` is the loop that registration runs; another loop may add views as they
    come, and look at `lit()` in between.
    """

    def __init__(
        self, initial: LitGaussians, settings: GaussianFitting, diameter_m: float
    ) -> None:
        """Start from `initial`; `diameter_m` (m) is the scale of positions and sizes."""
        self._settings, self._diameter_m = settings, diameter_m
        self._rates = {
            'means': settings.lr_means * diameter_m,
            'quats': settings.lr_quats,
            'log_scales': settings.lr_log_scales,
            'logit_opacities': settings.lr_logit_opacities,
            'sh_dc': settings.lr_sh,
            'sh_rest': settings.lr_sh / 10,
            # In one light there is nothing to tell apart.
            'light': settings.lr_sh if initial.light.shape[1] > 1 else 0.0,
        }
        g = initial.gaussians
        values = {f.name: getattr(g, f.name).clone() for f in fields(g)}
        sh = values.pop('sh')
        values['sh_dc'], values['sh_rest'] = sh[:, :1].clone(), sh[:, 1:].clone()
        values['light'] = initial.light.clone()
        self._seen_in = torch.zeros(values['light'].shape[:2], dtype=torch.bool)  # by session
        self._start(values)

    def _start(self, values: dict[str, Tensor], moments: dict[str, tuple] | None = None) -> None:
        self._values = {k: v.detach().requires_grad_() for k, v in values.items()}
        groups = [
            {'params': [v], 'lr': self._rates[k], 'name': k} for k, v in self._values.items()
        ]
        self._adam = torch.optim.Adam(groups, eps=1e-15)
        for k, (step, m, v) in (moments or {}).items():
            self._adam.state[self._values[k]] = {'step': step, 'exp_avg': m, 'exp_avg_sq': v}
        n = len(self._values['means'])
        self._gradient, self._seen = torch.zeros(n), torch.zeros(n)

    def lit(self) -> LitGaussians:
        """The Gaussians as they are now, with their gradients."""
        v = self._values
        gaussians = Gaussians(
            v['means'],
            v['quats'],
            v['log_scales'],
            v['logit_opacities'],
            torch.cat([v['sh_dc'], v['sh_rest']], 1),
        )
        return LitGaussians(gaussians, v['light'])

    def decay(self, progress: float) -> None:
        """Lower the rate of the positions for this share [0, 1] of the fit."""
        for group in self._adam.param_groups:
            if group['name'] == 'means':
                group['lr'] = self._rates['means'] * 0.01**progress

    def step(self, view: FittingView) -> float:
        """One step towards a view; the loss before it."""
        gaussians = self.lit().in_session(view.session)
        loss = self._settings.loss(gaussians, view, self._diameter_m)
        loss.backward()
        self._accumulate(view)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return loss.item()

    def _accumulate(self, view: FittingView) -> None:
        """Positional gradients, brought to the size that image-plane gradients have."""
        means, T = self._values['means'], view.T_cam_obj.float()
        assert means.grad is not None
        z = means.detach() @ T[2, :3] + T[2, 3]
        norm = means.grad.norm(dim=1) * z / view.camera.fx
        self._gradient += norm
        self._seen += norm > 0
        self._seen_in[:, view.session] |= norm > 0

    @torch.no_grad()
    def balance_light(self) -> None:
        """Make the light average to nothing over the sessions that have seen a Gaussian.

        Its colour then is that in their mean light; in a session that has not seen it, too.
        """
        seen = self._seen_in[..., None]
        light, base = self._values['light'], self._values['sh_dc']
        mean = (light * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
        base += mean
        light -= mean
        light *= seen

    def _select(self, keep: Tensor, added: dict[str, Tensor], parents: Tensor) -> None:
        self._seen_in = torch.cat([self._seen_in[keep], self._seen_in[parents]])
        moments = {}
        for k, v in self._values.items():
            state = self._adam.state[v]
            if not state:  # not one step yet: the fit was cancelled before it began
                continue
            n = len(added[k])
            m, s = (
                torch.cat([state[name][keep], state[name].new_zeros(n, *v.shape[1:])])
                for name in ('exp_avg', 'exp_avg_sq')
            )
            moments[k] = (state['step'], m, s)
        values = {k: torch.cat([v.detach()[keep], added[k]]) for k, v in self._values.items()}
        self._start(values, moments)

    def prune(self) -> None:
        """Drop what is nearly transparent, or far too large."""
        v = self._values
        keep = (v['logit_opacities'].sigmoid() > self._settings.prune_opacity) & (
            v['log_scales'].exp().amax(1) < 0.3 * self._diameter_m
        )
        none = torch.zeros(0, dtype=torch.int64)
        self._select(keep, {k: x.detach()[:0] for k, x in v.items()}, none)

    def densify(self, generator: torch.Generator) -> None:
        """Split the large and clone the small Gaussians that the images still pull at (3DGS)."""
        settings = self._settings
        v = {k: x.detach() for k, x in self._values.items()}
        n = len(v['means'])
        alive = v['logit_opacities'].sigmoid() > settings.prune_opacity
        room = settings.max_gaussians - int(alive.sum())
        count = max(0, min(int(settings.densify_share * n), room))
        score = torch.where(alive, self._gradient / self._seen.clamp(min=1), -1.0)
        chosen = score.topk(count).indices
        scales = v['log_scales'][chosen].exp()
        # Both halves of a split lie one draw from the Gaussian apart and are 1.6 times smaller.
        rotation = _rotations(v['quats'][chosen])
        draw = torch.randn(count, 3, generator=generator) * scales
        offset = (rotation @ draw[..., None])[..., 0]
        large = scales.amax(1) > 0.01 * self._diameter_m
        added = {k: x[chosen].clone() for k, x in v.items()}
        added['means'] += offset
        shrink = torch.where(large, float(np.log(1.6)), 0.0)[:, None]
        added['log_scales'] -= shrink
        with torch.no_grad():
            self._values['log_scales'][chosen] -= shrink
        self._select(alive, added, chosen)


def _rotations(quats: Tensor) -> Tensor:
    q = torch.nn.functional.normalize(quats, dim=1)
    w, u = q[:, :1, None], q[:, 1:]
    hat = torch.from_numpy(se3.hat(u.numpy())).float()
    return torch.eye(3) + 2 * w * hat + 2 * hat @ hat


def heldout_psnr(lit: LitGaussians, views: Sequence[FittingView]) -> list[float]:
    """PSNR in dB inside the mask, one for each view, in the light of the view's session."""
    values = []
    for view in views:
        with torch.no_grad():
            gaussians = lit.in_session(view.session)
            color = render(gaussians, view.camera, view.T_cam_obj).color.clamp(0, 1)
        mask: NDArray[np.bool_] = view.mask.numpy() > 0.5
        if mask.any():
            values.append(psnr(color.numpy(), view.color.numpy(), mask))
    return values
