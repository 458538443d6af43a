"""Stored files, made bad: what tests of objects and of maps share."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml


def forget_sums(header: Path) -> None:
    """As headers were before there were checksums, so that others of its checks are reached."""
    change_header(header)


def change_header(header: Path, **change: Any) -> None:
    """Other entries of a YAML header; it forgets its checksums."""
    entries = yaml.safe_load(header.read_text())
    entries.pop('sha256', None)
    header.write_text(yaml.safe_dump({**entries, **change}))


def change_arrays(path: Path, **change: Any) -> None:
    """Other arrays in an npz file; None takes one out."""
    with np.load(path) as archive:
        arrays = {**archive, **change}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def flip_byte(path: Path, share: float = 0.5) -> None:
    """One byte is another one."""
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


def fifo(path: Path) -> None:
    """Nobody writes into it: who reads it waits for ever."""
    path.unlink()
    os.mkfifo(path)


def link_to(target: str) -> Callable[[Path], None]:
    """A link in the place of a file."""

    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return damage


def folder(path: Path) -> None:
    """A folder in the place of a file."""
    path.unlink()
    path.mkdir()


def huge(path: Path) -> None:
    """A terabyte of zeros, which takes no room on disk."""
    os.truncate(path, 1 << 40)


# The header's file is each damaged to hold one of these; none may take long, or end a process.
BAD_YAML: dict[str, bytes] = {
    'date': b'format_version: 1\ncreated: 2026-13-45\n',
    'float': b'format_version: 1\ndiameter_m: !!float abc\n',
    'int': b'format_version: 1\ndiameter_m: !!int ""\n',
    'bool': b'format_version: 1\ndiameter_m: !!bool maybe\n',
    'timestamp': b'format_version: 1\ncreated: !!timestamp soon\n',
    'binary': b'format_version: 1\ncreated: !!binary "\xc3\xa4"\n',
    'code': b'!!python/object/apply:os.system ["false"]\n',
    'brackets': b'[' * 3000,
    'closed brackets': b'[' * 3000 + b']' * 3000,
    'aliases': b'a: &a [x, x, x, x, x, x, x, x, x]\n'
    + b''.join(
        b'%c: &%c [%s]\n' % (k, k, b', '.join([b'*%c' % (k - 1)] * 9)) for k in b'bcdefghij'
    ),
    'own alias': b'&a [*a]\n',
    'digits': b'format_version: ' + b'9' * 20_000,
    'hexadecimal': b'format_version: 0x' + b'f' * 20_000,
    'sexagesimal': b'format_version: 1' + b':59' * 20_000,
    'keys': b'? [1, 2]\n: 3\n',
    'large': b'a: [' + b'1,' * 3_000_000 + b'1]\n',
    'text': b'no header at all',
    'empty': b'',
    'bytes': b'\x80\x00\xff',
    'nul': b'format_version: 1\n\0',
    'documents': b'a: 1\n---\nb: 2\n',
}


def squeezed(path: Path, size: int = 1100 << 20) -> None:
    """The first array of an npz file is of zeros: on disk a thousandth of what it takes."""
    with np.load(path) as archive:
        arrays = dict(archive)
    first = next(iter(arrays))
    del arrays[first]
    np.savez(path, **arrays)
    with (
        zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED, compresslevel=1) as out,
        out.open(f'{first}.npy', 'w', force_zip64=True) as member,
    ):
        member.write(npy_header('|u1', (size,)))
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))


def npy_header(kind: str, shape: tuple[int, ...]) -> bytes:
    """What stands before the numbers of an array."""
    stream = io.BytesIO()
    what = {'descr': kind, 'fortran_order': False, 'shape': shape}
    np.lib.format.write_array_header_1_0(stream, what)
    return stream.getvalue()


def with_npy_header(kind: str, shape: tuple[int, ...]) -> Callable[[Path], None]:
    """Every array of an npz file says that it is of another kind and shape, and has 64 bytes."""

    def damage(path: Path) -> None:
        with np.load(path) as archive:
            names = list(archive)
        with zipfile.ZipFile(path, 'w') as out:
            for name in names:
                out.writestr(f'{name}.npy', npy_header(kind, shape) + bytes(64))

    return damage
