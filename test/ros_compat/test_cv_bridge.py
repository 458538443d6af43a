"""The same table of cases for our bridge and, where it is installed and works, the original."""

from __future__ import annotations

from array import array
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from gs_pose_ros.ros_compat import cv_bridge as chosen
from gs_pose_ros.ros_compat import image_bridge as own

IMPLEMENTATIONS = [own] if chosen.CvBridge is own.CvBridge else [own, chosen]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (4, 5, 3), np.uint8)
GRAY = RGB[..., 0]
GRAY16 = RNG.integers(0, 65536, (4, 5), np.uint16)
DEPTH = RNG.uniform(0, 5, (4, 5)).astype(np.float32)
YUV = RNG.integers(0, 256, (4, 6, 2), np.uint8)
RGBA = np.dstack([RGB, np.full((4, 5), 255, np.uint8)])


def raw(image: np.ndarray, encoding: str, padding: int = 0, bigendian: bool = False) -> Image:
    """Written by hand: rows with `padding` bytes behind each."""
    msg = Image(encoding=encoding, height=image.shape[0], width=image.shape[1])
    stored = image.astype(image.dtype.newbyteorder('>')) if bigendian else image
    rows = [stored[i].tobytes() + b'\xaa' * padding for i in range(len(image))]
    msg.data, msg.step, msg.is_bigendian = array('B', b''.join(rows)), len(rows[0]), int(bigendian)
    return msg


DECODE = [
    ('rgb8 to rgb8', raw(RGB, 'rgb8'), 'rgb8', RGB),
    ('rgb8 to bgr8', raw(RGB, 'rgb8'), 'bgr8', RGB[..., ::-1]),
    ('bgr8 to rgb8', raw(RGB, 'bgr8'), 'rgb8', RGB[..., ::-1]),
    ('bgr8 as it is', raw(RGB, 'bgr8'), 'passthrough', RGB),
    ('rgba8 to rgb8', raw(RGBA, 'rgba8'), 'rgb8', RGB),
    ('bgra8 to rgb8', raw(RGBA, 'bgra8'), 'rgb8', RGB[..., ::-1]),
    ('mono8 to rgb8', raw(GRAY, 'mono8'), 'rgb8', np.dstack([GRAY] * 3)),
    ('mono8 as it is', raw(GRAY, 'mono8'), 'passthrough', GRAY),
    ('rgb8 to mono8', raw(RGB, 'rgb8'), 'mono8', cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)),
    ('8UC3 as it is', raw(RGB, '8UC3'), 'passthrough', RGB),
    ('16UC1', raw(GRAY16, '16UC1'), 'passthrough', GRAY16),
    ('mono16', raw(GRAY16, 'mono16'), 'passthrough', GRAY16),
    ('32FC1', raw(DEPTH, '32FC1'), 'passthrough', DEPTH),
    ('32FC1 named', raw(DEPTH, '32FC1'), '32FC1', DEPTH),
    ('rgb8 to 8UC3', raw(RGB, 'rgb8'), '8UC3', RGB),
    ('16UC1 to 32FC1', raw(GRAY16, '16UC1'), '32FC1', GRAY16.astype(np.float32)),
    ('32FC1 to 16UC1', raw(DEPTH, '32FC1'), '16UC1', np.rint(DEPTH).astype(np.uint16)),
    ('mono16 to mono8', raw(GRAY16, 'mono16'), 'mono8', np.rint(GRAY16 / 257).astype(np.uint8)),
    ('16UC1 without C1', raw(GRAY16, '16U'), 'passthrough', GRAY16),
    ('yuv422 as it is', raw(YUV, 'yuv422'), 'passthrough', YUV),
    ('yuv422 to rgb8', raw(YUV, 'yuv422'), 'rgb8', cv2.cvtColor(YUV, cv2.COLOR_YUV2RGB_UYVY)),
    ('yuy2 to bgr8', raw(YUV, 'yuv422_yuy2'), 'bgr8', cv2.cvtColor(YUV, cv2.COLOR_YUV2BGR_YUY2)),
    ('yuy2 to mono8', raw(YUV, 'yuv422_yuy2'), 'mono8', YUV[..., 0]),
    ('bayer as it is', raw(GRAY, 'bayer_rggb8'), 'passthrough', GRAY),
    ('rggb to rgb8', raw(GRAY, 'bayer_rggb8'), 'rgb8', cv2.cvtColor(GRAY, cv2.COLOR_BayerBG2RGB)),
    ('bggr to rgb8', raw(GRAY, 'bayer_bggr8'), 'rgb8', cv2.cvtColor(GRAY, cv2.COLOR_BayerRG2RGB)),
    ('gbrg to bgr8', raw(GRAY, 'bayer_gbrg8'), 'bgr8', cv2.cvtColor(GRAY, cv2.COLOR_BayerGR2BGR)),
    (
        'grbg16 to mono16',
        raw(GRAY16, 'bayer_grbg16'),
        'mono16',
        cv2.cvtColor(GRAY16, cv2.COLOR_BayerGB2GRAY),
    ),
]
# The original reads padding in units of whole pixels only.
PADDED = [
    ('rgb8, padded rows', raw(RGB, 'rgb8', padding=6), 'rgb8', RGB),
    ('rgb8, odd padding', raw(RGB, 'rgb8', padding=1), 'rgb8', RGB),
    ('16UC1, padded rows', raw(GRAY16, '16UC1', padding=4), 'passthrough', GRAY16),
]
# The original uses ndarray.newbyteorder(), which NumPy 2 has dropped.
BIG_ENDIAN = [
    ('16UC1, big endian', raw(GRAY16, '16UC1', bigendian=True), 'passthrough', GRAY16),
    ('32FC1, big endian', raw(DEPTH, '32FC1', bigendian=True), 'passthrough', DEPTH),
]
ids = lambda cases: [case[0] for case in cases]  # noqa: E731


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
@pytest.mark.parametrize(('msg', 'encoding', 'expected'), [c[1:] for c in DECODE], ids=ids(DECODE))
def test_imgmsg_to_cv2(module: Any, msg: Image, encoding: str, expected: np.ndarray) -> None:
    image = module.CvBridge().imgmsg_to_cv2(msg, encoding)
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == expected.dtype


@pytest.mark.parametrize(
    ('msg', 'encoding', 'expected'),
    [c[1:] for c in PADDED + BIG_ENDIAN],
    ids=ids(PADDED + BIG_ENDIAN),
)
def test_padding_and_byte_order(msg: Image, encoding: str, expected: np.ndarray) -> None:
    image = own.CvBridge().imgmsg_to_cv2(msg, encoding)
    np.testing.assert_array_equal(image, expected)
    assert image.dtype.isnative


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    ('image', 'encoding', 'name'),
    [
        (RGB, 'rgb8', 'rgb8'),
        (RGB, 'passthrough', '8UC3'),
        (RGBA, 'bgra8', 'bgra8'),
        (GRAY, 'mono8', 'mono8'),
        (GRAY16, '16UC1', '16UC1'),
        (DEPTH, '32FC1', '32FC1'),
        (DEPTH, 'passthrough', '32FC1'),
        (RGB[:, ::-1], 'rgb8', 'rgb8'),
    ],
)
def test_cv2_to_imgmsg(module: Any, image: np.ndarray, encoding: str, name: str) -> None:
    header = Header(frame_id='camera')
    msg = module.CvBridge().cv2_to_imgmsg(image, encoding, header)
    assert (msg.height, msg.width, msg.encoding) == (4, 5, name)
    assert msg.step == image[0].nbytes
    assert bytes(msg.data) == image.tobytes()
    assert msg.header.frame_id == 'camera'
    np.testing.assert_array_equal(module.CvBridge().imgmsg_to_cv2(msg), image)


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
def test_compressed(module: Any) -> None:
    bridge = module.CvBridge()
    for image in (RGB, GRAY, GRAY16):
        msg = bridge.cv2_to_compressed_imgmsg(image, 'png')
        assert msg.format == 'png'
        np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(msg), image)
    msg = bridge.cv2_to_compressed_imgmsg(RGB, 'png')
    np.testing.assert_array_equal(bridge.compressed_imgmsg_to_cv2(msg, 'rgb8'), RGB[..., ::-1])
    smooth = np.full((16, 16, 3), (10, 100, 200), np.uint8)
    jpeg = bridge.compressed_imgmsg_to_cv2(bridge.cv2_to_compressed_imgmsg(smooth))
    assert np.abs(jpeg.astype(int) - smooth).max() < 4


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
def test_what_does_not_fit_is_an_error(module: Any) -> None:
    bridge = module.CvBridge()
    with pytest.raises(module.CvBridgeError):
        bridge.cv2_to_imgmsg(GRAY, 'rgb8')
    with pytest.raises(TypeError):
        bridge.cv2_to_imgmsg([[1, 2]], 'mono8')
    with pytest.raises(module.CvBridgeError):
        bridge.imgmsg_to_cv2(raw(GRAY, 'nonsense'))
    for msg, encoding in ((raw(GRAY, '8UC1'), 'mono8'), (raw(RGB, 'rgb8'), '8UC1')):
        with pytest.raises(module.CvBridgeError):
            bridge.imgmsg_to_cv2(msg, encoding)
    with pytest.raises(module.CvBridgeError):
        bridge.imgmsg_to_cv2(raw(RGB, 'rgb8'), 'yuv422')


def test_too_few_bytes_are_an_error() -> None:
    msg = raw(RGB, 'rgb8')
    msg.height = 5
    with pytest.raises(own.CvBridgeError, match='60 bytes'):
        own.CvBridge().imgmsg_to_cv2(msg)
    msg = raw(RGB, 'rgb8')
    msg.step = 14
    with pytest.raises(own.CvBridgeError, match='rows of 15 bytes'):
        own.CvBridge().imgmsg_to_cv2(msg)
    with pytest.raises(own.CvBridgeError, match='not a picture'):
        own.CvBridge().compressed_imgmsg_to_cv2(CompressedImage(format='jpeg', data=b'junk'))
    with pytest.raises(own.CvBridgeError, match='no conversion'):
        own.CvBridge().imgmsg_to_cv2(raw(DEPTH, '32FC1'), 'rgb8')


def test_sixteen_bit_colour_becomes_eight_bit() -> None:
    white = raw(np.full((2, 2, 3), 65535, np.uint16), 'rgb16')
    assert (own.CvBridge().imgmsg_to_cv2(white, 'rgb8') == 255).all()
    black_and_white = raw(np.array([[0, 255]], np.uint8), 'mono8')
    image = own.CvBridge().imgmsg_to_cv2(black_and_white, 'mono16')
    np.testing.assert_array_equal(image, [[0, 65535]])


def test_messages_of_rosbags_decode_too() -> None:
    types = get_typestore(Stores.ROS2_KILTED).types
    stamp = types['builtin_interfaces/msg/Time'](sec=0, nanosec=0)
    header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')
    msg = types['sensor_msgs/msg/Image'](
        header=header,
        height=4,
        width=5,
        encoding='rgb8',
        is_bigendian=0,
        step=15,
        data=RGB.ravel(),
    )
    np.testing.assert_array_equal(own.CvBridge().imgmsg_to_cv2(msg, 'bgr8'), RGB[..., ::-1])
