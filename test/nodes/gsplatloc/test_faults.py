"""Faults of the localizer node's input: each has a status and a reason, and ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped

from gs_pose_ros.msg import CameraLocalization
from gs_pose_ros.nodes.gsplatloc import LocalizerNode
from gs_pose_ros.recording.frame_decoding import pose_from_message
from test.localization.room import CAMERA, moved, pose_error, view
from test.nodes.conftest import World

from .conftest import FOUND, HERE, LOST, OK, OUTSIDE, show_until

BLACK = np.zeros((*CAMERA.shape, 3), np.uint8)
BLANK = np.zeros(CAMERA.shape, np.float32)
FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    'zero depth': ({'depth': BLANK}, LOST, 'no valid pixel'),
    'NaN depth': ({'depth': BLANK * np.nan}, LOST, 'no valid pixel'),
    'covered lens': ({'color': BLACK, 'depth': BLANK}, LOST, 'no valid pixel'),
    'hand before the lens': ({'color': BLACK, 'depth': BLANK + 0.12}, LOST, 'the map'),
    'millimetres as 32FC1': (
        {'depth': 1000 * np.asarray(view(HERE).depth)},
        CameraLocalization.STATUS_BAD_INPUT,
        '32FC1 in metres',
    ),
    'metres as 16UC1': (
        {'depth': np.round(np.asarray(view(HERE).depth)).astype(np.uint16)},
        CameraLocalization.STATUS_BAD_INPUT,
        '16UC1 has to be in millimetres',
    ),
    'another camera': (
        {'camera': CAMERA.scaled(0.5)},
        CameraLocalization.STATUS_BAD_INPUT,
        'camera_info says 80x60',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_has_a_reason_and_passes(
    world: World, statuses: list, start: Callable[..., LocalizerNode], fault: str
) -> None:
    changes, status, reason = FAULTS[fault]
    start()
    poses = world.listen(PoseStamped, 'gsplatloc/pose')
    show_until(world, statuses, HERE, OK)
    world.until(lambda: len(poses) >= 2, 'poses')
    count = len(poses)
    for _ in range(3):
        msg = show_until(world, statuses, HERE, *FOUND, LOST, status, **changes)
        assert msg.status == status
        assert reason in msg.reason
    assert len(poses) == count  # none is invented
    assert show_until(world, statuses, HERE, *FOUND).status in FOUND


def test_outside_of_the_map_it_is_lost_and_comes_back(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    show_until(world, statuses, HERE, *FOUND)
    lost = show_until(world, statuses, OUTSIDE, *FOUND, LOST)
    assert lost.status == LOST
    assert lost.reason
    back = show_until(world, statuses, moved(HERE, 3, 0.05), *FOUND)
    assert pose_error(pose_from_message(back.pose), moved(HERE, 3, 0.05))[1] < 10


def test_it_needs_depth(world: World, start: Callable[..., LocalizerNode]) -> None:
    node = start(**{'input.use_depth': False})
    assert not node.active
    assert 'use_depth' in node._faults['lifecycle']


class Broken:
    """A localizer with a bug."""

    def refine(self, *_: Any) -> Any:
        raise ZeroDivisionError('a bug')


def test_a_bug_is_a_status_not_an_end(world: World, statuses: list, maps: Path) -> None:
    parameters = {'map': str(maps / 'room'), 'odom_frame': ''}
    world.add(LocalizerNode, parameters=parameters, localizer=Broken())
    for _ in range(2):
        msg = show_until(world, statuses, HERE, CameraLocalization.STATUS_ERROR)
        assert 'a bug' in msg.reason
