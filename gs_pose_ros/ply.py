"""Gaussians in and out of PLY, in the layout of the 3DGS reference (opens in any splat viewer)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyParseError

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.gaussians import Gaussians


def _property_names(n_rest: int) -> list[str]:
    return [
        *('x', 'y', 'z', 'nx', 'ny', 'nz'),
        *(f'f_dc_{i}' for i in range(3)),
        *(f'f_rest_{i}' for i in range(n_rest)),
        'opacity',
        *(f'scale_{i}' for i in range(3)),
        *(f'rot_{i}' for i in range(4)),
    ]


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write the standard 3DGS layout: binary little endian, float32, f_rest channel-major."""
    g = gaussians.detached().to('cpu')
    n, k = len(g), g.sh.shape[1]
    rest = g.sh[:, 1:].transpose(1, 2).reshape(n, 3 * (k - 1))
    columns = torch.cat(
        [
            g.means,
            torch.zeros(n, 3),
            g.sh[:, 0],
            rest,
            g.logit_opacities[:, None],
            g.log_scales,
            g.quats,
        ],
        1,
    ).numpy()
    names = _property_names(rest.shape[1])
    vertices = np.empty(n, dtype=[(name, '<f4') for name in names])
    for i, name in enumerate(names):
        vertices[name] = columns[:, i]
    PlyData([PlyElement.describe(vertices, 'vertex')], byte_order='<').write(str(path))


def read_ply(path: Path) -> Gaussians:
    """Read a 3DGS PLY of SH degree 0 to 3.

    Raises:
        GsPoseError: the file is missing, truncated, not a 3DGS PLY, or holds NaN.

    """
    try:
        vertices = PlyData.read(str(path))['vertex'].data
    except (OSError, PlyParseError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise GsPoseError(f'{path}: not a readable PLY: {error}') from error
    present = set(vertices.dtype.names or ())
    n_rest = sum(name.startswith('f_rest_') for name in present)
    if n_rest not in (0, 9, 24, 45):
        raise GsPoseError(f'{path}: {n_rest} f_rest properties; 3DGS has 0, 9, 24 or 45')
    missing = set(_property_names(n_rest)) - {'nx', 'ny', 'nz'} - present
    if missing:
        raise GsPoseError(f'{path}: not a 3DGS PLY, lacks {", ".join(sorted(missing))}')

    def stack(*names: str) -> torch.Tensor:
        columns = np.stack([vertices[name].astype(np.float32) for name in names], -1)
        return torch.from_numpy(columns)

    n = len(vertices)
    sh = stack(*(f'f_dc_{i}' for i in range(3)))[:, None]
    if n_rest:
        rest = stack(*(f'f_rest_{i}' for i in range(n_rest)))
        sh = torch.cat([sh, rest.reshape(n, 3, n_rest // 3).transpose(1, 2)], 1)
    gaussians = Gaussians(
        means=stack('x', 'y', 'z'),
        quats=stack('rot_0', 'rot_1', 'rot_2', 'rot_3'),
        log_scales=stack('scale_0', 'scale_1', 'scale_2'),
        logit_opacities=stack('opacity')[:, 0],
        sh=sh.contiguous(),
    )
    gaussians.check_finite(str(path))
    return gaussians
