"""What environment adaptation (GS2Pose) buys under changed light.

`python benchmarks/measure_adaptation.py --root render_bop --db objects`

The same cases and starts with and without it, in the light of the test scenes (other than that of
the references) and with light changed once more; and pictures of what the splat learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from figures import RESULTS, origin, print_table, write_figures
from measure_refinement import SINGLE, Row
from numpy.typing import NDArray
from refinement_cases import Case, Pose, read_cases

from gs_pose_ros.losses import psnr
from gs_pose_ros.pose.refinement.appearance import Adaptation, Exposure, PhotometricLoss, Target
from gs_pose_ros.pose.refinement.gs2pose import GS2PoseRefiner
from gs_pose_ros.pose.stages import Refiner
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering import render

ROWS: dict[str, Refiner] = {
    'gs2pose, not adapted': GS2PoseRefiner(adapt=False),
    'gs2pose': GS2PoseRefiner(),
    'lm': SINGLE,
    'lm, adapted': replace(SINGLE, adapt=True),
}


@dataclass(frozen=True)
class MeasureAdaptation:
    """Refine with and without adaptation; true masks, with depth."""

    root: Path
    """BOP set with train/ and test/."""
    db: Path = Path('out/benchmarks/refinement')
    """Objects; what is missing is registered from train/."""
    split: str = 'test'
    """Split of the cases."""
    cases: int = 16
    """Instances, evenly spread over the visible ones."""
    min_visible: float = 0.7
    """Less visible instances are left out."""
    start_deg: float = 10.0
    """How far the starts are turned from the truth."""
    out: Path = RESULTS
    """Folder for adaptation.json and adaptation.png."""

    def run(self) -> None:
        """Measure, print, write, draw."""
        figures = origin(f'adaptation, {self.root.resolve().name} {self.split}', asdict(self))
        cases = read_cases(self.root, self.split, self.db, self.cases, self.min_visible)
        rng = np.random.default_rng(0)
        starts = [case.start(self.start_deg, 0.02, rng) for case in cases]
        lights = {
            'light of the scene': cases,
            'changed once more': [case.relit(rng) for case in cases],
        }
        ROWS['lm'].refine(cases[0].frame, cases[0].reference, [starts[0]], cases[0].mask)
        results = {}
        for light, lit in lights.items():
            results[light] = {name: _row(r, lit, starts) for name, r in ROWS.items()}
            print_table(
                light,
                results[light],
                {
                    'n': '{}', 'success_1deg_1pc': '{:.2f}', 'success_add_005': '{:.2f}',
                    'median_deg': '{:.2f}', 'median_pc': '{:.2f}', 'p50_ms': '{:.0f}',
                },
            )  # fmt: skip
        looks = {light: [_adapted(case) for case in lit] for light, lit in lights.items()}
        figures |= {
            'rows': results,
            'psnr_at_the_true_pose_db': {
                light: {
                    'before': float(np.median([look.splat_db for look in of_light])),
                    'exposure': float(np.median([look.exposed_db for look in of_light])),
                    'adapted': float(np.median([look.adapted_db for look in of_light])),
                }
                for light, of_light in looks.items()
            },
        }
        write_figures(self.out, 'adaptation', figures)
        plot(results, looks['changed once more'][:4], self.out / 'adaptation.png')


def _row(refiner: Refiner, cases: list[Case], starts: list[Pose]) -> dict[str, float | int]:
    row = Row()
    for case, start in zip(cases, starts, strict=True):
        row.measure(refiner, case, [start])
    return row.figures()


class Look(NamedTuple):
    """Pictures [S, S, 3] at the true pose, and their PSNR inside the mask."""

    image: NDArray
    splat: NDArray
    adapted: NDArray
    splat_db: float
    exposed_db: float  # with the exposure alone
    adapted_db: float


def _adapted(case: Case, size: int = 224) -> Look:
    observation = Observation(case.frame, case.reference, case.mask)
    window = ObjectWindow.around(observation, case.T_cam_obj, 1.3, size)
    assert window is not None
    target, loss = Target.of(window), PhotometricLoss()
    pose = torch.from_numpy(case.T_cam_obj)
    gaussians = case.reference.gaussians.detached()
    mask = target.soft.numpy() > 0.5

    def seen(splat: Any, exposure: Exposure) -> NDArray:
        with torch.no_grad():
            return exposure.of(render(splat, target.camera, pose)).clamp(0, 1).numpy()

    before, only = seen(gaussians, Exposure.neutral()), Exposure.neutral()
    Adaptation(lr_sh=0.0, lr_quats=0.0).adapted(gaussians, target, case.T_cam_obj, only, loss)
    exposed, exposure = seen(gaussians, only), Exposure.neutral()
    learnt = Adaptation().adapted(gaussians, target, case.T_cam_obj, exposure, loss)
    after, truth = seen(learnt, exposure), target.color.numpy()
    before_db, exposed_db, after_db = (psnr(c, truth, mask) for c in (before, exposed, after))
    return Look(truth, before, after, before_db, exposed_db, after_db)


def plot(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]], looks: list[Look], path: Path
) -> None:
    """Pictures above, errors below."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 8.5))
    grid = figure.add_gridspec(3, 12, height_ratios=(1, 1, 1.2))
    titles = ('image', 'splat', 'adapted')
    for i, look in enumerate(looks):
        row, first = divmod(i, 2)
        for k, db in enumerate((None, look.splat_db, look.adapted_db)):
            axis = figure.add_subplot(grid[row, 6 * first + 2 * k : 6 * first + 2 * k + 2])
            axis.imshow(look[k])
            axis.axis('off')
            axis.set_title(titles[k] if db is None else f'{titles[k]} {db:.1f} dB', fontsize=8)
    for i, (figure_name, label) in enumerate(
        (('median_deg', 'median error, deg'), ('success_1deg_1pc', 'success (1 deg, 1 %)'))
    ):
        axis = figure.add_subplot(grid[2, 6 * i : 6 * i + 6])
        for j, (light, rows) in enumerate(results.items()):
            places = np.arange(len(rows)) + 0.35 * j
            axis.bar(places, [r[figure_name] for r in rows.values()], 0.33, label=light)
        axis.set_xticks(np.arange(len(ROWS)) + 0.17, list(ROWS), fontsize=7)
        axis.set_ylabel(label, fontsize=8)
        axis.legend(fontsize=7)
        axis.grid(True, axis='y', alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    tyro.cli(MeasureAdaptation).run()
