"""What `gs-pose demo` shows of a run: a table of accuracy, one of latency, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from gs_pose_ros.evaluation.evaluation import Evaluation
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.visualization import OverlayObject, draw_overlay

if TYPE_CHECKING:
    from gs_pose_ros.clients.demo_client import ArrivalWatch
    from gs_pose_ros.clients.pose_collector import Estimate


def accuracy_table(evaluation: Evaluation) -> Table:
    """One row an object: how many of its appearances got a pose, and how good these are."""
    table = Table(title='poses through the nodes')
    for label in ('object', 'images', 'recall', 'ADD(S)-0.1d', 'rotation', 'translation'):
        table.add_column(label, justify='left' if label == 'object' else 'right')
    for name, row in {**evaluation.figures['objects'], 'all': evaluation.overall}.items():
        rotation, translation = row['median_rot_deg'], row['median_trans_mm']
        table.add_row(
            name,
            str(row['n_instances']),
            f'{row["posed"]:.1%}',
            f'{row["adds_0.1d"]:.1%}',
            '-' if rotation is None else f'{rotation:.2f} deg',
            '-' if translation is None else f'{translation:.2f} mm',
        )
    return table


def latency_table(seconds: Mapping[int, Mapping[str, float]], arrivals: ArrivalWatch) -> Table:
    """p50 and p95 of each stage's work on an image, and from image to pose over DDS."""
    values: dict[str, list[float]] = {
        stage: [times[stage] for times in seconds.values() if stage in times]
        for stage in ('detect', 'initialize')
    }
    values |= arrivals.work()
    values['image to pose'] = list(arrivals.totals().values())
    table = Table(title='latency')
    for label in ('stage', 'images', 'p50', 'p95'):
        table.add_column(label, justify='left' if label == 'stage' else 'right')
    for stage, times in values.items():
        cells = [f'{1000 * np.percentile(times, q):.0f} ms' for q in (50, 95)] if times else '--'
        table.add_row(stage, str(len(times)), *cells)
    return table


def save_picture(
    path: Path,
    frames: Sequence[RGBDFrame],
    estimates: Sequence[Estimate],
    references: Mapping[str, ObjectReference],
) -> None:
    """Four frames of the bag at twice their size, with the poses that came for them."""
    tiles = []
    for k in np.linspace(0.1, 0.95, 4):
        frame = frames[int(k * (len(frames) - 1))]
        objects = [
            OverlayObject(f'{name} {score:.2f}', T_cam_obj, references[name])
            for stamp, name, T_cam_obj, score in estimates
            if stamp == frame.stamp_ns and name in references
        ]
        camera = frame.camera.scaled(2)
        color = cv2.resize(to_uint8(frame.color), (camera.width, camera.height))
        tiles.append(draw_overlay(color, camera, objects))
    grid = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), grid[:, :, ::-1])


def to_uint8(color: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture in [0, 1] as 0 to 255; both [H, W, 3]."""
    return np.rint(color * 255).astype(np.uint8)
