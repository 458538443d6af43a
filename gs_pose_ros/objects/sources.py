"""The posed pictures of a registration, made of frames with a board or with known poses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.board import AprilTagGrid, CharucoBoard, estimate_board_pose


@dataclass(frozen=True)
class RegistrationView:
    """One picture of the object with the pose it was taken from."""

    color: NDArray[np.uint8]  # [H, W, 3] RGB
    depth: NDArray[np.float32] | None  # [H, W] m, 0 where invalid
    mask: NDArray[np.bool_] | None  # [H, W] visible pixels of the object
    camera: Camera
    T_cam_obj: NDArray[np.float64]  # [4, 4] m
    # Views of one session show the object in the same light: it lies as it lay, only the camera
    # moves. From 0.
    session: int = 0


def views_from_frames(
    frames: Iterable[RGBDFrame],
    T_cam_obj: Sequence[NDArray[np.float64] | None] | CharucoBoard | AprilTagGrid,
    T_board_obj: NDArray[np.float64] | None = None,
    max_views: int = 0,
) -> list[RegistrationView]:
    """Views of camera frames whose poses are known (None: skip) or come from a board.

    `T_board_obj` places the object frame on the board; identity when None.

    Raises:
        GsPoseError: no frame has a pose; the message says why the last one had none.

    """
    posed: list[tuple[RGBDFrame, NDArray[np.float64]]] = []
    reason = 'there are no frames'
    if isinstance(T_cam_obj, (CharucoBoard, AprilTagGrid)):
        board, poses = T_cam_obj, iter(())
    else:
        board, poses = None, iter(T_cam_obj)
    for frame in frames:
        if board is None:
            T = next(poses, None)
            reason = 'no pose was given for it'
        else:
            try:
                T = estimate_board_pose(_uint8(frame), frame.camera, board)
                T = T if T_board_obj is None else T @ T_board_obj
            except GsPoseError as error:
                T, reason = None, str(error)
        if T is not None:
            posed.append((frame, np.asarray(T, np.float64)))
    if not posed:
        raise GsPoseError(f'no frame can be used: {reason}')
    return [
        RegistrationView(_uint8(frame), frame.depth, None, frame.camera, T)
        for frame, T in thinned(posed, max_views)
    ]


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spread; all if `most` is 0."""
    if most <= 0 or len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _uint8(frame: RGBDFrame) -> NDArray[np.uint8]:
    return (frame.color * 255).round().clip(0, 255).astype(np.uint8)
