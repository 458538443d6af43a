"""Put the figures of benchmarks/results/*.json into the README, between its result marks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'benchmarks' / 'results'
START, END = '<!-- results -->', '<!-- /results -->'
# File: what it is.
ROWS = {
    'render_bop_rgbd.json': 'own detections, RGB-D',
    'render_bop_rgbd_gt_masks.json': 'true masks, RGB-D',
    'render_bop_rgbd_gt_masks_10.json': 'true masks, RGB-D',
    'render_bop_rgbd_gt_masks_paper.json': 'true masks, `paper` refiner (colour alone)',
    'render_bop_rgb_gt_masks.json': 'true masks, RGB only',
    'render_bop_rgb.json': 'own detections, RGB only',
}
COLUMNS = {
    'n_instances': 'instances',
    'detection_recall_iou50': 'recall',
    'initial_adds_0.1d': 'initial ADD(S)',
    'adds_0.1d': 'ADD(S)-0.1d',
    'median_rot_deg': 'rot °',
    'median_trans_mm': 'trans mm',
    'false_positives_per_image': 'FP/image',
    'psnr_heldout': 'PSNR dB',
}


def tables() -> str:
    """The overall figures of all runs there are, and those of each object of the first."""
    out = [_header('render_bop, visible ≥ 30 %'), _line(['---'] * (len(COLUMNS) + 1))]
    runs = {name: RESULTS / name for name in ROWS if (RESULTS / name).exists()}
    for name, path in runs.items():
        run = json.loads(path.read_text())
        images = f'{ROWS[name]}, {run["n_images"]} images'
        out.append(_row(images, run['strict']['overall']))
    first = json.loads((RESULTS / 'render_bop_rgbd.json').read_text())
    out += ['', _header('each object, own detections, RGB-D'), _line(['---'] * (len(COLUMNS) + 1))]
    out += [_row(name, figures) for name, figures in first['strict']['objects'].items()]
    return '\n'.join(out)


def _header(title: str) -> str:
    return _line([title, *COLUMNS.values()])


def _row(title: str, figures: dict) -> str:
    return _line([title, *(_text(key, figures.get(key)) for key in COLUMNS)])


def _line(cells: list[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _text(key: str, value: float | None) -> str:
    if value is None:
        return '-'
    if key == 'n_instances':
        return str(value)
    percent = 'adds' in key or 'recall' in key
    return f'{100 * value:.1f} %' if percent else f'{value:.2f}'


def main() -> None:
    """Rewrite the README, or with --check fail if it differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true')
    check = parser.parse_args().check
    path = ROOT / 'README.md'
    text = path.read_text()
    head, rest = text.split(START)
    new = f'{head}{START}\n{tables()}\n{END}{rest.split(END)[1]}'
    if check and new != text:
        raise SystemExit('README.md: the results are not those of benchmarks/results')
    path.write_text(new)


if __name__ == '__main__':
    main()
