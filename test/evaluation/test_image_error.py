"""PSNR and SSIM with answers known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.evaluation.image_error import psnr, ssim

RNG = np.random.default_rng(0)
IMAGE = RNG.random((40, 50, 3))


def test_a_constant_offset_has_a_known_psnr() -> None:
    assert psnr(IMAGE + 0.1, IMAGE) == pytest.approx(20)
    assert psnr(IMAGE, IMAGE) == np.inf
    changed = IMAGE.copy()
    changed[:20] += 0.01
    mask = np.zeros((40, 50), bool)
    mask[:20] = True
    assert psnr(changed, IMAGE, mask) == pytest.approx(40)
    assert psnr(changed, IMAGE, ~mask) == np.inf
    assert psnr(changed, IMAGE) == pytest.approx(40 + 10 * np.log10(2))


def test_ssim_of_constants_is_its_luminance_term() -> None:
    # Away from the border both are constant: only (2ab + c1) / (a^2 + b^2 + c1) is left.
    a, b = np.full((40, 40, 1), 0.5), np.full((40, 40, 1), 0.6)
    inner = np.zeros((40, 40), bool)
    inner[10:-10, 10:-10] = True
    expected = (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4)
    assert ssim(a, b, inner) == pytest.approx(expected, abs=1e-9)


def test_ssim_is_one_for_equal_and_falls_with_noise() -> None:
    assert ssim(IMAGE, IMAGE) == pytest.approx(1)
    noisy = [ssim(IMAGE + s * RNG.normal(size=IMAGE.shape), IMAGE) for s in (0.02, 0.1, 0.5)]
    assert 1 > noisy[0] > noisy[1] > noisy[2]
    assert ssim(1 - IMAGE, IMAGE) < 0  # the inverted picture


@pytest.mark.parametrize('measure', [psnr, ssim])
def test_wrong_shapes_and_empty_masks_are_refused(measure) -> None:
    with pytest.raises(ValueError, match='one shape'):
        measure(IMAGE, IMAGE[:10])
    with pytest.raises(ValueError, match='one shape'):
        measure(IMAGE[..., 0], IMAGE[..., 0])
    with pytest.raises(ValueError, match='empty'):
        measure(IMAGE, IMAGE, np.zeros((40, 50), bool))
