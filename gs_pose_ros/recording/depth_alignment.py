"""Whether a depth image is registered to its colour image, and what makes it so if it is not.

Bags and live nodes ask here, so both refuse with the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.geometry.depth_registration import register_depth
from gs_pose_ros.recording.rectification import Rectification, rectification_from_message

# T_target_source [4, 4] between two frames at a time (ns); raises LookupError.
TransformAt = Callable[[str, str, int], NDArray[np.float64]]

REMEDY = (
    'depth has to be registered to colour: RealSense align_depth.enable:=true, Orbbec '
    'depth_registration:=true, or the register node of depth_image_proc'
)
# Two descriptions of one camera may be rounded; pixels further apart are others.
_SAME_PX = 0.5
# Nothing that is taken of one place by two cameras.
_SAME_M = 1e-4
_SAME_RAD = 1e-4


@dataclass(frozen=True, eq=False)
class DepthOrigin:
    """A depth camera beside the colour camera."""

    rectification: Rectification
    T_color_depth: NDArray[np.float64]  # [4, 4]

    def registered(self, depth: NDArray[np.float32], color: Camera) -> NDArray[np.float32]:
        """Depth [h, w] (m) as it came in the pixels [H, W] of the undistorted colour camera."""
        undistorted = self.rectification.depth(depth)
        if self.rectification.camera == color and _is_identity(self.T_color_depth):
            return undistorted
        return register_depth(undistorted, self.rectification.camera, color, self.T_color_depth)


def depth_origin(
    color: Any,
    info: Any,
    depth: Any,
    depth_info: Any = None,
    transform_at: TransformAt | None = None,
) -> DepthOrigin | None:
    """Where a depth image was taken from, given messages; None if it is registered to colour.

    Frames and, with the depth's own camera_info, cameras are compared. Frames without a name say
    nothing against it, nor do two names of one place. Depth without the distortion that colour has
    is one of the undistorted colour camera.

    Raises:
        GsPoseError: it is not registered, and what is needed to do so is missing.

    """
    color_frame, depth_frame = (msg.header.frame_id.lstrip('/') for msg in (color, depth))
    moved = color_frame and depth_frame and color_frame != depth_frame
    if not moved and depth_info is None:
        return None
    T_color_depth = np.eye(4)
    if moved:
        said = f'depth is in the frame {depth_frame!r}, colour in {color_frame!r}'
        if transform_at is None:
            raise GsPoseError(f'{said}; {REMEDY}')
        stamp = color.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        try:
            T_color_depth = transform_at(color_frame, depth_frame, stamp_ns)
        except LookupError as error:
            raise GsPoseError(f'{said}, and TF does not join them: {error}; {REMEDY}') from error
        if depth_info is None:
            if _is_identity(T_color_depth):
                return None
            raise GsPoseError(f'{said}; {REMEDY}')
    assert depth_info is not None
    same_size = (info.width, info.height) == (depth_info.width, depth_info.height)
    if _is_identity(T_color_depth) and _one_view(info, depth_info):
        if same_size and (any(depth_info.d) or not any(info.d)):
            return None
    elif not moved:
        raise GsPoseError(
            f'by their camera_info depth is {_described(depth_info)} and colour '
            f'{_described(info)}, in one frame {color_frame!r}: where the depth camera is, nobody '
            f'says; {REMEDY}'
        )
    try:
        return DepthOrigin(rectification_from_message(depth_info), T_color_depth)
    except GsPoseError as error:
        raise GsPoseError(f'the depth has another camera than colour, and its {error}') from error


def _is_identity(T: NDArray[np.float64]) -> bool:
    turn = np.abs(T[:3, :3] - np.eye(3)).max()
    return bool(np.abs(T[:3, 3]).max() < _SAME_M and turn < _SAME_RAD)


def _one_view(a: Any, b: Any) -> bool:
    """Whether the pictures of two camera_info end at the same rays, without distortion."""
    if not any(b.k):  # not calibrated: nothing against it
        return True
    with np.errstate(all='ignore'):  # what is no camera sends them nowhere, so elsewhere
        apart = (_ends(a) - _ends(b)) * [a.k[0], a.k[4]]
        return bool((np.abs(apart) < _SAME_PX).all())


def _ends(info: Any) -> NDArray[np.float64]:
    """x/z and y/z at the outlines left, top and right, below [2, 2]."""
    outline = np.array([[0, 0], [info.width, info.height]]) - 0.5
    return (outline - [info.k[2], info.k[5]]) / [info.k[0], info.k[4]]


def _described(info: Any) -> str:
    return f'{info.width}x{info.height} with fx = {info.k[0]:.6g}'
