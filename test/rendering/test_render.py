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
from gs_pose_ros.rendering.numba_rasterizer import Rasterize

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


def rasterize(g: Gaussians, T: torch.Tensor) -> torch.Tensor:
    return Rasterize.apply(g.means, g.quats, g.log_scales, g.logit_opacities, g.sh, T, CAMERA)


@pytest.mark.parametrize('degree', [0, 1, 2, 3])
@pytest.mark.parametrize('spread', [0.05, 0.3])
def test_values_and_gradients_equal_the_dense_definition(degree: int, spread: float) -> None:
    g, T = random_gaussians(60, degree, degree, spread), pose(degree)
    # Weights of a random linear loss over all five planes.
    weight = torch.randn(24, 5, 32, generator=torch.Generator().manual_seed(9))
    ours, T_ours = leaves(g, T)
    image = rasterize(ours, T_ours)
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
    (rasterize(leaf, T_leaf) * weight).sum().backward()
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device and gsplat')
@pytest.mark.parametrize('degree', [0, 3])
def test_gsplat_equals_numba(degree: int) -> None:
    g, T = random_gaussians(300, degree, 11), pose(11)
    weight = torch.randn(24, 5, 32, generator=torch.Generator().manual_seed(1))
    ours, T_ours = leaves(g, T)
    image = rasterize(ours, T_ours)
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
