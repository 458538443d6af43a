"""Gaussians in and out of PLY."""

from __future__ import annotations

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
from gs_pose_ros.ply import read_ply, write_ply

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
        (Path.unlink, 'not a readable PLY'),
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
