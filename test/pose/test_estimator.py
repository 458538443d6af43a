"""The stages chained: what is found has a pose, what is not has a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.estimator import PoseEstimator, RefinerName, Refiners
from gs_pose_ros.pose.refinement.gs2pose import GS2PoseRefiner
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from gs_pose_ros.pose.refinement.lm import LMRefiner
from test.fakes import START, make_reference
from test.synthetic import bar, make_scene, pose_error, standing

MUG, CUP = make_reference('mug'), make_reference('cup')
FRAME = make_scene([(bar(), standing())]).frame


def seen(object_id: str, rows: int) -> Detection:
    mask = np.zeros(FRAME.camera.shape, bool)
    mask[:rows] = True
    return Detection.from_full_mask(object_id, 1 / rows, mask)


@dataclass
class Stages:
    """Fakes that note what they were given."""

    detections: Sequence[Detection] = ()
    hypotheses: int = 2

    def __post_init__(self) -> None:
        self.detected = 0
        self.refined: list[tuple[str, int, int]] = []  # object, hypotheses, pixels of the mask

    def detect(
        self, frame: RGBDFrame, references: Sequence[ObjectReference], effort: float = 1.0
    ) -> list[Detection]:
        self.detected += 1
        return list(self.detections)

    def initialize(
        self, frame: RGBDFrame, reference: ObjectReference, detection: Detection
    ) -> list[PoseEstimate]:
        return [PoseEstimate(START, 0.5, Status.INITIAL)] * self.hypotheses

    def refine(
        self,
        frame: RGBDFrame,
        reference: ObjectReference,
        hypotheses: Sequence[NDArray[np.float64]],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        pixels = 0 if mask is None else np.count_nonzero(mask)
        self.refined.append((reference.object_id, len(hypotheses), pixels))
        return PoseEstimate(hypotheses[0], 0.9, Status.CONVERGED)

    def estimator(self) -> PoseEstimator:
        return PoseEstimator(self, self, self)


def test_every_instance_is_refined_with_its_own_mask_and_counted() -> None:
    stages = Stages([seen('cup', 1), seen('mug', 2), seen('cup', 3)])
    found = stages.estimator().estimate(FRAME, [MUG, CUP])
    assert [(f.object_id, f.instance) for f in found] == [('mug', 0), ('cup', 0), ('cup', 1)]
    width = FRAME.camera.width
    assert stages.refined == [('mug', 2, 2 * width), ('cup', 2, width), ('cup', 2, 3 * width)]
    assert all(f.found and len(f.hypotheses) == 2 for f in found)
    mask = found[2].mask(FRAME.camera.shape)
    assert mask is not None
    assert np.count_nonzero(mask) == 3 * width


def test_an_object_that_is_not_found_says_so() -> None:
    mug, cup = Stages([seen('cup', 1)]).estimator().estimate(FRAME, [MUG, CUP])
    assert not mug.found
    assert mug.pose.status is Status.LOST
    assert 'mug' in mug.pose.reason
    assert mug.mask(FRAME.camera.shape) is None
    assert cup.found


def test_without_an_initial_pose_nothing_is_refined() -> None:
    stages = Stages([seen('mug', 1)], hypotheses=0)
    (mug,) = stages.estimator().estimate(FRAME, [MUG])
    assert (mug.pose.status, mug.pose.reason) == (Status.LOST, 'no initial pose')
    assert mug.detection is not None
    assert stages.refined == []


def test_given_detections_take_the_place_of_the_detector() -> None:
    stages = Stages([seen('mug', 1)])
    (mug,) = stages.estimator().estimate(FRAME, [MUG], [seen('mug', 7)])
    assert stages.detected == 0
    assert stages.refined == [('mug', 2, 7 * FRAME.camera.width)]
    (mug,) = stages.estimator().estimate(FRAME, [MUG], [])
    assert not mug.found


@pytest.mark.parametrize(
    ('name', 'kind'), [('lm', LMRefiner), ('paper', GSPoseRefiner), ('gs2pose', GS2PoseRefiner)]
)
def test_refiners_have_names(name: RefinerName, kind: type) -> None:
    assert isinstance(PoseEstimator.with_refiner(name).refiner, kind)
    own = replace(Refiners(), paper=GSPoseRefiner(max_steps=7))
    refiner = own.named('paper')
    assert isinstance(refiner, GSPoseRefiner)
    assert refiner.max_steps == 7


def test_the_default_finds_an_object_in_a_picture() -> None:
    reference = bar()
    scene = make_scene([(reference, standing())])
    (found,) = PoseEstimator().estimate(scene.frame, [reference])
    assert found.pose.status is Status.CONVERGED
    angle, shift_mm = pose_error(found.pose.T_cam_obj, scene.T_cam_obj[0], reference)
    assert angle < 3
    assert shift_mm < 3
    assert found.refine_s > 0
