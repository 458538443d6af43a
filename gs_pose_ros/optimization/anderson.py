"""Where steps lead that fall short, each by about the same share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FURTHEST = -3.0  # of theta: steps that shrink to three quarters of the one before are the slowest
_TINY = 1e-12


def accelerated(
    step: NDArray[np.float64],
    step_before: NDArray[np.float64],
    moved: NDArray[np.float64],
    H: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The step [6] to take in place of Gauss-Newton's (Anderson 1965, with one step of memory).

    f = `step` is where Gauss-Newton goes from here, f_1 = `step_before` where it went from the
    pose before, and d = `moved` what was moved in between. With <a, b> = a^T H b:

        theta = <f - f_1, f> / <f - f_1, f - f_1>
        next  = f - theta (d + f - f_1)

    On the line through both poses, f - theta (f - f_1) would be the shortest step: next leads
    there. If each step is the share q of the one before, f = q f_1 and d = f_1, next is
    q / (1 - q) f_1, the sum of all steps to come. theta = -q / (1 - q) is kept in [-3, 0], so
    that nothing is extrapolated further than with q = 3/4, and steps that turn round are taken
    as they are. So is a first step, with zeros for what was before.
    """
    change = step - step_before
    theta = change @ H @ step / max(change @ H @ change, _TINY)
    theta = float(np.clip(theta, _FURTHEST, 0.0))
    return step - theta * (moved + change)
