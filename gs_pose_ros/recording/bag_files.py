"""Bags opened through `rosbags`, without ROS: ROS 2 (mcap, sqlite3) and ROS 1.

Whatever is wrong with a file, a `GsPoseError` names it: the readers below raise what their parsers
come upon, from `struct.error` to `RecursionError`.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from gs_pose_ros.datasets.allowed_roots import check_under
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.regular_files import read_regular, shown_path
from gs_pose_ros.share import share_folder

# A recording of many hours has some 100 kB; the parser of YAML takes a second for a megabyte.
_MOST_METADATA = 4_000_000
# rosbag2 writes them for empty lists and dictionaries only, two for each topic; nested ones cost
# the parser a time that grows with their square.
_MOST_BRACKETS = 1000
_STORAGE = ('.mcap', '.db3', '.bag')
_COMPRESSED = ('.zstd', '.zst', '.gz', '.lz4', '.bz2')
_CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'


def typestore() -> Typestore:
    """The message types of ROS 2 and of this package."""
    store = get_typestore(Stores.ROS2_KILTED)
    for path in sorted((share_folder() / 'msg').glob('*.msg')):
        store.register(get_types_from_msg(path.read_text(), f'gs_pose_ros/msg/{path.stem}'))
    return store


class OpenBag:
    """A bag while it is open; messages have the fields that ROS 2 gives them."""

    def __init__(self, path: Path, reader: AnyReader, store: Typestore) -> None:
        self.path, self._reader, self._store = path, reader, store

    @property
    def is_ros1(self) -> bool:
        """Whether it is a ROS 1 bag."""
        return not self._reader.is2

    @property
    def connections(self) -> list[Connection]:
        """Topics with their types; one topic may have several."""
        return self._reader.connections

    @property
    def start_ns(self) -> int:
        """When the first message was recorded; 0 if there is none."""
        return self._reader.start_time if self._reader.message_count else 0

    @property
    def duration_ns(self) -> int:
        """From the first message to the last."""
        return max(0, self._reader.duration) if self._reader.message_count else 0

    def raw(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Messages as they were recorded, with their time (ns), in this order.

        Raises:
            GsPoseError: the file is damaged.

        """
        if not connections:  # of none rosbags makes all
            return
        messages = self._reader.messages(connections)
        while True:
            try:
                item = next(messages, None)
            except Exception as error:  # of any parser, see above
                raise GsPoseError(f'{self.path}: is damaged: {_said(error)}') from error
            if item is None:
                return
            yield item

    def messages(
        self, connections: Collection[Connection]
    ) -> Iterator[tuple[Connection, int, Any]]:
        """As `raw`, deserialized."""
        for connection, stamp_ns, raw in self.raw(connections):
            yield connection, stamp_ns, self._deserialized(connection, stamp_ns, raw)

    def first(self, connection: Connection) -> Any:
        """The first message, or None."""
        return next((msg for _, _, msg in self.messages([connection])), None)

    def _deserialized(self, connection: Connection, stamp_ns: int, raw: bytes) -> Any:
        kind = connection.msgtype
        try:
            if self.is_ros1 or kind in self._reader.typestore.fielddefs:
                msg: Any = self._reader.deserialize(raw, kind)
            else:  # defined for some types only
                msg = self._store.deserialize_cdr(raw, kind)
        except Exception as error:  # of any parser, see above
            raise GsPoseError(
                f'{self.path}: the message on {connection.topic} ({kind}) at '
                f'{stamp_ns / 1e9:.3f} s cannot be read: {_said(error)}'
            ) from error
        return _as_in_ros2(msg) if kind == _CAMERA_INFO and hasattr(msg, 'K') else msg


@contextmanager
def open_bag(bag: Path, roots: Iterable[Path] = ()) -> Iterator[OpenBag]:
    """The bag opened for reading; only files under `roots` are, anywhere if there are none.

    Raises:
        GsPoseError: it is not there or not a bag.

    """
    store = typestore()
    try:
        file = _storage(bag, list(roots))
        reader = AnyReader([file], default_typestore=store)
        reader.open()
    except GsPoseError:
        raise
    except Exception as error:  # of any parser, see above
        raise GsPoseError(f'{shown_path(bag)}: cannot be read as a bag: {_said(error)}') from error
    try:
        yield OpenBag(bag, reader, store)
    finally:
        reader.close()


def _storage(bag: Path, roots: list[Path]) -> Path:
    """What rosbags is to open: a file, or a folder with metadata.yaml."""
    if not bag.exists():
        raise GsPoseError(
            f'{shown_path(bag)}: cannot be read as a bag: there is no such file or folder'
        )
    if bag.name == 'metadata.yaml':
        bag = bag.parent
    if not bag.is_dir():
        _check_file(bag, roots)
        if bag.suffix in _COMPRESSED:
            raise GsPoseError(f'{bag}: is compressed; unpack it first')
        if bag.suffix not in _STORAGE:
            raise GsPoseError(
                f'{bag}: is no bag by its name: those end in {", ".join(_STORAGE)}, or are folders'
            )
        return bag
    metadata = bag / 'metadata.yaml'
    members = sorted(path for path in bag.iterdir() if not path.is_dir())
    if metadata in members:
        for path in members:  # any of them may be named in it
            _check_file(path, roots)
        _check_metadata(metadata)
        return bag
    files = [path for path in members if path.suffix in _STORAGE]
    if not files:
        raise GsPoseError(
            f'{bag}: cannot be read as a bag: it holds neither metadata.yaml nor a file that ends '
            f'in {", ".join(_STORAGE)}'
        )
    if len(files) > 1:
        names = ', '.join(path.name for path in files)
        raise GsPoseError(
            f'{bag}: has no metadata.yaml, and {len(files)} files: {names}; give one of them, or '
            'join them with `ros2 bag reindex`'
        )
    _check_file(files[0], roots)
    return files[0]


def _check_metadata(path: Path) -> None:
    """Refuse what the parser of YAML would take minutes for."""
    content = read_regular(path, _MOST_METADATA)
    if content.count(b'[') + content.count(b'{') > _MOST_BRACKETS:
        raise GsPoseError(f'{path}: so many brackets are no metadata')


def _check_file(path: Path, roots: list[Path]) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise GsPoseError(f'{path}: is not a regular file')
    check_under(path, roots)


def _said(error: Exception) -> str:
    text = ' '.join(str(error).split())
    if ' ' in text:  # a sentence
        return text
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def _as_in_ros2(info: Any) -> Any:
    """A CameraInfo of ROS 1, which writes four fields large; converters may leave it so."""
    return SimpleNamespace(
        header=info.header,
        height=info.height,
        width=info.width,
        distortion_model=info.distortion_model,
        d=info.D,
        k=info.K,
        r=info.R,
        p=info.P,
        binning_x=info.binning_x,
        binning_y=info.binning_y,
        roi=info.roi,
    )
