"""Are the covariances of the LM refiner true? Errors against the ellipsoids they promise.

`python benchmarks/measure_calibration.py --root render_bop --db objects`

A calibrated covariance has a share p of the errors inside its ellipsoid of probability p, for
every p. What ended in another valley is counted apart: no ellipsoid around a wrong pose is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from figures import RESULTS, origin, print_table, write_figures
from numpy.typing import NDArray
from refinement_cases import Case, read_cases
from scipy.stats import chi2

from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.refinement.lm import LMRefiner

LEVELS = (0.5, 0.68, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class MeasureCalibration:
    """Refine every visible instance from near the truth, with and without depth."""

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
    start_deg: float = 5.0
    """How far the starts are turned from the truth."""
    same_valley_deg: float = 10.0
    """Errors above this are another valley."""
    refiner: LMRefiner = LMRefiner()
    """The refiner whose covariances are judged."""
    out: Path = RESULTS
    """Folder for calibration.json and calibration.png."""

    def run(self) -> None:
        """Measure, print, write."""
        shown = {k: v for k, v in asdict(self).items() if k != 'refiner'}
        figures = origin(f'covariance, {self.root.resolve().name} {self.split}', shown)
        cases = read_cases(self.root, self.split, self.db, self.cases, self.min_visible)
        rng = np.random.default_rng(0)
        starts = [(case, case.start(self.start_deg, 0.02, rng)) for case in cases]
        rows, curves = {}, {}
        for name, with_depth in (('RGB-D', True), ('RGB', False)):
            squared, elsewhere, lost = self._squared_errors(starts, with_depth)
            curves[name] = squared
            rows[name] = {
                'n': len(squared),
                'other_valley': elsewhere,
                'lost': lost,
                **{f'inside_{p:.0%}': float(np.mean(squared < chi2.ppf(p, 6))) for p in LEVELS},
                'median_squared': float(np.median(squared)),
            }
        columns = {'n': '{}', 'other_valley': '{}', 'lost': '{}', 'median_squared': '{:.2f}'}
        shares = {f'inside_{p:.0%}': '{:.3f}' for p in LEVELS}
        print_table('errors inside their ellipsoids', rows, columns | shares)
        write_figures(self.out, 'calibration', figures | {'rows': rows})
        plot(curves, self.out / 'calibration.png')

    def _squared_errors(
        self, starts: list[tuple[Case, NDArray[np.float64]]], with_depth: bool
    ) -> tuple[NDArray[np.float64], int, int]:
        """Squared Mahalanobis distances [N]; how many went elsewhere, and were lost."""
        squared, elsewhere, lost = [], 0, 0
        for case, start in starts:
            frame = case.frame if with_depth else case.frame.without_depth()
            estimate = self.refiner.refine(frame, case.reference, [start], case.mask)
            if not estimate.found or estimate.covariance is None:
                lost += 1
                continue
            angle = se3.rotation_angle(estimate.T_cam_obj[:3, :3], case.T_cam_obj[:3, :3])
            if angle > np.radians(self.same_valley_deg):
                elsewhere += 1
                continue
            xi = se3.log(case.T_cam_obj @ se3.inverse(estimate.T_cam_obj))
            squared.append(xi @ np.linalg.solve(estimate.covariance, xi))
        return np.array(squared), elsewhere, lost


def plot(curves: Mapping[str, Any], path: Path) -> None:
    """Share of the errors inside against the probability promised."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 5))
    p = np.linspace(0.01, 0.995, 200)
    axis.plot([0, 1], [0, 1], '--', color='gray', label='calibrated')
    for name, squared in curves.items():
        axis.plot(p, [np.mean(squared < chi2.ppf(q, 6)) for q in p], label=name)
    axis.set_xlabel('probability of the ellipsoid')
    axis.set_ylabel('share of the errors inside')
    axis.grid(True, alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    tyro.cli(MeasureCalibration).run()
