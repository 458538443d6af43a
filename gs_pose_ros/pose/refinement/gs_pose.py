"""GS-Refiner: Algorithm 1 of GS-Pose, the reference that faster refiners are compared with."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gs_pose_ros.bounds import Count, CountOrNone, CropSize, Extent, Many, NonNegative, Positive
from gs_pose_ros.estimate import PoseEstimate, Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.motion import rigid_motion
from gs_pose_ros.losses import ms_ssim, ssim
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.pose.refinement.appearance import Target
from gs_pose_ros.pose.refinement.mask_alignment import align_to_mask
from gs_pose_ros.pose.verification.check import PoseCheck, Verification
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from gs_pose_ros.rendering import Device, render, require


@dataclass(frozen=True)
class GSPoseRefiner:
    """The `paper` preset: AdamW on quaternion and translation of the object, at most 400 steps.

    Uses colour and the mask only, as the paper does. The target is the image times the mask;
    without a mask the whole window is compared, which clutter spoils. The paper moves the means
    of the Gaussians; we move the camera by the same motion, which turns covariances and colours.
    """

    crop_size: CropSize = 224
    crop_padding: Extent = 1.3
    max_steps: Count = 400
    warmup_steps: CountOrNone = 10
    learning_rate: Positive = 5e-3
    patience: Many = 5  # stop when the mean |change of the loss| over so many steps ...
    tolerance: NonNegative = 1e-4  # ... is below this
    device: Device = 'cpu'  # that renders; cuda takes gsplat
    verification: Verification = Verification()

    def refine(
        self,
        frame: RGBDFrame,
        reference: SplatObject,
        hypotheses: Sequence[NDArray[np.float64]],
        mask: NDArray[np.bool_] | None = None,
    ) -> PoseEstimate:
        """Refine the first hypothesis T_cam_obj [4, 4] (the paper keeps one); see `Refiner`.

        No covariance: AdamW has no Hessian.
        """
        observation = Observation(frame, reference, mask)
        return refine_first(
            replace(observation, frame=frame.without_depth()),
            hypotheses,
            self.crop_padding,
            self.crop_size,
            functools.partial(self._optimize, reference),
            lambda T: self.verification.verdict(observation, T),
        )

    def _optimize(
        self, reference: SplatObject, window: ObjectWindow, T_init: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], int]:
        require(self.device)
        # Lines 4-8: quaternion and translation of the object start at identity. The translation is
        # in diameters, so that one learning rate suits small and large objects.
        q = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64, requires_grad=True)
        t = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.AdamW([q, t], lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        target = Target.of(window, self.device).color
        P_init = torch.from_numpy(T_init)
        center = torch.from_numpy(reference.center)
        gaussians: Gaussians = reference.gaussians.detached().to(self.device)
        losses: list[float] = []
        best = (math.inf, T_init)
        for _ in range(self.max_steps):
            # Lines 10-11, P = P_init T; the object turns about its centre.
            T = P_init @ rigid_motion(q, t * reference.diameter_m, center)
            color = render(gaussians, window.camera, T).color
            loss = (1 - ssim(color, target)) + (1 - ms_ssim(color, target))  # Eq. 6
            if loss.item() < best[0]:
                best = (loss.item(), T.detach().numpy().copy())
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()  # line 13
            optimizer.step()
            schedule.step()
            recent = np.abs(np.diff(losses[-self.patience - 1 :]))
            if len(recent) == self.patience and recent.mean() < self.tolerance:
                break
        return best[1], len(losses)

    def _rate(self, step: int) -> float:
        """Linear warm-up, then cosine to zero."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(self.max_steps - self.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * progress))


def refine_first(
    observation: Observation,
    hypotheses: Sequence[NDArray[np.float64]],
    padding: float,
    size: int,
    optimize: Callable[[ObjectWindow, NDArray[np.float64]], tuple[NDArray[np.float64], int]],
    verdict: Callable[[NDArray[np.float64]], PoseCheck],
) -> PoseEstimate:
    """Align the first hypothesis to the mask, `optimize` it in one window, and judge the result.

    What refiners of the papers have in common: `optimize(window, T_cam_obj)` gives the pose and
    the steps it took.
    """
    stamp_ns, mask = observation.frame.stamp_ns, observation.mask
    if not hypotheses:
        return PoseEstimate.lost(np.eye(4), 'no initial pose', stamp_ns)
    T = np.asarray(hypotheses[0], np.float64)
    if mask is not None:
        if not mask.any():
            return PoseEstimate.lost(T, 'the mask is empty', stamp_ns)
        T = align_to_mask(observation, T)
    window = ObjectWindow.around(observation, T, padding, size)
    if window is None:
        return PoseEstimate.lost(T, 'the object is not in view', stamp_ns)
    T, steps = optimize(window, T)
    check = verdict(T)
    status = Status.LOST if check.reason else Status.CONVERGED
    return PoseEstimate(T, check.score, status, check.reason, iterations=steps, stamp_ns=stamp_ns)
