"""What is followed: where it was, and where it goes on to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.nodes.tracks import Track, Tracks
from gs_pose_ros.objects.splat_object import SplatObject
from test.fakes import START, make_reference

STEP = se3.exp([0, 0, 0, 0.02, 0.05, -0.03])[:3, :3]
SHIFT = np.array([0.004, -0.002, 0.001])


def track(images: int) -> Track:
    """Turns and moves evenly, at 10 Hz."""
    made = Track('mug', 0)
    R, t = se3.exp([0, 0, 0, 1.0, 0.3, -0.2])[:3, :3], np.array([0.1, 0.0, 0.6])
    for k in range(images):
        made.moved_to(k * 100_000_000, se3.from_rotation_translation(R, t))
        R, t = STEP @ R, t + SHIFT
    return made


@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
def test_it_goes_on_as_it_moved(share: float) -> None:
    made = track(4)
    T = made.predicted(made.stamp_ns + int(share * 100_000_000))
    turn = np.concatenate([np.zeros(3), share * se3.rotation_log(STEP)])
    expected = se3.exp(turn)[:3, :3] @ made.T_cam_obj[:3, :3]
    np.testing.assert_allclose(T[:3, :3], expected, atol=1e-9)
    np.testing.assert_allclose(T[:3, 3], made.T_cam_obj[:3, 3] + share * SHIFT, atol=1e-12)


def test_after_a_gap_it_goes_no_further_than_a_step() -> None:
    made = track(4)
    late, next_ = (made.predicted(made.stamp_ns + dt) for dt in (2_000_000_000, 100_000_000))
    np.testing.assert_allclose(late, next_)


def test_one_image_says_nothing_of_motion() -> None:
    made = track(1)
    np.testing.assert_array_equal(made.predicted(500_000_000), made.T_cam_obj)


def test_images_of_one_stamp_divide_by_nothing() -> None:
    made = track(1)
    made.moved_to(0, made.T_cam_obj)
    assert se3.is_rigid(made.predicted(10))


# ---- one object, one track ----

MUG = make_reference()  # 15 cm
BESIDE = se3.from_rotation_translation(np.eye(3), [0.05, 0.0, 0.5])
NEARLY = se3.from_rotation_translation(np.eye(3), [0.0, 0.018, 0.5])


def turned_over(T: np.ndarray, thing: SplatObject) -> np.ndarray:
    """The pose with the object upside down in the same place."""
    R = T[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    return se3.from_rotation_translation(R, thing.center_in(T) - R @ thing.center)


def two(T: np.ndarray) -> tuple[Tracks, Track, Track]:
    tracks = Tracks()
    older = tracks.begin('mug', 3, 0, START)
    return tracks, older, tracks.begin('mug', 0, 0, T)


def test_of_two_tracks_in_one_place_the_older_goes_on() -> None:
    tracks, older, younger = two(BESIDE)
    assert tracks.end_doubles('mug', MUG) == []
    for track in (older, younger):  # the younger finds its way to the object
        track.moved_to(10, NEARLY)
    assert tracks.end_doubles('mug', MUG) == [(younger, older)]
    assert tracks.all() == [older]
    assert tracks.end_doubles('mug', MUG) == []


def test_a_thing_turned_over_is_one_thing_wherever_its_origin_is() -> None:
    far = replace(MUG, box=MUG.box + np.array([0.0, 0.0, 1.0]))  # its origin is a metre off it
    T = turned_over(START, far)
    assert np.linalg.norm(T[:3, 3] - START[:3, 3]) > 1.9
    tracks, older, younger = two(T)
    assert tracks.near('mug', far, 0, START, 0.1) == [younger, older]
    assert tracks.end_doubles('mug', far) == [(younger, older)]


def test_what_is_lost_is_nowhere_until_it_is_found() -> None:
    tracks, older, younger = two(NEARLY)
    older.lost_images = 1
    assert tracks.end_doubles('mug', MUG) == []
    assert tracks.near('mug', MUG, 0, START, 0.4) == [younger, older]
    older.lost_images = 0
    assert tracks.near('mug', MUG, 0, START, 0.4) == [older, younger]
    assert tracks.end_doubles('mug', MUG) == [(younger, older)]


def test_one_that_catches_up_is_compared_where_the_other_was() -> None:
    tracks, older, younger = two(BESIDE)
    for k in range(1, 9):  # the older is well ahead, and moves
        T = START.copy()
        T[0, 3] -= 0.03 * k
        older.moved_to(100 * k, T)
    younger.moved_to(100, older.pose_at(100))
    assert tracks.end_doubles('mug', MUG) == [(younger, older)]


def test_others_are_left_alone() -> None:
    tracks, older, younger = two(BESIDE)
    cup = tracks.begin('cup', 0, 0, START)
    assert tracks.end_doubles('mug', MUG) == []
    assert tracks.end_doubles('cup', MUG) == []
    assert tracks.near('cup', MUG, 0, START, 0.1) == [cup]
    assert tracks.all() == [cup, younger, older]
