"""Merged Gaussians: the same picture from fewer of them, and no memory kept for dead ones."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import torch

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering import render
from gs_pose_ros.rendering.level_of_detail import for_resolution, merge
from test.synthetic import picture, reference


def blob(n: int, spread: float, seed: int = 0) -> Gaussians:
    """Anisotropic Gaussians, all inside one cell of 1 m that does not straddle the origin."""
    r = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=0.5 + (torch.rand(n, 3, generator=r) - 0.5) * spread,
        quats=torch.randn(n, 4, generator=r),
        log_scales=torch.rand(n, 3, generator=r) - 4.0,
        logit_opacities=torch.randn(n, generator=r),
        sh=torch.randn(n, 4, 3, generator=r) * 0.3,
    )


def covariances(g: Gaussians) -> np.ndarray:
    R = np.stack([se3.quat_to_mat(q) for q in g.quats.double().numpy()])
    M = R * g.scales.double().numpy()[:, None]
    return M @ M.transpose(0, 2, 1)


def test_a_gaussian_alone_in_its_cell_stays_as_it_is() -> None:
    g = blob(1, 0.1)
    merged = merge(g, 1.0)
    assert torch.allclose(merged.means, g.means, atol=1e-6)
    assert np.allclose(covariances(merged), covariances(g), atol=1e-9)
    assert torch.allclose(merged.opacities, g.opacities, atol=1e-6)
    assert torch.allclose(merged.sh, g.sh, atol=1e-6)


def test_a_merged_gaussian_has_the_mean_and_covariance_of_its_parts() -> None:
    g = blob(12, 0.2)
    merged = merge(g, 1.0)
    assert len(merged) == 1
    scales = g.scales.double().numpy()
    weight = g.opacities.double().numpy() * scales.prod(1) / scales.min(1)
    weight /= weight.sum()
    means = g.means.double().numpy()
    mean = weight @ means
    spread = covariances(g) + (means - mean)[:, :, None] * (means - mean)[:, None]
    assert np.allclose(merged.means[0].numpy(), mean, atol=1e-6)
    assert np.allclose(covariances(merged)[0], np.tensordot(weight, spread, 1), atol=1e-7)
    sh = np.tensordot(weight, g.sh.double().numpy(), 1)
    assert np.allclose(merged.sh[0].numpy(), sh, atol=1e-6)


def test_a_small_picture_looks_the_same() -> None:
    ref = reference(spacing=0.0015)
    size = 32
    few = for_resolution(ref.gaussians, 1.3 * ref.diameter_m, size)
    assert len(few) < 0.5 * len(ref.gaussians)
    camera = Camera(100.0, 100.0, 15.5, 15.5, size, size)
    R = se3.exp([0, 0, 0, 2.0, 0.4, 0.3])[:3, :3]
    distance = 1.3 * ref.diameter_m * camera.fx / size
    T = se3.from_rotation_translation(R, [0, 0, distance] - R @ ref.box.mean(0))
    color, alpha, depth = picture(ref.gaussians, camera, T)
    full, small = (render(g, camera, torch.from_numpy(T)) for g in (ref.gaussians, few))
    # At this size full detail is too wide: each of its many Gaussians is widened to a pixel.
    error = np.abs(small.alpha.numpy() - alpha).mean()
    assert error < 0.06
    assert error < 0.7 * np.abs(full.alpha.numpy() - alpha).mean()
    solid = alpha > 0.9
    assert solid.sum() > 0.15 * size**2
    assert np.abs(small.color.numpy() - color)[solid].mean() < 0.08
    assert np.median(np.abs(small.depth.numpy() - depth)[solid]) < 0.02 * ref.diameter_m


def test_large_pictures_take_the_originals() -> None:
    ref = reference()
    assert for_resolution(ref.gaussians, ref.diameter_m, 1000) is ref.gaussians
    empty = ref.gaussians[:0]
    assert for_resolution(empty, 0.1, 32) is empty


def test_sizes_of_one_octave_share_one_set() -> None:
    ref = reference()
    at_32 = for_resolution(ref.gaussians, 0.16, 32)
    assert for_resolution(ref.gaussians, 0.16, 63) is at_32
    assert for_resolution(ref.gaussians, 0.16, 64) is not at_32


def test_nothing_is_kept_of_an_object_that_is_gone() -> None:
    g = blob(40, 0.4)
    few, same = for_resolution(g, 1.0, 2), for_resolution(g, 1.0, 4096)
    assert len(few) < len(g)
    assert same is g
    ghosts = [weakref.ref(g), weakref.ref(few)]
    del g, few, same
    gc.collect()
    assert [ghost() for ghost in ghosts] == [None, None]
