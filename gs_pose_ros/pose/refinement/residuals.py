"""What refinement measures: an object as it is drawn against a window of the image, as kernels.

There are three residuals: the silhouette, the depth and the colour. Each has a function that
returns the residual of one pixel with its Jacobian; `normal_equations` adds them up.

Renderings [S, 5, S] are what `draw` gives; colours, depths and masks those of `ObjectWindow`. All
residuals are drawn minus seen, in sigmas. Jacobians are by (translation, rotation about the
object's centre) of the left tangent in the camera frame.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from gs_pose_ros.optimization.drawing import ALPHA_PLANE, DEPTH_PLANE
from gs_pose_ros.optimization.robust import outlier_cost, tukey
from gs_pose_ros.optimization.surface import surface_jacobian

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}
_inline: Any = {'inline': 'always', 'error_model': 'numpy'}
_DRAWN = 0.02  # alpha; what is less is no pixel of the object
_INNER = 0.5  # alpha of the pixels of the object that lie inside its outline
_OUTLINE = 1e-4  # squared slope of alpha (1/px^2), from which on a pixel is of the outline
_STEEP = 8  # depth that grows by more than so many times the width of a pixel is a jump
_MAYBE_OBJECT = -1.5  # mask values below: the object, if the depth says so


@numba.njit(**_inline)
def _drawn(image, plane, y, x):
    """A colour, or the depth (m), of the surface that is drawn at a pixel."""
    return image[y, plane, x] / image[y, ALPHA_PLANE, x]


@numba.njit(**_inline)
def _slopes(image, plane, y, x):
    """By how much that grows per pixel to the right and down."""
    u = 0.5 * (_drawn(image, plane, y, x + 1) - _drawn(image, plane, y, x - 1))
    v = 0.5 * (_drawn(image, plane, y + 1, x) - _drawn(image, plane, y - 1, x))
    return u, v


@numba.njit(**_inline)
def _is_inside(image, y, x):
    """Whether a pixel and its four neighbours show the object."""
    return (
        image[y, ALPHA_PLANE, x - 1] > _INNER
        and image[y, ALPHA_PLANE, x + 1] > _INNER
        and image[y - 1, ALPHA_PLANE, x] > _INNER
        and image[y + 1, ALPHA_PLANE, x] > _INNER
        and image[y, ALPHA_PLANE, x] > _INNER
    )


@numba.njit(**_inline)
def _surface(image, y, x, K, center):
    """Surface point at a pixel, its arm about the centre, and fx, fy, see `surface_jacobian`."""
    fx, fy, cx, cy = K
    Z = float(_drawn(image, DEPTH_PLANE, y, x))
    X, Y = (x - cx) / fx * Z, (y - cy) / fy * Z
    return (X, Y, Z), (X - center[0], Y - center[1], Z - center[2]), (fx, fy)


@numba.njit(**_inline)
def _label(marked, observed, depth_error, cut):
    """What alpha should be, 0 or 1, by the mask, or else by the depth; -1 if neither tells."""
    label = marked
    if label < 0 and observed > 0:
        if depth_error < -cut:
            label = np.float32(0)  # free space: something further away is seen
        elif label < _MAYBE_OBJECT:
            label = np.float32(1)
    return label


@numba.njit(**_inline)
def _silhouette(image, y, x, label, surface, sigma):
    """Alpha minus the label, its Jacobian, and whether the outline of the object is there."""
    u = 0.5 * (image[y, ALPHA_PLANE, x + 1] - image[y, ALPHA_PLANE, x - 1])
    v = 0.5 * (image[y + 1, ALPHA_PLANE, x] - image[y - 1, ALPHA_PLANE, x])
    J = surface_jacobian((u / sigma, v / sigma, 0.0), surface)
    return (image[y, ALPHA_PLANE, x] - label) / sigma, J, u * u + v * v > _OUTLINE


@numba.njit(**_inline)
def _depth(image, y, x, observed, surface, sigma):
    """Depth drawn minus observed, its Jacobian, and whether there is no jump of the depth."""
    u, v = _slopes(image, DEPTH_PLANE, y, x)
    (_, _, z), _, (fx, _) = surface
    J = surface_jacobian((u / sigma, v / sigma, 1 / sigma), surface)
    return (z - observed) / sigma, J, u * u + v * v < (_STEEP * z / fx) ** 2


@numba.njit(**_inline)
def _color(image, y, x, channel, seen, gain, surface, sigma):
    """A channel drawn, in the light of the image, minus seen, and its Jacobian."""
    u, v = _slopes(image, channel, y, x)
    factor = gain[channel] / sigma
    r = (gain[channel] * _drawn(image, channel, y, x) + gain[3 + channel] - seen) / sigma
    return r, surface_jacobian((factor * u, factor * v, 0.0), surface)


@numba.njit(**_inline)
def _add(H, b, J, r, w):
    """Add a residual r with Jacobian J [6] and weight w to H (lower triangle) and gradient b."""
    for i in range(6):
        wj = w * J[i]
        b[i] += wj * r
        for j in range(i + 1):
            H[i, j] += wj * J[j]


@numba.njit(**_kernel)
def normal_equations(
    image, color, depth, mask, K, center, gain, sigmas, cut, H, gradients
):  # fmt: skip
    """Fill H [6, 6]; return (cost per pixel, number of pixels that constrain the pose).

    `gradients` [n, n, 6] takes the gradient of the cost, added up over each of n x n blocks of the
    picture; both are zero before. `gain` [6] are three gains and offsets, `sigmas` those of
    colour, depth (m) and silhouette.
    """
    height, _, width = image.shape
    sigma_color, sigma_depth, sigma_silhouette = sigmas
    cost, pixels, support = 0.0, 0, 0
    blocks = len(gradients)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if image[y, ALPHA_PLANE, x] < _DRAWN:
                continue
            b = gradients[y * blocks // height, x * blocks // width]
            surface = _surface(image, y, x, K, center)
            observed = depth[y, x]
            depth_error = (surface[0][2] - observed) / sigma_depth
            if observed > 0 and depth_error > cut:
                continue  # something stands in front: this pixel says nothing of the object
            pixels += 1
            constrains = False
            label = _label(mask[y, x], observed, depth_error, cut)
            if label >= 0:
                r, J, on_outline = _silhouette(image, y, x, label, surface, sigma_silhouette)
                root, more = tukey(r, cut)
                cost += more
                if on_outline:
                    _add(H, b, J, r, root * root)
                    constrains = True
            if _is_inside(image, y, x):
                if observed > 0:
                    r, J, is_smooth = _depth(image, y, x, observed, surface, sigma_depth)
                    root, more = tukey(r, cut)
                    cost += more
                    if root == 0:  # behind: not the object, its colour says nothing either
                        cost += 3 * outlier_cost(cut)
                        continue
                    if is_smooth:
                        _add(H, b, J, r, root * root)
                for channel in range(3):
                    seen = color[y, x, channel]
                    if np.isnan(seen):
                        continue
                    r, J = _color(image, y, x, channel, seen, gain, surface, sigma_color)
                    root, more = tukey(r, cut)
                    cost += more
                    _add(H, b, J, r, root * root)
                constrains = True
            support += constrains
    for i in range(6):
        for j in range(i):
            H[j, i] = H[i, j]
    return cost / max(pixels, 1), support
