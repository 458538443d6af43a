"""Registrations by the object database node from live topics, with poses of TF or of a board."""

from __future__ import annotations

import numpy as np
from tf2_msgs.msg import TFMessage

from gs_pose_ros.geometry import se3
from gs_pose_ros.msg import RegistrationProgress
from gs_pose_ros.nodes.runtime.conversions import transform_to_message
from gs_pose_ros.srv import RegisterObject
from test.nodes.conftest import World, header_at
from test.objects.drawn_board import CAMERA as BOARD_CAMERA
from test.objects.drawn_board import CHARUCO, draw_board, look_at_board

from .conftest import Fitting, ids, register


def test_registration_from_live_topics_takes_poses_from_tf(
    world: World, lists: list, fitting: Fitting
) -> None:
    request = RegisterObject.Request(
        object_id='can',
        source=RegisterObject.Request.SOURCE_TOPICS,
        object_frame='turntable',
        duration=2.0,
        max_views=5,
    )
    request.box_min.x = request.box_min.y = request.box_min.z = -0.06
    request.box_max.x = request.box_max.y = request.box_max.z = 0.06
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    answer = register(world, request)
    assert answer.accepted, answer.message
    T_cam_obj = se3.from_rotation_translation(np.eye(3), [0.0, 0.0, 0.5])

    color, depth = np.full((48, 64, 3), 60, np.uint8), np.full((48, 64), 0.6, np.float32)
    color[18:30, 26:38], depth[18:30, 26:38] = (200, 40, 40), 0.5

    def show() -> bool:
        stamp_ns = world.show(color, depth)
        transform = transform_to_message(header_at(stamp_ns), 'turntable', T_cam_obj)
        world.send('/tf', TFMessage(transforms=[transform]))
        return ids(lists[-1]) == ['can', 'mug']

    world.until(lambda: any(p.stage == 'reading' for p in progress), 'the recording')
    world.until(show, 'the new list', 20)
    assert len(fitting.views) == 5
    np.testing.assert_allclose(fitting.views[0].T_cam_obj, T_cam_obj, atol=1e-9)
    assert fitting.views[0].mask is not None
    assert fitting.views[0].mask[20:28, 28:36].all()
    assert fitting.views[0].mask.sum() < 20 * 20


def test_registration_from_live_topics_takes_poses_from_a_board(
    world: World, lists: list, fitting: Fitting
) -> None:
    request = RegisterObject.Request(
        object_id='can',
        source=RegisterObject.Request.SOURCE_TOPICS,
        board=RegisterObject.Request.BOARD_CHARUCO,
        board_columns=CHARUCO.columns,
        board_rows=CHARUCO.rows,
        board_square=CHARUCO.square_m,
        board_marker=CHARUCO.marker_m,
        board_dictionary=CHARUCO.dictionary,
        duration=2.0,
        max_views=3,
    )
    # A block of 5 cm stands in the middle of the board, seen from straight above.
    request.box_min.x = request.box_min.y = -0.03
    request.box_min.z = 0.01
    request.box_max.x = request.box_max.y = request.box_max.z = 0.06
    T_cam_board = look_at_board(0.0, 0.3, 0.6)
    color, depth = draw_board(CHARUCO, T_cam_board), np.full((480, 640), 0.6, np.float32)
    block = np.s_[215:257, 301:343]
    color[block], depth[block] = (200, 40, 40), 0.55
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    answer = register(world, request)
    assert answer.accepted, answer.message

    def show() -> bool:
        world.show(color, depth, BOARD_CAMERA)
        return ids(lists[-1]) == ['can', 'mug']

    world.until(lambda: any(p.stage == 'reading' for p in progress), 'the recording')
    world.until(show, 'the new list', 20)
    assert len(fitting.views) == 3
    view = fitting.views[0]
    np.testing.assert_allclose(view.T_cam_obj, T_cam_board, atol=0.005)
    assert view.mask is not None
    assert view.mask[220:250, 310:335].all()
    assert view.mask.sum() < 60 * 60


def test_registration_without_live_images_says_what_is_missing(world: World, lists: list) -> None:
    progress = world.listen(RegistrationProgress, 'object_database/progress')
    request = RegisterObject.Request(
        object_id='can',
        source=RegisterObject.Request.SOURCE_TOPICS,
        object_frame='turntable',
        duration=0.5,
    )
    request.box_max.x = request.box_max.y = request.box_max.z = 0.1
    assert register(world, request).accepted
    world.until(lambda: progress and progress[-1].state == RegistrationProgress.STATE_FAILED, 'it')
    assert 'no images' in progress[-1].message
