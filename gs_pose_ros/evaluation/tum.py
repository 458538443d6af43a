"""Evaluate the localization of an RGB-D camera on a sequence in the TUM or 7-Scenes layout."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

from gs_pose_ros.bounds import CountOrNone, NonNegative
from gs_pose_ros.command_options import (
    check_numbers,
    existing_file,
    existing_folder,
    file_to_write,
    folder_to_write,
)
from gs_pose_ros.datasets.rgbd_sequences import SequenceFrame, chosen, read_sequence
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.evaluation.camera_protocols import (
    Method,
    Outcome,
    Start,
    frame_to_frame,
    in_a_map,
)
from gs_pose_ros.evaluation.evaluation import cell, wide_console
from gs_pose_ros.evaluation.provenance import provenance
from gs_pose_ros.extras import require_modules

Protocol = Literal['a', 'b']

MEANING = {
    'a': (
        'Each frame in a map of the frame before it alone, at its true pose, starting from that '
        'pose; where the map contradicts what that leads to, lm tries eight more starts round it '
        '(WideStart), which the tracker of the node does not. Constant '
        'velocity continues the true motion of the two frames before (the first '
        'has one alone: no motion). GICP: small_gicp of the two depth '
        'images. Lost frames are counted, and left out of the errors.'
    ),
    'b': (
        'The queries in order, from estimates alone, in a map of the map frames at their true '
        'poses. No motion keeps the first estimate; GICP starts from the first true pose. ATE '
        '(aligned: by a motion without scale) and RPE over one frame: Sturm et al. 2012. Lost '
        'frames are counted, and left out of the errors.'
    ),
}

_ERRORS = (
    ('frames', 'n', '{:d}'),
    ('lost', 'lost', '{:d}'),
    ('median_trans_mm', 'mm', '{:.2f}'),
    ('p95_trans_mm', 'mm p95', '{:.2f}'),
)
_TURNS = (('median_rot_deg', 'deg', '{:.3f}'), ('p95_rot_deg', 'deg p95', '{:.3f}'))
_TIMES = (('ms_p50', 'ms p50', '{:.1f}'), ('ms_p95', 'ms p95', '{:.1f}'))
TABLE_KEYS = {
    'a': (*_ERRORS, *_TURNS, *_TIMES, ('map_ms_p50', 'map ms', '{:.0f}')),
    'b': (
        ('ate_rmse_cm', 'ATE cm', '{:.2f}'),
        ('ate_rmse_aligned_cm', 'aligned', '{:.2f}'),
        ('rpe_rmse_mm', 'RPE mm', '{:.2f}'),
        ('rpe_rmse_deg', 'RPE deg', '{:.3f}'),
        *_ERRORS,
        ('max_trans_mm', 'mm max', '{:.1f}'),
        *_TURNS,
        *_TIMES,
        ('hz', 'Hz', '{:.1f}'),
    ),
}


@dataclass(frozen=True)
class TumEvaluation:
    """Where was the camera? Protocol a: frame to frame. Protocol b: in a map of other frames.

    Lists of frames are files with the number of a picture (its name without the ending) a line.
    """

    root: Path
    """Folder of the sequence. What took it stands in its file intrinsics.txt, in one line: fx fy
    cx cy width height depth_units_per_metre; without it a Kinect of the benchmark is assumed."""
    protocol: Protocol = 'a'
    """A map of the frame before alone, or one of all map frames."""
    method: Method = 'lm'
    """Localizer of the main row: ours, or that of GSplatLoc as published."""
    map_frames: Path | None = None
    """List of the frames the map is made of (b); all of MAP_ROOT if not given."""
    query_frames: Path | None = None
    """List of the frames to be found; all that are not in the map (a: all) if not given."""
    map_root: Path | None = None
    """Take the map frames from another sequence in the same world frame (b)."""
    voxel_m: NonNegative = 0.0
    """Width of a voxel of the map; 0 is two pixels where the first frame measured, 1 to 20 mm."""
    max_pairs: CountOrNone = 0
    """Use only that many pairs, evenly spread (a); 0 is all."""
    paper_pairs: CountOrNone = 0
    """Of these, evenly spread, so many get the method as published as well (a), on the
    sensor's depth and on what the query's own points show: it is slow."""
    start: Start = 'relocalize'
    """Find the first frame in the map, or be told its true pose (b)."""
    json: Path | None = None
    """Where the figures go."""
    report: Path | None = None
    """Folder for trajectories, plots, and pictures of the worst frames."""

    def run(self, console: Console | None = None) -> dict[str, Any]:
        """Evaluate, write all files, and print the table; returns what the JSON file holds.

        Raises:
            GsPoseError: the sequence, a list or a picture cannot be read, or options do not fit.

        """
        return self._checked()._evaluated(console or wide_console())

    def _evaluated(self, console: Console) -> dict[str, Any]:
        if self.report is not None:
            require_modules('matplotlib')  # before the work
        load = os.getloadavg()[0]  # beside other work the times mean little
        notes: list[str] = []
        outcome = self._outcome(console, notes)
        figures = {**self._figures(outcome), 'notes': notes, 'load_average_before': load}
        self._print(console, outcome)
        if self.json is not None:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            self.json.write_text(json.dumps(figures, indent=1, allow_nan=False) + '\n')
        if self.report is not None:
            from gs_pose_ros.evaluation.camera_report import write_camera_report

            write_camera_report(outcome, self._title(), self.report)
            console.print(f'report: {self.report}')
        return figures

    def _checked(self) -> TumEvaluation:
        """The same with all paths expanded, after all options were checked."""
        check_numbers(self)
        if self.protocol == 'a' and (self.map_frames is not None or self.map_root is not None):
            raise GsPoseError('--map-frames and --map-root belong to protocol b')
        if self.protocol == 'b' and self.map_frames is None and self.map_root is None:
            raise GsPoseError('protocol b needs --map-frames or --map-root')
        checks = {
            'root': existing_folder,
            'map_root': existing_folder,
            'map_frames': existing_file,
            'query_frames': existing_file,
            'json': file_to_write,
            'report': folder_to_write,
        }
        paths = {}
        for name, check in checks.items():
            path = getattr(self, name)
            if path is not None:
                paths[name] = check(path, f'--{name.replace("_", "-")}')
        return replace(self, **paths)

    def _outcome(self, console: Console, notes: list[str]) -> Outcome:
        def progress(items: Sequence[Any], text: str) -> Iterable[Any]:
            return track(items, description=text, console=console)

        frames = self._read(self.root, console, notes)
        if self.protocol == 'a':
            if self.query_frames is not None:
                frames = chosen(frames, self.query_frames)
            few = self.max_pairs, self.paper_pairs
            return frame_to_frame(frames, self.method, self.voxel_m, *few, progress)
        mapped, queries = self._split(frames, console, notes)
        return in_a_map(mapped, queries, self.method, self.voxel_m, self.start, progress)

    def _read(self, root: Path, console: Console, notes: list[str]) -> Sequence[SequenceFrame]:
        """The frames of a folder; what is to be said of it goes to the console and the notes."""
        recorded = read_sequence(root)
        told = list(recorded.notes)
        reasons = Counter(why for _, why in recorded.missed)
        told += [f'{count} pictures are left out: {why}' for why, count in reasons.most_common()]
        for text in told:
            console.print(text, soft_wrap=True, markup=False, highlight=False)
            # Without the folders of the machine: results are published.
            notes.append(text.replace(f'{root}{os.sep}', ''))
        return recorded

    def _split(
        self, frames: Sequence[SequenceFrame], console: Console, notes: list[str]
    ) -> tuple[Sequence[SequenceFrame], Sequence[SequenceFrame]]:
        """Map frames and queries."""
        mapped = frames
        if self.map_root is not None:
            mapped = self._read(self.map_root, console, notes)
        if self.map_frames is not None:
            mapped = chosen(mapped, self.map_frames)
        if self.query_frames is not None:
            return mapped, chosen(frames, self.query_frames)
        in_map = {frame.color for frame in mapped}
        queries = [frame for frame in frames if frame.color not in in_map]
        if not queries:
            raise GsPoseError(f'{self.root}: all frames are in the map, none is left to be found')
        return mapped, queries

    def _figures(self, outcome: Outcome) -> dict[str, Any]:
        return {
            'title': self._title(),
            'settings': self._settings(),
            **provenance(),
            'meaning': MEANING[self.protocol],
            'map': dict(outcome.map_facts),
            'rows': {run.name: run.figures for run in outcome.runs},
            'left_out': dict(outcome.left_out),
            'lost': _lost(outcome),
            'frames': {run.name: run.rows() for run in outcome.runs},
        }

    def _settings(self) -> dict[str, str]:
        """Without the folders of the machine: results are published."""
        values = {k: v for k, v in asdict(self).items() if k not in ('json', 'report')}
        return {k: v.resolve().name if isinstance(v, Path) else str(v) for k, v in values.items()}

    def _title(self) -> str:
        return f'{self.root.resolve().name}, protocol {self.protocol}, {self.method}'

    def _print(self, console: Console, outcome: Outcome) -> None:
        keys = TABLE_KEYS[self.protocol]
        table = Table(title=self._title())
        table.add_column('method')
        for _, label, _ in keys:
            table.add_column(label, justify='right')
        for run in outcome.runs:
            table.add_row(run.name, *(cell(run.figures.get(key), form) for key, _, form in keys))
        console.print(table)
        facts = ', '.join(f'{key} {value:.4g}' for key, value in outcome.map_facts.items())
        console.print(f'map: {facts}')
        for name, reason in outcome.left_out.items():
            console.print(f'without {name}: {reason}')
        for name, rows in _lost(outcome).items():
            for row in rows:
                console.print(f'{name} lost {row["frame"]}: {row["reason"]}')


def _lost(outcome: Outcome) -> dict[str, list[dict[str, str]]]:
    """The lost frames of each row that has any, with their reasons."""
    out = {}
    for run in outcome.runs:
        lost = [pose for pose in run.poses if not pose.found]
        if lost:
            out[run.name] = [{'frame': p.frame.number, 'reason': p.reason} for p in lost]
    return out
