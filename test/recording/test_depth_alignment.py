"""Depth that is not registered to colour is refused, or registered where that is possible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.recording.bag_writing import camera_info, image
from gs_pose_ros.recording.frame_decoding import frame_from_messages
from gs_pose_ros.recording.transform_tree import TransformTree

CAMERA = Camera(60.0, 60.0, 31.5, 23.5, 64, 48)
WIDE = Camera(40.0, 40.0, 31.5, 23.5, 64, 48)
HALF = CAMERA.scaled(0.5)
STAMP = 10**9
T_COLOR_DEPTH = se3.from_rotation_translation(np.eye(3), [0.05, 0, 0])


def pictures(camera: Camera, frame_id: str, own: str = 'color') -> tuple[Any, Any, Any]:
    """Colour with a dark right half, what `camera` sees 1 m ahead (the middle 2 m), its info."""
    color = image(np.full((48, 64, 3), 90, np.uint8), 'rgb8', STAMP)
    depth = np.full(camera.shape, 1000, np.uint16)
    depth[:, camera.width // 2 :] = 2000
    msg, info = image(depth, '16UC1', STAMP), camera_info(STAMP, camera)
    color.header.frame_id, msg.header.frame_id = own, frame_id
    return color, msg, info


def tree(T: np.ndarray = T_COLOR_DEPTH) -> TransformTree:
    out = TransformTree()
    out.set('color', 'depth', T, STAMP)
    return out


def test_depth_in_another_frame_is_refused_with_both_names_and_a_remedy() -> None:
    color, depth, info = pictures(WIDE, 'depth')
    words = "depth is in the frame 'depth', colour in 'color'; .*align_depth.enable"
    for depth_info, lookup in ((None, None), (info, None), (None, tree().lookup)):
        with pytest.raises(GsPoseError, match=words):
            frame_from_messages(
                color, camera_info(STAMP, CAMERA), depth, False, depth_info, lookup
            )
    empty = TransformTree()
    with pytest.raises(GsPoseError, match="TF does not join them: frame 'color' does not exist"):
        frame_from_messages(color, camera_info(STAMP, CAMERA), depth, False, info, empty.lookup)


def test_depth_of_another_camera_is_registered_with_its_info_and_tf() -> None:
    color, depth, info = pictures(WIDE, 'depth')
    frame = frame_from_messages(
        color, camera_info(STAMP, CAMERA), depth, False, info, tree().lookup
    )
    assert frame.camera == CAMERA
    assert frame.depth is not None
    # The edge is at x/z = 0: 0.05 m beside and 1 m away of the colour camera, 3 px.
    assert (frame.depth[:, :34] == 1).all()
    assert (frame.depth[:, 37:] == 2).all()


@pytest.mark.parametrize(('own', 'other'), [('', 'depth'), ('color', ''), ('color', '/color')])
def test_frames_without_a_name_and_slashes_say_nothing(own: str, other: str) -> None:
    color, depth, _ = pictures(CAMERA, other, own)
    frame = frame_from_messages(color, camera_info(STAMP, CAMERA), depth)
    assert frame.depth is not None
    assert (frame.depth[:, :32] == 1).all()


def test_another_name_for_the_same_place_and_camera_is_fine() -> None:
    color, depth, info = pictures(CAMERA, 'depth')
    lookup = tree(np.eye(4)).lookup
    frame = frame_from_messages(color, camera_info(STAMP, CAMERA), depth, False, info, lookup)
    assert frame.depth is not None
    assert (frame.depth[:, :32] == 1).all()
    assert (frame.depth[:, 32:] == 2).all()


def test_another_camera_in_the_same_frame_is_refused() -> None:
    color, depth, info = pictures(WIDE, 'color')
    words = "64x48 with fx = 40 and colour 64x48 with fx = 60, in one frame 'color'"
    with pytest.raises(GsPoseError, match=words):
        frame_from_messages(color, camera_info(STAMP, CAMERA), depth, False, info)


def test_smaller_depth_of_the_same_view_is_enlarged_if_its_info_says_so() -> None:
    color, depth, info = pictures(HALF, 'color')
    frame = frame_from_messages(color, camera_info(STAMP, CAMERA), depth, False, info)
    assert frame.depth is not None
    assert (frame.depth[:, :32] == 1).all()
    assert (frame.depth[:, 32:] == 2).all()
    with pytest.raises(GsPoseError, match=r'depth image is 32x24.*64x48; depth has to be regis'):
        frame_from_messages(color, camera_info(STAMP, CAMERA), depth)


def test_a_depth_camera_that_is_not_calibrated_is_named() -> None:
    color, depth, info = pictures(WIDE, 'depth')
    info.k[:] = 0
    with pytest.raises(GsPoseError, match='depth has another camera.*camera_info: K is all zeros'):
        frame_from_messages(color, camera_info(STAMP, CAMERA), depth, False, info, tree().lookup)


def test_depth_in_the_place_of_colour_needs_no_camera_info_of_its_own() -> None:
    color, depth, _ = pictures(CAMERA, 'depth')
    info, lookup = camera_info(STAMP, CAMERA), tree(np.eye(4)).lookup
    frame = frame_from_messages(color, info, depth, transform_at=lookup)
    assert frame.depth is not None
    assert (frame.depth[:, :32] == 1).all()


def test_depth_without_the_distortion_of_colour_is_not_undistorted_again() -> None:
    color, depth, depth_info = pictures(CAMERA, 'color')
    rows, columns = np.mgrid[:48, :64]
    depth = image((1000 + 10 * columns + rows).astype(np.uint16), '16UC1', STAMP)
    depth.header.frame_id = 'color'
    info = camera_info(STAMP, CAMERA)
    info.d = np.array([-0.3, 0.1, 0, 0, 0])
    frame = frame_from_messages(color, info, depth, False, depth_info)
    assert frame.camera == CAMERA  # its P
    assert frame.depth is not None
    np.testing.assert_allclose(frame.depth, 1e-3 * (1000 + 10 * columns + rows), rtol=1e-6)
