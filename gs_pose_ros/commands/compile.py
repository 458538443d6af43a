"""`gs-pose compile`: all compiled code is made now, instead of by the first node that needs it.

Numba compiles a kernel at its first call and keeps it on disk. A node that has to do so is deaf
for more than a minute: the compiler holds the lock of the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.localization.depth_localizer import DepthLocalizer
from gs_pose_ros.localization.rehearsal import rehearse
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.estimator import PoseEstimator
from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.rehearsal import painted_box, rehearsal
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.recording.rvl import decode_rvl
from gs_pose_ros.rendering.numba_rasterizer import rasterize

_T_CAM_BOX = se3.exp([0, 0, 0.4, 0, 0, 0])


@dataclass(frozen=True)
class Compile:
    """Compile all kernels, for this processor, into the cache beside the code."""

    def run(self) -> None:
        """A minute or two; with everything in the cache, seconds."""
        with Console(stderr=True).status('compiling, a minute or two') as status:
            reference = painted_box()
            for use_depth in (True, False):
                status.update(f'compiling: objects {"with" if use_depth else "without"} depth')
                _find_and_refine(reference, use_depth)
            status.update('compiling: images')
            decode_rvl(b'\0\0\0\x10', 1, 1)
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
