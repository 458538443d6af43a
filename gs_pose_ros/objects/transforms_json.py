"""The posed pictures of a transforms.json, as NeRF tools write it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.allowed_roots import check_under
from gs_pose_ros.datasets.picture_file import (
    PictureFile,
    as_rgb,
    read_picture,
    turned_upright,
)
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.geometry.distortion import undistortion
from gs_pose_ros.objects import transforms_camera as fields
from gs_pose_ros.objects.sources import RegistrationView, thinned
from gs_pose_ros.objects.transforms_camera import Entry
from gs_pose_ros.regular_files import read_regular

# Raises GsPoseError for a path that may not be read.
# Scripts leave the ending out, or write what was there before a conversion (text2room, NeRF).
_ENDINGS = ('.png', '.jpg', '.jpeg', '.PNG', '.JPG', '.JPEG', '.webp', '.tif', '.tiff', '.bmp')
_MOST_BYTES = 2**28  # a million frames
_MILLIMETRE = 0.001
_BYTES_A_PIXEL = 8  # colour, depth and mask of a view


@dataclass(frozen=True)
class Capture:
    """What a transforms.json gives."""

    views: list[RegistrationView]
    box: NDArray[np.float64] | None  # [2, 3] m, lowest and highest corner: its `aabb`
    notes: tuple[str, ...] = ()  # what a person should know of how it was read


def read_transforms_json(
    folder: Path, max_views: int = 0, metres_per_unit: float = 1.0
) -> list[RegistrationView]:
    """The views of a folder with transforms.json, as NeRF, instant-ngp and nerfstudio write it.

    Intrinsics (fl_x, fl_y, cx, cy, w, h, or camera_angle_x) and distortion (k1 k2 k3 p1 p2) may
    stand at the top or in a frame; pictures are undistorted. `mask_path`, `depth_file_path`
    (nerfstudio: 16 bit, `depth_unit_scale_factor` units a step, 0.001 if absent) and `depth_path`
    (instant-ngp: `integer_depth_scale` units a step) are read where given.
    The object frame is the file's world frame; `metres_per_unit` is its scale, which pictures
    alone cannot tell. Pictures that are listed but absent are skipped, as instant-ngp does.

    Pixels are taken as stored, without heed of EXIF, as COLMAP does, if they fit the file's w and
    h; upright as EXIF says if only that fits.

    Raises:
        GsPoseError: the file or all its pictures are missing, or an entry cannot be used.

    """
    return read_capture(folder, max_views, metres_per_unit).views


def read_capture(
    folder: Path,
    max_views: int = 0,
    metres_per_unit: float = 1.0,
    with_depth: bool = True,
    roots: Iterable[Path] = (),
) -> Capture:
    """As `read_transforms_json`, with the box and what was found on the way.

    `folder` may be the file itself. Only what is under `roots` is read; all where there are none.
    """
    path = Path(folder)
    if path.suffix != '.json' or path.is_dir():
        path = path / 'transforms.json'
    if not (np.isfinite(metres_per_unit) and metres_per_unit > 0):
        raise GsPoseError(f'metres_per_unit is {metres_per_unit}; it must be above 0')
    reader = _Reader(path, metres_per_unit, with_depth, tuple(roots))
    content = reader.content()
    box = reader.box(content)
    top = {key: value for key, value in content.items() if key != 'frames' and value is not None}
    present = []
    for frame in content['frames']:
        picture = reader.picture(frame)
        if picture is not None:
            own = {key: value for key, value in frame.items() if value is not None}
            present.append((picture, {**top, **own}))
    chosen = thinned(present, max_views)
    views = []
    for picture, entry in chosen:
        views.append(reader.view(picture, entry))
        _check_memory(path, views, len(chosen))
    return Capture(views, box, reader.notes(len(content['frames'])))


@dataclass
class _Reader:
    """Reads one file and what it names, and counts what is odd."""

    path: Path
    metres_per_unit: float
    with_depth: bool
    roots: tuple[Path, ...]
    missing: list[Path] = field(default_factory=list)
    odd: Counter[str] = field(default_factory=Counter)
    # Of the last distorted picture: the next one has mostly the same.
    undistorted: tuple[Any, Any, Any, Any] = (None, None, None, None)

    def content(self) -> dict[str, Any]:
        self._allow(self.path)
        data = read_regular(self.path, _MOST_BYTES)
        try:
            # From bytes: UTF-8, 16 or 32, with or without a byte order mark.
            content = json.loads(data, object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            raise GsPoseError(f'{self.path}: not readable: {error}') from error
        frames = content.get('frames') if isinstance(content, dict) else None
        if not isinstance(frames, list) or not frames:
            raise GsPoseError(f'{self.path}: has no list "frames" of pictures')
        for k, frame in enumerate(frames):
            if not isinstance(frame, dict):
                raise GsPoseError(f'{self.path}: frame {k} is no object with a file_path')
        return content

    def box(self, content: dict[str, Any]) -> NDArray[np.float64] | None:
        box = content.get('aabb')
        if box is None:
            return None
        try:
            out = np.array(box, np.float64).reshape(2, 3) * self.metres_per_unit
        except (TypeError, ValueError, OverflowError) as error:
            raise GsPoseError(f'{self.path}: aabb is not two corners of three numbers') from error
        if not np.isfinite(out).all() or not (out[0] < out[1]).all():
            raise GsPoseError(
                f'{self.path}: aabb {out.tolist()} m is not a lowest and a highest corner'
            )
        if 'scale' in content or 'offset' in content:
            # instant-ngp's is in the unit cube that these two place in the world.
            self.odd['aabb is of the cube of instant-ngp (scale, offset) and is not used'] += 1
            return None
        return out

    def picture(self, frame: dict[str, Any]) -> Path | None:
        """Where the picture of a frame is; None, and counted, if it is absent."""
        try:
            found = self._find(fields.text(frame, 'file_path'), _ENDINGS)
        except ValueError as error:
            raise GsPoseError(f'{self.path}: {error}') from error
        if not _is_there(found):
            self.missing.append(found)
            return None
        return found

    def notes(self, listed: int) -> tuple[str, ...]:
        if len(self.missing) == listed:
            raise GsPoseError(
                f'{self.path}: none of its {listed} pictures is there, e.g. {self.missing[0]}'
            )
        out = [
            what if what.startswith('aabb') else f'{what} ({count} pictures)'
            for what, count in self.odd.items()
        ]
        if self.missing:
            count = f'{len(self.missing)} of {listed} pictures'
            out.insert(0, f'{count} are not there and left out, e.g. {self.missing[0]}')
        return tuple(f'{self.path}: {note}' for note in out)

    def view(self, picture: Path, entry: Entry) -> RegistrationView:
        try:
            return self._view(picture, entry)
        except (ValueError, GsPoseError) as error:
            name = f'{picture.name}: ' if str(picture) not in str(error) else ''
            said = str(error).replace(f'{self.path.parent}/', '')  # it stands before it already
            raise GsPoseError(f'{self.path}: {name}{said}') from error

    def _view(self, picture: Path, entry: Entry) -> RegistrationView:
        T_cam_obj = fields.pose(entry, self.metres_per_unit)
        distortion = fields.lens(entry)
        file = PictureFile.read(picture)
        header = file.header
        width, height, turned = fields.picture_size(entry, header)
        camera = fields.camera(entry, width, height)
        image = file.pixels()
        if turned:
            image = turned_upright(image, header.orientation)
            self.odd['turned upright as EXIF says, to fit w and h'] += 1
        elif header.orientation != 1:
            self.odd[f'EXIF orientation {header.orientation} is not heeded'] += 1
        if image.shape[:2] != (height, width):
            raise ValueError(f'is {image.shape[1]} x {image.shape[0]}, its header says otherwise')
        mask = self._mask(entry, image)
        view = RegistrationView(
            as_rgb(picture, image),
            self._depth(entry, camera) if self.with_depth else None,
            mask,
            camera,
            T_cam_obj,
        )
        return self._undistorted(view, distortion) if distortion.any() else view

    def _mask(self, entry: Entry, image: NDArray[Any]) -> NDArray[np.bool_] | None:
        if 'mask_path' not in entry:
            alpha = image[..., 3] if image.ndim == 3 and image.shape[2] == 4 else None
            # Exporters give pictures an alpha channel that says nothing.
            return None if alpha is None or (alpha > 127).all() else alpha > 127
        path = self._find(fields.text(entry, 'mask_path'))
        stored = read_picture(path)
        if stored.shape[:2] != image.shape[:2]:
            raise ValueError(_sizes('mask', path, stored, image.shape[:2]))
        # JPEG has gray specks where there was black.
        threshold = 127 if path.suffix.lower() in ('.jpg', '.jpeg') else 0
        if stored.ndim == 2:
            return stored > threshold
        mask = stored[..., :3].max(-1) > threshold
        if stored.shape[2] == 4:
            opaque = stored[..., 3] > 127
            mask = mask & opaque if mask.any() else opaque
        return mask

    def _depth(self, entry: Entry, camera: Camera) -> NDArray[np.float32] | None:
        """Depth [H, W] in m of the picture of that camera, 0 where invalid."""
        key = 'depth_file_path' if 'depth_file_path' in entry else 'depth_path'
        if key not in entry:
            return None
        step, reason = _depth_step(entry, key)
        if step is None:
            self.odd[f'{key} is not used: {reason}'] += 1
            return None
        path = self._find(fields.text(entry, key))
        if path.suffix.lower() in ('.exr', '.npy', '.npz', '.pfm', '.hdr'):
            raise ValueError(f'{path}: depth in {path.suffix} files is not read; store 16-bit PNG')
        stored = read_picture(path)
        if stored.ndim != 2 or stored.dtype not in (np.uint16, np.float32):
            channels = 1 if stored.ndim == 2 else stored.shape[2]
            raise ValueError(
                f'{path}: depth is one channel of 16 bit or float, this has {channels} of '
                f'{stored.dtype}; it may be a coloured picture of depth, made for people '
                'to look at'
            )
        if stored.dtype == np.float32 and 'depth_unit_scale_factor' not in entry:
            # nerfstudio would take it for millimetres, most who write floats mean units.
            raise ValueError(
                f'{path}: float depth needs depth_unit_scale_factor, the units of the file '
                'that one step is'
            )
        size = camera.width, camera.height
        if stored.shape != camera.shape:
            if not fields.same_shape((stored.shape[1], stored.shape[0]), size):
                raise ValueError(_sizes('depth', path, stored, camera.shape))
            what = f'depth of {stored.shape[1]} x {stored.shape[0]}'
            self.odd[f'{what} is resized to the picture, by the nearest pixel'] += 1
            stored = cv2.resize(stored, size, interpolation=cv2.INTER_NEAREST_EXACT)
        with np.errstate(over='ignore', invalid='ignore'):
            depth = (stored * (step * self.metres_per_unit)).astype(np.float32)
            depth[~(np.isfinite(depth) & (depth > 0))] = 0
        return depth if depth.any() else None

    def _undistorted(
        self, view: RegistrationView, distortion: NDArray[np.float64]
    ) -> RegistrationView:
        key = (view.camera, tuple(distortion))
        if self.undistorted[0] != key:
            camera, (u, v) = undistortion(view.camera, distortion)
            self.undistorted = (key, camera, u, v)
        _, camera, u, v = self.undistorted
        color = cv2.remap(view.color, u, v, cv2.INTER_LINEAR)
        mask, depth = view.mask, view.depth
        if mask is not None:
            mask = cv2.remap(mask.astype(np.uint8), u, v, cv2.INTER_NEAREST) > 0
        if depth is not None:
            depth = np.asarray(cv2.remap(depth, u, v, cv2.INTER_NEAREST), np.float32)
        return replace(
            view, color=np.asarray(color, np.uint8), mask=mask, depth=depth, camera=camera
        )

    def _find(self, text: str, endings: tuple[str, ...] = ()) -> Path:
        """The file that a text names, itself or with one of the endings; there or not."""
        path = self.path.parent / text
        if '\\' in text and not _is_there(path):  # written on Windows
            path = self.path.parent / text.replace('\\', '/')
        self._allow(path)
        if not _is_there(path) and path.name:
            others = [path.with_name(path.name + ending) for ending in endings]
            path = next(filter(_is_there, others), path)
            self._allow(path)
        return path

    def _allow(self, path: Path) -> None:
        check_under(path, self.roots)


def _check_memory(path: Path, views: Sequence[RegistrationView], count: int) -> None:
    """Refuse what would fill the memory; that would end the process without a word."""
    rest = (count - len(views)) * views[-1].color.size // 3  # if they are like the last one
    pixels = sum(view.color.size // 3 for view in views) + rest
    installed = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if pixels * _BYTES_A_PIXEL > installed:
        raise GsPoseError(
            f'{path}: {count} pictures of {pixels / 1e6:.6g} megapixels in all need '
            f'{pixels * _BYTES_A_PIXEL / 1e9:.6g} GB; make them smaller, or use fewer: '
            'max_views (--max-views)'
        )


def _depth_step(entry: Entry, key: str) -> tuple[float | None, str]:
    """Units of the file a step of depth is; None, and why, where the depth is not to be used."""
    if key == 'depth_path' and entry.get('enable_depth_loading') is False:
        return None, 'enable_depth_loading is false'
    names = ('depth_unit_scale_factor', 'integer_depth_scale')
    name = next((name for name in names if name in entry), None)
    if name is None:
        if key == 'depth_path':
            return None, 'there is no integer_depth_scale, so instant-ngp does not use it either'
        return _MILLIMETRE, ''
    step = fields.number(entry, name)
    if step <= 0:
        raise ValueError(f'{name} is {step:g}; a step of depth must be above 0')
    return step, ''


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        double = next(name for name, count in Counter(n for n, _ in pairs).items() if count > 1)
        raise ValueError(f'{double[:40]!a} stands twice in one object')
    return out


def _is_there(path: Path) -> bool:
    """Whether this is anything but a folder; whoever opens it sees what it is."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def _sizes(what: str, path: Path, stored: NDArray[Any], shape: tuple[int, ...]) -> str:
    return (
        f'{path}: the {what} is {stored.shape[1]} x {stored.shape[0]}, '
        f'the picture {shape[1]} x {shape[0]}'
    )
