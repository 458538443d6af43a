"""Every colour image becomes a frame or is counted, with the reason."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.recording.bag_writing import camera_info, image, transform, write_bag
from gs_pose_ros.recording.bags import read_bag_frames, read_frames
from gs_pose_ros.recording.camera_topics import BagInput
from gs_pose_ros.recording.joining import NO_STAMPS
from gs_pose_ros.recording.map_source import MapSource
from gs_pose_ros.recording.registration_source import RegistrationSource
from test.recording.small_bags import (
    CAMERA,
    COLOR,
    COUNT,
    DEPTH,
    FRAME,
    INFO,
    Messages,
    changed,
    color,
    depth,
    info,
    moved,
    of_frame,
    recording,
    stamp_of,
)

MS = 1_000_000
BOX = np.array([[-0.3, -0.3, 0.9], [0.3, 0.3, 1.1]])


def read(path: Path, messages: Messages, tolerance: float = 0.0) -> tuple[list[int], Counter[str]]:
    """The numbers of the frames in a bag of these messages, and why others are left out."""
    write_bag(path / 'bag', messages)
    reasons: Counter[str] = Counter()
    frames = read_bag_frames(
        path / 'bag',
        wanted=BagInput(stamp_tolerance=tolerance),
        left_out=lambda _, reason: reasons.update([reason]),
    )
    return [round((f.frame.stamp_ns - stamp_of(0)) / (50 * MS)) for f in frames], reasons


def test_all_join_where_all_is_there(tmp_path: Path) -> None:
    assert read(tmp_path, recording()) == (list(range(COUNT)), Counter())


@pytest.mark.parametrize('kept', [0, 3, 5])
def test_a_camera_info_that_comes_once_holds_for_all(tmp_path: Path, kept: int) -> None:
    messages = changed(recording(), INFO, lambda k, msg: msg if k == kept else None)
    assert read(tmp_path, messages) == (list(range(COUNT)), Counter())


def test_a_camera_info_with_stamps_of_its_own_holds_for_all(tmp_path: Path) -> None:
    messages = changed(recording(), INFO, lambda _, msg: moved(msg, 7 * MS))
    assert read(tmp_path, messages) == (list(range(COUNT)), Counter())


def test_a_camera_info_that_changes_holds_for_its_own_images_only(tmp_path: Path) -> None:
    zoomed = Camera(30.0, 30.0, 7.5, 5.5, 16, 12)

    def change(k: int, _: Any) -> Any:
        return None if k in (1, 4) else info(stamp_of(k), zoomed if k > 2 else CAMERA)

    write_bag(tmp_path / 'bag', changed(recording(), INFO, change))
    reasons: Counter[str] = Counter()
    frames = read_bag_frames(tmp_path / 'bag', left_out=lambda _, reason: reasons.update([reason]))
    focal = {round((f.frame.stamp_ns - stamp_of(0)) / 5e7): f.frame.camera.fx for f in frames}
    assert {k: focal[k] for k in (0, 2, 3, 5)} == {0: 20, 2: 20, 3: 30, 5: 30}
    assert 4 not in focal
    assert any('no message on /camera/camera/color/camera_info has its st' in r for r in reasons)


def test_a_camera_info_behind_its_image_is_waited_for(tmp_path: Path) -> None:
    """A zoom lens: the camera_info comes last, and the one before holds no more."""
    out: Messages = []
    for k in range(COUNT):
        camera = Camera(20.0 + k, 20.0, 7.5, 5.5, 16, 12)
        out += [
            (stamp_of(k), COLOR, color(k)),
            (stamp_of(k), DEPTH, depth(k)),
            (stamp_of(k), INFO, info(stamp_of(k), camera)),
        ]
    write_bag(tmp_path / 'bag', out)
    assert [f.camera.fx for f in read_frames(tmp_path / 'bag')] == [20 + k for k in range(COUNT)]


def test_images_without_depth_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = changed(recording(), DEPTH, lambda k, msg: None if k % 2 else msg)
    numbers, reasons = read(tmp_path, messages)
    assert numbers == [0, 2, 4]
    assert reasons == {f'no image on {DEPTH} has its stamp': 3}
    with caplog.at_level(logging.WARNING):
        assert len(list(read_frames(tmp_path / 'bag'))) == 3
    assert '3 images were left out: 3: no image on' in caplog.text


def test_stamps_that_never_agree_are_said_with_how_near_they_come(tmp_path: Path) -> None:
    messages = changed(recording(), DEPTH, lambda _, msg: moved(msg, MS))
    words = (
        f'bag: the stamps of {COLOR}, {DEPTH}, {INFO} are never equal; the nearest are 1.000 ms'
    )
    with pytest.raises(GsPoseError, match=words) as caught:
        read(tmp_path, messages)
    assert '--stamp-tolerance' in str(caught.value)


@pytest.mark.parametrize('shift_ms', [-20, -1, 1, 20])
def test_a_tolerance_joins_the_nearest(tmp_path: Path, shift_ms: int) -> None:
    messages = changed(recording(), DEPTH, lambda _, msg: moved(msg, shift_ms * MS))
    write_bag(tmp_path / 'bag', messages)
    frames = list(read_frames(tmp_path / 'bag', stamp_tolerance=0.024))
    assert [frame.stamp_ns for frame in frames] == [stamp_of(k) for k in range(COUNT)]
    for k, frame in enumerate(frames):
        assert frame.depth is not None
        np.testing.assert_allclose(frame.depth, 1 + 0.01 * k, atol=1e-6)


def test_what_is_beyond_the_tolerance_stays_out(tmp_path: Path) -> None:
    messages = changed(recording(), DEPTH, lambda k, msg: moved(msg, (2 + 20 * (k > 3)) * MS))
    numbers, reasons = read(tmp_path, messages, 0.005)
    assert numbers == [0, 1, 2, 3]
    assert reasons == {f'no image on {DEPTH} has its stamp within 0.005 s': 2}


def stamped(msg: Any, sec: int, nanosec: int) -> Any:
    msg.header.stamp.sec, msg.header.stamp.nanosec = sec, nanosec
    return msg


def test_images_without_stamps_are_refused(tmp_path: Path) -> None:
    messages = recording()
    for topic in (COLOR, INFO, DEPTH):
        messages = changed(messages, topic, lambda _, msg: stamped(msg, 0, 0))
    with pytest.raises(GsPoseError, match=f'bag: {COLOR}: {NO_STAMPS}'):
        read(tmp_path, messages)


def test_depth_without_stamps_is_refused(tmp_path: Path) -> None:
    messages = changed(recording(), DEPTH, lambda _, msg: stamped(msg, 0, 0))
    with pytest.raises(GsPoseError, match=f'bag: {DEPTH}: {NO_STAMPS}'):
        read(tmp_path, messages)


def test_single_stamps_that_are_no_times_are_counted(tmp_path: Path) -> None:
    bad = {0: (0, 0), 2: (-5, 0), 4: (5, 2 * 10**9)}
    messages = changed(
        recording(), COLOR, lambda k, msg: stamped(msg, *bad[k]) if k in bad else msg
    )
    numbers, reasons = read(tmp_path, messages)
    assert numbers == [1, 3, 5]
    assert reasons == {
        NO_STAMPS: 1,
        'the stamp of -5 s and 0 ns is no time': 1,
        'the stamp of 5 s and 2000000000 ns is no time': 1,
    }


def test_stamps_that_jump_back_are_refused(tmp_path: Path) -> None:
    again = [(at + 10**9, topic, moved(msg, -2 * 10**9)) for at, topic, msg in camera_only()]
    with pytest.raises(GsPoseError, match=rf'bag: the stamps of {COLOR} jump back by 2\.250 s at'):
        read(tmp_path, [*recording(), *again])


def camera_only() -> Messages:
    return [item for item in recording() if item[1] != '/tf']


def test_a_message_that_cannot_be_used_is_named_with_bag_topic_and_time(tmp_path: Path) -> None:
    def change(k: int, msg: Any) -> Any:
        return of_frame(msg, 'elsewhere') if k == 2 else msg

    words = rf"bag: {COLOR} at 5\.100 s: depth is in the frame 'elsewhere', colour in '{FRAME}'"
    with pytest.raises(GsPoseError, match=words):
        read(tmp_path, changed(recording(), DEPTH, change))


# --- Depth beside colour ------------------------------------------------------------------------

WIDE = Camera(14.0, 14.0, 7.5, 5.5, 16, 12)
T_COLOR_DEPTH = se3.from_rotation_translation(np.eye(3), [0.1, 0, 0])


def beside(with_tf: bool) -> Messages:
    """Depth of its own camera."""
    topic = '/camera/camera/depth/image_rect_raw'
    out = recording(depth_topic=topic)
    for k in range(COUNT):
        own = of_frame(camera_info(stamp_of(k), WIDE), 'depth_optical')
        out.append((stamp_of(k), '/camera/camera/depth/camera_info', own))
    out = changed(out, topic, lambda _, msg: of_frame(msg, 'depth_optical'))
    if with_tf:
        static = transform(0, T_COLOR_DEPTH, FRAME, 'depth_optical')
        out.insert(0, (stamp_of(0), '/tf_static', static))
    return out


def test_depth_beside_colour_is_registered_by_tf(tmp_path: Path) -> None:
    write_bag(tmp_path / 'bag', beside(True))
    frames = list(read_frames(tmp_path / 'bag'))
    assert len(frames) == COUNT
    depth_map = frames[0].depth
    assert depth_map is not None
    # The depth camera's left edge is at x = 0.1 - 8 / 14 m, 1 m away: column 7.5 - 9.4.
    assert (depth_map == 1).all()
    posed = list(MapSource('bag', tmp_path / 'bag', map_frame='world').frames())
    assert len(posed) == COUNT


def test_depth_beside_colour_is_refused_without_tf(tmp_path: Path) -> None:
    words = f"depth is in the frame 'depth_optical', colour in '{FRAME}', and TF does not join"
    with pytest.raises(GsPoseError, match=words):
        read(tmp_path, beside(False))


# --- What registrations and maps say ------------------------------------------------------------


def test_a_registration_says_what_it_went_without(tmp_path: Path) -> None:
    messages = changed(recording(), DEPTH, lambda k, msg: None if k == 1 else msg)
    write_bag(tmp_path / 'some', messages)
    write_bag(tmp_path / 'none', changed(messages, DEPTH, lambda *_: None))
    source = {'box': BOX, 'object_frame': 'world'}
    some = RegistrationSource('bag', tmp_path / 'some', **source).views()
    assert some.notes == (f'1 images were left out: 1: no image on {DEPTH} has its stamp',)
    none = RegistrationSource('bag', tmp_path / 'none', **source)
    notes = none._recorded(tmp_path / 'none', None, said := [])
    assert len(notes) == COUNT
    assert said[0].startswith(f'no depth beside {COLOR}: the object is registered without')
    without = RegistrationSource('bag', tmp_path / 'some', use_depth=False, **source)
    assert len(without._recorded(tmp_path / 'some', None, said := [])) == COUNT
    assert said == []


def test_a_map_counts_what_is_left_out(tmp_path: Path) -> None:
    messages = changed(recording(), DEPTH, lambda k, msg: None if k == 1 else msg)
    write_bag(tmp_path / 'bag', messages)
    reasons: Counter[str] = Counter()
    frames = MapSource('bag', tmp_path / 'bag', map_frame='world').frames(
        left_out=lambda _, reason: reasons.update([reason])
    )
    assert len(list(frames)) == COUNT - 1
    assert reasons.total() == 1


def test_rectified_images_are_not_undistorted_again(tmp_path: Path) -> None:
    distorted = info(stamp_of(0))
    distorted.d = np.array([0.2, 0.1, 0.0, 0.0, 0.0])
    messages = [
        (stamp_of(0), '/cam/image_rect', color(0)),
        (stamp_of(0), '/cam/camera_info', distorted),
        (stamp_of(0), '/cam/depth_registered', depth(0)),
    ]
    write_bag(tmp_path / 'bag', messages)
    frame = next(read_frames(tmp_path / 'bag'))
    assert (frame.color == frame.color[0, 0]).all()  # remapped, it would have a black border
    assert frame.camera == CAMERA


def test_rectified_depth_of_a_raw_colour_image_is_not_undistorted_again(tmp_path: Path) -> None:
    distorted = info(stamp_of(0))
    distorted.d = np.array([-0.2, 0.1, 0.0, 0.0, 0.0])
    pixels = (1000 + np.arange(12 * 16).reshape(12, 16)).astype(np.uint16)
    flat = of_frame(image(pixels, '16UC1', stamp_of(0)))
    messages = [
        (stamp_of(0), '/cam/rgb/image_raw', color(0)),
        (stamp_of(0), '/cam/rgb/camera_info', distorted),
        (stamp_of(0), '/cam/depth_registered/image_rect', flat),
    ]
    write_bag(tmp_path / 'bag', messages)
    frame = next(read_frames(tmp_path / 'bag'))
    assert frame.depth is not None
    np.testing.assert_allclose(frame.depth, 1e-3 * pixels, rtol=1e-6)
