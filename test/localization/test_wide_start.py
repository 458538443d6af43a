"""Several starts: where they lie, when they are tried, and which of their ends is believed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest

from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.depth_localizer import DepthLocalizer
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.wide_start import WideStart, round_about
from test.synthetic import Pose

from .room import CAMERA, camera_pose, plane_frame, pose_error, scene_map, view

HERE = camera_pose((-0.8, -0.2, 1.25))
FRAME = plane_frame((0, 0, -1), 2.0)  # the fakes do not look at it
STARTS = round_about(HERE, 2.0, np.radians(10), 8)


@dataclass(frozen=True)
class Fake(DepthLocalizer):
    """Ends at `truth` from starts within 0.2 m of it, else stays where it is and agrees less."""

    truth: Pose = field(default_factory=lambda: HERE)
    elsewhere: float = 0.5  # agreement
    starts: list[tuple[int, Pose]] = field(default_factory=list)  # how many levels, from where

    def refine(self, frame: RGBDFrame, scene: SceneMap, T_map_cam: Pose) -> CameraEstimate:
        self.starts.append((len(self.levels), T_map_cam))
        near = np.linalg.norm(T_map_cam[:3, 3] - self.truth[:3, 3]) < 0.2
        T, agreement = (self.truth, 0.9) if near else (T_map_cam, self.elsewhere)
        out = CameraEstimate(T, Status.CONVERGED, overlap=0.8, agreement=agreement, iterations=3)
        return out if agreement > self.check.min_agreement else out.lost('disagrees')

    def ends(self) -> list[Pose]:
        """From where it went through all levels."""
        return [T for levels, T in self.starts if levels == len(self.levels)]


@pytest.fixture(scope='module')
def scene() -> SceneMap:
    return scene_map(0.02)


def test_starts_lie_round_the_point_before_the_camera() -> None:
    for start in STARTS:
        np.testing.assert_allclose(start @ [0, 0, 2, 1], HERE @ [0, 0, 2, 1], atol=1e-12)
        angle_deg, distance_mm = pose_error(start, HERE)
        assert angle_deg == pytest.approx(10)
        assert distance_mm == pytest.approx(4000 * np.sin(np.radians(5)))


def test_starts_are_spread_to_all_sides() -> None:
    middle = np.mean([T[:3, 3] for T in STARTS], 0)
    # All about the axis of the camera: their middle is on it.
    across = (se3.inverse(HERE) @ [*middle, 1])[:2]
    np.testing.assert_allclose(across, 0, atol=1e-12)
    gaps = [np.linalg.norm(a[:3, 3] - b[:3, 3]) for a, b in pairwise(STARTS)]
    np.testing.assert_allclose(gaps, gaps[0])


def test_what_agrees_at_once_is_refined_once(scene: SceneMap) -> None:
    fake = Fake()
    got = WideStart(fake).refine(FRAME, scene, HERE)
    assert got.found
    assert len(fake.starts) == 1


@pytest.mark.parametrize('index', [0, 3, 6])
@pytest.mark.parametrize('elsewhere', [0.5, 0.65])  # refused, and confirmed but not surely
def test_a_better_end_of_another_start_is_taken(
    scene: SceneMap, index: int, elsewhere: float
) -> None:
    fake = Fake(truth=STARTS[index], elsewhere=elsewhere)
    got = WideStart(fake).refine(FRAME, scene, HERE)
    assert got.found
    np.testing.assert_array_equal(got.T_map_cam, STARTS[index])
    # The given start and the best two of the others were refined to the end, all others not.
    assert len(fake.ends()) == 3
    assert len(fake.starts) == 1 + 8 + 2
    assert got.iterations == 3 * 11


def test_the_given_start_is_kept_where_no_other_is_better(scene: SceneMap) -> None:
    far = se3.exp([9, 0, 0, 0, 0, 0]) @ HERE
    got = WideStart(Fake(truth=far)).refine(FRAME, scene, HERE)
    assert (got.status, got.reason) == (Status.LOST, 'disagrees')
    np.testing.assert_array_equal(got.T_map_cam, HERE)


def test_an_end_that_has_turned_too_far_is_no_neighbour(scene: SceneMap) -> None:
    for turn_deg, status in ((24, Status.CONVERGED), (26, Status.LOST)):
        truth = HERE @ se3.exp([0, 0, 0, 0, 0, np.radians(turn_deg)])

        class Pulled(Fake):
            """Every start but the given one ends there."""

            def refine(
                self, frame: RGBDFrame, scene: SceneMap, T_map_cam: Pose, truth: Pose = truth
            ) -> CameraEstimate:
                if np.array_equal(T_map_cam, HERE):
                    return CameraEstimate(HERE, Status.LOST, 'disagrees', agreement=0.5)
                return CameraEstimate(truth, Status.CONVERGED, overlap=0.8, agreement=0.9)

        assert WideStart(Pulled()).refine(FRAME, scene, HERE).status is status


def test_blank_depth_is_lost_with_that_reason(scene: SceneMap) -> None:
    blank = replace(FRAME, depth=np.zeros(CAMERA.shape, np.float32))
    for frame in (blank, FRAME.without_depth()):
        got = WideStart().refine(frame, scene, HERE)
        assert (got.status, got.reason) == (Status.LOST, 'the depth image has no valid pixel')


def test_it_comes_from_further_than_one_start(scene: SceneMap) -> None:
    # In a room that is known on all sides one start comes from as far as 60 degrees.
    frame = view(HERE)
    assert frame.depth is not None
    start = round_about(HERE, float(np.median(frame.depth)), np.radians(110), 8)[2]
    assert not DepthLocalizer().refine(frame, scene, start).found
    got = WideStart(turn_deg=60).refine(frame, scene, start)
    assert got.found
    angle_deg, distance_mm = pose_error(got.T_map_cam, HERE)
    assert angle_deg < 0.1
    assert distance_mm < 5
