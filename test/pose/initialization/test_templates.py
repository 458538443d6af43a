"""Templates: where they are anchored, what their features mean, and how they turn."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.pose.initialization.templates import (
    TemplateSettings,
    cached_views,
    cell_offsets,
    color_features,
    depth_features,
    fibonacci_rotations,
    gradient_features,
    render_views,
    surface_normals,
    template_bank,
)
from test.synthetic import picture, reference

SETTINGS = TemplateSettings(viewpoints=12, in_plane=8, cells=10)


def test_viewpoints_cover_the_sphere_evenly() -> None:
    R = fibonacci_rotations(100)
    assert np.allclose(R @ R.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(R), 1)
    rays = R[:, 2]
    nearest = np.sort(rays @ rays.T, axis=1)[:, -2]
    # 100 even caps have neighbours about 21 degrees apart.
    assert np.degrees(np.arccos(nearest)).min() > 15
    r = np.random.default_rng(0).normal(size=(500, 3))
    r /= np.linalg.norm(r, axis=1, keepdims=True)
    assert np.degrees(np.arccos((r @ rays.T).max(1))).max() < 20


def test_viewpoints_are_upright() -> None:
    # The image's x axis is level in the object's frame.
    assert np.allclose(fibonacci_rotations(20)[:, 0, 2], 0, atol=1e-12)


def test_rendered_views_are_pictures_of_the_object() -> None:
    ref = reference()
    views = render_views(ref, 5, 48)
    assert views.mask.shape == (5, 48, 48)
    for color, depth, mask in zip(views.color, views.depth, views.mask, strict=True):
        assert 0.1 < mask.mean() < 0.8
        assert np.isnan(depth[~mask]).all()
        assert np.abs(depth[mask]).max() < 0.6
        assert (color[~mask] == 0).all()
        # Nothing of the object is cut off.
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()


def test_anchor_and_centre_of_every_template_agree() -> None:
    """The anchor lies on the visible surface when the box centre is where the template says."""
    ref = reference()
    bank = template_bank(ref, SETTINGS)
    camera = Camera(400.0, 400.0, 47.5, 47.5, 96, 96)
    center = np.array([0, 0, 5 * ref.diameter_m])
    errors = []
    for R, from_anchor in list(zip(bank.R_cam_obj, bank.center_from_anchor, strict=True))[::5]:
        T = se3.from_rotation_translation(R, center - R @ ref.box.mean(0))
        _, alpha, depth = picture(ref.gaussians, camera, T)
        anchor = center - ref.diameter_m * from_anchor
        u, v = np.round(camera.project(anchor)).astype(int)
        assert alpha[v, u] > 0.9
        errors.append(abs(depth[v, u] - anchor[2]))
    assert len(errors) >= 19
    # A pixel of the views is 1.7 % of the diameter, perspective moves the anchor by as much again.
    assert np.median(errors) < 0.03 * ref.diameter_m
    assert max(errors) < 0.12 * ref.diameter_m


@pytest.mark.parametrize('with_depth', [True, False])
def test_a_template_is_most_similar_to_itself_and_its_neighbours(with_depth: bool) -> None:
    settings = replace(SETTINGS, with_depth=with_depth, in_plane=24)
    bank = template_bank(reference(), settings)
    unit = bank.codes / np.linalg.norm(bank.codes, axis=1, keepdims=True)
    similarity = unit @ unit.T
    angles = np.degrees(se3.rotation_angle(bank.R_cam_obj[:, None], bank.R_cam_obj[None]))
    for row, angle in zip(similarity[::17], angles[::17], strict=True):
        near, far = (angle > 1) & (angle < 16), angle > 60
        assert row[near].max() > row[far].max()


@pytest.mark.parametrize('with_depth', [True, False])
def test_templates_turn_in_the_plane_as_pictures_do(with_depth: bool) -> None:
    """A quarter turn of a template permutes its cells and turns its directions."""
    settings = replace(SETTINGS, with_depth=with_depth, in_plane=4, rank=1000)
    bank = template_bank(reference(), settings)
    cells = settings.cells
    features = bank.codes @ bank.basis.T
    upright = features[0::4].reshape(-1, cells, cells, features.shape[1] // cells**2)
    turned = features[1::4].reshape(upright.shape)
    R, R_turned = bank.R_cam_obj[0::4], bank.R_cam_obj[1::4]
    assert np.allclose(R_turned, se3.exp([0, 0, 0, 0, 0, np.pi / 2])[:3, :3] @ R)
    # x to y, y to -x: the picture turns clockwise on the screen, where y points down.
    expected = np.rot90(upright, -1, axes=(1, 2)).copy()
    if with_depth:  # geometry: 4 waves of depth, then the normal
        x, y = expected[..., 4].copy(), expected[..., 5].copy()
        expected[..., 4], expected[..., 5] = -y, x
    else:  # colour: 6, then the doubled angle of the gradient, which a quarter turn negates
        expected[..., 6:8] *= -1
    # Rounding to pixels differs at the outline.
    same = np.isclose(turned, expected, atol=0.02 * np.abs(expected).max()).all(-1)
    assert same.mean() > 0.9


def test_similarities_in_few_directions_order_templates_as_all_do() -> None:
    exact, few = (template_bank(reference(), replace(SETTINGS, rank=rank)) for rank in (1000, 64))
    features = exact.codes @ exact.basis.T
    expected, got = features @ features.T, few.similarity(features).numpy()
    assert few.codes.shape[1] == 64
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > 0.98
    chosen = np.take_along_axis(expected, got.argmax(1)[:, None], 1)[:, 0]
    assert (chosen > 0.95 * expected.max(1)).mean() > 0.9


def test_surface_normals_of_a_plane_point_to_the_camera() -> None:
    camera = Camera(80.0, 75.0, 15.2, 11.7, 32, 24)
    v, u = np.mgrid[:24, :32]
    rays = camera.back_project(np.stack([u, v], -1), np.ones(camera.shape))
    normal = np.array([0.3, -0.4, -0.866])
    normal /= np.linalg.norm(normal)
    depth = (normal @ [0.05, 0.02, 0.6]) / (rays @ normal)
    depth[10, 10] = 0
    normals = surface_normals(camera.point_map(depth), 2)
    known = np.abs(normals).sum(-1) > 0
    assert np.allclose(normals[known], normal, atol=1e-3)
    # Missing: two pixels at the border, and the neighbours of the hole.
    assert known[2:-2, 2:-2].sum() == 20 * 28 - 4
    assert not known[:2].any()
    assert not known[[8, 12, 10, 10], [10, 10, 8, 12]].any()


def test_gradients_have_a_direction_but_no_sign() -> None:
    x, y = np.meshgrid(np.arange(24), np.arange(24))
    for angle in (0.0, 0.6, 1.9):
        ramp = ((np.cos(angle) * x + np.sin(angle) * y) / 60 + 0.5).astype(np.float32)
        for picture_ in (ramp, 1 - ramp):
            features = gradient_features(np.repeat(picture_[..., None], 3, -1), 2)[4:-4, 4:-4]
            length = np.linalg.norm(features, axis=-1)
            assert length.min() > 0.4
            direction = features / length[..., None]
            assert np.allclose(direction, [np.cos(2 * angle), np.sin(2 * angle)], atol=1e-3)
    assert np.abs(gradient_features(np.full((9, 9, 3), 0.5, np.float32), 2)).max() == 0


def test_equal_colours_are_most_similar() -> None:
    r = np.random.default_rng(0)
    colors = r.uniform(0, 1, (40, 3)).astype(np.float32)
    features = color_features(colors)
    similarity = features @ features.T
    assert np.allclose(np.diag(similarity), 3, atol=1e-5)
    assert (similarity.argmax(1) == np.arange(40)).all()
    # Half the light changes less than another hue.
    red, dark, blue = color_features(
        np.array([[0.8, 0.3, 0.3], [0.4, 0.15, 0.15], [0.3, 0.3, 0.8]], np.float32)
    )
    assert red @ dark > red @ blue


def test_unknown_depth_has_no_opinion() -> None:
    depth = np.array([0.1, np.nan], np.float32)
    features = depth_features(depth, np.array([[0, 0, -1]] * 2, np.float32))
    assert np.abs(features[1]).max() == 0
    assert features[0] @ features[0] == pytest.approx(3)


def test_cells_are_centred_on_the_anchor() -> None:
    offsets = cell_offsets(4, 1.2)
    assert np.allclose(offsets.mean(0), 0, atol=1e-7)
    assert np.allclose(np.ptp(offsets, axis=0), 0.9)


def test_templates_are_made_once_and_go_with_their_object() -> None:
    ref = replace(reference(), gaussians=reference().gaussians[:])
    bank = template_bank(ref, SETTINGS)
    assert template_bank(ref, SETTINGS) is bank
    assert cached_views(ref, SETTINGS.viewpoints) is cached_views(ref, SETTINGS.viewpoints)
    assert template_bank(ref, replace(SETTINGS, cells=8)) is not bank
    ghosts = [weakref.ref(x) for x in (ref.gaussians, bank)]
    del ref, bank
    gc.collect()
    assert [ghost() for ghost in ghosts] == [None, None]
