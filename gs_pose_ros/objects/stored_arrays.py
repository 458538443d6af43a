"""Arrays of an npz file, none of which is unpacked before it is known what it will take."""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError, shown
from gs_pose_ros.regular_files import read_regular

# A thousand reference views of 448 px take 800 MB.
MOST_BYTES = 1 << 30  # of a stored file, and of all arrays in one
# What zipfile and numpy raise for damaged files; RuntimeError: a flipped bit may ask for an
# encryption that zipfile lacks; OverflowError: for an offset of 2^64.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError, OverflowError, struct.error),
    *(zipfile.BadZipFile, zlib.error),
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END, _END_64 = b'PK\5\6', b'PK\6\7'  # the last record of a zip file, and of one above 4 GiB
_MOST_DIRECTORY = 1 << 16  # bytes of a zip file's list of members: some hundred
_MOST_HEADER = 1 << 10  # bytes of an array's header: 128 as numpy writes it
# As numpy writes it; of numbers and truth values alone, so that nothing else is made or unpickled.
_HEADER = re.compile(
    rb"\{'descr': '([<|](?:b1|[iu][1248]|f[248]))', 'fortran_order': (?:True|False), "
    rb"'shape': \(((?:\d{1,15}(?:, \d{1,15})*,?)?)\), *\} *\n"
)


def read_arrays(
    path: Path, names: Sequence[str], most_bytes: int = MOST_BYTES
) -> dict[str, NDArray[Any]]:
    """The named arrays of an npz file, without pickle.

    Raises:
        GsPoseError: it cannot be read, lacks one, or they take more than `most_bytes`.

    """
    return parse_arrays(read_regular(path, most_bytes), path, names, most_bytes)


def parse_arrays(
    content: bytes, path: Path, names: Sequence[str], most_bytes: int = MOST_BYTES
) -> dict[str, NDArray[Any]]:
    """`read_arrays` of what has been read; the path is for messages.

    Raises:
        GsPoseError: as `read_arrays`.

    """
    _check_directory(content, path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(archive, path, names)
            total = sum(member.file_size for member in members.values())
            if total > most_bytes:
                raise GsPoseError(
                    f'{path}: its arrays take {total / 1e6:.6g} MB, '
                    f'at most {most_bytes / 1e6:.6g} MB are read'
                )
            return {name: _array(archive, path, name, member) for name, member in members.items()}
    except _UNREADABLE as error:
        raise GsPoseError(f'{path}: not readable: {shown(str(error))}') from error


def _check_directory(content: bytes, path: Path) -> None:
    """Raise GsPoseError unless it ends as numpy writes it: zipfile reads any number of members."""
    if content[-22:-18] != _END or content[-42:-38] == _END_64:
        raise GsPoseError(f'{path}: not readable: no npz file, or one that is cut off')
    (size,) = struct.unpack('<I', content[-10:-6])
    if size > _MOST_DIRECTORY:
        raise GsPoseError(f'{path}: not readable: {size} bytes name its arrays, which is too many')


def _members(
    archive: zipfile.ZipFile, path: Path, names: Sequence[str]
) -> dict[str, zipfile.ZipInfo]:
    present = {member.filename: member for member in archive.infolist()}
    if missing := [name for name in names if f'{name}.npy' not in present]:
        raise GsPoseError(f'{path}: not readable: it lacks the array {", ".join(missing)}')
    members = {name: present[f'{name}.npy'] for name in names}
    for name, member in members.items():
        if member.compress_type not in _METHODS:
            raise GsPoseError(
                f'{path}: not readable: {name} is compressed in a way that is not read'
            )
    return members


def _array(
    archive: zipfile.ZipFile, path: Path, name: str, member: zipfile.ZipInfo
) -> NDArray[Any]:
    """An array whose header says what the member's size is."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        width = 2 if version == (1, 0) else 4  # bytes of the header's length
        length = int.from_bytes(stream.read(width), 'little')
        header = stream.read(min(length, _MOST_HEADER))
    found = _HEADER.fullmatch(header)
    if found is None:
        raise GsPoseError(f'{path}: not readable: {name} is no array of numbers')
    kind, sizes = np.dtype(found[1].decode()), [int(s) for s in re.findall(rb'\d+', found[2])]
    expected = np.lib.format.MAGIC_LEN + width + length + kind.itemsize * math.prod(sizes)
    if expected != member.file_size:
        raise GsPoseError(
            f'{path}: not readable: {name} is to be {kind} {tuple(sizes)}, which takes '
            f'{expected} bytes, but it has {member.file_size}'
        )
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
