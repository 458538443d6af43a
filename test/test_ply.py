"""Gaussians in and out of PLY."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib.recfunctions import repack_fields
from plyfile import PlyData, PlyElement

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.gaussians import SH_C0, Gaussians
from gs_pose_ros.ply import _property_names, read_ply, write_ply
from test.mutations import examples, mutated_bytes

FIELDS = ('means', 'quats', 'log_scales', 'logit_opacities', 'sh')


def make_gaussians(n: int, degree: int, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=torch.randn(n, 3, generator=g),
        quats=torch.randn(n, 4, generator=g),
        log_scales=torch.randn(n, 3, generator=g),
        logit_opacities=torch.randn(n, generator=g),
        sh=torch.randn(n, (degree + 1) ** 2, 3, generator=g),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(n=st.integers(0, 20), degree=st.integers(0, 3), seed=st.integers(0, 1000))
def test_everything_comes_back_bit_by_bit(tmp_path: Path, n: int, degree: int, seed: int) -> None:
    gaussians = make_gaussians(n, degree, seed)
    write_ply(tmp_path / 'g.ply', gaussians)
    loaded = read_ply(tmp_path / 'g.ply')
    assert loaded.sh_degree == degree
    for name in FIELDS:
        assert torch.equal(getattr(loaded, name), getattr(gaussians, name))


def test_the_layout_is_that_of_the_3dgs_reference(tmp_path: Path) -> None:
    gaussians = make_gaussians(3, 3)
    write_ply(tmp_path / 'g.ply', gaussians)
    ply = PlyData.read(tmp_path / 'g.ply')
    assert ply.byte_order == '<'
    vertices = ply['vertex'].data
    names = ['x', 'y', 'z', 'nx', 'ny', 'nz', *(f'f_dc_{i}' for i in range(3))]
    names += [*(f'f_rest_{i}' for i in range(45)), 'opacity']
    names += [*(f'scale_{i}' for i in range(3)), *(f'rot_{i}' for i in range(4))]
    assert list(vertices.dtype.names) == names
    assert all(vertices.dtype[name] == np.dtype('<f4') for name in names)
    # f_rest holds the 15 coefficients of red, then of green, then of blue.
    assert vertices['f_rest_0'][1] == gaussians.sh[1, 1, 0]
    assert vertices['f_rest_14'][1] == gaussians.sh[1, 15, 0]
    assert vertices['f_rest_15'][1] == gaussians.sh[1, 1, 1]
    assert vertices['f_rest_44'][1] == gaussians.sh[1, 15, 2]
    assert vertices['rot_0'][2] == gaussians.quats[2, 0]  # w first


def test_properties_may_come_in_any_order_and_without_normals(tmp_path: Path) -> None:
    gaussians = make_gaussians(4, 1)
    write_ply(tmp_path / 'a.ply', gaussians)
    vertices = PlyData.read(tmp_path / 'a.ply')['vertex'].data
    names = [n for n in reversed(vertices.dtype.names) if not n.startswith('n')]
    shuffled = np.empty(4, dtype=[(n, '<f8') for n in names])
    for name in names:
        shuffled[name] = vertices[name]
    text = PlyData([PlyElement.describe(shuffled, 'vertex')], text=True)
    text.write(tmp_path / 'b.ply')
    loaded = read_ply(tmp_path / 'b.ply')
    for name in FIELDS:
        torch.testing.assert_close(getattr(loaded, name), getattr(gaussians, name))


def _without(name: str):
    def damage(path: Path) -> None:
        vertices = PlyData.read(path)['vertex'].data
        names = [n for n in vertices.dtype.names if n != name]
        PlyData([PlyElement.describe(repack_fields(vertices[names]), 'vertex')]).write(path)

    return damage


def _nan(path: Path) -> None:
    ply = PlyData.read(path, mmap=False)
    ply['vertex'].data['scale_1'][0] = np.nan
    ply.write(path)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (Path.unlink, 'missing'),
        (lambda p: p.write_bytes(b''), 'not a readable PLY'),
        (lambda p: p.write_bytes(b'\xff\xfe\x00'), 'not a readable PLY'),
        (lambda p: p.write_bytes(p.read_bytes()[:-10]), 'not a readable PLY'),
        (lambda p: p.write_bytes(p.read_bytes()[:100]), 'not a readable PLY'),
        (_without('opacity'), 'lacks opacity'),
        (_without('f_rest_3'), '44 f_rest properties'),
        (_nan, 'log_scales holds NaN'),
    ],
)
def test_broken_files_are_named(tmp_path: Path, damage, message: str) -> None:
    path = tmp_path / 'g.ply'
    write_ply(path, make_gaussians(5, 3))
    damage(path)
    with pytest.raises(GsPoseError, match=message) as error:
        read_ply(path)
    assert 'g.ply' in str(error.value)


def _header(path: Path, old: str, new: str) -> None:
    content = path.read_bytes()
    assert content.count(old.encode()) == 1
    path.write_bytes(content.replace(old.encode(), new.encode()))


def _vertices(path: Path, **columns: object) -> np.ndarray:
    """The rows of a good file, with some columns of other values or types."""
    good = PlyData.read(path, mmap=False)['vertex'].data
    kinds = [(n, np.asarray(columns.get(n, good[n])).dtype.str) for n in good.dtype.names]
    out = np.empty(len(good), kinds)
    for name, _ in kinds:
        out[name] = columns.get(name, good[name])
    return out


def _store(path: Path, rows: np.ndarray, *before: PlyElement, **how: object) -> None:
    PlyData([*before, PlyElement.describe(rows, 'vertex')], **how).write(path)  # type: ignore[arg-type]


def _faces(path: Path, before: bool) -> None:
    rows = _vertices(path)
    triangle = np.empty(1, [('vertex_indices', 'O')])
    triangle['vertex_indices'][0] = np.array([0, 1, 2], 'i4')
    elements = [PlyElement.describe(rows, 'vertex'), PlyElement.describe(triangle, 'face')]
    PlyData(elements[::-1] if before else elements).write(path)


def _text(path: Path) -> None:
    _store(path, _vertices(path), text=True)


def _colored_points(path: Path) -> None:
    kinds = [(n, 'f4') for n in 'xyz'] + [(n, 'u1') for n in ('red', 'green', 'blue')]
    _store(path, np.zeros(3, kinds))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        # plyfile would make room for all of them before it reads one.
        (
            lambda p: _header(p, 'vertex 5', 'vertex 9000000000000'),
            '9000000000000 rows of .vertex',
        ),
        (lambda p: _header(p, 'vertex 5', 'vertex 6'), '6 rows of .vertex. take at least'),
        (lambda p: _header(p, 'vertex 5', f'vertex {"9" * 5000}'), 'vertex'),
        (lambda p: _header(p, 'vertex 5', 'vertex -5'), 'not a readable PLY'),
        (lambda p: _header(p, 'vertex 5', 'vertex five'), 'not a readable PLY'),
        (lambda p: (_text(p), _header(p, 'vertex 5', 'vertex 9000000000000')), '9000000000000'),
        (lambda p: (_text(p), _header(p, 'vertex 5', 'vertex 6')), 'the header says 6'),
        (lambda p: (_faces(p, False), _header(p, 'face 1', 'face 9000000000000')), 'face'),
        (lambda p: (_faces(p, True), _header(p, 'face 1', 'face 9000000000000')), 'face'),
        (lambda p: _faces(p, True), "'face' stands before its vertices"),
        (lambda p: _header(p, 'property float rot_3', 'property list uchar float rot_3'), 'lists'),
        (lambda p: _header(p, 'element vertex', 'element point'), 'no element "vertex"'),
        (lambda p: _header(p, 'end_header', 'end_of_head'), 'no "end_header"'),
        (lambda p: _header(p, 'property float nz', 'property float ny'), 'same name'),
        (lambda p: _store(p, _vertices(p, opacity=np.full(5, 255, 'u1'))), 'opacity is stored as'),
        (lambda p: _store(p, _vertices(p, f_dc_0=np.full(5, 255, 'u1'))), 'f_dc_0 is stored as'),
        (_colored_points, 'cloud of coloured points'),
        (lambda p: p.write_bytes(b'\x1f\x8b\x08' + bytes(50)), 'SPZ.*convert'),
        (lambda p: p.write_bytes(b'NGSP' + bytes(50)), 'SPZ.*convert'),
        (lambda p: p.write_bytes(b'PK\3\4' + bytes(50)), 'zip.*convert'),
        (lambda p: _store(p, _vertices(p, scale_0=np.full(5, np.inf, 'f4'))), 'log_scales holds'),
        (lambda p: _store(p, _vertices(p, scale_0=np.full(5, 99, 'f4'))), 'a scale is 99'),
        (lambda p: _store(p, _vertices(p, opacity=np.full(5, np.nan, 'f4'))), 'logit_opacities'),
        (lambda p: _store(p, _vertices(p, x=np.full(5, 1e300))), 'means holds'),
        (lambda p: _store(p, _vertices(p, f_dc_1=np.full(5, np.inf, 'f4'))), 'sh holds'),
        (lambda p: _store(p, _vertices(p, rot_1=np.full(5, np.inf, 'f4'))), 'quats holds'),
    ],
)
def test_what_no_3dgs_ply_says_is_named(tmp_path: Path, damage, message: str) -> None:
    path = tmp_path / 'g.ply'
    write_ply(path, make_gaussians(5, 3))
    damage(path)
    start = time.monotonic()
    with pytest.raises(GsPoseError, match=message) as error:
        read_ply(path)
    assert 'g.ply' in str(error.value)
    assert len(str(error.value)) < 500
    assert time.monotonic() - start < 2


def test_packed_and_other_formats_are_named(tmp_path: Path) -> None:
    chunk = np.zeros(1, [(name, 'f4') for name in ('min_x', 'max_x')])
    packed = np.zeros(3, [(f'packed_{n}', 'u4') for n in ('position', 'rotation', 'scale')])
    _store(tmp_path / 'g.ply', packed, PlyElement.describe(chunk, 'chunk'))
    with pytest.raises(GsPoseError, match=r'g\.ply.*compressed PLY of SuperSplat: convert'):
        read_ply(tmp_path / 'g.ply')
    (tmp_path / 'g.splat').write_bytes(bytes(64))
    with pytest.raises(GsPoseError, match=r'g\.splat.*convert'):
        read_ply(tmp_path / 'g.splat')


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replaced_by(target: str):
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return damage


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _sparse(path: Path) -> None:
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (_fifo, 'is a FIFO'),
        (_replaced_by('/dev/zero'), 'is a device'),
        (_replaced_by('g.ply'), 'Too many levels of symbolic links'),
        (_folder, 'is a folder'),
        (_sparse, r'has 1\.09951e\+06 MB, at most'),
    ],
    ids=['fifo', 'device', 'loop', 'folder', 'sparse'],
)
def test_only_regular_files_of_a_sane_size_are_opened(tmp_path: Path, damage, message) -> None:
    path = tmp_path / 'g.ply'
    write_ply(path, make_gaussians(5, 3))
    damage(path)
    with pytest.raises(GsPoseError, match=rf'g\.ply: .*{message}'):
        read_ply(path)


@pytest.mark.parametrize('how', [{'byte_order': '>'}, {'byte_order': '<'}, {'text': True}])
def test_infinite_logits_are_certain_and_widths_of_zero_thin(tmp_path: Path, how) -> None:
    path = tmp_path / 'g.ply'
    gaussians = make_gaussians(4, 1)
    write_ply(path, gaussians)
    inf, some = np.inf, gaussians.logit_opacities[2:].numpy()
    columns: dict[str, object] = {'opacity': np.array([inf, -inf, *some], 'f4')}
    columns['scale_2'] = np.full(4, -inf, 'f4')
    _store(path, _vertices(path, **columns), **how)
    loaded = read_ply(path)
    assert loaded.opacities[0] == 1
    assert 0 < loaded.opacities[1] < 1e-8
    torch.testing.assert_close(loaded.logit_opacities[2:], gaussians.logit_opacities[2:])
    assert (loaded.scales[:, 2] > 0).all()
    assert (loaded.scales[:, 2] < 1e-8).all()
    torch.testing.assert_close(loaded.log_scales[:, :2], gaussians.log_scales[:, :2])
    torch.testing.assert_close(loaded.sh, gaussians.sh)


def test_quaternions_that_float32_cannot_normalise_are_made_such_that_it_can(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'g.ply'
    gaussians = make_gaussians(5, 0)
    write_ply(path, gaussians)
    quats = gaussians.quats.numpy().copy()
    quats[0], quats[1], quats[2] = 0, 1e-30, 1e30 * quats[2]
    _store(path, _vertices(path, **{f'rot_{k}': quats[:, k] for k in range(4)}))
    loaded = read_ply(path)
    normalized = torch.nn.functional.normalize
    unit = normalized(loaded.quats, dim=1)
    identity = torch.tensor([1.0, 0, 0, 0])
    torch.testing.assert_close(unit[:2], identity.expand(2, 4))
    torch.testing.assert_close(unit[2], normalized(gaussians.quats, dim=1)[2])
    assert torch.equal(loaded.quats[3:], gaussians.quats[3:])


@pytest.mark.parametrize('how', [{'byte_order': '>'}, {'text': True}])
def test_faces_behind_the_vertices_are_left_alone(tmp_path: Path, how) -> None:
    path = tmp_path / 'g.ply'
    gaussians = make_gaussians(5, 1)
    write_ply(path, gaussians)
    _faces(path, before=False)
    ply = PlyData.read(path, mmap=False)
    PlyData(ply.elements, **how).write(path)
    torch.testing.assert_close(read_ply(path).sh, gaussians.sh)


def _readable(path: Path, content: bytes) -> None:
    """Write it; what is read back can be used, or is refused by name."""
    path.write_bytes(content)
    try:
        gaussians = read_ply(path)
    except GsPoseError as error:
        reason = str(error)
    else:
        gaussians.check_finite('read')
        assert torch.nn.functional.normalize(gaussians.quats, dim=1).norm(dim=1).gt(0.99).all()
        return
    assert path.name in reason


GOOD = {}
for _text_form in (False, True):
    _vertex = np.linspace(-1, 1, 3 * 17, dtype='f4').reshape(3, 17)
    _rows = np.empty(3, [(n, '<f4') for n in _property_names(0)])
    for _k, _name in enumerate(_rows.dtype.names or ()):
        _rows[_name] = _vertex[:, _k]
    _file = io.BytesIO()
    PlyData([PlyElement.describe(_rows, 'vertex')], text=_text_form, byte_order='<').write(_file)
    GOOD[_text_form] = _file.getvalue()


@examples(60)
@given(content=mutated_bytes(GOOD[False], header=420) | mutated_bytes(GOOD[True], header=420))
def test_any_mutation_reads_or_is_named(tmp_path: Path, content: bytes) -> None:
    _readable(tmp_path / 'g.ply', content)


def test_points_become_gaussians_of_their_colour() -> None:
    points, colors = np.eye(3), np.array([[0.2, 0.4, 0.6]] * 3)
    gaussians = Gaussians.from_points(points, colors, 0.01, opacity=0.7, sh_degree=2)
    assert len(gaussians) == 3
    assert gaussians.sh_degree == 2
    torch.testing.assert_close(gaussians.sh[0, 0] * SH_C0 + 0.5, torch.tensor([0.2, 0.4, 0.6]))
    torch.testing.assert_close(gaussians.scales, torch.full((3, 3), 0.01))
    torch.testing.assert_close(gaussians.opacities, torch.full((3,), 0.7))
    part = gaussians[torch.tensor([True, False, True])]
    torch.testing.assert_close(part.means, torch.eye(3)[[0, 2]])


@pytest.mark.parametrize('name', FIELDS)
def test_wrong_shapes_are_refused(name: str) -> None:
    parts = {field: getattr(make_gaussians(4, 1), field) for field in FIELDS}
    parts[name] = parts[name][:3]
    with pytest.raises(ValueError, match='must'):
        Gaussians(**parts)
    with pytest.raises(ValueError, match='4, 9 or 16'):
        Gaussians(
            **{**{f: getattr(make_gaussians(4, 1), f) for f in FIELDS}, 'sh': torch.zeros(4, 5, 3)}
        )


def _with(path: Path, gaussians: Gaussians, **columns: np.ndarray) -> Path:
    """The file of Gaussians with other or more properties."""
    write_ply(path, gaussians)
    rows = PlyData.read(path)['vertex'].data
    kinds = [
        *rows.dtype.descr,
        *((name, '<f4') for name in columns if name not in rows.dtype.names),
    ]
    out = np.zeros(len(rows), kinds)
    for name in out.dtype.names or ():
        out[name] = columns[name] if name in columns else rows[name]
    PlyData([PlyElement.describe(out, 'vertex')]).write(path)
    return path


def test_scales_and_opacities_that_are_no_logarithms_are_refused(tmp_path: Path) -> None:
    gaussians = make_gaussians(100, 0)
    names = ('scale_0', 'scale_1', 'scale_2', 'opacity')
    path = _with(tmp_path / 'g.ply', gaussians, **{n: np.full(100, 0.01) for n in names})
    with pytest.raises(GsPoseError, match=r'g\.ply: scales and opacities are stored as they are'):
        read_ply(path)


def test_the_filter_of_mip_splatting_widens_and_thins(tmp_path: Path) -> None:
    gaussians = make_gaussians(4, 0)
    gaussians.log_scales[:] = float(np.log(0.03))
    gaussians.logit_opacities[:] = 0
    found = read_ply(_with(tmp_path / 'g.ply', gaussians, filter_3D=np.full(4, 0.04)))
    torch.testing.assert_close(found.scales, torch.full((4, 3), 0.05))
    torch.testing.assert_close(found.opacities, torch.full((4,), 0.5 * 0.6**3))
