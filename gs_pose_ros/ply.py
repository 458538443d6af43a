"""Gaussians in and out of PLY, in the layout of the 3DGS reference (opens in any splat viewer)."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.recfunctions import structured_to_unstructured
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement, PlyListProperty, PlyParseError

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.regular_files import read_regular

# The largest scenes of the 3DGS paper have 6 million Gaussians of 248 bytes.
_MOST_BYTES = 2 << 30
_MOST_HEADER = 1 << 16  # bytes; 62 properties take 2 000
# The logit that stands for an infinite one, which programs write for an opacity of exactly 1 or 0:
# in float32 its sigmoid is 1, and that of the negative one is far below what a pixel shows.
_SURE_LOGIT = 20.0
# The logarithm that stands for minus infinity, a width of 0: 2 nm, drawn as wide as a pixel.
_NO_WIDTH = -20.0
_LARGEST_SCALE = 40.0  # log m; in float32 the square of exp(45) is infinite
_BY_CHANCE = 50  # Gaussians
_ELEMENT = re.compile(rb'^(element[ \t]+\S+[ \t]+)(\d+)[ \t]*$', re.MULTILINE)
_OTHER_FORMATS = {
    b'\x1f\x8b': 'compressed by gzip (an SPZ file?)',
    b'NGSP': 'an SPZ file',
    b'PK': 'a zip archive (a SOG file?)',
    b'glTF': 'a glTF file',
}
_CONVERT = 'convert it to a PLY of 3DGS (SuperSplat does that)'


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

    What other programs write for the ends of a range is read as they mean it: an infinite logit of
    an opacity as 20 or -20, a width of 0 as 2 nm, a quaternion of zeros as no rotation (as the
    renderer of the 3DGS reference does). Mip-Splatting's filter is put into the Gaussians.

    Raises:
        GsPoseError: the file is missing, truncated, not a 3DGS PLY, or holds NaN.

    """
    return parse_ply(read_regular(path, _MOST_BYTES), path)


def parse_ply(content: bytes, path: Path) -> Gaussians:
    """`read_ply` of what has been read; the path is for messages.

    Raises:
        GsPoseError: as `read_ply`.

    """
    try:
        vertices = _vertices(content, path)
    except (PlyParseError, ValueError) as error:
        raise GsPoseError(f'{path}: not a readable PLY: {error}') from error
    n_rest = _count_rest(vertices.dtype, path)

    def stack(*names: str) -> torch.Tensor:
        with np.errstate(over='ignore', invalid='ignore'):  # of doubles; found below
            columns = structured_to_unstructured(vertices[list(names)], np.float32, copy=True)
        return torch.from_numpy(columns)

    n = len(vertices)
    sh = stack(*(f'f_dc_{i}' for i in range(3)))[:, None]
    if n_rest:
        rest = stack(*(f'f_rest_{i}' for i in range(n_rest)))
        sh = torch.cat([sh, rest.reshape(n, 3, n_rest // 3).transpose(1, 2)], 1)
    logits, scales = stack('opacity')[:, 0], stack('scale_0', 'scale_1', 'scale_2')
    # Of a few it may be by chance.
    if n > _BY_CHANCE and (scales > 0).all() and ((logits >= 0) & (logits <= 1)).all():
        raise GsPoseError(
            f'{path}: scales and opacities are stored as they are, {float(scales.min()):.3g} m to '
            f'{float(scales.max()):.3g} m and within 0 to 1; 3DGS has logarithms of scales and '
            'logits of opacities'
        )
    if 'filter_3D' in (vertices.dtype.names or ()):
        logits, scales = _fused(logits, scales, stack('filter_3D'))
    gaussians = Gaussians(
        means=stack('x', 'y', 'z'),
        quats=_usable_quats(stack('rot_0', 'rot_1', 'rot_2', 'rot_3')),
        log_scales=torch.where(torch.isneginf(scales), _NO_WIDTH, scales),
        logit_opacities=torch.where(torch.isinf(logits), logits.sign() * _SURE_LOGIT, logits),
        sh=sh.contiguous(),
    )
    gaussians.check_finite(str(path))
    if n and (largest := float(gaussians.log_scales.max())) > _LARGEST_SCALE:
        raise GsPoseError(
            f'{path}: a scale is {largest:.3g}: it is the logarithm of a width in metres, at most '
            f'{_LARGEST_SCALE:g}'
        )
    return gaussians


def _fused(
    logits: torch.Tensor, scales: torch.Tensor, widths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N] and log scales [N, 3] with Mip-Splatting's 3-D filter [N, 1] (Yu et al. 2024)."""
    squares = torch.exp(2 * scales.double())
    wide = squares + widths.double() ** 2
    shares = (squares / wide).prod(1).sqrt()
    opacities = torch.sigmoid(logits.double()) * shares
    return torch.logit(opacities).float(), (0.5 * torch.log(wide)).float()


def _usable_quats(quats: torch.Tensor) -> torch.Tensor:
    """The quaternions, those that float32 cannot normalise made such that it can."""
    norms = torch.linalg.vector_norm(quats, dim=1)
    odd = ~((norms > 1e-12) & (norms < 1e12))
    if odd.any():
        # The reference divides by at least 1e-12, and its matrix of a quaternion of 0 is I.
        exact = quats[odd].double()
        norms = exact.norm(dim=1, keepdim=True)
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
        quats[odd] = torch.where(norms < 1e-12, identity, exact / norms).float()
    return quats


def _count_rest(kinds: np.dtype[Any], path: Path) -> int:
    """The number of f_rest properties of a 3DGS PLY.

    Raises:
        GsPoseError: it is none; the message says what it is instead, as far as that is clear.

    """
    present = set(kinds.names or ())
    n_rest = sum(name.startswith('f_rest_') for name in present)
    if n_rest not in (0, 9, 24, 45):
        raise GsPoseError(f'{path}: {n_rest} f_rest properties; 3DGS has 0, 9, 24 or 45')
    needed = [name for name in _property_names(n_rest) if name not in ('nx', 'ny', 'nz')]
    if missing := sorted(set(needed) - present):
        what = ''
        if 'packed_position' in present:
            what = f' (it is a compressed PLY of SuperSplat: {_CONVERT})'
        elif {'red', 'green', 'blue'} <= present and 'opacity' not in present:
            what = ' (it is a cloud of coloured points or a mesh: fit Gaussians to it first)'
        raise GsPoseError(f'{path}: not a 3DGS PLY, lacks {", ".join(missing)}{what}')
    for name in needed:
        if kinds[name].kind != 'f':
            raise GsPoseError(f'{path}: {name} is stored as {kinds[name]}; 3DGS has float')
    return n_rest


@dataclass(frozen=True)
class _Layout:
    """What a PLY header says: elements with their counts, and where their rows begin."""

    ply: PlyData  # with the elements' properties, and no rows
    counts: tuple[int, ...]
    start: int  # byte


def _layout(content: bytes, path: Path) -> _Layout:
    for magic, what in _OTHER_FORMATS.items():
        if content.startswith(magic):
            raise GsPoseError(f'{path}: is {what}, no PLY: {_CONVERT}')
    newline = re.match(rb'ply(\r\n|\n|\r)', content)
    if newline is None:
        hint = f': {_CONVERT}' if path.suffix in ('.splat', '.ksplat', '.spz', '.sog') else ''
        raise GsPoseError(f'{path}: not a readable PLY: its first line is not "ply"{hint}')
    last = newline[1] + b'end_header' + newline[1]
    end = content.find(last, 0, _MOST_HEADER)
    if end < 0:
        raise GsPoseError(
            f'{path}: not a readable PLY: no "end_header" in its first {_MOST_HEADER} bytes'
        )
    header = content[: end + len(last)]
    # plyfile reads the header; the rows are not its: it believes any count, and makes room for it.
    lines = header.replace(newline[1], b'\n')
    counts = tuple(int(count[:20]) for _, count in _ELEMENT.findall(lines))
    ply = PlyData.read(io.BytesIO(_ELEMENT.sub(rb'\g<1>0', lines)))
    if len(ply.elements) != len(counts):
        raise PlyParseError('an element without a count')
    return _Layout(ply, counts, len(header))


def _vertices(content: bytes, path: Path) -> NDArray[np.void]:
    """The rows of the element `vertex`.

    Raises:
        GsPoseError: the file has less bytes than its header says, or no vertices.
        PlyParseError, ValueError: it is no PLY.

    """
    layout = _layout(content, path)
    ply, counts = layout.ply, layout.counts
    names = [element.name for element in ply.elements]
    if 'vertex' not in names:
        raise GsPoseError(f'{path}: not a 3DGS PLY, has no element "vertex"')
    at = names.index('vertex')
    vertex, count = ply.elements[at], counts[at]
    if _has_lists(vertex):
        raise GsPoseError(f'{path}: not a 3DGS PLY, its vertices have lists')
    available = len(content) - layout.start
    needed = [c * _least_bytes(e, ply.text) for e, c in zip(ply.elements, counts, strict=True)]
    if sum(needed) > available:
        element = int(np.argmax(np.array(needed, float)))
        raise GsPoseError(
            f'{path}: not a readable PLY: truncated, or its header is wrong: {counts[element]} '
            f'rows of {names[element]!r} take at least {needed[element]} bytes, '
            f'after the header there are {available}'
        )
    if ply.text:
        return _text_rows(content[layout.start :], vertex, count, sum(counts[:at]))
    if any(map(_has_lists, ply.elements[:at])):
        raise GsPoseError(f'{path}: not a 3DGS PLY, {names[0]!r} stands before its vertices')
    # The counts of what comes before the vertices are exact: no lists.
    return np.frombuffer(
        content, vertex.dtype(ply.byte_order), count, layout.start + sum(needed[:at])
    )


def _has_lists(element: PlyElement) -> bool:
    return any(isinstance(p, PlyListProperty) for p in element.properties)


def _least_bytes(element: PlyElement, text: bool) -> int:
    """The bytes that a row takes, at least: exact for rows of a binary file without lists."""
    if text:  # a digit a property, and a space or a newline; the last line may lack it
        return max(2 * len(element.properties) - 1, 1)
    return sum(
        np.dtype(p.len_dtype if isinstance(p, PlyListProperty) else p.val_dtype).itemsize
        for p in element.properties
    )


def _text_rows(body: bytes, vertex: PlyElement, count: int, skipped: int) -> NDArray[np.void]:
    kinds = vertex.dtype('=')
    names = kinds.names or ()
    rows = np.empty(count, kinds)
    if count:
        numbers = np.loadtxt(
            io.BytesIO(body), np.float64, skiprows=skipped, max_rows=count, ndmin=2, comments=None
        )
        if numbers.shape != (count, len(names)):
            raise PlyParseError(
                f'{numbers.shape[0]} rows of {numbers.shape[1]} numbers, '
                f'the header says {count} of {len(names)}'
            )
        with np.errstate(over='ignore', invalid='ignore'):
            for name, column in zip(names, numbers.T, strict=True):
                rows[name] = column
    return rows
