"""RVL as compressed_depth_image_transport writes it, one half byte at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np


def _numbers(pixels: list[int]) -> Iterator[int]:
    at, last = 0, 0
    while at < len(pixels):
        start = at
        while at < len(pixels) and pixels[at] == 0:
            at += 1
        yield at - start
        start = at
        while at < len(pixels) and pixels[at]:
            at += 1
        yield at - start
        for pixel in pixels[start:at]:
            delta = pixel - last
            yield 2 * delta if delta >= 0 else -2 * delta - 1
            last = pixel


def encode_rvl(image: np.ndarray) -> bytes:
    """The words of an image [H, W] uint16."""
    halves: list[int] = []
    for number in _numbers(image.ravel().tolist()):
        rest = number
        while rest > 7:
            halves.append(8 | (rest & 7))
            rest >>= 3
        halves.append(rest)
    halves += [0] * (-len(halves) % 8)
    words = [
        sum(half << (28 - 4 * k) for k, half in enumerate(halves[i : i + 8]))
        for i in range(0, len(halves), 8)
    ]
    return struct.pack(f'<{len(words)}I', *words)
