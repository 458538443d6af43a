"""Pairing of poses with instances, and the figures made of the pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from gs_pose_ros.evaluation.detection_error import DetectedMask, encode_mask
from gs_pose_ros.evaluation.evaluation import Evaluation, evaluate_poses
from gs_pose_ros.evaluation.report import write_report
from gs_pose_ros.evaluation.scoring import (
    EstimatedPose,
    ImageResult,
    match_poses,
    score_image,
)
from gs_pose_ros.evaluation.summary import latency_figures
from gs_pose_ros.evaluation.truth import EvaluatedObject, TrueImage, TrueInstance
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

CAMERA = Camera(500, 500, 319.5, 239.5, 640, 480)
RNG = np.random.default_rng(0)
CLOUD = RNG.uniform(-0.05, 0.05, size=(800, 3))
HALF_TURN = se3.exp([[0, 0, 0, 0, 0, np.pi]])
OBJECTS = {
    'cup': EvaluatedObject('cup', CLOUD, 0.15, np.zeros((0, 4, 4))),
    'can': EvaluatedObject('can', np.concatenate([CLOUD, CLOUD * [-1, -1, 1]]), 0.15, HALF_TURN),
}


def at(x: float) -> np.ndarray:
    return se3.exp([x, 0, 1.0, 0, 0, 0])


def pose(x: float, score: float, name: str = 'cup') -> EstimatedPose:
    return EstimatedPose(name, at(x), score)


def square(x: float) -> np.ndarray:
    mask = np.zeros(CAMERA.shape, bool)
    u = round(500 * x + 320)
    mask[215:265, max(u - 25, 0) : u + 25] = True
    return mask


def instance(x: float, name: str = 'cup', visible: float = 1.0, mask: bool = True) -> TrueInstance:
    return TrueInstance(name, at(x), visible, encode_mask(square(x)) if mask else None)


def image(*instances: TrueInstance, name: str = '0', stamp: int | None = None) -> TrueImage:
    return TrueImage(name, CAMERA, instances, stamp)


def detection(x: float, score: float, name: str = 'cup', where: str = '0') -> DetectedMask:
    return DetectedMask(where, name, encode_mask(square(x)), score)


def test_poses_take_the_nearest_free_instance_best_score_first() -> None:
    truth = [instance(0.0), instance(0.3)]
    assert match_poses([pose(0.301, 0.9), pose(0.002, 0.5)], truth, OBJECTS) == [1, 0]
    assert match_poses([pose(0.001, 0.5), pose(0.002, 0.9)], truth, OBJECTS) == [None, 0]
    assert match_poses([pose(0.0, 0.9, 'can')], truth, OBJECTS) == [None]
    assert match_poses([], truth, OBJECTS) == []
    assert match_poses([pose(0.0, 0.9)], [], OBJECTS) == [None]


def test_a_good_pose_goes_before_a_surer_bad_one() -> None:
    # 10 cm off with the higher score: BOP gives the instance to the pose within the threshold.
    assert match_poses([pose(0.1, 0.9), pose(0.001, 0.2)], [instance(0.0)], OBJECTS) == [None, 0]
    # Without a good one it is measured as a bad pose of that instance ...
    assert match_poses([pose(0.1, 0.9)], [instance(0.0)], OBJECTS) == [0]
    # ... unless it lies elsewhere altogether.
    assert match_poses([pose(0.2, 0.9)], [instance(0.0)], OBJECTS) == [None]


def test_symmetric_objects_are_measured_by_adds() -> None:
    turned = at(0.0) @ HALF_TURN[0]
    for name, expected in (('can', 0.0), ('cup', None)):
        result = ImageResult(image(instance(0.0, name)), (EstimatedPose(name, turned, 1.0),))
        row = score_image(result, OBJECTS).instances[0]
        assert row.final is not None
        if expected is None:
            assert row.add_over_diameter() > 0.1
            assert row.final.rotation_rad == pytest.approx(np.pi)
        else:
            assert row.add_over_diameter() == pytest.approx(0, abs=1e-6)
            assert row.final.rotation_rad == pytest.approx(0, abs=1e-6)
            assert row.final.projection_px == pytest.approx(0, abs=1e-6)


@pytest.fixture
def evaluation() -> Evaluation:
    """Four cups in two images: exact, 3 cm off, missed, hidden; and one invention."""
    first = image(instance(-0.3), instance(0.0), instance(0.4, visible=0.05), name='0')
    second = image(instance(0.0, visible=0.2), name='1')
    images = [
        ImageResult(
            truth=first,
            poses=(pose(-0.3, 0.9), pose(0.03, 0.8), pose(0.4, 0.7)),
            initial_poses=(pose(-0.28, 0.9), pose(0.05, 0.8)),
            detections=(detection(-0.3, 0.9), detection(0.01, 0.8), detection(0.4, 0.7)),
            seconds={'detect': 9.0, 'initialize': 9.0, 'refine': 9.0, 'total': 27.0},
        ),
        ImageResult(
            truth=second,
            poses=(pose(-0.4, 0.3),),
            initial_poses=(),
            detections=(detection(-0.4, 0.3, where='1'),),
            lost=(('cup', 'too few pixels'),),
            seconds={'detect': 0.1, 'initialize': 0.02, 'refine': 0.03, 'total': 0.15},
            object_seconds={'cup': {'initialize': 0.02, 'refine': 0.03}},
        ),
    ]
    picture = np.full((480, 640, 3), 127, np.uint8)
    return Evaluation('test', images, OBJECTS, {'a': 1}, read_color=lambda name: picture)


def test_the_figures_of_a_known_case(evaluation: Evaluation) -> None:
    overall = evaluation.overall
    assert overall['n_instances'] == 3
    assert overall['detection_recall_iou50'] == pytest.approx(2 / 3)
    assert overall['initial_adds_0.1d'] == 0  # 2 cm and 5 cm of 15 cm
    assert overall['adds_0.1d'] == pytest.approx(1 / 3)
    assert overall['posed'] == pytest.approx(2 / 3)
    assert overall['proj_5px'] == pytest.approx(1 / 3)
    assert overall['median_trans_mm'] == pytest.approx(15)  # of 0 and 30 mm
    assert overall['median_rot_deg'] == pytest.approx(0, abs=1e-6)
    # The hidden one is ignored whether found or not; the invention counts.
    assert overall['false_positives_per_image'] == pytest.approx(1 / 2)
    assert overall['false_poses_per_image'] == pytest.approx(1 / 2)
    assert overall['lost_per_image'] == pytest.approx(1 / 2)
    # ADD-S of 3 cm is below 3 cm, and the missed instance is infinitely far.
    assert 1 / 3 < overall['add_s_auc'] < 2 / 3
    assert overall['latency_ms']['total'] == {'p50': 150, 'p95': 150}  # without the first image
    assert evaluation.figures['objects']['cup']['latency_ms']['refine']['p50'] == 30
    assert evaluation.figures['objects']['can']['n_instances'] == 0
    assert evaluation.figures['objects']['can']['adds_0.1d'] is None
    strict = evaluation.figures['strict']
    assert strict['min_visible'] == 0.3
    assert strict['overall']['n_instances'] == 2
    assert strict['overall']['adds_0.1d'] == pytest.approx(1 / 2)


def test_files_and_table_are_written(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write_json(tmp_path / 'deep' / 'out.json')
    figures = json.loads((tmp_path / 'deep' / 'out.json').read_text())
    assert figures['overall']['n_instances'] == 3
    assert len(figures['instances']) == 4
    assert figures['python']
    page = write_report(evaluation, tmp_path / 'report').read_text()
    for text in ('Worst', 'Best', 'Invented', 'too few pixels', 'overall', '33.3%'):
        assert text in page
    assert page.count('data:image/png;base64,') == 2 * 3 + 0 + 1
    console = Console(width=150, record=True)
    evaluation.print_table(console)
    text = console.export_text()
    assert 'visible >= 30%' in text
    assert '33.3%' in text


def test_a_report_without_pictures_and_markup_in_names(evaluation: Evaluation, tmp_path) -> None:
    plain = replace(evaluation, read_color=None, title='<b>bold</b>')
    page = write_report(plain, tmp_path).read_text()
    assert 'base64' not in page
    assert '<b>bold' not in page


def test_no_images_is_not_an_error() -> None:
    figures = Evaluation('none', [], OBJECTS).figures
    assert figures['overall']['n_instances'] == 0
    assert figures['overall']['adds_0.1d'] is None
    json.dumps(figures, allow_nan=False)


def test_poses_of_nodes_are_joined_by_stamp() -> None:
    truth = [
        image(instance(0.0, mask=False), name='0', stamp=100),
        image(instance(0.1, mask=False), name='1', stamp=200),
        image(instance(0.2, mask=False), name='2', stamp=300),
    ]
    estimates = [
        (100, 'cup', at(0.001), 0.9),
        (300, 'cup', at(0.2), 0.8),
        (250, 'cup', at(0.2), 0.8),  # no such image
        (300, 'teapot', at(0.2), 0.8),  # no such object
    ]
    seconds = {s: {'refine': 0.01} for s in (100, 300)}
    result = evaluate_poses(estimates, truth, OBJECTS, seconds=seconds)
    assert result.overall['n_instances'] == 3
    assert result.overall['adds_0.1d'] == pytest.approx(2 / 3)
    assert result.overall['detection_recall_iou50'] is None
    assert result.overall['initial_adds_0.1d'] is None
    assert result.overall['latency_ms']['refine']['p50'] == pytest.approx(10)
    assert result.overall['latency_ms']['detect']['p50'] is None
    assert result.settings['estimates_without_truth'] == 2
    json.dumps(result.figures, allow_nan=False)


def test_latency_of_one_image_is_all_there_is() -> None:
    assert latency_figures([{'total': 0.5}])['total']['p50'] == 500
    assert latency_figures([])['total'] == {'p50': None, 'p95': None}
