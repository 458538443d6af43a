"""Real spherical harmonics up to degree 3 with the constants of 3DGS (Kerbl et al. 2023)."""

from __future__ import annotations

import numba
import numpy as np

_C0 = np.float32(0.28209479177387814)
_C1 = np.float32(0.4886025119029199)
_C2 = np.array(
    [1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792,
     0.5462742152960396], np.float32
)  # fmt: skip
_C3 = np.array(
    [-0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
     -0.4570457994644658, 1.445305721320277, -0.5900435899266435], np.float32
)  # fmt: skip


@numba.njit(cache=True, fastmath=True, nogil=True, error_model='numpy')
def sh_basis(x, y, z, count, out):
    """Fill out[:count] with the basis at the unit direction (x, y, z); count in {1, 4, 9, 16}."""
    out[0] = _C0
    if count > 1:
        out[1] = -_C1 * y
        out[2] = _C1 * z
        out[3] = -_C1 * x
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        out[4] = _C2[0] * x * y
        out[5] = _C2[1] * y * z
        out[6] = _C2[2] * (2 * zz - xx - yy)
        out[7] = _C2[3] * x * z
        out[8] = _C2[4] * (xx - yy)
        if count > 9:
            out[9] = _C3[0] * y * (3 * xx - yy)
            out[10] = _C3[1] * x * y * z
            out[11] = _C3[2] * y * (4 * zz - xx - yy)
            out[12] = _C3[3] * z * (2 * zz - 3 * xx - 3 * yy)
            out[13] = _C3[4] * x * (4 * zz - xx - yy)
            out[14] = _C3[5] * z * (xx - yy)
            out[15] = _C3[6] * x * (xx - 3 * yy)


@numba.njit(cache=True, fastmath=True, nogil=True, error_model='numpy')
def sh_basis_gradient(x, y, z, count, out):
    """Fill out[:count, 3] with the derivatives of `sh_basis` by x, y, z (taken as independent)."""
    out[:count] = 0
    if count > 1:
        out[1, 1] = -_C1
        out[2, 2] = _C1
        out[3, 0] = -_C1
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        out[4, 0], out[4, 1] = _C2[0] * y, _C2[0] * x
        out[5, 1], out[5, 2] = _C2[1] * z, _C2[1] * y
        out[6, 0], out[6, 1], out[6, 2] = -2 * _C2[2] * x, -2 * _C2[2] * y, 4 * _C2[2] * z
        out[7, 0], out[7, 2] = _C2[3] * z, _C2[3] * x
        out[8, 0], out[8, 1] = 2 * _C2[4] * x, -2 * _C2[4] * y
        if count > 9:
            out[9, 0], out[9, 1] = _C3[0] * 6 * x * y, _C3[0] * (3 * xx - 3 * yy)
            out[10, 0], out[10, 1], out[10, 2] = _C3[1] * y * z, _C3[1] * x * z, _C3[1] * x * y
            out[11, 0] = -2 * _C3[2] * x * y
            out[11, 1] = _C3[2] * (4 * zz - xx - 3 * yy)
            out[11, 2] = 8 * _C3[2] * y * z
            out[12, 0], out[12, 1] = -6 * _C3[3] * x * z, -6 * _C3[3] * y * z
            out[12, 2] = _C3[3] * (6 * zz - 3 * xx - 3 * yy)
            out[13, 0] = _C3[4] * (4 * zz - 3 * xx - yy)
            out[13, 1] = -2 * _C3[4] * x * y
            out[13, 2] = 8 * _C3[4] * x * z
            out[14, 0], out[14, 1] = 2 * _C3[5] * x * z, -2 * _C3[5] * y * z
            out[14, 2] = _C3[5] * (xx - yy)
            out[15, 0], out[15, 1] = _C3[6] * (3 * xx - 3 * yy), -6 * _C3[6] * x * y
