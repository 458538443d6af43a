"""How well detected masks and boxes agree with the visible objects of an image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.extras import require_modules

Rle = Any  # run-length encoded mask, the dict that pycocotools makes


@dataclass(frozen=True)
class TrueMask:
    """The visible pixels of one instance."""

    image: str
    object_id: str
    rle: Rle
    ignored: bool = False  # too little is visible: finding it is neither right nor wrong


@dataclass(frozen=True)
class DetectedMask:
    """The pixels a detector says are an instance."""

    image: str
    object_id: str
    rle: Rle
    score: float


def encode_mask(mask: NDArray[np.bool_]) -> Rle:
    """Run-length encode a mask [H, W]."""
    return _coco_mask().encode(np.asfortranarray(mask, np.uint8))


def decode_mask(rle: Rle) -> NDArray[np.bool_]:
    """The mask [H, W] again."""
    return _coco_mask().decode(rle).astype(bool)


def mask_iou(detected: Sequence[Rle], true: Sequence[Rle]) -> NDArray[np.float64]:
    """Intersection over union [D, T] of masks."""
    if not detected or not true:
        return np.zeros((len(detected), len(true)))
    iou = _coco_mask().iou(list(detected), list(true), [0] * len(true))
    return np.asarray(iou, np.float64).reshape(len(detected), len(true))


def match_masks(
    detected: Sequence[DetectedMask], true: Sequence[TrueMask], min_iou: float = 0.5
) -> list[int | None]:
    """For each detection the index of its instance, or None; all of one image.

    Best score first, each takes the free instance of its object with the highest IoU of at least
    `min_iou` (the PASCAL VOC rule, Everingham et al. 2010). Ignored instances come second and
    may be taken by several.
    """
    iou = mask_iou([d.rle for d in detected], [t.rle for t in true])
    out: list[int | None] = [None] * len(detected)
    taken: set[int] = set()
    for i in sorted(range(len(detected)), key=lambda i: -detected[i].score):
        candidates = [
            j
            for j, t in enumerate(true)
            if t.object_id == detected[i].object_id and j not in taken and iou[i, j] >= min_iou
        ]
        if candidates:
            best = max(candidates, key=lambda j: (not true[j].ignored, iou[i, j]))
            out[i] = best
            if not true[best].ignored:
                taken.add(best)
    return out


def average_precision(
    detected: Sequence[DetectedMask],
    true: Sequence[TrueMask],
    kind: Literal['mask', 'box'],
) -> dict[str, float]:
    """COCO AP per object: mean precision over recall and IoU 0.50:0.05:0.95 (Lin et al. 2014).

    Detections of objects without any instance appear with NaN; nothing can be precise there.
    Boxes are those of the visible masks. Images are the union of those in both lists.
    """
    objects = sorted({t.object_id for t in true} | {d.object_id for d in detected})
    counted = {t.object_id for t in true if not t.ignored}
    if not detected or not counted:
        return {name: 0.0 if name in counted else float('nan') for name in objects}
    sizes = {x.image: x.rle['size'] for x in (*true, *detected)}
    images = {name: i for i, name in enumerate(sorted(sizes), 1)}
    category = {name: i for i, name in enumerate(objects, 1)}
    require_modules('pycocotools')
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco: Any = COCO()
    coco.dataset = {
        'info': {},
        'images': [
            {'id': i, 'height': sizes[name][0], 'width': sizes[name][1]}
            for name, i in images.items()
        ],
        'categories': [{'id': i, 'name': name} for name, i in category.items()],
        'annotations': [
            # COCO's own mark for what counts neither way is "crowd".
            {'id': i, 'iscrowd': int(t.ignored), **_entry(t, images, category)}
            for i, t in enumerate(true, 1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco.createIndex()
        results = coco.loadRes(
            [{'score': float(d.score), **_entry(d, images, category)} for d in detected]
        )
        evaluation: Any = COCOeval(coco, results, 'segm' if kind == 'mask' else 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
    # [IoU, recall, object, area range (all), detections an image (100)]; -1 where undefined.
    precision = evaluation.eval['precision'][:, :, :, 0, -1]
    out = {}
    for k, name in enumerate(objects):
        values = precision[:, :, k]
        values = values[values > -1]
        out[name] = float(values.mean()) if values.size else float('nan')
    return out


def _entry(
    item: TrueMask | DetectedMask, images: dict[str, int], category: dict[str, int]
) -> dict[str, Any]:
    coco_mask = _coco_mask()
    return {
        'image_id': images[item.image],
        'category_id': category[item.object_id],
        'segmentation': item.rle,
        'bbox': [float(x) for x in coco_mask.toBbox(item.rle)],
        'area': float(coco_mask.area(item.rle)),
    }


def _coco_mask() -> Any:
    require_modules('pycocotools')
    from pycocotools import mask

    return mask
