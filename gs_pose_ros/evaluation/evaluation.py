"""One finished evaluation: its figures as JSON and as a table, whatever made the poses."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gs_pose_ros.evaluation.provenance import provenance
from gs_pose_ros.evaluation.scoring import (
    EstimatedPose,
    ImageResult,
    ImageScore,
    InstanceResult,
    score_image,
)
from gs_pose_ros.evaluation.summary import Figures, summarize
from gs_pose_ros.evaluation.truth import EvaluatedObject, TrueImage

MATCHING = (
    'Poses: best score first, each takes the free instance of its object with the smallest ADD(S) '
    'below 0.1 diameters (the BOP rule), those left over the nearest below 1 diameter. '
    'Masks: best score first, highest IoU of at least 0.5. Symmetric objects use ADD-S, others '
    'ADD. Instances without an estimate are wrong in every rate; medians are over those with one.'
)

# What a reader looks at first; everything else is in the JSON.
TABLE_KEYS = (
    ('n_instances', 'n', '{:d}'),
    ('detection_recall_iou50', 'recall', '{:.1%}'),
    ('map_50_95_mask', 'mAP mask', '{:.1%}'),
    ('initial_adds_0.1d', 'initial', '{:.1%}'),
    ('adds_0.1d', 'ADD(S)-0.1d', '{:.1%}'),
    ('add_s_auc', 'ADD-S AUC', '{:.1%}'),
    ('proj_5px', 'proj 5 px', '{:.1%}'),
    ('median_rot_deg', 'rot deg', '{:.2f}'),
    ('median_trans_mm', 'trans mm', '{:.1f}'),
    ('false_positives_per_image', 'FP/image', '{:.2f}'),
    ('false_poses_per_image', 'false poses', '{:.2f}'),
    ('psnr_heldout', 'PSNR dB', '{:.1f}'),
    ('registration_s', 'reg. s', '{:.0f}'),
)


@dataclass(frozen=True)
class Evaluation:
    """Results on a set of images, and what is needed to explain them."""

    title: str
    images: Sequence[ImageResult]
    objects: Mapping[str, EvaluatedObject]
    settings: Mapping[str, Any] = field(default_factory=dict)
    # Per object: registration_s, psnr_heldout, ...
    registration: Mapping[str, Figures] = field(default_factory=dict)
    min_visible: float = 0.1  # instances that show less are ignored, as BOP does
    min_visible_strict: float = 0.3  # every figure is also given for instances that show this
    # RGB [H, W, 3] uint8 of an image by its name, for the pictures in the report.
    read_color: Callable[[str], NDArray[np.uint8]] | None = None

    @cached_property
    def scores(self) -> list[ImageScore]:
        """The errors in each image."""
        return [score_image(image, self.objects) for image in self.images]

    @property
    def rows(self) -> list[InstanceResult]:
        """All instances, ignored ones included."""
        return [row for score in self.scores for row in score.instances]

    @property
    def inventions(self) -> list[tuple[ImageResult, EstimatedPose]]:
        """Poses where no such object is, each with its image."""
        pairs = zip(self.images, self.scores, strict=True)
        return [(image, pose) for image, score in pairs for pose in score.invented]

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Everything the JSON file holds."""
        return {
            'title': self.title,
            'settings': dict(self.settings),
            **provenance(),
            'matching': MATCHING,
            'n_images': len(self.images),
            'min_visible': self.min_visible,
            **self._split(self.min_visible),
            'strict': {
                'min_visible': self.min_visible_strict,
                **self._split(self.min_visible_strict),
            },
            'instances': [_row_figures(row) for row in self.rows],
        }

    @property
    def overall(self) -> Figures:
        """The figures over all objects."""
        return self.figures['overall']

    def write_json(self, path: Path) -> None:
        """Write all figures; unknown ones are null."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.figures, indent=1, allow_nan=False) + '\n')

    def print_table(self, console: Console | None = None) -> None:
        """Print one row an object and the overall row, for both visibility limits."""
        console = console or wide_console()
        for part in (self.figures, self.figures['strict']):
            console.print(_table(part, f'{self.title}, visible >= {part["min_visible"]:.0%}'))
        latency = self.overall['latency_ms']
        known = {s: v for s, v in latency.items() if v['p50'] is not None}
        if known:
            texts = (f'{s} {v["p50"]:.0f} / {v["p95"]:.0f}' for s, v in known.items())
            console.print(f'ms an image, p50 / p95: {", ".join(texts)}')

    def _split(self, min_visible: float) -> dict[str, Any]:
        figures = summarize(self.images, self.scores, list(self.objects), min_visible)
        overall = figures.pop('overall')
        for object_id, facts in self.registration.items():
            figures[object_id] = {**figures[object_id], **facts}
        for key in ('registration_s', 'psnr_heldout'):
            values = [facts.get(key) for facts in self.registration.values()]
            known = [v for v in values if v is not None]
            overall[key] = float(np.mean(known)) if known else None
        return {'overall': overall, 'objects': figures}


def wide_console() -> Console:
    """A console wide enough for the table; where there is no terminal rich assumes 80 columns."""
    return Console(width=None if sys.stdout.isatty() else 150)


def evaluate_poses(
    estimates: Sequence[tuple[int, str, NDArray[np.float64], float]],
    truth: Sequence[TrueImage],
    objects: Mapping[str, EvaluatedObject],
    title: str = 'poses',
    settings: Mapping[str, Any] | None = None,
    seconds: Mapping[int, Mapping[str, float]] | None = None,
    read_color: Callable[[str], NDArray[np.uint8]] | None = None,
) -> Evaluation:
    """Evaluate poses that came from somewhere else, e.g. from the topics of running nodes.

    `estimates` are (stamp_ns, object_id, T_cam_obj [4, 4] m, score), lost ones left out; they
    belong to the image in `truth` with exactly that stamp. A true image without estimates is one
    where nothing was found. Estimates of unknown stamps or objects are counted in the settings of
    the result, not scored. `seconds` are stage times by stamp.
    """
    stamps = {image.stamp_ns for image in truth}
    by_stamp: dict[int, list[EstimatedPose]] = defaultdict(list)
    unknown = 0
    for stamp, object_id, T_cam_obj, score in estimates:
        if stamp in stamps and object_id in objects:
            pose = EstimatedPose(object_id, np.asarray(T_cam_obj, np.float64), float(score))
            by_stamp[stamp].append(pose)
        else:
            unknown += 1
    images = []
    for image in truth:
        stamp = -1 if image.stamp_ns is None else image.stamp_ns
        poses = tuple(by_stamp.get(stamp, ()))
        images.append(ImageResult(image, poses, seconds=(seconds or {}).get(stamp, {})))
    return Evaluation(
        title=title,
        images=images,
        objects=objects,
        settings={**(settings or {}), 'estimates_without_truth': unknown},
        read_color=read_color,
    )


def _row_figures(row: InstanceResult) -> Figures:
    out: Figures = {
        'image': row.image,
        'object_id': row.object_id,
        'visible_fraction': round(row.instance.visible_fraction, 4),
        'best_iou': row.best_iou,
        'initial_add_over_d': None if row.initial is None else row.add_over_diameter(True),
    }
    if row.final is not None:
        pixels = row.final.projection_px
        out |= {
            'add_over_d': row.add_over_diameter(),
            'adds_mm': 1000 * row.final.adds_m,
            'rot_deg': float(np.degrees(row.final.rotation_rad)),
            'trans_mm': 1000 * row.final.translation_m,
            'proj_px': pixels if np.isfinite(pixels) else None,
            'score': row.final.score,
        }
    return out


def _table(part: Mapping[str, Any], title: str) -> Table:
    rows = {**part['objects'], 'overall': part['overall']}
    keys = [
        k for k in TABLE_KEYS if any(figures.get(k[0]) is not None for figures in rows.values())
    ]
    table = Table(title=title)
    table.add_column('object')
    for _, label, _ in keys:
        table.add_column(label, justify='right')
    for name, figures in rows.items():
        table.add_row(name, *(cell(figures.get(key), form) for key, _, form in keys))
    return table


def cell(value: float | None, form: str) -> str:
    """A figure as text; a dash for what is not known."""
    return '-' if value is None else form.format(value)
