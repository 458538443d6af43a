"""What the Levenberg-Marquardt refiner takes for a derivative, against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.optimization.levenberg_marquardt import move_about
from gs_pose_ros.pose.refinement import residuals
from test.synthetic import reference

from .close_up import CLOSE_UP, NEUTRAL, close_up_pose, render_planes

SIGMAS = np.array([0.1, 0.004, 0.25])


def normal_equations(
    image: np.ndarray,
    color: np.ndarray,
    depth: np.ndarray,
    mask: np.ndarray,
    center: np.ndarray,
    K: np.ndarray | None = None,
    cut: float = 1e6,
) -> tuple[np.ndarray, np.ndarray, float, int]:
    if K is None:
        K = np.array([CLOSE_UP.fx, CLOSE_UP.fy, CLOSE_UP.cx, CLOSE_UP.cy])
    H, gradients = np.zeros((6, 6)), np.zeros((1, 1, 6))
    arguments = (np.ascontiguousarray(a, np.float32) for a in (image, color, depth, mask))
    cost, support = residuals.normal_equations(
        *arguments, K, center, NEUTRAL, SIGMAS, cut, H, gradients
    )
    return H, gradients[0, 0], cost, support


@pytest.mark.parametrize('residual', ['color', 'depth', 'silhouette'])
@pytest.mark.parametrize('axis', range(6))
def test_the_jacobian_of_a_pixel_equals_central_differences(residual: str, axis: int) -> None:
    T = close_up_pose()
    center = T[:3, :3] @ reference().box.mean(0) + T[:3, 3]
    image = render_planes(T)
    step = np.zeros(6)
    step[axis] = 5e-4 if axis < 3 else 6e-3
    ahead, behind = (render_planes(move_about(T, center, sign * step)) for sign in (1, -1))

    def values(planes: np.ndarray) -> np.ndarray:
        alpha = planes[:, 4]
        if residual == 'silhouette':
            return alpha / SIGMAS[2]
        if residual == 'depth':
            return planes[:, 3] / np.maximum(alpha, 1e-6) / SIGMAS[1]
        return planes[:, 1] / np.maximum(alpha, 1e-6) / SIGMAS[0]

    numeric = (values(ahead) - values(behind)) / (2 * step[axis])
    solid = np.minimum(np.minimum(image[:, 4], ahead[:, 4]), behind[:, 4]) > 0.99
    rim = (image[:, 4] > 0.1) & (image[:, 4] < 0.9)
    analytic, compared = [], []
    nan = np.full((3, 3, 3), np.nan)
    for y, x in zip(*np.nonzero(rim if residual == 'silhouette' else solid), strict=True):
        if not (1 <= y < 95 and 1 <= x < 95) or (y * 7 + x) % 3:
            continue
        patch = image[y - 1 : y + 2, :, x - 1 : x + 2]
        K = np.array([CLOSE_UP.fx, CLOSE_UP.fy, CLOSE_UP.cx - x + 1, CLOSE_UP.cy - y + 1])
        # One residual of one pixel, of about 1 sigma: then b = r J with a weight of one.
        color, depth, mask = nan.copy(), np.zeros((3, 3)), np.full((3, 3), -1.0)
        if residual == 'color':
            color[..., 1] = patch[1, 1, 1] / patch[1, 4, 1] - SIGMAS[0]
        elif residual == 'depth':
            depth[:] = patch[1, 3, 1] / patch[1, 4, 1] - SIGMAS[1]
        else:
            mask[:] = 0 if patch[1, 4, 1] > 0.5 else 1
        _, b, _, _ = normal_equations(patch, color, depth, mask, center, K)
        r = 1.0
        if residual == 'silhouette':
            r = (patch[1, 4, 1] - mask[1, 1]) / SIGMAS[2]
        analytic.append(b[axis] / r)
        compared.append(numeric[y, x])
    a, n = np.array(analytic), np.array(compared)
    assert len(a) > 50
    # Splats have no exact image motion (layers, creases), so most pixels must agree, not all; and
    # differences of neighbours flatten an outline, which is two pixels wide, by a sixth.
    slope = (a @ n) / (n @ n)
    assert slope == pytest.approx(0.85 if residual == 'silhouette' else 1, abs=0.12)
    assert np.corrcoef(a, n)[0, 1] > 0.95
    assert np.median(np.abs(a - n)) < 0.35 * np.median(np.abs(n)) + 1e-3 * np.abs(n).max()


def test_b_is_the_gradient_of_the_cost() -> None:
    T = close_up_pose()
    center = T[:3, :3] @ reference().box.mean(0) + T[:3, 3]
    goal = render_planes(move_about(T, center, np.array([1e-3, -5e-4, 2e-3, 0.01, -0.02, 0.015])))
    color = np.where(
        goal[:, 4, :, None] > 0.5,
        goal[:, :3].transpose(0, 2, 1) / np.maximum(goal[:, 4, :, None], 1e-6),
        np.nan,
    )
    unknown = np.zeros(goal[:, 4].shape), np.full(goal[:, 4].shape, -1.0)

    def cost(xi: np.ndarray) -> float:
        image = render_planes(move_about(T, center, xi))
        # Per pixel times pixels; the number of pixels hardly changes.
        _, _, value, _ = normal_equations(image, color, *unknown, center, cut=4.0)
        return value

    image = render_planes(T)
    _, b, _, _ = normal_equations(image, color, *unknown, center, cut=4.0)
    pixels = int((image[1:-1, 4, 1:-1] >= 0.02).sum())
    numeric = np.zeros(6)
    for axis in range(6):
        step = np.zeros(6)
        step[axis] = 4e-4 if axis < 3 else 5e-3
        numeric[axis] = (cost(step) - cost(-step)) / (2 * step[axis]) * pixels
    scale = np.array([1, 1, 1, 0.05, 0.05, 0.05])  # m and rad to one unit
    a, n = b * scale, numeric * scale
    assert a @ n / (np.linalg.norm(a) * np.linalg.norm(n)) > 0.97
    assert np.linalg.norm(a) / np.linalg.norm(n) == pytest.approx(1, abs=0.15)


def test_moving_about_a_point_leaves_it_where_the_translation_says() -> None:
    T, center = close_up_pose(), np.array([0.1, 0.2, 0.5])
    fixed = se3.transform(se3.inverse(T), center[None])
    xi = np.array([0.01, -0.02, 0.03, 0.3, -0.5, 0.2])
    moved = move_about(T, center, xi)
    assert np.allclose(se3.transform(moved, fixed)[0], center + xi[:3])
    assert np.allclose(moved[:3, :3] @ T[:3, :3].T, se3.exp([0, 0, 0, *xi[3:]])[:3, :3])
    assert np.allclose(move_about(T, center, np.zeros(6)), T)
