"""Pictures in files that others wrote: their size is known before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gs_pose_ros.datasets.regular_file import opened
from gs_pose_ros.errors import GsPoseError

# What both libraries know: Pillow reads the header, OpenCV the pixels.
_FORMATS = ('PNG', 'JPEG', 'TIFF', 'BMP', 'WEBP', 'PPM', 'JPEG2000')
# A file of 0.4 MB can hold 400 megapixels of one colour; cameras for this work have up to 12.
_MOST_PIXELS = 64_000_000
_MOST_BYTES = 2**29  # those pixels, uncompressed, with four channels of 16 bit
_TOO_LARGE = f'more than {_MOST_PIXELS // 1_000_000} megapixels; make it smaller'
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class PictureHeader:
    """What a picture's file says before its pixels."""

    width: int  # as stored
    height: int
    orientation: int = 1  # of EXIF, 1 to 8; 1: upright as stored, 6: to be turned clockwise


def read_picture(path: Path) -> NDArray[Any]:
    """The pixels [H, W] or [H, W, C] (BGR, BGRA) of any depth, as stored: EXIF turns nothing.

    Raises:
        GsPoseError: missing, no regular file, no picture, damaged, or larger than 64 megapixels.

    """
    with opened(path, _MOST_BYTES) as file:
        _header(path, file)
        file.seek(0)
        data = np.frombuffer(file.read(), np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise GsPoseError(f'{path}: the picture is damaged; its pixels cannot be read')
    return image


def read_picture_header(path: Path) -> PictureHeader:
    """Size and EXIF orientation of a picture; raises as `read_picture`."""
    with opened(path, _MOST_BYTES) as file:
        return _header(path, file)


def turned_upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The pixels as a viewer shows them that heeds the EXIF orientation (CIPA DC-008, 4.6.5)."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def as_rgb(path: Path, image: NDArray[Any]) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of what `read_picture` read from that path; a fourth channel is left out.

    Raises:
        GsPoseError: it has not 8 bits a channel.

    """
    channels = 1 if image.ndim == 2 else image.shape[2]
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if image.dtype != np.uint8 or channels not in codes:
        raise GsPoseError(
            f'{path}: the picture has {channels} channels of {image.dtype}; 1, 3 or 4 channels of '
            '8 bits are needed'
        )
    return np.asarray(cv2.cvtColor(image, codes[channels]), np.uint8)


def _header(path: Path, file: IO[bytes]) -> PictureHeader:
    try:
        image = Image.open(file, formats=_FORMATS)
        width, height = image.size
        header = PictureHeader(width, height, _orientation(image))
    except Image.DecompressionBombError as error:
        raise GsPoseError(f'{path}: {_TOO_LARGE}') from error
    except Exception as error:  # damaged headers raise what they meet: KeyError, struct.error
        raise GsPoseError(
            f'{path}: is no picture that can be read ({", ".join(_FORMATS)})'
        ) from error
    if width * height > _MOST_PIXELS:
        raise GsPoseError(f'{path}: {width} x {height}: {_TOO_LARGE}')
    return header


def _orientation(image: Image.Image) -> int:
    """Of EXIF; 1 where it says nothing, or nothing that there is."""
    if image.format == 'TIFF':  # OpenCV turns these by itself
        return 1
    if image.format == 'PNG' and 'exif' not in image.info:  # or Pillow would decode the pixels
        return 1
    found = image.getexif().get(_EXIF_ORIENTATION, 1)
    return int(found) if found in range(1, 9) else 1
