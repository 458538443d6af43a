"""From a frame to the poses of objects: the one place that chains detector, initializer, refiner.

Nodes that run the stages one by one, over topics, take the methods from the same table of names.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.estimate import Detection, PoseEstimate
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from gs_pose_ros.pose.refinement.gs2pose import GS2PoseRefiner
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.rehearsal import rehearsal
from gs_pose_ros.pose.stages import Detector, Initializer, Refiner

RefinerName = Literal['lm', 'paper', 'gs2pose']


@dataclass(frozen=True)
class Refiners:
    """The refiners and their settings, by name."""

    lm: LMRefiner = field(default_factory=LMRefiner)
    paper: GSPoseRefiner = field(default_factory=GSPoseRefiner)
    gs2pose: GS2PoseRefiner = field(default_factory=GS2PoseRefiner)

    def named(self, name: RefinerName) -> Refiner:
        """The refiner of that name."""
        refiner: Refiner = getattr(self, name)
        return refiner


@dataclass(frozen=True)
class ObjectEstimate:
    """One instance of an object in one frame; `pose` says whether it may be used, and why not."""

    object_id: str
    instance: int  # of those of the object, best detection first
    pose: PoseEstimate
    detection: Detection | None = None  # None: the object was not found in the image
    hypotheses: tuple[PoseEstimate, ...] = ()  # initial poses, best first
    initialize_s: float = 0.0
    refine_s: float = 0.0

    @property
    def found(self) -> bool:
        """Whether the pose may be used."""
        return self.pose.found

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The visible pixels in an image of (height, width); None if it was not found."""
        return None if self.detection is None else self.detection.full_mask(shape)


@dataclass(frozen=True)
class PoseEstimator:
    """The stages; any detector, initializer and refiner go together."""

    detector: Detector = field(default_factory=TemplateDetector)
    initializer: Initializer = field(default_factory=TemplateRetrieval)
    refiner: Refiner = field(default_factory=LMRefiner)

    @classmethod
    def with_refiner(cls, name: RefinerName) -> PoseEstimator:
        """The default stages, the refiner chosen by name."""
        return cls(refiner=Refiners().named(name))

    def estimate(
        self,
        frame: RGBDFrame,
        references: Sequence[ObjectReference],
        detections: Sequence[Detection] | None = None,
    ) -> list[ObjectEstimate]:
        """All instances of the objects in a frame, in the order of the objects.

        An object that is not found has one entry, whose pose is LOST with that reason. Detections
        that are given (of true masks, or of another detector) take the place of the detector's.
        """
        if detections is None:
            detections = self.detector.detect(frame, references)
        out: list[ObjectEstimate] = []
        for reference in references:
            name = reference.object_id
            mine = [d for d in detections if d.object_id == name]
            if not mine:
                reason = f'{name!r} is not in the image'
                lost = PoseEstimate.lost(np.eye(4), reason, frame.stamp_ns)
                out.append(ObjectEstimate(name, 0, lost))
            out += [self.pose(frame, reference, d, k) for k, d in enumerate(mine)]
        return out

    def pose(
        self, frame: RGBDFrame, reference: ObjectReference, detection: Detection, instance: int = 0
    ) -> ObjectEstimate:
        """The pose of one detected instance."""
        start = time.perf_counter()
        hypotheses = self.initializer.initialize(frame, reference, detection)
        initialized = time.perf_counter()
        if hypotheses:
            starts = [hypothesis.T_cam_obj for hypothesis in hypotheses]
            mask = detection.full_mask(frame.camera.shape)
            pose = self.refiner.refine(frame, reference, starts, mask)
        else:
            pose = PoseEstimate.lost(np.eye(4), 'no initial pose', frame.stamp_ns)
        return ObjectEstimate(
            reference.object_id,
            instance,
            pose,
            detection,
            tuple(hypotheses),
            initialized - start,
            time.perf_counter() - initialized,
        )

    def rehearse(self, reference: ObjectReference, use_depth: bool = True) -> None:
        """Go through all stages once, so that what an object takes to prepare is there."""
        frame, detection = rehearsal(reference, use_depth)
        self.detector.detect(frame, [reference])
        self.pose(frame, reference, detection)
