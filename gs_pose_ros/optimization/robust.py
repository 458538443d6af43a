"""Tukey's biweight, the robust cost of all residuals: those far off count, but do not pull."""

from __future__ import annotations

import numba
import numpy as np

# Exact in single precision, and of it, so that a kernel of single precision stays one.
_ONE, _SIX = np.float32(1), np.float32(6)


@numba.njit(inline='always', error_model='numpy')
def tukey(r, cut):
    """Root of the weight of a residual r, and its cost; r and `cut` > 0 are in sigmas.

    With q = 1 - min((r / cut)^2, 1) the cost is cut^2 / 6 (1 - q^3), its slope q^2 r, so the
    weight q^2 and its root q (Beaton and Tukey 1974). There is no branch, so that a loop over
    pixels becomes vector instructions.
    """
    q = _ONE - min(r * r / (cut * cut), _ONE)
    return q, cut * cut / _SIX * (_ONE - q * q * q)


@numba.njit(inline='always', error_model='numpy')
def outlier_cost(cut):
    """The cost of a residual of `cut` and more, the largest that there is."""
    return cut * cut / _SIX
