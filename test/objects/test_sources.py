"""Registration inputs: small data sets written here in the published layouts, and boards."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from gs_pose_ros.datasets.bop import (
    discretized_symmetries,
    read_bop_models,
    read_bop_split,
)
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.board import AprilTagGrid, CharucoBoard, estimate_board_pose
from gs_pose_ros.objects.sources import (
    read_bop_views,
    read_transforms_box,
    read_transforms_json,
    views_from_frames,
)

SIZE = (48, 64)
K = [60.0, 0, 31.5, 0, 61.0, 23.5, 0, 0, 1]


def write_bop_scene(folder: Path, first_image: int = 0, images: int = 3) -> np.ndarray:
    """Two objects (1 well visible, 2 hardly) in every image; returns the poses [n, 2, 4, 4]."""
    rng = np.random.default_rng(first_image)
    for kind in ('rgb', 'depth', 'mask_visib'):
        (folder / kind).mkdir(parents=True)
    cameras, truths, infos, poses = {}, {}, {}, []
    for i in range(first_image, first_image + images):
        cv2.imwrite(str(folder / f'rgb/{i:06d}.png'), np.full((*SIZE, 3), (1, 2, i), np.uint8))
        cv2.imwrite(str(folder / f'depth/{i:06d}.png'), np.full(SIZE, 5000 + i, np.uint16))
        cameras[str(i)] = {'cam_K': K, 'depth_scale': 0.1}
        T = se3.exp(rng.normal(size=(2, 6)))
        poses.append(T)
        truths[str(i)] = [
            {
                'obj_id': k + 1,
                'cam_R_m2c': np.round(T[k, :3, :3], 6).ravel().tolist(),
                'cam_t_m2c': (1000 * T[k, :3, 3]).tolist(),
            }
            for k in range(2)
        ]
        infos[str(i)] = [{'visib_fract': 0.9}, {'visib_fract': 0.05}]
        for k in range(2):
            mask = np.zeros(SIZE, np.uint8)
            mask[10 : 20 + k, 5:30] = 255
            cv2.imwrite(str(folder / f'mask_visib/{i:06d}_{k:06d}.png'), mask)
    for name, content in (('camera', cameras), ('gt', truths), ('gt_info', infos)):
        (folder / f'scene_{name}.json').write_text(json.dumps(content))
    return np.array(poses)


def write_models(folder: Path, **extra) -> None:
    folder.mkdir(parents=True)
    mesh = trimesh.creation.box(extents=[20, 40, 60])
    info = {}
    for i in (1, 2):
        mesh.export(folder / f'obj_{i:06d}.ply')
        low = dict(zip(('min_x', 'min_y', 'min_z'), (-10, -20, -30), strict=True))
        size = dict(zip(('size_x', 'size_y', 'size_z'), (20, 40, 60), strict=True))
        info[str(i)] = {'diameter': 74.8331, **low, **size, **(extra if i == 2 else {})}
    (folder / 'models_info.json').write_text(json.dumps(info))


# --- BOP ---------------------------------------------------------------------------------------


def test_a_bop_split_is_read_in_metres(tmp_path: Path) -> None:
    poses = write_bop_scene(tmp_path / 'test' / '000003', images=2)
    write_bop_scene(tmp_path / 'test' / '000001', images=1)
    images = read_bop_split(tmp_path, 'test')
    assert [i.name for i in images] == ['000001/000000', '000003/000000', '000003/000001']
    frame = images[2].read_frame()
    assert frame.depth is not None
    assert frame.depth[0, 0] == pytest.approx(0.5001)  # 5001 steps of 0.1 mm
    np.testing.assert_allclose(frame.color[0, 0], np.array([1, 2, 1]) / 255)  # RGB, not BGR
    assert frame.camera == Camera(60, 61, 31.5, 23.5, 64, 48)
    np.testing.assert_allclose(images[2].instances[1].T_cam_obj, poses[1, 1], atol=1e-5)
    mask = images[2].instances[1].visible_mask()
    assert mask is not None
    assert mask.sum() == 11 * 25
    assert images[2].read_frame(with_depth=False).depth is None


def test_a_scene_in_the_root_and_ranges_of_images(tmp_path: Path) -> None:
    write_bop_scene(tmp_path, images=6)
    assert len(read_bop_split(tmp_path, '.')) == 6
    assert [i.image_id for i in read_bop_split(tmp_path, '.:2-4')] == [2, 3, 4]
    assert len(read_bop_views(tmp_path / '.:0-2', 1)) == 3
    with pytest.raises(GsPoseError, match='no image numbers'):
        read_bop_split(tmp_path, '.:7-9')
    with pytest.raises(GsPoseError, match='FIRST-LAST'):
        read_bop_split(tmp_path, '.:x')


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


def test_what_an_incomplete_set_lacks_is_optional_or_named(tmp_path: Path) -> None:
    folder = tmp_path / 'test' / '000001'
    write_bop_scene(folder)
    for path in (folder / 'depth').iterdir():
        path.unlink()
    (folder / 'scene_gt_info.json').unlink()
    (folder / 'rgb' / '000001.png').unlink()
    images = read_bop_split(tmp_path, 'test')
    assert len(images) == 2
    assert images[0].read_frame().depth is None
    assert images[0].instances[1].visible_fraction == 1.0
    assert len(read_bop_split(tmp_path, 'test', with_pictures=False)) == 3
    (folder / 'rgb' / '000000.png').write_bytes(b'no picture')
    with pytest.raises(GsPoseError, match=r'000000\.png'):
        images[0].read_frame()
    (folder / 'scene_gt.json').write_text('{"0": [{"obj_id": 1}]}')
    with pytest.raises(GsPoseError, match='image 0'):
        read_bop_split(tmp_path, 'test')
    (folder / 'scene_gt.json').write_text('{')
    with pytest.raises(GsPoseError, match=r'scene_gt\.json'):
        read_bop_split(tmp_path, 'test')
    with pytest.raises(GsPoseError, match='no scene_camera'):
        read_bop_split(tmp_path, 'val')


def test_models_carry_symmetries_and_enough_points(tmp_path: Path) -> None:
    turn = np.diag([-1.0, -1, 1, 1])
    turn[0, 3] = 10  # mm
    write_models(tmp_path / 'models', symmetries_discrete=[turn.ravel().tolist()])
    models = read_bop_models(tmp_path)
    assert models[1].diameter_m == pytest.approx(0.0748331)
    np.testing.assert_allclose(models[1].box, [[-0.01, -0.02, -0.03], [0.01, 0.02, 0.03]])
    np.testing.assert_allclose(np.abs(models[1].points).max(0), [0.01, 0.02, 0.03])
    assert len(models[1].points) > 500  # the mesh has eight corners
    assert len(models[1].symmetries) == 0
    assert models[2].symmetries[0, 0, 3] == pytest.approx(0.01)
    assert list(read_bop_models(tmp_path, [2])) == [2]
    with pytest.raises(GsPoseError, match='no object 9'):
        read_bop_models(tmp_path, [9])
    (tmp_path / 'models' / 'obj_000001.ply').unlink()
    with pytest.raises(GsPoseError, match=r'obj_000001\.ply'):
        read_bop_models(tmp_path)


def test_a_continuous_symmetry_is_sampled_about_its_axis() -> None:
    info = {'symmetries_continuous': [{'axis': [0, 0, 2], 'offset': [5, 0, 0]}]}
    T = discretized_symmetries(info)
    assert 300 < len(T) < 330
    point_on_axis = np.array([[0.005, 0, 0.3]])
    for motion in T[::20]:
        assert se3.is_rigid(motion)
        np.testing.assert_allclose(se3.transform(motion, point_on_axis), point_on_axis, atol=1e-12)
    flip = np.diag([1.0, -1, -1, 1])
    both = discretized_symmetries({**info, 'symmetries_discrete': [flip.ravel().tolist()]})
    assert len(both) == 2 * (len(T) + 1) - 1


# --- transforms.json ---------------------------------------------------------------------------


def _camera_to_world_gl(T_cam_obj: np.ndarray) -> list:
    return (se3.inverse(T_cam_obj) @ np.diag([1.0, -1, -1, 1])).tolist()


def _write_transforms(folder: Path, top: dict, frames: list[dict]) -> None:
    (folder / 'transforms.json').write_text(json.dumps({**top, 'frames': frames}))


def test_opengl_axes_and_half_pixels_are_converted(tmp_path: Path) -> None:
    T_cam_obj = se3.exp([0.1, -0.2, 1.5, 0.3, 0.2, -0.1])
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*SIZE, 3), np.uint8))
    _write_transforms(
        tmp_path,
        {
            'fl_x': 60,
            'fl_y': 61,
            'cx': 32,
            'cy': 24,
            'w': 64,
            'h': 48,
            'aabb': [[0, 0, 0], [1, 2, 3]],
        },
        [
            {'file_path': 'a.png', 'transform_matrix': _camera_to_world_gl(T_cam_obj)},
            {'file_path': 'missing.png', 'transform_matrix': np.eye(4).tolist()},
            {'file_path': 'a', 'fl_x': 70, 'transform_matrix': _camera_to_world_gl(T_cam_obj)},
        ],
    )
    views = read_transforms_json(tmp_path)
    assert len(views) == 2
    np.testing.assert_allclose(views[0].T_cam_obj, T_cam_obj, atol=1e-12)
    # The middle of the picture is (32, 24) where it spans [0, 64], and (31.5, 23.5) with us.
    assert views[0].camera == Camera(60, 61, 31.5, 23.5, 64, 48)
    assert views[1].camera.fx == 70  # the frame's own value, and a file_path without suffix
    scaled = read_transforms_json(tmp_path, max_views=1, metres_per_unit=0.1)
    assert len(scaled) == 1
    np.testing.assert_allclose(
        se3.inverse(scaled[0].T_cam_obj)[:3, 3], 0.1 * se3.inverse(T_cam_obj)[:3, 3]
    )
    box = read_transforms_box(tmp_path, 0.1)
    assert box is not None
    np.testing.assert_allclose(box, [[0, 0, 0], [0.1, 0.2, 0.3]])


def test_field_of_view_alpha_depth_and_masks(tmp_path: Path) -> None:
    pixels = np.zeros((*SIZE, 4), np.uint8)
    pixels[10:20, 10:20, 3] = 255
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    cv2.imwrite(str(tmp_path / 'd.png'), np.full(SIZE, 1234, np.uint16))
    cv2.imwrite(str(tmp_path / 'm.png'), np.eye(48, 64, dtype=np.uint8))
    pose = {'transform_matrix': _camera_to_world_gl(se3.exp([0, 0, 1.0, 0, 0, 0]))}
    _write_transforms(
        tmp_path,
        {'camera_angle_x': 2 * np.arctan(0.5)},
        [
            {'file_path': 'a', **pose},
            {'file_path': 'a', 'mask_path': 'm.png', 'depth_file_path': 'd.png', **pose},
        ],
    )
    views = read_transforms_json(tmp_path)
    assert views[0].camera.fx == pytest.approx(64)
    assert views[0].mask is not None
    assert views[0].mask.sum() == 100
    assert views[1].mask is not None
    assert views[1].mask.sum() == 48
    assert views[1].depth is not None
    np.testing.assert_allclose(views[1].depth, 1.234, atol=1e-6)
    assert read_transforms_box(tmp_path) is None


def test_distorted_pictures_become_pinhole_pictures(tmp_path: Path) -> None:
    """Dots where the distorted camera sees known points land where `Camera` projects them."""
    height, width = 480, 640
    fx, cx, cy = 500.0, 320.5, 241.0
    k1, k2, p1, p2 = 0.06, -0.08, -0.001, 0.0005
    grid = np.stack(np.meshgrid(np.linspace(-0.3, 0.3, 5), np.linspace(-0.2, 0.2, 4)), -1)
    points = np.concatenate([grid.reshape(-1, 2), np.ones((20, 1))], 1)
    Kf = np.array([[fx, 0, cx], [0, fx, cy], [0, 0, 1]])
    seen, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), Kf, np.array([k1, k2, p1, p2]))
    image = np.zeros((height, width, 3), np.uint8)
    for u, v in seen.reshape(-1, 2):  # the file's pixel centres are at +0.5
        centre = (round((u - 0.5) * 16), round((v - 0.5) * 16))
        cv2.circle(image, centre, 4 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    _write_transforms(
        tmp_path,
        {
            'fl_x': fx,
            'fl_y': fx,
            'cx': cx,
            'cy': cy,
            'k1': k1,
            'k2': k2,
            'p1': p1,
            'p2': p2,
        },
        [{'file_path': 'a.png', 'transform_matrix': np.diag([1, -1, -1, 1]).tolist()}],
    )
    view = read_transforms_json(tmp_path)[0]
    np.testing.assert_allclose(view.T_cam_obj, np.eye(4), atol=1e-12)
    for u, v in view.camera.project(points):
        rows, cols = np.mgrid[round(v) - 9 : round(v) + 10, round(u) - 9 : round(u) + 10]
        weight = view.color[rows, cols, 0].astype(float)
        found = np.array([(weight * cols).sum(), (weight * rows).sum()]) / weight.sum()
        np.testing.assert_allclose(found, [u, v], atol=0.1)


@pytest.mark.parametrize(
    ('top', 'frame', 'message'),
    [
        ({}, {}, 'fl_x'),
        ({'fl_x': 60}, {'transform_matrix': [[1, 0], [0, 1]]}, 'transform_matrix'),
        ({'fl_x': 60}, {'transform_matrix': (2 * np.eye(4)).tolist()}, 'rigid'),
        ({'fl_x': 60, 'camera_model': 'OPENCV_FISHEYE'}, {}, 'fisheye'),
        ({'fl_x': 60, 'is_fisheye': True}, {}, 'fisheye'),
        ({'fl_x': 60, 'k4': 0.1}, {}, 'k4'),
        ({'fl_x': 'wide'}, {}, 'wide'),
        ({'fl_x': 60}, {'mask_path': 'none.png'}, 'none.png'),
        ({'fl_x': 60}, {'mask_path': 'small.png'}, 'mask is'),
    ],
)
def test_unusable_entries_are_named(tmp_path: Path, top, frame, message: str) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((*SIZE, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((4, 4), np.uint8))
    entry = {'file_path': 'a.png', 'transform_matrix': np.eye(4).tolist(), **frame}
    _write_transforms(tmp_path, top, [entry])
    with pytest.raises(GsPoseError, match=message) as error:
        read_transforms_json(tmp_path)
    assert 'transforms.json' in str(error.value)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"frames": [{}]}', '{"frames": 3}'])
def test_files_that_are_no_transforms_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / 'transforms.json').write_text(text)
    with pytest.raises(GsPoseError, match=r'transforms\.json'):
        read_transforms_json(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GsPoseError, match='not readable'):
        read_transforms_json(tmp_path)
    _write_transforms(tmp_path, {'fl_x': 1}, [{'file_path': 'a.png'}])
    with pytest.raises(GsPoseError, match='none of its 1 pictures'):
        read_transforms_json(tmp_path)


# --- boards ------------------------------------------------------------------------------------

CAMERA = Camera(620, 615, 322.0, 236.0, 640, 480)
CHARUCO = CharucoBoard(7, 5, 0.04, 0.03)
APRILTAG = AprilTagGrid(5, 4, 0.05, 0.015)
BOARDS = pytest.mark.parametrize('board', [CHARUCO, APRILTAG], ids=['charuco', 'apriltag'])


def look_at_board(tilt: float, turn: float, distance: float) -> np.ndarray:
    """T_cam_obj of a board seen from above its +z side."""
    # Camera straight above: x with the board's, y and z against.
    above = se3.from_rotation_translation(np.diag([1.0, -1, -1]), [0, 0, distance])
    tilted = se3.exp([0, 0, 0, tilt, 0, 0])
    turned = se3.exp([0, 0, 0, 0, 0, turn])
    return above @ tilted @ turned


def draw_board(board: CharucoBoard | AprilTagGrid, T_cam_obj: np.ndarray) -> np.ndarray:
    """The board on a gray ground, supersampled; RGB [H, W, 3]."""
    width, height = board.size_m
    per_metre = 5000
    size = (round(width * per_metre), round(height * per_metre))
    texture = board.to_opencv().generateImage(size, marginSize=0)
    assert texture.shape == (size[1], size[0])
    factor = 3
    # Texture pixel (a, b) is the board point below; then project at `factor` times the size.
    board_from_texture = np.array(
        [
            [1 / per_metre, 0, 0.5 / per_metre - width / 2],
            [0, -1 / per_metre, height / 2 - 0.5 / per_metre],
            [0, 0, 1],
        ]
    )
    large = CAMERA.scaled(factor)
    H = large.matrix @ T_cam_obj[:3, [0, 1, 3]] @ board_from_texture
    picture = cv2.warpPerspective(
        texture, H, (large.width, large.height), flags=cv2.INTER_AREA, borderValue=160
    )
    small = cv2.resize(picture, (CAMERA.width, CAMERA.height), interpolation=cv2.INTER_AREA)
    return np.repeat(small[..., None], 3, -1)


@BOARDS
@pytest.mark.parametrize(('tilt', 'turn'), [(0.0, 0.0), (0.6, 0.4), (-0.7, 2.5), (0.5, -1.6)])
def test_the_pose_of_a_drawn_board_is_found(board, tilt: float, turn: float) -> None:
    T = look_at_board(tilt, turn, 0.6)
    found = estimate_board_pose(draw_board(board, T), CAMERA, board)
    assert np.degrees(se3.rotation_angle(found[:3, :3], T[:3, :3])) < 0.5
    assert np.linalg.norm(found[:3, 3] - T[:3, 3]) < 0.002
    # z comes out of the print: a point above the board is nearer to the camera.
    assert se3.transform(found, [[0, 0, 0.1]])[0, 2] < found[2, 3]


@BOARDS
def test_a_covered_board_is_still_found(board) -> None:
    T = look_at_board(0.5, 0.3, 0.6)
    image = draw_board(board, T)
    image[190:300, 260:380] = (180, 60, 20)  # the object that stands on it
    found = estimate_board_pose(image, CAMERA, board)
    assert np.degrees(se3.rotation_angle(found[:3, :3], T[:3, :3])) < 0.5
    assert np.linalg.norm(found[:3, 3] - T[:3, 3]) < 0.002


@BOARDS
def test_a_picture_without_the_board_says_so(board) -> None:
    with pytest.raises(GsPoseError, match='not seen'):
        estimate_board_pose(np.full((480, 640, 3), 90, np.uint8), CAMERA, board)


def test_another_board_is_not_mistaken_for_ours() -> None:
    image = draw_board(CHARUCO, look_at_board(0.3, 0.2, 0.6))
    with pytest.raises(GsPoseError, match=r'not seen|contradict|misses'):
        estimate_board_pose(image, CAMERA, AprilTagGrid(5, 4, 0.05, 0.015, 'DICT_5X5_100', 40))
    with pytest.raises(GsPoseError, match=r'not seen|contradict|misses'):
        estimate_board_pose(image, CAMERA, CharucoBoard(7, 5, 0.04, 0.03, 'DICT_6X6_100'))
    with pytest.raises(GsPoseError, match=r'DICT_NO.*is unknown'):
        estimate_board_pose(image, CAMERA, CharucoBoard(7, 5, 0.04, 0.03, 'DICT_NO'))


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
