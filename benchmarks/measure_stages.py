"""How long each stage takes a frame, called as core methods on the demo's bag; no ROS.

`python benchmarks/measure_stages.py`
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tyro
from figures import DEMO, RESULTS, milliseconds, origin, print_table, write_figures
from numpy.typing import NDArray

from gs_pose_ros.commands.demo_data import DemoData, RegistrationRecord
from gs_pose_ros.estimate import PoseEstimate
from gs_pose_ros.evaluation.evaluation import cell
from gs_pose_ros.evaluation.truth import read_truth
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.bop_views import read_bop_views
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.registration import register
from gs_pose_ros.objects.sources import thinned
from gs_pose_ros.pose.estimator import PoseEstimator
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from gs_pose_ros.pose.refinement.lm import LMRefiner

T = TypeVar('T', bound='PoseEstimate | list[Any]')
Pose = NDArray[np.float64]  # [4, 4] T_cam_obj


@dataclass(frozen=True)
class Calls:
    """The seconds of every call, and how many of them found something, by stage."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    found: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    paper_over_lm: list[float] = field(default_factory=list)  # on the same detection

    def timed(self, stage: str, method: Callable[..., T], *arguments: Any) -> T:
        """What the method gives."""
        begun = time.perf_counter()
        out = method(*arguments)
        found = out.found if isinstance(out, PoseEstimate) else bool(out)
        self.count(stage, time.perf_counter() - begun, found)
        return out

    def count(self, stage: str, seconds: float, found: bool) -> None:
        """A call that something else has timed."""
        self.seconds[stage].append(seconds)
        self.found[stage] += found

    def figures(self) -> dict[str, dict[str, Any]]:
        """Calls, percentiles and what was found, by stage."""
        return {
            stage: {**milliseconds(seconds), 'found': self.found[stage]}
            for stage, seconds in self.seconds.items()
        }


@dataclass(frozen=True)
class Stages:
    """The methods that the nodes call by default, and the baseline."""

    estimator: PoseEstimator = PoseEstimator()
    lm: LMRefiner = LMRefiner()
    paper: GSPoseRefiner = GSPoseRefiner()

    def find(
        self,
        frame: RGBDFrame,
        references: Mapping[str, ObjectReference],
        calls: Calls,
        with_paper: bool,
    ) -> None:
        """Detect all objects; initialize and refine each detection."""
        wanted = list(references.values())
        detections = calls.timed('detect', self.estimator.detector.detect, frame, wanted)
        for found in self.estimator.estimate(frame, wanted, detections):
            if found.detection is None:
                continue
            calls.count('initialize', found.initialize_s, bool(found.hypotheses))
            calls.count('refine', found.refine_s, found.found)
            if with_paper:
                calls.timed(
                    'paper',
                    self.paper.refine,
                    frame,
                    references[found.object_id],
                    [hypothesis.T_cam_obj for hypothesis in found.hypotheses],
                    found.mask(frame.camera.shape),
                )
                ratio = calls.seconds['paper'][-1] / calls.seconds['refine'][-1]
                calls.paper_over_lm.append(ratio)

    def follow(
        self,
        frame: RGBDFrame,
        before: Mapping[str, Pose],
        references: Mapping[str, ObjectReference],
        calls: Calls,
    ) -> None:
        """Track each object from its pose in the frame before."""
        for name, T_before in before.items():
            calls.timed('track', self.lm.track, frame, references[name], T_before)


@dataclass(frozen=True)
class MeasureStages:
    """Time detect, initialize, refine and track; detect is of a frame, the others of one object.

    Tracking starts from the true pose in the frame before, 0.1 s earlier. The `paper` refiner gets
    the same hypotheses and mask as LM, on few frames because it takes seconds.
    """

    data: Path = DEMO
    """The demo's pictures, bag and truth."""
    objects: str = '3'
    """BOP ids, separated by commas; all are looked for in every frame."""
    frames: int = 20
    """Frames, evenly spread over the bag."""
    paper_frames: int = 3
    """Of these, how many the `paper` refiner sees too."""
    database: Path = Path('out/benchmarks')
    """Where the objects are kept, so that a repeat need not register them."""
    out: Path = RESULTS
    """Folder for stages.json."""

    def run(self) -> None:
        """Measure, print the table, write the file."""
        figures = origin('core methods on the bag of the demo', asdict(self))
        data = DemoData(self.data)
        references = self._references(data)
        truth = _true_poses(data, references)
        pairs = list(zip(data.frames[:-1], data.frames[1:], strict=True))
        chosen = thinned(pairs, self.frames)
        with_paper = {frame.stamp_ns for _, frame in thinned(chosen, self.paper_frames)}
        before, frame = pairs[0]
        warm_up = Stages(paper=replace(Stages.paper, max_steps=2))
        warm_up.find(frame, references, Calls(), with_paper=True)
        warm_up.follow(frame, truth[before.stamp_ns], references, Calls())

        calls, stages = Calls(), Stages()
        for before, frame in chosen:
            is_paper = self.paper_frames > 0 and frame.stamp_ns in with_paper
            stages.find(frame, references, calls, is_paper)
            stages.follow(frame, truth[before.stamp_ns], references, calls)
        rows = calls.figures()
        ratio = float(np.median(calls.paper_over_lm)) if calls.paper_over_lm else None
        columns = {'n': '{}', 'found': '{}', 'p50_ms': '{:.1f}', 'p95_ms': '{:.1f}'}
        print_table(f'core methods; paper : LM = {cell(ratio, "{:.1f}")}', rows, columns)
        figures |= {
            'frames': len(chosen),
            'registration': {name: r.facts for name, r in references.items()},
            'stages': rows,
            # Median over the detections that both were given.
            'paper_over_lm': ratio,
        }
        write_figures(self.out, 'stages', figures)

    def _references(self, data: DemoData) -> dict[str, ObjectReference]:
        """The objects by name, registered where their pictures or the code have changed."""
        database = ObjectDatabase(self.database / 'objects')
        database.root.mkdir(parents=True, exist_ok=True)
        record = RegistrationRecord(self.database / 'registered.json', database)
        out = {}
        for number in map(int, self.objects.split(',')):
            name, content = data.names[number], data.content(number)
            if not record.is_current(name, content):
                database.save(register(name, read_bop_views(data.references, number)))
                record.note(name, content)
            out[name] = database.load(name)
        return out


def _true_poses(
    data: DemoData, references: Mapping[str, ObjectReference]
) -> dict[int | None, dict[str, Pose]]:
    """By stamp and object."""
    names = {number: name for number, name in data.names.items() if name in references}
    truth, _ = read_truth(data.root, 'test', names, data.frames[0].camera)
    return {image.stamp_ns: {i.object_id: i.T_cam_obj for i in image.instances} for image in truth}


if __name__ == '__main__':
    tyro.cli(MeasureStages).run()
