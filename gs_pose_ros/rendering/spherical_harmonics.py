"""Real spherical harmonics up to degree 3 with the constants of 3DGS (Kerbl et al. 2023).

For blocks of directions: what belongs to the k-th function lies in the k-th plane of `BLOCK`
numbers of a local array, so that loops over a block become vector instructions.
"""

from __future__ import annotations

import numba
import numpy as np

SH_COUNT = 16
BLOCK = 64
_PLANES = tuple(np.uint64(k * BLOCK) for k in range(SH_COUNT))
_0, _1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15 = _PLANES
_TWO, _THREE, _FOUR, _SIX, _EIGHT = (np.float32(k) for k in (2, 3, 4, 6, 8))
_C0, _C1 = np.float32(0.28209479177387814), np.float32(0.4886025119029199)
_C2, _C2_Z, _C2_XY = (
    np.float32(c) for c in (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
)
_C3, _C3_XYZ, _C3_ZZ, _C3_Z, _C3_XY = (
    np.float32(c)
    for c in (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154,
              1.445305721320277)
)  # fmt: skip


@numba.njit(inline='always', cache=True, fastmath=True, nogil=True, error_model='numpy')
def sh_basis(x, y, z, out, at):
    """Fill the 16 planes of out from `at` on with the values at the unit direction (x, y, z)."""
    xx, yy, zz = x * x, y * y, z * z
    out[at + _0] = _C0
    out[at + _1] = -_C1 * y
    out[at + _2] = _C1 * z
    out[at + _3] = -_C1 * x
    out[at + _4] = _C2 * x * y
    out[at + _5] = -_C2 * y * z
    out[at + _6] = _C2_Z * (_TWO * zz - xx - yy)
    out[at + _7] = -_C2 * x * z
    out[at + _8] = _C2_XY * (xx - yy)
    out[at + _9] = -_C3 * y * (_THREE * xx - yy)
    out[at + _10] = _C3_XYZ * x * y * z
    out[at + _11] = -_C3_ZZ * y * (_FOUR * zz - xx - yy)
    out[at + _12] = _C3_Z * z * (_TWO * zz - _THREE * (xx + yy))
    out[at + _13] = -_C3_ZZ * x * (_FOUR * zz - xx - yy)
    out[at + _14] = _C3_XY * z * (xx - yy)
    out[at + _15] = -_C3 * x * (xx - _THREE * yy)


@numba.njit(inline='always', cache=True, fastmath=True, nogil=True, error_model='numpy')
def sh_gradient(x, y, z, h, at):
    """Gradient by x, y, z (taken as independent) of the planes of h times those of `sh_basis`."""
    xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
    h4, h5, h6, h7, h8 = h[at + _4], h[at + _5], h[at + _6], h[at + _7], h[at + _8]
    h9, h10, h11, h12 = h[at + _9], h[at + _10], h[at + _11], h[at + _12]
    h13, h14, h15 = h[at + _13], h[at + _14], h[at + _15]
    by_x = (
        -_C1 * h[at + _3] + _C2 * (y * h4 - z * h7) + _TWO * x * (_C2_XY * h8 - _C2_Z * h6)
        - _SIX * _C3 * xy * h9 + _C3_XYZ * yz * h10 + _TWO * _C3_ZZ * xy * h11
        - _SIX * _C3_Z * xz * h12 - _C3_ZZ * (_FOUR * zz - _THREE * xx - yy) * h13
        + _TWO * _C3_XY * xz * h14 - _THREE * _C3 * (xx - yy) * h15
    )  # fmt: skip
    by_y = (
        -_C1 * h[at + _1] + _C2 * (x * h4 - z * h5) - _TWO * y * (_C2_XY * h8 + _C2_Z * h6)
        - _THREE * _C3 * (xx - yy) * h9 + _C3_XYZ * xz * h10
        - _C3_ZZ * (_FOUR * zz - xx - _THREE * yy) * h11 - _SIX * _C3_Z * yz * h12
        + _TWO * _C3_ZZ * xy * h13 - _TWO * _C3_XY * yz * h14 + _SIX * _C3 * xy * h15
    )  # fmt: skip
    by_z = (
        _C1 * h[at + _2] - _C2 * (y * h5 + x * h7) + _FOUR * _C2_Z * z * h6 + _C3_XYZ * xy * h10
        - _EIGHT * _C3_ZZ * (yz * h11 + xz * h13) + _C3_XY * (xx - yy) * h14
        + _THREE * _C3_Z * (_TWO * zz - xx - yy) * h12
    )  # fmt: skip
    return by_x, by_y, by_z
