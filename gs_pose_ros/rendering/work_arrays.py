"""The arrays that the kernels of `numba_rasterizer` work in, kept from picture to picture."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering.compositing import tile_columns, tile_rows
from gs_pose_ros.rendering.projection import PROJECTED


class Work(NamedTuple):
    """Arrays that the kernels of a picture fill; the first axis is for pictures drawn at once."""

    projected: NDArray[np.float32]  # [S, N, 14]
    depths: NDArray[np.float32]  # [S, N] of what is visible, near to far
    order: NDArray[np.int32]  # [S, N] which Gaussians these are
    other_depths: NDArray[np.float32]  # [S, N] scratch for sorting
    other_order: NDArray[np.int32]  # [S, N]
    gaussians: NDArray[np.float32]  # [S, N, 14] what is visible, near to far
    starts: NDArray[np.int64]  # [S, chunks, tiles] where the entries of a part begin
    offsets: NDArray[np.int64]  # [S, tiles + 1] where those of a tile begin
    pairs: NDArray[np.int32]  # [S, P] for each tile its Gaussians, near to far

    @classmethod
    def shapes(
        cls, pictures: int, chunks: int, n: int, camera: Camera, pairs: int
    ) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and type of each array."""
        tile_count = tile_columns(camera.width) * tile_rows(camera.height)
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            'projected': ((n, PROJECTED), np.float32),
            'depths': ((n,), np.float32),
            'order': ((n,), np.int32),
            'other_depths': ((n,), np.float32),
            'other_order': ((n,), np.int32),
            'gaussians': ((n, PROJECTED), np.float32),
            'starts': ((chunks, tile_count), np.int64),
            'offsets': ((tile_count + 1,), np.int64),
            'pairs': ((pairs,), np.int32),
        }
        return {name: ((pictures, *shape), dtype) for name, (shape, dtype) in shapes.items()}


class Scratch(threading.local):
    """The arrays of this thread, which only grow: no allocation in a steady state."""

    def __init__(self) -> None:
        self._memory: dict[str, NDArray[np.uint8]] = {}

    def work(self, pictures: int, chunks: int, n: int, camera: Camera, pairs: int) -> Work:
        """Arrays for `pictures` at once, each with `pairs` list entries or more."""
        held = self._memory['pairs'].size // 4 // pictures if 'pairs' in self._memory else 0
        pairs = max(held, pairs + pairs // 10, 4 * n + 64)
        arrays = {}
        for name, (shape, dtype) in Work.shapes(pictures, chunks, n, camera, pairs).items():
            size = math.prod(shape) * np.dtype(dtype).itemsize
            memory = self._memory.get(name)
            if memory is None or memory.size < size:
                memory = self._memory[name] = np.empty(size, np.uint8)
            arrays[name] = memory[:size].view(dtype).reshape(shape)
        return Work(**arrays)
