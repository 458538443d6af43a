"""What is truly in each image, and what must be known of an object to measure a pose of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.bop import BopImage, object_name, read_bop_split
from gs_pose_ros.datasets.bop_models import BopModel, read_bop_models
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.evaluation.detection_error import Rle, encode_mask
from gs_pose_ros.geometry.camera import Camera


@dataclass(frozen=True)
class EvaluatedObject:
    """The surface and the symmetries that errors are measured with."""

    object_id: str
    points: NDArray[np.float64]  # [N, 3] m on the surface
    diameter_m: float
    symmetries: NDArray[np.float64]  # [M, 4, 4] T_obj_obj, identity excluded

    @property
    def is_symmetric(self) -> bool:
        """Whether ADD-S takes the place of ADD."""
        return len(self.symmetries) > 0

    @classmethod
    def from_model(cls, model: BopModel, object_id: str | None = None) -> EvaluatedObject:
        """From an object of a BOP set; `object_id` if we call it something else."""
        name = object_id or object_name(model.object_id)
        return cls(name, model.points, model.diameter_m, model.symmetries)


@dataclass(frozen=True)
class TrueInstance:
    """One object in an image."""

    object_id: str
    T_cam_obj: NDArray[np.float64]  # [4, 4] m
    visible_fraction: float
    rle: Rle | None  # visible pixels; None where the set has no masks


@dataclass(frozen=True)
class TrueImage:
    """The objects in an image, in the order of the set."""

    name: str
    camera: Camera
    instances: tuple[TrueInstance, ...]
    stamp_ns: int | None = None


def read_true_image(
    image: BopImage, names: Mapping[int, str], camera: Camera | None = None
) -> TrueImage:
    """The truth of a BOP image for the objects in `names` (BOP id to our id).

    Raises:
        GsPoseError: the image size is nowhere to be found, or a mask is broken, or not of the
            size of the camera or of the other masks.

    """
    instances, shape = [], None if camera is None else camera.shape
    for instance in image.instances:
        if instance.object_id not in names:
            continue
        mask = instance.visible_mask(shape)
        if mask is not None:
            shape = mask.shape[0], mask.shape[1]
        instances.append(
            TrueInstance(
                object_id=names[instance.object_id],
                T_cam_obj=instance.T_cam_obj,
                visible_fraction=instance.visible_fraction,
                rle=None if mask is None else encode_mask(mask),
            )
        )
    if camera is None:
        height, width = image.read_color().shape[:2] if shape is None else shape
        camera = Camera.from_matrix(image.intrinsics, width, height)
    return TrueImage(image.name, camera, tuple(instances), image.stamp_ns)


def read_truth(
    root: Path,
    split: str = '.',
    names: Mapping[int, str] | None = None,
    camera: Camera | None = None,
    stamps: Sequence[int] | None = None,
) -> tuple[list[TrueImage], dict[str, EvaluatedObject]]:
    """Truth in the BOP layout for images that lie elsewhere, e.g. in a bag; no pictures needed.

    `stamps` are those of the recorded images in order: the k-th belongs to image number k.
    Without it the images must carry `stamp_ns` in scene_camera.json. `names` maps BOP ids to the
    names the objects are registered under ('obj_000001' if None).

    Raises:
        GsPoseError: the truth or the models are missing or broken, or there are no stamps.

    """
    images = read_bop_split(root, split, with_pictures=False)
    present = sorted({i.object_id for image in images for i in image.instances})
    names = {i: object_name(i) for i in present} if names is None else dict(names)
    models = read_bop_models(root, [i for i in present if i in names])
    objects = {names[i]: EvaluatedObject.from_model(m, names[i]) for i, m in models.items()}
    truth = []
    for image in images:
        true = read_true_image(image, names, camera)
        stamp = true.stamp_ns
        if stamp is None and stamps is not None and image.image_id < len(stamps):
            stamp = stamps[image.image_id]
        if stamp is None:
            raise GsPoseError(
                f'{root}: image {image.image_id} has no stamp_ns in scene_camera.json and no '
                f'recorded image with that number ({len(stamps or ())} recorded)'
            )
        truth.append(TrueImage(true.name, true.camera, true.instances, stamp))
    return truth, objects
