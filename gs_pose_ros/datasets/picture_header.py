"""What a picture file says of itself in its first bytes: read before anything is decoded.

A PNG of 400 kB may hold 1.6 GiB of one colour: its size is known before that is unpacked.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

from PIL import Image

from gs_pose_ros.errors import GsPoseError

# More than any camera's; with colour and depth in single precision, 1 GiB.
MOST_PIXELS = 64_000_000
# What both libraries know: Pillow reads the header, OpenCV the pixels. Not JPEG 2000: its outer
# header need not say what is decoded.
_FORMATS = ('PNG', 'JPEG', 'TIFF', 'BMP', 'WEBP', 'PPM')
_EXIF_ORIENTATION = 0x0112


class PictureHeader(NamedTuple):
    """Kind of file, size in pixels as stored, and EXIF's orientation."""

    kind: str
    width: int
    height: int
    orientation: int = 1  # 1 to 8; 1: upright as stored, 6: to be turned clockwise


def picture_header(data: bytes | memoryview) -> PictureHeader:
    """The header of a picture file, which need not be whole.

    Raises:
        GsPoseError: it is no picture of a kind that is read, or is empty, or has more than 64
            million pixels. The message does not name the file: its reader does.

    """
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise GsPoseError(f'has more than {MOST_PIXELS // 1_000_000} megapixels') from error
    except Exception as error:  # damaged headers raise what they meet: KeyError, struct.error
        raise GsPoseError(
            f'{len(data)} bytes are not a picture that can be read, or a damaged one; read are '
            f'{", ".join(_FORMATS)}'
        ) from error
    check_pixel_count(f'the {image.format}', *image.size)
    return PictureHeader(str(image.format), *image.size, _orientation(image))


def check_pixel_count(what: str, width: int, height: int) -> None:
    """Raise GsPoseError if a picture of that size has no pixels, or more than 64 million."""
    if width < 1 or height < 1:
        raise GsPoseError(f'{what} is {width}x{height}: it has no pixels')
    if width * height > MOST_PIXELS:
        raise GsPoseError(
            f'{what} is {width}x{height}, {width * height / 1e6:.0f} megapixels: '
            f'at most {MOST_PIXELS // 1_000_000} are read'
        )


def _orientation(image: Image.Image) -> int:
    """Of EXIF; 1 where it says nothing, or nothing that there is."""
    if image.format == 'TIFF':  # OpenCV turns these by itself
        return 1
    if image.format == 'PNG' and 'exif' not in image.info:  # or Pillow would decode the pixels
        return 1
    try:
        found = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - damaged; the pixels need not be
        return 1
    return int(found) if found in range(1, 9) else 1
