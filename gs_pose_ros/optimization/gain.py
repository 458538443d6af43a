"""The light of a picture: the gain and the offset that take rendered values to observed ones."""

from __future__ import annotations

import numba

_ENOUGH = 10  # pixels; of fewer nothing is said
NO_SUMS = (0.0, 0.0, 0.0, 0.0, 0.0)


@numba.njit(inline='always')
def add_pair(sums, x, y, w):
    """The weighted sums of 1, x, y, x x, x y, begun as `NO_SUMS`, with another pair of values."""
    n, x_, y_, xx, xy = sums
    return n + w, x_ + w * x, y_ + w * y, xx + w * x * x, xy + w * x * y


@numba.njit(inline='always')
def gain_and_offset(sums, prior, least, most, otherwise):
    """The line y = gain x + offset through the pairs added up in `sums`, by least squares.

    The gain is (cov(x, y) + prior) / (var(x) + prior), kept in [least, most]: `prior` (variance
    of values) pulls it towards 1 where one colour does not tell gain from offset. Of too few
    pairs the result is `otherwise`, a gain and an offset.
    """
    n, x_, y_, xx, xy = sums
    gain, offset = otherwise
    if n >= _ENOUGH:
        x, y = x_ / n, y_ / n
        gain = min(most, max(least, (xy / n - x * y + prior) / (xx / n - x * x + prior)))
        offset = y - gain * x
    return gain, offset
