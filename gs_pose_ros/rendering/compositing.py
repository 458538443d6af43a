"""Depth order, tile lists and front-to-back compositing with its gradient, as Numba kernels.

A tile is composited as one flat loop over its rows for each Gaussian: eight pixels wide, so that
whole rows fill vector registers. All planes of a tile lie in one local array at offsets that the
compiler knows, counted in uint64; anything else and it takes one pixel at a time, eight times
slower. Values follow gsplat (alpha limits, where a pixel is full), so both backends agree.
"""

from __future__ import annotations

import numba
import numpy as np

from gs_pose_ros.rendering.projection import (
    ALPHA_MIN,
    BLUE,
    DEPTH,
    GRADIENTS,
    GREEN,
    OPACITY,
    PROJECTED,
    RED,
    RX,
    RY,
    ZU,
    ZV,
    A,
    B,
    C,
    U,
    V,
    f32,
    kernel,
    u64,
)

_ONE, _HALF, _ZERO, _SIX = f32(1), f32(0.5), f32(0), f32(6)
_ALPHA_MAX = f32(0.999)
_STOP = f32(1e-4)  # transmittance at which a pixel is full
TILE_WIDTH, TILE_HEIGHT = 8, 16  # px
_PIXELS = TILE_WIDTH * TILE_HEIGHT
_PAIR = u64(2 * TILE_WIDTH)
_DX, _DY, _T, _P0, _P1, _P2, _P3, _P4, _BEHIND, _END = (u64(k * _PIXELS) for k in range(10))
_CHECK_FULL = 16  # Gaussians between two looks at whether a tile is full
_DIGIT, _DIGITS = 11, 2048

# Taylor series of exp(-s / 8), to the eighth power afterwards: 2e-7 for s < 6.
_E1, _E3, _E4, _E5, _E6, _E7 = (f32(1 / k) for k in (8, 6, 24, 120, 720, 5040))


@numba.njit(**kernel)
def tile_columns(width):
    """How many tiles cover a row of so many pixels."""
    return (width + TILE_WIDTH - 1) // TILE_WIDTH


@numba.njit(**kernel)
def tile_rows(height):
    """How many tiles cover a column of so many pixels."""
    return (height + TILE_HEIGHT - 1) // TILE_HEIGHT


@numba.njit(inline='always', **kernel)
def _exp_minus(s):
    """exp(-s) for 0 <= s <= 6, without the call that keeps a loop from vectorising."""
    r = s * _E1
    p = _ONE - r * (_ONE - r * (_HALF - r * (_E3 - r * (_E4 - r * (_E5 - r * (_E6 - r * _E7))))))
    p = p * p
    p = p * p
    return p * p


@numba.njit(**kernel)
def sort_by_depth(keys, indices, count, other_keys, other_indices):
    """Stable radix sort of the first `count` keys (bits of positive floats) with their indices.

    Only as many digits as the range of the keys has: two for an object. Sorted in place, the
    other arrays are scratch.
    """
    if count == 0:
        return
    low = high = keys[0]
    for i in range(count):
        low, high = min(low, keys[i]), max(high, keys[i])
    histogram = np.empty(_DIGITS, np.int64)
    shift = 0
    swapped = False
    while (high - low) >> shift > 0 or swapped:
        if swapped:
            source, source_indices, target, target_indices = (
                other_keys, other_indices, keys, indices,
            )  # fmt: skip
        else:
            source, source_indices, target, target_indices = (
                keys, indices, other_keys, other_indices,
            )  # fmt: skip
        histogram[:] = 0
        for i in range(count):
            histogram[((source[i] - low) >> shift) & (_DIGITS - 1)] += 1
        total = 0
        for d in range(_DIGITS):
            here = histogram[d]
            histogram[d] = total
            total += here
        for i in range(count):
            key = source[i]
            d = ((key - low) >> shift) & (_DIGITS - 1)
            target[histogram[d]] = key
            target_indices[histogram[d]] = source_indices[i]
            histogram[d] += 1
        swapped = not swapped
        shift += _DIGIT


@numba.njit(**kernel)
def in_depth_order(chunk, chunks, projected, order, count, gaussians):
    """Copy the visible rows of projected [N, 14] to gaussians [count, 14], near to far."""
    for m in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        source, target = projected[order[m]], gaussians[m]
        for k in range(PROJECTED):
            target[k] = source[k]


@numba.njit(**kernel)
def _reached(g, tiles_x, tiles_y):
    """First and last (exclusive) column and row of the tiles that a Gaussian reaches."""
    left = int(np.ceil(g[U] - g[RX]))
    right = int(np.floor(g[U] + g[RX]))
    top = int(np.ceil(g[V] - g[RY]))
    bottom = int(np.floor(g[V] + g[RY]))
    return (
        max(left, 0) // TILE_WIDTH,
        min(right // TILE_WIDTH + 1, tiles_x) if right >= max(left, 0) else 0,
        max(top, 0) // TILE_HEIGHT,
        min(bottom // TILE_HEIGHT + 1, tiles_y) if bottom >= max(top, 0) else 0,
    )


@numba.njit(**kernel)
def count_tiles(chunk, chunks, gaussians, count, tiles_x, tiles_y, counts):
    """counts[tile]: how many Gaussians of part `chunk` reach each tile."""
    counts[:] = 0
    for i in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        x0, x1, y0, y1 = _reached(gaussians[i], tiles_x, tiles_y)
        for y in range(y0, y1):
            for x in range(x0, x1):
                counts[y * tiles_x + x] += 1


@numba.njit(**kernel)
def tile_offsets(counts, offsets):
    """From counts [chunks, tiles] to where each part writes and each tile begins; the total."""
    total = 0
    for tile in range(counts.shape[1]):
        offsets[tile] = total
        for chunk in range(counts.shape[0]):
            here = counts[chunk, tile]
            counts[chunk, tile] = total
            total += here
    offsets[counts.shape[1]] = total
    return total


@numba.njit(**kernel)
def fill_tiles(chunk, chunks, gaussians, count, tiles_x, tiles_y, starts, pairs):
    """Write the Gaussians of part `chunk` into the tiles' lists, near to far.

    starts [tiles] is where the part's entries begin, as `tile_offsets` gives it.
    """
    cursor = starts.copy()
    for i in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        x0, x1, y0, y1 = _reached(gaussians[i], tiles_x, tiles_y)
        for y in range(y0, y1):
            for x in range(x0, x1):
                tile = y * tiles_x + x
                pairs[cursor[tile]] = i
                cursor[tile] += 1


@numba.njit(**kernel)
def _new_tile():
    """The local array of a thread, with the pixels' places in a tile."""
    w = np.empty(_END, np.float32)
    for k in range(_PIXELS):
        w[k] = f32(k % TILE_WIDTH)
        w[_PIXELS + k] = f32(k // TILE_WIDTH)
    return w


@numba.njit(**kernel)
def _is_full(w):
    most = -_ONE
    for k in range(_T, _P0):
        most = max(most, w[k])
    return most <= _ZERO


@numba.njit(**kernel)
def _span(g, y0):
    """First and last (exclusive) pixel of the rows of a tile that a Gaussian reaches.

    Always pairs of rows: sixteen pixels are one or two registers, and nothing is left over.
    """
    dv = f32(y0) - g[V]
    first = max(0, int(np.ceil(-dv - g[RY])))
    last = min(TILE_HEIGHT, int(np.floor(g[RY] - dv)) + 1)
    return u64(first // 2) * _PAIR, u64((max(first, last) + 1) // 2) * _PAIR


@numba.njit(**kernel)
def composite(thread, threads, gaussians, offsets, pairs, tiles_x, image):
    """Composite every `threads`-th tile into image [H, 5, W]: colour, depth sum and alpha."""
    height, _, width = image.shape
    w = _new_tile()
    for tile in range(thread, offsets.shape[0] - 1, threads):
        x0, y0 = tile % tiles_x * TILE_WIDTH, tile // tiles_x * TILE_HEIGHT
        for k in range(_P0, _P4):
            w[k] = _ZERO
        for k in range(_T, _P0):
            w[k] = _ONE
        first = offsets[tile]
        for p in range(first, offsets[tile + 1]):
            if (p - first) % _CHECK_FULL == _CHECK_FULL - 1 and _is_full(w):
                break
            g = gaussians[pairs[p]]
            a, b, c, opacity = g[A] * _HALF, g[B], g[C] * _HALF, g[OPACITY]
            red, green, blue, depth = g[RED], g[GREEN], g[BLUE], g[DEPTH]
            zu, zv, bend = g[ZU], g[ZV], _ONE / depth
            du, dv = f32(x0) - g[U], f32(y0) - g[V]
            begin, end = _span(g, y0)
            for k in range(begin, end):
                dx, dy = du + w[_DX + k], dv + w[_DY + k]
                s = min(max(_ZERO, (a * dx + b * dy) * dx + c * dy * dy), _SIX)
                alpha = min(_ALPHA_MAX, opacity * _exp_minus(s))
                T = w[_T + k]
                after = T * (_ONE - alpha)
                touched = (T > _ZERO) & (alpha >= ALPHA_MIN)
                blended = touched & (after > _STOP)
                weight = alpha * T if blended else _ZERO
                w[_P0 + k] += weight * red
                w[_P1 + k] += weight * green
                w[_P2 + k] += weight * blue
                # A plane's inverse depth is linear: z / (1 - d / z), up to the second power.
                d = zu * dx + zv * dy
                w[_P3 + k] += weight * (depth + d + d * d * bend)
                # Negative once the pixel is full.
                w[_T + k] = after if blended else (-T if touched else T)
        for k in range(_T, _P0):
            w[k] = _ONE - abs(w[k])
        for y in range(min(TILE_HEIGHT, height - y0)):
            for x in range(min(TILE_WIDTH, width - x0)):
                k = y * TILE_WIDTH + x
                for plane in range(4):
                    image[y0 + y, plane, x0 + x] = w[(3 + plane) * _PIXELS + k]
                image[y0 + y, 4, x0 + x] = w[2 * _PIXELS + k]


@numba.njit(**kernel)
def composite_backward(
    thread, threads, gaussians, offsets, pairs, tiles_x, image, v_image, v_pairs
):  # fmt: skip
    """Gradient of `composite` for every `threads`-th tile: v_pairs [P, 10] for each list entry.

    v_image [H, 5, W] is the gradient by `image`, drawn without slopes. Repeats the forward order
    and needs no list per pixel: what is behind a Gaussian is the final value minus what has been
    composited so far.
    """
    height, _, width = image.shape
    w = _new_tile()
    for tile in range(thread, offsets.shape[0] - 1, threads):
        first, last = offsets[tile], offsets[tile + 1]
        if first == last:
            continue
        x0, y0 = tile % tiles_x * TILE_WIDTH, tile // tiles_x * TILE_HEIGHT
        for k in range(_P0, _END):
            w[k] = _ZERO
        for y in range(min(TILE_HEIGHT, height - y0)):
            for x in range(min(TILE_WIDTH, width - x0)):
                k = y * TILE_WIDTH + x
                behind = _ZERO
                for plane in range(5):
                    v = v_image[y0 + y, plane, x0 + x]
                    w[(3 + plane) * _PIXELS + k] = v
                    behind += v * image[y0 + y, plane, x0 + x]
                w[8 * _PIXELS + k] = behind
        for k in range(_T, _P0):
            w[k] = _ONE
        for p in range(first, last):
            out = v_pairs[p]
            if (p - first) % _CHECK_FULL == _CHECK_FULL - 1 and _is_full(w):
                v_pairs[p:last] = _ZERO
                break
            g = gaussians[pairs[p]]
            a, b, c, opacity = g[A] * _HALF, g[B], g[C] * _HALF, g[OPACITY]
            red, green, blue, depth = g[RED], g[GREEN], g[BLUE], g[DEPTH]
            du, dv = f32(x0) - g[U], f32(y0) - g[V]
            begin, end = _span(g, y0)
            # Moments of dL/dsigma in the offset from the centre, and colour times weight.
            m, mx, my, mxx, mxy, myy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
            v_red, v_green, v_blue, v_depth = _ZERO, _ZERO, _ZERO, _ZERO
            for k in range(begin, end):
                dx, dy = du + w[_DX + k], dv + w[_DY + k]
                s = min(max(_ZERO, (a * dx + b * dy) * dx + c * dy * dy), _SIX)
                raw = opacity * _exp_minus(s)
                alpha = min(_ALPHA_MAX, raw)
                T = w[_T + k]
                rest = _ONE - alpha
                after = T * rest
                touched = (T > _ZERO) & (alpha >= ALPHA_MIN)
                blended = touched & (after > _STOP)
                weight = alpha * T if blended else _ZERO
                p0, p1, p2, p3 = w[_P0 + k], w[_P1 + k], w[_P2 + k], w[_P3 + k]
                value = p0 * red + p1 * green + p2 * blue + p3 * depth + w[_P4 + k]
                behind = w[_BEHIND + k] - weight * value
                v_alpha = T * value - behind / rest
                v_sigma = -raw * v_alpha if blended & (raw <= _ALPHA_MAX) else _ZERO
                w[_BEHIND + k] = behind
                w[_T + k] = after if blended else (-T if touched else T)
                v_red += weight * p0
                v_green += weight * p1
                v_blue += weight * p2
                v_depth += weight * p3
                vx, vy = v_sigma * dx, v_sigma * dy
                m += v_sigma
                mx += vx
                my += vy
                mxx += vx * dx
                mxy += vx * dy
                myy += vy * dy
            out[U] = -(g[A] * mx + b * my)
            out[V] = -(b * mx + g[C] * my)
            out[A], out[B], out[C] = _HALF * mxx, mxy, _HALF * myy
            out[OPACITY] = -m / opacity  # sigma moves alpha by -alpha, opacity by alpha / opacity
            out[RED], out[GREEN], out[BLUE], out[DEPTH] = v_red, v_green, v_blue, v_depth


@numba.njit(**kernel)
def gather_gradients(
    chunk, chunks, gaussians, order, count, tiles_x, tiles_y, starts, v_pairs, v_projected
):  # fmt: skip
    """Sum the list entries [P, 10] of each Gaussian of part `chunk` into v_projected [N, 10]."""
    cursor = starts.copy()
    for i in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        x0, x1, y0, y1 = _reached(gaussians[i], tiles_x, tiles_y)
        out = v_projected[order[i]]
        out[:] = _ZERO
        for y in range(y0, y1):
            for x in range(x0, x1):
                tile = y * tiles_x + x
                for k in range(GRADIENTS):
                    out[k] += v_pairs[cursor[tile], k]
                cursor[tile] += 1
