"""Camera topics that join, those that do not and why, over real DDS."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import camera_to_message
from gs_pose_ros.nodes.runtime.frame_input import FrameInput, ImageSet, InputSettings
from gs_pose_ros.nodes.runtime.stage import Stage, StageSettings
from gs_pose_ros.recording.joining import NO_STAMPS
from test.fakes import CAMERA
from test.nodes.conftest import World, header_at, image_message

BAD = ObjectPoseArray.STATUS_BAD_INPUT
MS = 1_000_000
COLOR, INFO, DEPTH = 'color/image', 'color/camera_info', 'depth/image'


@dataclass(frozen=True)
class ListenerSettings(StageSettings):
    input: InputSettings = field(default_factory=InputSettings)


class Listener(Stage[ListenerSettings]):
    """Keeps what joins."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('listener', ListenerSettings(), **kwargs)

    def activate(self) -> None:
        self.got: list[ImageSet] = []
        self.jumps = 0
        self._input = FrameInput(self, self.settings.input, self.got.append, self._on_jump)
        self.while_active.callback(self._input.close)

    def _on_jump(self) -> None:
        self.jumps += 1


@pytest.fixture
def listen(world: World) -> Callable[..., Listener]:
    def make(**parameters: Any) -> Listener:
        given = {f'input.{name}': value for name, value in parameters.items()}
        stage = world.add(Listener, parameters=given)
        assert isinstance(stage, Listener)
        return stage

    return make


def color(stamp_ns: int = 0, stamp: Time | None = None) -> Image:
    msg = image_message(np.full((48, 64, 3), 90, np.uint8), 'rgb8', max(0, stamp_ns))
    if stamp is not None:
        msg.header.stamp = stamp
    return msg


def depth(stamp_ns: int, frame_id: str = 'camera') -> Image:
    return image_message(np.full((48, 64), 700, np.uint16), '16UC1', stamp_ns, frame_id)


def info(stamp_ns: int, fx: float = 60.0) -> CameraInfo:
    msg = camera_to_message(CAMERA, header_at(stamp_ns))
    msg.k[0] = fx
    return msg


def stamp(k: int) -> int:
    return 10**9 + k * 33 * MS


def reason_of(world: World, stage: Listener, words: str) -> int:
    """The status that comes with these words, which have to come."""
    said: list[tuple[int, str]] = []

    def heard() -> bool:
        said.append(stage._input.problem())
        return words in said[-1][1]

    world.until(heard, words)
    return said[-1][0]


def test_a_camera_info_that_comes_once_holds_for_all_images(
    world: World, listen: Callable[..., Listener]
) -> None:
    stage = listen()
    world.send(INFO, info(stamp(0)))
    world.show_until(lambda: len(stage.got) >= 5, 'images', with_info=False)
    last = stage.got[-1]
    assert last.info.header.stamp == last.color.header.stamp
    assert last.frame(InputSettings()).camera == CAMERA


def test_a_camera_info_that_changes_holds_for_its_own_image_only(
    world: World, listen: Callable[..., Listener]
) -> None:
    stage = listen()
    world.send(INFO, info(stamp(0)))
    world.send(INFO, info(stamp(0) + 1, 70.0))
    for _ in range(15):
        last = world.show(with_info=False)
    world.send(INFO, info(last + 33 * MS, 80.0))
    world.send(DEPTH, depth(last + 33 * MS))
    world.send(COLOR, color(last + 33 * MS))
    world.until(lambda: stage.got, 'the image with its own')
    assert [images.stamp_ns for images in stage.got] == [last + 33 * MS]
    assert stage.got[0].info.k[0] == 80.0


def test_stamps_that_differ_are_said_and_may_be_allowed(
    world: World, listen: Callable[..., Listener]
) -> None:
    exact, near = listen(), None
    for k in range(8):
        world.send(COLOR, color(stamp(k)))
        world.send(INFO, info(stamp(k)))
        world.send(DEPTH, depth(stamp(k) + MS))
    assert reason_of(world, exact, 'are never equal') == BAD
    said = exact._input.problem()[1]
    assert 'the nearest are 1.000 ms apart: input.stamp_tolerance' in said
    world.remove(exact)
    near = listen(stamp_tolerance=0.005)
    for k in range(8, 12):
        world.send(COLOR, color(stamp(k)))
        world.send(INFO, info(stamp(k)))
        world.send(DEPTH, depth(stamp(k) + MS))
    world.until(lambda: len(near.got) == 4, 'what is 1 ms apart')


def test_images_without_stamps_are_dropped_and_said(
    world: World, listen: Callable[..., Listener]
) -> None:
    stage = listen()
    for _ in range(5):
        world.send(COLOR, color(0))
        world.send(INFO, info(0))
        world.send(DEPTH, depth(0))
    world.until(lambda: stage._input.dropped == 10, 'what is dropped')
    assert reason_of(world, stage, NO_STAMPS) in (BAD, ObjectPoseArray.STATUS_UNKNOWN)
    assert stage.got == []
    assert stage._input.facts()['dropped'] == '10'


@pytest.mark.parametrize(
    'bad', [Time(sec=-5, nanosec=0), Time(sec=3, nanosec=4_000_000_000)], ids=['before', 'nanosec']
)
def test_a_stamp_that_is_no_time_ends_nothing(
    world: World, listen: Callable[..., Listener], bad: Time
) -> None:
    stage = listen()
    world.send(COLOR, color(stamp=bad))
    world.until(lambda: stage._input.dropped == 1, 'that it is dropped')
    status, reason = stage._input.problem()
    assert status == ObjectPoseArray.STATUS_UNKNOWN
    assert f'the stamp of {bad.sec} s and {bad.nanosec} ns is no time (1 dropped)' in reason
    assert '/color/image' in reason
    shown = world.show()
    world.until(lambda: stage.got, 'the next image')
    assert stage.got[0].stamp_ns == shown
    assert stage._input.problem()[1] == ''


def test_depth_of_another_frame_is_refused_as_in_a_bag() -> None:
    images = ImageSet(color(stamp(0)), info(stamp(0)), depth(stamp(0), 'depth'))
    with pytest.raises(GsPoseError, match="depth is in the frame 'depth', colour in 'camera'; de"):
        images.frame(InputSettings())


@pytest.mark.parametrize(
    ('topic', 'flat'), [('/depth_registered/image_rect', True), ('/depth_registered/image', False)]
)
def test_depth_that_is_rectified_alone_is_not_undistorted_again(topic: str, flat: bool) -> None:
    """As the register node of depth_image_proc makes it, and as a bag has it."""
    told = info(stamp(0))
    told.d, told.distortion_model = [-0.3, 0.1, 0.0, 0.0, 0.0], 'plumb_bob'
    slope = depth(stamp(0))
    slope.data = array('B', np.tile(np.arange(500, 564, dtype=np.uint16), (48, 1)).tobytes())
    images = ImageSet(color(stamp(0)), told, slope, '/color/image_raw', topic)
    found = images.frame(InputSettings()).depth
    assert found is not None
    expected = np.tile(np.arange(0.500, 0.564, 0.001, np.float32), (48, 1))
    assert np.allclose(found, expected, atol=1e-6) == flat
