"""Sequences as other tools write them: what is read, counted and said, and what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gs_pose_ros.datasets.rgbd_sequences import (
    chosen,
    read_sequence,
    read_tum,
    read_tum_trajectory,
)
from gs_pose_ros.datasets.tum_files import read_intrinsics
from gs_pose_ros.errors import GsPoseError
from test.datasets.sequence_folders import (
    POSE,
    SIZE,
    STAMPS,
    rows,
    write_picture,
    write_seven,
    write_tum,
)

KITTI = '-0.1 0.4 -0.9 0.36 1.0 0.04 -0.09 0.03 0.0 -0.9 -0.42 0.17'
EUROC = '1403636579758555392,4.688,-1.786,0.783,0.534,-0.153,-0.827,-0.082'


@pytest.fixture
def tum(tmp_path: Path) -> Path:
    return write_tum(tmp_path / 'tum')


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    return write_seven(tmp_path / 'seven')


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


# --- Trajectories ------------------------------------------------------------------------------


@pytest.mark.parametrize('bad', ['nan', 'inf', '-inf', 'NaN'])
def test_rows_with_nan_are_left_out_and_counted(tum: Path, bad: str) -> None:
    lost = ' '.join([f'{STAMPS[1]:.6f}', *[bad] * 7])
    (tum / 'groundtruth.txt').write_text(
        '\n'.join(
            lost if k == 1 else line for k, line in enumerate(rows('groundtruth').split('\n'))
        )
    )
    sequence = read_tum(tum)
    assert [frame.T_world_cam is None for frame in sequence] == [False, True, False]
    assert sequence[1].why_no_pose == 'groundtruth.txt has no pose within 0.02 s'
    assert re.search(r'groundtruth\.txt: 1 of 3 rows hold NaN', sequence.notes[0])
    assert len(read_tum_trajectory(tum / 'groundtruth.txt')[0]) == 2


@pytest.mark.parametrize(
    ('row', 'said'),
    [
        (KITTI, r'has 12 columns \(as KITTI.*\), not 8: stamp tx ty tz qx qy qz qw'),
        (EUROC, r'has 1 columns with commas \(EuRoC'),
        (EUROC.replace(',', ', '), r'has 8 columns with commas|is no number'),
        ('1.0 0.1 0.2 0.3 0 0 0', 'has 7 columns, not 8'),
        (f'1.0 {POSE} 0', 'has 9 columns, not 8'),
        (' '.join(['1'] * 16), r'has 16 columns \(as 4 x 4 matrices\)'),
        ('1.0 0.1 0.2 0.3 0 0 0.7 0.8', r'quaternion qx qy qz qw has length 1\.06'),
        ('1.0 0.1 0.2 0.3 0 0 0 0', 'has length 0, not 1'),
        (f'1305031102100000000 {POSE}', r'stamp 1\.30503e\+18 is no time in seconds'),
        (f'1305031102100 {POSE}', 'is no time in seconds: in ms'),
        ('1.0 456789.0 5432100.0 300 0 0 0 1', 'm from the origin; .*subtract'),
        (f'1_0 {POSE}', "'1_0' is no number"),
        (f'{STAMPS[0]:.6f} 5 5 5 0 0 0 1', 'of line 1, and another pose'),
    ],
)
def test_a_row_that_is_no_pose_is_named(tum: Path, row: str, said: str) -> None:
    edit(tum / 'groundtruth.txt', lambda text: f'{text}\n{row}\n')
    for read in (read_tum, lambda root: read_tum_trajectory(root / 'groundtruth.txt')):
        with pytest.raises(GsPoseError, match=rf'groundtruth\.txt: line 5: .*({said})'):
            read(tum)


def test_a_pose_that_is_written_twice_is_one(tum: Path) -> None:
    edit(tum / 'groundtruth.txt', lambda text: text + text)
    assert len(read_tum_trajectory(tum / 'groundtruth.txt')[0]) == 3


@pytest.mark.parametrize(
    'change',
    [
        lambda text: '\ufeff' + text,
        lambda text: text.replace('\n', '\r\n'),
        lambda text: text.replace('\n', '\r'),
        lambda text: text.replace(' ', '\t'),
        lambda text: '# a\n\n  # b\n' + text.replace('\n', '   \n') + '\n\n',
        lambda text: '\n'.join(reversed(text.split('\n'))),
    ],
    ids=['mark', 'crlf', 'cr', 'tabs', 'comments', 'order'],
)
def test_other_ways_of_writing_the_same_are_read(tum: Path, change: Callable[[str], str]) -> None:
    for name in ('rgb.txt', 'depth.txt', 'groundtruth.txt', 'intrinsics.txt'):
        (tum / name).write_bytes(change((tum / name).read_text()).encode())
    sequence = read_tum(tum)
    assert [frame.stamp_ns for frame in sequence] == [round(stamp * 1e9) for stamp in STAMPS]
    assert all(frame.T_world_cam is not None for frame in sequence)
    assert not sequence.missed and not sequence.notes


# --- Lists of pictures -------------------------------------------------------------------------


def test_pictures_that_make_no_frame_are_counted_with_the_reason(tum: Path) -> None:
    first, second, third = (f'{stamp:.6f}' for stamp in STAMPS)
    (tum / f'rgb/{first}.png').unlink()
    edit(tum / 'depth.txt', lambda text: text.replace(f'{third} ', '1305031105.0 '))
    sequence = read_tum(tum)
    assert [frame.number for frame in sequence] == [second]
    assert [stamp for stamp, _ in sequence.missed] == [round(STAMPS[k] * 1e9) for k in (0, 2)]
    assert f'its picture of rgb.txt is missing, as {tum}/rgb/{first}.png' in sequence.missed[0][1]
    assert sequence.missed[1][1] == 'depth.txt has nothing within 0.02 s'


def test_a_sequence_whose_pictures_are_elsewhere_says_where_they_were_looked_for(
    tum: Path,
) -> None:
    (tum / 'rgb').rename(tum / 'color')
    said = r'none of the 3 pictures.*3 x its picture of rgb\.txt is missing, as .*/rgb/1305031102'
    with pytest.raises(GsPoseError, match=said):
        read_tum(tum)


def test_clocks_that_never_meet_are_shown(tum: Path) -> None:
    edit(tum / 'depth.txt', lambda text: re.sub('^13050311', '', text, flags=re.M))
    said = (
        r'3 x depth\.txt has nothing within 0\.02 s.*are 1305031102\.100 to .* and 2\.100 to 2\.3'
    )
    with pytest.raises(GsPoseError, match=said):
        read_tum(tum)


@pytest.mark.parametrize(
    ('row', 'said'),
    [
        ('-0.9 rgb/a.png', 'stamp -0.9 is no time'),
        ('nan rgb/a.png', 'stamp nan is no time'),
        ('1305031102100 rgb/a.png', 'in ms'),
        ('1.0 rgb/a.png 1.0 depth/a.png', 'has 4 columns, not 2: stamp name'),
        ('1.0', 'has 1 columns, not 2'),
        ('1.0 /etc/hostname', 'leads out of the folder'),
        ('1.0 rgb/../../a.png', 'leads out of the folder'),
        ('1.0 ..\\a.png', 'leads out of the folder'),
    ],
)
def test_a_row_that_is_no_picture_is_named(tum: Path, row: str, said: str) -> None:
    edit(tum / 'rgb.txt', lambda text: text + row)
    with pytest.raises(GsPoseError, match=rf'rgb\.txt: line 4: .*{said}'):
        read_tum(tum)


def test_paths_with_backslashes_are_read(tum: Path) -> None:
    edit(tum / 'rgb.txt', lambda text: text.replace('/', '\\'))
    assert len(read_tum(tum)) == 3
    assert read_tum(tum)[0].read().color.shape == (*SIZE, 3)


def test_names_that_no_file_can_have_are_not_there(tum: Path) -> None:
    long, hidden = 'x' * 300, 'a\0b'
    edit(tum / 'rgb.txt', lambda text: f'{text}1305031102.3 {long}\n1305031102.3 {hidden}\n')
    assert len(read_tum(tum)) == 3
    assert len(read_tum(tum).missed) == 2


def test_a_list_that_is_no_file_is_not_waited_for(tum: Path) -> None:
    (tum / 'depth.txt').unlink()
    os.mkfifo(tum / 'depth.txt')
    with pytest.raises(GsPoseError, match=r'depth\.txt: is a FIFO, no regular file'):
        read_tum(tum)


# --- intrinsics.txt ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('525 525 319.5 239.5', 'has 4 columns, not 7: fx fy cx cy'),
        ('10 0 3.5\n0 11 2.5\n0 0 1', 'has 3 lines of numbers, not 1: fx fy cx cy'),
        ('10 11 3.5 2.5 8 6 1000 0.1 0.01 0 0', 'has 11 columns.*undistorted'),
        ('10 11 3.5 2.5 8 6 nan', 'holds NaN'),
        ('10 11 3.5 2.5 8 6 0.001', '0.001 units of depth in a metre; 1000 if'),
        ('10 11 3.5 2.5 8.5 6 1000', 'are no pixels'),
        ('10 11 3.5 2.5 -8 6 1000', 'are no pixels'),
        ('10 11 3.5 2.5 1e300 6 1000', 'are no pixels'),
        ('8 6 10 11 3.5 2.5 1000', 'are no pixels'),
        ('10 11 30.5 2.5 8 6 1000', 'not within 8 x 6'),
        ('10 3.5 11 2.5 8 6 1000', 'not within 8 x 6'),
        ('-10 11 3.5 2.5 8 6 1000', 'no focal lengths'),
        ('0.8 0.9 3.5 2.5 80 60 1000', 'no focal lengths'),
        ('10 525 3.5 2.5 8 6 1000', 'no focal lengths'),
        ('', 'has 0 lines of numbers'),
    ],
)
def test_intrinsics_that_are_no_cameras_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / 'intrinsics.txt').write_text(text)
    with pytest.raises(GsPoseError, match=rf'intrinsics\.txt: .*{said}'):
        read_intrinsics(tmp_path / 'intrinsics.txt')


# --- 7-Scenes ----------------------------------------------------------------------------------


def test_seven_scenes_takes_other_cameras_from_intrinsics(seven: Path) -> None:
    sequence = read_sequence(seven)
    assert sequence[0].camera.fx == 10
    assert sequence.notes == ()
    (seven / 'intrinsics.txt').unlink()
    with pytest.raises(GsPoseError, match=r'intrinsics\.txt: missing.* is 8 x 6, not 640 x 480'):
        read_sequence(seven)


def test_a_missing_depth_picture_is_counted(seven: Path) -> None:
    (seven / 'frame-000000.depth.png').unlink()
    sequence = read_sequence(seven)
    assert [frame.number for frame in sequence] == ['frame-000001.color']
    ((stamp, why),) = sequence.missed
    assert stamp == 0
    assert f'its depth picture is missing, as {seven}/frame-000000.depth.png' in why
    (seven / 'frame-000001.depth.png').unlink()
    with pytest.raises(GsPoseError, match='no picture makes a frame: 2 x its depth picture'):
        read_sequence(seven)


@pytest.mark.parametrize(
    ('matrix', 'said'),
    [
        (np.zeros((4, 4)), 'is not the pose of a camera'),
        (2 * np.eye(4), 'is not the pose of a camera'),
        (np.diag([1.0, 1, -1, 1]), 'is not the pose of a camera'),
        (
            np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1]]),
            'is not the pose of a camera',
        ),
        (np.eye(4)[:3], 'not a 4 x 4 matrix'),
        (np.array([[1, 0, 0, 5e6], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), 'from the origin'),
    ],
    ids=['zero', 'scaled', 'mirrored', 'transposed', 'short', 'far'],
)
def test_a_matrix_that_is_no_pose_is_named(seven: Path, matrix: np.ndarray, said: str) -> None:
    np.savetxt(seven / 'frame-000001.pose.txt', matrix)
    with pytest.raises(GsPoseError, match=rf'frame-000001\.pose\.txt: .*{said}'):
        read_sequence(seven)


def test_the_reason_for_no_pose_is_said(seven: Path) -> None:
    (seven / 'frame-000000.pose.txt').unlink()
    np.savetxt(seven / 'frame-000001.pose.txt', np.full((4, 4), -np.inf))
    assert [frame.why_no_pose for frame in read_sequence(seven)] == [
        'the folder has no pose for it: a .pose.txt is missing',
        'its .pose.txt holds NaN or infinity',
    ]


def test_names_without_a_number_are_named(seven: Path) -> None:
    write_picture(seven / 'frame-abc.color.png', np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(GsPoseError, match=r'frame-abc\.color\.png: is named otherwise'):
        read_sequence(seven)


def test_a_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / 'a.mcap').write_bytes(b'x')
    with pytest.raises(GsPoseError, match=r'a\.mcap: is a file, not the folder'):
        read_sequence(tmp_path / 'a.mcap')
    for name, said in (('b', 'b: no such folder'), ('x' * 300, 'not readable'), ('l', 'l: ')):
        (tmp_path / 'l').unlink(missing_ok=True)
        (tmp_path / 'l').symlink_to(tmp_path / 'l')
        with pytest.raises(GsPoseError, match=said):
            read_sequence(tmp_path / name)


# --- Lists of frames ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    'text',
    [
        '1305031102.100000\n1305031102.300000',
        '\ufeff1305031102.100000\r\n1305031102.300000\r\n',
        '/home/me/rgb/1305031102.100000.png\n/home/me/rgb/1305031102.300000.png\n',
        'rgb\\1305031102.100000.png\nrgb\\1305031102.300000.png\n',
        '1305031102.100000\n1305031102.100000\n1305031102.300000\n',
    ],
    ids=['numbers', 'mark', 'paths', 'backslashes', 'twice'],
)
def test_a_list_of_frames_may_be_written_in_many_ways(tum: Path, text: str) -> None:
    path = tum / 'list.txt'
    path.write_text(text)
    assert [frame.stamp_ns for frame in chosen(read_tum(tum), path)] == [
        round(STAMPS[k] * 1e9) for k in (0, 2)
    ]


def test_the_frames_of_seven_scenes_may_be_named_without_color(seven: Path) -> None:
    (seven / 'list.txt').write_text('frame-000001\n')
    assert len(chosen(read_sequence(seven), seven / 'list.txt')) == 1


def test_names_of_a_list_that_are_not_there_are_counted(tum: Path) -> None:
    (tum / 'list.txt').write_text('a\nb\n1305031102.100000\n')
    with pytest.raises(GsPoseError, match=r'list\.txt: names a, which .* \(2 of its 3 names\)'):
        chosen(read_tum(tum), tum / 'list.txt')
    (tum / 'list.txt').write_text('# none\n')
    with pytest.raises(GsPoseError, match=r'list\.txt: names no picture'):
        chosen(read_tum(tum), tum / 'list.txt')


def test_a_name_that_two_frames_have_is_refused(tum: Path) -> None:
    (tum / 'list.txt').write_text('1305031102.100000\n')
    frames = read_tum(tum)
    other = replace(frames[0], color=tum / 'left' / frames[0].color.name)
    with pytest.raises(GsPoseError, match=r'list\.txt: line 1: .* may be .*rgb.* or .*left'):
        chosen([*frames, other], tum / 'list.txt')
