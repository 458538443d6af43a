"""Pictures are read as stored, and refused by name before their pixels fill the memory."""

from __future__ import annotations

import os
import resource
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gs_pose_ros.datasets.picture_file import (
    as_rgb,
    read_picture,
    read_picture_header,
    turned_upright,
)
from gs_pose_ros.errors import GsPoseError
from test.mutations import examples, mutated_bytes

HEIGHT, WIDTH = 36, 48
_RAMP = np.mgrid[0:HEIGHT, 0:WIDTH] * 5
PIXELS = np.stack([_RAMP[0], _RAMP[1], 255 - _RAMP[0]], -1).astype(np.uint8)  # RGB
KINDS = ('.png', '.jpg', '.bmp', '.tif', '.webp', '.ppm')
ENCODED = {kind: cv2.imencode(kind, PIXELS[..., ::-1])[1].tobytes() for kind in KINDS}


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG file that promises so many gray pixels."""
    chunk = b'IHDR' + width.to_bytes(4, 'big') + height.to_bytes(4, 'big') + b'\x08\0\0\0\0'
    end = b'\0\0\0\0IDAT\x35\xaf\x06\x1e'
    return b'\x89PNG\r\n\x1a\n\0\0\0\r' + chunk + zlib.crc32(chunk).to_bytes(4, 'big') + end


@pytest.mark.parametrize('kind', KINDS)
def test_a_picture_of_any_kind_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f'a{kind}'
    path.write_bytes(ENCODED[kind])
    rgb = as_rgb(path, read_picture(path))
    tolerance = 0 if kind in ('.png', '.bmp', '.tif', '.ppm') else 12
    np.testing.assert_allclose(rgb.astype(int), PIXELS, atol=tolerance)
    header = read_picture_header(path)
    assert (header.width, header.height, header.orientation) == (WIDTH, HEIGHT, 1)


@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_depth_keeps_its_steps(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / ('d.png' if dtype is np.uint16 else 'd.tif')
    depth = (_RAMP[0] * 100.5).astype(dtype)
    cv2.imwrite(str(path), depth)
    np.testing.assert_array_equal(read_picture(path), depth)
    with pytest.raises(GsPoseError, match=rf'{path.name}: .* 1 channels of {depth.dtype}'):
        as_rgb(path, read_picture(path))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_pixels_are_as_stored_and_turned_upright_as_viewers_do(
    tmp_path: Path, orientation: int
) -> None:
    path = tmp_path / 'a.jpg'
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)
    stored = read_picture(path)
    assert stored.shape == PIXELS.shape
    assert read_picture_header(path).orientation == orientation
    upright = turned_upright(stored, orientation)
    np.testing.assert_array_equal(upright, cv2.imread(str(path), cv2.IMREAD_COLOR))


@pytest.mark.parametrize('count', [2, 3, 2**30])
def test_more_pixels_than_a_camera_has_are_refused_unseen(tmp_path: Path, count: int) -> None:
    path = tmp_path / 'a.png'
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path.write_bytes(png_header(10_000 * count if count < 10 else count, 10_000))
    with pytest.raises(GsPoseError, match=r'a\.png: .*more than 64 megapixels'):
        read_picture(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_what_is_no_file_of_a_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / 'text.png').write_text('hello')
    (tmp_path / 'empty.png').touch()
    (tmp_path / 'cut.jpg').write_bytes(ENCODED['.jpg'][:-10])
    (tmp_path / 'cut.png').write_bytes(ENCODED['.png'][:-30])
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'loop.png').symlink_to(tmp_path / 'loop.png')
    os.mkfifo(tmp_path / 'fifo.png')
    with (tmp_path / 'huge.png').open('wb') as file:
        file.truncate(2**40)
    for name, reason in {
        'none.png': 'missing',
        'text.png': 'are not a picture',
        'empty.png': 'are not a picture',
        'cut.jpg': 'damaged',
        'cut.png': 'damaged',
        'folder.png': 'a folder',
        'loop.png': 'symbolic links',
        'fifo.png': 'no regular file',
        'huge.png': r'at most 536',
        'x' * 300: 'name too long',
        'a\0b': 'null',
        '../../../../../../../../../../dev/zero': 'no regular file',
    }.items():
        with pytest.raises(GsPoseError, match=f'(?i){reason}') as error:
            read_picture(tmp_path / name)
        assert name[-8:].replace('\0', '\\x00') in str(error.value)


@examples(60)
@given(st.sampled_from(KINDS), st.data())
def test_a_damaged_picture_is_read_or_named(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    path = tmp_path / f'damaged{kind}'
    path.write_bytes(data.draw(mutated_bytes(ENCODED[kind], header=64)))
    try:
        image = read_picture(path)
        assert image.shape[0] * image.shape[1] <= 64_000_000
        assert as_rgb(path, image).shape == (*image.shape[:2], 3)
    except GsPoseError as error:
        assert 'damaged' in str(error)  # noqa: PT017
