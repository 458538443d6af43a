"""GS2Pose's GS-Refiner: gradient descent on SE(3), and a splat that adapts to the light.

Two parametrisations of the same pose take turns: the object refiner moves the object in its own
frame (right increment, Eqs. 21-25), the camera refiner moves the camera (left increment,
Eqs. 14-20).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gs_pose_ros.bounds import CountOrNone, CropSize, Extent, NonNegative
from gs_pose_ros.estimate import PoseEstimate
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.pose.refinement.appearance import Adaptation, Exposure, PhotometricLoss, Target
from gs_pose_ros.pose.refinement.gs_pose import refine_first
from gs_pose_ros.pose.verification.check import Verification
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering import Device, render, require

Pose = NDArray[np.float64]


@dataclass(frozen=True)
class Phase:
    """Steps of one parametrisation with one pair of rates (Adam), which fall to zero (cosine)."""

    steps: CountOrNone
    lr_rotation: NonNegative  # rad
    lr_translation: NonNegative  # diameters


class Increment(NamedTuple):
    """One parametrisation of a small motion xi [6] of T_cam_obj."""

    gradient: Callable[[Pose, Pose], Pose]  # by xi at 0, from that by T's entries, and T
    applied: Callable[[Pose, Pose], Pose]  # T after xi


OBJECT_REFINER = Increment(se3.right_gradient, lambda T, xi: T @ se3.exp(xi))
CAMERA_REFINER = Increment(se3.left_gradient, lambda T, xi: se3.exp(xi) @ T)


@dataclass(frozen=True)
class GS2PoseRefiner:
    """The schedule of GS2Pose's public code: object, camera, appearance, and a final phase.

    The distance is corrected first, from depth if there is any, else from the size of the mask.
    Each phase begins at the pose of the lowest loss so far.
    """

    crop_size: CropSize = 224
    crop_padding: Extent = 1.3
    # The large rates turn the object about itself: about the camera, one step of 0.05 rad
    # takes the object out of its window (docs/decisions.md).
    object_phase: Phase = Phase(45, 0.05, 0.01)
    camera_phase: Phase = Phase(95, 1e-3, 5e-3)
    final_phase: Phase = Phase(15, 0.01, 0.01)
    lr_exposure: NonNegative = 0.01
    adapt: bool = True  # learn the light of the picture before the final phase
    adaptation: Adaptation = Adaptation()
    loss: PhotometricLoss = PhotometricLoss()
    device: Device = 'cpu'  # that renders; cuda takes gsplat
    verification: Verification = Verification()

    def refine(
        self,
        frame: RGBDFrame,
        reference: SplatObject,
        hypotheses: Sequence[Pose],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        """Refine the first hypothesis T_cam_obj [4, 4] (the paper has one); see `Refiner`.

        No covariance: Adam has no Hessian.
        """
        observation = Observation(frame, reference, mask)
        return refine_first(
            observation,
            hypotheses,
            self.crop_padding,
            self.crop_size,
            functools.partial(self._optimize, reference),
            lambda T: self.verification.verdict(observation, T),
        )

    def _optimize(self, reference: SplatObject, window: ObjectWindow, T: Pose) -> tuple[Pose, int]:
        """The pose of the lowest loss, and the renders used."""
        require(self.device)
        target, exposure = Target.of(window, self.device), Exposure.neutral(self.device)
        gaussians = reference.gaussians.detached().to(self.device)
        unit = reference.diameter_m
        T = self.descend(OBJECT_REFINER, self.object_phase, gaussians, target, T, exposure, unit)
        T = self.descend(CAMERA_REFINER, self.camera_phase, gaussians, target, T, exposure, unit)
        steps = self.object_phase.steps + self.camera_phase.steps + self.final_phase.steps
        if self.adapt:
            gaussians = self.adaptation.adapted(gaussians, target, T, exposure, self.loss)
            steps += self.adaptation.steps
        T = self.descend(OBJECT_REFINER, self.final_phase, gaussians, target, T, exposure, unit)
        return T, steps

    def descend(
        self,
        increment: Increment,
        phase: Phase,
        gaussians: Gaussians,
        target: Target,
        T: Pose,
        exposure: Exposure,
        diameter_m: float,
    ) -> Pose:
        """The pose of the lowest loss on the way from T; the exposure learns with it."""
        rho, phi = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        optimizer = torch.optim.Adam(
            [
                {'params': [rho], 'lr': phase.lr_translation * diameter_m},
                {'params': [phi], 'lr': phase.lr_rotation},
                {'params': list(exposure), 'lr': self.lr_exposure},
            ]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(phase.steps, 1))
        best = (math.inf, T)
        for _ in range(phase.steps):
            pose = torch.tensor(T, requires_grad=True)
            optimizer.zero_grad()
            loss = self.loss(render(gaussians, target.camera, pose), target, exposure)
            if loss.item() < best[0]:
                best = (loss.item(), T)
            loss.backward()
            assert pose.grad is not None
            gradient = torch.from_numpy(increment.gradient(pose.grad.numpy(), T))
            rho.grad, phi.grad = gradient[:3].clone(), gradient[3:].clone()
            optimizer.step()
            schedule.step()
            # The increment is always taken at zero: that is where the Jacobians hold.
            T = increment.applied(T, torch.cat([rho, phi]).numpy())
            rho.zero_()
            phi.zero_()
        return best[1]
