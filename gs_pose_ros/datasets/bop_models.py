"""Read the models of data sets in the BOP layout: meshes, sizes and symmetries.

BOP counts in millimetres; everything leaves here in metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.bop import object_name
from gs_pose_ros.datasets.json_file import (
    as_list,
    as_object,
    number,
    numbered_entries,
    numbers,
)
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.extras import require_modules
from gs_pose_ros.geometry import se3

# Objects are larger, and in metres all are smaller.
_LEAST_DIAMETER_MM = 1.0
_MOST_AXES = 2  # of continuous symmetry: a ball has two, and a third would make 31 million motions


@dataclass(frozen=True)
class BopModel:
    """What models_info.json and the mesh say of an object."""

    object_id: int
    name: str
    diameter_m: float
    box: NDArray[np.float64]  # [2, 3] m, lowest and highest corner
    points: NDArray[np.float64]  # [N, 3] m on the surface
    symmetries: NDArray[np.float64]  # [M, 4, 4] T_obj_obj, identity excluded


def read_bop_models(root: Path, object_ids: list[int] | None = None) -> dict[int, BopModel]:
    """Models by object id, from `root`/models or models_eval (or `root` being that folder).

    Raises:
        GsPoseError: no models_info.json, or a mesh is missing or broken.

    """
    candidates = [root / name / 'models_info.json' for name in ('models_eval', 'models', '.')]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise GsPoseError(f'{root}: has no models/models_info.json')
    infos = numbered_entries(path, 'an object')
    wanted = sorted(infos) if object_ids is None else object_ids
    missing = [i for i in wanted if i not in infos]
    if missing:
        raise GsPoseError(f'{path}: has no object {", ".join(map(str, missing))}')
    return {i: _model(path, i, infos[i]) for i in wanted}


def _model(info_path: Path, object_id: int, info: Any) -> BopModel:
    stem = info_path.parent / object_name(object_id)
    mesh_path = next(
        (p for p in (stem.with_suffix(s) for s in ('.ply', '.obj', '.glb')) if p.is_file()),
        None,
    )
    if mesh_path is None:
        raise GsPoseError(f'{stem}.ply: missing, and no .obj or .glb is in its place')
    try:
        diameter, box, symmetries = _facts(as_object(info))
    except (TypeError, ValueError) as error:
        raise GsPoseError(f'{info_path}: object {object_id}: {error}') from error
    points = _model_points(mesh_path)
    across = float(np.linalg.norm(np.ptp(points, axis=0)))
    # From corner to corner of its box an object is up to sqrt(3) diameters, and no less than one.
    if not diameter / 2 < across < 3 * diameter:
        raise GsPoseError(
            f'{mesh_path}: is {across:.4g} from corner to corner, {info_path.name} says diameter '
            f'{diameter:.4g}: both are in millimetres, is one in metres, or of another object?'
        )
    return BopModel(
        object_id=object_id,
        name=str(info.get('name', object_name(object_id))),
        diameter_m=diameter / 1000,
        box=box / 1000,
        points=points / 1000,
        symmetries=symmetries,
    )


def _facts(
    info: Mapping[str, Any],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The diameter (mm), the box [2, 3] (mm) and the symmetries."""
    diameter = number(info, 'diameter')
    if diameter < _LEAST_DIAMETER_MM:
        raise ValueError(
            f'diameter is {diameter:g} mm, at least {_LEAST_DIAMETER_MM:g} mm is needed; '
            'is it in metres?'
        )
    low = np.array([number(info, f'min_{a}') for a in 'xyz'])
    size = np.array([number(info, f'size_{a}') for a in 'xyz'])
    if (size < 0).any():
        raise ValueError(f'size_x, size_y, size_z are {size.tolist()}, below 0')
    return diameter, np.stack([low, low + size]), discretized_symmetries(info)


def _model_points(path: Path, most: int = 20_000, least: int = 1_000) -> NDArray[np.float64]:
    """Vertices of the mesh, thinned to `most`; surface samples added below `least`."""
    require_modules('trimesh')
    import trimesh

    try:
        mesh = trimesh.load_mesh(path, process=False, skip_materials=True)
        points = np.asarray(mesh.vertices, np.float64)
    except Exception as error:  # its many readers raise what they meet
        raise GsPoseError(f'{path}: not a readable mesh: {error}') from error
    if len(points) < 4 or not np.isfinite(points).all():
        raise GsPoseError(
            f'{path}: has {len(points)} vertices; 4 or more are needed, without NaN or infinity'
        )
    if len(points) > most:
        points = points[np.random.default_rng(0).permutation(len(points))[:most]]
    elif len(points) < least and isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
        # The eight corners of a box say little about where its faces are.
        points = np.concatenate([points, trimesh.sample.sample_surface(mesh, least, seed=0)[0]])
    return points


def discretized_symmetries(info: Mapping[str, Any], max_step: float = 0.01) -> NDArray[np.float64]:
    """Symmetries T_obj_obj [M, 4, 4] (m) of one entry of models_info.json, identity excluded.

    Turns about an axis of continuous symmetry are sampled so finely that a point at half the
    diameter moves by at most `max_step` diameters, as in bop_toolkit, misc.py,
    get_symmetry_transformations (the value of BOP'19 and later).

    Raises:
        TypeError, ValueError: one is no motion, or has no axis, or there are more axes than of a
            ball.

    """
    discrete = [np.eye(4)]
    for values in as_list(info.get('symmetries_discrete', [])):
        T = numbers({'symmetries_discrete': values}, 'symmetries_discrete', 16).reshape(4, 4)
        T[:3, 3] /= 1000
        if not se3.is_rigid(T, tolerance=1e-2):
            raise ValueError(f'symmetries_discrete: {values} is no rigid motion')
        discrete.append(T)
    turns = [np.eye(4)]
    axes = as_list(info.get('symmetries_continuous', []))
    if len(axes) > _MOST_AXES:
        raise ValueError(f'symmetries_continuous has {len(axes)} axes, at most {_MOST_AXES}')
    for symmetry in map(as_object, axes):
        axis = numbers(symmetry, 'axis', 3)
        if not 1e-6 < np.linalg.norm(axis) < 1e6:
            raise ValueError(f'symmetries_continuous: axis {axis.tolist()} says no direction')
        axis /= np.linalg.norm(axis)
        offset = (numbers(symmetry, 'offset', 3) if 'offset' in symmetry else np.zeros(3)) / 1000
        steps = int(np.ceil(np.pi / max_step))
        angles = 2 * np.pi * np.arange(steps) / steps
        R = se3.exp(np.concatenate([np.zeros((steps, 3)), angles[:, None] * axis], -1))
        R[:, :3, 3] = offset - R[:, :3, :3] @ offset
        turns = [a @ b for a in turns for b in R]
    out = np.array([d @ t for d in discrete for t in turns])
    return out[~np.isclose(out, np.eye(4), atol=1e-9).all((1, 2))]
