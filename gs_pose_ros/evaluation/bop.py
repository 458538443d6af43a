"""Evaluate detection, initial pose and refinement on a data set in the BOP layout."""

from __future__ import annotations

import csv
import functools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, track

from gs_pose_ros.bounds import CountOrNone, Share
from gs_pose_ros.command_options import (
    check_numbers,
    existing_folder,
    file_to_write,
    folder_to_write,
)
from gs_pose_ros.datasets.bop import BopImage, object_name, read_bop_split
from gs_pose_ros.datasets.bop_models import BopModel, read_bop_models
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection
from gs_pose_ros.evaluation.detection_error import DetectedMask, decode_mask, encode_mask
from gs_pose_ros.evaluation.evaluation import Evaluation, wide_console
from gs_pose_ros.evaluation.report import write_report
from gs_pose_ros.evaluation.scoring import EstimatedPose, ImageResult
from gs_pose_ros.evaluation.summary import Figures
from gs_pose_ros.evaluation.truth import EvaluatedObject, TrueImage, read_true_image
from gs_pose_ros.extras import POSE_EVALUATION, require_modules
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.bop_views import read_bop_views
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.sources import RegistrationView, thinned
from gs_pose_ros.pose.estimator import PoseEstimator, RefinerName

Register = Callable[[str, Sequence[RegistrationView]], ObjectReference]


@dataclass(frozen=True)
class BopEvaluation:
    """Register what is not in the database yet, then find every object in every test image.

    Splits are folders under ROOT; an inclusive range of image numbers may follow a colon, and '.'
    is ROOT itself where it is one scene: '.:0-29'. Objects are named obj_000001 and so on.
    """

    root: Path
    """Folder of the data set, with models/ in it."""
    json: Path
    """Where the figures go; the BOP result csv is written beside it."""
    report: Path | None = None
    """Folder for the HTML report."""
    refs_split: str = 'train'
    """Split the objects are registered from."""
    split: str = 'test'
    """Split they are to be found in."""
    objects: str = ''
    """BOP ids, separated by commas; all objects of the test split if empty."""
    depth: bool = True
    """Use the depth images, for registration as well; with --no-depth nothing sees depth."""
    gt_masks: bool = False
    """Take the true visible masks in place of the detector."""
    method: RefinerName = 'lm'
    """Refiner: ours, Algorithm 1 of GS-Pose, or that of GS2Pose."""
    images: CountOrNone = 0
    """Use only that many test images, evenly spread; 0 is all."""
    db: Path | None = None
    """Object database to take objects from and keep new ones in; a temporary one if not given."""
    min_visibility: Share = 0.3
    """All figures are given for instances visible by 10 %, and by this fraction."""
    refs_views: CountOrNone = 0
    """Register from only that many views, evenly spread; 0 is all."""

    def run(
        self,
        estimator: PoseEstimator | None = None,
        register: Register | None = None,
        console: Console | None = None,
    ) -> Evaluation:
        """Evaluate, write all files, and print the table.

        Raises:
            GsPoseError: the set, an object or a picture cannot be read, or a registration failed.

        """
        require_modules(*POSE_EVALUATION)
        return self._checked()._evaluated(estimator, register, console or wide_console())

    def _evaluated(
        self, estimator: PoseEstimator | None, register: Register | None, console: Console
    ) -> Evaluation:
        test = thinned(read_bop_split(self.root, self.split), self.images)
        models = read_bop_models(self.root, self._object_ids(test))
        names = {i: object_name(i) for i in models}
        targets = {names[i]: EvaluatedObject.from_model(m) for i, m in models.items()}
        with self._database() as database:
            references = self._references(
                database, models, register or functools.partial(self._register, console), console
            )
        estimator = estimator or PoseEstimator.with_refiner(self.method)
        results = [
            self._evaluate_image(image, names, references, estimator)
            for image in track(test, description='test images', console=console)
        ]
        by_name = {image.name: image for image in test}
        evaluation = Evaluation(
            title=f'{self.root.resolve().name} {self.split}, {self._variant()}',
            images=results,
            objects=targets,
            settings=self._settings(),
            registration={n: registration_figures(r) for n, r in references.items()},
            min_visible_strict=self.min_visibility,
            read_color=lambda name: by_name[name].read_color(),
        )
        evaluation.write_json(self.json)
        csv_path = self.json.parent / self._csv_name()
        write_bop_csv(csv_path, list(zip(test, results, strict=True)))
        evaluation.print_table(console)
        if self.report is not None:
            console.print(f'report: {write_report(evaluation, self.report)}')
        return evaluation

    def _checked(self) -> BopEvaluation:
        """The same with all paths expanded, after all options were checked."""
        check_numbers(self)
        self._object_ids(())
        return replace(
            self,
            root=existing_folder(self.root, '--root'),
            json=file_to_write(self.json, '--json'),
            report=None if self.report is None else folder_to_write(self.report, '--report'),
            db=None if self.db is None else folder_to_write(self.db, '--db'),
        )

    def _object_ids(self, images: Sequence[BopImage]) -> list[int]:
        if self.objects:
            try:
                return sorted({_object_id(text) for text in self.objects.split(',')})
            except ValueError:
                raise GsPoseError(f'--objects {self.objects}: numbers and commas only') from None
        return sorted({i.object_id for image in images for i in image.instances})

    @contextmanager
    def _database(self) -> Iterator[ObjectDatabase]:
        if self.db is not None:
            yield ObjectDatabase(self.db)
            return
        with tempfile.TemporaryDirectory() as folder:
            yield ObjectDatabase(Path(folder))

    def _references(
        self,
        database: ObjectDatabase,
        models: Mapping[int, BopModel],
        register: Register,
        console: Console,
    ) -> dict[str, ObjectReference]:
        out = {}
        known = database.object_ids()
        unknown = [i for i in models if object_name(i) not in known]
        if unknown:  # before the first of them is registered, which takes minutes
            images = read_bop_split(self.root, self.refs_split)
            seen = {instance.object_id for image in images for instance in image.instances}
            if missing := [str(i) for i in unknown if i not in seen]:
                raise GsPoseError(
                    f'{self.root / self.refs_split}: no image shows object {", ".join(missing)}'
                )
        for object_id, model in models.items():
            name = object_name(object_id)
            if object_id in unknown:
                console.print(f'registering {name} ({model.name}) ...')
                views = read_bop_views(
                    self.root / self.refs_split,
                    object_id,
                    max_views=self.refs_views,
                    with_depth=self.depth,
                )
                start = time.perf_counter()
                reference = register(name, views)
                seconds = time.perf_counter() - start
                reference = replace(
                    reference,
                    symmetries=model.symmetries,
                    facts={**reference.facts, 'registration_s': seconds},
                )
                database.save(reference)
            out[name] = database.load(name)
        return out

    def _register(
        self, console: Console, name: str, views: Sequence[RegistrationView]
    ) -> ObjectReference:
        from gs_pose_ros.objects.registration import (
            RegistrationProgress,
            RegistrationSettings,
            register,
        )

        with Progress(console=console) as bar:
            task = bar.add_task(name, total=1.0)

            def show(progress: RegistrationProgress) -> None:
                text = f'{name} {progress.stage}: {progress.message}'
                bar.update(task, completed=progress.fraction, description=text)

            return register(name, views, RegistrationSettings(use_depth=self.depth), show)

    def _evaluate_image(
        self,
        image: BopImage,
        names: Mapping[int, str],
        references: Mapping[str, ObjectReference],
        estimator: PoseEstimator,
    ) -> ImageResult:
        frame = image.read_frame(with_depth=self.depth)
        truth = read_true_image(image, names, frame.camera)
        detect = functools.partial(true_detections, truth) if self.gt_masks else None
        return evaluate_frame(frame, truth, references, estimator, detect)

    def _settings(self) -> dict[str, str]:
        """Without the folders of the machine: results are published."""
        values = {k: v for k, v in asdict(self).items() if k not in ('json', 'report')}
        return {k: v.resolve().name if isinstance(v, Path) else str(v) for k, v in values.items()}

    def _variant(self) -> str:
        parts = (self.method, 'RGB-D' if self.depth else 'RGB', 'true masks' * self.gt_masks)
        return ', '.join(filter(None, parts))

    def _csv_name(self) -> str:
        """METHOD_DATASET-SPLIT.csv; bop_toolkit splits the name at '_' and '-'."""
        plain = ''.join(c for c in self.root.resolve().name if c.isalnum())
        split = ''.join(c for c in self.split if c.isalnum()) or 'test'
        method = f'gspose-{self.json.stem}'.replace('_', '-')
        return f'{method}_{plain}-{split}.csv'


def evaluate_frame(
    frame: RGBDFrame,
    truth: TrueImage,
    references: Mapping[str, ObjectReference],
    estimator: PoseEstimator,
    detect: Callable[[], list[Detection]] | None = None,
) -> ImageResult:
    """Estimate poses as the nodes do; `detect` takes the place of the detector."""
    start = time.perf_counter()
    if detect is None:
        detections = estimator.detector.detect(frame, list(references.values()))
    else:
        detections = detect()
    detect_s = time.perf_counter() - start
    by_object: dict[str, dict[str, float]] = {}
    masks, initial, poses, lost = [], [], [], []
    for e in estimator.estimate(frame, list(references.values()), detections):
        if e.detection is None:
            continue
        name, score = e.object_id, e.detection.score
        mask = e.detection.full_mask(frame.camera.shape)
        masks.append(DetectedMask(truth.name, name, encode_mask(mask), score))
        mine = by_object.setdefault(name, {'initialize': 0.0, 'refine': 0.0})
        mine['initialize'] += e.initialize_s
        mine['refine'] += e.refine_s
        initial += [EstimatedPose(name, h.T_cam_obj, score) for h in e.hypotheses[:1]]
        if e.found:
            poses.append(EstimatedPose(name, e.pose.T_cam_obj, e.pose.score))
        else:
            lost.append((name, e.pose.reason))
    seconds = {
        'detect': detect_s,
        'initialize': sum(s['initialize'] for s in by_object.values()),
        'refine': sum(s['refine'] for s in by_object.values()),
    }
    seconds['total'] = sum(seconds.values())
    return ImageResult(
        truth=truth,
        poses=tuple(poses),
        initial_poses=tuple(initial),
        detections=tuple(masks),
        lost=tuple(lost),
        seconds=seconds,
        object_seconds=by_object,
    )


def true_detections(truth: TrueImage, min_visible: float = 0.1) -> list[Detection]:
    """The visible masks of an image as detections of score 1, ignored instances left out.

    Raises:
        GsPoseError: the set has no masks.

    """
    out = []
    for instance in truth.instances:
        if instance.visible_fraction < min_visible:
            continue
        if instance.rle is None:
            raise GsPoseError(f'image {truth.name}: {instance.object_id} has no true mask')
        mask = decode_mask(instance.rle)
        if mask.any():
            out.append(Detection.from_full_mask(instance.object_id, 1.0, mask))
    return out


def _object_id(text: str) -> int:
    if not text.strip().isascii() or not text.strip().isdecimal():
        raise ValueError(text)
    return int(text)


def registration_figures(reference: ObjectReference) -> Figures:
    """What the registration said about itself; None for what it did not."""

    def number(key: str) -> float | None:
        value = reference.facts.get(key)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

    return {
        'registration_s': number('registration_s'),
        'psnr_heldout': number('psnr_heldout_db'),
        'registration_views': number('views'),
        'n_gaussians': len(reference.gaussians),
        'diameter_m': reference.diameter_m,
    }


def write_bop_csv(path: Path, results: Sequence[tuple[BopImage, ImageResult]]) -> None:
    """Poses in the format of the BOP challenge (bop_toolkit, inout.py, save_bop_results)."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def text(values: Any) -> str:
        return ' '.join(f'{v:.8g}' for v in np.ravel(values))

    with path.open('w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['scene_id', 'im_id', 'obj_id', 'score', 'R', 't', 'time'])
        for image, result in results:
            # The challenge wants the time of the whole image on each of its lines.
            seconds = f'{result.seconds.get("total", -1):.4f}'
            for pose in result.poses:
                R, t_mm = pose.T_cam_obj[:3, :3], 1000 * pose.T_cam_obj[:3, 3]
                number = int(pose.object_id.rpartition('_')[2])
                place = (image.scene_id, image.image_id, number, f'{pose.score:.6f}')
                writer.writerow([*place, text(R), text(t_mm), seconds])
