"""Where the posed, masked pictures of a registration come from, on disk or from a camera.

The object_database node and `gs-pose register` both read them here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.allowed_roots import check_links
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.board import AprilTagGrid, CharucoBoard
from gs_pose_ros.objects.bop_views import read_bop_views
from gs_pose_ros.objects.depth_scale import check_depth_scale
from gs_pose_ros.objects.masks import MaskMode, add_masks, checked_box
from gs_pose_ros.objects.sources import RegistrationView, views_from_frames
from gs_pose_ros.objects.transforms_json import read_capture
from gs_pose_ros.recording.bags import (
    BagFrame,
    left_out_text,
    read_bag_frames,
    read_transforms,
)
from gs_pose_ros.recording.camera_topics import BagInput, find_topics
from gs_pose_ros.recording.transform_tree import TransformTree, UnknownTransform

SourceKind = Literal['bop', 'transforms', 'bag', 'topics']
Board = CharucoBoard | AprilTagGrid

_UNIT_UNKNOWN = (
    'no depth: sizes are in the unit of transforms.json, taken for metres; if it is another, as '
    "COLMAP's is, set metres_per_unit (--metres-per-unit)"
)


@dataclass(frozen=True)
class RegistrationSource:
    """What to register an object from.

    Bags and topics need the camera's pose over the object: from `board` under it, or from TF
    between the image's frame and `object_frame`. `box` [2, 3] (m, object frame) is needed to make
    masks where none are given.
    """

    kind: SourceKind
    path: Path | None = None  # None for topics
    bop_object_id: int = 0
    box: NDArray[np.float64] | None = None
    mask_mode: MaskMode = MaskMode.AUTO
    use_depth: bool = True
    board: Board | None = None
    object_frame: str = ''
    duration_s: float = 0.0  # of a bag, from its start; 0 is all
    max_views: int = 0  # evenly spread; 0 is all
    metres_per_unit: float = 0.0  # of transforms.json; 0: its unit is a metre, or nobody knows
    bag: BagInput = BagInput()
    roots: tuple[Path, ...] = ()  # what files name elsewhere is not read; (): it is

    def __post_init__(self) -> None:
        """Refuse what makes no sense; see `check_kind` for the path.

        Raises:
            GsPoseError: a count, time or unit is negative or not finite, the box is none, or the
                kind of source lacks what it needs or has no use for what is given.

        """
        for name, value in (
            ('max_views (--max-views)', self.max_views),
            ('duration', self.duration_s),
            ('metres_per_unit (--metres-per-unit)', self.metres_per_unit),
        ):
            if not (np.isfinite(value) and value >= 0):
                raise GsPoseError(f'{name} is {value:g}; it must be 0 or above')
        if self.box is not None:
            checked_box(self.box)
        if self.kind in ('bag', 'topics'):
            if self.board is None and not self.object_frame:
                raise GsPoseError(
                    'give a board (--board), or the TF frame of the object in '
                    'object_frame (--object-frame)'
                )
            if self.box is None or self.mask_mode is MaskMode.GIVEN:
                raise GsPoseError(
                    'pictures of a camera come without masks: give the 3-D box of the object '
                    'in box_min and box_max (--box), and a mask_mode (--masks) other than given'
                )
        elif self.board is not None:
            raise GsPoseError(
                'a board (--board) is for bags and topics alone: other sources have poses'
            )
        if self.metres_per_unit and self.kind != 'transforms':
            raise GsPoseError(
                'metres_per_unit (--metres-per-unit) is for transforms.json alone, not '
                f'for {self.kind}'
            )

    def views(self, live: Iterable[BagFrame] = (), tf: TransformTree | None = None) -> Views:
        """Read everything; `live` frames and their `tf` are for topics.

        Raises:
            GsPoseError: it cannot be read, has no poses, or has no masks and none can be made.

        """
        box = self.box
        notes: list[str] = []
        if self.kind == 'transforms' and self.path is not None:
            unit = self.metres_per_unit or 1.0
            found = read_capture(self.path, self.max_views, unit, self.use_depth, self.roots)
            views = found.views
            notes += found.notes
            box = found.box if box is None else box
            if not self.metres_per_unit and all(view.depth is None for view in views):
                notes.append(_UNIT_UNKNOWN)
        else:
            views = self._posed(live, tf, notes)
        with self._named():
            masked = add_masks(views, self.mask_mode, box)
            if self.kind in ('bop', 'transforms'):  # files that say themselves what a step is
                check_depth_scale(masked)
        if len(masked) < len(views):
            left_out = f'{len(views) - len(masked)} of {len(views)} pictures'
            notes.append(f'{left_out} have no usable mask and are left out')
        return Views(masked, box, tuple(notes))

    def _posed(
        self, live: Iterable[BagFrame], tf: TransformTree | None, notes: list[str]
    ) -> list[RegistrationView]:
        if self.kind == 'topics':
            return self._from_camera(list(live), tf or TransformTree())
        if self.path is None:
            raise GsPoseError(f'a registration from {self.kind} needs a path')
        if self.kind == 'bop':
            if self.roots:
                check_links(self.path.with_name(self.path.name.partition(':')[0]), self.roots)
            return read_bop_views(self.path, self.bop_object_id, self.max_views, self.use_depth)
        tree = None if self.board is not None else read_transforms(self.path, self.roots)
        recorded = self._recorded(self.path, tree, notes)
        with self._named():
            return self._from_camera(recorded, tree or TransformTree())

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors about the views together name the place they are from."""
        try:
            yield
        except GsPoseError as error:
            raise GsPoseError(f'{self.path or "topics"}: {error}') from error

    def _recorded(self, bag: Path, tree: TransformTree | None, notes: list[str]) -> list[BagFrame]:
        topics = find_topics(bag, self.use_depth, self.bag, self.roots)
        if self.use_depth and not topics.depth:
            notes.append(
                f'no depth beside {topics.color}: the object is registered without; image topics: '
                f'{topics.listing}'
            )
        reasons: Counter[str] = Counter()
        frames = read_bag_frames(
            bag,
            topics,
            wanted=self.bag,
            left_out=lambda _, reason: reasons.update([reason]),
            tf=tree,
            roots=self.roots,
        )
        out: list[BagFrame] = []
        for item in frames:
            if out and self.duration_s > 0:
                seconds = (item.frame.stamp_ns - out[0].frame.stamp_ns) / 1e9
                if seconds > self.duration_s:
                    break
            out.append(item)
        if reasons:
            notes.append(left_out_text(reasons))
        return out

    def _from_camera(self, frames: list[BagFrame], tf: TransformTree) -> list[RegistrationView]:
        pictures = [f.frame if self.use_depth else f.frame.without_depth() for f in frames]
        if self.board is not None:
            return views_from_frames(pictures, self.board, max_views=self.max_views)
        poses: list[NDArray[np.float64] | None] = []
        reason = ''
        for item in frames:
            try:
                poses.append(tf.lookup(item.frame_id, self.object_frame, item.frame.stamp_ns))
            except UnknownTransform as error:
                poses.append(None)
                reason = str(error)
        if all(pose is None for pose in poses):
            raise GsPoseError(f'no image has a pose: {reason or "there are no images"}')
        return views_from_frames(pictures, poses, max_views=self.max_views)


@dataclass(frozen=True)
class Views:
    """The pictures, and the object's box [2, 3] (m) if it is known."""

    views: list[RegistrationView]
    box: NDArray[np.float64] | None
    notes: tuple[str, ...] = ()  # what was not as asked for, for people
