"""The HTML page of an evaluation: tables, and pictures of best, median and worst cases."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.evaluation.evaluation import TABLE_KEYS, Evaluation, cell
from gs_pose_ros.evaluation.scoring import InstanceResult
from gs_pose_ros.extras import require_modules
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

TRUE_COLOR = (0, 220, 90)
ESTIMATED_COLOR = (255, 40, 130)
_PICTURE_PX = 260


@dataclass(frozen=True)
class Case:
    """One picture of the report."""

    image: str
    caption: str
    object_id: str
    camera: Camera
    T_true: NDArray[np.float64] | None  # [4, 4] T_cam_obj
    T_estimated: NDArray[np.float64] | None  # [4, 4] T_cam_obj


def write_report(evaluation: Evaluation, folder: Path, cases: int = 6) -> Path:
    """Write `folder`/index.html, which needs no other file.

    Pictures are left out where the evaluation has no `read_color`.

    Returns:
        The path of the page.

    """
    require_modules('jinja2')
    import jinja2

    figures = evaluation.figures
    page = jinja2.Environment(autoescape=True).from_string(_TEMPLATE)
    parts = [
        (f'Instances visible by {part["min_visible"]:.0%} or more', _rows(part))
        for part in (figures, figures['strict'])
    ]
    groups = choose_cases(evaluation, cases) if evaluation.read_color is not None else {}
    text = page.render(
        title=evaluation.title,
        header=[label for _, label, _ in TABLE_KEYS],
        parts=parts,
        latency=figures['overall']['latency_ms'],
        settings=figures['settings'],
        facts={k: figures[k] for k in ('date', 'commit', 'package_version', 'n_images')},
        machine=json.dumps(figures['machine']),
        matching=figures['matching'],
        groups={name: [_embedded(evaluation, c) for c in group] for name, group in groups.items()},
        lost=[(i.truth.name, *entry) for i in evaluation.images for entry in i.lost][:200],
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'index.html'
    path.write_text(text)
    return path


def choose_cases(evaluation: Evaluation, count: int) -> dict[str, list[Case]]:
    """Up to `count` of the best, median and worst instances, of the missed and the invented."""
    rows = [
        r for r in evaluation.rows if r.instance.visible_fraction >= evaluation.min_visible_strict
    ]
    found = sorted((r for r in rows if r.final is not None), key=lambda r: r.add_over_diameter())
    middle = max(0, len(found) // 2 - count // 2)
    missed = sorted(
        (r for r in rows if r.final is None), key=lambda r: -r.instance.visible_fraction
    )
    invented = sorted(evaluation.inventions, key=lambda pair: -pair[1].score)
    return {
        'Worst': [_case(r) for r in found[::-1][:count]],
        'Median': [_case(r) for r in found[middle : middle + count]],
        'Best': [_case(r) for r in found[:count]],
        'Missed': [_case(r) for r in missed[: 2 * count]],
        'Invented': [
            Case(
                image=image.truth.name,
                caption=f'score {pose.score:.2f}',
                object_id=pose.object_id,
                camera=image.truth.camera,
                T_true=None,
                T_estimated=pose.T_cam_obj,
            )
            for image, pose in invented[:count]
        ],
    }


def draw_case(
    color: NDArray[np.uint8],  # [H, W, 3] RGB
    camera: Camera,
    points: NDArray[np.float64],  # [N, 3] m
    T_true: NDArray[np.float64] | None,
    T_estimated: NDArray[np.float64] | None,
    size: int = _PICTURE_PX,
) -> NDArray[np.uint8]:
    """The surroundings of the object, [size, size, 3] RGB, with both outlines.

    Green is the truth, pink the estimate.
    """
    outlines = [
        (T, paint)
        for T, paint in ((T_true, TRUE_COLOR), (T_estimated, ESTIMATED_COLOR))
        if T is not None and (se3.transform(T, points)[:, 2] > 0).all()
    ]
    if not outlines:
        return np.asarray(cv2.resize(color, (size, size)), np.uint8)
    # The truth decides what is shown: a far-off estimate would shrink the object to a dot.
    uv = camera.project(se3.transform(outlines[0][0], points))
    low, high = uv.min(0), uv.max(0)
    side = 1.6 * float(max(high - low))
    left, top = (low + high) / 2 - side / 2
    factor = size / side
    M = np.array([[factor, 0, -left * factor], [0, factor, -top * factor]])
    picture = np.asarray(cv2.warpAffine(color, M, (size, size)), np.uint8)
    for T, paint in outlines:
        pixels = (camera.project(se3.transform(T, points)) - [left, top]) * factor
        cv2.drawContours(picture, _outline(pixels, size), -1, paint, 1, cv2.LINE_AA)
    return picture


def _outline(pixels: NDArray[np.float64], size: int) -> Sequence[NDArray]:
    """Contours around projected points, the gaps between them closed."""
    mask = np.zeros((size, size), np.uint8)
    inside = ((pixels >= 0) & (pixels < size)).all(1)
    u, v = pixels[inside].astype(int).T
    mask[v, u] = 1
    kernel = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15)))
    mask = cv2.morphologyEx(
        cv2.copyMakeBorder(mask, 16, 16, 16, 16, cv2.BORDER_CONSTANT), cv2.MORPH_CLOSE, kernel
    )[16:-16, 16:-16]
    return cv2.findContours(mask.copy(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]


def _case(row: InstanceResult) -> Case:
    if row.final is None:
        iou = '' if row.best_iou is None else f', best detection IoU {row.best_iou:.2f}'
        caption = f'missed{iou}, visible {row.instance.visible_fraction:.0%}'
    else:
        caption = (
            f'ADD(S) {row.add_over_diameter():.3f} d, '
            f'{np.degrees(row.final.rotation_rad):.1f} deg, '
            f'{1000 * row.final.translation_m:.1f} mm, score {row.final.score:.2f}, '
            f'visible {row.instance.visible_fraction:.0%}'
        )
    return Case(
        image=row.image,
        caption=caption,
        object_id=row.object_id,
        camera=row.camera,
        T_true=row.instance.T_cam_obj,
        T_estimated=None if row.final is None else row.final.T_cam_obj,
    )


def _embedded(evaluation: Evaluation, case: Case) -> tuple[str, str, str]:
    assert evaluation.read_color is not None
    picture = draw_case(
        evaluation.read_color(case.image),
        case.camera,
        evaluation.objects[case.object_id].points,
        case.T_true,
        case.T_estimated,
    )
    png = cv2.imencode('.png', picture[..., ::-1])[1]
    return (
        base64.b64encode(png.tobytes()).decode(),
        f'{case.object_id} in {case.image}',
        case.caption,
    )


def _rows(part: dict) -> list[tuple[str, list[str]]]:
    figures = {**part['objects'], 'overall': part['overall']}
    return [
        (name, [cell(row.get(key), form) for key, _, form in TABLE_KEYS])
        for name, row in figures.items()
    ]


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
 body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px;
        padding: 0 1em; color: #222; }
 table { border-collapse: collapse; margin: 0.5em 0 1.5em; }
 th, td { padding: 0.2em 0.6em; border-bottom: 1px solid #ddd; text-align: right; }
 th:first-child, td:first-child { text-align: left; }
 tr.overall td { font-weight: bold; border-top: 2px solid #888; }
 figure { display: inline-block; width: 260px; margin: 0 0.6em 1em 0; vertical-align: top; }
 figcaption { font-size: 12px; } img { width: 260px; border-radius: 3px; }
 .true { color: #00a843; } .estimated { color: #ff2882; } .small { font-size: 13px; }
</style></head><body>
<h1>{{ title }}</h1>
{% for caption, rows in parts %}
<h2>{{ caption }}</h2>
<table><tr><th>object</th>{% for name in header %}<th>{{ name }}</th>{% endfor %}</tr>
{% for name, cells in rows %}<tr class="{{ name }}"><td>{{ name }}</td>
{% for text in cells %}<td>{{ text }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endfor %}
<h2>Time an image, ms</h2>
<table><tr><th>stage</th><th>p50</th><th>p95</th></tr>
{% for stage, v in latency.items() %}<tr><td>{{ stage }}</td>
<td>{{ '-' if v.p50 is none else '%.0f' % v.p50 }}</td>
<td>{{ '-' if v.p95 is none else '%.0f' % v.p95 }}</td></tr>
{% endfor %}</table>
{% if groups %}
<p>Outlines: <b class="true">truth</b>, <b class="estimated">estimate</b>.</p>{% endif %}
{% for group, pictures in groups.items() if pictures %}
<h2>{{ group }}</h2>
{% for data, name, caption in pictures %}<figure>
<img src="data:image/png;base64,{{ data }}" alt="{{ name }}: {{ caption }}">
<figcaption><b>{{ name }}</b><br>{{ caption }}</figcaption></figure>
{% endfor %}{% endfor %}
{% if lost %}<h2>Detections without a pose</h2>
<table class="small"><tr><th>image</th><th>object</th><th>reason</th></tr>
{% for image, object_id, reason in lost %}<tr><td>{{ image }}</td><td>{{ object_id }}</td>
<td>{{ reason }}</td></tr>{% endfor %}</table>{% endif %}
<h2>How it was made</h2>
<p class="small">{{ matching }}</p>
<table class="small">
{% for key, value in settings.items() %}<tr><td>{{ key }}</td><td>{{ value }}</td></tr>{% endfor %}
{% for key, value in facts.items() %}<tr><td>{{ key }}</td><td>{{ value }}</td></tr>{% endfor %}
<tr><td>machine</td><td>{{ machine }}</td></tr></table>
</body></html>
"""
