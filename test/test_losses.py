"""Image losses against their definitions, written out densely in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from gs_pose_ros.losses import ms_ssim, psnr, ssim


def images(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and a disturbed one."""
    r = np.random.default_rng(seed)
    x, y = np.meshgrid(*(np.linspace(0, 1, size),) * 2)
    a = np.stack([0.5 + 0.4 * np.sin(9 * x + k) * np.cos(7 * y - k) for k in range(3)], -1)
    b = (0.8 * a + 0.1 + r.normal(size=a.shape) * 0.05).clip(0, 1)
    return torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32)


def dense_ssim(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """SSIM and its contrast-structure part; window 11, sigma 1.5, zero outside (Wang 2004)."""
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(image: np.ndarray) -> np.ndarray:
        planes = [convolve2d(image[..., k], window, mode='same') for k in range(image.shape[-1])]
        return np.stack(planes, -1)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2)
    return float((luminance * structure).mean()), float(structure.mean())


def dense_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    value = 1.0
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for level, weight in enumerate(weights):
        value *= dense_ssim(a, b)[0 if level == 4 else 1] ** weight
        even = [n // 2 * 2 for n in a.shape[:2]]
        a, b = (
            x[: even[0], : even[1]].reshape(even[0] // 2, 2, even[1] // 2, 2, -1).mean((1, 3))
            for x in (a, b)
        )
    return value


@pytest.mark.parametrize('size', [11, 24, 37])
def test_ssim_equals_its_definition(size: int) -> None:
    a, b = images(size)
    expected, _ = dense_ssim(a.double().numpy(), b.double().numpy())
    assert ssim(a, b).item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize('size', [176, 181])
def test_ms_ssim_equals_its_definition(size: int) -> None:
    a, b = images(size)
    expected = dense_ms_ssim(a.double().numpy(), b.double().numpy())
    assert ms_ssim(a, b).item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(('loss', 'size'), [(ssim, 24), (ms_ssim, 176)])
def test_gradients_equal_central_differences(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], size: int
) -> None:
    a, b = images(size)
    a.requires_grad_()
    b.requires_grad_()
    loss(a, b).backward()
    direction = images(size, seed=1)[1] - 0.5
    h = 0.01
    with torch.no_grad():
        slope_a = (loss(a + h * direction, b) - loss(a - h * direction, b)) / (2 * h)
        slope_b = (loss(a, b + h * direction) - loss(a, b - h * direction)) / (2 * h)
    assert a.grad is not None
    assert b.grad is not None
    assert (a.grad * direction).sum().item() == pytest.approx(slope_a.item(), rel=0.02, abs=1e-4)
    assert (b.grad * direction).sum().item() == pytest.approx(slope_b.item(), rel=0.02, abs=1e-4)


@pytest.mark.parametrize(('loss', 'size'), [(ssim, 24), (ms_ssim, 176)])
def test_a_picture_is_most_similar_to_itself(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], size: int
) -> None:
    a, b = images(size)
    assert loss(a, a).item() == pytest.approx(1, abs=1e-5)
    assert loss(a, b).item() < 1
    assert loss(a, b).item() == pytest.approx(loss(b, a).item(), abs=1e-6)


def test_ms_ssim_of_a_negative_is_low_and_has_a_finite_gradient() -> None:
    a, _ = images(176)
    a.requires_grad_()
    value = ms_ssim(a, 1 - a.detach())
    value.backward()
    assert 0 <= value.item() < 0.1
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_flat_pictures_have_finite_gradients() -> None:
    flat = torch.full((24, 24, 3), 0.5, requires_grad=True)
    ssim(flat, torch.zeros(24, 24, 3)).backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_ms_ssim_refuses_pictures_too_small_for_five_levels() -> None:
    a, b = images(175)
    with pytest.raises(ValueError, match='176 px'):
        ms_ssim(a, b)


def test_psnr_of_a_known_error() -> None:
    a = np.full((4, 5, 3), 0.5, np.float32)
    assert psnr(a, a + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(a, a) == float('inf')


def test_psnr_counts_the_mask_only() -> None:
    a = np.full((4, 5, 3), 0.5)
    b = a + 0.01
    b[0] += 0.4
    mask = np.ones((4, 5), bool)
    mask[0] = False
    assert psnr(a, b, mask) == pytest.approx(40, abs=1e-4)
    assert psnr(a, b) < 20


def test_psnr_refuses_pictures_that_do_not_match_and_empty_masks() -> None:
    a = np.full((4, 5, 3), 0.5)
    with pytest.raises(ValueError, match='one shape'):
        psnr(a, a[:2])
    with pytest.raises(ValueError, match='one shape'):
        psnr(a[..., 0], a[..., 0])
    with pytest.raises(ValueError, match='empty'):
        psnr(a, a, np.zeros((4, 5), bool))
