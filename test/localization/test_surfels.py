"""Points into flat Gaussians and back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.gaussians import SH_C0, Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.surfels import SurfelSettings, oriented_points, surfels
from gs_pose_ros.localization.voxel_cloud import FusionSettings, OrientedPoints, VoxelCloud

from .room import plane_frame

SLANTED = (0.5, -0.3, -1.0)
SETTINGS = SurfelSettings()


def grid(normal: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points [400, 3] 1 cm apart on a quarter of the plane through 0, beginning at its edge."""
    down = np.cross(normal, across)
    i, j = np.mgrid[:20, :20].reshape(2, -1, 1) * 0.01
    return (i + 0.005) * across + j * down


def cloud_of(points: NDArray[np.float64], normals: NDArray[np.float64]) -> OrientedPoints:
    rng = np.random.default_rng(1)
    return OrientedPoints(
        points, rng.uniform(size=points.shape), normals, np.full(len(points), 0.01)
    )


def thin_axes(gaussians: Gaussians) -> NDArray[np.float64]:
    R = np.stack([se3.quat_to_mat(q) for q in gaussians.quats.double().numpy()])
    assert (gaussians.scales.numpy().argmin(1) == 0).all()
    return R[:, :, 0]


def test_the_thin_axes_of_a_noisy_plane_are_its_normal() -> None:
    n = np.array(SLANTED) / np.linalg.norm(SLANTED)
    cloud = VoxelCloud(FusionSettings(voxel_m=0.01))
    for seed in range(3):
        cloud.add(plane_frame(SLANTED, 1.5, noise_m=0.002, seed=seed), np.eye(4))
    points = cloud.points()
    gaussians = surfels(points, SETTINGS)
    scales = gaussians.scales.numpy()
    assert (scales[:, 0] < 0.1 * scales[:, 1]).mean() > 0.999
    off = np.degrees(np.arccos(np.abs(thin_axes(gaussians) @ n).clip(0, 1)))
    # At the rim of the picture a normal rests on a quarter of the pixels.
    inside = np.abs(points.points[:, :2] / points.points[:, 2:]).max(1) < 0.4
    assert off[inside].max() < 2
    assert np.median(off) < 0.5
    # And they lie closer to it than the points.
    before, after = (p @ n + 1.5 for p in (points.points, gaussians.means.numpy()))
    assert np.std(after) < 0.8 * np.std(before)


def test_an_edge_stays_sharp() -> None:
    x, _, z = np.eye(3)
    floor, wall = grid(z, x), grid(x, z)
    wall[:, 1] *= -1  # on the side of the floor
    normals = np.repeat([z, x], 400, 0)
    means = surfels(cloud_of(np.concatenate([floor, wall]), normals), SETTINGS).means.numpy()
    np.testing.assert_allclose(means[:400, 2], 0, atol=1e-7)
    np.testing.assert_allclose(means[400:, 0], 0, atol=1e-7)


def test_two_sides_of_a_thin_sheet_keep_apart() -> None:
    x, _, z = np.eye(3)
    top, bottom = grid(z, x) + 0.002 * z, grid(z, x) - 0.002 * z
    normals = np.repeat([z, -z], 400, 0)
    means = surfels(cloud_of(np.concatenate([top, bottom]), normals), SETTINGS).means.numpy()
    np.testing.assert_allclose(means[:400, 2], 0.002, atol=1e-7)
    np.testing.assert_allclose(means[400:, 2], -0.002, atol=1e-7)


def test_a_gaussian_is_as_wide_as_the_points_are_apart() -> None:
    x, _, z = np.eye(3)
    cloud = cloud_of(grid(z, x), np.tile(z, (400, 1)))
    scales = surfels(cloud, SETTINGS).scales.numpy()
    inner = (np.abs(cloud.points[:, :2] - [0.105, 0.095]) < 0.08).all(1)
    np.testing.assert_allclose(scales[inner, 1:], 0.005, rtol=1e-5)
    np.testing.assert_allclose(scales[:, 0], 0.03 * scales[:, 1], rtol=1e-5)
    # A sensor that measures twice as coarsely leaves no gaps.
    coarse = surfels(cloud._replace(reach_m=np.full(400, 0.02)), SETTINGS).scales.numpy()
    np.testing.assert_allclose(coarse[inner, 1:], 0.01, rtol=1e-5)


def test_points_without_a_normal_become_balls_where_they_are() -> None:
    x, _, z = np.eye(3)
    cloud = cloud_of(grid(z, x), np.zeros((400, 3)))
    gaussians = surfels(cloud, SETTINGS)
    np.testing.assert_allclose(gaussians.means.numpy(), cloud.points, atol=1e-7)
    np.testing.assert_allclose(*gaussians.scales.numpy().T[:2])
    assert not oriented_points(gaussians).normals.any()


@pytest.mark.parametrize(
    'normal', [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, -1), (0.5, -0.7, 0.3), (-1, 1e-9, 0)]
)
def test_oriented_points_are_those_that_surfels_took(normal: tuple[float, float, float]) -> None:
    n = np.array(normal) / np.linalg.norm(normal)
    across = np.cross(n, [0.3, 0.5, 0.8])
    across /= np.linalg.norm(across)
    cloud = cloud_of(grid(n, across), np.tile(n, (400, 1)))
    gaussians = surfels(cloud, SETTINGS)
    back = oriented_points(gaussians)
    np.testing.assert_allclose(back.points, cloud.points, atol=1e-6)
    np.testing.assert_allclose(back.colors, cloud.colors, atol=1e-6)
    np.testing.assert_allclose(back.normals * np.sign(back.normals @ n)[:, None], cloud.normals,
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(thin_axes(gaussians), back.normals, atol=1e-6)
    np.testing.assert_allclose(back.reach_m, gaussians.scales.numpy()[:, 1], rtol=1e-6)


def test_colours_are_those_of_the_points() -> None:
    x, _, z = np.eye(3)
    cloud = cloud_of(grid(z, x), np.tile(z, (400, 1)))
    shown = surfels(cloud, SETTINGS).sh[:, 0].numpy() * SH_C0 + 0.5
    np.testing.assert_allclose(shown, cloud.colors, atol=1e-6)


@pytest.mark.parametrize('count', [0, 1, 2, 3])
@pytest.mark.parametrize('known', [True, False])
def test_so_few_points_become_as_many_gaussians(count: int, known: bool) -> None:
    points = np.arange(3 * count, dtype=float).reshape(count, 3)
    cloud = cloud_of(points, np.tile([0.0, 0, known], (count, 1)))
    gaussians = surfels(cloud, SETTINGS)
    assert len(gaussians) == count
    gaussians.check_finite('few points')
    np.testing.assert_allclose(gaussians.means.numpy()[:, :2], points[:, :2], atol=1e-6)


def test_points_on_one_spot_have_a_width_nevertheless() -> None:
    cloud = cloud_of(np.zeros((5, 3)), np.tile([0.0, 0, 1], (5, 1)))
    gaussians = surfels(cloud._replace(reach_m=np.zeros(5)), SETTINGS)
    gaussians.check_finite('one spot')
    assert (gaussians.scales.numpy() > 0).all()
