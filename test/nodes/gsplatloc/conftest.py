"""The localizer node in a ray-cast room, and the pictures that a camera sends from there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.map_store import StoredMap, save_map
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer
from gs_pose_ros.msg import CameraLocalization
from gs_pose_ros.nodes.gsplatloc import LocalizerNode
from gs_pose_ros.recording.frame_decoding import stamp_to_ns
from test.localization.room import CAMERA, EYES, camera_pose, scene_map, view
from test.nodes.conftest import World
from test.synthetic import Pose

OK, LOST = CameraLocalization.STATUS_OK, CameraLocalization.STATUS_LOST
FOUND = (OK, CameraLocalization.STATUS_RELOCALIZED)
# /tf is one for all tests that run at the same time.
ODOM, LINK = f'odom_{os.getpid()}', f'camera_link_{os.getpid()}'
HERE = camera_pose((-0.9, 0.1, 1.2))
OUTSIDE = camera_pose((-1.0, 0.0, 1.2), np.array([-8.0, 0.0, 1.0]))  # the other wall
STEP = se3.exp([0.01, -0.005, 0.01, 0.002, -0.01, 0.004])


@cache
def stored_map() -> StoredMap:
    large = CAMERA.scaled(2)
    frames = [(view(camera_pose(eye), large), camera_pose(eye)) for eye in EYES]
    return StoredMap(scene_map(0.02), KeyframeRelocalizer.of(frames))


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    save_map(tmp_path / 'room', stored_map())
    return tmp_path


@pytest.fixture
def statuses(world: World) -> list[CameraLocalization]:
    return world.listen(CameraLocalization, 'gsplatloc/status')


@pytest.fixture
def start(world: World, maps: Path) -> Callable[..., LocalizerNode]:
    def make(**parameters: Any) -> LocalizerNode:
        parameters = {'map': str(maps / 'room'), 'odom_frame': '', **parameters}
        parameters['allowed_roots'] = [str(maps)]
        return world.add(LocalizerNode, parameters=parameters)  # pyright: ignore[reportReturnType]

    return make


def show(world: World, T_map_cam: Pose, **changes: Any) -> int:
    """One picture of the room."""
    return show_frame(world, view(T_map_cam), **changes)


def show_frame(world: World, frame: RGBDFrame, **changes: Any) -> int:
    picture = {'color': np.round(255 * frame.color).astype(np.uint8), 'depth': frame.depth}
    return world.show(**{**picture, 'camera': CAMERA, **changes})


def show_until(
    world: World, statuses: list[CameraLocalization], T_map_cam: Pose, *wanted: int, **changes: Any
) -> CameraLocalization:
    """The same picture again and again; the first status of those wanted."""
    frame, before, first_ns = view(T_map_cam), len(statuses), 0
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        stamp_ns = show_frame(world, frame, **changes)
        first_ns = first_ns or stamp_ns  # what was shown before may be answered only now
        world.until(lambda ns=stamp_ns: newest(statuses) >= ns, 'a status of that image')
        for msg in statuses[before:]:
            if msg.status in wanted and stamp_to_ns(msg.header.stamp) >= first_ns:
                return msg
    said = [(msg.status, msg.reason) for msg in statuses[before:]]
    raise AssertionError(f'in vain for {wanted}: {said}')


def newest(statuses: list[CameraLocalization]) -> int:
    return stamp_to_ns(statuses[-1].header.stamp) if statuses else 0
