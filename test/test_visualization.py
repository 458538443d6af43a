"""What an overlay must show, and what it must survive."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews
from gs_pose_ros.visualization import (
    AXES,
    GRAY,
    OverlayObject,
    draw_overlay,
    draw_rendering,
    splat_outline,
)

CAMERA = Camera(300.0, 300.0, 159.5, 119.5, 320, 240)
BOX = np.array([[-0.05, -0.04, -0.03], [0.05, 0.04, 0.03]])
AHEAD = se3.exp([0.02, -0.01, 0.6, 0.4, -0.3, 0.2])
DARK = np.full((240, 320, 3), 20, np.uint8)


def near(picture: np.ndarray, pixel: np.ndarray, radius: int = 2) -> np.ndarray:
    """The pixels round a place [n, n, 3], as int."""
    u, v = np.rint(pixel).astype(int)
    return picture[v - radius : v + radius + 1, u - radius : u + radius + 1].astype(int)


def sphere(radius: float) -> ObjectReference:
    """An object whose splat is a sphere's surface."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3000, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    gaussians = Gaussians.from_points(points, np.full_like(points, 0.5), 0.003, 0.9, 0)
    views = ReferenceViews(
        np.zeros((0, 4, 4)),
        np.zeros((0, 4)),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 8), np.uint8),
    )
    box = np.array([[-radius] * 3, [radius] * 3])
    return ObjectReference('ball', views, gaussians=gaussians, diameter_m=2 * radius, box=box)


def test_nothing_to_draw_gives_a_copy_of_the_picture() -> None:
    out = draw_overlay(DARK, CAMERA, [])
    np.testing.assert_array_equal(out, DARK)
    assert out is not DARK and not np.shares_memory(out, DARK)


def test_float_and_uint8_pictures_give_the_same() -> None:
    item = OverlayObject('box', AHEAD, BOX)
    as_float = DARK.astype(np.float32) / 255
    np.testing.assert_array_equal(
        draw_overlay(DARK, CAMERA, [item]), draw_overlay(as_float, CAMERA, [item])
    )


@pytest.mark.parametrize('axis', range(3))
def test_axis_tips_are_drawn_where_they_project(axis: int) -> None:
    picture = draw_overlay(DARK, CAMERA, [OverlayObject('', AHEAD, BOX)])
    # Two thirds along the axis: the label and the other axes are elsewhere.
    point = se3.transform(AHEAD, np.eye(3)[axis : axis + 1] * 0.05 * 0.66)[0]
    distance = np.abs(near(picture, CAMERA.project(point)) - AXES[axis]).sum(-1).min()
    assert distance < 40


def test_every_box_corner_is_drawn_where_it_projects() -> None:
    picture = draw_overlay(DARK, CAMERA, [OverlayObject('', AHEAD, BOX)])
    for k in range(8):
        corner = np.array([BOX[(k >> axis) & 1, axis] for axis in range(3)])
        pixel = CAMERA.project(se3.transform(AHEAD, corner[None])[0])
        assert near(picture, pixel).max() > 100, f'corner {k} is missing'


def test_mask_is_tinted_and_the_rest_untouched() -> None:
    mask = np.zeros(CAMERA.shape, bool)
    mask[100:140, 150:200] = True
    picture = draw_overlay(DARK, CAMERA, [OverlayObject('', None, None, mask)])
    assert (picture[mask].astype(int).max(1) > 60).all()
    np.testing.assert_array_equal(picture[~mask], DARK[~mask])


def test_lost_objects_are_gray() -> None:
    picture = draw_overlay(DARK, CAMERA, [OverlayObject('', AHEAD, BOX, None, 'lost')])
    corner = CAMERA.project(se3.transform(AHEAD, BOX[:1])[0])
    assert np.abs(near(picture, corner) - GRAY).sum(-1).min() < 60


@pytest.mark.parametrize(
    'T_cam_obj',
    [
        se3.exp([0, 0, -0.6, 0, 0, 0]),  # behind the camera
        se3.exp([0, 0, 0.02, 0.3, 0, 0]),  # the camera is inside the box
        se3.exp([0, 0, 0, 0, 0, 0]),  # at the camera's centre
        se3.exp([1e6, 0, 0.011, 0, 0, 0]),  # projects beyond 32 bit
        np.full((4, 4), np.nan),
    ],
    ids=['behind', 'inside', 'centre', 'far aside', 'nan'],
)
def test_poses_that_cannot_be_projected_do_no_harm(T_cam_obj: np.ndarray) -> None:
    for shape in (BOX, None, sphere(0.04)):
        out = draw_overlay(DARK, CAMERA, [OverlayObject('x', T_cam_obj, shape, None, 'tracked')])
        assert out.shape == DARK.shape and out.dtype == np.uint8


def test_outline_follows_the_projected_sphere() -> None:
    contours = splat_outline(sphere(0.05), CAMERA, se3.exp([0, 0, 0.5, 0, 0, 0]))
    outline = np.concatenate(contours)[:, 0]
    radii = np.linalg.norm(outline - [CAMERA.cx, CAMERA.cy], axis=1)
    # The limb of a sphere: tan(asin(r / d)) * f.
    assert abs(np.median(radii) - 300 * np.tan(np.arcsin(0.1))) < 1.5


def test_outline_of_transparent_or_hidden_splats_is_empty() -> None:
    ball = sphere(0.05)
    assert splat_outline(ball, CAMERA, se3.exp([0, 0, -0.5, 0, 0, 0])) in ([], ())
    clear = Gaussians(
        ball.gaussians.means,
        ball.gaussians.quats,
        ball.gaussians.log_scales,
        torch.full_like(ball.gaussians.logit_opacities, -5.0),
        ball.gaussians.sh,
    )
    hidden = ObjectReference('ball', ball.views, gaussians=clear, diameter_m=0.1, box=ball.box)
    assert splat_outline(hidden, CAMERA, se3.exp([0, 0, 0.5, 0, 0, 0])) in ([], ())


def test_objects_of_different_labels_get_different_colors() -> None:
    left, right = (se3.exp([x, 0, 0.6, 0, 0, 0]) for x in (-0.12, 0.12))
    picture = draw_overlay(
        DARK, CAMERA, [OverlayObject('a', left, BOX), OverlayObject('b', right, BOX)]
    )
    pixels = [CAMERA.project(T[:3, 3] + BOX[1] * [1, 1, -1]) for T in (left, right)]
    strongest = [near(picture, p).reshape(-1, 3).max(0) for p in pixels]
    assert np.abs(strongest[0] - strongest[1]).sum() > 60


def test_color_of_an_object_depends_neither_on_its_score_nor_on_others() -> None:
    def corner_color(*objects: OverlayObject) -> np.ndarray:
        picture = draw_overlay(DARK, CAMERA, objects)
        return (
            near(picture, CAMERA.project(se3.transform(AHEAD, BOX[:1])[0])).reshape(-1, 3).max(0)
        )

    other = OverlayObject('cup 0.9', se3.exp([-0.15, 0, 0.6, 0, 0, 0]), BOX)
    alone = corner_color(OverlayObject('mug 0.81', AHEAD, BOX))
    np.testing.assert_array_equal(alone, corner_color(OverlayObject('mug 0.79', AHEAD, BOX)))
    np.testing.assert_array_equal(
        alone, corner_color(other, OverlayObject('mug 0.81', AHEAD, BOX))
    )


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match='color must be'):
        draw_overlay(DARK[:100], CAMERA, [])
    with pytest.raises(ValueError, match="mask of 'mug'"):
        draw_overlay(DARK, CAMERA, [OverlayObject('mug', None, None, np.zeros((5, 5), bool))])


def test_labels_stay_inside_the_picture() -> None:
    corner = se3.exp([0.45, 0.3, 0.6, 0, 0, 0])  # projects beyond the lower right corner
    picture = draw_overlay(
        DARK, CAMERA, [OverlayObject('a long label', corner, None, None, 'tracked')]
    )
    assert (picture != DARK).any()


def ball(color: tuple[float, float, float]) -> Gaussians:
    points = sphere(0.05).gaussians.means.numpy()
    return Gaussians.from_points(points, np.tile(color, (len(points), 1)), 0.003, 0.9, 0)


def at(x: float, z: float) -> np.ndarray:
    return se3.exp([x, 0, z, 0, 0, 0])


def test_renderings_hide_each_other_whatever_their_order() -> None:
    red, green = (ball((0.8, 0.1, 0.1)), at(0, 0.5)), (ball((0.1, 0.8, 0.1)), at(0.06, 0.7))
    one, two = (draw_rendering(DARK, CAMERA, pair) for pair in ([red, green], [green, red]))
    assert np.abs(one.astype(int) - two).max() <= 1
    both = CAMERA.project(np.array([0.03, 0, 0.7]))  # the red one is before it
    assert near(one, both)[..., 0].min() > 150
    beside = CAMERA.project(np.array([0.09, 0, 0.7]))
    assert near(one, beside, 1)[..., 1].min() > 150


def test_around_a_rendering_the_picture_is_gray_and_dark() -> None:
    picture = np.zeros((240, 320, 3), np.float32)
    picture[..., 0] = 0.6
    out = draw_rendering(picture, CAMERA, [(ball((0.1, 0.8, 0.1)), at(0, 0.5))])
    np.testing.assert_array_equal(out[:5], np.full((5, 320, 3), round(255 * 0.1)))
    np.testing.assert_array_equal(draw_rendering(picture, CAMERA, [])[:5], out[:5])


def test_a_rendering_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match='color must be'):
        draw_rendering(DARK[:100], CAMERA, [])
