"""The posed pictures of a transforms.json, as NeRF tools write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.sources import RegistrationView, thinned


def read_transforms_json(
    folder: Path, max_views: int = 0, metres_per_unit: float = 1.0
) -> list[RegistrationView]:
    """The views of a folder with transforms.json, as NeRF, instant-ngp and nerfstudio write it.

    Intrinsics (fl_x, fl_y, cx, cy, w, h, or camera_angle_x) and distortion (k1 k2 k3 p1 p2) may
    stand at the top or in a frame; pictures are undistorted. `mask_path` and `depth_file_path`
    (16 bit, `depth_unit_scale_factor` units a step, 0.001 if absent) are read where given.
    The object frame is the file's world frame; `metres_per_unit` is its scale, which pictures
    alone cannot tell. Pictures that are listed but absent are skipped, as instant-ngp does.

    Raises:
        GsPoseError: the file or all its pictures are missing, or an entry cannot be used.

    """
    path = Path(folder) / 'transforms.json'
    content = _read_transforms(path)
    entries = [(_picture(path.parent, frame), frame) for frame in content['frames']]
    present = [(picture, frame) for picture, frame in entries if picture is not None]
    if not present:
        raise GsPoseError(f'{path}: none of its {len(entries)} pictures is there')
    views = []
    for picture, frame in thinned(present, max_views):
        try:
            views.append(_transforms_view(picture, {**content, **frame}, metres_per_unit))
        except (KeyError, TypeError, ValueError) as error:
            raise GsPoseError(f'{path}: {picture.name}: {error!r}') from error
    return views


def read_transforms_box(folder: Path, metres_per_unit: float = 1.0) -> NDArray[np.float64] | None:
    """The box [2, 3] (low, high; m) that transforms.json gives as `aabb`, or None."""
    path = Path(folder) / 'transforms.json'
    box = _read_transforms(path).get('aabb')
    if box is None:
        return None
    try:
        out = np.array(box, np.float64).reshape(2, 3) * metres_per_unit
    except (TypeError, ValueError) as error:
        raise GsPoseError(f'{path}: aabb: {error}') from error
    if not (out[0] < out[1]).all():
        raise GsPoseError(f'{path}: aabb {box} is not a lowest and a highest corner')
    return out


def _read_transforms(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise GsPoseError(f'{path}: not readable: {error}') from error
    frames = content.get('frames') if isinstance(content, dict) else None
    if not isinstance(frames, list) or not all(
        isinstance(f, dict) and isinstance(f.get('file_path'), str) for f in frames
    ):
        raise GsPoseError(f'{path}: has no list "frames" of entries with a file_path')
    return content


def _picture(folder: Path, frame: Mapping[str, Any]) -> Path | None:
    path = folder / frame['file_path']
    candidates = (
        path,
        path.with_name(path.name + '.png'),
    )  # NeRF's synthetic scenes omit it
    return next((p for p in candidates if p.is_file()), None)


def _transforms_view(
    picture: Path, entry: Mapping[str, Any], metres_per_unit: float
) -> RegistrationView:
    if entry.get('is_fisheye') or 'FISHEYE' in str(entry.get('camera_model', '')):
        raise ValueError('fisheye cameras are not supported; undistort the pictures first')
    image = _read_image(picture)
    height, width = image.shape[:2]
    K, distortion = _intrinsics(entry, width, height)
    folder = picture.parents[len(Path(entry['file_path']).parts) - 1]
    mask = image[..., 3] > 127 if image.ndim == 3 and image.shape[2] == 4 else None
    if 'mask_path' in entry:
        stored = _read_image(folder / entry['mask_path'])
        mask = (stored if stored.ndim == 2 else stored[..., :3].max(-1)) > 0
    depth = None
    if 'depth_file_path' in entry:
        step = float(entry.get('depth_unit_scale_factor', 0.001))
        step *= metres_per_unit
        depth = (_read_image(folder / entry['depth_file_path']) * step).astype(np.float32)
    for name, layer in (('mask', mask), ('depth', depth)):
        if layer is not None and layer.shape != (height, width):
            raise ValueError(f'{name} is {layer.shape}, the picture {(height, width)}')
    color = _to_rgb(image)
    if np.any(distortion):
        # alpha 0: the new image shows no pixel that the old one had not.
        new_K, _ = cv2.getOptimalNewCameraMatrix(K, distortion, (width, height), 0)
        maps = cv2.initUndistortRectifyMap(
            K, distortion, np.eye(3), new_K, (width, height), cv2.CV_32FC1
        )
        color = cv2.remap(color, *maps, cv2.INTER_LINEAR)
        if mask is not None:
            mask = cv2.remap(mask.astype(np.uint8), *maps, cv2.INTER_NEAREST) > 0
        if depth is not None:
            depth = np.asarray(cv2.remap(depth, *maps, cv2.INTER_NEAREST), np.float32)
        K = new_K
    T_world_gl = np.array(entry['transform_matrix'], np.float64)
    if T_world_gl.shape != (4, 4) or not se3.is_rigid(T_world_gl, tolerance=1e-2):
        raise ValueError('transform_matrix is not a rigid motion [4, 4]')
    T_world_gl[:3, :3] = se3.project_to_so3(T_world_gl[:3, :3])
    T_world_gl[:3, 3] *= metres_per_unit
    # OpenGL's camera looks along -z with y up, ours along +z with y down.
    T_cam_obj = se3.inverse(T_world_gl @ np.diag([1.0, -1.0, -1.0, 1.0]))
    camera = Camera.from_matrix(K, width, height)
    return RegistrationView(np.asarray(color, np.uint8), depth, mask, camera, T_cam_obj)


def _intrinsics(
    entry: Mapping[str, Any], width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """K [3, 3] with pixel centres at integers, and k1 k2 p1 p2 k3."""
    file_w, file_h = float(entry.get('w', width)), float(entry.get('h', height))
    if 'fl_x' in entry:
        fx = float(entry['fl_x'])
        fy = float(entry.get('fl_y', fx))
    elif 'camera_angle_x' in entry:
        fx = fy = file_w / 2 / np.tan(float(entry['camera_angle_x']) / 2)
        if 'camera_angle_y' in entry:
            fy = file_h / 2 / np.tan(float(entry['camera_angle_y']) / 2)
    else:
        raise ValueError('neither fl_x nor camera_angle_x is given')
    if float(entry.get('k4', 0)) != 0:
        raise ValueError('a fourth radial coefficient (k4) is not supported')
    cx, cy = float(entry.get('cx', file_w / 2)), float(entry.get('cy', file_h / 2))
    # The file may speak of the picture at another size. Its image spans [0, w], with pixel
    # centres at +0.5 (COLMAP's convention); ours are at integers.
    sx, sy = width / file_w, height / file_h
    K = np.array([[fx * sx, 0, cx * sx - 0.5], [0, fy * sy, cy * sy - 0.5], [0, 0, 1]])
    return K, np.array([float(entry.get(k, 0)) for k in ('k1', 'k2', 'p1', 'p2', 'k3')])


def _to_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8:
        raise ValueError(f'the picture is {image.dtype}; 8 bits a channel are needed')
    channels = 1 if image.ndim == 2 else image.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def _read_image(path: Path) -> NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f'{path}: missing or not a readable image')
    return image
