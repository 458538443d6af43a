"""The posed pictures of one object in a data set in BOP's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.bop import BopImage, BopInstance, read_bop_split
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.sources import RegistrationView, thinned


def read_bop_views(
    split_dir: Path,
    object_id: int,
    max_views: int = 0,
    with_depth: bool = True,
    with_masks: bool = True,
    min_visible: float = 0.5,
) -> list[RegistrationView]:
    """The views of one object in a BOP split folder, evenly thinned to `max_views` (0: all).

    `split_dir` may end in a range of image numbers, as `read_bop_split` says ('desk:0-29').
    Images where less than `min_visible` of the object is seen are left out.

    Raises:
        GsPoseError: no such split or object in it, a broken file, or a mask or a depth image of
            another size than its picture.

    """
    root, split = Path(split_dir).parent, Path(split_dir).name
    seen = [
        (image, instance)
        for image in read_bop_split(root, split)
        for instance in image.instances
        if instance.object_id == object_id and instance.visible_fraction >= min_visible
    ]
    if not seen:
        raise GsPoseError(f'{split_dir}: no image shows object {object_id}')
    views, placements = [], []
    for image, instance in thinned(seen, max_views):
        color = image.read_color()
        height, width = color.shape[:2]
        views.append(
            RegistrationView(
                color=color,
                depth=image.read_depth((height, width)) if with_depth else None,
                mask=instance.visible_mask((height, width)) if with_masks else None,
                camera=image.camera(width, height),
                T_cam_obj=instance.T_cam_obj,
                session=_session(image, instance, placements),
            )
        )
    return views


def _session(image: BopImage, instance: BopInstance, placements: list[NDArray[np.float64]]) -> int:
    """The number of the object's placement [4, 4] in the world, which is added if it is new.

    0 where the set does not say where the camera was.
    """
    if image.T_cam_world is None:
        return 0
    T_world_obj = se3.inverse(image.T_cam_world) @ instance.T_cam_obj
    for number, known in enumerate(placements):
        turned = se3.rotation_angle(T_world_obj[:3, :3], known[:3, :3])
        shift = np.linalg.norm(T_world_obj[:3, 3] - known[:3, 3])
        if turned < np.radians(5) and shift < 0.01:
            return number
    placements.append(T_world_obj)
    return len(placements) - 1
