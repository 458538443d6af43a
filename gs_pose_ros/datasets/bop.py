"""Read data sets in the BOP layout (bop_toolkit, docs/bop_datasets_format.md).

BOP counts in millimetres; everything leaves here in metres.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.extras import require_modules
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera


@dataclass(frozen=True)
class BopInstance:
    """The ground truth of one object in one image."""

    object_id: int
    T_cam_obj: NDArray[np.float64]  # [4, 4] m
    visible_fraction: float  # visible share of its silhouette; 1 where the set does not say
    mask_path: Path | None  # mask of the visible part

    def visible_mask(self) -> NDArray[np.bool_] | None:
        """The visible pixels [H, W]; None where the set has no masks."""
        return None if self.mask_path is None else _read_image(self.mask_path, -1) > 0


@dataclass(frozen=True)
class BopImage:
    """One image with its ground truth; pixels are read on demand."""

    scene_id: int
    image_id: int
    color_path: Path | None
    depth_path: Path | None
    intrinsics: NDArray[np.float64]  # K [3, 3]
    depth_unit_m: float  # metres of one step in the depth file
    instances: tuple[BopInstance, ...]
    stamp_ns: int | None = None  # of an image that was recorded, our addition to scene_camera.json
    T_cam_world: NDArray[np.float64] | None = None  # [4, 4] m, where the set says it

    @property
    def name(self) -> str:
        """'scene/image', zero-padded: unique in the split and sortable."""
        return f'{self.scene_id:06d}/{self.image_id:06d}'

    def read_color(self) -> NDArray[np.uint8]:
        """RGB [H, W, 3].

        Raises:
            GsPoseError: the picture is missing or unreadable.

        """
        if self.color_path is None:
            raise GsPoseError(f'image {self.name} of the set has no picture')
        bgr = _read_image(self.color_path, cv2.IMREAD_COLOR)
        return np.ascontiguousarray(bgr[..., ::-1]).astype(np.uint8, copy=False)

    def read_depth(self) -> NDArray[np.float32] | None:
        """Depth [H, W] in m, 0 where invalid; None where the set has none."""
        if self.depth_path is None:
            return None
        return _read_image(self.depth_path, cv2.IMREAD_UNCHANGED).astype(np.float32) * np.float32(
            self.depth_unit_m
        )

    def read_frame(self, with_depth: bool = True) -> RGBDFrame:
        """The image as the core takes it.

        Raises:
            GsPoseError: a file is missing, unreadable, or depth and colour differ in size.

        """
        color, depth = self.read_color(), self.read_depth() if with_depth else None
        camera = Camera.from_matrix(self.intrinsics, color.shape[1], color.shape[0])
        try:
            return RGBDFrame.from_uint8(color, depth, camera, self.stamp_ns or 0)
        except ValueError as error:
            raise GsPoseError(f'{self.depth_path}: {error}') from error


@dataclass(frozen=True)
class BopModel:
    """What models_info.json and the mesh say of an object."""

    object_id: int
    name: str
    diameter_m: float
    box: NDArray[np.float64]  # [2, 3] m, lowest and highest corner
    points: NDArray[np.float64]  # [N, 3] m on the surface
    symmetries: NDArray[np.float64]  # [M, 4, 4] T_obj_obj, identity excluded


def object_name(object_id: int) -> str:
    """The name an object of a BOP set has in our database."""
    return f'obj_{object_id:06d}'


def read_bop_split(root: Path, split: str, with_pictures: bool = True) -> list[BopImage]:
    """All images of a split, ordered by scene and image; those without a picture are left out.

    `split` is a folder under `root` with one folder per scene; or itself one scene; '.' is `root`.
    An inclusive range of image numbers may follow a colon: 'test:0-99', '.:30-59'.
    `with_pictures=False` takes those without as well, when only the truth is of interest.

    Raises:
        GsPoseError: nothing is there, or a file is broken.

    """
    folder_name, _, range_text = split.partition(':')
    folder = root / folder_name
    if (folder / 'scene_camera.json').is_file():
        scenes = [folder]
    else:
        scenes = sorted(path.parent for path in folder.glob('*/scene_camera.json'))
    if not scenes:
        raise GsPoseError(f'{folder}: no scene_camera.json in it or in its folders')
    images = [image for scene in scenes for image in _read_scene(scene)]
    if with_pictures:
        images = [image for image in images if image.color_path is not None]
    if not images:
        raise GsPoseError(f'{folder}: holds no picture (rgb/NNNNNN.png or .jpg)')
    if range_text:
        match = re.fullmatch(r'(\d+)-(\d+)', range_text)
        if match is None:
            raise GsPoseError(f'split {split!r}: after the colon goes FIRST-LAST')
        first, last = map(int, match.groups())
        images = [image for image in images if first <= image.image_id <= last]
        if not images:
            raise GsPoseError(f'{folder}: no image numbers {first} to {last}')
    return images


def _read_scene(folder: Path) -> list[BopImage]:
    cameras = _read_json(folder / 'scene_camera.json')
    truths = _read_json(folder / 'scene_gt.json') if (folder / 'scene_gt.json').exists() else {}
    info_path = folder / 'scene_gt_info.json'
    infos = _read_json(info_path) if info_path.exists() else {}
    scene_id = int(folder.name) if folder.name.isdigit() else 0
    images = []
    for key in sorted(cameras, key=int):
        try:
            camera = cameras[key]
            images.append(
                BopImage(
                    scene_id=scene_id,
                    image_id=int(key),
                    color_path=_first_file(folder, ('rgb', 'gray'), int(key)),
                    depth_path=_first_file(folder, ('depth',), int(key)),
                    intrinsics=np.array(camera['cam_K'], np.float64).reshape(3, 3),
                    depth_unit_m=float(camera.get('depth_scale', 1.0)) / 1000,
                    instances=_instances(folder, int(key), truths.get(key, []), infos.get(key)),
                    stamp_ns=int(camera['stamp_ns']) if 'stamp_ns' in camera else None,
                    T_cam_world=_camera_pose(camera),
                )
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise GsPoseError(f'{folder}: image {key}: {error!r}') from error
    return images


def _camera_pose(camera: Mapping[str, Any]) -> NDArray[np.float64] | None:
    if 'cam_R_w2c' not in camera or 'cam_t_w2c' not in camera:
        return None
    R = np.array(camera['cam_R_w2c'], np.float64).reshape(3, 3)
    t = np.array(camera['cam_t_w2c'], np.float64).reshape(3) / 1000
    return se3.from_rotation_translation(R, t)


def read_bop_models(root: Path, object_ids: list[int] | None = None) -> dict[int, BopModel]:
    """Models by object id, from `root`/models or models_eval (or `root` being that folder).

    Raises:
        GsPoseError: no models_info.json, or a mesh is missing or broken.

    """
    candidates = [root / name / 'models_info.json' for name in ('models_eval', 'models', '.')]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise GsPoseError(f'{root}: no models/models_info.json')
    infos = _read_json(path)
    wanted = sorted(map(int, infos)) if object_ids is None else object_ids
    missing = [i for i in wanted if str(i) not in infos]
    if missing:
        raise GsPoseError(f'{path}: no object {", ".join(map(str, missing))}')
    return {i: _model(path, i, infos[str(i)]) for i in wanted}


def _model(info_path: Path, object_id: int, info: Mapping[str, Any]) -> BopModel:
    stem = info_path.parent / object_name(object_id)
    mesh_path = next(
        (p for p in (stem.with_suffix(s) for s in ('.ply', '.obj', '.glb')) if p.is_file()),
        None,
    )
    if mesh_path is None:
        raise GsPoseError(f'{stem}.ply: missing')
    try:
        diameter = float(info['diameter']) / 1000
        low = np.array([info[f'min_{a}'] for a in 'xyz'], np.float64) / 1000
        size = np.array([info[f'size_{a}'] for a in 'xyz'], np.float64) / 1000
        symmetries = discretized_symmetries(info)
    except (KeyError, TypeError, ValueError) as error:
        raise GsPoseError(f'{info_path}: object {object_id}: {error!r}') from error
    return BopModel(
        object_id=object_id,
        name=str(info.get('name', object_name(object_id))),
        diameter_m=diameter,
        box=np.stack([low, low + size]),
        points=_model_points(mesh_path) / 1000,
        symmetries=symmetries,
    )


def _model_points(path: Path, most: int = 20_000, least: int = 1_000) -> NDArray[np.float64]:
    """Vertices of the mesh, thinned to `most`; surface samples added below `least`."""
    require_modules('trimesh')
    import trimesh

    try:
        mesh = trimesh.load_mesh(path, process=False, skip_materials=True)
        points = np.asarray(mesh.vertices, np.float64)
    except (OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise GsPoseError(f'{path}: not a readable mesh: {error}') from error
    if len(points) < 4 or not np.isfinite(points).all():
        raise GsPoseError(f'{path}: {len(points)} vertices, or some are not finite')
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
    """
    discrete = [np.eye(4)]
    for values in info.get('symmetries_discrete', []):
        T = np.array(values, np.float64).reshape(4, 4)
        T[:3, 3] /= 1000
        discrete.append(T)
    turns = [np.eye(4)]
    for symmetry in info.get('symmetries_continuous', []):
        axis = np.array(symmetry['axis'], np.float64)
        axis /= np.linalg.norm(axis)
        offset = np.array(symmetry.get('offset', [0, 0, 0]), np.float64) / 1000
        steps = int(np.ceil(np.pi / max_step))
        angles = 2 * np.pi * np.arange(steps) / steps
        R = se3.exp(np.concatenate([np.zeros((steps, 3)), angles[:, None] * axis], -1))
        R[:, :3, 3] = offset - R[:, :3, :3] @ offset
        turns = [a @ b for a in turns for b in R]
    out = np.array([d @ t for d in discrete for t in turns])
    return out[~np.isclose(out, np.eye(4), atol=1e-9).all((1, 2))]


def _instances(
    folder: Path,
    image_id: int,
    truths: list[dict[str, Any]],
    infos: list[dict[str, Any]] | None,
) -> tuple[BopInstance, ...]:
    out = []
    for k, truth in enumerate(truths):
        T = se3.from_rotation_translation(
            np.array(truth['cam_R_m2c'], np.float64).reshape(3, 3),
            np.array(truth['cam_t_m2c'], np.float64) / 1000,
        )
        if not se3.is_rigid(T, tolerance=1e-2):
            raise ValueError(f'instance {k} has a pose that is not rigid')
        T[:3, :3] = se3.project_to_so3(T[:3, :3])  # files round to a few digits
        mask_path = folder / 'mask_visib' / f'{image_id:06d}_{k:06d}.png'
        out.append(
            BopInstance(
                object_id=int(truth['obj_id']),
                T_cam_obj=T,
                visible_fraction=float(infos[k]['visib_fract']) if infos else 1.0,
                mask_path=mask_path if mask_path.is_file() else None,
            )
        )
    return tuple(out)


def _first_file(folder: Path, kinds: tuple[str, ...], image_id: int) -> Path | None:
    paths = (
        folder / kind / f'{image_id:06d}{suffix}'
        for kind in kinds
        for suffix in ('.png', '.jpg', '.jpeg', '.tif')
    )
    return next((path for path in paths if path.is_file()), None)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise GsPoseError(f'{path}: not readable: {error}') from error
    if not isinstance(content, dict):
        raise GsPoseError(f'{path}: holds a {type(content).__name__}, expected an object')
    return content


def _read_image(path: Path, flags: int) -> NDArray[Any]:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise GsPoseError(f'{path}: missing or not a readable image')
    return image
