"""Depth of one camera in the pixels of another, against what the other would have measured."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.geometry.depth_registration import register_depth

DEPTH = Camera(130.0, 130.0, 79.5, 59.5, 160, 120)
# 15 mm beside, 3 mm above, turned a little.
T_COLOR_DEPTH = se3.exp([0.015, -0.003, 0.002, 0.004, -0.006, 0.003])
BOX = ((-0.06, -0.05, 0.35), (0.05, 0.04, 0.43))  # m, in the depth camera's frame
WALL = (0.15, -0.25, 1.0, 0.6)  # n . X = d: a tilted table behind the box
COLORS = {
    'the same': DEPTH,
    'more pixels': Camera(500.0, 500.0, 319.5, 239.5, 640, 480),
    'longer focal length': Camera(184.0, 184.0, 79.5, 59.5, 160, 120),
    'fewer pixels': Camera(72.0, 72.0, 39.5, 29.5, 80, 60),
}


def measured(camera: Camera, T_cam_depth: np.ndarray) -> np.ndarray:
    """Depth [H, W] of box and table by rays, exact."""
    T_depth_cam = se3.inverse(T_cam_depth)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = camera.back_project(np.stack([u, v], -1), np.ones(camera.shape)) @ T_depth_cam[:3, :3].T
    eye, n = T_depth_cam[:3, 3], np.array(WALL[:3])
    out = (WALL[3] - n @ eye) / (rays @ n)
    low, high = ((np.array(corner) - eye) / rays for corner in BOX)
    enter, leave = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
    hit = (enter > 0) & (enter < leave)
    return np.where(hit, np.minimum(enter, out), out)


def noticed(depth: np.ndarray) -> np.ndarray:
    """In whole millimetres, as it is recorded."""
    return (np.round(depth * 1000) / 1000).astype(np.float32)


@pytest.mark.parametrize('color', COLORS.values(), ids=COLORS)
def test_depth_is_what_the_other_camera_would_have_measured(color: Camera) -> None:
    got = register_depth(noticed(measured(DEPTH, np.eye(4))), DEPTH, color, T_COLOR_DEPTH)
    truth = measured(color, T_COLOR_DEPTH)
    known = got > 0
    error = np.abs(got - truth)[known]
    assert np.median(error) < 0.0007
    assert np.mean(error < 0.003) > 0.97
    # Where they do not agree it is a silhouette, a pixel of the depth camera wide.
    assert known[truth < 0.45].mean() > 0.95


@pytest.mark.parametrize('color', COLORS.values(), ids=COLORS)
def test_nothing_is_seen_through_the_surface_in_front(color: Camera) -> None:
    """Inside the outline of the box there is box, without holes; the table has none either."""
    got = register_depth(noticed(measured(DEPTH, np.eye(4))), DEPTH, color, T_COLOR_DEPTH)
    truth = measured(color, T_COLOR_DEPTH)
    reach = int(np.ceil(1.5 * color.fx / DEPTH.fx))  # of a depth pixel, in colour pixels
    for near in (True, False):
        inside = (truth < 0.45) == near
        for _ in range(reach):
            smaller = inside.copy()
            for axis in (0, 1):
                for shift in (1, -1):
                    smaller &= np.roll(inside, shift, axis)
            inside = smaller
        border = np.zeros_like(inside)
        border[2 * reach : -2 * reach, 3 * reach : -3 * reach] = True
        inside &= border
        if near:
            assert inside.sum() > 50
            assert (np.abs(got - truth)[inside] < 0.02).all()
        else:  # the shadow that the box throws for the depth camera is unknown, nothing else
            assert (np.abs(got - truth)[inside & (got > 0)] < 0.02).all()
            assert (got[inside] == 0).mean() < 0.02


def test_the_same_camera_changes_nothing() -> None:
    depth = noticed(measured(DEPTH, np.eye(4)))
    depth[10:20, 30:40] = 0
    depth[50, 60] = np.nan
    got = register_depth(depth, DEPTH, DEPTH, np.eye(4))
    np.testing.assert_allclose(got, np.nan_to_num(depth), atol=1e-6)


@pytest.mark.parametrize(
    'depth', [np.zeros(DEPTH.shape), np.full(DEPTH.shape, np.nan), np.full(DEPTH.shape, -1.0)]
)
def test_no_depth_stays_none(depth: np.ndarray) -> None:
    got = register_depth(depth.astype(np.float32), DEPTH, COLORS['more pixels'], T_COLOR_DEPTH)
    assert got.shape == (480, 640)
    assert not got.any()


def test_points_behind_the_other_camera_are_left_out() -> None:
    back = se3.from_rotation_translation(np.diag([1.0, -1, -1]), [0, 0, 0])
    assert not register_depth(np.ones(DEPTH.shape, np.float32), DEPTH, DEPTH, back).any()
    # Right before its lens a pixel covers all of the picture, in bounded time.
    close = se3.from_rotation_translation(np.eye(3), [0, 0, -0.9999999])
    register_depth(np.ones(DEPTH.shape, np.float32), DEPTH, COLORS['more pixels'], close)
