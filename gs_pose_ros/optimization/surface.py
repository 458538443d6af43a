"""How what is seen at a pixel changes while the surface behind it moves."""

from __future__ import annotations

import numba
import numpy as np

_ONE = np.float32(1)  # so that a kernel of single precision stays one


@numba.njit(inline='always', error_model='numpy')
def surface_jacobian(slopes, surface):
    """Jacobian (6 numbers) of a value seen at a pixel, by the motion (t, w) of what is drawn.

    slopes: s_u, s_v, s_z: by how much the value grows per pixel to the right and down, and per
    metre that the surface moves away. surface: three tuples: the point of the surface X, Y, Z (m,
    camera frame), its arm (that point minus the one that w turns about), and fx, fy (px).

    The surface point moves by d = t + w x arm, and its picture by du = fx (d_x - X d_z / Z) / Z
    and dv = fy (d_y - Y d_z / Z) / Z. The pixel then shows what was so far beside it, so the
    value changes by s_z d_z - s_u du - s_v dv = n . d = n . t + (arm x n) . w.
    """
    s_u, s_v, s_z = slopes
    (x, y, z), (a_x, a_y, a_z), (fx, fy) = surface
    inverse = _ONE / z
    n_x, n_y = -s_u * fx * inverse, -s_v * fy * inverse
    n_z = s_z - (n_x * x + n_y * y) * inverse
    return n_x, n_y, n_z, a_y * n_z - a_z * n_y, a_z * n_x - a_x * n_z, a_x * n_y - a_y * n_x
