"""Views to register an object from: of sets in BOP's layout, of frames with known poses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.bop_views import read_bop_views
from gs_pose_ros.objects.sources import views_from_frames
from test.datasets.bop_set import write_bop_scene

from .drawn_board import CAMERA, CHARUCO, draw_board, look_at_board


def test_views_of_one_object_leave_out_hidden_ones(tmp_path: Path) -> None:
    poses = write_bop_scene(tmp_path / 'train' / '000001', images=5)
    views = read_bop_views(tmp_path / 'train', 1, max_views=3)
    assert len(views) == 3
    np.testing.assert_allclose(views[-1].T_cam_obj, poses[4, 0], atol=1e-5)
    assert views[0].mask is not None
    assert views[0].color.dtype == np.uint8
    with pytest.raises(GsPoseError, match='no image shows object 2'):
        read_bop_views(tmp_path / 'train', 2)
    assert len(read_bop_views(tmp_path / 'train', 2, min_visible=0.0)) == 5
    bare = read_bop_views(tmp_path / 'train', 1, with_depth=False, with_masks=False)[0]
    assert bare.depth is None
    assert bare.mask is None


def test_an_object_that_was_laid_down_anew_is_in_a_new_session(tmp_path: Path) -> None:
    scene = tmp_path / 'train' / '000001'
    poses = write_bop_scene(scene, images=6)[:, 0]
    placed = [se3.exp([0.1, 0, 0, 0, 0, 0]), se3.exp([0.1, 0, 0, 3, 0, 0])]
    cameras = json.loads((scene / 'scene_camera.json').read_text())
    for i, T_cam_obj in enumerate(poses):
        T_cam_world = T_cam_obj @ se3.inverse(placed[i // 3])
        cameras[str(i)]['cam_R_w2c'] = T_cam_world[:3, :3].ravel().tolist()
        cameras[str(i)]['cam_t_w2c'] = (1000 * T_cam_world[:3, 3]).tolist()
    sessions = [view.session for view in read_bop_views(tmp_path / 'train', 1)]
    assert sessions == [0] * 6  # nothing is known of the world
    (scene / 'scene_camera.json').write_text(json.dumps(cameras))
    sessions = [view.session for view in read_bop_views(tmp_path / 'train', 1)]
    assert sessions == [0, 0, 0, 1, 1, 1]


def test_frames_with_a_board_become_views() -> None:
    poses = [look_at_board(0.5, turn, 0.6) for turn in (0.0, 0.5, 1.0)]
    depth = np.full(CAMERA.shape, 0.6, np.float32)
    frames = [RGBDFrame.from_uint8(draw_board(CHARUCO, T), depth, CAMERA) for T in poses]
    blank = RGBDFrame.from_uint8(np.zeros((480, 640, 3), np.uint8), None, CAMERA)
    T_board_obj = se3.exp([0.02, 0.01, 0.05, 0, 0, 0.3])
    views = views_from_frames([frames[0], blank, *frames[1:]], CHARUCO, T_board_obj)
    assert len(views) == 3
    for view, T in zip(views, poses, strict=True):
        np.testing.assert_allclose(view.T_cam_obj, T @ T_board_obj, atol=0.01)
        assert view.depth is not None
        assert view.mask is None
    with pytest.raises(GsPoseError, match=r'no frame can be used.*not seen'):
        views_from_frames([blank], CHARUCO)


def test_frames_with_known_poses_become_views() -> None:
    rng = np.random.default_rng(0)
    color = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    frame = RGBDFrame.from_uint8(color, None, CAMERA)
    T = look_at_board(0.2, 0.1, 0.5)
    views = views_from_frames([frame] * 5, [T, None, T, T, T], max_views=2)
    assert len(views) == 2
    np.testing.assert_array_equal(views[0].color, color)
    with pytest.raises(GsPoseError, match='no pose was given'):
        views_from_frames([frame], [None])
    with pytest.raises(GsPoseError, match='there are no frames'):
        views_from_frames([], [])
