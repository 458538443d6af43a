"""Ablations of the LM refiner: what its default settings are worth, one changed at a time.

`python benchmarks/measure_ablations.py --root render_bop --db objects`

All variants refine the same cases from the same single starts, one right after the other, so that
successes are compared in pairs and times are of the same moments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from figures import RESULTS, origin, print_table, write_figures
from measure_refinement import SINGLE, Row, WithoutDepth
from refinement_cases import CHANGES, Case, Start, draw_starts, read_cases

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.refinement.pyramid import COARSE, FINE
from gs_pose_ros.pose.stages import Refiner
from gs_pose_ros.rendering.level_of_detail import merge

STARTS = ((10, 0.02), (20, 0.05), (30, 0.05))
CHANGED = ((20, 0.05),)
DEFAULT = 'default'
_OFF = 1e6  # a standard deviation with which a residual weighs nothing


@dataclass(frozen=True)
class Variant:
    """A refiner, and the splat that it gets of an object."""

    group: str
    refiner: Refiner = SINGLE
    splat: Callable[[ObjectReference], Gaussians] = lambda reference: reference.gaussians

    def of(self, reference: ObjectReference) -> ObjectReference:
        """The object with that splat."""
        return replace(reference, gaussians=self.splat(reference))


def _at_all_levels(**changes: float) -> LMRefiner:
    coarse, fine = (
        tuple(replace(level, **changes) for level in levels) for levels in (COARSE, FINE)
    )
    return replace(SINGLE, coarse=coarse, fine=fine)


def _finest(crop_size: int) -> Variant:
    fine = (*FINE[:-1], replace(FINE[-1], crop_size=crop_size))
    return Variant('finest crop', replace(SINGLE, fine=fine))


def _of_degree(degree: int) -> Variant:
    def splat(reference: ObjectReference) -> Gaussians:
        g = reference.gaussians
        return replace(g, sh=g.sh[:, : (degree + 1) ** 2].contiguous())

    return Variant('SH', splat=splat)


def _merged(cell: float) -> Variant:
    """One Gaussian for all those in a cube, its side in diameters (SH of degree 1)."""
    return Variant('Gaussians', splat=lambda r: merge(r.gaussians, cell * r.diameter_m))


def _pruned(share: float) -> Variant:
    """Those that cover most in pictures; holes stay where the others were."""

    def splat(reference: ObjectReference) -> Gaussians:
        g = reference.gaussians
        two_largest = g.scales.prod(1) / g.scales.amin(1)
        covering = (g.opacities * two_largest).argsort(descending=True)
        return g[covering[: round(share * len(g))].sort().values]

    return Variant('Gaussians', splat=splat)


VARIANTS: dict[str, Variant] = {
    DEFAULT: Variant(DEFAULT),
    'no colour': Variant('residuals', _at_all_levels(color_sigma=_OFF)),
    'no silhouette': Variant('residuals', replace(SINGLE, silhouette_sigma=_OFF)),
    # Occluders are told by depth residuals as well. The start still is aligned by depth.
    'no depth residual': Variant('residuals', _at_all_levels(depth_sigma=_OFF)),
    'no depth image': Variant('residuals', WithoutDepth(SINGLE)),
    'shading kept': Variant('shading', replace(SINGLE, detail=0.0)),
    'means over 6 %': Variant('shading', replace(SINGLE, detail=0.06)),
    'means over 25 %': Variant('shading', replace(SINGLE, detail=0.25)),
    'removed at 40 px too': Variant('shading', replace(SINGLE, detail_from=40)),
    'without 40 px': Variant('pyramid', replace(SINGLE, coarse=COARSE[1:])),
    'without 64 px': Variant('pyramid', replace(SINGLE, coarse=COARSE[:1])),
    'without 40, 64 px': Variant('pyramid', replace(SINGLE, coarse=())),
    'without 96 px': Variant('pyramid', replace(SINGLE, fine=FINE[1:])),
    'without 224 px': Variant('pyramid', replace(SINGLE, fine=FINE[:1])),
    '3 iterations': Variant('pyramid', _at_all_levels(iterations=3)),
    '6 iterations': Variant('pyramid', _at_all_levels(iterations=6)),
    '15 iterations': Variant('pyramid', _at_all_levels(iterations=15)),
    'nothing merged': Variant('pyramid', _at_all_levels(merged_px=1.0)),
    'merged at all levels': Variant('pyramid', _at_all_levels(merged_px=2.0)),
    '144 px': _finest(144),
    '192 px': _finest(192),
    '288 px': _finest(288),
    '1.1 diameters': Variant('padding', replace(SINGLE, crop_padding=1.1)),
    '1.6 diameters': Variant('padding', replace(SINGLE, crop_padding=1.6)),
    '2 diameters': Variant('padding', replace(SINGLE, crop_padding=2.0)),
    '3 sigmas': Variant('robust limit', replace(SINGLE, robust_cut=3.0)),
    '4 sigmas': Variant('robust limit', replace(SINGLE, robust_cut=4.0)),
    '8 sigmas': Variant('robust limit', replace(SINGLE, robust_cut=8.0)),
    'none': Variant('robust limit', replace(SINGLE, robust_cut=1e3)),
    'degree 0': _of_degree(0),
    'degree 1': _of_degree(1),
    'degree 2': _of_degree(2),
    'merged, cells 1.5 %': _merged(0.015),
    'merged, cells 3 %': _merged(0.03),
    'pruned to 75 %': _pruned(0.75),
    'pruned to 50 %': _pruned(0.5),
    'no gain and offset': Variant('exposure', replace(SINGLE, exposure=False)),
}


@dataclass(frozen=True)
class MeasureAblations:
    """Every variant from every start; true masks, with depth."""

    root: Path
    """BOP set. Decide defaults on another one than that whose figures are shown."""
    db: Path = Path('out/benchmarks/refinement')
    """Objects; what is missing is registered from train/."""
    split: str = 'test'
    """Split of the cases."""
    cases: int = 40
    """Instances, evenly spread over the visible ones."""
    min_visible: float = 0.5
    """Less visible instances are left out."""
    out: Path = RESULTS
    """Folder for ablations.json and ablations.png."""

    def run(self) -> None:
        """Measure, print the tables, write the files."""
        figures = origin(f'ablations, {self.root.resolve().name} {self.split}', asdict(self))
        cases = read_cases(self.root, self.split, self.db, self.cases, self.min_visible)
        objects = {c.reference.object_id: c for c in cases}
        references = {
            name: {i: variant.of(c.reference) for i, c in objects.items()}
            for name, variant in VARIANTS.items()
        }

        def as_variant(case: Case, name: str) -> Case:
            return replace(case, reference=references[name][case.reference.object_id])

        for name, variant in VARIANTS.items():  # prepares every splat
            for case in objects.values():
                Row().measure(variant.refiner, as_variant(case, name), [case.T_cam_obj])
        changes = {name: CHANGES[name] for name in ('relit', 'hidden 50%')}
        kinds = draw_starts(cases, STARTS, CHANGED, changes)
        rows: dict[str, dict[str, Row]] = {}
        for kind, starts in kinds.items():
            rows[kind] = _rows(starts, as_variant)
            print(f'{kind}: done')
        results = {}
        for name, variant in VARIANTS.items():
            all_rows = [of_kind[name] for of_kind in rows.values()]
            row, default = Row.joined(all_rows), Row.joined(r[DEFAULT] for r in rows.values())
            count = np.mean([len(r.gaussians) for r in references[name].values()])
            results[name] = {
                'group': variant.group,
                'gaussians': round(float(count)),
                **row.figures(),
                'against_default': against(row, default, len(cases)),
            }
        print_table(
            'all starts',
            {name: {**row, **row['against_default']} for name, row in results.items()},
            {
                'gaussians': '{}', 'success_1deg_1pc': '{:.3f}', 'difference': '{:+.3f}',
                'standard_error': '{:.3f}', 'won': '{}', 'lost': '{}', 'success_add_010': '{:.3f}',
                'median_deg': '{:.2f}', 'p50_ms': '{:.0f}', 'time': '{:.2f}',
            },
        )  # fmt: skip
        figures |= {
            'objects': sorted(objects),
            'all_starts': results,
            'starts': {
                kind: {name: row.figures() for name, row in of_kind.items()}
                for kind, of_kind in rows.items()
            },
        }
        write_figures(self.out, 'ablations', figures)
        plot(results, f'{figures["title"]}, {len(cases)} cases', self.out / 'ablations.png')


def _rows(starts: Iterable[Start], as_variant: Callable[[Case, str], Case]) -> dict[str, Row]:
    rows = {name: Row() for name in VARIANTS}
    for case, poses in starts:
        for name, variant in VARIANTS.items():
            rows[name].measure(variant.refiner, as_variant(case, name), poses)
    return rows


def against(row: Row, default: Row, cases: int) -> dict[str, float | int]:
    """Success and time of the same starts, compared in pairs; the starts are [kinds, cases].

    The standard error is that of the mean over cases: the starts of one case are alike.
    """
    change = row.within_1deg_1pc.astype(int) - default.within_1deg_1pc
    of_case = change.reshape(-1, cases).mean(0)
    return {
        'difference': float(change.mean()),
        'standard_error': float(of_case.std(ddof=1) / np.sqrt(cases)) if cases > 1 else 0.0,
        'won': int((change > 0).sum()),
        'lost': int((change < 0).sum()),
        'time': float(np.median(np.divide(row.seconds, default.seconds))),
    }


def plot(results: Mapping[str, Mapping[str, Any]], title: str, path: Path) -> None:
    """A line for each variant; the default's figures are the dashed lines."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt

    heights: dict[str, int] = {}
    groups: dict[str, int] = {}
    for name, row in results.items():
        if row['group'] not in groups:  # a line's room between two groups
            groups[row['group']] = len(heights) + len(groups)
        heights[name] = len(heights) + len(groups) - 1
    panels = {
        'success_1deg_1pc': 'success (1 deg, 1 %)',
        'success_add_010': 'success (ADD, 0.1 d)',
        'p50_ms': 'ms, p50',
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 9), sharey=True)
    colors = {group: f'C{i % 10}' for i, group in enumerate(groups)}
    for axis, (key, label) in zip(axes, panels.items(), strict=True):
        axis.axvline(results[DEFAULT][key], color='black', linestyle='--', linewidth=1)
        for name, row in results.items():
            paired = key == 'success_1deg_1pc'
            error = 2 * row['against_default']['standard_error'] if paired else None
            axis.errorbar(row[key], heights[name], xerr=error, fmt='o', color=colors[row['group']])
        axis.set_xlabel(label)
        axis.grid(True, axis='x', alpha=0.3)
    axes[0].set_yticks(list(heights.values()), list(heights), fontsize=8)
    axes[0].invert_yaxis()
    for group, height in groups.items():
        if group != DEFAULT:
            axes[-1].annotate(
                group,
                (1.02, height),
                xycoords=('axes fraction', 'data'),
                color=colors[group],
                fontsize=8,
                va='center',
            )
    figure.suptitle(
        f'{title}: all starts. Bars: two standard errors of the difference to the default '
        '(dashed), in pairs',
        fontsize=9,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    tyro.cli(MeasureAblations).run()
