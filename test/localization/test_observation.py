"""What shrinking a picture keeps of it."""

from __future__ import annotations

import numpy as np

from gs_pose_ros.localization.observation import DEPTH, DU, DV, GRAY, shrink


def shrunk(depth: np.ndarray, gray: np.ndarray | None = None, factor: int = 4) -> np.ndarray:
    gray = np.zeros_like(depth) if gray is None else gray
    out = np.full((depth.shape[0] // factor, depth.shape[1] // factor, 4), np.nan, np.float32)
    shrink(depth.astype(np.float32), gray.astype(np.float32), factor, out)
    assert np.isfinite(out).all()
    return out


def test_a_whole_block_has_its_mean_in_the_middle() -> None:
    v, u = np.mgrid[:8, :12].astype(float)
    out = shrunk(2 + 0.01 * u - 0.005 * v, 0.1 * u + 0.01 * v)
    y, x = np.mgrid[:2, :3]
    np.testing.assert_allclose(out[..., DEPTH], 2 + 0.01 * (4 * x + 1.5) - 0.005 * (4 * y + 1.5))
    np.testing.assert_allclose(
        out[..., GRAY], 0.1 * (4 * x + 1.5) + 0.01 * (4 * y + 1.5), rtol=1e-5
    )
    assert not out[..., [DU, DV]].any()


def test_a_slope_is_met_where_the_known_pixels_are() -> None:
    v, u = np.mgrid[:40, :60].astype(float)
    depth = 2 + 0.01 * u - 0.005 * v
    depth[np.random.default_rng(0).uniform(size=depth.shape) < 0.6] = 0
    out = shrunk(depth)
    known = out[..., DEPTH] > 0
    y, x = np.mgrid[:10, :15]
    # In pixels of the small picture: slopes there are four times as large.
    expected = (2 + 0.01 * (4 * x + 1.5) - 0.005 * (4 * y + 1.5)
                + 0.04 * out[..., DU] - 0.02 * out[..., DV])  # fmt: skip
    assert known.mean() > 0.95
    assert np.abs(out[..., DU]).max() > 0.1
    np.testing.assert_allclose(out[..., DEPTH][known], expected[known], rtol=1e-6)


def test_a_block_over_a_jump_is_not_known() -> None:
    depth = np.full((8, 12), 1.0)
    depth[:, 6:] = 1.5
    out = shrunk(depth)
    np.testing.assert_array_equal(out[..., DEPTH], [[1, 0, 1.5], [1, 0, 1.5]])
    assert not out[:, 1, [DU, DV]].any()


def test_a_block_without_depth_keeps_its_gray() -> None:
    out = shrunk(np.zeros((4, 4)), np.full((4, 4), 0.7))
    np.testing.assert_allclose(out[0, 0], [0, 0, 0, 0.7])


def test_a_factor_of_one_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    depth, gray = rng.uniform(0, 2, (2, 5, 6)).astype(np.float32)
    out = shrunk(depth, gray, 1)
    np.testing.assert_allclose(out[..., DEPTH], depth)
    np.testing.assert_allclose(out[..., GRAY], gray)
    assert not out[..., [DU, DV]].any()
