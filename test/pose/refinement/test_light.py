"""Shading is what varies slower than a pattern; it must go, the pattern must stay."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from gs_pose_ros.pose.refinement.light import remove_shading

DEPTH = 0.6


def planes(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc with a pattern under slanted light, the same in the image; depth known everywhere."""
    v, u = np.mgrid[:size, :size].astype(np.float32) / size
    alpha = (np.hypot(u - 0.5, v - 0.5) < 0.35).astype(np.float32)
    pattern = 0.1 * np.sin(40 * u) * np.sin(37 * v)
    image = np.zeros((size, 5, size), np.float32)
    image[:, :3] = ((0.5 + pattern + 0.3 * u) * alpha)[:, None]
    image[:, 3], image[:, 4] = DEPTH * alpha, alpha
    color = np.repeat((0.4 + pattern - 0.3 * v)[..., None], 3, -1).astype(np.float32)
    return image, color, np.full((size, size), DEPTH, np.float32)


def by_definition(
    image: np.ndarray, color: np.ndarray, shown: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    def mean(values: np.ndarray) -> np.ndarray:
        border = {'sigmaX': sigma, 'borderType': cv2.BORDER_CONSTANT}
        weight = cv2.GaussianBlur(shown, (0, 0), **border)
        return cv2.GaussianBlur(values * shown, (0, 0), **border) / np.maximum(weight, 1e-6)

    return image[:, 0] - mean(image[:, 0]) * image[:, 4], color[..., 0] - mean(color[..., 0])


@pytest.mark.parametrize('size', [40, 96, 224])
def test_means_are_those_of_a_gaussian_window(size: int) -> None:
    image, color, depth = planes(size)
    depth[: size // 3] = DEPTH - 0.1  # something stands in front
    sigma = 0.12 * size
    out, seen = image.copy(), color.copy()
    remove_shading(out, seen, depth, sigma, 0.02)
    shown = image[:, 4] * (depth == np.float32(DEPTH))
    expected, expected_seen = by_definition(image, color, shown, sigma)
    inside = shown > 0.5
    removed = np.abs(expected - image[:, 0])[inside].mean()
    assert removed > 0.3
    assert np.abs(out[:, 0] - expected)[inside].max() < 0.05 * removed
    assert np.abs(seen[..., 0] - expected_seen)[inside].max() < 0.05 * removed


def test_light_goes_and_pattern_stays() -> None:
    image, color, depth = planes(96)
    out, seen = image.copy(), color.copy()
    remove_shading(out, seen, depth, 0.12 * 96, 0.02)
    inside = cv2.erode(image[:, 4], np.ones((9, 9))) > 0.5
    assert np.corrcoef(image[:, 0][inside], color[..., 0][inside])[0, 1] < 0.6
    assert np.corrcoef(out[:, 0][inside], seen[..., 0][inside])[0, 1] > 0.95


def test_what_is_not_in_view_stays_unknown() -> None:
    image, color, depth = planes(64)
    color[:, :20] = np.nan
    out, seen = image.copy(), color.copy()
    remove_shading(out, seen, depth, 8.0, 0.02)
    assert np.isfinite(out).all()
    assert np.isnan(seen[:, :20]).all() and np.isfinite(seen[:, 20:]).all()


def test_nothing_in_common_changes_nothing() -> None:
    image, color, depth = planes(64)
    image[:, 4] = 0.3
    out, seen = image.copy(), color.copy()
    remove_shading(out, seen, depth, 8.0, 0.02)
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(seen, color)
