"""One moment of a recorded RGB-D sequence, and all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.picture_file import as_rgb, read_picture, read_upright_picture
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry.camera import Camera

_INVALID = 65535  # of 7-Scenes


@dataclass(frozen=True)
class SequenceFrame:
    """One moment of a sequence, not read yet."""

    stamp_ns: int
    color: Path
    depth: Path
    camera: Camera
    depth_units: float  # per metre
    T_world_cam: NDArray[np.float64] | None  # [4, 4] where the truth is known
    why_no_pose: str = ''  # where it is not

    @property
    def number(self) -> str:
        """The name of the picture without its ending, as lists of frames give it."""
        return self.color.stem

    def read(self) -> RGBDFrame:
        """Colour and depth.

        Raises:
            GsPoseError: a picture is missing, broken, or of another size than the camera's.

        """
        color, depth = read_upright_picture(self.color), read_picture(self.depth)
        for path, image in ((self.color, color), (self.depth, depth)):
            check_size(path, image.shape[1], image.shape[0], self.camera)
        if depth.dtype != np.uint16 or depth.ndim != 2:
            channels = 1 if depth.ndim == 2 else depth.shape[2]
            raise GsPoseError(
                f'{self.depth}: depth is 16 bit with one channel, this is {depth.dtype} with '
                f'{channels}'
            )
        metres = np.where(depth == _INVALID, 0, depth).astype(np.float32) / self.depth_units
        return RGBDFrame.from_uint8(as_rgb(self.color, color), metres, self.camera, self.stamp_ns)


@dataclass(frozen=True)
class RecordedSequence(Sequence[SequenceFrame]):
    """The frames of a folder in the order of time, and what is to be said of it."""

    frames: Sequence[SequenceFrame]
    # Pictures that make no frame: the stamp (ns) and the reason of each.
    missed: Sequence[tuple[int, str]] = ()
    notes: Sequence[str] = ()  # what was assumed or left out, for whoever waits for the result

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> SequenceFrame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SequenceFrame]: ...
    def __getitem__(self, index: int | slice) -> SequenceFrame | Sequence[SequenceFrame]:
        return self.frames[index]


def check_size(path: Path, width: int, height: int, camera: Camera) -> None:
    """Raise GsPoseError unless a picture of that size is of the camera."""
    if (height, width) != camera.shape:
        raise GsPoseError(
            f'{path}: is {width} x {height}, its camera {camera.width} x {camera.height} '
            '(intrinsics.txt says which)'
        )
