"""The kernel that compares map and picture, against the same in a few readable lines."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from gs_pose_ros.localization.observation import DEPTH, DU, DV, GRAY
from gs_pose_ros.localization.scene_comparison import compare

from .scene_reference import Comparison, Scales, compared

GAIN, OFFSET = 0.8, 0.1
SCALES = Scales()


def random_scene(width: int, height: int, seed: int, scales: Scales = SCALES) -> Comparison:
    """A slanted, bumpy surface with an edge in it; holes and foreign things in map and picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    z = 1.5 + 0.004 * x - 0.003 * y + 0.01 * np.sin(0.9 * x) + 0.01 * np.cos(0.7 * y)
    z += 0.5 * (x + 0.3 * y > 0.6 * width)
    image = np.empty((height, 5, width))
    image[:, :3] = rng.uniform(0.2, 0.8, image[:, :3].shape)
    alpha = rng.uniform(0.9, 1, z.shape)
    alpha[rng.uniform(size=z.shape) < 0.05] = 0.3
    image[:, 3], image[:, 4] = z, 1
    image *= alpha[:, None]

    seen = np.zeros((height, width, 4))
    seen[..., DEPTH] = z + rng.normal(0, 0.02, z.shape)
    seen[rng.uniform(size=z.shape) < 0.05, DEPTH] = 0
    seen[rng.uniform(size=z.shape) < 0.05, DEPTH] -= 0.3
    seen[..., DU], seen[..., DV] = rng.uniform(-0.4, 0.4, (2, *z.shape))
    seen[..., GRAY] = rng.uniform(0.2, 0.8, z.shape)
    K = np.array([60.0, 50.0, 0.4 * width, 0.6 * height])
    center = np.array([0.1, -0.2, 1.6])
    image, seen = image.astype(np.float32), seen.astype(np.float32)
    return Comparison(image, seen, K, center, scales, GAIN, OFFSET)


def by_kernel(c: Comparison, n: int) -> tuple[np.ndarray, ...]:
    """H [n, 6, 6], gradients [n, n, 6], sums [n, 3], residuals [h, w]."""
    H, gradients, sums = np.empty((n, 6, 6)), np.empty((n, n, 6)), np.empty((n, 3))
    residuals = np.full(c.seen.shape[:2], np.nan, np.float32)
    numbers = c.K, c.center, astuple(c.scales), (c.gain, c.offset)
    single = (tuple(np.float32(values)) for values in numbers)
    compare(c.image, c.seen, *single, residuals, H, gradients, sums)
    return H, gradients, sums, residuals


def agrees(c: Comparison, n: int) -> None:
    H, gradients, sums, residuals = by_kernel(c, n)
    expected, expected_residuals = compared(c, n)
    np.testing.assert_allclose(residuals, expected_residuals, rtol=1e-4, atol=1e-3)
    for band in range(n):
        whole = sum(block.H for block in expected[band])
        lower = np.tril_indices(6)
        np.testing.assert_allclose(
            H[band][lower], whole[lower], rtol=1e-4, atol=1e-4 * whole.max()
        )
        gradient = np.array([block.gradient for block in expected[band]])
        np.testing.assert_allclose(
            gradients[band], gradient, rtol=1e-3, atol=1e-4 * np.abs(gradient).max()
        )
        cost, compared_, same = sums[band]
        assert cost == pytest.approx(sum(block.cost for block in expected[band]), rel=1e-4)
        assert compared_ == sum(block.compared for block in expected[band])
        assert same == sum(block.same for block in expected[band])


@pytest.mark.parametrize('seed', range(3))
def test_it_agrees_on_scenes_with_jumps_and_holes(seed: int) -> None:
    c = random_scene(40, 30, seed)
    agrees(c, 1)
    pixels, compared_, same = c.seen[..., 0].size, *by_kernel(c, 1)[2][0, 1:]
    assert 0.3 * pixels < same < 0.95 * compared_ < 0.9 * pixels


def test_it_agrees_in_bands_and_blocks() -> None:
    agrees(random_scene(41, 31, 3), 4)


def test_it_agrees_in_rows_of_several_pieces() -> None:
    # 150 columns: two pieces of 64 and what is left; the last one of a block has 22.
    agrees(random_scene(152, 8, 4), 1)
    agrees(random_scene(152, 8, 4), 2)


@pytest.mark.parametrize('size', [(3, 3), (2, 5), (5, 2), (9, 4)])
def test_it_agrees_in_the_smallest_pictures(size: tuple[int, int]) -> None:
    c = random_scene(*size, 5)
    agrees(replace(c, image=np.where(c.image > 0, 1, c.image).astype(np.float32)), 1)


@pytest.mark.parametrize(
    'scales',
    [
        Scales(scale=3.0, noise_m=0.001, noise_per_m2=0.004),
        Scales(contour_weight=0.0, gray_weight=0.0),
        Scales(contour_weight=2.0),
        Scales(gray_weight=3.0, sigma_gray=0.05, cut=3.0),
    ],
)
def test_it_agrees_with_other_scales(scales: Scales) -> None:
    agrees(random_scene(30, 20, 6, scales), 2)


def test_nothing_drawn_or_nothing_seen_is_nothing_compared() -> None:
    c = random_scene(20, 10, 7)
    for empty in (
        replace(c, image=np.zeros_like(c.image)),
        replace(c, seen=np.zeros_like(c.seen)),
    ):
        H, gradients, sums, residuals = by_kernel(empty, 2)
        assert not H.any()
        assert not gradients.any()
        assert not sums.any()
        assert np.isnan(residuals).all()
