"""Where no file says what took a sequence: depth in another unit than assumed is found out."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from gs_pose_ros.datasets.rgbd_sequences import read_sequence, write_tum_trajectory
from gs_pose_ros.datasets.tum_files import read_intrinsics
from gs_pose_ros.errors import GsPoseError

TUM_F, TUM_C = 525.0, (319.5, 239.5)
NORMAL = np.array([0.3, 0.1, 1.0])  # of a wall 2 m ahead, NORMAL @ p = 2


def write_wall(root: Path, units: float, step_m: float, layout: str = 'tum') -> Path:
    """A wall, seen by a Kinect that goes towards it."""
    root.mkdir()
    v, u = np.mgrid[:480, :640]
    rays = np.stack([(u - TUM_C[0]) / TUM_F, (v - TUM_C[1]) / TUM_F, np.ones_like(u)], -1)
    poses = []
    for k in range(4):
        T = np.eye(4)
        T[:3, 3] = 0, 0, k * step_m
        poses.append(T)
        depth = (2 - NORMAL @ T[:3, 3]) / (rays @ NORMAL) * units
        names = {'tum': (f'rgb{k}.png', f'depth{k}.png')}.get(
            layout, (f'frame-{k:06d}.color.png', f'frame-{k:06d}.depth.png')
        )
        cv2.imwrite(str(root / names[0]), np.full((480, 640, 3), 90, np.uint8))
        cv2.imwrite(str(root / names[1]), depth.round().astype(np.uint16))
        if layout == 'tum':
            for kind, name in zip(('rgb', 'depth'), names, strict=True):
                with (root / f'{kind}.txt').open('a') as file:
                    file.write(f'{k + 1} {name}\n')
        else:
            np.savetxt(root / f'frame-{k:06d}.pose.txt', T)
    if layout == 'tum':
        write_tum_trajectory(root / 'groundtruth.txt', [(k + 1) * 10**9 for k in range(4)], poses)
    return root


@pytest.mark.parametrize(('layout', 'assumed'), [('tum', 5000), ('seven', 1000)])
def test_depth_in_the_assumed_unit_is_taken_and_told(
    tmp_path: Path, layout: str, assumed: float
) -> None:
    sequence = read_sequence(write_wall(tmp_path / 'wall', assumed, 0.15, layout))
    assert len(sequence) == 4
    assert f'and {assumed} units of depth in a metre' in sequence.notes[0]


def test_depth_in_millimetres_that_contradicts_the_poses_is_refused(tmp_path: Path) -> None:
    root = write_wall(tmp_path / 'wall', 1000, 0.15)
    said = r'intrinsics\.txt: missing, and 5000 units .* contradict the poses: .*; with 1000 units'
    with pytest.raises(GsPoseError, match=said):
        read_sequence(root)
    (root / 'intrinsics.txt').write_text('525 525 319.5 239.5 640 480 1000\n')
    right = read_sequence(root)
    assert not right.notes
    assert right[0].depth_units == read_intrinsics(root / 'intrinsics.txt')[1] == 1000
    # A person who insists is believed, and told.
    (root / 'intrinsics.txt').write_text('525 525 319.5 239.5 640 480 5000\n')
    insisted = read_sequence(root)
    assert insisted[0].depth_units == 5000
    said = 'wall/intrinsics.txt: 5000 units of depth in a metre contradict .* with 1000 units'
    assert re.match(said, insisted.notes[0])


def test_a_camera_that_hardly_moves_says_nothing_about_the_unit(tmp_path: Path) -> None:
    sequence = read_sequence(write_wall(tmp_path / 'wall', 1000, 0.01))
    assert len(sequence) == 4
    assert '(1000 if in millimetres)' in sequence.notes[0]


def test_pictures_that_are_broken_are_told_in_their_turn(tmp_path: Path) -> None:
    root = write_wall(tmp_path / 'wall', 5000, 0.15)
    (root / 'depth0.png').write_bytes(b'no picture')
    sequence = read_sequence(root)
    with pytest.raises(GsPoseError, match=r'depth0\.png'):
        sequence[0].read()
