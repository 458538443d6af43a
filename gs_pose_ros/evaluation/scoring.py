"""Pair estimated poses with true instances and measure each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.evaluation.detection_error import (
    DetectedMask,
    Rle,
    TrueMask,
    mask_iou,
)
from gs_pose_ros.evaluation.pose_error import (
    add_error,
    adds_error,
    projection_error,
    rotation_translation_error,
)
from gs_pose_ros.evaluation.truth import EvaluatedObject, TrueImage, TrueInstance
from gs_pose_ros.geometry.camera import Camera


@dataclass(frozen=True)
class EstimatedPose:
    """A pose somebody claims; what the stages and the nodes put out, without covariance."""

    object_id: str
    T_cam_obj: NDArray[np.float64]  # [4, 4]
    score: float


@dataclass(frozen=True)
class ImageResult:
    """All that was found in one image."""

    truth: TrueImage
    poses: tuple[EstimatedPose, ...]
    initial_poses: tuple[EstimatedPose, ...] | None = None  # None: not known
    detections: tuple[DetectedMask, ...] | None = None  # None: not known
    lost: tuple[tuple[str, str], ...] = ()  # object id and reason of detections without a pose
    seconds: Mapping[str, float] = field(default_factory=dict)  # stage to its time on this image
    # The same by object, for the stages that work on one object at a time.
    object_seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class PoseErrors:
    """How far one estimate is from its instance."""

    T_cam_obj: NDArray[np.float64]
    score: float
    add_or_adds_m: float  # ADD, or ADD-S for a symmetric object
    adds_m: float
    projection_px: float
    rotation_rad: float
    translation_m: float


@dataclass(frozen=True)
class InstanceResult:
    """What became of one true instance."""

    image: str
    camera: Camera
    instance: TrueInstance
    diameter_m: float
    best_iou: float | None  # with any detection of its object; None: not known
    initial: PoseErrors | None  # None: no estimate belongs to it
    final: PoseErrors | None

    @property
    def object_id(self) -> str:
        """Id of its object."""
        return self.instance.object_id

    def add_over_diameter(self, initial: bool = False) -> float:
        """ADD(S) of its estimate in diameters; infinite for a miss."""
        errors = self.initial if initial else self.final
        return float('inf') if errors is None else errors.add_or_adds_m / self.diameter_m


@dataclass(frozen=True)
class ImageScore:
    """What the results of one image are worth."""

    instances: list[InstanceResult]  # one for each true instance, in their order
    invented: list[EstimatedPose]  # poses where no such object is


def add_or_adds(T_est: NDArray, T_true: NDArray, target: EvaluatedObject) -> float:
    """ADD, or ADD-S if the object is symmetric, m: the ADD(S) of the literature."""
    measure = adds_error if target.is_symmetric else add_error
    return measure(T_est, T_true, target.points)


def match_poses(
    poses: Sequence[EstimatedPose],
    instances: Sequence[TrueInstance],
    objects: Mapping[str, EvaluatedObject],
) -> list[int | None]:
    """For each pose the index of its instance, or None; all of one image.

    As in BOP (Hodan et al. 2016, Sec. 3; bop_toolkit, pose_matching.py): best score first, each
    takes the free instance of its object with the smallest ADD(S) below 0.1 diameters. Estimates
    left over take, in the same order, the nearest free instance below one diameter, so that a bad
    pose is measured as a bad pose and not as a miss and an invention.
    """
    out: list[int | None] = [None] * len(poses)
    order = sorted(range(len(poses)), key=lambda i: -poses[i].score)
    error = np.full((len(poses), len(instances)), np.inf)
    for i, pose in enumerate(poses):
        for j, instance in enumerate(instances):
            if pose.object_id == instance.object_id:
                target = objects[pose.object_id]
                value = add_or_adds(pose.T_cam_obj, instance.T_cam_obj, target)
                error[i, j] = value / target.diameter_m
    for limit in (0.1, 1.0):
        for i in order:
            if out[i] is None and len(instances):
                j = int(np.argmin(error[i]))
                if error[i, j] < limit:
                    out[i] = j
                    error[:, j] = np.inf
    return out


def measure(
    pose: EstimatedPose, instance: TrueInstance, target: EvaluatedObject, camera: Camera
) -> PoseErrors:
    """All errors of one estimate."""
    T_est, T_true = pose.T_cam_obj, instance.T_cam_obj
    rotation, translation = rotation_translation_error(T_est, T_true, target.symmetries)
    return PoseErrors(
        T_cam_obj=T_est,
        score=pose.score,
        add_or_adds_m=add_or_adds(T_est, T_true, target),
        adds_m=adds_error(T_est, T_true, target.points),
        projection_px=projection_error(T_est, T_true, target.points, camera, target.symmetries),
        rotation_rad=rotation,
        translation_m=translation,
    )


def score_image(result: ImageResult, objects: Mapping[str, EvaluatedObject]) -> ImageScore:
    """Pair and measure everything in one image."""
    truth = result.truth
    final, invented = _paired(result.poses, truth, objects)
    initial, _ = _paired(result.initial_poses or (), truth, objects)
    rows = []
    for j, instance in enumerate(truth.instances):
        target = objects[instance.object_id]
        rows.append(
            InstanceResult(
                image=truth.name,
                camera=truth.camera,
                instance=instance,
                diameter_m=target.diameter_m,
                best_iou=_best_iou(result.detections, instance),
                initial=initial.get(j),
                final=final.get(j),
            )
        )
    return ImageScore(rows, invented)


def true_masks(truth: TrueImage, min_visible: float) -> list[TrueMask] | None:
    """The masks of an image; those visible by less are marked ignored. None if one is unknown."""
    out = []
    for instance in truth.instances:
        if instance.rle is None:
            return None
        ignored = instance.visible_fraction < min_visible
        out.append(TrueMask(truth.name, instance.object_id, instance.rle, ignored))
    return out


def _paired(
    poses: Sequence[EstimatedPose], truth: TrueImage, objects: Mapping[str, EvaluatedObject]
) -> tuple[dict[int, PoseErrors], list[EstimatedPose]]:
    matches = match_poses(poses, truth.instances, objects)
    errors, invented = {}, []
    for pose, j in zip(poses, matches, strict=True):
        if j is None:
            invented.append(pose)
        else:
            instance = truth.instances[j]
            errors[j] = measure(pose, instance, objects[instance.object_id], truth.camera)
    return errors, invented


def _best_iou(detections: Sequence[DetectedMask] | None, instance: TrueInstance) -> float | None:
    if detections is None or instance.rle is None:
        return None
    own: list[Rle] = [d.rle for d in detections if d.object_id == instance.object_id]
    return float(mask_iou(own, [instance.rle]).max(initial=0.0))
