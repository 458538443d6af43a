"""Frames that move over time, and the transform between any two of them; no ROS needed."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry import se3


class UnknownTransform(LookupError):
    """Two frames are not connected, or not at that time; the message says which and why."""


@dataclass
class _Edge:
    """The motion of one frame in its parent."""

    parent: str
    static: bool
    stamps_ns: list[int] = field(default_factory=list)
    T_parent_child: list[NDArray[np.float64]] = field(default_factory=list)


class TransformTree:
    """The transforms of `/tf` and `/tf_static`; each is kept for `cache_ns` (None: for ever).

    Between two that are further apart than `max_gap_ns` (None: no limit) nothing is known.
    """

    def __init__(self, cache_ns: int | None = None, max_gap_ns: int | None = None) -> None:
        self._cache_ns, self._max_gap_ns = cache_ns, max_gap_ns
        self._edges: dict[str, _Edge] = {}
        self._lock = threading.RLock()  # one thread listens, another asks

    def set(
        self,
        parent: str,
        child: str,
        T_parent_child: NDArray[np.float64],
        stamp_ns: int = 0,
        static: bool = False,
    ) -> None:
        """Take in a transform [4, 4]; a new parent or kind forgets what was known of `child`."""
        parent, child = parent.lstrip('/'), child.lstrip('/')
        if not parent or not child or parent == child:
            raise ValueError(f'a transform needs two frames, got {parent!r} and {child!r}')
        if not se3.is_rigid(T_parent_child):
            raise ValueError(f'the transform from {child!r} to {parent!r} is not a rigid motion')
        with self._lock:
            edge = self._edges.get(child)
            if edge is None or static or (edge.parent, edge.static) != (parent, static):
                edge = self._edges[child] = _Edge(parent, static)
            i = bisect_left(edge.stamps_ns, stamp_ns)
            if i < len(edge.stamps_ns) and edge.stamps_ns[i] == stamp_ns:
                edge.T_parent_child[i] = T_parent_child
                return
            edge.stamps_ns.insert(i, stamp_ns)
            edge.T_parent_child.insert(i, T_parent_child)
            if self._cache_ns is not None:
                old = bisect_left(edge.stamps_ns, edge.stamps_ns[-1] - self._cache_ns)
                del edge.stamps_ns[:old], edge.T_parent_child[:old]

    def clear(self) -> None:
        """Forget what moves; static transforms are not sent again."""
        with self._lock:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    @property
    def frames(self) -> list[str]:
        """The names of all frames, sorted."""
        with self._lock:
            return sorted(self._edges.keys() | {e.parent for e in self._edges.values()})

    def lookup(self, target: str, source: str, stamp_ns: int | None) -> NDArray[np.float64]:
        """T_target_source [4, 4] at that time, interpolated; None asks for the newest.

        0 is a time as any other: images without a stamp must not get the newest pose.

        Raises:
            UnknownTransform: a frame is unknown, not connected, or not known at that time.

        """
        target, source = target.lstrip('/'), source.lstrip('/')
        with self._lock:
            up_target, up_source = self._ancestors(target), self._ancestors(source)
            common = next((frame for frame in up_source if frame in up_target), None)
            if common is None:
                missing = [frame for frame in (target, source) if frame not in self.frames]
                raise UnknownTransform(
                    f'frame {missing[0]!r} does not exist'
                    if missing
                    else f'{target!r} and {source!r} are not connected'
                )
            T_common_target = self._climb(up_target[: up_target.index(common)], stamp_ns)
            T_common_source = self._climb(up_source[: up_source.index(common)], stamp_ns)
            return se3.inverse(T_common_target) @ T_common_source

    def _ancestors(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._edges:
            parent = self._edges[chain[-1]].parent
            if parent in chain:
                raise UnknownTransform(f'the transforms above {frame!r} form a loop')
            chain.append(parent)
        return chain

    def _climb(self, frames: list[str], stamp_ns: int | None) -> NDArray[np.float64]:
        T = np.eye(4)
        for frame in frames:
            T = self._at(frame, stamp_ns) @ T
        return T

    def _at(self, child: str, stamp_ns: int | None) -> NDArray[np.float64]:
        edge = self._edges[child]
        if edge.static or stamp_ns is None:
            return edge.T_parent_child[-1]
        stamps = edge.stamps_ns
        if not stamps[0] <= stamp_ns <= stamps[-1]:
            raise UnknownTransform(
                f'{child!r} in {edge.parent!r} is known from {stamps[0] / 1e9:.3f} s '
                f'to {stamps[-1] / 1e9:.3f} s, not at {stamp_ns / 1e9:.3f} s'
            )
        i = bisect_right(stamps, stamp_ns) - 1
        if stamps[i] == stamp_ns:
            return edge.T_parent_child[i]
        gap_ns = stamps[i + 1] - stamps[i]
        if self._max_gap_ns is not None and gap_ns > self._max_gap_ns:
            raise UnknownTransform(
                f'{child!r} in {edge.parent!r} is not known for {gap_ns / 1e9:.3f} s '
                f'around {stamp_ns / 1e9:.3f} s'
            )
        ratio = (stamp_ns - stamps[i]) / gap_ns
        return se3.interpolate(edge.T_parent_child[i], edge.T_parent_child[i + 1], ratio)
