"""Gaussian splatting on a CPU: EWA projection, front-to-back compositing, analytic gradients.

`rasterize` draws one picture with all threads, `rasterize_batch` many pictures, each with one
thread; `Rasterize` is the same for autograd. The kernels are in `projection` and `compositing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import numba
import numpy as np
import torch
from numba import config as numba_config
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering.compositing import (
    composite,
    composite_backward,
    count_tiles,
    fill_tiles,
    gather_gradients,
    in_depth_order,
    sort_by_depth,
    tile_columns,
    tile_offsets,
    tile_rows,
)
from gs_pose_ros.rendering.projection import (
    DEPTH,
    GRADIENTS,
    HIDDEN,
    PREPARED,
    VIEW,
    kernel,
    prepare,
    project,
)
from gs_pose_ros.rendering.projection_gradient import project_backward
from gs_pose_ros.rendering.work_arrays import Scratch, Work

# The default layer ("workqueue") aborts when two Python threads render at once.
numba_config.THREADING_LAYER = 'threadsafe'  # pyright: ignore[reportAttributeAccessIssue]

Pose = NDArray[np.float64]  # [4, 4] T_cam_obj
# Small pictures take less time than it takes threads to start, and callers have many of them:
# those are better spread over threads as a whole (`rasterize_batch`, gs_pose_ros.parallel).
_SMALL_PICTURE = 112 * 112


_scratch = Scratch()


@numba.njit(**kernel)
def _project_part(
    chunk, chunks, prepared, sh, starts, views, width, height, projected, depths, order
):  # fmt: skip
    """Project part `chunk` of every object; how many are visible, packed at the part's begin."""
    begin = kept = chunk * prepared.shape[0] // chunks
    end = (chunk + 1) * prepared.shape[0] // chunks
    for o in range(views.shape[0]):
        kept = project(
            max(begin, starts[o]), min(end, starts[o + 1]), kept, prepared, sh, views[o],
            width, height, projected, depths, order,
        )  # fmt: skip
    return kept - begin


@numba.njit(**kernel)
def _pack(kept, n, depths, order):
    """Move what the parts have left together; how many these are."""
    chunks, count = kept.shape[0], 0
    for chunk in range(chunks):
        begin = chunk * n // chunks
        for k in range(kept[chunk]):
            depths[count + k] = depths[begin + k]
            order[count + k] = order[begin + k]
        count += kept[chunk]
    return count


def _compiled(parallel: bool) -> Callable[..., tuple[int, int]]:
    """The kernel that draws a picture, with one thread or with all."""

    @numba.njit(parallel=parallel, **kernel)
    def draw_picture(slot, chunks, prepared, sh, starts, views, work, image):
        """Fill image [H, 5, W]; the visible Gaussians and the list entries.

        Of more entries than work.pairs holds nothing is drawn.
        """
        if parallel:  # a kernel is found in numba's cache by its code and such constants
            pass
        height, _, width = image.shape
        n, tiles_x, tiles_y = prepared.shape[0], tile_columns(width), tile_rows(height)
        projected, gaussians = work.projected[slot], work.gaussians[slot]
        depths, order = work.depths[slot], work.order[slot]
        entries, offsets, pairs = work.starts[slot], work.offsets[slot], work.pairs[slot]
        kept = np.zeros(chunks, np.int64)
        for c in numba.prange(chunks):
            kept[c] = _project_part(
                c, chunks, prepared, sh, starts, views, width, height, projected, depths, order
            )
        count = _pack(kept, n, depths, order)
        sort_by_depth(
            depths.view(np.uint32), order, count,
            work.other_depths[slot].view(np.uint32), work.other_order[slot],
        )  # fmt: skip
        for c in numba.prange(chunks):
            in_depth_order(c, chunks, projected, order, count, gaussians)
            count_tiles(c, chunks, gaussians, count, tiles_x, tiles_y, entries[c])
        total = tile_offsets(entries, offsets)
        if total <= pairs.shape[0]:
            for c in numba.prange(chunks):
                fill_tiles(c, chunks, gaussians, count, tiles_x, tiles_y, entries[c], pairs)
            for c in numba.prange(chunks):
                composite(c, chunks, gaussians, offsets, pairs, tiles_x, image)
        return count, total

    return draw_picture


_draw_serial, _draw_parallel = _compiled(parallel=False), _compiled(parallel=True)


@numba.njit(**kernel)
def draw(prepared, sh, starts, views, work, image):
    """Fill image [H, 5, W] with the objects that begin at `starts`; the list entries it takes.

    Of more than `work` holds nothing is drawn. With the threads that `work` was made for.
    """
    chunks = work.starts.shape[1]
    if chunks == 1:
        return _draw_serial(0, 1, prepared, sh, starts, views, work, image)[1]
    return _draw_parallel(0, chunks, prepared, sh, starts, views, work, image)[1]


def work_for(splats: Splats, camera: Camera, pairs: int = 0) -> Work:
    """This thread's arrays for one picture, valid until the next call, for so many list entries.

    With all threads for a large picture, with one for a small one.
    """
    is_small = camera.width * camera.height <= _SMALL_PICTURE
    threads = 1 if is_small else numba.get_num_threads()
    return _scratch.work(1, threads, len(splats), camera, pairs)


@numba.njit(parallel=True, **kernel)
def _draw_batch(threads, prepared, sh, starts, views, work, images):
    """Fill images [k, H, 5, W], each thread every `threads`-th; the most list entries of one."""
    most = np.zeros(threads, np.int64)
    for thread in numba.prange(threads):
        for k in range(thread, views.shape[0], threads):
            _, total = _draw_serial(
                thread, 1, prepared, sh, starts, views[k : k + 1], work, images[k]
            )
            most[thread] = max(most[thread], total)
    return most.max()


@numba.njit(parallel=True, **kernel)
def _draw_backward(
    means, quats, log_scales, sh, view, work, count, image, v_image,
    v_pairs, v_projected, v_means, v_quats, v_log_scales, v_logits, v_sh, v_pose,
):  # fmt: skip
    """Gradients of the picture of one object."""
    height, _, width = image.shape
    tiles_x, tiles_y = tile_columns(width), tile_rows(height)
    gaussians, offsets, pairs = work.gaussians[0], work.offsets[0], work.pairs[0]
    chunks = v_pose.shape[0]
    for c in numba.prange(chunks):
        composite_backward(c, chunks, gaussians, offsets, pairs, tiles_x, image, v_image, v_pairs)
    v_projected[:, DEPTH] = HIDDEN
    for c in numba.prange(chunks):
        gather_gradients(
            c, chunks, gaussians, work.order[0], count, tiles_x, tiles_y, work.starts[0, c],
            v_pairs, v_projected,
        )  # fmt: skip
    for c in numba.prange(chunks):
        project_backward(
            c, chunks, means, quats, log_scales, sh, view, work.projected[0], v_projected,
            v_means, v_quats, v_log_scales, v_logits, v_sh, v_pose,
        )  # fmt: skip


@numba.njit(parallel=True, **kernel)
def _prepare(threads, means, quats, log_scales, logits, prepared):
    for c in numba.prange(threads):
        prepare(c, threads, means, quats, log_scales, logits, prepared)


@dataclass(frozen=True)
class Splats:
    """What of the Gaussians does not depend on the view, for any number of pictures."""

    prepared: NDArray[np.float32]  # [N, 12], see `projection.prepare`
    sh: NDArray[np.float32]  # [N, K, 3]

    @classmethod
    def of(cls, gaussians: Gaussians) -> Splats:
        """Prepared once for each object; the tensors must not change afterwards."""
        splats = _prepared.get(gaussians)
        if splats is None:
            splats = _prepared[gaussians] = cls.prepare(*_arrays(gaussians))
        return splats

    @classmethod
    def prepare(cls, means: Any, quats: Any, log_scales: Any, logits: Any, sh: Any) -> Splats:
        """From the arrays of `Gaussians`."""
        out = np.empty((len(means), PREPARED), np.float32)
        _prepare(numba.get_num_threads(), means, quats, log_scales, logits, out)
        return cls(out, sh)

    def __len__(self) -> int:
        return len(self.prepared)


_prepared: WeakKeyDictionary[Gaussians, Splats] = WeakKeyDictionary()


def _arrays(gaussians: Gaussians) -> list[NDArray[np.float32]]:
    """Means, quats, log scales, logit opacities and SH; without a copy where they are on a CPU."""
    g = gaussians
    tensors = (g.means, g.quats, g.log_scales, g.logit_opacities, g.sh)
    return [np.ascontiguousarray(t.detach().cpu().numpy(), np.float32) for t in tensors]


def rasterize(
    gaussians: Gaussians, camera: Camera, T_cam_obj: Pose, *, sloped: bool = False
) -> NDArray[np.float32]:
    """Image [H, 5, W]: premultiplied red, green, blue, depth sum (m), and alpha.

    The depth is that of the Gaussians' middles, or `sloped` as of `view_of`.

    What does not depend on the view is kept for the next picture of the same Gaussians, whose
    tensors must not change.
    """
    return rasterize_scene([(gaussians, T_cam_obj)], camera, sloped=sloped)


def rasterize_scene(
    objects: Sequence[tuple[Gaussians, Pose]], camera: Camera, *, sloped: bool = False
) -> NDArray[np.float32]:
    """Several objects in one picture, hiding each other: image [H, 5, W] as of `rasterize`."""
    splats = _joined([Splats.of(g) for g, _ in objects])
    starts = np.cumsum([0, *(len(g) for g, _ in objects)])
    views = np.stack([view_of(camera, T, sloped=sloped) for _, T in objects])
    image = np.empty((camera.height, 5, camera.width), np.float32)
    needed = 0
    while True:
        work = work_for(splats, camera, needed)
        needed = draw(splats.prepared, splats.sh, starts, views, work, image)
        if needed <= work.pairs.shape[1]:
            return image


def rasterize_batch(
    gaussians: Gaussians, cameras: Sequence[Camera], T_cam_obj: Sequence[Pose]
) -> NDArray[np.float32]:
    """Images [k, H, 5, W] of one object at poses [k, 4, 4], by cameras of equal size."""
    camera = cameras[0]
    if any(c.shape != camera.shape for c in cameras):
        raise ValueError('the cameras of a batch must have pictures of one size')
    splats = Splats.of(gaussians)
    views = np.stack([view_of(c, T) for c, T in zip(cameras, T_cam_obj, strict=True)])
    images = np.empty((len(views), camera.height, 5, camera.width), np.float32)
    threads = min(numba.get_num_threads(), len(views))
    starts = np.array([0, len(splats)])
    needed = 0
    while True:
        work = _scratch.work(threads, 1, len(splats), camera, needed)
        needed = _draw_batch(threads, splats.prepared, splats.sh, starts, views, work, images)
        if needed <= work.pairs.shape[1]:
            return images


def _joined(splats: Sequence[Splats]) -> Splats:
    """All in one, of the highest SH degree among them."""
    if len(splats) == 1:
        return splats[0]
    most = max(s.sh.shape[1] for s in splats)
    sh = [np.pad(s.sh, ((0, 0), (0, most - s.sh.shape[1]), (0, 0))) for s in splats]
    return Splats(np.concatenate([s.prepared for s in splats]), np.concatenate(sh))


def view_of(camera: Camera, T_cam_obj: Pose, sloped: bool = False) -> NDArray[np.float32]:
    """A row of `projection.VIEW` numbers.

    With `sloped` the depth of a Gaussian at a pixel is its mean depth there, given the pixel, not
    that of its middle (RaDe-GS, Zhang et al. 2024, to first order): flat Gaussians then show the
    surface that they lie in. Without gradients.
    """
    # gsplat holds the linearisation 15 % of the image outside its border.
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    mx, my = 0.15 * camera.width, 0.15 * camera.height
    left, right = (cx + 0.5 + mx) / fx, (camera.width - 0.5 - cx + mx) / fx
    top, bottom = (cy + 0.5 + my) / fy, (camera.height - 0.5 - cy + my) / fy
    out = np.zeros(VIEW, np.float32)
    out[:9], out[9:12] = T_cam_obj[:3, :3].ravel(), T_cam_obj[:3, 3]
    out[12:] = fx, fy, cx, cy, left, right, top, bottom, sloped
    return out


class Rasterize(torch.autograd.Function):
    """`rasterize` as [H, 5, W], differentiable in the Gaussians and in T_cam_obj."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        means: Tensor,
        quats: Tensor,
        log_scales: Tensor,
        logit_opacities: Tensor,
        sh: Tensor,
        T_cam_obj: Tensor,
        camera: Camera,
    ) -> Tensor:
        """Arrays as in `Gaussians`; T_cam_obj [4, 4]."""
        arrays = _arrays(Gaussians(means, quats, log_scales, logit_opacities, sh))
        splats = Splats.prepare(*arrays)
        view = view_of(camera, T_cam_obj.detach().numpy())
        image = np.empty((camera.height, 5, camera.width), np.float32)
        threads, n = numba.get_num_threads(), len(splats)
        starts = np.array([0, n])
        needed, room, count = 4 * n + 64, 0, 0
        while needed > room:  # the backward pass needs the arrays: they are its own until then
            room = needed
            shapes = Work.shapes(1, threads, n, camera, room)
            work = Work(**{k: np.empty(*shape) for k, shape in shapes.items()})
            count, needed = _draw_parallel(
                0, threads, splats.prepared, splats.sh, starts, view[None], work, image
            )
        ctx.saved = (arrays, view, work, count, image, T_cam_obj.dtype)  # type: ignore[attr-defined]
        return torch.from_numpy(image)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grad_outputs: Tensor) -> tuple:
        """Gradients by all inputs but the camera."""
        arrays, view, work, count, image, pose_dtype = ctx.saved  # type: ignore[attr-defined]
        v_image = np.ascontiguousarray(grad_outputs[0].numpy(), np.float32)
        v_pairs = np.empty((work.offsets[0, -1], GRADIENTS), np.float32)
        v_projected = np.empty((len(arrays[0]), GRADIENTS), np.float32)
        means, quats, log_scales, _, sh = arrays
        out = [np.empty_like(a) for a in arrays]
        v_pose = np.zeros((work.starts.shape[1], 3, 4))
        cast('Callable[..., None]', _draw_backward)(
            means, quats, log_scales, sh, view, work, count, image, v_image,
            v_pairs, v_projected, *out, v_pose,
        )  # fmt: skip
        pose = torch.zeros(4, 4, dtype=pose_dtype)
        pose[:3] = torch.from_numpy(v_pose.sum(0)).to(pose_dtype)
        return (*(torch.from_numpy(a) for a in out), pose, None)
