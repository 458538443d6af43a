"""Colours that are fitted to pictures; geometry that stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gs_pose_ros.gaussians import SH_C0
from gs_pose_ros.localization.map_builder import MapBuilder, MapSettings
from gs_pose_ros.localization.polishing import MapPictures, polished
from gs_pose_ros.localization.voxel_cloud import FusionSettings

from .room import AIM, CAMERA, camera_pose, scene_map, view

SETTINGS = MapSettings(fusion=FusionSettings(voxel_m=0.03))
POSES = [camera_pose((-1.0, -0.6 + 0.15 * k, 1.2), AIM) for k in range(9)]
SEEN = [(view(T, CAMERA.scaled(0.5)), T) for T in POSES]


def pictures(count: int = len(POSES)) -> MapPictures:
    out = MapPictures()
    for frame, T in SEEN[:count]:
        out.add(frame, T)
    return out


def test_gray_walls_get_their_colors_back_and_stay_where_they_are() -> None:
    right = scene_map(0.03).gaussians
    gray = replace(right, sh=torch.zeros_like(right.sh))
    got = polished(gray, pictures().kept, 30)
    assert got.after_db > got.before_db + 2
    for name in ('means', 'quats', 'log_scales', 'logit_opacities'):
        assert torch.equal(getattr(got.gaussians, name), getattr(right, name))
    assert got.gaussians.sh.abs().max() <= 0.5 / SH_C0 + 1e-6
    assert not gray.sh.any()  # the given ones are not changed


def test_what_is_kept_back_is_not_learnt() -> None:
    kept = pictures().kept
    wrong = replace(kept[7], color=255 - kept[7].color)
    gray = replace(scene_map(0.03).gaussians, sh=torch.zeros(len(scene_map(0.03)), 1, 3))
    with_wrong = polished(gray, [*kept[:7], wrong, *kept[8:]], 20)
    # It fits the negative less the better it fits the others: all stays as it was.
    assert with_wrong.gaussians is gray
    assert with_wrong.after_db == with_wrong.before_db


def test_colors_of_a_map_get_nearer_to_the_pictures() -> None:
    plain, fitted = MapBuilder(SETTINGS), MapBuilder(replace(SETTINGS, polish_steps=40))
    for frame, T in SEEN:
        assert plain.add(frame, T) and fitted.add(frame, T)
    before, after = plain.build(), fitted.build()
    assert float(after.facts['psnr_after_db']) > float(after.facts['psnr_before_db']) + 0.5
    assert 'psnr_after_db' not in before.facts
    assert torch.equal(before.scene.gaussians.means, after.scene.gaussians.means)
    assert not torch.equal(before.scene.gaussians.sh, after.scene.gaussians.sh)
    # Coarse levels are made of the new colours.
    coarse = [m.scene.levels[1].gaussians.sh for m in (before, after)]
    assert not torch.equal(*coarse)


def test_few_pictures_are_all_used() -> None:
    builder = MapBuilder(replace(SETTINGS, polish_steps=2))
    builder.add(*SEEN[0])
    assert 'psnr_before_db' not in builder.build().facts


@pytest.mark.parametrize(('count', 'kept'), [(100, 100), (101, 51), (199, 100), (1000, 63)])
def test_pictures_are_few_and_spread(count: int, kept: int) -> None:
    frame, _ = SEEN[0]
    out = MapPictures()
    for k in range(count):
        T = np.eye(4)
        T[0, 3] = -k
        out.add(frame, T)
    places = np.array([p.T_cam_map[0, 3] for p in out.kept])
    assert len(places) == kept
    assert places[0] == 0
    assert len(set(np.diff(places))) == 1
    assert places[-1] > count - 1 - np.diff(places)[0]


def test_pictures_are_small() -> None:
    frame = view(POSES[0], CAMERA.scaled(4))
    out = MapPictures()
    out.add(frame, POSES[0])
    (picture,) = out.kept
    assert picture.color.shape == (240, 320, 3)
    assert picture.camera == CAMERA.scaled(2)
    exact = view(POSES[0], picture.camera)
    assert np.median(np.abs(picture.depth - np.asarray(exact.depth))) < 0.005
    assert np.abs(picture.color / 255 - exact.color)[0].mean() < 0.05  # no border is dark
