"""Is what an image leaves open reported? Refined poses that are wrong against those reported.

`python benchmarks/measure_ambiguity.py --root render_bop --db objects`

Starts are what retrieval gives from the true mask. The picture shows an object (a cup, round but
for its handle) in images that tell how it is turned, and in images that do not.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from figures import RESULTS, origin, print_table, write_figures
from numpy.typing import NDArray
from refinement_cases import Case, read_cases, retrieved

from gs_pose_ros.estimate import PoseEstimate
from gs_pose_ros.evaluation.pose_error import rotation_translation_error
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.verification.window import place_window
from gs_pose_ros.visualization import OverlayObject, draw_overlay


@dataclass(frozen=True)
class MeasureAmbiguity:
    """Refine every visible instance and compare the errors with the reports."""

    root: Path
    """BOP set with train/ and test/."""
    db: Path = Path('out/benchmarks/refinement')
    """Objects; what is missing is registered from train/."""
    split: str = 'test'
    """Split of the cases."""
    cases: int = 0
    """Instances, evenly spread over the visible ones; 0 is all."""
    min_visible: float = 0.5
    """Less visible instances are left out."""
    wrong_deg: float = 10.0
    """A pose is wrong from this error on."""
    shown: str = 'obj_000008'
    """The object in the picture."""
    out: Path = RESULTS
    """Folder for ambiguity.json and ambiguity.png."""

    def run(self) -> None:
        """Measure, print, write, draw."""
        figures = origin(f'ambiguity, {self.root.resolve().name} {self.split}', asdict(self))
        refiner, found = LMRefiner(), defaultdict(list)
        for case in read_cases(self.root, self.split, self.db, self.cases, self.min_visible):
            estimate = refiner.refine(case.frame, case.reference, retrieved(case), case.mask)
            if estimate.found:
                found[case.reference.object_id].append((case, estimate))
        rows = {name: self._row(pairs) for name, pairs in sorted(found.items())}
        rows['all'] = self._row([pair for pairs in found.values() for pair in pairs])
        columns = ('n', 'reported', 'wrong', 'wrong_reported', 'true_among_alternatives')
        print_table('ambiguous poses', rows, dict.fromkeys(columns, '{}'))
        write_figures(self.out, 'ambiguity', figures | {'rows': rows})
        plot(found[self.shown], self.out / 'ambiguity.png')

    def _row(self, pairs: list[tuple[Case, PoseEstimate]]) -> dict[str, int]:
        """How many poses were reported and how many are wrong, how many of these were reported.

        And of how many of those the true pose is among the alternatives.
        """
        row: dict[str, int] = dict.fromkeys(
            ('n', 'reported', 'wrong', 'wrong_reported', 'true_among_alternatives'), 0
        )
        for case, estimate in pairs:
            wrong = self._is_wrong(case, estimate.T_cam_obj)
            row['n'] += 1
            row['reported'] += estimate.ambiguous
            row['wrong'] += wrong
            row['wrong_reported'] += wrong and estimate.ambiguous
            others = [T for T in estimate.alternatives if not self._is_wrong(case, T)]
            row['true_among_alternatives'] += wrong and bool(others)
        return row

    def _is_wrong(self, case: Case, T_cam_obj: NDArray[np.float64]) -> bool:
        angle, _ = rotation_translation_error(T_cam_obj, case.T_cam_obj, case.truth.symmetries)
        # Alternatives are look-alikes that were not refined: 20 degrees apart.
        return bool(np.degrees(angle) > self.wrong_deg)


def plot(pairs: list[tuple[Case, PoseEstimate]], path: Path) -> None:
    """The clearest and the most ambiguous poses of an object, with all their alternatives."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt

    ordered = sorted(pairs, key=lambda pair: len(pair[1].alternatives))
    chosen = [*ordered[:3], *ordered[-3:]]
    figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), squeeze=False)
    for axis, (case, estimate) in zip(axes.flat, chosen, strict=False):
        axis.imshow(_drawn(case, estimate))
        axis.axis('off')
        text = f'{len(estimate.alternatives)} alternatives'
        if estimate.free_axis is not None:
            text += f', free axis {np.round(estimate.free_axis, 1)}'
        axis.set_title(text, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def _drawn(case: Case, estimate: PoseEstimate) -> NDArray[Any]:
    place = place_window(case.frame.camera, case.reference, estimate.T_cam_obj, 1.5, 320)
    assert place is not None
    camera, left, top, factor = place
    color = case.frame.warp(camera, left, top, factor).color
    poses = [('pose', estimate.T_cam_obj), *(('other', T) for T in estimate.alternatives)]
    objects = [OverlayObject('', T, case.reference if n == 'pose' else None) for n, T in poses]
    return draw_overlay(color, camera, objects)


if __name__ == '__main__':
    tyro.cli(MeasureAmbiguity).run()
