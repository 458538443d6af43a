"""The correlation of textures: known answers, light, darkness, and what is not compared."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.localization.gray_correlation import gray_correlation

SHAPE = (120, 160)
ALL = np.ones(SHAPE, bool)


def texture(seed: int = 0, contrast: float = 0.2) -> NDArray[np.float32]:
    """Blots of 3 px about mid gray."""
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    blots = cv2.GaussianBlur(noise, (0, 0), 3)
    return (0.5 + contrast / blots.std() * blots).astype(np.float32)


def test_the_same_texture_is_one_another_is_none() -> None:
    assert gray_correlation(texture(), texture(), ALL) > 0.97
    assert abs(gray_correlation(texture(0), texture(1), ALL)) < 0.1
    assert gray_correlation(texture(), 1 - texture(), ALL) < -0.97


def test_light_changes_nothing() -> None:
    slope = np.linspace(0, 0.3, SHAPE[1], dtype=np.float32)
    assert gray_correlation(texture(), 0.5 * texture() + slope, ALL) > 0.9


def test_a_shifted_texture_is_another() -> None:
    values = [gray_correlation(texture(), np.roll(texture(), k, 1), ALL) for k in (0, 1, 2, 8)]
    assert values == sorted(values, reverse=True)
    assert values[1] > 0.8
    assert values[3] < 0.2


def test_only_what_is_compared_counts() -> None:
    seen = texture()
    seen[:, 80:] = texture(1)[:, 80:]
    left = ALL.copy()
    left[:, 80:] = False
    assert gray_correlation(texture(), seen, left) > 0.97
    assert gray_correlation(texture(), seen, ~left) < 0.2


def test_windows_with_little_to_compare_do_not_count() -> None:
    few = np.zeros(SHAPE, bool)
    few[::2, ::2] = True  # a quarter of each window
    assert np.isnan(gray_correlation(texture(), texture(), few))
    assert np.isnan(gray_correlation(texture(), texture(), ~ALL))


@pytest.mark.parametrize('drawn', [texture(), np.full(SHAPE, 0.5, np.float32)])
def test_a_picture_in_the_dark_says_nothing(drawn: NDArray[np.float32]) -> None:
    dark = texture(1, contrast=0.005)
    assert np.isnan(gray_correlation(drawn, dark, ALL))


def test_a_map_without_texture_where_the_picture_has_some_is_another_place() -> None:
    assert abs(gray_correlation(np.full(SHAPE, 0.5, np.float32), texture(), ALL)) < 0.01
