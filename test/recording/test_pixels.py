"""Pixels of messages: each encoding's colours and metres, and what is refused."""

from __future__ import annotations

import struct
from array import array

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.recording.pixels import color_from_message, depth_from_message
from test.datasets.test_picture_header import png_that_says
from test.mutations import examples, mutated_bytes
from test.nodes.conftest import header_at, image_message
from test.recording.rvl_writer import encode_rvl

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (48, 64, 3), np.uint8)
RGBA = np.dstack([RGB, RGB[..., 0]])
BGRA = np.dstack([RGB[..., ::-1], RGB[..., 0]])
GRAY = RGB[..., 0]
METRES = RNG.uniform(0.3, 2.0, (48, 64)).astype(np.float32)
MILLIMETRES = np.round(METRES * 1000).astype(np.uint16)
MILLIMETRES[:, ::7] = 0


def compressed(pixels: np.ndarray, kind: str, prefix: bytes = b'') -> CompressedImage:
    data = prefix + cv2.imencode('.png' if 'png' in kind else '.jpg', pixels)[1].tobytes()
    return message(data, kind)


def message(data: bytes, kind: str) -> CompressedImage:
    return CompressedImage(header=header_at(7), format=kind, data=array('B', data))


# ---- colour ----

COLORS = {
    'rgb8': (image_message(RGB, 'rgb8', 7), RGB),
    'bgr8': (image_message(RGB[..., ::-1], 'bgr8', 7), RGB),
    'rgba8': (image_message(RGBA, 'rgba8', 7), RGB),
    'bgra8': (image_message(BGRA, 'bgra8', 7), RGB),
    'mono8': (image_message(GRAY, 'mono8', 7), np.dstack([GRAY] * 3)),
    # As RViz and Foxglove show them.
    '8UC1': (image_message(GRAY, '8UC1', 7), np.dstack([GRAY] * 3)),
    '8UC3': (image_message(RGB[..., ::-1], '8UC3', 7), RGB),
    '8UC4': (image_message(BGRA, '8UC4', 7), RGB),
    'rgb16': (image_message(RGB.astype(np.uint16) * 257, 'rgb16', 7), RGB),
    'bgr16': (image_message(RGB[..., ::-1].astype(np.uint16) * 257, 'bgr16', 7), RGB),
    'rgba16': (image_message(RGBA.astype(np.uint16) * 257, 'rgba16', 7), RGB),
    'mono16': (image_message(GRAY.astype(np.uint16) * 257, 'mono16', 7), np.dstack([GRAY] * 3)),
    'png': (compressed(RGB[..., ::-1], 'rgb8; png compressed bgr8'), RGB),
    'png gray': (compressed(GRAY, 'png'), np.dstack([GRAY] * 3)),
    'png 16': (compressed(RGB[..., ::-1].astype(np.uint16) * 257, 'png'), RGB),
    'png alpha': (compressed(BGRA, 'png'), RGB),
}


@pytest.mark.parametrize(('msg', 'expected'), COLORS.values(), ids=COLORS)
def test_color(msg: Image, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(color_from_message(msg), expected)


def test_jpeg_color_is_rgb() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 200  # OpenCV writes blue first
    rgb = color_from_message(compressed(red, 'jpeg'))
    assert abs(int(rgb[8, 8, 0]) - 200) < 6
    assert rgb[8, 8, 2] < 6


ORANGE = (200, 120, 40)
# By sensor_msgs/image_encodings.hpp: the first two pixels of the first row, then of the second.
MOSAICS = {'rggb': (0, 1, 1, 2), 'bggr': (2, 1, 1, 0), 'gbrg': (1, 2, 0, 1), 'grbg': (1, 0, 2, 1)}


def mosaic(order: tuple[int, ...], height: int, width: int) -> np.ndarray:
    v, u = np.mgrid[:height, :width] % 2
    return np.array(ORANGE, np.uint8)[np.array(order)[2 * v + u]]


@pytest.mark.parametrize('pattern', MOSAICS)
@pytest.mark.parametrize('shape', [(8, 10), (7, 9)])
def test_a_mosaic_has_the_colours_of_its_pattern(pattern: str, shape: tuple[int, int]) -> None:
    pixels = mosaic(MOSAICS[pattern], *shape)
    wide = pixels.astype('>u2') * 257
    big = image_message(wide, f'bayer_{pattern}16', 7)
    big.is_bigendian = 1
    for msg in (
        image_message(pixels, f'bayer_{pattern}8', 7),
        image_message(pixels.astype(np.uint16) * 257, f'bayer_{pattern}16', 7),
        big,
        # compressed_image_transport keeps a mosaic as grey.
        compressed(pixels, f'bayer_{pattern}8; png compressed '),
        compressed(pixels.astype(np.uint16) * 257, f'bayer_{pattern}16; png compressed '),
    ):
        rgb = color_from_message(msg)
        assert rgb.shape == (*shape, 3)
        assert (rgb == ORANGE).all()


def yuv_of(rgb: tuple[int, ...]) -> tuple[int, ...]:
    """Y, U, V of video, ITU-R BT.601: 16 to 235 and 16 to 240."""
    r, g, b = (value / 255 for value in rgb)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return tuple(
        round(value)
        for value in (16 + 219 * y, 128 + 224 * (b - y) / 1.772, 128 + 224 * (r - y) / 1.402)
    )


def yuv_message(encoding: str, height: int, width: int, step: int | None = None) -> Image:
    y, u, v = yuv_of(ORANGE)
    orders = {'yuyv': (y, u, y, v), 'uyvy': (u, y, v, y), 'nv12': (u, v), 'nv21': (v, u)}
    order = orders[{'yuv422_yuy2': 'yuyv', 'yuv422': 'uyvy'}.get(encoding, encoding)]
    if encoding.startswith('nv'):
        light = np.full((height, width), y, np.uint8)
        colors = np.tile(np.array(order, np.uint8), (height // 2, width // 2))
        pixels = np.concatenate([light, colors])
    else:
        pixels = np.tile(np.array(order, np.uint8), (height, width // 2 + 1))[:, : 2 * width]
    padded = np.full((len(pixels), step or pixels.shape[1]), 99, np.uint8)
    padded[:, : pixels.shape[1]] = pixels
    msg = image_message(padded, encoding, 7)
    msg.height, msg.width = height, width
    return msg


@pytest.mark.parametrize('encoding', ['yuv422_yuy2', 'yuyv', 'yuv422', 'uyvy', 'nv12', 'nv21'])
def test_yuv_has_the_colours_of_video(encoding: str) -> None:
    widths = (8, 2) if encoding.startswith('nv') else (8, 7, 3, 2)
    for width in widths:
        for step in (None, 20):
            rgb = color_from_message(yuv_message(encoding, 6, width, step))
            assert rgb.shape == (6, width, 3)
            np.testing.assert_allclose(rgb, np.broadcast_to(ORANGE, rgb.shape), atol=2)


def test_half_as_many_rows_more_may_be_counted() -> None:
    msg = yuv_message('nv12', 6, 8)
    msg.height = 9
    rgb = color_from_message(msg)
    assert rgb.shape == (6, 8, 3)
    np.testing.assert_allclose(rgb, np.broadcast_to(ORANGE, rgb.shape), atol=2)


# ---- depth ----

# compressed_depth_image_transport: 16UC1 as PNG behind 12 bytes; 32FC1 as a / z + b.
HEADER_16 = b'\0' * 12
A, B = 100.0, 1.0
HEADER_32 = b'\0' * 4 + np.array([A, B], '<f4').tobytes()
INVERSE = np.round(A / METRES + B).astype(np.uint16)


def rvl(pixels: np.ndarray, kind: str, prefix: bytes) -> CompressedImage:
    size = struct.pack('<II', pixels.shape[1], pixels.shape[0])
    return message(prefix + size + encode_rvl(pixels), kind)


EXPECTED = MILLIMETRES * np.float32(0.001)
BIG = image_message(METRES.astype('>f4'), '32FC1', 7)
BIG.is_bigendian = 1
BIG_16 = image_message(MILLIMETRES.astype('>u2'), '16UC1', 7)
BIG_16.is_bigendian = 1
DEPTHS = {
    '32FC1': (image_message(METRES, '32FC1', 7), METRES, 0),
    '32FC1 big endian': (BIG, METRES, 0),
    '64FC1': (image_message(METRES.astype(np.float64), '64FC1', 7), METRES, 0),
    '16UC1': (image_message(MILLIMETRES, '16UC1', 7), EXPECTED, 1e-6),
    '16UC1 big endian': (BIG_16, EXPECTED, 1e-6),
    'mono16': (image_message(MILLIMETRES, 'mono16', 7), EXPECTED, 1e-6),
    'png': (compressed(MILLIMETRES, '16UC1; png compressed'), EXPECTED, 1e-6),
    'tiff': (message(cv2.imencode('.tiff', METRES)[1].tobytes(), '32FC1; tiff'), METRES, 0),
    **{
        kind: (compressed(MILLIMETRES, kind + ' ' * k, HEADER_16), EXPECTED, 1e-6)
        for k, kind in enumerate(
            ('16UC1; compressedDepth png', '16UC1; png compressedDepth', '; compressedDepth png')
        )
    },
    'no codec': (
        message(
            HEADER_16 + compressed(MILLIMETRES, 'png').data.tobytes(), '16UC1; compressedDepth'
        ),
        EXPECTED,
        1e-6,
    ),
    'no header': (compressed(MILLIMETRES, '16UC1; compressedDepth png'), EXPECTED, 1e-6),
    'rvl': (rvl(MILLIMETRES, '16UC1; compressedDepth rvl', HEADER_16), EXPECTED, 1e-6),
    'inverse': (compressed(INVERSE, '32FC1; compressedDepth png', HEADER_32), METRES, 0.03),
    'inverse rvl': (rvl(INVERSE, '32FC1; compressedDepth rvl', HEADER_32), METRES, 0.03),
}


@pytest.mark.parametrize(('msg', 'expected', 'atol'), DEPTHS.values(), ids=DEPTHS)
def test_depth_is_in_metres(msg: Image, expected: np.ndarray, atol: float) -> None:
    depth = depth_from_message(msg)
    assert depth.dtype == np.float32
    assert depth.dtype.isnative
    np.testing.assert_allclose(depth, expected, atol=atol)


def test_no_inverse_depth_is_no_depth() -> None:
    image = INVERSE.copy()
    image[0] = 0
    depth = depth_from_message(compressed(image, '32FC1; compressedDepth png', HEADER_32))
    assert (depth[0] == 0).all()
    np.testing.assert_allclose(depth[1:], METRES[1:], atol=0.03)


def test_other_units_are_noticed() -> None:
    for factor in (1000, 0.01):
        with pytest.raises(GsPoseError, match='the median depth is .* m: 16UC1 has to be in mil'):
            depth_from_message(image_message(METRES * np.float32(factor), '32FC1', 7))
    with pytest.raises(GsPoseError, match='depth image: the median depth is 0.00'):
        depth_from_message(image_message(METRES.astype(np.uint16), '16UC1', 7))
    # The value of no depth of some cameras, almost everywhere.
    wall = np.full((48, 64), 65535, np.uint16)
    wall[:9, :9] = 700
    depth = depth_from_message(image_message(wall, '16UC1', 7))
    np.testing.assert_allclose(depth[:9, :9], 0.7, atol=1e-6)


# ---- what is refused ----


def with_fields(encoding: str, **fields: int) -> Image:
    msg = image_message(RGB, encoding, 7)
    for name, value in fields.items():
        setattr(msg, name, value)
    return msg


HUGE = 2**32 - 1
REFUSED = {
    'color 32FC1': (color_from_message, image_message(METRES, '32FC1', 7), "'32FC1' is not one"),
    'color 16UC1': (color_from_message, image_message(MILLIMETRES, '16UC1', 7), 'rgb8, bgr8'),
    'color long': (color_from_message, with_fields('x' * 9999), r"'x{57}\.\.\.' is not one of"),
    'color junk': (color_from_message, message(b'junk', 'jpeg'), '4 bytes are not a picture'),
    'color empty': (color_from_message, message(b'', 'jpeg'), '0 bytes are not a picture'),
    'color depth': (
        color_from_message,
        compressed(GRAY, '16UC1; jpeg compressed '),
        "'16UC1; jpeg compressed ' is depth",
    ),
    'color cut off': (
        color_from_message,
        message(compressed(RGB, 'jpeg').data.tobytes()[:-300], 'jpeg'),
        'is cut off',
    ),
    'color bomb': (
        color_from_message,
        message(png_that_says(30_000, 30_000), 'png'),
        'more than 64 megapixels',
    ),
    'color 0x0': (color_from_message, with_fields('rgb8', width=0), '0x48: it has no pixels'),
    'color no rows': (color_from_message, with_fields('rgb8', height=0), 'no pixels'),
    'color no step': (color_from_message, with_fields('rgb8', step=0), 'step is 0'),
    'color wide': (color_from_message, with_fields('rgb8', width=HUGE, step=0), 'megapixels'),
    'color high': (color_from_message, with_fields('mono8', height=HUGE, width=1), 'megapixels'),
    'color steps': (color_from_message, with_fields('rgb8', step=HUGE), f'step is {HUGE}'),
    'color rows': (color_from_message, with_fields('rgb8', height=49), 'needs 49 rows of 192'),
    'nv odd': (color_from_message, with_fields('nv12', width=9, height=32), '9x32 nv12: both'),
    'nv short': (color_from_message, with_fields('nv21', height=47), 'needs 70 rows'),
    '422 of one': (color_from_message, with_fields('yuyv', width=1), '1 pixel wide'),
    'tiny mosaic': (color_from_message, with_fields('bayer_rggb8', width=2), '2x48 is no bayer'),
    'depth rgb8': (
        depth_from_message,
        image_message(RGB, 'rgb8', 7),
        "'rgb8' is not one of 16UC1",
    ),
    'depth jpeg': (
        depth_from_message,
        compressed(GRAY, '16UC1; jpeg compressed '),
        'is a JPEG: 8 bits.*Take the topic .*/compressedDepth',
    ),
    'depth 8 bit': (depth_from_message, compressed(GRAY, 'png'), '1 channel of uint8'),
    'depth color': (depth_from_message, compressed(RGB, 'png'), '3 channels of uint8'),
    'depth scaled': (
        depth_from_message,
        compressed(MILLIMETRES, '32FC1; png compressed'),
        'whose unit nothing tells',
    ),
    'depth short': (
        depth_from_message,
        message(b'\0' * 12, '16UC1; compressedDepth png'),
        '12 bytes are too few for compressedDepth',
    ),
    'depth no size': (
        depth_from_message,
        message(b'\0' * 18, '16UC1; compressedDepth rvl'),
        'width and height are missing',
    ),
    'depth bomb': (
        depth_from_message,
        message(HEADER_16 + struct.pack('<III', HUGE, HUGE, 0), '16UC1; compressedDepth rvl'),
        'RVL image is 4294967295x4294967295',
    ),
    'depth cut off': (
        depth_from_message,
        message(HEADER_16 + struct.pack('<III', 64, 48, 0), '16UC1; compressedDepth rvl'),
        '64x48 pixels are cut off',
    ),
    'depth not inverse': (
        depth_from_message,
        compressed(INVERSE, '32FC1; compressedDepth png', HEADER_16),
        'a = 0, b = 0',
    ),
    'depth nan': (
        depth_from_message,
        compressed(INVERSE, '32FC1; compressedDepth png', b'\xff' * 12),
        'a = nan',
    ),
}


@pytest.mark.parametrize(('decode', 'msg', 'words'), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_and_why(decode, msg: Image, words: str) -> None:
    with pytest.raises(GsPoseError, match=words):
        decode(msg)


# ---- anything ----

YUVS = ('yuv422_yuy2', 'uyvy', 'nv12', 'nv21')
GOOD_COLORS = [msg for msg, _ in COLORS.values()] + [
    *(yuv_message(encoding, 6, 8) for encoding in YUVS),
    *(image_message(mosaic(MOSAICS[p], 6, 8), f'bayer_{p}8', 7) for p in MOSAICS),
]
GOOD_DEPTHS = [msg for msg, _, _ in DEPTHS.values()]
NAMES = ('rgb8', 'bayer_grbg16', 'yuyv', 'nv21', '16UC1', '32FC1', '8UC3', '64FC99', '', '\0')
FORMS = ('png', '', '32FC1; compressedDepth rvl', 'bayer_rggb8; x', '16UC1; compressedDepth', 'é')
SIZES = st.sampled_from((0, 1, 2, 3, 47, 63, 65, 2**16, 2**31, HUGE)) | st.integers(0, 200)


@st.composite
def mutated_message(draw: st.DrawFn, good: list) -> Image | CompressedImage:
    """A good one with other fields or bytes."""
    msg = draw(st.sampled_from(good))
    data = array('B', draw(mutated_bytes(bytes(msg.data), header=64) | st.just(bytes(msg.data))))
    if isinstance(msg, CompressedImage):
        form = draw(st.sampled_from((msg.format, msg.format, *FORMS)))
        return CompressedImage(header=msg.header, format=form, data=data)
    out = Image(header=msg.header, data=data, encoding=msg.encoding)
    for name in ('width', 'height', 'step'):
        setattr(out, name, draw(st.just(getattr(msg, name)) | SIZES))
    out.encoding = draw(st.sampled_from((msg.encoding, msg.encoding, *NAMES)))
    out.is_bigendian = draw(st.sampled_from((0, 1, 255)))
    return out


def shape_of(msg: Image | CompressedImage, kind: str) -> tuple[int, ...]:
    """Of the image, or () where the reason says of which kind it is and fits into some lines."""
    try:
        image = (color_from_message if kind == 'colour' else depth_from_message)(msg)
    except GsPoseError as error:
        reason = str(error)
        return () if reason.startswith(f'{kind} image: ') and len(reason) < 600 else (0,)
    assert image.dtype == (np.uint8 if kind == 'colour' else np.float32)
    if isinstance(msg, Image) and msg.encoding not in ('nv12', 'nv21'):
        assert image.shape[:2] == (msg.height, msg.width)
    return image.shape


@examples(150)
@given(msg=mutated_message(GOOD_COLORS))
def test_any_colour_message_is_an_image_or_refused(msg: Image | CompressedImage) -> None:
    shape = shape_of(msg, 'colour')
    assert not shape or shape[2:] == (3,)


@examples(150)
@given(msg=mutated_message(GOOD_DEPTHS))
def test_any_depth_message_is_an_image_or_refused(msg: Image | CompressedImage) -> None:
    assert len(shape_of(msg, 'depth')) in (0, 2)
