"""`gs-pose map`: what the localizer's node does on request, without any node."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tyro.conf import Positional, arg

from gs_pose_ros.bounds import CountOrNone, NonNegative
from gs_pose_ros.command_options import (
    check_frame_name,
    check_numbers,
    existing_file,
    existing_folder,
    folder_to_write,
)
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.localization.map_builder import MapBuilder, MapSettings
from gs_pose_ros.localization.map_store import StoredMap, check_free, save_map
from gs_pose_ros.recording.bags import left_out_text
from gs_pose_ros.recording.camera_topics import BagInput
from gs_pose_ros.recording.map_source import MapSource


@dataclass(frozen=True)
class BuildMap:
    """Make a map from posed RGB-D frames and store it in a folder."""

    kind: Positional[Literal['folder', 'bag']]
    """Sequence in the layout of TUM RGB-D or 7-Scenes with poses, or bag of ROS 2 or ROS 1."""
    path: Positional[Path]
    """Where the frames are. What took those of a folder stands in its file intrinsics.txt, in one
    line: fx fy cx cy width height depth_units_per_metre (1000 for millimetres). Without it the
    Kinects of TUM (5000) or 7-Scenes (1000) are assumed, and that is said."""
    out: Path
    """Folder of the map; a map that is there is replaced."""
    frame_list: Path | None = None
    """Folder: only the pictures named in this file, one a line."""
    map_frame: str = 'map'
    """Name of the map's frame. Bag: the camera's poses are those in this frame of TF."""
    odometry_topic: str = ''
    """Bag: the camera's poses come from this topic (nav_msgs/Odometry)."""
    duration_s: NonNegative = 0.0
    """Use only so many seconds from the first frame on; 0 is all."""
    max_frames: CountOrNone = 0
    """Use only that many frames, evenly spread; 0 is all."""
    bag: Annotated[BagInput, arg(name='')] = BagInput()
    """Bag: what of it is taken."""
    settings: MapSettings = field(default_factory=MapSettings)
    """How the map is made."""

    def run(self) -> None:
        """Build and store.

        Raises:
            GsPoseError: the frames cannot be used, or the map cannot be stored.

        """
        console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        out = self._checked_out()
        begin = time.perf_counter()
        stored = self._built(console)
        save_map(out, stored)
        numbers = {k: v for k, v in stored.facts.items() if not isinstance(v, str)}
        facts = ', '.join(f'{name} {number:.4g}' for name, number in numbers.items())
        console.print(
            f'{out}: {len(stored.scene)} Gaussians, {len(stored.relocalizer.keyframes)} '
            f'keyframes, voxel {1e3 * stored.scene.voxel_m:.3g} mm, {facts}; '
            f'{time.perf_counter() - begin:.1f} s in all'
        )

    def _checked_out(self) -> Path:
        """Where the map goes, after all options were checked."""
        check_numbers(self)
        check_frame_name(self.map_frame, '--map-frame')
        if self.kind == 'folder':
            existing_folder(self.path, 'the sequence')
            if self.odometry_topic:
                raise GsPoseError('--odometry-topic belongs to a bag; a folder has its own poses')
        if self.frame_list is not None:
            existing_file(self.frame_list, '--frame-list')
        out = folder_to_write(self.out, '--out').resolve()
        check_free(out, overwrite=True)
        return out

    def _built(self, console: Console) -> StoredMap:
        source = MapSource(
            kind=self.kind,
            path=self.path.expanduser(),
            map_frame=self.map_frame,
            odometry_topic=self.odometry_topic,
            duration_s=self.duration_s,
            max_frames=self.max_frames,
            frame_list=None if self.frame_list is None else self.frame_list.expanduser(),
            bag=self.bag,
        )
        builder = MapBuilder(self.settings, self.map_frame)
        missed: Counter[str] = Counter()
        left_out: Counter[str] = Counter()
        notes: list[str] = []

        def note(text: str) -> None:
            notes.append(text)
            console.print(text)

        frames = source.frames(
            missed=lambda _, why: missed.update([why]),
            left_out=lambda _, why: left_out.update([why]),
            note=note,
        )
        columns = SpinnerColumn(), TextColumn('{task.description}'), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task('frames')
            for frame, T_map_cam in frames:
                builder.add(frame, T_map_cam)
                text = f'frames: {builder.frames} fused, {builder.skipped} skipped'
                progress.update(task, description=text)
            progress.update(task, description=f'map of {builder.frames} frames')
            stored = builder.build(
                {
                    'source': f'{self.kind} {self.path.resolve().name}',
                    'without_pose': missed.total(),
                    'left_out': left_out.total(),
                    **({'notes': '; '.join(notes)} if notes else {}),
                }
            )
        for reason, count in missed.most_common():
            console.print(f'{count} frames are left out: {reason}')
        if left_out:
            console.print(left_out_text(left_out))
        return stored
