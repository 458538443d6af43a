"""A BOP evaluation on a small set written here, with stages whose errors are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh
import tyro
from numpy.typing import NDArray
from rich.console import Console

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.evaluation.bop import BopEvaluation
from gs_pose_ros.evaluation.truth import read_truth
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.sources import RegistrationView
from gs_pose_ros.pose.estimator import PoseEstimator
from test.fakes import make_reference

SHAPE = (120, 160)
K = np.array([[150.0, 0, 79.5], [0, 150.0, 59.5], [0, 0, 1]])
PLACES = {1: [-0.1, 0.0, 0.6], 2: [0.12, 0.0, 0.6]}  # m, in every test image
QUIET = Console(quiet=True)


def square(object_id: int) -> NDArray[np.bool_]:
    u, v, _ = K @ PLACES[object_id] / PLACES[object_id][2]
    mask = np.zeros(SHAPE, bool)
    mask[round(v) - 8 : round(v) + 8, round(u) - 8 : round(u) + 8] = True
    return mask


def T_cam_obj(object_id: int) -> NDArray[np.float64]:
    return se3.exp([*PLACES[object_id], 0, 0, 0])


def write_set(root: Path, with_pictures: bool = True) -> None:
    """Two cubes of 6 cm; in image 2 the second one is hidden to 95 %."""
    (root / 'models').mkdir(parents=True)
    info = {}
    for i in PLACES:
        trimesh.creation.box(extents=[60, 60, 60]).export(root / 'models' / f'obj_{i:06d}.ply')
        low = {f'min_{a}': -30 for a in 'xyz'} | {f'size_{a}': 60 for a in 'xyz'}
        info[str(i)] = {'diameter': 103.923, 'name': f'cube {i}', **low}
    (root / 'models' / 'models_info.json').write_text(json.dumps(info))
    for scene in (root / 'train' / '000001', root / 'test' / '000004'):
        cameras, truths, infos = {}, {}, {}
        for kind in ('rgb', 'mask_visib'):
            (scene / kind).mkdir(parents=True)
        for k in range(3):
            name = f'{k:06d}'
            if with_pictures:
                cv2.imwrite(str(scene / 'rgb' / f'{name}.png'), np.full((*SHAPE, 3), 90, np.uint8))
            cameras[str(k)] = {'cam_K': K.ravel().tolist()}
            truths[str(k)], infos[str(k)] = [], []
            for j, i in enumerate(PLACES):
                mask = square(i).astype(np.uint8) * 255
                cv2.imwrite(str(scene / 'mask_visib' / f'{name}_{j:06d}.png'), mask)
                T = T_cam_obj(i)
                t_mm = (1000 * T[:3, 3]).tolist()
                R = T[:3, :3].ravel().tolist()
                truths[str(k)].append({'obj_id': i, 'cam_R_m2c': R, 'cam_t_m2c': t_mm})
                infos[str(k)].append({'visib_fract': 0.05 if (k, i) == (2, 2) else 1.0})
        for kind, content in (('camera', cameras), ('gt', truths), ('gt_info', infos)):
            (scene / f'scene_{kind}.json').write_text(json.dumps(content))


def registered(object_id: str, views: Sequence[RegistrationView]) -> ObjectReference:
    """Stands in for the minutes of a registration."""
    return replace(make_reference(object_id), facts={'psnr_heldout_db': 27.5, 'views': len(views)})


@dataclass
class FakeDetector:
    """Finds both cubes, the second one only in the first image it is shown."""

    calls: int = 0

    def detect(
        self, frame: RGBDFrame, references: Sequence[ObjectReference], effort: float = 1.0
    ) -> list[Detection]:
        self.calls += 1
        found = [Detection.from_full_mask('obj_000001', 0.9, square(1))]
        if self.calls == 1 and len(references) > 1:
            found.append(Detection.from_full_mask('obj_000002', 0.8, square(2)))
        return found


@dataclass
class FakeInitializer:
    """2 cm off; nothing for objects in `silent`."""

    silent: tuple[str, ...] = ()

    def initialize(
        self, frame: RGBDFrame, reference: ObjectReference, detection: Detection
    ) -> list[PoseEstimate]:
        if detection.object_id in self.silent:
            return []
        off = se3.exp([0.02, 0, 0, 0, 0, 0])
        T = off @ T_cam_obj(int(detection.object_id[-1]))
        return [PoseEstimate(T, 0.5, Status.INITIAL)]


@dataclass
class FakeRefiner:
    """Exact but for 2 mm; gives up on objects in `lost`."""

    lost: tuple[str, ...] = ()

    def refine(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        hypotheses: Sequence[NDArray[np.float64]],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        assert mask is not None
        assert mask.shape == frame.camera.shape
        if reference.object_id in self.lost:
            return PoseEstimate(hypotheses[0], 0.0, Status.LOST, 'gave up')
        T = se3.exp([-0.02, 0.002, 0, 0, 0, 0]) @ hypotheses[0]
        return PoseEstimate(T, 0.7, Status.CONVERGED)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_set(tmp_path / 'cubes_2')
    return tmp_path / 'cubes_2'


def stages(**kwargs) -> PoseEstimator:
    refiner = FakeRefiner(kwargs.pop('lost', ()))
    return PoseEstimator(FakeDetector(), FakeInitializer(**kwargs), refiner)


def test_a_run_counts_what_it_should(root: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out' / 'lm_rgb.json'
    run = BopEvaluation(root, out, report=tmp_path / 'report', db=tmp_path / 'db')
    run.run(stages(), registered, QUIET)
    figures = json.loads(out.read_text())
    overall = figures['overall']
    assert overall['n_instances'] == 5  # the hidden one is ignored
    assert overall['detection_recall_iou50'] == pytest.approx(4 / 5)
    assert overall['initial_adds_0.1d'] == 0
    assert overall['adds_0.1d'] == pytest.approx(4 / 5)
    assert overall['median_trans_mm'] == pytest.approx(2)
    assert overall['psnr_heldout'] == 27.5
    assert overall['false_positives_per_image'] == 0
    assert figures['objects']['obj_000001']['adds_0.1d'] == 1
    assert figures['objects']['obj_000002']['adds_0.1d'] == pytest.approx(1 / 2)
    assert figures['objects']['obj_000001']['registration_views'] == 3
    assert figures['overall']['latency_ms']['total']['p50'] > 0
    assert 'base64' in (tmp_path / 'report' / 'index.html').read_text()
    assert str(tmp_path) not in out.read_text()
    # In the format of the challenge: millimetres, the name METHOD_DATASET-SPLIT.
    path = tmp_path / 'out' / 'gspose-lm-rgb_cubes2-test.csv'
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 4
    assert (rows[0]['scene_id'], rows[0]['im_id'], rows[0]['obj_id']) == ('4', '0', '1')
    np.testing.assert_allclose([float(v) for v in rows[0]['t'].split()], [-100, 2, 600])
    np.testing.assert_allclose([float(v) for v in rows[0]['R'].split()], np.eye(3).ravel())
    assert float(rows[0]['time']) >= 0


def test_registered_objects_are_taken_from_the_database(root: Path, tmp_path: Path) -> None:
    run = BopEvaluation(root, tmp_path / 'a.json', db=tmp_path / 'db')
    run.run(stages(), registered, QUIET)
    assert ObjectDatabase(tmp_path / 'db').object_ids() == ['obj_000001', 'obj_000002']

    def refuse(object_id: str, views: Sequence[RegistrationView]) -> ObjectReference:
        raise AssertionError('registered already')

    run.run(stages(), refuse, QUIET)


def test_lost_and_missing_poses_are_misses_with_a_reason(root: Path, tmp_path: Path) -> None:
    run = BopEvaluation(root, tmp_path / 'a.json', tmp_path / 'r', gt_masks=True)
    result = run.run(stages(silent=('obj_000001',), lost=('obj_000002',)), registered, QUIET)
    assert result.overall['adds_0.1d'] == 0
    assert result.overall['detection_recall_iou50'] == 1  # the true masks
    assert result.overall['lost_per_image'] == pytest.approx(5 / 3)
    assert result.images[0].lost == (('obj_000001', 'no initial pose'), ('obj_000002', 'gave up'))
    page = (tmp_path / 'r' / 'index.html').read_text()
    assert 'gave up' in page
    assert 'Missed' in page


def test_a_part_of_the_set(root: Path, tmp_path: Path) -> None:
    run = BopEvaluation(root, tmp_path / 'a.json', objects='1', images=2, split='test:0-1')
    result = run.run(stages(), registered, QUIET)
    assert list(result.objects) == ['obj_000001']
    assert len(result.images) == 2
    with pytest.raises(GsPoseError, match='numbers and commas'):
        BopEvaluation(root, tmp_path / 'a.json', objects='cup').run(stages(), registered, QUIET)
    with pytest.raises(GsPoseError, match='no object 7'):
        BopEvaluation(root, tmp_path / 'a.json', objects='7').run(stages(), registered, QUIET)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'root': Path('nowhere')}, '--root .*nowhere: is not there'),
        ({'json': Path('folder')}, '--json .*folder: is a folder, a file is needed'),
        ({'json': Path('file/a.json')}, '--json .*file is a file, not a folder'),
        ({'report': Path('file')}, '--report .*file: is a file, a folder is needed'),
        ({'db': Path('file')}, '--db .*file: is a file, a folder is needed'),
        ({'db': Path('~nosuchuser/db')}, '--db ~nosuchuser'),
        ({'images': -1}, '--images is -1'),
        ({'refs_views': -1}, '--refs-views is -1'),
        ({'min_visibility': 30.0}, '--min-visibility is 30'),
        ({'min_visibility': float('nan')}, '--min-visibility is nan'),
        ({'objects': '1,,2'}, 'numbers and commas'),
        ({'objects': '-1'}, 'numbers and commas'),
        ({'refs_split': 'nowhere'}, 'nowhere: there is no such folder'),
        ({'refs_split': 'train:0-0', 'objects': '1,2'}, 'no image shows object 2'),
    ],
)
def test_options_are_checked_before_anything_is_registered(
    root: Path,
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').write_text('')
    path = root / 'train' / '000001' / 'scene_gt.json'
    kept = path.read_text()
    truth = json.loads(kept)
    if 'objects' in change:
        # Image 0 shows the first object alone.
        path.write_text(json.dumps({**truth, '0': truth['0'][:1]}))
        info_path = path.with_name('scene_gt_info.json')
        kept_info = info_path.read_text()
        info = json.loads(kept_info)
        info_path.write_text(json.dumps({**info, '0': info['0'][:1]}))

    def never(name: str, views: Sequence[RegistrationView]) -> ObjectReference:
        raise AssertionError(name)

    run = replace(BopEvaluation(root, tmp_path / 'a.json'), **change)
    try:
        with pytest.raises(GsPoseError, match=message):
            run.run(stages(), never, QUIET)
    finally:
        if 'objects' in change:
            path.write_text(kept)
            info_path.write_text(kept_info)


def test_the_command_line_says_what_the_issue_says(tmp_path: Path) -> None:
    line = '--root r --refs-split train --split test --objects 1,2 --no-depth --gt-masks'
    line += ' --method paper --images 5 --db d --json o.json --report p'
    run = tyro.cli(BopEvaluation, args=line.split())
    assert run == BopEvaluation(
        root=Path('r'),
        json=Path('o.json'),
        report=Path('p'),
        objects='1,2',
        depth=False,
        gt_masks=True,
        method='paper',
        images=5,
        db=Path('d'),
    )


def test_the_truth_of_a_recording_needs_no_pictures(tmp_path: Path) -> None:
    write_set(tmp_path / 'gt', with_pictures=False)
    names = {1: 'left', 2: 'right'}
    truth, objects = read_truth(tmp_path / 'gt', 'test', names, stamps=[10, 20, 30])
    assert [t.stamp_ns for t in truth] == [10, 20, 30]
    assert sorted(objects) == ['left', 'right']
    assert truth[0].camera == Camera.from_matrix(K, 160, 120)
    assert truth[0].instances[1].object_id == 'right'
    with pytest.raises(GsPoseError, match='stamp_ns'):
        read_truth(tmp_path / 'gt', 'test', names, stamps=[10, 20])
    path = tmp_path / 'gt' / 'test' / '000004' / 'scene_camera.json'
    cameras = json.loads(path.read_text())
    for k, camera in cameras.items():
        camera['stamp_ns'] = 1000 + int(k)
    path.write_text(json.dumps(cameras))
    assert read_truth(tmp_path / 'gt', 'test')[0][2].stamp_ns == 1002
