"""The pixels of image messages by their encodings (sensor_msgs/image_encodings.hpp); no ROS."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.picture_header import check_pixel_count, picture_header
from gs_pose_ros.errors import GsPoseError

# Encodings with a meaning, as (element type, channels); `8UC3` and the like are parsed.
_PLAIN: dict[str, tuple[type, int]] = {
    'rgb8': (np.uint8, 3),
    'bgr8': (np.uint8, 3),
    'rgba8': (np.uint8, 4),
    'bgra8': (np.uint8, 4),
    'mono8': (np.uint8, 1),
    'rgb16': (np.uint16, 3),
    'bgr16': (np.uint16, 3),
    'rgba16': (np.uint16, 4),
    'bgra16': (np.uint16, 4),
    'mono16': (np.uint16, 1),
}
# As OpenCV calls them. ROS names a mosaic by its first pixels, OpenCV by the second row's second
# and third.
_MOSAICS = {
    'bayer_rggb': 'BayerBG',
    'bayer_bggr': 'BayerRG',
    'bayer_gbrg': 'BayerGR',
    'bayer_grbg': 'BayerGB',
}
# Two pixels share a colour; of the names of each the second is the newer one.
_YUV_422 = {
    'yuv422': 'YUV2{}_UYVY',
    'uyvy': 'YUV2{}_UYVY',
    'yuv422_yuy2': 'YUV2{}_YUY2',
    'yuyv': 'YUV2{}_YUY2',
}
# Four pixels share a colour; half as many rows with the colours stand below those with the light.
_YUV_420 = {'nv12': 'YUV2{}_NV12', 'nv21': 'YUV2{}_NV21'}
_ENCODINGS: dict[str, tuple[type, int]] = {
    **_PLAIN,
    **{name + '8': (np.uint8, 1) for name in _MOSAICS},
    **{name + '16': (np.uint16, 1) for name in _MOSAICS},
    **dict.fromkeys(_YUV_422, (np.uint8, 2)),
    **dict.fromkeys(_YUV_420, (np.uint8, 1)),
}
_DEPTHS: dict[str, type] = {
    '8U': np.uint8,
    '8S': np.int8,
    '16U': np.uint16,
    '16S': np.int16,
    '32S': np.int32,
    '32F': np.float32,
    '64F': np.float64,
}
_NAMES = {np.dtype(element): name for name, element in _DEPTHS.items()}
_GENERIC = re.compile(r'(8U|8S|16U|16S|32S|32F|64F)(?:C([1-9]\d?))?', re.ASCII)

_END_OF_JPEG = b'\xff\xd9'

# All that can be made into a picture in colour.
COLOR_ENCODINGS = tuple(_ENCODINGS)


class ImageEncodingError(TypeError):
    """Pixels and encoding do not fit each other."""


def type_of(encoding: str) -> tuple[np.dtype[Any], int]:
    """Element type and number of channels.

    Raises:
        ImageEncodingError: the encoding is unknown.

    """
    if encoding in _ENCODINGS:
        element, channels = _ENCODINGS[encoding]
        return np.dtype(element), channels
    generic = _GENERIC.fullmatch(encoding)
    if generic is None:
        raise ImageEncodingError(f'unknown encoding {encoding[:40]!r}')
    return np.dtype(_DEPTHS[generic[1]]), int(generic[2] or 1)


def generic_name(image: NDArray[Any]) -> str:
    """The encoding of an array [H, W] or [H, W, C] without a meaning, as '8UC3'.

    Raises:
        ImageEncodingError: there is none for its type.

    """
    native = image.dtype.newbyteorder('=')
    if native not in _NAMES:
        raise ImageEncodingError(f'no encoding for arrays of {image.dtype}')
    return f'{_NAMES[native]}C{1 if image.ndim < 3 else image.shape[2]}'


def decode_image(msg: Any) -> NDArray[Any]:
    """The pixels [H, W] or [H, W, C] in the machine's byte order, without the padding of rows.

    `msg` has the fields of sensor_msgs/Image. Of nv12 and nv21 it has half as many rows more.

    Raises:
        ImageEncodingError: unknown encoding, no pixels, more than 64 million, or fewer bytes than
            the other fields promise.

    """
    encoding, width, height, step = msg.encoding, msg.width, msg.height, msg.step
    dtype, channels = type_of(encoding)
    row_bytes = width * channels * dtype.itemsize
    data = np.frombuffer(msg.data, np.uint8)
    _check_size(f'the {encoding} image', width, height)
    rows = height
    # Most count the rows of the picture, some (OpenCV) all that are stored.
    if encoding in _YUV_420 and (data.size >= step * (height + height // 2) or height % 3):
        rows = height + height // 2
    if step < row_bytes or data.size < step * rows:
        raise ImageEncodingError(
            f'{width}x{height} {encoding} needs {rows} rows of {row_bytes} bytes; '
            f'step is {step}, data has {data.size} bytes'
        )
    stored = data[: step * rows].reshape(rows, step)
    image = np.ascontiguousarray(stored[:, :row_bytes]).view(dtype)
    if dtype.itemsize > 1 and bool(msg.is_bigendian) != (sys.byteorder == 'big'):
        image = image.byteswap()
    return image.reshape(rows, width, channels) if channels > 1 else image


def decode_compressed(data: Any, encoding: str = 'passthrough', mosaic: str = '') -> NDArray[Any]:
    """The pixels of a picture file [H, W] or [H, W, C], blue first unless `encoding` says else.

    `mosaic`: what a grey picture is a mosaic of, as 'bayer_rggb8'.

    Raises:
        ImageEncodingError: the bytes are no picture, a damaged one or one of more than 64
            megapixels, or there is no such conversion.

    """
    file = np.frombuffer(data, np.uint8)
    try:
        kind = picture_header(file.data).kind
    except GsPoseError as error:
        raise ImageEncodingError(str(error)) from error
    image = None
    # Older releases of OpenCV make grey what is missing of a JPEG, and tell the terminal alone.
    if kind != 'JPEG' or _END_OF_JPEG in file.tobytes():
        with suppress(cv2.error):
            image = cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ImageEncodingError(f'the {kind} of {file.size} bytes is cut off or damaged')
    channels = 1 if image.ndim == 2 else image.shape[2]
    if encoding == 'passthrough':
        return image
    source = {1: mosaic.rstrip('0123456789') or 'mono', 3: 'bgr', 4: 'bgra'}.get(channels, '')
    source += str(8 * image.dtype.itemsize)
    if source not in _ENCODINGS:
        raise ImageEncodingError(f'a {kind} with {channels} channels of {image.dtype} is not read')
    return convert(image, source, encoding)


def convert(image: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """The image in another encoding; 'passthrough' as target changes nothing.

    White is 255 of 8 bits and 65535 of 16. Mosaics become colours by the mean of the neighbours,
    YUV as of video (BT.601, 16 to 235), all as in the original cv_bridge.

    Raises:
        ImageEncodingError: there is no such conversion.

    """
    if target in ('passthrough', source):
        return image
    (_, old_channels), (new, new_channels) = type_of(source), type_of(target)
    if target not in _ENCODINGS and old_channels == new_channels:
        return _scaled(image, new)  # a generic encoding has no colours to convert
    if source not in _ENCODINGS or target not in _PLAIN:
        raise ImageEncodingError(f'no conversion from {source} to {target}')
    if image.ndim == 2 and image.dtype != new and _is_mono(source):
        image = _scaled(image, new)  # before there are three of each
    return _scaled(_recolored(image, source, target), new)


def _recolored(image: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """The image in the colours of another encoding, and of its own element type."""
    to = target.rstrip('0123456789').upper().replace('MONO', 'GRAY')
    if source in _YUV_422:
        return _convert_color(_even(image), _YUV_422[source].format(to))[:, : image.shape[1]]
    if source in _YUV_420:
        if image.shape[0] % 3 or image.shape[1] % 2:
            sides = f'{image.shape[1]}x{image.shape[0] * 2 // 3}'
            raise ImageEncodingError(f'{sides} {source}: both sides have to be even')
        return _convert_color(image, _YUV_420[source].format(to))
    from_ = source.rstrip('0123456789')
    if from_ in _MOSAICS:
        if min(image.shape) < 3:  # OpenCV makes these black
            raise ImageEncodingError(f'{image.shape[1]}x{image.shape[0]} is no {source} mosaic')
        return _convert_color(image, f'{_MOSAICS[from_]}2{to}')
    from_ = from_.upper().replace('MONO', 'GRAY')
    return image if from_ == to else _convert_color(image, f'{from_}2{to}')


def _convert_color(image: NDArray[Any], name: str) -> NDArray[Any]:
    return cv2.cvtColor(image, getattr(cv2, f'COLOR_{name}'))


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pairs of pixels only: half a pair takes the missing colour of the pair before it."""
    width = image.shape[1]
    if width == 1:
        raise ImageEncodingError('the image is 1 pixel wide; YUV 4:2:2 has pixels in pairs')
    return image if width % 2 == 0 else np.concatenate([image, image[:, -2:-1]], 1)


def _is_mono(encoding: str) -> bool:
    return encoding in ('mono8', 'mono16')


def _scaled(image: NDArray[Any], new: np.dtype[Any]) -> NDArray[Any]:
    """The image with elements of another type; only between 8 and 16 bits it changes its scale."""
    old = image.dtype
    if old == new:
        return image
    if (old, new) == (np.uint16, np.uint8):
        return cv2.convertScaleAbs(image, alpha=255 / 65535)
    if (old.itemsize, new.itemsize) == (1, 2):
        image = image.astype(np.int32) * 257
    elif (old.itemsize, new.itemsize) == (2, 1):
        image = image * (255 / 65535)
    if new.kind == 'f':
        return image.astype(new)
    limits = np.iinfo(new)
    return np.rint(np.nan_to_num(image)).clip(limits.min, limits.max).astype(new)


def _check_size(what: str, width: int, height: int) -> None:
    try:
        check_pixel_count(what, width, height)
    except GsPoseError as error:
        raise ImageEncodingError(str(error)) from error
