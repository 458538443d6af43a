"""Depth images of 16 bits as RVL writes them (Wilson, "Fast Lossless Depth Image Compression").

By turns: how many pixels are 0, how many are not, and of the latter each one's difference to the
last that was not 0, as 2 d or -2 d - 1. All numbers are cut into threes of bits, the lowest first;
each stands in half a byte whose highest bit says that more follow, eight of them in a word.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError

_CUT_OFF, _DAMAGED = -1, -2
_MOST_BITS = 30  # of a number; counts of pixels and differences have fewer


def decode_rvl(data: bytes | memoryview, width: int, height: int) -> NDArray[np.uint16]:
    """The image [height, width] of words of 32 bits, little-endian; 0 where there is no depth.

    Raises:
        GsPoseError: they hold more pixels or fewer, or values that 16 bits do not hold.

    """
    # A copy: numba would compile anew for what may not be written to, or is not aligned.
    words = np.frombuffer(data, '<u4', len(data) // 4).astype(np.uint32)
    image = np.zeros(height * width, np.uint16)
    end = _decode(words, image)
    what = f'{len(data)} bytes of RVL for {width}x{height} pixels'
    if end == _CUT_OFF:
        raise GsPoseError(f'{what} are cut off')
    if end == _DAMAGED:
        raise GsPoseError(f'{what} are damaged')
    if words[(end + 7) // 8 :].any():  # some writers leave zeros
        raise GsPoseError(f'{what} hold more pixels than that')
    return image.reshape(height, width)


@numba.njit(cache=True, nogil=True)
def _number(words, at):
    """The number at half a byte, and where the next one begins; negative: why there is none."""
    value, bits = 0, 0
    while True:
        if at == 8 * len(words):
            return _CUT_OFF, at
        half = (np.int64(words[at >> 3]) >> (28 - 4 * (at & 7))) & 15
        at += 1
        value |= (half & 7) << bits
        if half < 8:
            return value, at
        bits += 3
        if bits == _MOST_BITS:
            return _DAMAGED, at


@numba.njit(cache=True, nogil=True)
def _decode(words, image):
    """Fill the pixels [N], 0 so far; the half bytes that it took, or why it cannot."""
    at, pixel, last = 0, 0, 0
    while pixel < len(image):
        empty, at = _number(words, at)
        if empty < 0:
            return empty
        full, at = _number(words, at)
        if full < 0:
            return full
        pixel += empty
        if pixel + full > len(image):
            return _DAMAGED
        for _ in range(full):
            code, at = _number(words, at)
            if code < 0:
                return code
            last += (code >> 1) ^ -(code & 1)
            if not 0 < last < 65536:
                return _DAMAGED
            image[pixel] = last
            pixel += 1
    return at
