"""`gs-pose compile`: all compiled code is made now, instead of by the first node that needs it.

Numba compiles a kernel at its first call and keeps it on disk. A node that has to do so is deaf
for more than a minute: the compiler holds the lock of the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.console import Console

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.depth_localizer import DepthLocalizer
from gs_pose_ros.localization.rehearsal import rehearse
from gs_pose_ros.objects.database import ObjectReference, ReferenceViews
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.estimator import PoseEstimator
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.rehearsal import rehearsal
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.rendering.numba_rasterizer import rasterize

_SIZE_M = np.array([0.10, 0.07, 0.05])
_T_CAM_BOX = se3.exp([0, 0, 0.4, 0, 0, 0])


@dataclass(frozen=True)
class Compile:
    """Compile all kernels, for this processor, into the cache beside the code."""

    def run(self) -> None:
        """A minute or two; with everything in the cache, seconds."""
        with Console(stderr=True).status('compiling, a minute or two') as status:
            reference = _painted_box()
            for use_depth in (True, False):
                status.update(f'compiling: objects {"with" if use_depth else "without"} depth')
                _find_and_refine(reference, use_depth)
            status.update('compiling: scenes')
            rehearse(DepthLocalizer())
            # So large a picture that threads share it.
            rasterize(
                reference.gaussians, Camera(600.0, 600.0, 319.5, 239.5, 640, 480), _T_CAM_BOX
            )


def _find_and_refine(reference: ObjectReference, use_depth: bool) -> None:
    """What the stages do with an object."""
    frame, detection = rehearsal(reference, use_depth)
    start, mask = detection.pose_hints[0], detection.full_mask(frame.camera.shape)
    lm = LMRefiner()
    lm.refine(frame, reference, [start], mask)
    lm.track(frame, reference, start)
    observation = Observation(frame, reference)
    lm.verification.keypoints(observation, start)
    PoseEstimator().rehearse(reference, use_depth)
    TemplateDetector().first_check.glance(observation, [start])  # where proposals are many
    GSPoseRefiner(max_steps=1).refine(frame, reference, [start], mask)


def _painted_box() -> ObjectReference:
    """A box with another colour on every side."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (6, 700, 3))
    for side in range(6):
        points[side, :, side // 2] = 0.5 - side % 2
    colors = np.repeat(rng.uniform(0.1, 0.9, (6, 3)), 700, 0)
    means = points.reshape(-1, 3) * _SIZE_M
    return ObjectReference(
        object_id='box',
        gaussians=Gaussians.from_points(means, colors, 0.0022, 0.95, 0),
        diameter_m=float(np.linalg.norm(_SIZE_M)),
        box=np.stack([-_SIZE_M / 2, _SIZE_M / 2]),
        views=ReferenceViews(
            T_cam_obj=np.zeros((0, 4, 4)),
            intrinsics=np.zeros((0, 4)),
            color=np.zeros((0, 32, 32, 3), np.uint8),
            mask=np.zeros((0, 32, 32), np.uint8),
        ),
    )
