"""Maps of the localizer node: loaded, saved and built while it runs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from gs_pose_ros.localization.map_store import StoredMap, load_map, save_map
from gs_pose_ros.msg import CameraLocalization, MapProgress
from gs_pose_ros.nodes.gsplatloc import LocalizerNode
from gs_pose_ros.nodes.runtime.conversions import transform_to_message
from gs_pose_ros.recording.bag_writing import write_bag
from gs_pose_ros.recording.frame_decoding import pose_from_message
from gs_pose_ros.srv import BuildMap, LoadMap, SaveMap
from test.localization.room import CAMERA, EYES, camera_pose, pose_error
from test.nodes.conftest import World, header_at, image_message
from test.recording.small_bags import recording

from .conftest import FOUND, HERE, LOST, ODOM, OK, show, show_until, stored_map


def test_without_a_map_it_says_so_until_one_is_loaded(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    ply = maps / 'room' / 'gaussians.ply'
    whole = ply.read_bytes()
    ply.write_bytes(whole[: len(whole) // 2])
    node = start()
    assert 'gaussians.ply' in node._faults['map']
    msg = show_until(world, statuses, HERE, CameraLocalization.STATUS_NO_MAP)
    assert 'load' in msg.reason
    again = world.call(LoadMap, 'gsplatloc/load_map', LoadMap.Request(path=str(maps / 'room')))
    assert not again.success
    assert 'gaussians.ply' in again.message
    ply.write_bytes(whole)
    good = world.call(LoadMap, 'gsplatloc/load_map', LoadMap.Request(path=str(maps / 'room')))
    assert good.success, good.message
    assert good.gaussian_count == len(stored_map().scene)
    assert good.keyframe_count == len(stored_map().relocalizer.keyframes)
    show_until(world, statuses, HERE, *FOUND)
    assert 'map' not in node._faults


def test_a_map_is_swapped_while_the_camera_is_followed(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    start()
    show_until(world, statuses, HERE, OK)
    broken = LoadMap.Request(path=str(maps / 'nowhere'))
    assert not world.call(LoadMap, 'gsplatloc/load_map', broken).success
    assert show_until(world, statuses, HERE, *FOUND, LOST).status == OK  # the old one goes on
    other = StoredMap(stored_map().scene, stored_map().relocalizer, 'hall')
    save_map(maps / 'hall', other)
    request = LoadMap.Request(path=str(maps / 'hall'))
    assert world.call(LoadMap, 'gsplatloc/load_map', request).success
    msg = show_until(world, statuses, HERE, *FOUND, LOST)
    assert msg.status == CameraLocalization.STATUS_RELOCALIZED  # nothing is taken over
    assert msg.map_frame == 'hall'


def test_maps_are_saved_but_nothing_else_is_replaced(
    world: World, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    start()
    save = lambda path, overwrite=False: world.call(  # noqa: E731
        SaveMap, 'gsplatloc/save_map', SaveMap.Request(path=str(path), overwrite=overwrite)
    )
    done = save(maps / 'copy')
    assert done.success, done.message
    assert len(load_map(maps / 'copy').scene) == done.gaussian_count == len(stored_map().scene)
    assert 'overwrite' in save(maps / 'copy').message
    assert save(maps / 'copy', overwrite=True).success
    (maps / 'home').mkdir()
    (maps / 'home' / 'thesis.tex').write_text('years of work')
    assert "holds 'thesis.tex'" in save(maps / 'home', overwrite=True).message
    assert (maps / 'home' / 'thesis.tex').is_file()
    assert 'allowed_roots' in save('/etc/map').message


def test_a_map_is_built_from_live_topics(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    start(map='')
    progress = world.listen(MapProgress, 'gsplatloc/map_progress')
    request = BuildMap.Request(source=BuildMap.Request.SOURCE_TOPICS, pose_frame=ODOM)
    request.save_to = str(maps / 'live')
    answer = world.call(BuildMap, 'gsplatloc/build_map', request)
    assert answer.accepted, answer.message
    assert not world.call(BuildMap, 'gsplatloc/build_map', request).accepted  # one at a time
    world.until(lambda: world.node.count_subscribers('/tf') > 0, 'a listener to TF')
    deadline = time.monotonic() + 30
    for eye in itertools.cycle(EYES):
        T, header = camera_pose(eye), header_at(world.stamp_ns + 33_000_000, ODOM)
        world.send('/tf', TFMessage(transforms=[transform_to_message(header, 'camera', T)]))
        show(world, T)
        if any(m.frames >= 4 for m in progress):
            break
        assert time.monotonic() < deadline, progress
    assert world.call(Trigger, 'gsplatloc/finish_map', Trigger.Request()).success
    ended = lambda: [m for m in progress if m.state > MapProgress.STATE_RUNNING]  # noqa: E731
    world.until(ended, 'the map', 30)
    assert ended()[0].state == MapProgress.STATE_SUCCEEDED, ended()[0].message
    assert ended()[0].gaussian_count == len(load_map(maps / 'live').scene)
    msg = show_until(world, statuses, HERE, *FOUND)
    assert pose_error(pose_from_message(msg.pose), HERE)[1] < 20


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'source': 9}, 'source is 9'),
        ({'source': BuildMap.Request.SOURCE_BAG, 'path': '/etc/bag'}, 'allowed_roots'),
        ({'source': BuildMap.Request.SOURCE_BAG, 'path': ''}, 'empty'),
        (
            {
                'source': BuildMap.Request.SOURCE_BAG,
                'path': '{maps}/bag',
                'stamp_tolerance': float('nan'),
            },
            'stamp_tolerance (--stamp-tolerance) is nan s',
        ),
        ({'duration': -1.0}, 'duration'),
        ({'duration': float('nan')}, 'duration'),
        ({'save_to': '/etc/map'}, 'allowed_roots'),
    ],
)
def test_an_absurd_request_for_a_map_is_refused(
    world: World,
    start: Callable[..., LocalizerNode],
    maps: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    start()
    request = BuildMap.Request(source=BuildMap.Request.SOURCE_TOPICS)
    for name, value in changes.items():
        value = value.format(maps=maps) if isinstance(value, str) else value
        setattr(request, name, value)
    answer = world.call(BuildMap, 'gsplatloc/build_map', request)
    assert not answer.accepted
    assert reason in answer.message


def test_a_map_that_cannot_be_built_leaves_the_present_one(
    world: World, statuses: list, start: Callable[..., LocalizerNode], maps: Path
) -> None:
    start()
    progress = world.listen(MapProgress, 'gsplatloc/map_progress')
    request = BuildMap.Request(source=BuildMap.Request.SOURCE_FOLDER, path=str(maps / 'nothing'))
    assert world.call(BuildMap, 'gsplatloc/build_map', request).accepted
    world.until(lambda: progress and progress[-1].state == MapProgress.STATE_FAILED, 'the failure')
    assert 'nothing' in progress[-1].message
    assert show_until(world, statuses, HERE, *FOUND).status in FOUND


@pytest.mark.parametrize(
    ('bag', 'fields', 'reason'),
    [
        ('bag', {'color_topic': '/no/such'}, 'bag: has no colour topic /no/such'),
        ('bag', {'depth_topic': '/no/such'}, 'bag: has no depth topic /no/such'),
        ('link', {}, 'is not under'),
    ],
)
def test_a_map_of_a_bag_takes_the_topics_of_the_request_from_allowed_files_only(
    world: World,
    start: Callable[..., LocalizerNode],
    maps: Path,
    tmp_path_factory: pytest.TempPathFactory,
    bag: str,
    fields: dict[str, str],
    reason: str,
) -> None:
    start()
    write_bag(maps / 'bag', recording())
    outside = tmp_path_factory.mktemp('outside') / 'bag'
    write_bag(outside, recording())
    (maps / 'link').mkdir()
    for path in outside.iterdir():
        (maps / 'link' / path.name).symlink_to(path)
    progress = world.listen(MapProgress, 'gsplatloc/map_progress')
    request = BuildMap.Request(source=BuildMap.Request.SOURCE_BAG, path=str(maps / bag), **fields)
    request.pose_frame = 'world'
    assert world.call(BuildMap, 'gsplatloc/build_map', request).accepted
    world.until(lambda: progress and progress[-1].state == MapProgress.STATE_FAILED, 'the failure')
    assert reason in progress[-1].message


def test_live_images_that_cannot_be_used_are_counted_and_said(
    world: World, start: Callable[..., LocalizerNode]
) -> None:
    """Depth of another frame: refused with the words of a bag."""
    start(map='')
    progress = world.listen(MapProgress, 'gsplatloc/map_progress')
    request = BuildMap.Request(source=BuildMap.Request.SOURCE_TOPICS, pose_frame=ODOM)
    assert world.call(BuildMap, 'gsplatloc/build_map', request).accepted
    depth = np.full(CAMERA.shape, 0.5, np.float32)
    for _ in range(20):
        stamp = world.show(camera=CAMERA, with_depth=False)
        world.send('depth/image', image_message(depth, '32FC1', stamp, 'elsewhere'))
        world.within(0.05, lambda: False)  # images are taken when their transforms may be there
    assert world.call(Trigger, 'gsplatloc/finish_map', Trigger.Request()).success
    world.until(lambda: progress and progress[-1].state == MapProgress.STATE_FAILED, 'the failure')
    said = "color/image: depth is in the frame 'elsewhere'"
    assert 'images could be used: /' in progress[-1].message
    assert said in progress[-1].message


@pytest.mark.parametrize(
    'path', ['~nosuchuser', 'x' * 5000, '{maps}/loop', '{maps}/loop/room', '{maps}' + '/a' * 2000]
)
def test_a_path_of_no_use_is_a_fault_until_a_map_is_loaded(
    world: World, start: Callable[..., LocalizerNode], maps: Path, path: str
) -> None:
    (maps / 'loop').symlink_to('loop')
    (maps / '.new-cellar').mkdir()  # of a process that was killed
    path = path.format(maps=maps)
    node = start(map=path)
    assert node.active
    assert len(node._faults['map']) < 1000
    odd = world.call(LoadMap, 'gsplatloc/load_map', LoadMap.Request(path=path))
    assert not odd.success
    assert 0 < len(odd.message) < 1000
    save = world.call(SaveMap, 'gsplatloc/save_map', SaveMap.Request(path=path))
    assert not save.success
    good = world.call(LoadMap, 'gsplatloc/load_map', LoadMap.Request(path=str(maps / 'room')))
    assert good.success, good.message
    assert not (maps / '.new-cellar').exists()
