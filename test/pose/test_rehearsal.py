"""The made-up image of an object: what the real stages find in it is what was put there."""

from __future__ import annotations

import numpy as np

from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.pose.rehearsal import rehearsal
from test.fakes import make_reference
from test.nodes.test_end_to_end import painted_box


def test_the_object_is_in_the_image_where_the_hint_says() -> None:
    reference = painted_box()
    frame, detection = rehearsal(reference)
    (T_cam_obj,) = detection.pose_hints
    assert frame.depth is not None
    on_object = frame.depth[detection.full_mask(frame.camera.shape)]
    near, far = T_cam_obj[2, 3] - reference.diameter_m, T_cam_obj[2, 3] + reference.diameter_m
    assert near < on_object.min() < on_object.max() < far
    estimate = LMRefiner().track(frame, reference, T_cam_obj)
    assert estimate.found, estimate.reason
    assert np.linalg.norm(se3.log(estimate.T_cam_obj @ se3.inverse(T_cam_obj))) < 0.02


def test_an_object_of_haze_can_be_rehearsed_too() -> None:
    frame, detection = rehearsal(make_reference(), use_depth=False)
    assert frame.depth is None
    assert detection.mask.any()
