"""Recorded RGB-D sequences in folders: the layouts of the TUM RGB-D benchmark and of 7-Scenes."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.assumed_camera import (
    SEVEN_SCENES,
    TUM,
    camera_of,
    check_unit,
    folder_name,
)
from gs_pose_ros.datasets.sequence_frame import RecordedSequence, SequenceFrame
from gs_pose_ros.datasets.text_rows import read_rows
from gs_pose_ros.datasets.tum_files import (
    Trajectory,
    checked_position,
    read_picture_list,
    read_trajectory,
    read_tum_trajectory,
    write_tum_trajectory,
)
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3

__all__ = [
    'RecordedSequence',
    'SequenceFrame',
    'chosen',
    'read_sequence',
    'read_seven_scenes',
    'read_tum',
    'read_tum_trajectory',
    'write_tum_trajectory',
]

# Colour and depth of one moment, and a frame and its true pose, are apart by less (TUM's tools).
_TOGETHER_S = 0.02


def read_sequence(root: Path) -> RecordedSequence:
    """The frames of a folder in either layout, in the order of time.

    `intrinsics.txt` with a line "fx fy cx cy width height depth_units_per_metre" says what took
    the pictures; without it the benchmark's own cameras are assumed, which is a note.

    Raises:
        GsPoseError: it is neither, or a list in it cannot be read.

    """
    root = Path(root)
    try:
        if (root / 'rgb.txt').exists():
            return read_tum(root)
        if next(root.glob('frame-*.color.*'), None) is not None:
            return read_seven_scenes(root)
        is_there, is_folder = root.exists(), root.is_dir()
    except OSError as error:  # a name too long, links in a circle
        raise GsPoseError(f'{str(root)[:200]}: not readable: {error.strerror}') from error
    if not is_folder:
        what = 'is a file, not the folder of a sequence' if is_there else 'no such folder'
        raise GsPoseError(f'{root}: {what}')
    raise GsPoseError(f'{root}: has neither rgb.txt (TUM) nor frame-*.color.png (7-Scenes)')


def read_tum(root: Path) -> RecordedSequence:
    """rgb.txt, depth.txt and groundtruth.txt, joined by their nearest stamps.

    True poses between two stamps are interpolated.

    Raises:
        GsPoseError: a list is missing or cannot be read, or nothing comes together; or there is
            no intrinsics.txt and the pictures have not the size of the benchmark's.

    """
    colors, depths = (read_picture_list(root / name) for name in ('rgb.txt', 'depth.txt'))
    has_truth = (root / 'groundtruth.txt').exists()
    truth = read_trajectory(root / 'groundtruth.txt') if has_truth else Trajectory([], [])
    why_no_pose = (
        f'groundtruth.txt has no pose within {_TOGETHER_S} s'
        if has_truth
        else 'the folder has no pose for it: there is no groundtruth.txt'
    )
    depth_stamps = [stamp for stamp, _ in depths]
    pairs, missed = [], []
    absent: dict[str, Path] = {}  # by list the first that was looked for
    for stamp, name in colors:
        i = _nearest(depth_stamps, stamp)
        if i is None or abs(depth_stamps[i] - stamp) > _TOGETHER_S:
            missed.append((_ns(stamp), f'depth.txt has nothing within {_TOGETHER_S} s'))
            continue
        pair = _file(root, name), _file(root, depths[i][1])
        for path, kind in zip(pair, ('rgb.txt', 'depth.txt'), strict=True):
            if not _is_there(path):
                looked_for = absent.setdefault(kind, path)
                missed.append((_ns(stamp), f'its picture of {kind} is missing, as {looked_for}'))
                break
        else:
            pairs.append((stamp, *pair))
    if not pairs:
        raise GsPoseError(
            f'{root}: none of the {len(colors)} pictures of rgb.txt makes a frame: '
            f'{_counted(why for _, why in missed) or "it is empty"}{_clocks(colors, depths)}'
        )
    camera, units, notes = camera_of(root, pairs[0][1], TUM)
    if truth.left_out:
        notes.append(
            f'{folder_name(root)}/groundtruth.txt: {truth.left_out} of '
            f'{truth.left_out + len(truth.stamps)} rows hold NaN or infinity and are left out'
        )
    frames = []
    for stamp, color, depth in pairs:
        T = _interpolated(truth.stamps, truth.poses, stamp)
        why = why_no_pose if T is None else ''
        frames.append(SequenceFrame(_ns(stamp), color, depth, camera, units, T, why))
    return _checked(root, RecordedSequence(frames, tuple(missed), tuple(notes)))


def read_seven_scenes(root: Path, fps: float = 30.0) -> RecordedSequence:
    """frame-NNNNNN.color.png, .depth.png and .pose.txt (camera-to-world).

    The depth of this set is not registered to its colour: colours are those of pixels beside.

    Raises:
        GsPoseError: a pose cannot be read, or no picture has depth; or there is no intrinsics.txt
            and the pictures have not the size of the benchmark's.

    """
    numbered: dict[int, Path] = {}
    for color in sorted(root.glob('frame-*.color.*')):
        match = re.fullmatch(r'frame-(\d{1,9})\.color\.(png|jpg|jpeg)', color.name, re.ASCII)
        if match is None:
            raise GsPoseError(f'{color}: is named otherwise than frame-NNNNNN.color.png')
        if int(match[1]) in numbered:
            raise GsPoseError(
                f'{color}: is there twice, as {numbered[int(match[1])].name} as well'
            )
        numbered[int(match[1])] = color
    found, missed, absent = [], [], None
    for number, color in sorted(numbered.items()):
        stamp_ns = round(number / fps * 1e9)
        stem = color.name.partition('.')[0]
        depth = root / f'{stem}.depth.png'
        if _is_there(depth):
            T, why = _matrix(root / f'{stem}.pose.txt')
            found.append((stamp_ns, color, depth, T, why))
        else:
            absent = absent or depth
            missed.append((stamp_ns, f'its depth picture is missing, as {absent}'))
    if not found:
        reasons = _counted(why for _, why in missed) or 'there are none'
        raise GsPoseError(f'{root}: no picture makes a frame: {reasons}')
    camera, units, notes = camera_of(root, found[0][1], SEVEN_SCENES)
    frames = [
        SequenceFrame(stamp_ns, color, depth, camera, units, T, why)
        for stamp_ns, color, depth, T, why in found
    ]
    return _checked(root, RecordedSequence(frames, tuple(missed), tuple(notes)))


def chosen(frames: Sequence[SequenceFrame], path: Path) -> list[SequenceFrame]:
    """The frames that a list names, one a line: the number of its picture, or the picture's path.

    A frame that is named twice is taken once.

    Raises:
        GsPoseError: it cannot be read, names nothing, or a picture that is not there, or that is
            there more than once.

    """
    by_name: dict[str, list[SequenceFrame]] = {}
    for frame in frames:
        for name in {frame.number, frame.color.name, frame.color.name.partition('.')[0]}:
            by_name.setdefault(name, []).append(frame)
    out: dict[Path, SequenceFrame] = {}
    missing = []
    rows = read_rows(path)
    for row in rows:
        name = PurePosixPath(row.words[0].replace('\\', '/')).name
        named = by_name.get(name, [])
        if len(named) > 1:
            raise row.fault(f'{name} may be {named[0].color} or {named[1].color}')
        if named:
            out.setdefault(named[0].color, named[0])
        else:
            missing.append(name)
    if missing:
        raise GsPoseError(
            f'{path}: names {missing[0][:80]}, which the sequence has not '
            f'({len(missing)} of its {len(rows)} names)'
        )
    if not out:
        raise GsPoseError(f'{path}: names no picture')
    return list(out.values())


def _checked(root: Path, sequence: RecordedSequence) -> RecordedSequence:
    said = check_unit(root, sequence)
    return replace(sequence, notes=(*sequence.notes, said)) if said else sequence


def _matrix(path: Path) -> tuple[NDArray[np.float64] | None, str]:
    """The pose [4, 4] in a file of 7-Scenes, or why there is none."""
    if not path.exists():
        return None, 'the folder has no pose for it: a .pose.txt is missing'
    rows = read_rows(path)
    if [len(row.words) for row in rows] != [4] * 4:
        raise GsPoseError(f'{path}: is not a 4 x 4 matrix: four lines of four numbers')
    T = np.array([[row.number(i) for i in range(4)] for row in rows])
    if not np.isfinite(T).all():  # where tracking was lost in the recording
        return None, 'its .pose.txt holds NaN or infinity'
    if not se3.is_rigid(T, tolerance=0.05):  # some are a percent or two off
        raise GsPoseError(
            f'{path}: is not the pose of a camera: a rotation, a position, and 0 0 0 1 '
            'as last line'
        )
    if fault := checked_position(T):
        raise GsPoseError(f'{path}: {fault}')
    return se3.from_rotation_translation(se3.project_to_so3(T[:3, :3]), T[:3, 3]), ''


def _counted(reasons: Iterable[str]) -> str:
    """Each reason with how often it is there."""
    return '; '.join(f'{count} x {reason}' for reason, count in Counter(reasons).most_common())


def _clocks(*lists: Sequence[tuple[float, str]]) -> str:
    """The times that lists of pictures span, where none is empty."""
    if not all(lists):
        return ''
    spans = ' and '.join(f'{pictures[0][0]:.3f} to {pictures[-1][0]:.3f} s' for pictures in lists)
    return f' (the stamps are {spans})'


def _file(root: Path, name: str) -> Path:
    path = root / name
    return root / name.replace('\\', '/') if '\\' in name and not _is_there(path) else path


def _is_there(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - which raises nothing, whatever the name


def _ns(stamp: float) -> int:
    return round(stamp * 1e9)


def _nearest(stamps: Sequence[float], stamp: float) -> int | None:
    i = bisect_left(stamps, stamp)
    near = [k for k in (i - 1, i) if 0 <= k < len(stamps)]
    return min(near, key=lambda k: abs(stamps[k] - stamp)) if near else None


def _interpolated(
    stamps: Sequence[float], poses: Sequence[NDArray[np.float64]], stamp: float
) -> NDArray[np.float64] | None:
    """The pose at a time between two that are near it, or None."""
    i = bisect_left(stamps, stamp)
    if i < len(stamps) and stamps[i] == stamp:
        return poses[i]
    k = _nearest(stamps, stamp)
    if k is None or abs(stamps[k] - stamp) > _TOGETHER_S:
        return None
    if i == 0 or i == len(stamps):
        return poses[k]
    return se3.interpolate(
        poses[i - 1], poses[i], (stamp - stamps[i - 1]) / (stamps[i] - stamps[i - 1])
    )
