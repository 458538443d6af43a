"""How often the camera is found from nothing, or after it was carried away, and how often wrongly.

`python benchmarks/measure_relocalization.py --kitchen DIR --strange DIR ...`. Maps of the kitchen
of 7-Scenes, of the first half of it alone (so that the rest overlaps in part), and of a ray-cast
room with a sensor's noise; each is asked for frames that are not in it, and for frames of the
others and of strange scenes, which it must not find.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from figures import RESULTS, milliseconds, origin, print_table, write_figures
from numpy.typing import NDArray
from rendered_room import RenderedRoom

from gs_pose_ros.datasets.rgbd_sequences import SequenceFrame, chosen, read_sequence
from gs_pose_ros.evaluation.camera_protocols import PosedFrames, fused_map
from gs_pose_ros.evaluation.trajectory_error import frame_errors
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.camera_tracker import CameraTracker
from gs_pose_ros.localization.depth_localizer import DepthLocalizer, Level
from gs_pose_ros.localization.map_check import MapCheck
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.objects.sources import thinned

_RIGHT_M, _RIGHT_RAD = 0.05, np.radians(5)
_STEP_NS = 100_000_000
_TIMES = {'p50_ms': '{:.0f}', 'p95_ms': '{:.0f}', 'max_ms': '{:.0f}'}
# What the map explains of a frame, without moving it.
_AS_IT_IS = DepthLocalizer(
    levels=(Level(320, 1, 1.0, 1e9),), check=MapCheck(min_overlap=0.0, min_agreement=0.0)
)


@dataclass(frozen=True)
class Place:
    """A map, and other frames of the same place."""

    name: str
    scene: SceneMap
    relocalizer: KeyframeRelocalizer
    tests: PosedFrames

    @classmethod
    def of(
        cls, name: str, mapped: Sequence[SequenceFrame], tests: Sequence[SequenceFrame]
    ) -> Place:
        """From sequences with true poses."""
        stored = fused_map(PosedFrames(mapped))
        _ = stored.scene.levels  # made when they are asked for first: no part of a pose's time
        return cls(name, stored.scene, stored.relocalizer, PosedFrames(tests))

    def tracker(self) -> CameraTracker:
        """A camera that may be anywhere."""
        return CameraTracker(self.scene, self.relocalizer)


@dataclass(frozen=True)
class Answer:
    """What was said of one frame, and what would have been right."""

    estimate: CameraEstimate
    T_true: NDArray[np.float64]
    seconds: float
    explained: float = 1.0  # share of what was measured that the map has, at the true pose
    starts_block: bool = False  # the camera was carried here

    @property
    def off(self) -> tuple[float, float]:
        """Metres and radians."""
        T = self.estimate.T_map_cam[None]
        distance, angle = frame_errors(T, self.T_true[None], np.array([True]))
        return float(distance[0]), float(angle[0])

    @property
    def is_right(self) -> bool:
        """Found where it is."""
        distance, angle = self.off
        return self.estimate.found and distance < _RIGHT_M and angle < _RIGHT_RAD

    @property
    def is_false(self) -> bool:
        """Found where it is not: worse than lost."""
        return self.estimate.found and not self.is_right

    def row(self) -> dict[str, Any]:
        """For the file."""
        return {
            'explained': self.explained,
            'status': self.estimate.status.value,
            'reason': self.estimate.reason,
            'evidence': self.estimate.evidence,
            'trans_mm': 1000 * self.off[0],
            'rot_deg': float(np.degrees(self.off[1])),
            'ms': 1000 * self.seconds,
        }


@dataclass(frozen=True)
class MeasureRelocalization:
    """From nothing, after being carried away, and in maps of other scenes."""

    kitchen: Path
    """7scenes_redkitchen, with its lists of frames."""
    strange: tuple[Path, ...] = ()
    """Sequences of scenes that are not in the maps."""
    room_frames: int = 60
    """Of the room's map; its test frames are of another tour."""
    max_tests: int = 0
    """Frames of each place that are looked for; 0 is all."""
    max_strange: int = 30
    """Frames of each other scene that are looked for."""
    overlapping: float = 0.3
    """Share of what a frame measured that the map must explain at its true pose, to count."""
    block: int = 8
    """Consecutive frames before the camera is carried elsewhere."""
    seed: int = 0
    """Of the orders of frames and the noise."""
    out: Path = RESULTS
    """Folder for relocalization.json and .png."""

    def run(self) -> None:
        """Measure, print the tables, write the files."""
        figures = origin('relocalization', asdict(self) | {'strange': _names(self.strange)})
        with tempfile.TemporaryDirectory() as folder:
            places = self._places(Path(folder))
            warm_up = places[0].tests[0][0]
            places[0].tracker().relocalize(warm_up)  # compiles
            nothing = {place.name: list(self._from_nothing(place)) for place in places}
            rows = {name: self._found(answers) for name, answers in nothing.items()}
            print_table(
                f'from nothing; overlapping: the map explains {100 * self.overlapping:.0f} %',
                rows,
                {
                    'frames': '{}', 'overlapping': '{}', 'right': '{:.3f}', 'false': '{}',
                    'median_mm': '{:.1f}', **_TIMES,
                },
            )  # fmt: skip
            strangers = {name: list(answers) for name, answers in self._strangers(places)}
            wrong = {name: _refused(answers) for name, answers in strangers.items()}
            print_table(
                'frames of other scenes, all of which must be lost',
                wrong,
                {'frames': '{}', 'false': '{}', 'most_evidence': '{:.2f}', **_TIMES},
            )
            carried = {
                f'{place.name}, {name}': list(_carried(place, order))
                for place in places
                for name, order in self._orders(len(place.tests)).items()
            }
            after = {name: _recovered(answers) for name, answers in carried.items()}
            print_table(
                'carried away, by CameraTracker.track alone',
                after,
                {
                    'frames': '{}', 'right': '{:.3f}', 'false': '{}', 'jumps': '{}',
                    'recovered': '{}', 'frames_p50': '{:.0f}', 'frames_max': '{}', **_TIMES,
                },
            )  # fmt: skip
        figures['meaning'] = (
            'Right: found within 5 cm and 5 deg; false: found, but not there. From nothing: each '
            'frame alone, right as a share of the overlapping ones. Carried away: right as a '
            'share of all frames; how many frames after a jump the pose is right (1: at once).'
        )
        figures['from_nothing'], figures['carried_away'], figures['strange'] = rows, after, wrong
        figures['rows'] = {
            name: [answer.row() for answer in answers]
            for name, answers in {**nothing, **carried, **strangers}.items()
        }
        write_figures(self.out, 'relocalization', figures)
        self._plot(nothing, self.out / 'relocalization.png')

    def _places(self, folder: Path) -> list[Place]:
        frames = read_sequence(self.kitchen)
        mapped = chosen(frames, self.kitchen / 'split_map.txt')
        known = {frame.number for frame in mapped}
        tests = thinned([frame for frame in frames if frame.number not in known], self.max_tests)
        # Two tours of the room: once round in 40 s, the second time along another path.
        fps = self.room_frames / 40
        rooms = []
        for tour in range(2):
            root = folder / f'room_{tour}'
            RenderedRoom(
                out=root,
                frames=self.room_frames,
                fps=fps,
                phase=tour * (40 + 0.5 / fps),
                noise=True,
                seed=self.seed + tour,
            ).run()
            rooms.append(read_sequence(root))
        return [
            Place.of('kitchen', mapped, tests),
            Place.of('half the kitchen', mapped[: len(mapped) // 2], tests),
            Place.of('room', rooms[0], thinned(rooms[1], self.max_tests)),
        ]

    def _from_nothing(self, place: Place) -> Iterator[Answer]:
        tracker = place.tracker()
        for frame, T in place.tests:
            explained = _AS_IT_IS.refine(frame, place.scene, T).evidence
            begin = time.perf_counter()
            estimate = tracker.relocalize(frame)
            yield Answer(estimate, T, time.perf_counter() - begin, explained)

    def _orders(self, count: int) -> dict[str, list[list[int]]]:
        """Blocks of frames in a row, each elsewhere."""
        rng = np.random.default_rng(self.seed)
        blocks = [list(range(i, min(i + self.block, count))) for i in range(0, count, self.block)]
        return {
            'shuffled': [[int(i)] for i in rng.permutation(count)],
            f'blocks of {self.block}': [blocks[i] for i in rng.permutation(len(blocks))],
        }

    def _strangers(self, places: Sequence[Place]) -> Iterator[tuple[str, Iterator[Answer]]]:
        kitchen, _, room = places
        others = {root.name: PosedFrames(read_sequence(root)) for root in self.strange}
        for place, sequences in (
            (kitchen, {room.name: room.tests, **others}),
            (room, {kitchen.name: kitchen.tests, **others}),
        ):
            for name, frames in sequences.items():
                some = [frames[i][0] for i in thinned(range(len(frames)), self.max_strange)]
                yield f'{name} in the {place.name}', _lost(place, some)

    def _found(self, answers: Sequence[Answer]) -> dict[str, Any]:
        counted = [a for a in answers if a.explained >= self.overlapping]
        right = [a for a in counted if a.is_right]
        return {
            'frames': len(answers),
            'overlapping': len(counted),
            'right': len(right) / len(counted) if counted else None,
            'false': sum(a.is_false for a in answers),
            'median_mm': 1000 * float(np.median([a.off[0] for a in right])) if right else None,
            **_times(answers),
        }

    def _plot(self, answers: dict[str, list[Answer]], path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5 * len(answers), 4))
        for axes, (name, rows) in zip(
            figure.subplots(1, len(answers)), answers.items(), strict=True
        ):
            for label, style, chosen_rows in (
                ('right', 'g.', [a for a in rows if a.is_right]),
                ('false', 'rX', [a for a in rows if a.is_false]),
                ('lost', 'kx', [a for a in rows if not a.estimate.found]),
            ):
                off = [1000 * max(a.off[0], 1e-4) for a in chosen_rows]
                explained = [a.explained for a in chosen_rows]
                axes.semilogy(explained, off, style, label=f'{label}: {len(off)}')
            axes.axvline(self.overlapping, color='0.7')
            axes.axhline(1000 * _RIGHT_M, color='0.7')
            axes.set(title=name, xlabel='explained at the true pose', ylabel='mm', xlim=(0, 1))
            axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(path, dpi=110)


def _carried(place: Place, blocks: Sequence[Sequence[int]]) -> Iterator[Answer]:
    tracker, stamp_ns = place.tracker(), 0
    for block in blocks:
        for k, index in enumerate(block):
            stamp_ns += _STEP_NS
            frame, T = place.tests[index]
            begin = time.perf_counter()
            estimate = tracker.track(replace(frame, stamp_ns=stamp_ns))
            yield Answer(estimate, T, time.perf_counter() - begin, starts_block=k == 0)


def _lost(place: Place, frames: Sequence[RGBDFrame]) -> Iterator[Answer]:
    tracker = place.tracker()
    for frame in frames:
        begin = time.perf_counter()
        estimate = tracker.relocalize(frame)
        yield Answer(estimate, np.eye(4), time.perf_counter() - begin, explained=0.0)


def _recovered(answers: Sequence[Answer]) -> dict[str, Any]:
    """How many frames it took after each jump; those that were carried on before do not count."""
    needed, since = [], None
    for answer in answers:
        if answer.starts_block and since is None:
            since = 0
        if since is not None:
            since += 1
            if answer.is_right:
                needed.append(since)
                since = None
    return {
        'frames': len(answers),
        'right': float(np.mean([a.is_right for a in answers])),
        'false': sum(a.is_false for a in answers),
        'jumps': sum(a.starts_block for a in answers),
        'recovered': len(needed),
        'frames_p50': float(np.percentile(needed, 50)) if needed else None,
        'frames_max': max(needed, default=None),
        **_times(answers),
    }


def _refused(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        'frames': len(answers),
        'false': sum(a.estimate.found for a in answers),
        'most_evidence': max((a.estimate.evidence for a in answers), default=None),
        **_times(answers),
    }


def _times(answers: Sequence[Answer]) -> dict[str, Any]:
    seconds = [answer.seconds for answer in answers]
    return {**milliseconds(seconds), 'max_ms': 1000 * max(seconds, default=0.0)}


def _names(paths: Sequence[Path]) -> list[str]:
    return [path.name for path in paths]


if __name__ == '__main__':
    tyro.cli(MeasureRelocalization).run()
