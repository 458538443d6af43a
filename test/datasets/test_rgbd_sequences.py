"""Sequences in folders: what is read, and what is said of those that cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from gs_pose_ros.datasets.rgbd_sequences import (
    chosen,
    read_sequence,
    read_seven_scenes,
    read_tum,
    read_tum_trajectory,
    write_tum_trajectory,
)
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from test.datasets.sequence_folders import SIZE, write_picture

INTRINSICS = '# ours\n10 11 3.5 2.5 8 6 1000\n'


def color(red: int) -> np.ndarray:
    out = np.zeros((*SIZE, 3), np.uint8)  # BGR, as OpenCV writes it
    out[...] = [10, 20, red]
    return out


def depth(units: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full(size, units, np.uint16)


@pytest.fixture
def tum(tmp_path: Path) -> Path:
    """Three pictures; the second has no depth near it."""
    (tmp_path / 'rgb.txt').write_text(
        '# color\n0.20 rgb/c.png\n0.00 rgb/a.png\n\n0.10 rgb/b.png\n'  # not in order
    )
    (tmp_path / 'depth.txt').write_text('0.01 depth/a.png\n0.13 depth/b.png\n0.19 depth/c.png\n')
    for name, value in (('a', 100), ('b', 101), ('c', 102)):
        write_picture(tmp_path / f'rgb/{name}.png', color(value))
        write_picture(tmp_path / f'depth/{name}.png', depth(10 * value))
    (tmp_path / 'intrinsics.txt').write_text(INTRINSICS)
    (tmp_path / 'groundtruth.txt').write_text(
        '# stamp tx ty tz qx qy qz qw\n'
        '0.015 3 0 0 0 0 0.7071067811865476 0.7071067811865476\n'
        '-0.005 1 2 0 0 0 0 1\n'
    )
    return tmp_path


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    for i in (3, 0):
        write_picture(tmp_path / f'frame-{i:06d}.color.png', np.zeros((480, 640, 3), np.uint8))
        values = depth(1500, (480, 640))
        values[0, 0], values[0, 1] = 65535, 0
        write_picture(tmp_path / f'frame-{i:06d}.depth.png', values)
        np.savetxt(tmp_path / f'frame-{i:06d}.pose.txt', pose)
    return tmp_path


# --- TUM ---------------------------------------------------------------------------------------


def test_colour_and_depth_come_together_by_their_stamps(tum: Path) -> None:
    frames = read_sequence(tum)
    assert [frame.number for frame in frames] == ['a', 'c']  # in the order of time; b is skipped
    assert [frame.stamp_ns for frame in frames] == [0, 200_000_000]
    assert [frame.depth.name for frame in frames] == ['a.png', 'c.png']
    first = frames[0].read()
    assert first.stamp_ns == 0
    np.testing.assert_allclose(first.color[2, 3], np.array([100, 20, 10]) / 255, atol=1e-6)
    assert first.depth is not None
    assert first.depth.dtype == np.float32
    np.testing.assert_allclose(first.depth, 1.0)  # 1000 units
    camera = first.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (10, 11, 3.5, 2.5)
    assert camera.shape == SIZE


def test_lists_need_no_order(tum: Path) -> None:
    in_order = read_tum(tum)
    for name in ('rgb.txt', 'depth.txt', 'groundtruth.txt'):
        lines = (tum / name).read_text().splitlines()
        (tum / name).write_text('\n'.join(reversed(lines)) + '\n')
    for a, b in zip(in_order, read_tum(tum), strict=True):
        assert (a.color, a.depth, a.stamp_ns) == (b.color, b.depth, b.stamp_ns)
        np.testing.assert_equal(a.T_world_cam, b.T_world_cam)


def test_the_true_pose_is_that_between_two_stamps(tum: Path) -> None:
    first, last = read_tum(tum)
    # A quarter of the way, from -0.005 s to 0.015 s, between (1, 2, 0), not turned, and
    # (3, 0, 0), turned by 90 degrees about z.
    expected = se3.exp([0, 0, 0, 0, 0, np.pi / 8])
    expected[:3, 3] = 1.5, 1.5, 0
    np.testing.assert_allclose(first.T_world_cam, expected, atol=1e-9)
    assert last.T_world_cam is None  # 185 ms after the last that is known


def test_a_pose_just_outside_the_known_ones_is_the_nearest(tum: Path) -> None:
    (tum / 'groundtruth.txt').write_text('0.01 1 0 0 0 0 0 1\n0.19 2 0 0 0 0 0 1\n')
    first, last = read_tum(tum)
    assert first.T_world_cam is not None
    assert last.T_world_cam is not None
    np.testing.assert_allclose(first.T_world_cam[:3, 3], [1, 0, 0])
    np.testing.assert_allclose(last.T_world_cam[:3, 3], [2, 0, 0])


def test_a_pose_at_the_very_stamp_is_taken_as_it_is(tum: Path) -> None:
    (tum / 'groundtruth.txt').write_text('0.0 1 0 0 0 0 0 1\n0.2 2 0 0 0 0 0 1\n')
    poses = [frame.T_world_cam for frame in read_tum(tum)]
    assert all(pose is not None for pose in poses)
    assert [pose[0, 3] for pose in poses if pose is not None] == [1, 2]


def test_a_gap_in_the_truth_is_not_bridged(tum: Path) -> None:
    (tum / 'groundtruth.txt').write_text('-1.0 1 0 0 0 0 0 1\n1.0 2 0 0 0 0 0 1\n')
    assert [frame.T_world_cam for frame in read_tum(tum)] == [None, None]


def test_without_truth_there_are_no_poses(tum: Path) -> None:
    (tum / 'groundtruth.txt').unlink()
    assert [frame.T_world_cam for frame in read_tum(tum)] == [None, None]


def test_without_intrinsics_the_benchmarks_hold_and_are_announced(tum: Path) -> None:
    assert read_tum(tum).notes == ()
    (tum / 'intrinsics.txt').unlink()
    for path in (*tum.glob('rgb/*'), *tum.glob('depth/*')):
        write_picture(path, cv2.resize(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), (640, 480)))
    sequence = read_tum(tum)
    frame = sequence[0]
    assert frame.camera == Camera(525, 525, 319.5, 239.5, 640, 480)
    assert frame.depth_units == 5000
    assert frame.read().depth is not None
    (note,) = sequence.notes
    assert re.search(r'intrinsics\.txt: missing; assumed .*fx 525.*319\.5.*5000 units', note)
    assert 'fx fy cx cy width height depth_units_per_metre' in note


def test_without_intrinsics_other_sizes_are_refused_with_what_to_write(tum: Path) -> None:
    (tum / 'intrinsics.txt').unlink()
    said = r'intrinsics\.txt: missing.*a\.png is 8 x 6, not 640 x 480.*"fx fy cx cy width height'
    with pytest.raises(GsPoseError, match=said):
        read_tum(tum)


def test_intrinsics_of_another_size_than_the_pictures_are_refused(tum: Path) -> None:
    (tum / 'intrinsics.txt').write_text('20 20 7.5 5.5 16 12 1000')
    with pytest.raises(GsPoseError, match=r'a\.png: is 8 x 6, its camera 16 x 12 \(intrinsics'):
        read_tum(tum)


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('depth.txt', None, r'depth\.txt: missing'),
        ('depth.txt', '0.0\n', r'depth\.txt: line 1: has 1 columns, not 2'),
        (
            'depth.txt',
            '7.0 depth/a.png\n',
            r'none of the 3 pictures.*3 x depth\.txt has nothing within',
        ),
        ('depth.txt', '', r'none of the 3 pictures.*3 x depth\.txt has nothing within'),
        ('depth.txt', 'x depth/a.png\n', r'depth\.txt'),
        ('rgb.txt', 'x rgb/a.png\n', r'rgb\.txt'),
        ('rgb.txt', 'nan rgb/a.png\n', r'rgb\.txt: line 1: stamp nan is no time'),
        ('groundtruth.txt', '0.0 1 2 3\n', r'groundtruth\.txt: line 1: has 4 columns, not 8'),
        ('groundtruth.txt', '0.0 1 2 3 0 0 0 one\n', r"groundtruth\.txt: .*'one'"),
        (
            'groundtruth.txt',
            '0.0 1 2 3 0 0 0 0\n',
            r'groundtruth\.txt: line 1: .*has length 0, not 1',
        ),
        (
            'intrinsics.txt',
            '10 11 3.5 2.5 8 6\n',
            r'intrinsics\.txt: line 1: has 6 columns, not 7',
        ),
        ('intrinsics.txt', '# none\n', r'intrinsics\.txt: has 0 lines of numbers'),
        ('intrinsics.txt', '10 11 3.5 2.5 8 six 1000\n', r"intrinsics\.txt: .*'six'"),
        ('intrinsics.txt', '0 11 3.5 2.5 8 6 1000\n', r'intrinsics\.txt: .*no focal lengths'),
        ('intrinsics.txt', '10 11 3.5 2.5 8 6 0\n', r'intrinsics\.txt: .*0 units'),
    ],
)
def test_a_list_that_cannot_be_read_is_named(
    tum: Path, name: str, text: str | None, message: str
) -> None:
    if text is None:
        (tum / name).unlink()
    else:
        (tum / name).write_text(text)
    with pytest.raises(GsPoseError, match=message):
        read_sequence(tum)


def test_a_list_that_is_no_text_is_named(tum: Path) -> None:
    (tum / 'depth.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(GsPoseError, match=r'depth\.txt: not readable'):
        read_tum(tum)


# --- Pictures ----------------------------------------------------------------------------------


def test_a_missing_or_broken_picture_is_named(tum: Path) -> None:
    first, last = read_tum(tum)
    first.color.unlink()
    with pytest.raises(GsPoseError, match=r'rgb/a\.png: missing'):
        first.read()
    last.depth.write_bytes(b'no picture')
    with pytest.raises(GsPoseError, match=r'depth/c\.png: 10 bytes are not a picture'):
        last.read()


@pytest.mark.parametrize('values', [np.full(SIZE, 7, np.uint8), np.full((*SIZE, 3), 7, np.uint16)])
def test_depth_of_another_kind_is_refused(tum: Path, values: np.ndarray) -> None:
    frame = read_tum(tum)[0]
    write_picture(frame.depth, values)
    with pytest.raises(GsPoseError, match=r'a\.png: depth is 16 bit with one channel'):
        frame.read()


def test_no_measurement_is_zero(tum: Path) -> None:
    frame = read_tum(tum)[0]
    values = depth(1000)
    values[1, 2], values[3, 4] = 65535, 0
    write_picture(frame.depth, values)
    got = frame.read().depth
    assert got is not None
    assert got[1, 2] == got[3, 4] == 0
    assert np.count_nonzero(got) == got.size - 2


# --- 7-Scenes ----------------------------------------------------------------------------------


def test_the_frames_of_seven_scenes_are_read_in_order(seven: Path) -> None:
    frames = read_sequence(seven)
    assert [frame.number for frame in frames] == ['frame-000000.color', 'frame-000003.color']
    assert [frame.stamp_ns for frame in frames] == [0, 100_000_000]
    read = frames[1].read()
    assert read.depth is not None
    assert read.depth[5, 5] == pytest.approx(1.5)  # millimetres
    assert read.depth[0, 0] == read.depth[0, 1] == 0  # 65535 is what was not measured
    assert read.camera.fx == 585
    assert frames[0].T_world_cam is not None
    np.testing.assert_allclose(frames[0].T_world_cam[:3, 3], [1, 2, 3])


def test_a_rotation_that_is_not_quite_one_is_made_one(seven: Path) -> None:
    pose = np.loadtxt(seven / 'frame-000000.pose.txt')
    pose[:3, :3] *= 1.01
    np.savetxt(seven / 'frame-000000.pose.txt', pose)
    T = read_seven_scenes(seven)[0].T_world_cam
    assert T is not None
    np.testing.assert_allclose(T[:3, :3], np.eye(3), atol=1e-12)


def test_a_frame_whose_pose_is_not_known_has_none(seven: Path) -> None:
    (seven / 'frame-000000.pose.txt').unlink()
    np.savetxt(seven / 'frame-000003.pose.txt', np.full((4, 4), np.nan))
    assert [frame.T_world_cam for frame in read_seven_scenes(seven)] == [None, None]


@pytest.mark.parametrize('text', ['1 2 3\n', 'one two\n', '1 0 0 0\n0 1 0\n'])
def test_a_pose_that_cannot_be_read_is_named(seven: Path, text: str) -> None:
    (seven / 'frame-000003.pose.txt').write_text(text)
    with pytest.raises(GsPoseError, match=r'frame-000003\.pose\.txt: is not a 4 x 4 matrix'):
        read_seven_scenes(seven)


def test_a_folder_in_neither_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GsPoseError, match='neither rgb.txt'):
        read_sequence(tmp_path)


# --- Trajectories and lists --------------------------------------------------------------------


def test_a_trajectory_that_is_written_is_read_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    poses = [se3.exp(rng.normal(size=6)) for _ in range(5)]
    stamps_ns = [1_341_846_313_592_026_000 + k * 33_333_333 for k in range(5)]
    path = tmp_path / 'new' / 'trajectory.txt'
    write_tum_trajectory(path, stamps_ns, poses)
    stamps, read = read_tum_trajectory(path)
    np.testing.assert_allclose(read, poses, atol=2e-9)
    # Seconds in double precision, and today's: some 0.2 us.
    assert np.abs(np.array(stamps) - np.array(stamps_ns) / 1e9).max() < 1e-6


def test_as_many_stamps_as_poses_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='zip'):
        write_tum_trajectory(tmp_path / 'trajectory.txt', [1, 2], [np.eye(4)])


def test_a_trajectory_is_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / 'trajectory.txt'
    poses = [np.eye(4), se3.exp([5, 0, 0, 0, 0, 0])]
    write_tum_trajectory(path, [2_000_000_000, 1_000_000_000], poses)
    stamps, read = read_tum_trajectory(path)
    assert stamps == [1, 2]
    assert [T[0, 3] for T in read] == [5, 0]


def test_a_list_chooses_frames_by_their_numbers(tum: Path) -> None:
    frames = read_tum(tum)
    path = tum / 'test.txt'
    path.write_text('# for the test\nc\na\n')
    assert [frame.number for frame in chosen(frames, path)] == ['c', 'a']
    path.write_text('c\nb\n')
    with pytest.raises(GsPoseError, match=r'test\.txt: names b, which'):
        chosen(frames, path)
    with pytest.raises(GsPoseError, match=r'none\.txt: missing'):
        chosen(frames, tum / 'none.txt')
