"""The figures of a `measure_*.py`: where they come from, percentiles, and the file they go to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from gs_pose_ros.evaluation.evaluation import cell, wide_console
from gs_pose_ros.evaluation.provenance import provenance

RESULTS = Path(__file__).resolve().parent / 'results'
DEMO = RESULTS.parents[1] / 'examples' / 'demo'


def origin(title: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, with which settings, where; to be asked before the work begins.

    Of folders only the name is told: results are published.
    """
    shown = {k: v.name if isinstance(v, Path) else v for k, v in settings.items() if k != 'out'}
    # A time measured beside other jobs is an upper bound: the load says whether there were any.
    load = round(os.getloadavg()[0], 2)
    return {'title': title, 'settings': shown, **provenance(), 'load_average_before': load}


def milliseconds(seconds: Iterable[float]) -> dict[str, float | int | None]:
    """How many, p50 and p95; None if there are none."""
    values = 1000 * np.fromiter(seconds, float)
    p50, p95 = np.percentile(values, (50, 95)).tolist() if values.size else (None, None)
    return {'n': values.size, 'p50_ms': p50, 'p95_ms': p95}


def write_figures(folder: Path, name: str, figures: Mapping[str, Any]) -> None:
    """Write `<folder>/<name>.json`; NaN is refused, unknown figures are null."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{name}.json'
    path.write_text(json.dumps(figures, indent=1, allow_nan=False) + '\n')
    wide_console().print(f'{path}')


def print_table(
    title: str, rows: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> None:
    """A row for each entry; `columns` are figures and their formats, such as '{:.1f}'."""
    table = Table('', title=title)
    for name in columns:
        table.add_column(name, justify='right')
    for label, figures in rows.items():
        table.add_row(label, *(cell(figures.get(k), form) for k, form in columns.items()))
    wide_console().print(table)
