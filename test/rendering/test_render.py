"""The CPU backend against the dense definition, central differences and plain facts."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering import render
from gs_pose_ros.rendering.compositing import sort_by_depth
from gs_pose_ros.rendering.numba_rasterizer import (
    Rasterize,
    rasterize,
    rasterize_batch,
    rasterize_scene,
)
from gs_pose_ros.rendering.work_arrays import Scratch

from .dense_reference import render_dense

CAMERA = Camera(60.0, 55.0, 15.3, 11.8, 32, 24)


def random_gaussians(n: int, degree: int, seed: int, spread: float = 0.1) -> Gaussians:
    r = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=(torch.rand(n, 3, generator=r) - 0.5) * 2 * spread,
        quats=torch.randn(n, 4, generator=r),
        log_scales=torch.rand(n, 3, generator=r) * 1.5 - 5.0,
        logit_opacities=torch.randn(n, generator=r) * 2,
        sh=torch.randn(n, (degree + 1) ** 2, 3, generator=r) * 0.3,
    )


def pose(seed: int, distance: float = 0.4) -> torch.Tensor:
    r = np.random.default_rng(seed)
    T = se3.exp(np.concatenate([r.normal(size=3) * 0.02, r.normal(size=3)]))
    T[2, 3] += distance
    return torch.from_numpy(T)


def leaves(gaussians: Gaussians, T: torch.Tensor) -> tuple[Gaussians, torch.Tensor]:
    names = [f.name for f in dataclasses.fields(gaussians)]
    copy = Gaussians(*(getattr(gaussians, n).clone().requires_grad_() for n in names))
    return copy, T.clone().requires_grad_()


def differentiable(g: Gaussians, T: torch.Tensor) -> torch.Tensor:
    return Rasterize.apply(g.means, g.quats, g.log_scales, g.logit_opacities, g.sh, T, CAMERA)


@pytest.mark.kernels
@pytest.mark.parametrize('degree', [0, 1, 2, 3])
@pytest.mark.parametrize('spread', [0.05, 0.3])
def test_values_and_gradients_equal_the_dense_definition(degree: int, spread: float) -> None:
    g, T = random_gaussians(60, degree, degree, spread), pose(degree)
    # Weights of a random linear loss over all five planes.
    weight = torch.randn(24, 5, 32, generator=torch.Generator().manual_seed(9))
    ours, T_ours = leaves(g, T)
    image = differentiable(ours, T_ours)
    (image * weight).sum().backward()
    dense, T_dense = leaves(g, T)
    expected = render_dense(dense, CAMERA, T_dense)
    (expected * weight).sum().backward()
    assert expected[:, 4].max() > 0.5
    torch.testing.assert_close(image.double(), expected, atol=2e-5, rtol=1e-4)
    for field in dataclasses.fields(g):
        got, want = getattr(ours, field.name).grad, getattr(dense, field.name).grad
        assert want.abs().max() > 0, field.name
        scale = want.abs().max()
        torch.testing.assert_close(got / scale, want / scale, atol=5e-4, rtol=1e-3)
    scale = T_dense.grad.abs().max()
    torch.testing.assert_close(T_ours.grad / scale, T_dense.grad / scale, atol=5e-4, rtol=1e-3)


def test_pose_gradient_equals_central_differences() -> None:
    g, T = random_gaussians(200, 3, 4), pose(4)
    weight = torch.randn(24, 5, 32, generator=torch.Generator().manual_seed(3))
    leaf, T_leaf = leaves(g, T)
    (differentiable(leaf, T_leaf) * weight).sum().backward()
    for axis in range(6):
        xi = np.zeros(6)
        xi[axis] = 1
        h = 1e-7  # too small for a Gaussian to cross a pixel's 1/255 rim or to swap order
        plus = render_dense(g, CAMERA, torch.from_numpy(se3.exp(h * xi)) @ T)
        minus = render_dense(g, CAMERA, torch.from_numpy(se3.exp(-h * xi)) @ T)
        numeric = float(((plus - minus) * weight).sum() / (2 * h))
        generator = torch.zeros(4, 4, dtype=torch.float64)
        generator[:3, 3] = torch.from_numpy(xi[:3])
        generator[:3, :3] = torch.from_numpy(se3.hat(xi[3:]))
        analytic = float((T_leaf.grad * (generator @ T)).sum())
        assert analytic == pytest.approx(numeric, rel=2e-3, abs=2e-2)


@pytest.mark.kernels
def test_an_opaque_gaussian_hides_what_is_behind() -> None:
    g = Gaussians.from_points(
        np.array([[0, 0, 0.0], [0, 0, 0.1]]), np.array([[1, 0, 0], [0, 1, 0.0]]), 0.02, 0.998, 0
    )
    T = torch.eye(4, dtype=torch.float64)
    T[2, 3] = 0.4
    camera = Camera(60, 60, 16, 12, 33, 25)
    color, alpha, depth = render(g, camera, T)
    assert color[12, 16, 0] > 0.99 and color[12, 16, 1] < 0.01
    assert alpha[12, 16] > 0.99
    assert float(depth[12, 16]) == pytest.approx(0.4, abs=1e-3)
    # The pixel centre is at integers: the splat is symmetric about pixel (16, 12).
    torch.testing.assert_close(alpha, alpha.flip(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(alpha, alpha.flip(1), atol=1e-5, rtol=0)


def test_empty_view_and_background() -> None:
    g, T = random_gaussians(10, 1, 0), pose(0)
    behind = T.clone()
    behind[2, 3] = -1
    color, alpha, depth = render(g, CAMERA, behind, background=(0.2, 0.4, 0.6))
    assert alpha.max() == 0 and depth.max() == 0
    torch.testing.assert_close(color[3, 5], torch.tensor([0.2, 0.4, 0.6]))


@pytest.mark.kernels
def test_no_gaussian_at_all() -> None:
    empty = random_gaussians(10, 1, 0)[torch.zeros(10, dtype=torch.bool)]
    color, alpha, _ = render(empty, CAMERA, pose(0))
    assert color.shape == (24, 32, 3) and alpha.max() == 0


def test_two_threads_render_the_same_as_one() -> None:
    g, T = random_gaussians(500, 2, 7), pose(7)
    expected = render(g, CAMERA, T).color
    results: list[torch.Tensor] = []

    def work() -> None:
        results.extend(render(g, CAMERA, T).color for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 60
    assert all(torch.equal(r, expected) for r in results)


def test_wrong_pose_shape_is_refused() -> None:
    with pytest.raises(ValueError, match='T_cam_obj'):
        render(random_gaussians(3, 0, 0), CAMERA, torch.eye(3))


LARGE = Camera(330.0, 330.0, 100.3, 71.8, 203, 145)  # drawn with all threads; no whole tiles


@pytest.mark.parametrize('camera', [CAMERA, LARGE])
def test_one_thread_and_all_draw_the_dense_definition(camera: Camera) -> None:
    g, T = random_gaussians(300, 3, 5), pose(5)
    expected = render_dense(g, camera, T).float()
    np.testing.assert_allclose(rasterize(g, camera, T.numpy()), expected.numpy(), atol=3e-5)


def test_a_batch_equals_its_pictures() -> None:
    g = random_gaussians(400, 2, 6)
    poses = [pose(k).numpy() for k in range(7)]
    cameras = [dataclasses.replace(CAMERA, cx=10.0 + k) for k in range(7)]
    images = rasterize_batch(g, cameras, poses)
    for image, camera, T in zip(images, cameras, poses, strict=True):
        np.testing.assert_array_equal(image, rasterize(g, camera, T))
    with pytest.raises(ValueError, match='one size'):
        rasterize_batch(g, [CAMERA, LARGE], poses[:2])


@pytest.mark.parametrize('camera', [CAMERA, LARGE])
def test_objects_of_a_scene_hide_each_other(camera: Camera) -> None:
    """One in the other and of other SH degree, against one set in the camera frame."""
    inner, outer = random_gaussians(150, 0, 1), random_gaussians(150, 0, 2, spread=0.2)
    poses = [pose(1), pose(2)]

    def moved(g: Gaussians, T: torch.Tensor) -> Gaussians:
        turn = torch.from_numpy(se3.mat_to_quat(T[:3, :3].numpy())).float()
        w, u = turn[0], turn[1:].expand(len(g), 3)
        qw, qu = g.quats[:, :1], g.quats[:, 1:]
        product = torch.cat(
            [w * qw - (u * qu).sum(1, True), w * qu + qw * u + torch.linalg.cross(u, qu)], 1
        )
        means = g.means @ T[:3, :3].float().T + T[:3, 3].float()
        return dataclasses.replace(g, means=means, quats=product)

    parts = [moved(g, T) for g, T in zip((inner, outer), poses, strict=True)]
    together = Gaussians(
        *(
            torch.cat([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Gaussians)
        )
    )
    expected = rasterize(together, camera, np.eye(4))
    padded = torch.cat([outer.sh, torch.zeros(150, 3, 3)], 1)  # degree 1, the same colours
    outer = dataclasses.replace(outer, sh=padded)
    scene = [(inner, poses[0].numpy()), (outer, poses[1].numpy())]
    np.testing.assert_allclose(rasterize_scene(scene, camera), expected, atol=2e-4)


def test_gaussians_that_cover_the_whole_picture() -> None:
    """Far more list entries than are expected of so few Gaussians."""
    g = random_gaussians(50, 0, 3)
    g = dataclasses.replace(g, log_scales=g.log_scales + 5, logit_opacities=g.means[:, 0] - 4)
    T = pose(3)
    expected = render_dense(g, LARGE, T).float()
    np.testing.assert_allclose(rasterize(g, LARGE, T.numpy()), expected.numpy(), atol=3e-5)
    images = rasterize_batch(g, [LARGE], [T.numpy()])
    np.testing.assert_allclose(images[0], expected.numpy(), atol=3e-5)
    leaf, T_leaf = leaves(g, T)
    image = Rasterize.apply(
        leaf.means, leaf.quats, leaf.log_scales, leaf.logit_opacities, leaf.sh, T_leaf, LARGE
    )
    np.testing.assert_allclose(image.detach().numpy(), expected.numpy(), atol=3e-5)


def test_a_few_large_gaussians_do_not_make_room_for_as_many_of_others() -> None:
    """List entries are kept by number, not by Gaussian."""
    scratch = Scratch()
    assert scratch.work(1, 1, 50, LARGE, 13_000).pairs.shape[1] >= 13_000
    assert scratch.work(1, 1, 100_000, LARGE, 0).pairs.shape[1] < 5 * 100_000
    # What was needed once is there from then on, and shared by pictures drawn at once.
    assert scratch.work(1, 1, 50, LARGE, 0).pairs.shape[1] >= 13_000
    assert scratch.work(4, 1, 50, LARGE, 0).pairs.shape[1] >= 13_000


@pytest.mark.kernels
@pytest.mark.parametrize(('near', 'far'), [(0.5, 0.5001), (0.5, 0.7), (0.011, 900.0)])
def test_depths_are_sorted_stably(near: float, far: float) -> None:
    r = np.random.default_rng(0)
    depths = r.uniform(near, far, 5000).astype(np.float32)
    depths[::3] = depths[0]
    order = np.arange(5000, dtype=np.int32)
    expected = np.argsort(depths[:4000], kind='stable')
    keys = depths.view(np.uint32).copy()
    sort_by_depth(keys, order, 4000, np.empty_like(keys), np.empty_like(order))
    np.testing.assert_array_equal(order[:4000], expected)
    np.testing.assert_array_equal(keys.view(np.float32)[:4000], depths[expected])
    np.testing.assert_array_equal(order[4000:], np.arange(4000, 5000))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device and gsplat')
@pytest.mark.parametrize('degree', [0, 3])
def test_gsplat_equals_numba(degree: int) -> None:
    g, T = random_gaussians(300, degree, 11), pose(11)
    weight = torch.randn(24, 5, 32, generator=torch.Generator().manual_seed(1))
    ours, T_ours = leaves(g, T)
    image = differentiable(ours, T_ours)
    (image * weight).sum().backward()
    from gs_pose_ros.rendering import gsplat_rasterizer

    theirs, T_theirs = leaves(g.to('cuda'), T.cuda())
    other = gsplat_rasterizer.rasterize(theirs, CAMERA, T_theirs)
    (other * weight.cuda()).sum().backward()
    torch.testing.assert_close(image, other.cpu(), atol=1e-3, rtol=1e-3)
    for field in dataclasses.fields(g):
        got, want = getattr(ours, field.name).grad, getattr(theirs, field.name).grad.cpu()
        torch.testing.assert_close(
            got / want.abs().max(), want / want.abs().max(), atol=1e-2, rtol=0
        )
