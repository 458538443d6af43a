"""Rigid motions: one that an optimiser differentiates, and one that goes on as before."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.geometry import se3


def rigid_motion(q: Tensor, t: Tensor, center: Tensor) -> Tensor:
    """Motion [4, 4] by quaternion q [4] wxyz (any norm) about `center` [3], then by t [3]."""
    w, x, y, z = (q / q.norm()).unbind()
    R = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]),
        ]
    )
    top = torch.cat([R, (center + t - R @ center)[:, None]], 1)
    return torch.cat([top, torch.tensor([[0.0, 0, 0, 1]], dtype=top.dtype)])


def constant_velocity(
    before: tuple[int, NDArray[np.float64]],
    last: tuple[int, NDArray[np.float64]],
    stamp_ns: int,
    at_most: float = np.inf,
) -> NDArray[np.float64]:
    """The pose [4, 4] at a stamp if it goes on as between two stamped poses (ns, [4, 4]).

    No further than `at_most` times the motion between the two: after a gap nobody knows. The last
    pose itself where the stamps do not tell a velocity or the stamp is not after them.
    """
    (t_before, T_before), (t_last, T_last) = before, last
    if t_last <= t_before or stamp_ns <= t_last:
        return T_last
    steps = (stamp_ns - t_last) / (t_last - t_before)
    return se3.interpolate(T_before, T_last, 1 + min(steps, at_most))
