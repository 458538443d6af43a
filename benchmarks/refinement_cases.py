"""Instances of a BOP set to refine: masks and poses, and starts, light and occluders to order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.bop import BopImage, BopInstance, object_name, read_bop_split
from gs_pose_ros.datasets.bop_models import read_bop_models
from gs_pose_ros.estimate import Detection
from gs_pose_ros.evaluation.truth import EvaluatedObject
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.bop_views import read_bop_views
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.registration import register
from gs_pose_ros.optimization.levenberg_marquardt import move_about
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval

Pose = NDArray[np.float64]  # [4, 4] T_cam_obj


@dataclass(frozen=True)
class Case:
    """One visible instance."""

    frame: RGBDFrame
    reference: ObjectReference
    truth: EvaluatedObject
    T_cam_obj: Pose
    mask: NDArray[np.bool_]
    visible: float

    def start(self, angle_deg: float, share: float, rng: np.random.Generator) -> Pose:
        """The true pose turned about the object's centre, and shifted, in random directions."""
        axis, direction = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        center = self.reference.center_in(self.T_cam_obj)
        shift = share * np.linalg.norm(center) * direction
        xi = np.concatenate([shift, np.radians(angle_deg) * axis])
        return move_about(self.T_cam_obj, center, xi)

    def relit(self, rng: np.random.Generator) -> Case:
        """The same under other light: a gain for each channel, and another contrast."""
        gain, gamma = rng.uniform(0.6, 1.1, 3).astype(np.float32), rng.uniform(0.8, 1.4)
        color = np.clip(self.frame.color**gamma * gain, 0, 1).astype(np.float32)
        return replace(self, frame=replace(self.frame, color=color))

    def occluded(self, share: float, rng: np.random.Generator) -> Case:
        """The same with a board in front that hides so much of what is visible.

        The board shows another part of the picture, has a straight edge in a random direction and
        stands a diameter before it.
        """
        rows, columns = np.nonzero(self.mask)
        angle = rng.uniform(0, 2 * np.pi)
        edge = np.cos(angle) * columns + np.sin(angle) * rows
        y, x = np.indices(self.mask.shape)
        reach = 0.7 * max(np.ptp(rows), np.ptp(columns)) + 4
        near = np.hypot(x - columns.mean(), y - rows.mean()) < reach
        board = near & (np.cos(angle) * x + np.sin(angle) * y > np.quantile(edge, 1 - share))
        color = self.frame.color.copy()
        color[board] = np.roll(color, color.shape[1] // 2, axis=1)[board]
        depth = None
        if self.frame.depth is not None:
            depth = self.frame.depth.copy()
            distance = self.reference.center_in(self.T_cam_obj)[2]
            depth[board] = distance - self.reference.diameter_m
        frame = replace(self.frame, color=color, depth=depth)
        hidden = float((self.mask & board).sum() / self.mask.sum())
        return replace(
            self, frame=frame, mask=self.mask & ~board, visible=self.visible * (1 - hidden)
        )


Start = tuple[Case, list[Pose]]  # a case, and the hypotheses that a refiner gets, best first
Change = Callable[[Case, np.random.Generator], Case]
CHANGES: dict[str, Change] = {
    'relit': Case.relit,
    'hidden 25%': lambda case, rng: case.occluded(0.25, rng),
    'hidden 50%': lambda case, rng: case.occluded(0.5, rng),
}


def draw_starts(
    cases: Sequence[Case],
    starts: Sequence[tuple[float, float]],
    changed: Sequence[tuple[float, float]] = (),
    changes: Mapping[str, Change] = CHANGES,
) -> dict[str, list[Start]]:
    """For each kind of start one of every case, in their order.

    `starts` are pairs of degrees and shares of the distance; those of `changed` are given once
    more for every change of the picture. The same arguments draw the same starts.
    """
    rng = np.random.default_rng(0)
    kinds = {_kind(*s): [(case, [case.start(*s, rng)]) for case in cases] for s in starts}
    for near in (_kind(*s) for s in changed):
        for name, change in changes.items():
            kinds[f'{near}, {name}'] = [(change(case, rng), poses) for case, poses in kinds[near]]
    return kinds


def _kind(angle_deg: float, share: float) -> str:
    return f'{angle_deg} deg, {share:.0%}'


def read_cases(
    root: Path,
    split: str,
    db: Path,
    count: int,
    min_visible: float,
    refs_split: str = 'train',
) -> list[Case]:
    """`count` instances, evenly spread over those visible enough; 0 is all.

    Objects that the database misses are registered from `refs_split`.
    """
    chosen = [
        (image, instance)
        for image in read_bop_split(root, split)
        for instance in image.instances
        if instance.visible_fraction >= min_visible
    ]
    places = np.linspace(0, len(chosen) - 1, count or len(chosen)).round().astype(int)
    return _cases(root, db, [chosen[i] for i in np.unique(places)], refs_split)


def read_sequence(root: Path, split: str, scene: int, db: Path) -> list[Case]:
    """The first instance in every image of a scene, in order."""
    images = [image for image in read_bop_split(root, split) if image.scene_id == scene]
    return _cases(root, db, [(image, image.instances[0]) for image in images], 'train')


def _cases(
    root: Path, db: Path, chosen: Sequence[tuple[BopImage, BopInstance]], refs_split: str
) -> list[Case]:
    numbers = sorted({instance.object_id for _, instance in chosen})
    models = read_bop_models(root, numbers)
    references = _references(root / refs_split, db, numbers)
    cases = []
    for image, instance in chosen:
        mask = instance.visible_mask()
        assert mask is not None
        cases.append(
            Case(
                image.read_frame(),
                references[instance.object_id],
                EvaluatedObject.from_model(models[instance.object_id]),
                instance.T_cam_obj,
                mask,
                instance.visible_fraction,
            )
        )
    return cases


def _references(views: Path, db: Path, numbers: Sequence[int]) -> dict[int, ObjectReference]:
    db.mkdir(parents=True, exist_ok=True)
    database = ObjectDatabase(db)
    for number in numbers:
        if object_name(number) not in database.object_ids():
            database.save(register(object_name(number), read_bop_views(views, number)))
    return {number: database.load(object_name(number)) for number in numbers}


def retrieved(case: Case) -> list[Pose]:
    """What retrieval guesses from the true mask, best first."""
    detection = Detection.from_full_mask(case.reference.object_id, 1.0, case.mask)
    guesses = TemplateRetrieval().initialize(case.frame, case.reference, detection)
    return [guess.T_cam_obj for guess in guesses]
