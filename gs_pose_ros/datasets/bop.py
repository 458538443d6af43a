"""Read images with their truth in the BOP layout (bop_toolkit, docs/bop_datasets_format.md).

BOP counts in millimetres; everything leaves here in metres.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.bop_folders import ENDINGS, numbered_pictures, scene_folders
from gs_pose_ros.datasets.json_file import (
    as_list,
    as_object,
    number,
    numbered_entries,
    numbers,
    whole_number,
)
from gs_pose_ros.datasets.picture_file import as_rgb, read_picture, read_upright_picture
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

_LOSSY = ('.jpg', '.jpeg')
# No lens gets nearer to the origin of an object. An object of a set in metres is nearer.
_NEAREST_MM, _FARTHEST_MM = 10.0, 1e7
# Depth in 16 bit reaches farther than the first, and has finer steps than the second.
_LEAST_RANGE_MM, _MOST_STEP_MM = 100.0, 100.0
_ROUNDED = 1e-2  # files round rotations to a few digits


@dataclass(frozen=True)
class BopInstance:
    """The ground truth of one object in one image."""

    object_id: int
    T_cam_obj: NDArray[np.float64]  # [4, 4] m
    visible_fraction: float  # visible share of its silhouette; 1 where the set does not say
    mask_path: Path | None  # mask of the visible part

    def visible_mask(self, shape: tuple[int, int] | None = None) -> NDArray[np.bool_] | None:
        """The visible pixels [H, W]; None where the set has no masks.

        A pixel is visible where any of its colours is above 0, whatever its alpha.

        Raises:
            GsPoseError: the mask is broken, or not of that shape, its picture's.

        """
        if self.mask_path is None:
            return None
        if self.mask_path.suffix.lower() in _LOSSY:
            raise GsPoseError(
                f'{self.mask_path}: the mask is a JPEG, which blurs its edges: store it as PNG'
            )
        values = read_picture(self.mask_path)
        if values.ndim == 3:
            if values.shape[2] == 4 and np.ptp(values[..., 3]) and not np.ptp(values[..., :3]):
                raise GsPoseError(
                    f'{self.mask_path}: its alpha differs from pixel to pixel and its colour does '
                    'not; a mask is read from its colour: white on black'
                )
            values = values[..., :3].max(-1)
        if shape is not None:
            _check_size(self.mask_path, values, shape)
        return np.asarray(values > 0)


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
        """RGB [H, W, 3]; grey pictures have three equal channels.

        Raises:
            GsPoseError: the picture is missing, unreadable, turned by EXIF, or has not 8 bits a
                channel.

        """
        if self.color_path is None:
            raise GsPoseError(f'image {self.name} of the set has no picture')
        return as_rgb(self.color_path, read_upright_picture(self.color_path))

    def read_depth(self, shape: tuple[int, int] | None = None) -> NDArray[np.float32] | None:
        """Depth [H, W] in m, 0 where invalid; None where the set has none.

        Raises:
            GsPoseError: it is missing, unreadable, not of that shape (its picture's), or has
                neither 16 bits nor floating point numbers in its one channel.

        """
        if self.depth_path is None:
            return None
        steps = read_picture(self.depth_path)
        if steps.ndim != 2 or steps.dtype not in (np.uint16, np.float32, np.float64):
            channels = 1 if steps.ndim == 2 else steps.shape[2]
            raise GsPoseError(
                f'{self.depth_path}: has {channels} channels of {steps.dtype}; depth has one of '
                'uint16, or of float32 (TIFF), in steps of depth_scale millimetres'
            )
        if shape is not None:
            _check_size(self.depth_path, steps, shape)
        if steps.dtype == np.uint16:
            self._check_unit()
            return steps.astype(np.float32) * np.float32(self.depth_unit_m)
        with np.errstate(over='ignore', invalid='ignore'):
            metres = steps.astype(np.float32) * np.float32(self.depth_unit_m)
        return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))

    def read_frame(self, with_depth: bool = True) -> RGBDFrame:
        """The image as the core takes it.

        Raises:
            GsPoseError: a file is missing, unreadable, or depth and colour differ in size.

        """
        color = self.read_color()
        height, width = color.shape[:2]
        depth = self.read_depth((height, width)) if with_depth else None
        camera = self.camera(width, height)
        return RGBDFrame.from_uint8(color, depth, camera, self.stamp_ns or 0)

    def camera(self, width: int, height: int) -> Camera:
        """The camera of its picture, which has that size.

        Raises:
            GsPoseError: its intrinsics are of a picture of another size.

        """
        camera = Camera.from_matrix(self.intrinsics, width, height)
        if why := camera.why_of_another_picture():
            raise GsPoseError(f'{self.color_path}: cam_K in scene_camera.json does not fit: {why}')
        return camera

    def _check_unit(self) -> None:
        step_mm = 1000 * self.depth_unit_m
        if step_mm > _MOST_STEP_MM or 65535 * step_mm < _LEAST_RANGE_MM:
            raise GsPoseError(
                f'{self.depth_path}: its depth_scale in scene_camera.json is {step_mm:g}, so the '
                f'largest depth is {65.535 * step_mm:g} m; depth_scale is in millimetres a step: '
                '1.0 if depth was stored in millimetres'
            )


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
    first, last = _image_range(split, range_text)
    images = [image for scene in scene_folders(folder) for image in _read_scene(scene)]
    if with_pictures:
        images = [image for image in images if image.color_path is not None]
    if not images:
        there = {path.name for scene in scene_folders(folder) for path in scene.iterdir()}
        found = ', '.join(sorted(there)[:20])
        raise GsPoseError(
            f'{folder}: holds no picture of an image in scene_camera.json (rgb/NNNNNN or '
            f'gray/NNNNNN, {" ".join(ENDINGS)}); there are: {found}'
        )
    images = [image for image in images if first <= image.image_id <= last]
    if not images:
        raise GsPoseError(f'{folder}: no image has a number from {first:.0f} to {last:.0f}')
    return images


def _image_range(split: str, text: str) -> tuple[float, float]:
    if not text:
        return 0, np.inf
    match = re.fullmatch(r'(\d{1,9})-(\d{1,9})', text, re.ASCII)
    if match is None:
        raise GsPoseError(f'split {split!r}: after the colon goes FIRST-LAST, as in test:0-99')
    return int(match[1]), int(match[2])


def _read_scene(folder: Path) -> list[BopImage]:
    paths = {kind: folder / f'scene_{kind}.json' for kind in ('camera', 'gt', 'gt_info')}
    cameras = numbered_entries(paths['camera'], 'an image')
    truths = numbered_entries(paths['gt'], 'an image') if paths['gt'].exists() else {}
    infos = numbered_entries(paths['gt_info'], 'an image') if paths['gt_info'].exists() else None
    if strange := sorted(truths.keys() - cameras.keys()):
        raise GsPoseError(
            f'{paths["gt"]}: image {strange[0]} is not in scene_camera.json ({len(strange)} such)'
        )
    colors = {**numbered_pictures(folder / 'gray'), **numbered_pictures(folder / 'rgb')}
    depths, masks = numbered_pictures(folder / 'depth'), numbered_pictures(folder / 'mask_visib')
    scene_id = int(folder.name) if re.fullmatch(r'\d{1,9}', folder.name, re.ASCII) else 0
    images = []
    for image_id in sorted(cameras):
        path = paths['camera']  # which file the next error is of
        # Where others have depth, an image without is a mistake: its path leads nowhere, and says
        # so when depth is asked for.
        expected = folder / 'depth' / f'{image_id:06d}.png' if depths else None
        try:
            camera = as_object(cameras[image_id])
            color_path = colors.get((image_id,))
            fields = {
                'intrinsics': _intrinsics(camera),
                'depth_unit_m': _depth_unit_m(camera, has_depth=bool(depths)),
                'stamp_ns': None
                if camera.get('stamp_ns') is None
                else whole_number(camera, 'stamp_ns'),
                'T_cam_world': _camera_pose(camera),
            }
            path = paths['gt']
            poses = _poses(truths.get(image_id, []))
            path = paths['gt_info']
            seen = _visible_fractions(len(poses), infos, image_id)
        except (TypeError, ValueError) as error:
            raise GsPoseError(f'{path}: image {image_id}: {error}') from error
        instances = tuple(
            BopInstance(object_id, T_cam_obj, share, masks.get((image_id, k)))
            for k, ((object_id, T_cam_obj), share) in enumerate(zip(poses, seen, strict=True))
        )
        depth_path = depths.get((image_id,), expected)
        images.append(
            BopImage(scene_id, image_id, color_path, depth_path, instances=instances, **fields)
        )
    return images


def _intrinsics(camera: Mapping[str, Any]) -> NDArray[np.float64]:
    """K [3, 3]."""
    if 'cam_model' in camera:
        model = camera['cam_model']
        kind = model.get('projection_model_type', '') if isinstance(model, dict) else ''
        raise ValueError(
            f'cam_model (fisheye) is not supported: {str(kind)[:60] or "of HOT3D"}; undistort the '
            'pictures to a pinhole camera and give its cam_K'
        )
    K = numbers(camera, 'cam_K', 9).reshape(3, 3)
    if not np.allclose(K[2], [0, 0, 1], atol=1e-6):
        raise ValueError(
            f'cam_K {K.ravel().tolist()} does not end in 0, 0, 1; it is stored row by row'
        )
    if min(K[0, 0], K[1, 1]) <= 0 or max(abs(K[0, 1]), abs(K[1, 0])) > 1e-3 * K[0, 0]:
        raise ValueError(
            f'cam_K {K.ravel().tolist()} is not fx, 0, cx, 0, fy, cy, 0, 0, 1 with fx and fy > 0'
        )
    return K


def _depth_unit_m(camera: Mapping[str, Any], has_depth: bool) -> float:
    if not has_depth or 'depth_scale' not in camera:
        return 0.001
    scale = number(camera, 'depth_scale')
    if scale <= 0:
        raise ValueError(f'depth_scale is {scale:g} mm a step; it must be positive')
    return scale / 1000


def _camera_pose(camera: Mapping[str, Any]) -> NDArray[np.float64] | None:
    if camera.get('cam_R_w2c') is None or camera.get('cam_t_w2c') is None:
        return None
    R = _rotation(camera, 'cam_R_w2c')
    return se3.from_rotation_translation(R, numbers(camera, 'cam_t_w2c', 3) / 1000)


def _rotation(entry: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    """The rotation [3, 3] that a file rounds to a few digits."""
    R = numbers(entry, key, 9).reshape(3, 3)
    if not se3.is_rigid(se3.from_rotation_translation(R, np.zeros(3)), tolerance=_ROUNDED):
        raise ValueError(
            f'{key} is no rotation: its rows are {np.linalg.norm(R, axis=1).round(4).tolist()} '
            f'long and its determinant is {np.linalg.det(R):.4g}, not 1'
        )
    return R


def _poses(truths: Any) -> list[tuple[int, NDArray[np.float64]]]:
    """The object and its pose T_cam_obj [4, 4] of each instance."""
    out = []
    for k, truth in enumerate(as_list(truths)):
        try:
            out.append(_pose(as_object(truth)))
        except (TypeError, ValueError) as error:
            raise ValueError(f'instance {k}: {error}') from error
    return out


def _pose(truth: Mapping[str, Any]) -> tuple[int, NDArray[np.float64]]:
    R, t_mm = _rotation(truth, 'cam_R_m2c'), numbers(truth, 'cam_t_m2c', 3)
    if not _NEAREST_MM <= np.abs(t_mm).max() <= _FARTHEST_MM:
        raise ValueError(
            f'cam_t_m2c is {t_mm.tolist()}, the place of the object before the camera; BOP counts '
            'in millimetres, is this in metres?'
        )
    T_cam_obj = se3.from_rotation_translation(se3.project_to_so3(R), t_mm / 1000)
    return whole_number(truth, 'obj_id'), T_cam_obj


def _visible_fractions(count: int, infos: Mapping[int, Any] | None, image_id: int) -> list[float]:
    """Of each instance of an image; 1 where the set does not say it of any image."""
    if infos is None or not count:
        return [1.0] * count
    entries = infos.get(image_id)
    if not isinstance(entries, list) or len(entries) != count:
        found = f'{len(entries)} entries' if isinstance(entries, list) else 'no list of entries'
        raise ValueError(f'has {found} for the {count} instances of scene_gt.json')
    out = []
    for k, entry in enumerate(entries):
        share = number(as_object(entry), 'visib_fract')
        if not 0 <= share <= 1:
            raise ValueError(f'instance {k}: visib_fract is {share:g}, not a share of 0 to 1')
        out.append(share)
    return out


def _check_size(path: Path, values: NDArray[Any], shape: tuple[int, int]) -> None:
    """Raise GsPoseError unless values [H, W] of a file are as many as those of its picture."""
    if values.shape != shape:
        raise GsPoseError(
            f'{path}: is {values.shape[1]} x {values.shape[0]} pixels, its picture {shape[1]} x '
            f'{shape[0]}; both need one size'
        )
