"""Where a frame was taken: what descriptors say, which frames are kept, and the poses found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gs_pose_ros.features.local_features import FrameFeatures
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.relocalization import (
    Keyframe,
    KeyframeRelocalizer,
    RelocalizationSettings,
    is_new,
    keyframe,
    mutual_matches,
    vlad,
)
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud
from test.synthetic import Pose

from .room import CAMERA, camera_pose, pose_error, view

SCENE = SceneMap.from_cloud(VoxelCloud(FusionSettings()))  # nobody looks at it
SETTINGS = RelocalizationSettings()
LARGE = CAMERA.scaled(2)
# Along two walls, looking at different parts of the room.
KEYFRAMES = tuple(
    camera_pose((-1.2 + 0.1 * k, y, 1.2), np.array([1.2, 0.5 * k - 1.0, 0.5]))
    for k in range(5)
    for y in (-0.5, 0.5)
)
BETWEEN = camera_pose((-1.05, 0.3, 1.25), np.array([1.2, -0.2, 0.55]))


def unit(rows: NDArray) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope='module')
def textured() -> KeyframeRelocalizer:
    return KeyframeRelocalizer.of((view(T, LARGE), T) for T in KEYFRAMES)


@pytest.fixture(scope='module')
def frame() -> RGBDFrame:
    return view(BETWEEN, LARGE)


# --- Descriptors of pictures -------------------------------------------------------------------


@pytest.mark.parametrize('count', [1, 5, 200])
def test_vlad_has_unit_length(count: int) -> None:
    rng = np.random.default_rng(count)
    words, descriptors = unit(rng.random((8, 128))), unit(rng.random((count, 128)))
    got = vlad(descriptors, words)
    assert got.shape == (8 * 128,)
    assert got.dtype == np.float32
    assert np.linalg.norm(got) == pytest.approx(1, abs=1e-6)
    parts = np.linalg.norm(got.reshape(8, 128), axis=1)
    used = parts > 0
    np.testing.assert_allclose(parts[used], 1 / np.sqrt(used.sum()), rtol=1e-5)


def test_vlad_of_nothing_is_zero() -> None:
    words = unit(np.random.default_rng(0).random((8, 128)))
    assert not vlad(np.zeros((0, 128), np.float32), words).any()
    assert not vlad(words[:3], words).any()  # nothing is left beside the words


def test_what_repeats_counts_once() -> None:
    rng = np.random.default_rng(1)
    words, descriptors = unit(rng.random((4, 128))), unit(rng.random((6, 128)))
    once = vlad(descriptors, words)
    nearest = ((descriptors[:, None] - words) ** 2).sum(-1).argmin(1)
    # All features of one word a hundred times: that word's direction and length stay.
    tiles = np.repeat(descriptors[nearest == nearest[0]], 100, 0)
    np.testing.assert_allclose(vlad(np.concatenate([descriptors, tiles]), words), once, atol=1e-5)


def test_vlad_holds_the_rest_beside_the_nearest_word() -> None:
    words = np.eye(128, dtype=np.float32)[:2]
    descriptor = unit(np.array([[2.0, 1.0] + [0.0] * 126]))
    rest = descriptor[0] - words[0]
    np.testing.assert_allclose(
        vlad(descriptor, words), [*(rest / np.linalg.norm(rest)), *np.zeros(128)], atol=1e-6
    )


# --- Matches -----------------------------------------------------------------------------------


def at(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in a plane: the smaller the angle between two, the more alike."""
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)


def test_only_each_others_best_match() -> None:
    # 0 and 5 are both nearest to 4, which is nearest to 5; 90 and 80 to each other.
    own, other = mutual_matches(at(0, 5, 90), at(80, 4), 1.0)
    assert own.tolist() == [1, 2]
    assert other.tolist() == [1, 0]


def test_only_matches_that_are_distinct() -> None:
    # 10 degrees from the best, 20 from the second: half the distance, up to the chord.
    a, b = at(0, 180), at(10, -20, 179)
    for ratio, rows in ((0.49, [1]), (0.51, [0, 1])):
        own, other = mutual_matches(a, b, ratio)
        assert own.tolist() == rows
        assert other.tolist() == [0, 2][2 - len(rows) :]


def test_two_that_are_equal_match_nothing() -> None:
    own, _ = mutual_matches(at(0, 90), at(0, 0, 90), 0.99)
    assert own.tolist() == [1]


@pytest.mark.parametrize(('n', 'm'), [(0, 0), (0, 5), (5, 0), (1, 5), (5, 1)])
def test_fewer_than_two_match_nothing(n: int, m: int) -> None:
    a, b = at(*range(n)).reshape(-1, 2), at(*range(m)).reshape(-1, 2)
    own, other = mutual_matches(a, b, 0.9)
    assert len(own) == len(other) == 0


def test_matches_find_a_permutation() -> None:
    rng = np.random.default_rng(2)
    a = unit(rng.normal(size=(50, 128)))
    order = rng.permutation(50)
    own, other = mutual_matches(a, a[order], 0.85)
    assert own.tolist() == list(range(50))
    np.testing.assert_array_equal(order[other], own)


# --- Keyframes ---------------------------------------------------------------------------------


def test_points_of_a_keyframe_lie_on_the_walls_in_the_map() -> None:
    made = keyframe(view(BETWEEN, LARGE), BETWEEN, replace(SETTINGS, features=50))
    assert len(made.points) == len(made.descriptors) == 50
    assert (made.points.dtype, made.descriptors.dtype) == (np.float32, np.uint8)
    length = np.linalg.norm(made.descriptors / 255.0, axis=1)
    np.testing.assert_allclose(length, 1, atol=0.02)
    v, u = np.mgrid[: LARGE.height, : LARGE.width]
    depth = view(BETWEEN, LARGE).depth
    assert depth is not None
    pixels = np.stack([u, v], -1).reshape(-1, 2)
    surface = se3.transform(BETWEEN, LARGE.back_project(pixels, depth.reshape(-1)))
    distance = np.linalg.norm(surface[None] - made.points[:, None].astype(np.float64), axis=-1)
    assert distance.min(1).max() < 0.02  # of a pixel, 5 to 12 mm


def test_the_largest_features_are_kept() -> None:
    seen = view(BETWEEN, LARGE)
    features = FrameFeatures.of(seen)
    made = keyframe(seen, BETWEEN, replace(SETTINGS, features=20))
    largest = np.argsort(-features.scales, kind='stable')[:20]
    assert features.scales[largest].min() > np.median(features.scales)
    pixels = LARGE.project(se3.transform(se3.inverse(BETWEEN), made.points.astype(np.float64)))
    np.testing.assert_allclose(pixels, features.pixels[largest], atol=1e-3)


def test_features_without_depth_are_not_kept() -> None:
    seen = view(BETWEEN, LARGE)
    assert seen.depth is not None
    depth = seen.depth.copy()
    depth[:, 160:] = 0
    half = keyframe(replace(seen, depth=depth), BETWEEN, SETTINGS)
    pixels = LARGE.project(se3.transform(se3.inverse(BETWEEN), half.points.astype(np.float64)))
    assert len(half.points) > 20
    assert pixels[:, 0].max() < 160
    none = keyframe(replace(seen, depth=np.zeros_like(depth)), BETWEEN, SETTINGS)
    assert none.points.shape == (0, 3)
    assert none.descriptors.shape == (0, 128)


@pytest.mark.parametrize(
    ('motion', 'expected'),
    [
        ([0.14, 0, 0, 0, 0, 0], False),
        ([0.16, 0, 0, 0, 0, 0], True),
        ([0, 0, 0, 0, np.radians(11), 0], False),
        ([0, 0, 0, 0, np.radians(13), 0], True),
        ([0, 0.14, 0, np.radians(13), 0, 0], True),
        ([0, 0, 0, 0, 0, 0], False),
    ],
)
def test_a_keyframe_is_far_from_or_turned_against_every_other(
    motion: list[float], expected: bool
) -> None:
    def bare(T: Pose) -> Keyframe:
        return Keyframe(T, np.zeros((0, 3), np.float32), np.zeros((0, 128), np.uint8))

    far = bare(se3.exp([5.0, 0, 0, 0, 0, 0]))
    assert is_new([], BETWEEN, SETTINGS)
    for known in ([bare(BETWEEN)], [bare(BETWEEN), far], [far, bare(BETWEEN)]):
        assert is_new(known, BETWEEN @ se3.exp(motion), SETTINGS) == expected


def test_frames_are_thinned_by_their_spacing() -> None:
    poses = [BETWEEN @ se3.exp([0.05 * k, 0, 0, 0, 0, 0]) for k in range(10)]
    frames = [(view(T, CAMERA.scaled(0.5)), T) for T in poses]
    made = KeyframeRelocalizer.of(frames, replace(SETTINGS, spacing_m=0.12))
    np.testing.assert_array_equal([k.T_map_cam for k in made.keyframes], poses[::3])
    made = KeyframeRelocalizer.of(frames, replace(SETTINGS, spacing_m=0.12, max_keyframes=2))
    np.testing.assert_array_equal([k.T_map_cam for k in made.keyframes], [poses[0], poses[3]])


# --- Poses -------------------------------------------------------------------------------------


def test_a_view_between_keyframes_is_found(
    textured: KeyframeRelocalizer, frame: RGBDFrame
) -> None:
    assert len(textured.keyframes) > 5
    candidates = textured.candidates(frame, SCENE)
    assert SETTINGS.as_they_are < len(candidates) <= SETTINGS.best + SETTINGS.as_they_are
    angle_deg, distance_mm = pose_error(candidates[0], BETWEEN)
    assert angle_deg < 1
    assert distance_mm < 30
    # Much closer than any keyframe is.
    assert min(pose_error(T, BETWEEN)[1] for T in KEYFRAMES) > 100


def test_a_keyframe_is_found_in_itself(textured: KeyframeRelocalizer) -> None:
    for known in textured.keyframes[::3]:
        candidates = textured.candidates(view(known.T_map_cam, LARGE), SCENE)
        angle_deg, distance_mm = pose_error(candidates[0], known.T_map_cam)
        assert angle_deg < 0.3
        assert distance_mm < 10
        np.testing.assert_array_equal(candidates[-SETTINGS.as_they_are], known.T_map_cam)


def test_a_moved_map_moves_the_poses(textured: KeyframeRelocalizer, frame: RGBDFrame) -> None:
    T_new_old = se3.exp([3.0, -2.0, 0.5, 0.3, 0.8, -1.2])
    moved = [
        Keyframe(
            T_new_old @ k.T_map_cam,
            se3.transform(T_new_old, k.points).astype(np.float32),
            k.descriptors,
        )
        for k in textured.keyframes
    ]
    there = KeyframeRelocalizer.from_keyframes(moved).candidates(frame, SCENE)
    assert pose_error(there[0], T_new_old @ BETWEEN)[1] < 30


def test_a_picture_needs_no_depth(textured: KeyframeRelocalizer, frame: RGBDFrame) -> None:
    np.testing.assert_array_equal(
        textured.candidates(frame.without_depth(), SCENE), textured.candidates(frame, SCENE)
    )


def test_another_light_changes_little(textured: KeyframeRelocalizer, frame: RGBDFrame) -> None:
    dark = replace(frame, color=(0.5 * frame.color + 0.1).astype(np.float32))
    assert pose_error(textured.candidates(dark, SCENE)[0], BETWEEN)[1] < 60


def test_the_same_frames_and_picture_give_the_same_poses(
    textured: KeyframeRelocalizer, frame: RGBDFrame
) -> None:
    again = KeyframeRelocalizer.of((view(T, LARGE), T) for T in KEYFRAMES)
    np.testing.assert_array_equal(again.words, textured.words)
    np.testing.assert_array_equal(again.vectors, textured.vectors)
    first = textured.candidates(frame, SCENE)
    np.testing.assert_array_equal(textured.candidates(frame, SCENE), first)
    np.testing.assert_array_equal(again.candidates(frame, SCENE), first)


# --- Nothing to be seen ------------------------------------------------------------------------


@pytest.mark.parametrize('gray', [0.0, 0.5, 1.0])
def test_a_picture_without_features_gives_poses_of_keyframes(
    textured: KeyframeRelocalizer, frame: RGBDFrame, gray: float
) -> None:
    blank = replace(frame, color=np.full_like(frame.color, gray))
    candidates = textured.candidates(blank, SCENE)
    assert len(candidates) == SETTINGS.as_they_are
    assert all(any(np.array_equal(T, known) for known in KEYFRAMES) for T in candidates)


def test_noise_gives_poses_of_keyframes(textured: KeyframeRelocalizer, frame: RGBDFrame) -> None:
    noise = np.random.default_rng(0).random(frame.color.shape, np.float32)
    candidates = textured.candidates(replace(frame, color=noise), SCENE)
    assert len(candidates) >= SETTINGS.as_they_are
    assert all(se3.is_rigid(T) for T in candidates)


def test_without_keyframes_there_is_no_pose(frame: RGBDFrame) -> None:
    for empty in (KeyframeRelocalizer.of(()), KeyframeRelocalizer.from_keyframes(())):
        assert empty.candidates(frame, SCENE) == []


@pytest.mark.parametrize('count', [1, 3])
def test_keyframes_without_features_give_their_own_poses(frame: RGBDFrame, count: int) -> None:
    white = np.ones_like(frame.color)
    made = KeyframeRelocalizer.of((replace(frame, color=white), T) for T in KEYFRAMES[:count])
    for seen in (frame, replace(frame, color=white)):
        candidates = made.candidates(seen, SCENE)
        assert len(candidates) == min(count, SETTINGS.as_they_are)


def test_fewer_features_than_words_are_enough(frame: RGBDFrame) -> None:
    few = replace(SETTINGS, features=SETTINGS.words // 2)
    made = KeyframeRelocalizer.of([(frame, BETWEEN)], few)
    assert made.words.shape == (1, 128)
    candidates = made.candidates(frame, SCENE)
    assert pose_error(candidates[0], BETWEEN)[1] < 30


def test_the_keyframe_of_most_matches_is_found_where_words_prefer_others(
    textured: KeyframeRelocalizer, frame: RGBDFrame
) -> None:
    # Vectors as of a room of one texture: those of the wrong order.
    expected = textured.candidates(frame, SCENE)[0]
    query = vlad(FrameFeatures.of(frame).descriptors, textured.words)
    order = np.argsort(textured.vectors @ query)
    vectors = textured.vectors.copy()
    vectors[order] = textured.vectors[order[::-1]]
    settings = replace(textured.settings, compared=1)
    misled = replace(textured, vectors=vectors, settings=settings)
    assert np.argmax(vectors @ query) == order[0]
    angle_deg, distance_mm = pose_error(misled.candidates(frame, SCENE)[0], expected)
    assert angle_deg < 1
    assert distance_mm < 30
