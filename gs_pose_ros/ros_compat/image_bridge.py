"""What is used of ROS' `cv_bridge`, same names and signatures, in numpy and OpenCV alone."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

# Encodings with a meaning, as (element type, channels); `8UC3` and the like are parsed.
_ENCODINGS = {
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
_DEPTHS = {
    '8U': np.uint8,
    '8S': np.int8,
    '16U': np.uint16,
    '16S': np.int16,
    '32S': np.int32,
    '32F': np.float32,
    '64F': np.float64,
}


class CvBridgeError(TypeError):
    """A conversion that is not possible."""


class CvBridge:
    """Converts between numpy images and image messages."""

    def imgmsg_to_cv2(
        self, img_msg: Image, desired_encoding: str = 'passthrough'
    ) -> NDArray[Any]:
        """The pixels [H, W] or [H, W, C] in the machine's byte order, row padding removed.

        Raises:
            CvBridgeError: unknown encoding, too few bytes, or no conversion between the two.

        """
        dtype, channels = _type_of(img_msg.encoding)
        row_bytes = img_msg.width * channels * dtype.itemsize
        data = np.frombuffer(img_msg.data, np.uint8)
        if img_msg.step < row_bytes or data.size < img_msg.step * img_msg.height:
            raise CvBridgeError(
                f'{img_msg.width}x{img_msg.height} {img_msg.encoding} needs rows of {row_bytes} '
                f'bytes; step is {img_msg.step}, data has {data.size} bytes'
            )
        rows = data[: img_msg.step * img_msg.height].reshape(img_msg.height, img_msg.step)
        image = np.ascontiguousarray(rows[:, :row_bytes]).view(dtype)
        if dtype.itemsize > 1 and bool(img_msg.is_bigendian) != (sys.byteorder == 'big'):
            image = image.byteswap()
        if channels > 1:
            image = image.reshape(img_msg.height, img_msg.width, channels)
        return _convert(image, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: NDArray[Any], encoding: str = 'passthrough', header: Any = None
    ) -> Image:
        """A message of the pixels [H, W] or [H, W, C].

        Raises:
            CvBridgeError: the array's type is not that of `encoding`.

        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError('Your input type is not a numpy array')
        channels = 1 if cvim.ndim < 3 else cvim.shape[2]
        native = cvim.dtype.newbyteorder('=')
        names = {np.dtype(t): name for name, t in _DEPTHS.items()}
        if native not in names:
            raise CvBridgeError(f'no encoding for arrays of {cvim.dtype}')
        if encoding == 'passthrough':
            encoding = f'{names[native]}C{channels}'
        elif _type_of(encoding) != (native, channels):
            raise CvBridgeError(
                f'encoding specified as {encoding}, but image has incompatible type '
                f'{names[native]}C{channels}'
            )
        msg = Image(encoding=encoding)
        if header is not None:
            msg.header = header
        msg.height, msg.width = int(cvim.shape[0]), int(cvim.shape[1])
        msg.step = msg.width * channels * native.itemsize
        msg.is_bigendian = int(sys.byteorder == 'big')
        msg.data = _bytes_of(cvim.astype(native, copy=False))
        return msg

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = 'passthrough'
    ) -> NDArray[Any]:
        """The decoded picture, blue first where it has colour.

        Raises:
            CvBridgeError: the bytes are no picture, or there is no such conversion.

        """
        data = np.frombuffer(cmprs_img_msg.data, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if image is None:
            raise CvBridgeError(f'{data.size} bytes of {cmprs_img_msg.format!r} do not decode')
        if desired_encoding == 'passthrough':
            return image
        channels = 1 if image.ndim == 2 else image.shape[2]
        source = {1: 'mono', 3: 'bgr', 4: 'bgra'}[channels] + str(8 * image.dtype.itemsize)
        return _convert(image, source, desired_encoding)

    def cv2_to_compressed_imgmsg(
        self, cvim: NDArray[Any], dst_format: str = 'jpg'
    ) -> CompressedImage:
        """The picture (blue first) encoded as a file of that type.

        Raises:
            CvBridgeError: OpenCV cannot write such an array in this format.

        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError('Your input type is not a numpy array')
        try:
            encoded = cv2.imencode('.' + dst_format, cvim)[1]
        except cv2.error as error:
            raise CvBridgeError(str(error)) from error
        return CompressedImage(format=dst_format, data=_bytes_of(encoded))


def _type_of(encoding: str) -> tuple[np.dtype[Any], int]:
    if encoding in _ENCODINGS:
        element, channels = _ENCODINGS[encoding]
        return np.dtype(element), channels
    depth, separator, count = encoding.partition('C')
    if depth not in _DEPTHS or not separator or count not in ('1', '2', '3', '4'):
        raise CvBridgeError(f'unknown encoding {encoding!r}')
    return np.dtype(_DEPTHS[depth]), int(count)


def _convert(image: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    if target in ('passthrough', source):
        return image
    if source not in _ENCODINGS or target not in _ENCODINGS:
        # A generic encoding has no colours to convert: only its name may change.
        if _type_of(source) == _type_of(target):
            return image
        raise CvBridgeError(f'no conversion from {source} to {target}')
    (old, _), (new, _) = _ENCODINGS[source], _ENCODINGS[target]
    if old != new:  # 255 and 65535 are the same white
        image = (image.astype(np.uint16) * 257) if new is np.uint16 else _to_8_bit(image)
    names = [name.rstrip('0123456789').upper() for name in (source, target)]
    from_, to = ('GRAY' if name == 'MONO' else name for name in names)
    return image if from_ == to else cv2.cvtColor(image, getattr(cv2, f'COLOR_{from_}2{to}'))


def _to_8_bit(image: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return np.rint(image * (255 / 65535)).astype(np.uint8)


def _bytes_of(pixels: NDArray[Any]) -> array[int]:
    """The only form that is fast with and without rclpy's field checks."""
    data = array('B')
    data.frombytes(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)
    return data
