"""Pictures in files that others wrote: their size is known before they are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.picture_header import PictureHeader, picture_header
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.regular_files import read_regular

_MOST_BYTES = 2**29  # 64 megapixels, uncompressed, with four channels of 16 bit


@dataclass(frozen=True)
class PictureFile:
    """A picture's file, read once, of which the header is known and the pixels are not yet."""

    path: Path
    header: PictureHeader
    content: bytes

    @classmethod
    def read(cls, path: Path) -> PictureFile:
        """Read the file; raises as `read_picture`, but for what only the pixels show."""
        content = read_regular(path, _MOST_BYTES)
        try:
            return cls(path, picture_header(content), content)
        except GsPoseError as error:
            raise GsPoseError(f'{path}: {error}') from error

    def pixels(self) -> NDArray[Any]:
        """As `read_picture`."""
        try:
            image = cv2.imdecode(np.frombuffer(self.content, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            image = None
        if image is None:
            raise GsPoseError(f'{self.path}: the picture is damaged; its pixels cannot be read')
        return image


def read_picture(path: Path) -> NDArray[Any]:
    """The pixels [H, W] or [H, W, C] (BGR, BGRA) of any depth, as stored: EXIF turns nothing.

    Raises:
        GsPoseError: missing, no regular file, no picture, damaged, or larger than 64 megapixels.

    """
    return PictureFile.read(path).pixels()


def read_upright_picture(path: Path) -> NDArray[Any]:
    """The pixels of a picture that viewers show as it is stored.

    Raises:
        GsPoseError: as `read_picture`; or EXIF turns it, and nobody knows to which of the two its
            camera and poses belong.

    """
    file = PictureFile.read(path)
    orientation = file.header.orientation
    if orientation != 1:
        raise GsPoseError(
            f'{path}: EXIF orientation {orientation} turns this picture on the screen; '
            'store it without that mark, as its camera and masks have it'
        )
    return file.pixels()


def read_picture_header(path: Path) -> PictureHeader:
    """Size and EXIF orientation of a picture; raises as `read_picture`."""
    return PictureFile.read(path).header


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
