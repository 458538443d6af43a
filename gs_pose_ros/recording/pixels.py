"""Colour and depth of image messages, raw or compressed, in the units of the core.

Messages are known by their fields only, as those of rclpy and of `rosbags` have them alike.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.picture_header import check_pixel_count, picture_header
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.recording.image_encoding import (
    COLOR_ENCODINGS,
    ImageEncodingError,
    convert,
    decode_compressed,
    decode_image,
)
from gs_pose_ros.recording.rvl import decode_rvl

DEPTH_ENCODINGS = ('16UC1', 'mono16', '32FC1', '64FC1')
# What RViz and Foxglove take these for: OpenCV's order, as its users publish them.
_MEANT = {'8UC1': 'mono8', '8UC3': 'bgr8', '8UC4': 'bgra8'}
_PNG = b'\x89PNG'
_HEADER = struct.Struct('<i2f')  # of compressed_depth_image_transport
# A median depth outside of this (m) is one in the wrong unit.
_PLAUSIBLE_M = (0.05, 50.0)
_SATURATED = 65535  # of 16 bits: beyond the range, for some cameras the value of no depth


def color_from_message(msg: Any) -> NDArray[np.uint8]:
    """RGB [H, W, 3] uint8 of an Image or CompressedImage.

    Read are the encodings of `COLOR_ENCODINGS`, 8UC3 and 8UC4 as blue first, 8UC1 as grey; and
    picture files, also grey ones that hold a mosaic.

    Raises:
        GsPoseError: another encoding, no picture, or fewer bytes than the header promises.

    """
    try:
        if hasattr(msg, 'format'):
            return decode_compressed(msg.data, 'rgb8', _compressed_mosaic(msg.format))
        _check_encoding(msg.encoding, (*COLOR_ENCODINGS, *_MEANT))
        encoding: str = _MEANT.get(msg.encoding) or msg.encoding
        return convert(decode_image(msg), encoding, 'rgb8')
    except ImageEncodingError as error:
        raise GsPoseError(f'colour image: {error}') from error
    except cv2.error as error:  # its words are of C++
        raise GsPoseError(f'colour image: {_undecodable(msg)}') from error


def depth_from_message(msg: Any) -> NDArray[np.float32]:
    """Depth [H, W] float32 m of an Image or CompressedImage; invalid values as they came.

    REP 118: 16-bit depth is in millimetres, float depth in metres. Of compressed ones, files of 16
    bits (as PNG) are read, and compressedDepth as PNG or RVL.

    Raises:
        GsPoseError: another encoding, no picture, fewer bytes than the header promises, or depth
            that can only be in another unit.

    """
    try:
        if hasattr(msg, 'format'):
            return _metres(_decompressed_depth(msg), msg.format)
        _check_encoding(msg.encoding, DEPTH_ENCODINGS)
        return _metres(decode_image(msg), msg.encoding)
    except (GsPoseError, ImageEncodingError) as error:
        raise GsPoseError(f'depth image: {error}') from error
    except cv2.error as error:  # its words are of C++
        raise GsPoseError(f'depth image: {_undecodable(msg)}') from error


def _undecodable(msg: Any) -> str:
    said = msg.format if hasattr(msg, 'format') else msg.encoding
    return f'{len(msg.data)} bytes of {_short(said)} cannot be decoded'


def _check_encoding(encoding: str, known: tuple[str, ...]) -> None:
    if encoding not in known:
        raise ImageEncodingError(f'encoding {_short(encoding)} is not one of {", ".join(known)}')


def _compressed_mosaic(form: str) -> str:
    """What compressed_image_transport has compressed: '' unless it was a mosaic.

    Raises:
        ImageEncodingError: it was depth.

    """
    source = form.partition(';')[0].strip()
    if 'compressedDepth' in form or source in ('16UC1', '32FC1'):
        raise ImageEncodingError(f'{_short(form)} is depth, not colour')
    return source if source.startswith('bayer_') else ''


def _decompressed_depth(msg: Any) -> NDArray[Any]:
    """Millimetres of 16 bits or metres of 32 [H, W]."""
    data = np.frombuffer(msg.data, np.uint8).data
    if 'compressedDepth' not in msg.format:
        kind = picture_header(data).kind
        if kind in ('JPEG', 'WEBP'):
            raise GsPoseError(
                f'{_short(msg.format)} is a {kind}: 8 bits, too few for depth, and none of them '
                'exact. Take the topic .../compressedDepth of the same camera, or the raw images'
            )
        image = decode_compressed(data)
        if image.dtype == np.uint16 and msg.format.startswith('32FC1'):
            raise GsPoseError(
                f'{_short(msg.format)} has 16 bits, whose unit nothing tells; take the raw images'
            )
        return image
    inverse = '32FC1' in msg.format
    if data[:4] == _PNG and not inverse:  # some writers leave the header out
        return decode_compressed(data)
    if len(data) <= _HEADER.size:
        raise GsPoseError(
            f'{len(data)} bytes are too few for compressedDepth, whose header has 12'
        )
    _, a, b = _HEADER.unpack_from(data)
    stored = data[_HEADER.size :]
    if 'rvl' in msg.format and stored[:4] != _PNG:
        if len(stored) < 8:
            raise GsPoseError(
                f'{len(data)} bytes of {_short(msg.format)} are cut off: width and height '
                'are missing'
            )
        width, height = struct.unpack_from('<II', stored)
        check_pixel_count('the RVL image', width, height)
        image = decode_rvl(stored[8:], width, height)
    else:
        image = decode_compressed(stored)
    return _from_inverse(image, a, b) if inverse else image


def _from_inverse(image: NDArray[Any], a: float, b: float) -> NDArray[np.float32]:
    """Metres of what is stored as a / z + b (the codec's depthQuantA and depthQuantB); 0 is none.

    Raises:
        GsPoseError: a and b are not those of a codec, or the image is no such one.

    """
    if image.ndim != 2 or image.dtype != np.uint16:
        raise GsPoseError(f'inverse depth of 16 bits was expected, got {_described(image)}')
    # a = z0 (z0 + 1) and b = 1 - a / z_max: 1 stands for the depth z_max.
    if not (0 < a < np.inf and -np.inf < b <= 1):
        raise GsPoseError(
            f'the header of 32FC1 compressedDepth says a = {a:g}, b = {b:g}; a must be '
            'above 0 and b at most 1'
        )
    inverse = image - np.float32(b)
    known = (image > 0) & (inverse > 0)
    return np.where(known, np.float32(a) / np.where(known, inverse, 1), np.float32(0))


def _metres(depth: NDArray[Any], encoding: str) -> NDArray[np.float32]:
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32, np.float64):
        raise GsPoseError(
            f'{_short(encoding)} holds {_described(depth)}: '
            'one of 16 bit, in millimetres, or of floats, in metres, is needed'
        )
    _check_unit(depth)
    if depth.dtype == np.uint16:
        return depth * np.float32(0.001)
    with np.errstate(over='ignore'):  # inf is as invalid as 1e300
        return depth.astype(np.float32, copy=False)


def _check_unit(depth: NDArray[Any]) -> None:
    """Raise GsPoseError if the depth can only be in another unit than its encoding means."""
    is_short = depth.dtype == np.uint16
    limit, scale = (_SATURATED, 1e-3) if is_short else (np.inf, 1.0)
    step = max(1, min(depth.shape) // 48)  # some thousand pixels are enough
    sample = depth[::step, ::step]
    valid = sample[(sample > 0) & (sample < limit)]
    if not valid.size:
        return
    median = float(np.median(valid)) * scale
    if not _PLAUSIBLE_M[0] <= median <= _PLAUSIBLE_M[1]:
        raise GsPoseError(
            f'the median depth is {median:.3g} m: 16UC1 has to be in millimetres, 32FC1 in metres '
            '(REP 118)'
        )


def _described(image: NDArray[Any]) -> str:
    channels = 1 if image.ndim == 2 else image.shape[2]
    return f'{channels} channel{"s"[: channels > 1]} of {image.dtype}'


def _short(text: str) -> str:
    """What a stranger wrote, so that it fits into a line."""
    return repr(text if len(text) <= 60 else f'{text[:57]}...')
