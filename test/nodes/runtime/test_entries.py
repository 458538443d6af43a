"""Entries of arrays from other nodes: each is used or left out with its reason."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Header

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.geometry import se3
from gs_pose_ros.msg import ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.initial_poses import hypotheses
from gs_pose_ros.nodes.runtime.conversions import (
    detection_from_message,
    detection_to_message,
    estimate_to_message,
)
from gs_pose_ros.nodes.runtime.entries import Entries
from test.fakes import CAMERA, START
from test.mutations import examples

NAN, INF = float('nan'), float('inf')


def hypothesis(
    header: Header, instance: int = 0, T: Any = START, object_id: str = 'mug'
) -> ObjectPose:
    return estimate_to_message(header, object_id, instance, PoseEstimate(T, 0.5, Status.INITIAL))


def at(**fields: float) -> Callable[[ObjectPose], None]:
    def edit(pose: ObjectPose) -> None:
        for name, value in fields.items():
            part = pose.pose.pose.orientation if name == 'w' else pose.pose.pose.position
            setattr(part, name, value)

    return edit


def with_fields(**fields: Any) -> Callable[[Any], None]:
    def edit(entry: Any) -> None:
        for name, value in fields.items():
            setattr(entry, name, value)

    return edit


BAD_POSES = {
    'nan': (at(x=NAN), 'not a pose'),
    'inf': (at(z=-INF), 'not a pose'),
    'nowhere': (at(z=1e300), 'not a pose'),
    'quaternion': (at(w=0.5), 'not a pose'),
    'no quaternion': (at(w=0.0), 'not a pose'),
    'nan quaternion': (at(w=NAN), 'not a pose'),
    'long name': (with_fields(object_id='x' * 10_000), '10000 characters'),
    'instance': (with_fields(instance=2**32 - 1), 'instance 4294967295 is above 999'),
    'score': (with_fields(score=NAN), 'score nan'),
    'frame': (with_fields(header=Header(frame_id='m' * 999)), "m', that of the image 'camera'"),
}


class Said:
    """Stands for a node: what `Entries` reports."""

    def __init__(self) -> None:
        self.reason = ''

    def fault(self, name: str, reason: str) -> None:
        self.reason = reason


@pytest.mark.parametrize(('edit', 'words'), BAD_POSES.values(), ids=BAD_POSES)
def test_a_bad_initial_pose_is_named(edit: Any, words: str) -> None:
    bad = hypothesis(Header())
    edit(bad)
    msg = ObjectPoseArray(poses=[hypothesis(Header(), 1), bad])
    said = Said()
    entries = Entries(said, 'initial_poses')  # type: ignore[arg-type]
    (instance,) = hypotheses(msg, 'camera', entries)
    assert instance.first.instance == 1
    assert said.reason.startswith('1 of 2 entries of initial_poses are left out; entry 1: ')
    assert words in said.reason
    assert len(said.reason) < 300


WILD = st.floats() | st.sampled_from((0.0, 1.0, -1.0, 1e300, 1e-300))
WILD_INT = st.integers(0, 2**32 - 1) | st.integers(0, 9)


@examples(60)
@given(st.lists(WILD, min_size=8, max_size=8), WILD_INT, st.integers(0, 255), st.text())
def test_any_initial_pose_is_a_pose_or_left_out(
    numbers: list[float], instance: int, status: int, text: str
) -> None:
    msg = hypothesis(Header())
    p, q = msg.pose.pose.position, msg.pose.pose.orientation
    p.x, p.y, p.z, q.w, q.x, q.y, q.z, msg.score = numbers
    msg.instance, msg.status, msg.object_id, msg.reason = instance, status, text, text
    said = Said()
    entries = Entries(said, 'initial_poses')  # type: ignore[arg-type]
    found = hypotheses(ObjectPoseArray(poses=[msg]), 'camera', entries)
    assert bool(said.reason) == (not found)
    assert all(se3.is_rigid(T) for instances in found for T in instances.T_cam_obj)


ROI_PARTS = ('x_offset', 'y_offset', 'width', 'height')


@examples(60)
@given(st.data())
def test_any_detection_has_a_mask_in_the_image_or_is_refused(data: st.DataObject) -> None:
    mask = np.zeros(CAMERA.shape, bool)
    mask[20:28, 28:36] = True
    good = Detection.from_full_mask('mug', 0.5, mask, (START,))
    msg = detection_to_message(Header(), good, 0)
    for name in data.draw(st.sets(st.sampled_from(ROI_PARTS))):
        setattr(msg.roi, name, data.draw(WILD_INT))
    for name in data.draw(st.sets(st.sampled_from(('width', 'height', 'step')))):
        setattr(msg.mask, name, data.draw(WILD_INT))
    msg.mask.data = data.draw(st.just(msg.mask.data) | st.binary(max_size=80))
    msg.mask.encoding = data.draw(st.sampled_from(('mono8', 'mono8', 'mono16', 'x')))
    msg.pose_hints[0].position.z = data.draw(WILD)
    with suppress(GsPoseError):
        found = detection_from_message(msg, CAMERA.shape)
        assert found.full_mask(CAMERA.shape).any()
