"""Where the posed frames of a map come from, on disk or from a camera.

The localizer's node and `gs-pose map` both read them here, one frame at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.rgbd_sequences import chosen, read_sequence
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.sources import thinned
from gs_pose_ros.recording.bags import (
    BagFrame,
    LeftOut,
    Odometry,
    count_messages,
    read_bag_frames,
    read_odometry,
    read_transforms,
)
from gs_pose_ros.recording.camera_topics import BagInput, find_topics
from gs_pose_ros.recording.transform_tree import TransformTree, UnknownTransform

MapSourceKind = Literal['folder', 'bag', 'topics']
PosedFrame = tuple[RGBDFrame, NDArray[np.float64]]  # with T_map_cam [4, 4]
# The pose T_map_cam of a camera's frame at a time; raises UnknownTransform.
PoseOf = Callable[[str, int], NDArray[np.float64]]


@dataclass(frozen=True)
class MapSource:
    """What to make a map of.

    A folder is a sequence in the layout of TUM RGB-D or 7-Scenes with poses. Bags and topics have
    the camera's pose in TF, between the image's frame and `map_frame`; bags also in
    `odometry_topic` (nav_msgs/Odometry), from whose child frame TF leads to the image's frame,
    unless it is that itself. The map then has the odometry's origin.
    """

    kind: MapSourceKind
    path: Path | None = None  # None for topics
    map_frame: str = 'map'
    odometry_topic: str = ''
    duration_s: float = 0.0  # from the first frame on; 0 is all
    max_frames: int = 0  # evenly spread (of topics, the first); 0 is all
    frame_list: Path | None = None  # of a folder only the pictures named there, one a line
    bag: BagInput = BagInput()
    roots: tuple[Path, ...] = ()  # files elsewhere are not read; (): they are

    def frames(
        self,
        live: Iterable[BagFrame] = (),
        tf: TransformTree | None = None,
        missed: LeftOut | None = None,
        left_out: LeftOut | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Iterator[PosedFrame]:
        """Read one frame after the other; `live` frames and their `tf` are for topics.

        `missed(stamp_ns, reason)` is told of frames that have no pose or no depth and are left
        out, `left_out(stamp_ns, reason)` of images of a bag that become no frame, `note(text)` of
        what was assumed of a folder.

        Raises:
            GsPoseError: it cannot be read, or no frame has a pose. What is wrong with a frame is
                raised when its turn comes.

        """
        missed = missed or (lambda stamp_ns, reason: None)
        if self.frame_list is not None and self.kind != 'folder':
            raise GsPoseError(f'--frame-list is for a folder alone, not for {self.kind}')
        if self.kind == 'topics':
            if self.odometry_topic:
                raise GsPoseError(
                    'odometry_topic is for bags alone; live topics have their poses from TF'
                )
            yield from self._posed(live, self._in_tf(tf or TransformTree()), missed)
            return
        if self.path is None:
            raise GsPoseError(f'a map from a {self.kind} needs a path; it is empty')
        if self.kind == 'folder':
            yield from self._from_folder(self.path, missed, note or (lambda text: None))
            return
        tree = read_transforms(self.path, self.roots)
        if self.odometry_topic:
            odometry = read_odometry(self.path, self.odometry_topic, self.roots)
            pose_of = self._along(odometry, tree)
        elif self.map_frame.lstrip('/') in tree.frames:
            pose_of = self._in_tf(tree)
        else:
            raise GsPoseError(
                f'{self.path}: no TF frame {self.map_frame!r} for map_frame (--map-frame); '
                f'{_known(tree)}'
            )
        recorded = self._recorded(self.path, tree, left_out)
        yield from self._posed(recorded, pose_of, missed)

    def _from_folder(
        self, folder: Path, missed: LeftOut, note: Callable[[str], None]
    ) -> Iterator[PosedFrame]:
        recorded = read_sequence(folder)
        for text in recorded.notes:
            note(text)
        sequence, left_out = recorded.frames, [*recorded.missed]
        if self.frame_list is not None:
            sequence, left_out = chosen(sequence, self.frame_list), []
        posed = [item for item in sequence if item.T_world_cam is not None]
        left_out += [(i.stamp_ns, i.why_no_pose) for i in sequence if i.T_world_cam is None]
        if not posed:
            raise GsPoseError(
                f'{folder}: none of its {len(sequence)} frames has a pose: {left_out[-1][1]}'
            )
        begin_ns = min(item.stamp_ns for item in posed)
        for stamp_ns, reason in left_out:
            if not self._is_over(stamp_ns, begin_ns):
                missed(stamp_ns, reason)
        posed = [item for item in posed if not self._is_over(item.stamp_ns, begin_ns)]
        for item in thinned(posed, self.max_frames):
            yield item.read(), item.T_world_cam

    def _recorded(
        self, bag: Path, tree: TransformTree, left_out: LeftOut | None
    ) -> Iterator[BagFrame]:
        topics = find_topics(bag, wanted=self.bag, roots=self.roots)
        if not topics.depth:
            raise GsPoseError(
                f'{bag}: has no depth image beside {topics.color}; image topics: '
                f'{topics.listing}; depth_topic (--depth-topic) names one'
            )
        count, seconds = count_messages(bag, topics.color, self.roots)
        if 0 < self.duration_s < seconds:
            count = ceil(count * self.duration_s / seconds)
        every = ceil(count / self.max_frames) if self.max_frames > 0 else 1
        frames = read_bag_frames(
            bag, topics, wanted=self.bag, left_out=left_out, tf=tree, roots=self.roots
        )
        for k, item in enumerate(frames):
            if k % every == 0:
                yield item

    def _posed(
        self,
        frames: Iterable[BagFrame],
        pose_of: PoseOf,
        missed: LeftOut,
    ) -> Iterator[PosedFrame]:
        begin_ns, count, reason = None, 0, 'there are no images'
        for item in frames:
            stamp_ns = item.frame.stamp_ns
            begin_ns = stamp_ns if begin_ns is None else begin_ns
            if self._is_over(stamp_ns, begin_ns) or 0 < self.max_frames <= count:
                break
            try:
                T_map_cam = pose_of(item.frame_id, stamp_ns)
            except UnknownTransform as error:
                reason = str(error)
                missed(stamp_ns, reason)
                continue
            count += 1
            yield item.frame, T_map_cam
        if not count:
            raise GsPoseError(f'{self.path or "topics"}: no image has a pose: {reason}')

    def _in_tf(self, tree: TransformTree) -> PoseOf:
        def pose_of(frame_id: str, stamp_ns: int) -> NDArray[np.float64]:
            return _looked_up(tree, self.map_frame, frame_id, stamp_ns)

        return pose_of

    def _along(self, odometry: Odometry, tree: TransformTree) -> PoseOf:
        def pose_of(frame_id: str, stamp_ns: int) -> NDArray[np.float64]:
            T_child_cam = _looked_up(tree, odometry.child_frame, frame_id, stamp_ns)
            return odometry.pose(stamp_ns) @ T_child_cam

        return pose_of

    def _is_over(self, stamp_ns: int, begin_ns: int) -> bool:
        return 0 < self.duration_s < (stamp_ns - begin_ns) / 1e9


def _looked_up(
    tree: TransformTree, target: str, source: str, stamp_ns: int
) -> NDArray[np.float64]:
    try:
        return tree.lookup(target, source, stamp_ns)
    except UnknownTransform as error:
        raise UnknownTransform(
            f'no TF between {target!r} and {source!r}: {error} ({_known(tree)})'
        ) from error


def _known(tree: TransformTree) -> str:
    return f'frames in TF: {", ".join(tree.frames) or "none"}'
