"""Which of several poses are one and the same: of those, the best stays (greedy suppression)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.splat_object import SplatObject

Item = TypeVar('Item')
# Diameters: the centres of two things of one kind are further apart, unless they are flat and in
# a stack.
ONE_PLACE = 0.125


def distinct(
    best_first: Iterable[Item], same: Callable[[Item, Item], bool], most: int | None = None
) -> list[Item]:
    """The first `most` that are not the `same` as one kept before them, in their order."""
    kept: list[Item] = []
    for candidate in best_first:
        if len(kept) == most:
            break
        if not any(same(candidate, other) for other in kept):
            kept.append(candidate)
    return kept


def largest_shift(
    reference: SplatObject, T_a: NDArray[np.float64], T_b: NDArray[np.float64]
) -> float:
    """How far apart (m) two poses T_cam_obj [4, 4] are: the centre, or the rim by rotation."""
    center_a, center_b = reference.center_in(T_a), reference.center_in(T_b)
    rim = float(se3.rotation_angle(T_a[:3, :3], T_b[:3, :3])) * reference.diameter_m / 2
    return max(float(np.linalg.norm(center_a - center_b)), rim)


def center_gap(
    reference: SplatObject, T_a: NDArray[np.float64], T_b: NDArray[np.float64]
) -> float:
    """Between the centres at two poses T_cam_obj [4, 4], in diameters.

    Below `ONE_PLACE` both are of one thing, however they are turned: a pose and its image by a
    symmetry, or by a mistake, have one centre, while an origin far off the object moves.
    """
    gap_m = np.linalg.norm(reference.center_in(T_a) - reference.center_in(T_b))
    return float(gap_m) / reference.diameter_m
