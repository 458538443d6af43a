"""Registration of the synthetic object: with depth, with colour alone, and of useless input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.gaussian_fitting import GaussianFitting
from gs_pose_ros.objects.registration import (
    RegistrationCancelled,
    RegistrationProgress,
    RegistrationSettings,
    assemble_reference,
    fit_splat,
    register,
)
from gs_pose_ros.objects.sources import RegistrationView
from test.synthetic import picture, reference, sphere_views

QUICK = RegistrationSettings(
    crop_size=56,
    points_across=28,
    heldout_every=5,
    final_iterations=8,
    fitting=GaussianFitting(
        iterations=50, densify_from=20, densify_until=30, densify_every=20, max_gaussians=3000,
        lr_means=4e-3, lr_log_scales=2e-2, lr_logit_opacities=0.15, lr_sh=3e-2,
    ),
)  # fmt: skip


@cache
def views() -> tuple[RegistrationView, ...]:
    """Sixteen pictures of 64 px from all around, on a gray ground that the masks leave out."""
    ref = reference()
    out = sphere_views(ref.gaussians, 16, ref.box.mean(0), 0.4)
    return tuple(
        replace(v, color=np.where(np.asarray(v.mask)[..., None], v.color, 110).astype(np.uint8))
        for v in out
    )


def without_depth() -> list[RegistrationView]:
    return [replace(v, depth=None) for v in views()]


@cache
def registered(with_depth: bool) -> ObjectReference:
    return register('tower', views() if with_depth else without_depth(), QUICK)


@pytest.mark.parametrize('with_depth', [True, False])
def test_size_and_appearance_are_those_of_the_object(with_depth: bool) -> None:
    truth, found = reference(), registered(with_depth)
    assert found.object_id == 'tower'
    assert found.diameter_m == pytest.approx(truth.diameter_m, rel=0.08)
    assert np.abs(found.box - truth.box).max() < 0.007
    assert found.facts['psnr_heldout_db'] > (22 if with_depth else 20)
    assert found.facts['views'] == 16
    assert found.facts['views_heldout'] == 3
    assert found.facts['with_depth'] == with_depth
    # The splat seen from where no picture was taken.
    view = sphere_views(truth.gaussians, 7, truth.box.mean(0), 0.4)[3]
    color, alpha, _ = picture(found.gaussians, view.camera, view.T_cam_obj)
    assert view.mask is not None
    assert ((alpha > 0.5) == view.mask).mean() > 0.95
    both = (alpha > 0.9) & view.mask
    assert np.abs(color - view.color / 255)[both].mean() < 0.08


def test_reference_views_have_the_object_in_their_middle() -> None:
    found = registered(True)
    assert found.views.color.shape == (16, 56, 56, 3)
    assert np.array_equal(found.views.T_cam_obj, np.stack([v.T_cam_obj for v in views()]))
    for T, (fx, fy, cx, cy), color, mask in zip(
        found.views.T_cam_obj, found.views.intrinsics, found.views.color, found.views.mask,
        strict=True,
    ):  # fmt: skip
        p = se3.transform(T, found.box.mean(0)[None])[0]
        middle = np.array([fx, fy]) * p[:2] / p[2] + [cx, cy]
        assert np.abs(middle - 27.5).max() < 3
        # The whole object fits, and beside it there is nothing.
        assert 0.15 < (mask > 127).mean() < 0.8
        assert color[mask == 0].size > 0
        assert (color[mask == 0] == 0).all()


def test_an_object_survives_the_disk(tmp_path: Path) -> None:
    database = ObjectDatabase(tmp_path)
    database.save(registered(True))
    loaded = database.load('tower')
    assert loaded.diameter_m == registered(True).diameter_m
    assert len(loaded.gaussians) == len(registered(True).gaussians)


def test_a_given_box_bounds_the_object() -> None:
    # The upper half only, as a user may want it.
    settings = replace(QUICK, box=((-0.1, -0.1, 0.025), (0.1, 0.1, 0.1)), final_iterations=0)
    settings = replace(settings, fitting=replace(QUICK.fitting, iterations=1))
    for given in (list(views()), without_depth()):
        found = register('top', given, settings)
        assert found.box[0, 2] > 0.02
        assert found.box[1, 2] == pytest.approx(0.075, abs=0.008)


def test_a_box_beside_the_object_is_refused() -> None:
    beside = replace(QUICK, box=((0.2, 0.2, 0.2), (0.3, 0.3, 0.3)))
    for given in (list(views()), without_depth()):
        with pytest.raises(GsPoseError, match='tower'):
            register('tower', given, beside)


def test_depth_can_be_left_aside() -> None:
    settings = replace(QUICK, use_depth=False, final_iterations=0)
    settings = replace(settings, fitting=replace(QUICK.fitting, iterations=1))
    assert register('tower', views(), settings).facts['with_depth'] == 0


def test_progress_runs_from_zero_to_one() -> None:
    seen: list[RegistrationProgress] = []
    settings = replace(QUICK, fitting=replace(QUICK.fitting, iterations=26), final_iterations=26)
    register('tower', views(), settings, seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert fractions == sorted(fractions)
    assert list(dict.fromkeys(p.stage for p in seen)) == ['geometry', 'fitting', 'final']


@pytest.mark.parametrize('calls', [0, 1, 2, 20, 54])
def test_cancelling_ends_it_at_any_time(calls: int) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > calls

    with pytest.raises(RegistrationCancelled, match='tower'):
        register('tower', views(), QUICK, cancelled=cancelled)
    assert asked <= calls + 3


def test_views_that_hardly_show_the_object_are_dropped() -> None:
    empty = replace(views()[0], mask=np.zeros((64, 64), bool))
    settings = replace(QUICK, fitting=replace(QUICK.fitting, iterations=1), final_iterations=0)
    assert register('tower', [empty, *views()], settings).facts['views'] == 16


def test_too_few_views_are_refused() -> None:
    with pytest.raises(GsPoseError, match='tower: 3 of 3 views'):
        register('tower', views()[:3], QUICK)
    empty = [replace(v, mask=np.zeros((64, 64), bool)) for v in views()]
    with pytest.raises(GsPoseError, match='tower: 0 of 16 views'):
        register('tower', empty, QUICK)
    with pytest.raises(GsPoseError, match='0 of 0'):
        register('tower', [], QUICK)


def without_mask(view: RegistrationView) -> RegistrationView:
    return replace(view, mask=None)


def scaled(view: RegistrationView) -> RegistrationView:
    T = view.T_cam_obj.copy()
    T[:3, :3] *= 1.1
    return replace(view, T_cam_obj=T)


def not_a_number(view: RegistrationView) -> RegistrationView:
    return replace(view, T_cam_obj=np.full((4, 4), np.nan))


@pytest.mark.parametrize(
    ('spoil', 'reason'),
    [(without_mask, 'mask'), (scaled, 'not rigid'), (not_a_number, 'not rigid')],
)
def test_an_impossible_view_is_named(
    spoil: Callable[[RegistrationView], RegistrationView], reason: str
) -> None:
    with pytest.raises(GsPoseError, match=reason):
        register('tower', [*views()[:-1], spoil(views()[-1])], QUICK)


@pytest.mark.parametrize('with_depth', [True, False])
def test_inverted_poses_are_refused(with_depth: bool) -> None:
    given = views() if with_depth else without_depth()
    wrong = [replace(v, T_cam_obj=se3.inverse(v.T_cam_obj)) for v in given]
    with pytest.raises(GsPoseError):
        register('tower', wrong, QUICK)


def test_masks_that_contradict_the_poses_are_refused() -> None:
    r = np.random.default_rng(0)
    wrong = []
    for view in without_depth():
        mask = np.zeros((64, 64), bool)
        x, y = r.integers(0, 52, 2)
        mask[y : y + 12, x : x + 12] = True
        wrong.append(replace(view, mask=mask))
    with pytest.raises(GsPoseError, match='contradict'):
        register('tower', wrong, QUICK)


def test_masks_without_depth_inside_are_refused() -> None:
    blind = [replace(v, depth=np.zeros((64, 64), np.float32)) for v in views()]
    with pytest.raises(GsPoseError, match='depth pixels'):
        register('tower', blind, QUICK)


def test_a_reference_is_assembled_from_any_splat_and_crops() -> None:
    fit = fit_splat('tower', views(), QUICK)
    made = assemble_reference('spire', fit.splat, fit.crops[:5], {'source': 'a tracker'})
    assert made.object_id == 'spire'
    assert made.gaussians is fit.splat.gaussians
    assert made.diameter_m == fit.splat.diameter_m
    assert len(made.views.T_cam_obj) == len(made.views.mask) == 5
    assert made.facts == {'source': 'a tracker'}
    whole = registered(with_depth=True)
    np.testing.assert_array_equal(made.views.color, whole.views.color[:5])
    np.testing.assert_array_equal(made.views.intrinsics, whole.views.intrinsics[:5])
