"""Reference objects on disk: one directory an object, written atomically, read with checks."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros import __version__
from gs_pose_ros.errors import GsPoseError, shown
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.folder_store import FolderStore, checked_name
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.objects.stored_arrays import parse_arrays
from gs_pose_ros.objects.stored_header import Facts, StoredHeader, checked_facts, write_header
from gs_pose_ros.ply import parse_ply, write_ply


@dataclass(frozen=True)
class ReferenceViews:
    """Pictures of the object, rescaled as in GS-Pose Sec. 7.2; the poses are of the crops' camera.

    Every crop is S x S pixels with its own camera (the object's centre is near its middle).
    """

    T_cam_obj: NDArray[np.float64]  # [R, 4, 4]
    intrinsics: NDArray[np.float64]  # [R, 4] fx, fy, cx, cy of the crops, pixels
    color: NDArray[np.uint8]  # [R, S, S, 3] RGB
    mask: NDArray[np.uint8]  # [R, S, S] 0 to 255


@dataclass(frozen=True)
class StoredCopy:
    """Where an object was read from, as long as it is that object."""

    gaussians: Gaussians
    views: ReferenceViews
    prepared: Path  # folder for what is made from the object, see `prepared`
    revision: str  # of the object, see `ObjectDatabase.revision`


@dataclass(frozen=True)
class ObjectReference(SplatObject):
    """All that is known of a registered object; metres, in the object's own frame."""

    object_id: str
    views: ReferenceViews
    # Discrete symmetries T_obj_obj [M, 4, 4] that map the object onto itself, identity excluded.
    symmetries: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4, 4)))
    # Facts of the registration: PSNR, seconds, number of views, ...
    facts: Facts = field(default_factory=dict)
    copy: StoredCopy | None = None

    @property
    def stored(self) -> StoredCopy | None:
        """Its copy on disk; None for an object that has none, or was changed since it was read."""
        same = (
            self.copy is not None
            and self.copy.gaussians is self.gaussians
            and self.copy.views is self.views
        )
        return self.copy if same else None


# Bump when a file of a stored object changes its meaning; older readers then refuse it by name.
FORMAT_VERSION = 1

_FILES = ('object.yaml', 'gaussians.ply', 'views.npz')
_MEASURED = ('psnr_heldout_db', 'registration_s')  # facts that are numbers, for who shows them
_THUMBNAIL = 'thumbnail.png'
PREPARED = '.prepared'  # no object has a leading dot in its name
_VIEW_ARRAYS = tuple(f.name for f in fields(ReferenceViews))


class ObjectDatabase:
    """A folder with one sub-folder per object; safe against crashes and other processes.

    <root>/<object_id>/object.yaml      id, diameter, box, symmetries, facts, format, checksums
                       gaussians.ply    the splat, standard 3DGS layout
                       views.npz        the reference views
                       thumbnail.png    for people; never read back
    <root>/.prepared/<object_id>/       what is made from it, see `gs_pose_ros.objects.prepared`
    """

    def __init__(self, root: Path) -> None:
        self._store = FolderStore(root, 'object', (*_FILES, _THUMBNAIL))

    @property
    def root(self) -> Path:
        """The folder."""
        return self._store.root

    def object_ids(self) -> list[str]:
        """The stored objects, broken ones included, sorted."""
        return self._store.names()

    def revision(self, object_id: str) -> str:
        """A short text that changes whenever a file of the stored object does.

        Raises:
            GsPoseError: there is no such object.

        """
        digest = hashlib.sha256()
        with self._store.reading():
            folder = self._store.folder(object_id)
            for path in (folder / name for name in _FILES):
                try:
                    stat = path.stat()
                except OSError as error:
                    raise GsPoseError(f'{path}: {error.strerror}') from error
                digest.update(f'{stat.st_ino} {stat.st_size} {stat.st_mtime_ns};'.encode())
        return digest.hexdigest()[:16]

    def load(self, object_id: str) -> ObjectReference:
        """Read one object.

        Raises:
            GsPoseError: it is missing, or the named file is broken.

        """
        with self._store.reading():
            folder = self._store.folder(object_id)
            try:
                reference = _read(folder, object_id)
            except GsPoseError as error:
                raise GsPoseError(
                    f'{error}. Restore its folder from a copy, or register the object again'
                ) from error
            copy = StoredCopy(
                reference.gaussians,
                reference.views,
                self.root / PREPARED / object_id,
                self.revision(object_id),
            )
        return replace(reference, copy=copy)

    def load_all(self) -> tuple[dict[str, ObjectReference], dict[str, str]]:
        """All objects that can be read, and for each that cannot the reason."""
        loaded: dict[str, ObjectReference] = {}
        broken: dict[str, str] = {}
        for object_id in self.object_ids():
            try:
                loaded[object_id] = self.load(object_id)
            except GsPoseError as error:
                broken[object_id] = str(error)
        return loaded, broken

    def save(self, reference: ObjectReference) -> None:
        """Store an object, replacing the one of the same id.

        Raises:
            GsPoseError: the id is not a plain name, the object holds NaN or wrong shapes, or
                the disk refuses; an object stored before is then unharmed.

        """
        checked_name(reference.object_id)
        _check(reference, f'object {reference.object_id!r}: ')
        self._store.replace(reference.object_id, lambda folder: _write(folder, reference))

    def remove(self, object_id: str) -> None:
        """Delete an object.

        Raises:
            GsPoseError: there is no such object, or the disk refuses.

        """
        self._store.remove(object_id)
        if not (self.root / PREPARED).is_symlink():  # a stranger's database may point anywhere
            with suppress(RecursionError):  # shutil calls itself for folders within each other
                shutil.rmtree(self.root / PREPARED / object_id, ignore_errors=True)

    def clear_leftovers(self) -> None:
        """Put right what killed writers of objects left, see `leftovers` for all the rest."""
        self._store.clear_leftovers()


def _write(folder: Path, reference: ObjectReference) -> None:
    header = {
        'format_version': FORMAT_VERSION,
        'object_id': reference.object_id,
        'units': 'metres, radians',
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'package_version': __version__,
        'diameter_m': float(reference.diameter_m),
        'box_m': np.asarray(reference.box, float).tolist(),
        'symmetries': np.asarray(reference.symmetries, float).tolist(),
        'facts': checked_facts(reference.facts, 'object.yaml'),
    }
    write_ply(folder / 'gaussians.ply', reference.gaussians)
    arrays = {name: getattr(reference.views, name) for name in _VIEW_ARRAYS}
    np.savez_compressed(folder / 'views.npz', **arrays)
    if len(reference.views.color):
        alpha = reference.views.mask[0][..., None] / 255.0
        picture = (reference.views.color[0] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        png = cv2.imencode('.png', picture[..., ::-1])[1]
        (folder / _THUMBNAIL).write_bytes(png.tobytes())
    write_header(folder / _FILES[0], header, _FILES[1:])


def _read(folder: Path, object_id: str) -> ObjectReference:
    with StoredHeader(folder / _FILES[0], FORMAT_VERSION) as header:
        if (found := header.text('object_id')) != object_id:
            raise GsPoseError(f'{header.path}: is of object {shown(found)}, not {object_id!r}')
        reference = ObjectReference(
            object_id=object_id,
            gaussians=parse_ply(*header.file('gaussians.ply')),
            diameter_m=header.number('diameter_m'),
            box=header.numbers('box_m', 2, 3),
            views=ReferenceViews(**parse_arrays(*header.file('views.npz'), _VIEW_ARRAYS)),
            symmetries=header.numbers('symmetries', -1, 4, 4),
            facts=header.facts(),
        )
        _check(reference, f'{folder}/')
    return reference


def _check(reference: ObjectReference, source: str) -> None:
    """Raise GsPoseError naming the file, after `source`, that holds an impossible value."""
    if len(reference.gaussians) == 0:
        raise GsPoseError(f'{source}gaussians.ply: holds no Gaussian')
    reference.gaussians.check_finite(f'{source}gaussians.ply')
    views = reference.views
    r, s = views.color.shape[0], views.color.shape[1] if views.color.ndim > 1 else 0
    expected = {
        'T_cam_obj': ((r, 4, 4), 'f'),
        'intrinsics': ((r, 4), 'f'),
        'color': ((r, s, s, 3), 'u1'),
        'mask': ((r, s, s), 'u1'),
    }
    for name, (shape, kind) in expected.items():
        array = getattr(views, name)
        if array.shape != shape or not array.dtype.str[1:].startswith(kind):
            raise GsPoseError(
                f'{source}views.npz: {name} is {array.dtype} {array.shape}, expected {shape}'
            )
    if r and s == 0:
        raise GsPoseError(f'{source}views.npz: color has no pixels, its shape is {(r, s, s, 3)}')
    if not all(se3.is_rigid(T) for T in views.T_cam_obj):
        raise GsPoseError(f'{source}views.npz: T_cam_obj holds NaN or is not a rigid motion')
    if not (np.isfinite(views.intrinsics).all() and (views.intrinsics[:, :2] > 0).all()):
        raise GsPoseError(f'{source}views.npz: intrinsics hold NaN or focal lengths <= 0')
    if not (np.isfinite(reference.diameter_m) and reference.diameter_m > 0):
        raise GsPoseError(
            f'{source}object.yaml: diameter_m is {reference.diameter_m}, it must be above 0'
        )
    box = np.asarray(reference.box)
    if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
        raise GsPoseError(
            f'{source}object.yaml: box_m is {box.tolist()}, expected [2, 3] low, high'
        )
    if reference.symmetries.shape[1:] != (4, 4) or not all(
        map(se3.is_rigid, reference.symmetries)
    ):
        raise GsPoseError(f'{source}object.yaml: symmetries are not rigid motions [M, 4, 4]')
    facts = checked_facts(reference.facts, f'{source}object.yaml')
    for name in _MEASURED:
        if isinstance(value := facts.get(name, 0), str):
            raise GsPoseError(f'{source}object.yaml: facts.{name} is {shown(value)}, no number')
