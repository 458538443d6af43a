"""Which topics of a bag are the camera: by its messages, by choice, never by chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.recording.bag_writing import image, write_bag
from gs_pose_ros.recording.bags import read_frames
from gs_pose_ros.recording.camera_topics import BagInput, find_topics, says_rectified
from test.recording.small_bags import (
    COLOR,
    COUNT,
    DEPTH,
    FRAME,
    INFO,
    Messages,
    changed,
    color,
    compressed,
    depth,
    depths,
    info,
    of_frame,
    recording,
    stamp_of,
)


def bag_of(path: Path, *more: tuple[str, Any], messages: Messages | None = None) -> Path:
    """A recording with one message each on other topics."""
    extra = [(stamp_of(0), topic, msg) for topic, msg in more]
    write_bag(path / 'bag', [*extra, *(recording() if messages is None else messages)])
    return path / 'bag'


def picture(encoding: str, frame_id: str = FRAME) -> Any:
    kind: type = {'1': np.uint16, '3': np.float32}.get(encoding[:1], np.uint8)
    kind = np.uint16 if encoding == 'mono16' else kind
    channels = 3 if encoding in ('rgb8', 'bgr8') else 1
    pixels = np.ones((12, 16, channels)[: 2 + (channels > 1)], kind)
    return of_frame(image(pixels, encoding, stamp_of(0)), frame_id)


def test_depth_is_known_by_its_encoding(tmp_path: Path) -> None:
    bag = bag_of(
        tmp_path,
        messages=recording('/oak/rgb/image_raw', '/oak/rgb/camera_info', '/oak/stereo/image_raw'),
    )
    topics = find_topics(bag)
    assert (topics.color, topics.depth) == ('/oak/rgb/image_raw', '/oak/stereo/image_raw')


@pytest.mark.parametrize(
    ('topic', 'msg'),
    [
        ('/camera/camera/depth/image_rect_raw', depth(0, 'depth_optical')),
        (f'{DEPTH}/compressedDepth', compressed(depths(0), '16UC1; compressedDepth png', 0)),
        (f'{DEPTH}/compressed', compressed(depths(0), '16UC1; png compressed ', 0)),
        (f'{DEPTH}/compressed', compressed(depths(0) // 8, '16UC1; jpeg compressed ', 0)),
        (f'{COLOR}/compressed', compressed(np.ones((12, 16, 3), np.uint8), 'jpeg', 0)),
        ('/camera/camera/infra1/image_rect_raw', picture('mono8', 'infra1')),
        ('/camera/camera/ir/image_raw', picture('mono16', 'ir')),
        ('/camera/camera/thermal/image_raw', picture('16UC1', 'thermal')),
        ('/gs_pose/gs_refiner/overlay', picture('rgb8')),
        ('/gs_pose/detector/masks', picture('mono8')),
        ('/camera/camera/color/image_rect', picture('rgb8')),
        ('/camera/camera/depth/image_colorized', picture('rgb8')),
        ('/camera/camera/depth/confidence', picture('mono8')),
        ('/left/image_raw', picture('mono8', 'left')),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_another_image_does_not_change_the_choice(tmp_path: Path, topic: str, msg: Any) -> None:
    topics = find_topics(bag_of(tmp_path, (topic, msg)))
    assert (topics.color, topics.camera_info, topics.depth) == (COLOR, INFO, DEPTH)
    assert topic in topics.listing


def test_compressed_depth_is_taken_rather_than_a_jpeg(tmp_path: Path) -> None:
    messages = changed(recording(), DEPTH, lambda *_: None)
    for k in range(COUNT):
        jpeg = compressed(depths(k) // 8, '16UC1; jpeg compressed ', stamp_of(k))
        png = compressed(depths(k), '16UC1; compressedDepth png', stamp_of(k), b'\0' * 12)
        messages += [
            (stamp_of(k), f'{DEPTH}/compressed', jpeg),
            (stamp_of(k), f'{DEPTH}/compressedDepth', png),
        ]
    bag = bag_of(tmp_path, messages=messages)
    assert find_topics(bag).depth == f'{DEPTH}/compressedDepth'
    for k, frame in enumerate(read_frames(bag)):
        assert frame.depth is not None
        np.testing.assert_allclose(frame.depth, depths(k) / 1000, atol=1e-6)


def test_jpegs_of_depth_alone_are_no_depth(tmp_path: Path) -> None:
    messages = changed(recording(), DEPTH, lambda *_: None)
    jpeg = compressed(depths(0) // 8, '16UC1; jpeg compressed ', stamp_of(0))
    topics = find_topics(bag_of(tmp_path, (f'{DEPTH}/compressed', jpeg), messages=messages))
    assert topics.depth == ''
    assert f'{DEPTH}/compressed (16UC1; jpeg compressed)' in topics.listing


@pytest.mark.parametrize('kind', ['JPEG', '.jpg', 'image/jpeg', 'PNG'])
def test_a_format_may_be_written_otherwise(tmp_path: Path, kind: str) -> None:
    topic = '/cam/image/compressed'
    messages = recording(topic, '/cam/camera_info', '/cam/depth/compressed')
    pixels = np.ones((12, 16, 3), np.uint8)
    messages = changed(messages, topic, lambda k, _: compressed(pixels, kind, stamp_of(k)))
    png = compressed(depths(0), 'png', 0).data

    def silent(k: int, _: Any) -> Any:  # a PNG, but its format does not say so
        out = compressed(depths(k), '16UC1', stamp_of(k))
        out.data = png
        return out

    messages = changed(messages, '/cam/depth/compressed', silent)
    topics = find_topics(bag_of(tmp_path, messages=messages))
    assert (topics.color, topics.depth) == (topic, '/cam/depth/compressed')


def test_one_camera_under_two_names_is_no_choice(tmp_path: Path) -> None:
    messages = two_cameras(('zed_left', 'zed_left'))
    messages = [(t, name.replace('right', 'rgb'), msg) for t, name, msg in messages]
    assert find_topics(bag_of(tmp_path, messages=messages)).color == '/rgb/image_raw'


@pytest.mark.parametrize(
    ('topic', 'is_rectified'),
    [
        ('/cam/image_rect', True),
        ('/cam/image_rect_color', True),
        ('/zed/rgb/color/rect/image', True),
        ('/cam/rectified/image', True),
        ('/direct/image_raw', False),
        ('/cam/image_unrectified', False),
        ('/color_corrected/image_raw', False),
    ],
)
def test_whose_name_says_that_it_is_rectified(topic: str, is_rectified: bool) -> None:
    assert says_rectified(topic) is is_rectified


def two_cameras(frame_ids: tuple[str, str] = ('left', 'right')) -> Messages:
    out: Messages = []
    for name, frame_id in zip(('left', 'right'), frame_ids, strict=True):
        for k in range(COUNT):
            out += [
                (stamp_of(k), f'/{name}/image_raw', color(k, frame_id)),
                (stamp_of(k), f'/{name}/camera_info', info(stamp_of(k), frame_id=frame_id)),
            ]
    return out


def test_several_likely_cameras_are_listed_and_one_is_to_be_chosen(tmp_path: Path) -> None:
    bag = bag_of(tmp_path, messages=two_cameras())
    words = r'several colour cameras.*/left/image_raw.*/right/image_raw.*--color-topic'
    with pytest.raises(GsPoseError, match=words):
        find_topics(bag)
    topics = find_topics(bag, wanted=BagInput(color_topic='/right/image_raw'))
    assert topics.camera_info == '/right/camera_info'


def test_the_camera_with_depth_is_the_likely_one(tmp_path: Path) -> None:
    seen = (stamp_of(0), '/somewhere/depth', depth(0, 'right'))
    topics = find_topics(bag_of(tmp_path, messages=[*two_cameras(), seen]))
    assert (topics.color, topics.depth) == ('/right/image_raw', '/somewhere/depth')


def test_several_likely_depths_are_listed(tmp_path: Path) -> None:
    other = ('/camera/other/aligned/image_raw', depth(0))
    bag = bag_of(tmp_path, other, messages=recording(depth_topic='/camera/one/aligned/image_raw'))
    with pytest.raises(GsPoseError, match=r'several depth images may belong to .*one.*other'):
        find_topics(bag)
    assert find_topics(bag, wanted=BagInput(depth_topic=other[0])).depth == other[0]


def test_topics_that_are_not_there_are_named_with_those_that_are(tmp_path: Path) -> None:
    bag = bag_of(tmp_path)
    for field in ('color_topic', 'depth_topic', 'camera_info_topic'):
        there = INFO if field == 'camera_info_topic' else COLOR
        with pytest.raises(GsPoseError, match=f'/no/such with a message; there are: .*{there}'):
            find_topics(bag, wanted=BagInput(**{field: '/no/such'}))


def test_the_camera_info_of_another_camera_is_not_taken(tmp_path: Path) -> None:
    messages = changed(recording(), INFO, lambda *_: None)
    other = ('/camera/camera/depth/camera_info', info(stamp_of(0), frame_id='depth_optical'))
    bag = bag_of(tmp_path, other, messages=messages)
    with pytest.raises(GsPoseError, match=rf'no camera_info of {COLOR}; .*depth_optical'):
        find_topics(bag)
    wanted = BagInput(camera_info_topic=other[0])
    assert find_topics(bag, wanted=wanted).camera_info == other[0]


@pytest.mark.parametrize('tolerance', [-0.1, 2.0, float('nan'), float('inf')])
def test_a_tolerance_without_sense_is_refused(tolerance: float) -> None:
    with pytest.raises(GsPoseError, match=r'stamp_tolerance \(--stamp-tolerance\) is'):
        BagInput(stamp_tolerance=tolerance)
