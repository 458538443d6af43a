"""What is made from an object at the first call and kept as long as the object lives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import TypeVar
from weakref import WeakKeyDictionary

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.objects.database import ObjectReference

K = TypeVar('K', bound=Hashable)
V = TypeVar('V')


def once_per_object(
    make: Callable[[ObjectReference, K], V],
) -> Callable[[ObjectReference, K], V]:
    """`make(reference, settings)`, run once for each object and settings."""
    # By the splat: a reference has arrays, and so no hash.
    made: WeakKeyDictionary[Gaussians, dict[K, V]] = WeakKeyDictionary()

    @functools.wraps(make)
    def kept(reference: ObjectReference, settings: K) -> V:
        of_object = made.setdefault(reference.gaussians, {})
        if settings not in of_object:
            of_object[settings] = make(reference, settings)
        return of_object[settings]

    return kept
