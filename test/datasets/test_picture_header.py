"""Sizes of picture files, known before they are decoded."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given

from gs_pose_ros.datasets.picture_header import picture_header
from gs_pose_ros.errors import GsPoseError
from test.mutations import examples, mutated_bytes

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 61, 3), np.uint8)
KINDS = {
    '.png': ('PNG', []),
    '.jpg': ('JPEG', []),
    '.JPEG': ('JPEG', [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    '.webp': ('WEBP', [cv2.IMWRITE_WEBP_QUALITY, 80]),
    '.WEBP': ('WEBP', [cv2.IMWRITE_WEBP_QUALITY, 101]),  # without loss
    '.tiff': ('TIFF', []),
    '.bmp': ('BMP', []),
    '.ppm': ('PPM', []),
}


def encoded(extension: str, pixels: np.ndarray = PIXELS) -> bytes:
    options = KINDS.get(extension, ('', []))[1]
    return cv2.imencode(extension.lower(), pixels, options)[1].tobytes()


def png_that_says(width: int, height: int) -> bytes:
    """One row of zeros, which is all that a bomb needs to look like."""
    ihdr = b'IHDR' + struct.pack('>IIBBBBB', width, height, 16, 0, 0, 0, 0)
    start = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + ihdr
    return start + struct.pack('>I', zlib.crc32(ihdr)) + struct.pack('>I', 2**30) + b'IDAT'


@pytest.mark.parametrize(('extension', 'kind'), [(e, k) for e, (k, _) in KINDS.items()])
def test_size_of_every_kind(extension: str, kind: str) -> None:
    assert picture_header(encoded(extension)) == (kind, 61, 37, 1)


def test_webp_with_alpha_is_of_the_third_form() -> None:
    data = encoded('.webp', np.dstack([PIXELS, PIXELS[..., 0]]))
    assert data[12:16] == b'VP8X'
    assert picture_header(data) == ('WEBP', 61, 37, 1)


def test_a_bmp_from_the_top() -> None:
    bmp = bytearray(encoded('.bmp'))
    bmp[22:26] = struct.pack('<i', -37)
    assert picture_header(bytes(bmp)) == ('BMP', 61, 37, 1)


def test_what_is_too_large_is_refused_by_its_size() -> None:
    picture_header(png_that_says(8000, 8000))
    with pytest.raises(GsPoseError, match='more than 64 megapixels'):
        picture_header(png_that_says(40_000, 20_000))
    with pytest.raises(GsPoseError, match='PNG is 10000x7000, 70 megapixels: at most 64'):
        picture_header(png_that_says(10_000, 7_000))
    with pytest.raises(GsPoseError, match='are not a picture'):
        picture_header(png_that_says(0, 5))


@pytest.mark.parametrize('data', [b'', b'junk', b'\xff\xd8', b'RIFF\0\0\0\0WEBP', b'II*\0\xff'])
def test_what_is_no_picture_is_said(data: bytes) -> None:
    with pytest.raises(GsPoseError, match=f'{len(data)} bytes are not a picture'):
        picture_header(data)


@pytest.mark.parametrize('extension', KINDS)
def test_any_bytes_have_a_size_or_a_reason(extension: str) -> None:
    """What OpenCV makes of them is of that size."""
    good = encoded(extension)

    @examples(30)
    @given(data=mutated_bytes(good, header=64))
    def holds(data: bytes) -> None:
        try:
            header = picture_header(data)
        except GsPoseError:
            return
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert image is None or image.shape[:2] == (header.height, header.width)

    holds()
