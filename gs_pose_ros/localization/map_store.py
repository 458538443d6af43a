"""Maps on disk: a folder each, with the splat as a standard PLY and the keyframes beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros import __version__
from gs_pose_ros.bounds import check_bounds
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.relocalization import (
    Keyframe,
    KeyframeRelocalizer,
    RelocalizationSettings,
)
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.surfels import SurfelSettings
from gs_pose_ros.objects.folder_store import FolderStore, checked_name
from gs_pose_ros.objects.stored_arrays import parse_arrays
from gs_pose_ros.objects.stored_header import Facts, StoredHeader, checked_facts, write_header
from gs_pose_ros.ply import parse_ply, write_ply

# Bump when a file changes its meaning; older readers then refuse it by name.
FORMAT_VERSION = 1
_FILES = ('map.yaml', 'gaussians.ply', 'keyframes.npz')
_ARRAYS = ('T_map_cam', 'points', 'descriptors', 'counts')


@dataclass(frozen=True)
class StoredMap:
    """All that is known of a scene; metres, in the map's own frame."""

    scene: SceneMap
    relocalizer: KeyframeRelocalizer
    frame_id: str = 'map'  # the name of the map's frame in ROS
    # Facts of the building: frames, seconds, where from, ...
    facts: Facts = field(default_factory=dict)


def save_map(path: Path, stored: StoredMap) -> None:
    """Write a map folder, replacing the one that is there; whole or not at all.

    <path>/map.yaml       frame, voxel, settings, facts, format version, checksums
           gaussians.ply  the splat, standard 3DGS layout
           keyframes.npz  poses and features for relocalization

    Raises:
        GsPoseError: the map is empty or holds NaN, the last part of the path is no plain name, or
            what is there is no map of ours, or the disk refuses; what is there is then unharmed.

    """
    path = Path(path)
    _check(stored, f'map {path.name!r}: ')
    header = {
        'format_version': FORMAT_VERSION,
        'units': 'metres, radians',
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'package_version': __version__,
        'frame_id': stored.frame_id,
        'voxel_m': float(stored.scene.voxel_m),
        'surfel': asdict(stored.scene.surfel),
        'relocalization': asdict(stored.relocalizer.settings),
        'gaussians': len(stored.scene),
        'keyframes': len(stored.relocalizer.keyframes),
        'facts': checked_facts(stored.facts, f'map {path.name!r}: map.yaml'),
    }
    keyframes = stored.relocalizer.keyframes
    arrays = {
        'T_map_cam': np.array([k.T_map_cam for k in keyframes]).reshape(-1, 4, 4),
        'points': np.concatenate([np.zeros((0, 3), np.float32), *(k.points for k in keyframes)]),
        'descriptors': np.concatenate(
            [np.zeros((0, 128), np.uint8), *(k.descriptors for k in keyframes)]
        ),
        'counts': np.array([len(k.points) for k in keyframes], np.int64),
    }

    def write(folder: Path) -> None:
        write_ply(folder / 'gaussians.ply', stored.scene.gaussians)
        np.savez_compressed(folder / 'keyframes.npz', **arrays)
        write_header(folder / _FILES[0], header, _FILES[1:])

    _store(path).replace(path.name, write)


def check_free(path: Path, overwrite: bool) -> None:
    """Raise GsPoseError unless a map may be stored there: nothing but a map is replaced."""
    checked_name(path.name, 'map')
    if not path.exists():
        return
    _store(path).check_ours(path)
    if not overwrite:
        raise GsPoseError(f'{path}: is there already; set overwrite or name another path')


def clear_leftovers(path: Path) -> None:
    """Put right or remove what killed processes left of maps in the folder of this one."""
    _store(path).clear_leftovers()


def _store(path: Path) -> FolderStore:
    return FolderStore(path.parent, 'map', _FILES)


def load_map(path: Path) -> StoredMap:
    """Read a map folder.

    Raises:
        GsPoseError: it is missing, or the named file is broken or of another version.

    """
    path = Path(path)
    store = _store(path)
    with store.reading():
        folder = store.folder(path.name)
        try:
            with StoredHeader(folder / _FILES[0], FORMAT_VERSION) as header:
                stored, keyframes = _read(header)
                _check(stored, f'{folder}/')  # the settings with which words are learnt
        except GsPoseError as error:
            raise GsPoseError(
                f'{error}. Restore its folder from a copy, or build the map again'
            ) from error
    settings = stored.relocalizer.settings
    return replace(stored, relocalizer=KeyframeRelocalizer.from_keyframes(keyframes, settings))


def _read(header: StoredHeader) -> tuple[StoredMap, list[Keyframe]]:
    """A map that knows no place yet, and its keyframes."""
    gaussians = parse_ply(*header.file('gaussians.ply'))
    arrays, path = header.file('keyframes.npz')
    keyframes = _keyframes(parse_arrays(arrays, path, _ARRAYS), path)
    if len(gaussians) != (count := header.whole('gaussians')):
        raise GsPoseError(
            f'{path.with_name("gaussians.ply")}: holds {len(gaussians)} Gaussians, '
            f'map.yaml says {count}'
        )
    if len(keyframes) != (count := header.whole('keyframes')):
        raise GsPoseError(f'{path}: holds {len(keyframes)} keyframes, map.yaml says {count}')
    surfel = header.settings('surfel', SurfelSettings())
    relocalization = header.settings('relocalization', RelocalizationSettings())
    scene = SceneMap(gaussians, header.number('voxel_m'), surfel)
    nothing = KeyframeRelocalizer.from_keyframes((), relocalization)
    return StoredMap(scene, nothing, header.text('frame_id'), header.facts()), keyframes


def _keyframes(arrays: dict[str, NDArray[Any]], path: Path) -> list[Keyframe]:
    counts, points = arrays['counts'], arrays['points']
    n, total = counts.size, len(points) if points.ndim else 0
    expected = {
        'T_map_cam': ((n, 4, 4), 'f'),
        'points': ((total, 3), 'f'),
        'descriptors': ((total, 128), 'u1'),
        'counts': ((n,), 'i'),
    }
    for name, (shape, kind) in expected.items():
        array = arrays[name]
        if array.shape != shape or not array.dtype.str[1:].startswith(kind):
            raise GsPoseError(f'{path}: {name} is {array.dtype} {array.shape}, expected {shape}')
    is_part = (counts >= 0) & (counts <= total)
    if not is_part.all() or counts.sum() != total or not np.isfinite(arrays['points']).all():
        raise GsPoseError(f'{path}: counts do not fit the points, or these hold NaN')
    if not all(se3.is_rigid(T) for T in arrays['T_map_cam']):
        raise GsPoseError(f'{path}: T_map_cam holds NaN or is not a rigid motion')
    ends = np.cumsum(counts)[:-1]
    points, descriptors = (np.split(arrays[k], ends)[:n] for k in ('points', 'descriptors'))
    return [Keyframe(*row) for row in zip(arrays['T_map_cam'], points, descriptors, strict=True)]


def _check(stored: StoredMap, source: str) -> None:
    if len(stored.scene) == 0:
        raise GsPoseError(f'{source}gaussians.ply: holds no Gaussian')
    stored.scene.gaussians.check_finite(f'{source}gaussians.ply')
    if not (np.isfinite(stored.scene.voxel_m) and stored.scene.voxel_m > 0):
        raise GsPoseError(
            f'{source}map.yaml: voxel_m is {stored.scene.voxel_m}, it must be above 0'
        )
    try:
        check_bounds(stored.scene.surfel, 'surfel.')
        check_bounds(stored.relocalizer.settings, 'relocalization.')
    except ValueError as error:
        raise GsPoseError(f'{source}map.yaml: {error}') from error
