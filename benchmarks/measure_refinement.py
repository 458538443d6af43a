"""Refiners against each other: from starts around the truth, and from those retrieval gives.

`python benchmarks/measure_refinement.py --root render_bop --db objects`

All rows get the same frames, masks and starts. `icp` is the classical answer to depth; `paper` is
Algorithm 1 of GS-Pose, `gs2pose` the refiner of GS2Pose.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import small_gicp
import tyro
from figures import RESULTS, origin, print_table, write_figures
from numpy.typing import NDArray
from refinement_cases import Case, Pose, Start, draw_starts, read_cases, retrieved

from gs_pose_ros.estimate import PoseEstimate, Status
from gs_pose_ros.evaluation.pose_error import add_error, adds_error, rotation_translation_error
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.pose.refinement.gs2pose import GS2PoseRefiner
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.stages import Refiner

# Rotation (degrees) and shift (share of the distance) of the starts around the truth.
STARTS = ((5, 0.02), (10, 0.02), (20, 0.05), (30, 0.05), (45, 0.1))
CHANGED = ((10, 0.02), (20, 0.05))  # those that are also given with the picture changed
SINGLE = LMRefiner(turned=0, refine_best=1)  # as one start wants it


@dataclass(frozen=True)
class ICPRefiner:
    """Generalized ICP (small_gicp) of the masked depth to the means of the splat, twice."""

    reach: tuple[float, ...] = (0.3, 0.08)  # farthest correspondence, in diameters
    spacing: float = 0.01  # of the points, in diameters

    def refine(
        self,
        frame: RGBDFrame,
        reference: SplatObject,
        hypotheses: Sequence[Pose],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        """The first hypothesis after ICP; no check whether it explains anything."""
        assert frame.depth is not None
        assert mask is not None
        T = hypotheses[0]
        g = reference.gaussians
        model = g.means[g.opacities > 0.5].double().numpy()
        points = frame.camera.point_map(frame.depth)[mask & (frame.depth > 0)].astype(np.float64)
        if len(points) < 20:
            return PoseEstimate.lost(T, 'no depth inside the mask', frame.stamp_ns)
        T_obj_cam = se3.inverse(T)
        # A first shift, as the other refiners have it from the mask.
        T_obj_cam[:3, 3] += np.median(model, 0) - np.median(se3.transform(T_obj_cam, points), 0)
        iterations = 0
        for reach in self.reach:
            result = small_gicp.align(
                model,
                points,
                T_obj_cam,
                downsampling_resolution=self.spacing * reference.diameter_m,
                max_correspondence_distance=reach * reference.diameter_m,
                max_iterations=50,
                num_threads=2,
                rotation_epsilon=1e-4,
                translation_epsilon=1e-5,
            )
            T_obj_cam = result.T_target_source
            iterations += result.iterations
        return PoseEstimate(se3.inverse(T_obj_cam), 0.0, Status.CONVERGED, iterations=iterations)


class WithoutDepth:
    """A refiner that gets the colours only."""

    def __init__(self, refiner: Refiner) -> None:
        self._refiner = refiner

    def refine(
        self,
        frame: RGBDFrame,
        reference: SplatObject,
        hypotheses: Sequence[Pose],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        """As the refiner's."""
        return self._refiner.refine(frame.without_depth(), reference, hypotheses, mask)


ROWS: dict[str, Refiner] = {
    'icp': ICPRefiner(),
    'paper': GSPoseRefiner(),
    'gs2pose': GS2PoseRefiner(),
    'lm few': SINGLE,  # on the cases of the slow ones
    'lm': SINGLE,
    'lm rgb': WithoutDepth(SINGLE),
    'lm k=12': replace(SINGLE, spread=12, spread_deg=32.0, refine_best=3),
    'lm rgb k=12': WithoutDepth(replace(SINGLE, spread=12, spread_deg=32.0, refine_best=3)),
}

# With --rows only: they need a GPU.
ON_CUDA: dict[str, Refiner] = {
    'paper cuda': GSPoseRefiner(device='cuda'),
    'gs2pose cuda': GS2PoseRefiner(device='cuda'),
}

# Get `slow_cases` of the cases.
SLOW = ('paper', 'gs2pose', 'lm few')


@dataclass
class Row:
    """What a refiner made of the cases of one kind of start."""

    errors: list[tuple[float, float, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    renders: list[int] = field(default_factory=list)

    def measure(self, refiner: Refiner, case: Case, poses: Sequence[Pose]) -> None:
        """One more case; what is lost counts with the pose it has."""
        begun = time.perf_counter()
        estimate = refiner.refine(case.frame, case.reference, poses, case.mask)
        self.seconds.append(time.perf_counter() - begun)
        angle, shift = rotation_translation_error(
            estimate.T_cam_obj, case.T_cam_obj, case.truth.symmetries
        )
        error = adds_error if case.truth.is_symmetric else add_error
        distance = error(estimate.T_cam_obj, case.T_cam_obj, case.truth.points)
        share = shift / float(np.linalg.norm(case.T_cam_obj[:3, 3]))
        self.errors.append((np.degrees(angle), share, distance / case.truth.diameter_m))
        self.renders.append(estimate.iterations)

    @classmethod
    def joined(cls, rows: Iterable[Row]) -> Row:
        """The cases of all these rows, in their order."""
        out = cls()
        for row in rows:
            out.errors += row.errors
            out.seconds += row.seconds
            out.renders += row.renders
        return out

    @property
    def within_1deg_1pc(self) -> NDArray[np.bool_]:
        """Which cases [n] came within 1 degree and 1 % of the distance."""
        angle, share, _ = np.array(self.errors).T
        return (angle < 1) & (share < 0.01)

    def figures(self) -> dict[str, float | int]:
        """Shares, medians and percentiles."""
        angle, share, add = np.array(self.errors).T
        p50, p95 = 1000 * np.percentile(self.seconds, (50, 95))
        return {
            'n': len(angle),
            'success_1deg_1pc': float(np.mean(self.within_1deg_1pc)),
            'success_add_005': float(np.mean(add < 0.05)),
            'success_add_010': float(np.mean(add < 0.1)),
            'median_deg': float(np.median(angle)),
            'median_pc': float(100 * np.median(share)),
            'renders': float(np.median(self.renders)),
            'p50_ms': float(p50),
            'p95_ms': float(p95),
        }


@dataclass(frozen=True)
class MeasureRefinement:
    """Every row from every start, on the same cases; true masks."""

    root: Path
    """BOP set."""
    db: Path = Path('out/benchmarks/refinement')
    """Objects; what is missing is registered from `refs_split`."""
    split: str = 'test'
    """Split of the cases."""
    refs_split: str = 'train'
    """Split of the pictures to register from."""
    cases: int = 24
    """Instances, evenly spread over the visible ones."""
    min_visible: float = 0.5
    """Less visible instances are left out."""
    rows: str = ','.join(ROWS)
    """Which refiners, separated by commas."""
    slow_cases: int = 0
    """Give `paper`, `gs2pose` and `lm few` only that many of the cases, evenly spread; 0: all."""
    changed: bool = True
    """Also in other light and behind a board."""
    note: str = ''
    """What a reader of the figures must know of the set; written beside them."""
    name: str = 'refinement'
    """Of the files."""
    out: Path = RESULTS
    """Folder for the .json and the .png."""

    def run(self) -> None:
        """Measure, print the tables, write the files."""
        figures = origin(f'refinement, {self.root.resolve().name} {self.split}', asdict(self))
        cases = read_cases(
            self.root, self.split, self.db, self.cases, self.min_visible, self.refs_split
        )
        names = [name.strip() for name in self.rows.split(',')]
        refiners = {name: (ROWS | ON_CUDA)[name] for name in names}
        kinds = draw_starts(cases, STARTS, CHANGED if self.changed else ())
        kinds['retrieval'] = [(c, poses) for c in cases if (poses := retrieved(c))]
        for refiner in refiners.values():  # loads every kernel, prepares every object
            for case in {c.reference.object_id: c for c in cases}.values():
                _quick(refiner).refine(case.frame, case.reference, [case.T_cam_obj], case.mask)
        results: dict[str, dict[str, Any]] = {}
        for kind, starts in kinds.items():
            rows = {name: self._row(name, refiners[name], starts) for name in refiners}
            results[kind] = rows
            print_table(
                kind,
                rows,
                {
                    'n': '{}', 'success_1deg_1pc': '{:.2f}', 'success_add_005': '{:.2f}',
                    'success_add_010': '{:.2f}', 'median_deg': '{:.2f}', 'median_pc': '{:.2f}',
                    'renders': '{:.0f}', 'p50_ms': '{:.0f}', 'p95_ms': '{:.0f}',
                },
            )  # fmt: skip
        figures |= {
            'objects': sorted({c.reference.object_id for c in cases}),
            'visible': {
                'below_80_percent': sum(c.visible < 0.8 for c in cases),
                'least': min(c.visible for c in cases),
            },
            'starts': results,
        }
        write_figures(self.out, self.name, figures)
        plot(results, self.out / f'{self.name}.png')

    def _row(self, name: str, refiner: Refiner, starts: Sequence[Start]) -> dict[str, float | int]:
        if name in SLOW and self.slow_cases:
            places = np.linspace(0, len(starts) - 1, self.slow_cases).round().astype(int)
            starts = [starts[i] for i in np.unique(places)]
        row = Row()
        for case, poses in starts:
            row.measure(refiner, case, poses)
        return row.figures()


def _quick(refiner: Refiner) -> Refiner:
    """The same code with few steps."""
    if isinstance(refiner, GSPoseRefiner):
        return replace(refiner, max_steps=2)
    if isinstance(refiner, GS2PoseRefiner):
        few = replace(refiner.object_phase, steps=2)
        return replace(refiner, object_phase=few, camera_phase=few, final_phase=few)
    return refiner


def plot(results: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Success against time, one panel for each kind of start."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt

    kinds = list(results)
    figure, axes = plt.subplots(2, (len(kinds) + 1) // 2, figsize=(14, 6.5), sharey=True)
    for axis, kind in zip(axes.flat, kinds, strict=False):
        for name, row in results[kind].items():
            axis.semilogx(row['p50_ms'], row['success_1deg_1pc'], 'o', label=name)
            axis.annotate(name, (row['p50_ms'], row['success_1deg_1pc']), fontsize=7)
        axis.set_title(kind, fontsize=9)
        axis.grid(True, which='both', alpha=0.3)
        axis.set_ylim(-0.03, 1.03)
    for axis in axes[-1]:
        axis.set_xlabel('ms an object, p50')
    for axis in axes[:, 0]:
        axis.set_ylabel('success (1 deg, 1 %)')
    for axis in list(axes.flat)[len(kinds) :]:
        axis.axis('off')
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    tyro.cli(MeasureRefinement).run()
