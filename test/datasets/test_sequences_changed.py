"""Whatever is changed in a file of a sequence, it reads as camera poses or names the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.datasets.rgbd_sequences import SequenceFrame, chosen, read_sequence
from gs_pose_ros.geometry import se3
from test.datasets.sequence_folders import STAMPS, write_seven, write_tum
from test.mutations import examples, mutated_rows, result_or_message


@pytest.fixture(scope='module')
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('sequences')
    write_seven(root / 'seven', count=1)
    return write_tum(root / 'tum').parent


def check(frames: Iterable[SequenceFrame]) -> None:
    for frame in frames:
        read = frame.read()
        assert read.stamp_ns >= 0
        assert read.depth is not None and np.isfinite(read.depth).all()
        assert read.camera.fx > 0
        assert frame.T_world_cam is None or se3.is_rigid(frame.T_world_cam)
        assert (frame.T_world_cam is None) == bool(frame.why_no_pose)


@pytest.mark.parametrize('name', ['rgb.txt', 'depth.txt', 'groundtruth.txt', 'intrinsics.txt'])
@given(data=st.data())
@examples(40)
def test_any_change_of_a_list_reads_or_is_named(
    good: Path, name: str, data: st.DataObject
) -> None:
    path = good / 'tum' / name
    kept = path.read_bytes()
    path.write_bytes(data.draw(mutated_rows(kept.decode())))
    frames, message = result_or_message(lambda: list(read_sequence(good / 'tum')))
    path.write_bytes(kept)
    assert frames or str(good / 'tum') in message
    check(frames or [])


@given(data=st.data())
@examples(40)
def test_any_change_of_a_pose_reads_or_is_named(good: Path, data: st.DataObject) -> None:
    path = good / 'seven' / 'frame-000000.pose.txt'
    kept = path.read_bytes()
    path.write_bytes(data.draw(mutated_rows(kept.decode())))
    frames, message = result_or_message(lambda: list(read_sequence(good / 'seven')))
    path.write_bytes(kept)
    assert frames or str(path) in message
    check(frames or [])


@given(data=st.data())
@examples(40)
def test_any_change_of_a_list_of_frames_reads_or_is_named(good: Path, data: st.DataObject) -> None:
    path = good / 'list.txt'
    numbers = ''.join(f'{stamp:.6f}\n' for stamp in STAMPS)
    path.write_bytes(data.draw(mutated_rows(numbers)))
    frames, message = result_or_message(lambda: chosen(read_sequence(good / 'tum'), path))
    assert frames or str(path) in message
    assert len({frame.number for frame in frames or ()}) == len(frames or ())
