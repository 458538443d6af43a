"""Fitting Gaussians: from gray points to the pictures, also to one that was held out."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.gaussian_fitting import (
    FittingView,
    GaussianFitting,
    GaussianOptimizer,
    LitGaussians,
    _rotations,
    heldout_psnr,
)
from test.synthetic import TOWER, box_surface, reference, sphere_views

# Rates for 60 steps instead of 1500.
SHORT = GaussianFitting(
    iterations=60, densify_from=15, densify_until=45, densify_every=15, max_gaussians=1500,
    lr_means=4e-3, lr_log_scales=2e-2, lr_logit_opacities=0.15, lr_sh=3e-2,
)  # fmt: skip


@cache
def views(session: int = 0) -> tuple[FittingView, ...]:
    """Twelve crops of 48 px, the last one to be held out; session 1 is lit from one side."""
    ref = reference()
    gaussians, out = ref.gaussians, []
    if session:
        sh = gaussians.sh.clone()
        sh[:, 0] += 12 * gaussians.means[:, :1]
        gaussians = replace(gaussians, sh=sh)
    for view in sphere_views(gaussians, 12, ref.box.mean(0), 0.4, 48):
        assert view.mask is not None
        mask = torch.from_numpy(view.mask.astype(np.float32))
        color = torch.from_numpy(view.color.astype(np.float32) / 255) * mask[..., None]
        depth = None if view.depth is None else torch.from_numpy(view.depth.astype(np.float32))
        T_cam_obj = torch.from_numpy(view.T_cam_obj)
        out.append(FittingView(color, mask, depth, view.camera, T_cam_obj, session=session))
    return tuple(out)


def lit(gaussians: Gaussians, sessions: int = 1) -> LitGaussians:
    return LitGaussians.in_one_light(gaussians, sessions)


def gray_points(sh_degree: int = 1) -> Gaussians:
    points = box_surface(TOWER, 0.006)
    return Gaussians.from_points(points, np.full((len(points), 3), 0.5), 0.004, 0.5, sh_degree)


@pytest.mark.parametrize(('with_depth', 'sh_degree'), [(True, 1), (False, 0)])
def test_the_loss_falls_and_a_held_out_view_is_predicted(with_depth: bool, sh_degree: int) -> None:
    crops = [v if with_depth else replace(v, depth=None) for v in views()]
    initial = gray_points(sh_degree)
    before = heldout_psnr(lit(initial), crops[-1:])[0]
    losses: list[float] = []
    steps: list[int] = []

    def on_step(step: int, loss: float) -> None:
        steps.append(step)
        losses.append(loss)

    result = SHORT.fit(lit(initial), crops[:-1], reference().diameter_m, on_step)
    fitted = result.gaussians
    assert steps == list(range(60))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    after = heldout_psnr(result, crops[-1:])[0]
    assert after > max(23, before + 5)
    assert fitted.sh_degree == sh_degree
    assert not fitted.means.requires_grad
    fitted.check_finite('the fit')


def test_the_same_input_gives_the_same_splat() -> None:
    short = replace(SHORT, iterations=30, densify_from=10)
    one, two = (short.fit(lit(gray_points()), views(), 0.12).gaussians for _ in range(2))
    assert len(one) == len(two)
    assert torch.allclose(one.means, two.means, atol=1e-6)


def test_depth_pulls_the_surface_to_where_it_was_measured() -> None:
    ref = reference()
    # Everything 4 mm too large: black on black, only depth can tell.
    black = [
        replace(v, color=torch.zeros_like(v.color), mask=torch.ones_like(v.mask)) for v in views()
    ]
    points = box_surface(TOWER, 0.006)
    away = points - ref.box.mean(0)
    large = ref.box.mean(0) + away * (1 + 0.004 / np.linalg.norm(away, axis=1, keepdims=True))
    initial = Gaussians.from_points(large, np.zeros_like(large), 0.004, 0.9, 0)
    settings = GaussianFitting(
        iterations=40, densify_until=0, ssim_weight=0, mask_weight=0, lr_means=4e-3,
        lr_quats=0, lr_log_scales=0, lr_logit_opacities=0,
    )  # fmt: skip

    def error(g: Gaussians) -> float:
        near = torch.from_numpy(box_surface(TOWER, 0.0015)).float()
        return float(torch.cdist(g.means, near).amin(1).mean())

    with_depth = settings.fit(lit(initial), black, ref.diameter_m).gaussians
    without = replace(settings, depth_weight=0).fit(lit(initial), black, ref.diameter_m).gaussians
    assert error(with_depth) < 0.85 * error(initial)
    assert error(without) == pytest.approx(error(initial), rel=0.05)


def test_a_depth_outlier_pulls_at_nothing() -> None:
    view = views()[0]
    assert view.depth is not None
    ref = reference()
    far = replace(view, depth=torch.where(view.depth > 0, view.depth + 0.5, 0.0))
    none = replace(view, depth=None)
    settings = GaussianFitting()
    losses = [settings.loss(ref.gaussians, v, ref.diameter_m).item() for v in (far, none)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize('allowed', [0, 1, 25])
def test_cancelling_returns_what_there_is(allowed: int) -> None:
    steps: list[int] = []
    fitted = SHORT.fit(
        lit(gray_points()), views(), 0.12,
        lambda step, _: steps.append(step), lambda: len(steps) >= allowed,
    ).gaussians  # fmt: skip
    assert len(steps) == allowed
    assert len(fitted) > 100


def test_densifying_stays_within_the_limit_and_keeps_the_momentum() -> None:
    settings = replace(SHORT, densify_share=0.5, max_gaussians=1000)
    initial = gray_points()[:600]
    state = GaussianOptimizer(lit(initial), settings, 0.12)
    counts = []
    for view in views()[:3]:
        state.step(view)
        old = state._adam.state[state._values['means']]['exp_avg'].clone()
        kept = len(old)
        state.densify(torch.Generator().manual_seed(0))
        new = state._adam.state[state._values['means']]
        assert torch.equal(new['exp_avg'][:kept], old)
        assert (new['exp_avg'][kept:] == 0).all()
        counts.append(len(state.lit().gaussians))
    assert counts == [900, 1000, 1000]


def test_densifying_adds_where_the_images_pull() -> None:
    initial = gray_points()
    settings = replace(SHORT, densify_share=1.01 / len(initial))
    state = GaussianOptimizer(lit(initial), settings, 0.12)
    state.step(views()[0])
    state._gradient[:], state._seen[:] = 0.0, 0
    state._gradient[7], state._seen[7] = 5.0, 1
    state._gradient[9], state._seen[9] = 100.0, 100
    before = state.lit().gaussians[:]  # views: densify shrinks in place
    before = Gaussians(*(getattr(before, f.name).detach().clone() for f in fields(before)))
    state.densify(torch.Generator().manual_seed(0))
    after = state.lit().gaussians.detached()
    assert len(after) == len(initial) + 1
    # 4 mm is large for an object of 12 cm: split into two that are 1.6 times smaller.
    for half in (7, -1):
        assert torch.allclose(after.scales[half], before.scales[7] / 1.6)
    assert 0 < (after.means[-1] - before.means[7]).norm() < 4 * before.scales[7].max()
    assert torch.equal(after.scales[9], before.scales[9])


def test_pruning_drops_the_transparent_and_the_huge() -> None:
    initial = gray_points()
    initial.logit_opacities[:10] = -6
    initial.log_scales[10:15, 1] = float(np.log(0.5 * 0.12))
    pruned = GaussianFitting(iterations=0).fit(lit(initial), views(), 0.12).gaussians
    assert len(pruned) == len(initial) - 15
    for f in fields(initial):
        assert torch.equal(getattr(pruned, f.name), getattr(initial, f.name)[15:])


def test_the_rotations_of_quaternions_are_those_of_the_geometry() -> None:
    quats = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    expected = np.stack([se3.quat_to_mat(q) for q in quats.numpy()])
    assert np.allclose(_rotations(quats).numpy(), expected, atol=1e-5)


def test_what_the_picture_cuts_off_is_not_missing_from_the_object() -> None:
    def cut(view: FittingView, known: bool) -> FittingView:
        inside = torch.ones_like(view.mask)
        inside[:24] = 0  # the object's upper half is outside the picture
        assert view.depth is not None
        return replace(
            view,
            color=view.color * inside[..., None],
            mask=view.mask * inside,
            depth=view.depth * inside,
            inside=inside if known else None,
        )

    whole, rest = views()[-1:], views()[:4]
    psnr = {}
    for known in (True, False):
        crops = [cut(view, known) for view in views()[4:-1]]
        fitted = SHORT.fit(lit(gray_points()), [*rest, *crops], 0.2)
        psnr[known] = heldout_psnr(fitted, whole)[0]
    assert psnr[True] > psnr[False] + 2


def test_each_session_keeps_its_light_and_the_object_has_their_mean() -> None:
    both = [*views()[:-1], *views(session=1)[:-1]]
    held = [views()[-1], views(session=1)[-1]]
    longer = replace(SHORT, iterations=120)
    fitted = longer.fit(lit(gray_points(), 2), both, 0.12)
    mean = lit(fitted.gaussians, 2)
    one = longer.fit(lit(gray_points()), [replace(v, session=0) for v in both], 0.12)
    told_apart, blurred = (
        heldout_psnr(fitted, held),
        heldout_psnr(one, [replace(v, session=0) for v in held]),
    )
    assert min(told_apart) > min(blurred) + 0.5
    assert min(told_apart) > min(heldout_psnr(mean, held)) + 0.5
    assert torch.allclose(fitted.light.sum(1), torch.zeros(1), atol=1e-5)


def test_a_session_that_has_not_seen_a_gaussian_shows_its_colour() -> None:
    state = GaussianOptimizer(lit(gray_points(), 3), SHORT, 0.12)
    state._values['light'].data[4] = torch.tensor([[0.6], [0.2], [9.0]])
    before = state._values['sh_dc'].detach()[4].clone()
    state._seen_in[4] = torch.tensor([True, True, False])
    state.balance_light()
    assert torch.allclose(state._values['sh_dc'][4], before + 0.4)
    light = torch.tensor([[0.2], [-0.2], [0.0]]).expand(3, 3)
    assert torch.allclose(state._values['light'][4], light, atol=1e-6)
