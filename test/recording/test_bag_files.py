"""Which files are read as bags, and what is said of the others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.recording.bag_writing import STORE, write_bag
from gs_pose_ros.recording.bags import read_frames, read_transforms
from gs_pose_ros.recording.camera_topics import find_topics
from test.mutations import examples, mutated_bytes, mutated_content
from test.recording.small_bags import COLOR, COUNT, recording, stamp_of, write_ros1

PLUGINS = {'mcap': StoragePlugin.MCAP, 'db3': StoragePlugin.SQLITE3}


@pytest.fixture(scope='module', params=PLUGINS)
def bag(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bags') / 'bag'
    write_bag(path, recording(), PLUGINS[request.param])
    return path


def storage(bag: Path) -> Path:
    return next(path for path in bag.iterdir() if path.suffix != '.yaml')


def copied(bag: Path, to: Path) -> Path:
    if to.exists():
        shutil.rmtree(to)
    return Path(shutil.copytree(bag, to))


def test_a_file_a_folder_without_metadata_and_metadata_are_the_bag(
    bag: Path, tmp_path: Path
) -> None:
    bare = copied(bag, tmp_path / 'bare')
    (bare / 'metadata.yaml').unlink()
    for path in (bag, storage(bag), bag / 'metadata.yaml', bare):
        assert len(list(read_frames(path))) == COUNT, path


def test_several_files_without_metadata_are_listed(bag: Path, tmp_path: Path) -> None:
    bare = copied(bag, tmp_path / 'bare')
    (bare / 'metadata.yaml').unlink()
    shutil.copy(storage(bare), bare / f'other{storage(bare).suffix}')
    with pytest.raises(GsPoseError, match=r'bare: has no metadata.yaml, and 2 files: bag\..*oth'):
        list(read_frames(bare))


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_bags_are_read(tmp_path: Path, mode: CompressionMode) -> None:
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        topics = {}
        for stamp, topic, msg in recording():
            kind = msg.__msgtype__
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(topics[topic], stamp, STORE.serialize_cdr(msg, kind))
    assert len(list(read_frames(tmp_path / 'bag'))) == COUNT


def test_a_ros_1_bag_gives_the_same_frames(tmp_path: Path) -> None:
    write_bag(tmp_path / 'new', recording())
    write_ros1(tmp_path / 'old.bag', recording())
    frames = list(read_frames(tmp_path / 'old.bag'))
    for old, new in zip(frames, read_frames(tmp_path / 'new'), strict=True):
        assert (old.stamp_ns, old.camera) == (new.stamp_ns, new.camera)
        np.testing.assert_array_equal(old.color, new.color)
        assert old.depth is not None
        assert new.depth is not None
        np.testing.assert_array_equal(old.depth, new.depth)
    T = read_transforms(tmp_path / 'old.bag').lookup('world', 'color_optical', stamp_of(3))
    assert T[0, 3] == pytest.approx(0.03)


def test_what_is_no_bag_is_named(tmp_path: Path, bag: Path) -> None:
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.mcap').write_text('this is text')
    (tmp_path / 'nothing.mcap').touch()
    (tmp_path / 'nothing.db3').touch()
    (tmp_path / 'nothing.bag').touch()
    (tmp_path / 'picture.png').touch()
    (tmp_path / 'bag.mcap.zstd').touch()
    os.mkfifo(tmp_path / 'pipe.mcap')
    said = {
        'gone': 'there is no such file',
        'empty': 'neither metadata.yaml nor a file that ends in .mcap, .db3, .bag',
        'text.mcap': 'cannot be read as a bag',
        'nothing.mcap': 'empty',
        'nothing.db3': 'nothing.db3',
        'nothing.bag': 'cannot be read as a bag',
        'picture.png': 'is no bag by its name',
        'bag.mcap.zstd': 'is compressed; unpack it first',
        'pipe.mcap': 'is not a regular file',
        'x' * 300: 'cannot be read as a bag',
        'nul\0': 'cannot be read as a bag',
    }
    for name, words in said.items():
        with pytest.raises(GsPoseError, match=words) as caught:
            find_topics(tmp_path / name)
        assert name[:3] in str(caught.value)


def test_a_bag_without_messages_is_named(tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', [])
    with pytest.raises(GsPoseError, match='bag: no colour image; image topics: none'):
        find_topics(tmp_path / 'bag')


def test_a_fifo_in_the_folder_is_not_opened(bag: Path, tmp_path: Path) -> None:
    other = copied(bag, tmp_path / 'bag')
    (other / 'metadata.yaml').unlink()
    os.mkfifo(other / 'metadata.yaml')
    with pytest.raises(GsPoseError, match='metadata.yaml: is not a regular file'):
        find_topics(other)


def test_only_files_under_the_roots_are_read(bag: Path, tmp_path: Path) -> None:
    """A link in the folder leads elsewhere; whoever asks a service must not get there."""
    inside = tmp_path / 'inside'
    inside.mkdir()
    linked = inside / 'bag'
    linked.mkdir()
    shutil.copy(bag / 'metadata.yaml', linked)
    (linked / storage(bag).name).symlink_to(storage(bag))
    assert find_topics(linked).color == COLOR
    with pytest.raises(GsPoseError, match='is not under the allowed roots'):
        find_topics(linked, roots=[inside])
    assert find_topics(copied(bag, inside / 'copy'), roots=[inside]).color == COLOR


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
def test_a_cut_file_is_named(bag: Path, tmp_path: Path, share: float) -> None:
    whole = storage(bag).read_bytes()
    cut = tmp_path / storage(bag).name
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(GsPoseError, match=cut.name):
        list(read_frames(cut))


def read_or_refused(path: Path, name: str) -> None:
    """Frames or an error that names the file, nothing else."""
    reason = ''
    try:
        for frame in read_frames(path):
            assert frame.color.shape[2] == 3
        read_transforms(path)
    except GsPoseError as error:
        reason = str(error)
    assert not reason or name in reason


@given(data=st.data())
@examples(15)
def test_changed_bytes_are_read_or_refused_by_name(
    bag: Path, tmp_path: Path, data: st.DataObject
) -> None:
    good = storage(bag)
    broken = tmp_path / good.name
    broken.write_bytes(data.draw(mutated_bytes(good.read_bytes(), 400)))
    read_or_refused(broken, good.name)


@given(data=st.data())
@examples(15)
def test_changed_bytes_of_ros_1_are_read_or_refused_by_name(
    tmp_path: Path, data: st.DataObject
) -> None:
    good = tmp_path / 'good.bag'
    if not good.exists():
        write_ros1(good, recording())
    broken = tmp_path / 'broken.bag'
    broken.write_bytes(data.draw(mutated_bytes(good.read_bytes(), 400)))
    read_or_refused(broken, 'broken.bag')


@given(data=st.data())
@examples(15)
def test_changed_metadata_is_read_or_refused_by_name(
    bag: Path, tmp_path: Path, data: st.DataObject
) -> None:
    other = tmp_path / 'bag'
    if not other.exists():
        shutil.copytree(bag, other)
    good = (bag / 'metadata.yaml').read_bytes()
    content = mutated_content(yaml.safe_load(good)).map(lambda c: yaml.safe_dump(c).encode())
    (other / 'metadata.yaml').write_bytes(data.draw(content | mutated_bytes(good)))
    read_or_refused(other, 'bag')


def test_brackets_without_end_are_refused(bag: Path, tmp_path: Path) -> None:
    other = copied(bag, tmp_path / 'bag')
    (other / 'metadata.yaml').write_text('[' * 3000)
    with pytest.raises(GsPoseError, match='metadata.yaml: so many brackets are no metadata'):
        find_topics(other)
    (other / 'metadata.yaml').write_text('[' * 900)
    with pytest.raises(GsPoseError, match='bag: cannot be read as a bag'):
        find_topics(other)
    (other / 'metadata.yaml').write_text('#' * 5_000_000)
    with pytest.raises(GsPoseError, match='metadata.yaml: has 5 MB, at most 4 MB are read'):
        find_topics(other)
