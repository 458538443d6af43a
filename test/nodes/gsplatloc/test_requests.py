"""Requests to the localizer node: relocalize, pause and resume, and others meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from std_srvs.srv import Trigger

from gs_pose_ros.msg import CameraLocalization
from gs_pose_ros.nodes.gsplatloc import LocalizerNode
from gs_pose_ros.nodes.runtime.conversions import pose_to_message
from gs_pose_ros.recording.frame_decoding import pose_from_message
from gs_pose_ros.srv import Relocalize, SaveMap
from test.localization.room import moved, pose_error, view
from test.nodes.conftest import World
from test.synthetic import Pose

from .conftest import FOUND, HERE, LOST, OK, OUTSIDE, show_frame, show_until


def test_relocalize_near_a_pose_or_from_nothing(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    show_until(world, statuses, HERE, OK)
    there = moved(HERE, 5, 0.1)
    show_until(world, statuses, there, *FOUND)  # a request is answered by the images that follow
    request = Relocalize.Request(near=True, pose=pose_to_message(moved(there, 2, 0.05, 1)))
    answer = asked(world, request, there)
    assert answer.success, answer.message
    assert pose_error(pose_from_message(answer.pose.pose), there)[1] < 5
    assert answer.pose.header.frame_id == 'map'
    assert asked(world, Relocalize.Request(), there).success
    show_until(world, statuses, OUTSIDE, LOST)
    nowhere = asked(world, Relocalize.Request(timeout=1.0), OUTSIDE)
    assert not nowhere.success
    assert nowhere.message
    broken = Relocalize.Request(near=True)
    broken.pose.orientation.w = 7.0
    assert 'not a pose' in world.call(Relocalize, 'gsplatloc/relocalize', broken).message


def test_relocalize_refuses_what_is_no_time_or_no_pose(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    for timeout in (float('inf'), float('nan'), -1.0, 1e300):
        request = Relocalize.Request(timeout=timeout)
        answer = world.call(Relocalize, 'gsplatloc/relocalize', request)
        assert not answer.success
        assert f'timeout is {timeout:g} s, not within 0 to 600' in answer.message
    for value in (float('nan'), float('-inf'), 1e300):
        request = Relocalize.Request(near=True)
        request.pose.orientation.w, request.pose.position.y = 1.0, value
        answer = world.call(Relocalize, 'gsplatloc/relocalize', request)
        assert 'not a pose' in answer.message
    show_until(world, statuses, HERE, OK)
    assert asked(world, Relocalize.Request(), HERE).success


@pytest.mark.parametrize('how', ['paused', 'not active'])
def test_others_are_answered_while_relocalize_waits_and_may_end_it(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path, how: str
) -> None:
    node = start()
    show_until(world, statuses, HERE, OK)
    client = world.node.create_client(Relocalize, 'gsplatloc/relocalize')
    assert client.wait_for_service(10)
    waiting = client.call_async(Relocalize.Request(timeout=600.0))  # no image comes meanwhile
    world.until(lambda: node._wish is not None, 'the request')
    request = SaveMap.Request(path=str(maps / 'copy'))
    assert world.call(SaveMap, 'gsplatloc/save_map', request).success
    assert not waiting.done()
    if how == 'paused':
        assert world.call(Trigger, 'gsplatloc/pause', Trigger.Request()).success
    else:
        node.trigger_deactivate()
    world.until(waiting.done, 'the answer')
    answer = waiting.result()
    assert answer is not None
    assert not answer.success
    assert how in answer.message


def asked(world: World, request: Relocalize.Request, T_map_cam: Pose) -> Any:
    """The answer, while the camera goes on."""
    client = world.node.create_client(Relocalize, 'gsplatloc/relocalize')
    assert client.wait_for_service(10)
    future, frame = client.call_async(request), view(T_map_cam)
    deadline = time.monotonic() + 30  # for failures alone: 200 images may take less than a timeout
    while not future.done():
        assert time.monotonic() < deadline, 'no answer'
        show_frame(world, frame)
    return future.result()


def test_pause_and_resume(
    world: World, statuses: list, start: Callable[..., LocalizerNode]
) -> None:
    start()
    show_until(world, statuses, HERE, OK)
    assert world.call(Trigger, 'gsplatloc/pause', Trigger.Request()).success
    assert not world.call(Trigger, 'gsplatloc/pause', Trigger.Request()).success
    show_until(world, statuses, HERE, CameraLocalization.STATUS_PAUSED)
    answer = world.call(Relocalize, 'gsplatloc/relocalize', Relocalize.Request())
    assert 'paused' in answer.message
    assert world.call(Trigger, 'gsplatloc/resume', Trigger.Request()).success
    assert show_until(world, statuses, HERE, *FOUND).status == OK
