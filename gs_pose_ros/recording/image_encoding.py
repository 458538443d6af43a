"""The pixels of image messages by their encodings (sensor_msgs/image_encodings.hpp); no ROS."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Encodings with a meaning, as (element type, channels); `8UC3` and the like are parsed.
_ENCODINGS: dict[str, tuple[type, int]] = {
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
    depth, separator, count = encoding.partition('C')
    if depth not in _DEPTHS or not separator or count not in ('1', '2', '3', '4'):
        raise ImageEncodingError(f'unknown encoding {encoding!r}')
    return np.dtype(_DEPTHS[depth]), int(count)


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

    `msg` has the fields of sensor_msgs/Image.

    Raises:
        ImageEncodingError: unknown encoding, or fewer bytes than the other fields promise.

    """
    dtype, channels = type_of(msg.encoding)
    row_bytes = msg.width * channels * dtype.itemsize
    data = np.frombuffer(msg.data, np.uint8)
    if msg.step < row_bytes or data.size < msg.step * msg.height:
        raise ImageEncodingError(
            f'{msg.width}x{msg.height} {msg.encoding} needs rows of {row_bytes} bytes; '
            f'step is {msg.step}, data has {data.size} bytes'
        )
    rows = data[: msg.step * msg.height].reshape(msg.height, msg.step)
    image = np.ascontiguousarray(rows[:, :row_bytes]).view(dtype)
    if dtype.itemsize > 1 and bool(msg.is_bigendian) != (sys.byteorder == 'big'):
        image = image.byteswap()
    return image.reshape(msg.height, msg.width, channels) if channels > 1 else image


def decode_compressed(data: Any, encoding: str = 'passthrough') -> NDArray[Any]:
    """The pixels of a picture file [H, W] or [H, W, C], blue first unless `encoding` says else.

    Raises:
        ImageEncodingError: the bytes are no picture, or there is no such conversion.

    """
    file = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(file, cv2.IMREAD_UNCHANGED) if file.size else None
    if image is None:
        raise ImageEncodingError(f'{file.size} bytes are no picture that OpenCV can read')
    channels = 1 if image.ndim == 2 else image.shape[2]
    source = {1: 'mono', 3: 'bgr', 4: 'bgra'}[channels] + str(8 * image.dtype.itemsize)
    return convert(image, source, encoding)


def convert(image: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """The image in another encoding; 'passthrough' as target changes nothing.

    Raises:
        ImageEncodingError: there is no such conversion.

    """
    if target in ('passthrough', source):
        return image
    if source not in _ENCODINGS or target not in _ENCODINGS:
        # A generic encoding has no colours to convert: only its name may change.
        if type_of(source) == type_of(target):
            return image
        raise ImageEncodingError(f'no conversion from {source} to {target}')
    old, new = _ENCODINGS[source][0], _ENCODINGS[target][0]
    if old != new:  # 255 and 65535 are the same white
        image = image.astype(np.uint16) * 257 if new is np.uint16 else _to_8_bit(image)
    names = [name.rstrip('0123456789').upper() for name in (source, target)]
    from_, to = ('GRAY' if name == 'MONO' else name for name in names)
    return image if from_ == to else cv2.cvtColor(image, getattr(cv2, f'COLOR_{from_}2{to}'))


def _to_8_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(image * (255 / 65535)).astype(np.uint8)
