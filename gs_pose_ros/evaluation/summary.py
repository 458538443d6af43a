"""The figures of an evaluation, per object and overall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gs_pose_ros.evaluation.detection_error import average_precision, match_masks
from gs_pose_ros.evaluation.pose_error import error_auc
from gs_pose_ros.evaluation.scoring import (
    EstimatedPose,
    ImageResult,
    ImageScore,
    InstanceResult,
    true_masks,
)

STAGES = ('detect', 'initialize', 'refine', 'total')

Figures = dict[str, Any]  # key to number, or None where it cannot be known


def summarize(
    images: Sequence[ImageResult],
    scores: Sequence[ImageScore],
    object_ids: Sequence[str],
    min_visible: float = 0.1,
) -> dict[str, Figures]:
    """Figures of images with their scores, under 'overall' and each object's id.

    Instances visible by less than `min_visible` are ignored, as BOP does: missing them costs
    nothing, and finding them is no false positive. All other instances count; those without an
    estimate are wrong in every rate. Medians are over the instances with an estimate.
    """
    rows: list[InstanceResult] = []
    invented: list[EstimatedPose] = []
    for score in scores:
        rows += [r for r in score.instances if r.instance.visible_fraction >= min_visible]
        invented += score.invented
    detection = _detection_figures(images, sorted(object_ids), min_visible)
    out: dict[str, Figures] = {}
    for name in ('overall', *sorted(object_ids)):
        mine = [r for r in rows if name in ('overall', r.object_id)]
        false_poses = [p for p in invented if name in ('overall', p.object_id)]
        lost = [1 for i in images for o, _ in i.lost if name in ('overall', o)]
        out[name] = {
            'n_instances': len(mine),
            **detection[name],
            **_pose_figures(mine, initial_known=any(i.initial_poses is not None for i in images)),
            'false_poses_per_image': len(false_poses) / max(len(images), 1),
            'lost_per_image': len(lost) / max(len(images), 1),
        }
        seconds = [
            i.seconds if name == 'overall' else i.object_seconds.get(name, {}) for i in images
        ]
        out[name]['latency_ms'] = latency_figures(seconds)
    return out


def latency_figures(seconds: Sequence[Mapping[str, float]]) -> dict[str, Figures]:
    """p50 and p95 per stage in ms; for one object of the stages that work on single objects.

    The first image is left out if there are others: it pays for compiling and filling caches.
    """
    seconds = list(seconds[1:]) or list(seconds)
    out = {}
    for stage in STAGES:
        values = [1000 * s[stage] for s in seconds if stage in s]
        out[stage] = {
            'p50': float(np.percentile(values, 50)) if values else None,
            'p95': float(np.percentile(values, 95)) if values else None,
        }
    return out


def _pose_figures(rows: Sequence[InstanceResult], initial_known: bool) -> Figures:
    found = [r.final for r in rows if r.final is not None]
    initial = np.array([r.add_over_diameter(initial=True) for r in rows])
    final = np.array([r.add_over_diameter() for r in rows])
    adds = np.array([np.inf if r.final is None else r.final.adds_m for r in rows])
    pixels = np.array([np.inf if r.final is None else r.final.projection_px for r in rows])
    rotation = np.array([f.rotation_rad for f in found])
    return {
        'initial_adds_0.1d': _mean(initial < 0.1) if initial_known else None,
        'adds_0.1d': _mean(final < 0.1),
        'adds_0.05d': _mean(final < 0.05),
        'add_s_auc': error_auc(adds) if len(rows) else None,
        'proj_5px': _mean(pixels < 5),
        'median_rot_deg': float(np.degrees(np.median(rotation))) if found else None,
        'median_trans_mm': float(1000 * np.median([f.translation_m for f in found]))
        if found
        else None,
        'posed': _mean(np.array([r.final is not None for r in rows])),
    }


def _detection_figures(
    images: Sequence[ImageResult], object_ids: Sequence[str], min_visible: float
) -> dict[str, Figures]:
    true, detected = [], []
    hits: dict[str, list[bool]] = {name: [] for name in object_ids}
    false: dict[str, int] = dict.fromkeys(object_ids, 0)
    names = ('overall', *object_ids)
    for image in images:
        masks = true_masks(image.truth, min_visible)
        if image.detections is None or masks is None:
            keys = ('detection_recall_iou50', 'map_50_95_mask', 'map_50_95_box')
            unknown: Figures = dict.fromkeys((*keys, 'false_positives_per_image'))
            return {name: {**unknown} for name in names}
        matches = match_masks(image.detections, masks)
        for j, mask in enumerate(masks):
            if not mask.ignored:
                hits[mask.object_id].append(j in matches)
        for detection, j in zip(image.detections, matches, strict=True):
            false[detection.object_id] += j is None
        true += masks
        detected += image.detections
    mask_ap = average_precision(detected, true, 'mask')
    box_ap = average_precision(detected, true, 'box')
    n = max(len(images), 1)
    out: dict[str, Figures] = {
        name: {
            'detection_recall_iou50': _mean(np.array(hits[name])),
            'map_50_95_mask': _number(mask_ap.get(name)),
            'map_50_95_box': _number(box_ap.get(name)),
            'false_positives_per_image': false[name] / n,
        }
        for name in object_ids
    }
    out['overall'] = {
        'detection_recall_iou50': _mean(np.array([h for hs in hits.values() for h in hs])),
        'map_50_95_mask': _number(_nan_mean(mask_ap)),
        'map_50_95_box': _number(_nan_mean(box_ap)),
        'false_positives_per_image': sum(false.values()) / n,
    }
    return out


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _nan_mean(values: Mapping[str, float]) -> float | None:
    known = [v for v in values.values() if not np.isnan(v)]
    return float(np.mean(known)) if known else None


def _number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value
