"""RVL: what is written is read, and nothing is read beyond it."""

from __future__ import annotations

import struct
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.recording.rvl import decode_rvl
from test.mutations import examples, mutated_bytes
from test.recording.rvl_writer import encode_rvl

IMAGE = np.random.default_rng(0).integers(0, 4, (12, 16), np.uint16) * 700
IMAGES = arrays(
    np.uint16,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from((0, 0, 1, 500, 501, 65535)) | st.integers(0, 65535),
)


@examples(50)
@given(image=IMAGES)
def test_what_was_written_is_read(image: np.ndarray) -> None:
    decoded = decode_rvl(encode_rvl(image), image.shape[1], image.shape[0])
    np.testing.assert_array_equal(decoded, image)
    assert decoded.dtype == np.uint16


def test_words_of_the_reference_codec() -> None:
    """Two empty pixels, then 9 and 7: 2 | 2 | 18 = 0b010_010 | 3 (-2), the lowest bits first."""
    word = struct.pack('<I', 0x22A23000)
    np.testing.assert_array_equal(decode_rvl(word, 2, 2), [[0, 0], [9, 7]])


@examples(100)
@given(data=mutated_bytes(encode_rvl(IMAGE), header=16))
def test_any_bytes_are_an_image_or_refused(data: bytes) -> None:
    with suppress(GsPoseError):
        assert decode_rvl(data, 16, 12).shape == (12, 16)


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'', 'cut off'),
        (encode_rvl(IMAGE)[:-4], 'cut off'),
        (b'\0' * 4000, 'cut off'),  # no pixels, again and again
        (b'\xff' * 4000, 'damaged'),  # a number without end
        (struct.pack('<I', 0xF7700000), 'damaged'),  # 511 pixels
        (struct.pack('<II', 0x01100000, 0), 'damaged'),  # -1
        (encode_rvl(IMAGE) + b'\1\0\0\0', 'more pixels'),
    ],
)
def test_what_is_no_such_image_is_said(data: bytes, words: str) -> None:
    with pytest.raises(GsPoseError, match=f'{len(data)} bytes of RVL for 16x12 pixels .*{words}'):
        decode_rvl(data, 16, 12)


def test_zeros_behind_the_last_word_are_no_pixels() -> None:
    np.testing.assert_array_equal(decode_rvl(encode_rvl(IMAGE) + bytes(9), 16, 12), IMAGE)


def test_a_camera_image_takes_no_time() -> None:
    """About 1 ms; a tenth of what an image may take."""
    image = np.random.default_rng(1).integers(400, 5000, (480, 640), np.uint16)
    image[::3, ::5] = 0
    data = encode_rvl(image)
    decode_rvl(data, 640, 480)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        decode_rvl(data, 640, 480)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02
