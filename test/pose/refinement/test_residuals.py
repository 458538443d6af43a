"""The kernel that compares an object with the picture, against the same in readable lines."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from gs_pose_ros.pose.refinement.residuals import normal_equations

from .residuals_reference import ABOVE_SUPPORT, UNKNOWN, Comparison, compared


def random_window(seed: int, size: int = 40) -> Comparison:
    """A bumpy disc with an edge in it, partly hidden, partly gone, partly out of the picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    alpha = np.clip((0.4 * size - np.hypot(x - 0.5 * size, y - 0.5 * size)) / 3 + 0.5, 0, 1)
    z = 0.6 + 0.001 * x + 0.0005 * np.sin(0.9 * x) + 0.0005 * np.cos(0.8 * y)
    z += 0.05 * (x + 0.3 * y > 0.7 * size)
    color = rng.uniform(0.2, 0.8, (size, size, 3))
    planes = np.concatenate([np.moveaxis(color, 2, 1), z[:, None], np.ones_like(z)[:, None]], 1)

    depth = np.where(alpha > 0.4, z, 0.9) + rng.normal(0, 0.004, z.shape)
    depth[rng.uniform(size=z.shape) < 0.1] = 0
    depth[rng.uniform(size=z.shape) < 0.1] += 0.2  # free space
    depth[: size // 4, size // 2 :] = 0.3  # something in front
    seen = 0.9 * color + 0.03 + rng.normal(0, 0.15, color.shape)
    seen[:, : size // 5] = np.nan
    mask = rng.choice([0.0, 1.0, UNKNOWN, ABOVE_SUPPORT], z.shape, p=[0.15, 0.45, 0.2, 0.2])
    return Comparison(
        image=np.float32(planes * alpha[:, None]),
        color=np.float32(seen),
        depth=np.float32(depth),
        mask=np.float32(mask),
        K=np.array([300.0, 280.0, 0.45 * size, 0.55 * size]),
        center=np.array([0.01, -0.02, 0.65]),
        gain=np.array([0.9, 0.95, 1.1, 0.03, 0.0, -0.02]),
        sigmas=np.array([0.1, 0.006, 0.25]),
        cut=6.0,
    )


def by_kernel(c: Comparison, n: int) -> tuple[np.ndarray, np.ndarray, float, int]:
    H, gradients = np.zeros((6, 6)), np.zeros((n, n, 6))
    cost, support = normal_equations(*astuple(c), H, gradients)
    return H, gradients, cost, support


def agrees(c: Comparison, n: int) -> None:
    H, gradients, cost, support = by_kernel(c, n)
    expected_H, expected_gradients, expected_cost, expected_support = compared(c, n)
    np.testing.assert_array_equal(H, H.T)
    np.testing.assert_allclose(H, expected_H, rtol=1e-5, atol=1e-5 * expected_H.max())
    most = np.abs(expected_gradients).max()
    np.testing.assert_allclose(gradients, expected_gradients, rtol=1e-4, atol=1e-5 * most)
    assert cost == pytest.approx(expected_cost, rel=1e-5)
    assert support == expected_support


@pytest.mark.parametrize('seed', range(3))
def test_it_agrees_on_windows_with_occluders_and_holes(seed: int) -> None:
    c = random_window(seed)
    agrees(c, 8)
    _, gradients, cost, support = by_kernel(c, 8)
    assert np.count_nonzero(gradients.any(-1)) > 20
    assert cost > 0
    assert 0.3 * c.depth.size < support < 0.6 * c.depth.size


@pytest.mark.parametrize('kind', ['silhouette', 'depth', 'colour'])
def test_it_agrees_in_each_residual_alone(kind: str) -> None:
    c = random_window(4)
    if kind != 'silhouette':
        c = replace(c, mask=np.full_like(c.mask, UNKNOWN))
    if kind != 'depth':
        c = replace(c, depth=np.zeros_like(c.depth))
    if kind != 'colour':
        c = replace(c, color=np.full_like(c.color, np.nan))
    agrees(c, 3)
    assert by_kernel(c, 3)[0].any()


def test_without_an_object_in_the_window_nothing_is_compared() -> None:
    c = random_window(5)
    H, gradients, cost, support = by_kernel(replace(c, image=np.zeros_like(c.image)), 2)
    assert not H.any()
    assert not gradients.any()
    assert (cost, support) == (0.0, 0)
