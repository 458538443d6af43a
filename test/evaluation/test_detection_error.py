"""Matching of masks and COCO AP with answers known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.evaluation.detection_error import (
    DetectedMask,
    TrueMask,
    average_precision,
    decode_mask,
    encode_mask,
    mask_iou,
    match_masks,
)


def box_mask(x: int, y: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def true(x: int, *, name: str = 'a', image: str = '0', ignored: bool = False) -> TrueMask:
    return TrueMask(image, name, encode_mask(box_mask(x, 10, 20, 20)), ignored)


def found(x: int, score: float, *, name: str = 'a', image: str = '0') -> DetectedMask:
    return DetectedMask(image, name, encode_mask(box_mask(x, 10, 20, 20)), score)


def test_masks_survive_encoding() -> None:
    mask = np.random.default_rng(0).random((37, 53)) > 0.6
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)


def test_iou_of_shifted_squares() -> None:
    iou = mask_iou([found(5, 1).rle], [true(0).rle, true(5).rle, true(40).rle])
    np.testing.assert_allclose(iou, [[15 / 25, 1, 0]])
    assert mask_iou([], [true(0).rle]).shape == (0, 1)


def test_the_better_score_takes_the_instance() -> None:
    # Both overlap the only instance; the second fits better, but the first is surer.
    assert match_masks([found(4, 0.9), found(1, 0.5)], [true(0)]) == [0, None]
    # Two instances: each detection takes the one it fits best.
    assert match_masks([found(21, 0.9), found(1, 0.5)], [true(0), true(20)]) == [1, 0]


def test_other_objects_and_small_overlaps_do_not_match() -> None:
    assert match_masks([found(0, 1, name='b')], [true(0)]) == [None]
    assert match_masks([found(8, 1)], [true(0)]) == [None]  # IoU 12 / 28
    assert match_masks([found(8, 1)], [true(0)], min_iou=0.4) == [0]


def test_ignored_instances_excuse_detections() -> None:
    assert match_masks([found(0, 0.9), found(1, 0.8)], [true(0, ignored=True)]) == [0, 0]
    both = [true(2, ignored=True), true(0)]
    assert match_masks([found(1, 0.9)], both) == [1]  # a counted one goes first


@pytest.mark.parametrize('kind', ['mask', 'box'])
def test_perfect_and_absent_detections(kind) -> None:
    truth = [true(0), true(40), true(0, image='1')]
    perfect = [found(0, 0.9), found(40, 0.8), found(0, 0.7, image='1')]
    assert average_precision(perfect, truth, kind) == {'a': pytest.approx(1)}
    assert average_precision([], truth, kind) == {'a': 0}
    # One of three found without an error: recall 1/3 is reached at precision 1; COCO samples
    # 101 recalls, of which 34 lie at or below 1/3.
    assert average_precision(perfect[:1], truth, kind)['a'] == pytest.approx(34 / 101)


def test_overlap_counts_in_ten_steps() -> None:
    # IoU 0.6 is enough for the thresholds 0.50 and 0.55, and on the edge of 0.60.
    value = average_precision([found(5, 0.9)], [true(0)], 'mask')['a']
    assert value == pytest.approx(0.3)


def test_a_surer_false_detection_halves_the_precision() -> None:
    truth = [true(0)]
    assert average_precision([found(0, 0.5), found(50, 0.9)], truth, 'mask')['a'] == pytest.approx(
        0.5
    )
    assert average_precision([found(0, 0.9), found(50, 0.5)], truth, 'mask')['a'] == pytest.approx(
        1
    )
    elsewhere = [found(0, 0.5), found(0, 0.9, image='empty')]
    assert average_precision(elsewhere, truth, 'mask')['a'] == pytest.approx(0.5)


def test_ignored_instances_count_neither_way() -> None:
    truth = [true(0), true(40, ignored=True)]
    assert average_precision([found(0, 0.9)], truth, 'mask')['a'] == pytest.approx(1)
    both = [found(0, 0.5), found(40, 0.9)]
    assert average_precision(both, truth, 'mask')['a'] == pytest.approx(1)


def test_each_object_has_its_own_precision() -> None:
    out = average_precision(
        [found(0, 0.9), found(40, 0.9, name='c')], [true(0), true(40, name='b')], 'mask'
    )
    assert out['a'] == pytest.approx(1)
    assert out['b'] == 0
    assert np.isnan(out['c'])
