"""What a picture file says of itself in its first bytes: read before anything is decoded.

A PNG of 400 kB may hold 1.6 GiB of one colour: its size is known before that is unpacked.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from gs_pose_ros.errors import GsPoseError

# More than any camera's; with colour and depth in single precision, 1 GiB.
MOST_PIXELS = 64_000_000
_READ = 'JPEG, PNG, TIFF, WebP, BMP or PNM'

# Of the rows and columns of a JPEG: all "start of frame" markers; C4, C8 and CC are none.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_PNM = re.compile(rb'P[1-6](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})')


class PictureHeader(NamedTuple):
    """Kind of file and size in pixels."""

    kind: str
    width: int
    height: int


def picture_header(data: bytes | memoryview) -> PictureHeader:
    """The header of a picture file, which need not be whole.

    Raises:
        GsPoseError: it is no picture of a kind that is read, or is empty, or has more than 64
            million pixels. The message does not name the file: its reader does.

    """
    try:
        header = _header(data)
    except (struct.error, IndexError):  # cut off
        header = None
    if header is None:
        raise GsPoseError(f'{len(data)} bytes are no picture that is read: no {_READ}')
    check_pixel_count(f'the {header.kind}', header.width, header.height)
    return header


def check_pixel_count(what: str, width: int, height: int) -> None:
    """Raise GsPoseError if a picture of that size has no pixels, or more than 64 million."""
    if width < 1 or height < 1:
        raise GsPoseError(f'{what} is {width}x{height}: it has no pixels')
    if width * height > MOST_PIXELS:
        raise GsPoseError(
            f'{what} is {width}x{height}, {width * height / 1e6:.0f} megapixels: '
            f'at most {MOST_PIXELS // 1_000_000} are read'
        )


def _header(data: bytes | memoryview) -> PictureHeader | None:
    if data[:2] == b'\xff\xd8':
        return _jpeg(data)
    if data[:8] == b'\x89PNG\r\n\x1a\n' and data[12:16] == b'IHDR':
        return PictureHeader('PNG', *struct.unpack_from('>II', data, 16))
    if data[:4] in (b'II*\0', b'MM\0*'):
        return _tiff(data)
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP':
        return _webp(data)
    if data[:2] == b'BM':
        old = struct.unpack_from('<I', data, 14)[0] == 12  # of OS/2
        width, height = struct.unpack_from('<HH' if old else '<ii', data, 18)
        return PictureHeader('BMP', width, abs(height))  # negative: the top row first
    if found := _PNM.match(bytes(data[:4096])):
        return PictureHeader('PNM', int(found[1]), int(found[2]))
    return None


def _jpeg(data: bytes | memoryview) -> PictureHeader | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fills
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack_from('>HH', data, at + 5)
            return PictureHeader('JPEG', width, height)
        else:
            at += 2 + struct.unpack_from('>H', data, at + 2)[0]
    return None


def _tiff(data: bytes | memoryview) -> PictureHeader | None:
    order = '<' if data[:2] == b'II' else '>'
    at = struct.unpack_from(order + 'I', data, 4)[0]
    sides: dict[int, int] = {}
    for entry in range(struct.unpack_from(order + 'H', data, at)[0]):
        tag, kind = struct.unpack_from(order + 'HH', data, at + 2 + 12 * entry)
        if tag in (256, 257) and kind in (3, 4):  # width, height; of 16 or 32 bits
            number = order + ('H' if kind == 3 else 'I')
            sides[tag] = struct.unpack_from(number, data, at + 10 + 12 * entry)[0]
    return PictureHeader('TIFF', sides[256], sides[257]) if len(sides) == 2 else None


def _webp(data: bytes | memoryview) -> PictureHeader | None:
    kind = data[12:16]
    if kind == b'VP8 ' and data[23:26] == b'\x9d\x01\x2a':
        width, height = (side & 0x3FFF for side in struct.unpack_from('<HH', data, 26))
    elif kind == b'VP8L' and data[20] == 0x2F:
        bits = struct.unpack_from('<I', data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b'VP8X':
        width, height = (int.from_bytes(data[i : i + 3], 'little') + 1 for i in (24, 27))
    else:
        return None
    return PictureHeader('WebP', width, height)
