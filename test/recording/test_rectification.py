"""What a camera_info may say: each fault is named, and takes no memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.recording.bag_writing import camera_info, image
from gs_pose_ros.recording.frame_decoding import frame_from_messages
from gs_pose_ros.recording.rectification import rectification_from_message
from test.fakes import CAMERA
from test.mutations import examples

BROWN = [-0.03, 0.035, -0.0001, -0.0001, -0.012]


def info(camera: Camera = CAMERA, model: str = 'plumb_bob', d: Any = ()) -> Any:
    msg = camera_info(1, camera)
    msg.distortion_model, msg.d = model, np.array(d, np.float64)
    return msg


@pytest.mark.parametrize('model', ['plumb_bob', 'rational_polynomial'])
@pytest.mark.parametrize('zeros', [1, 3, 7, 11])
def test_zeros_at_the_end_of_d_say_nothing(model: str, zeros: int) -> None:
    plain = rectification_from_message(info(d=BROWN)).maps
    filled = rectification_from_message(info(model=model, d=BROWN + [0] * zeros)).maps
    assert plain is not None
    assert filled is not None
    np.testing.assert_allclose(filled[0], plain[0], atol=1e-4)


def test_zeros_of_any_length_are_no_distortion() -> None:
    for count in (0, 2, 5, 16):
        assert rectification_from_message(info(d=[0.0] * count)).maps is None


@pytest.mark.parametrize(
    ('model', 'd'),
    [
        ('plumb_bob', [0.1, 0.01]),
        ('plumb_bob', [0.1, 0.01, 0.001]),
        ('plumb_bob', [0.1] * 6),
        ('rational_polynomial', [0.01] * 16),
        ('equidistant', [0.1, 0.01]),
        ('equidistant', [0.01] * 5),
    ],
)
def test_another_length_of_d_is_named_with_its_model(model: str, d: list[float]) -> None:
    with pytest.raises(GsPoseError, match=f"camera_info: D has {len(d)} coeff.*'{model}' has"):
        rectification_from_message(info(model=model, d=d))


def entry(field: str, index: int, value: float) -> Callable[[Any], None]:
    return lambda msg: getattr(msg, field).__setitem__(index, value)


FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    'D NaN': (lambda msg: setattr(msg, 'd', np.array([0.1, np.nan, 0, 0, 0])), 'D holds NaN'),
    'D inf': (lambda msg: setattr(msg, 'd', np.array([0.1, np.inf, 0, 0])), 'D holds inf'),
    'K NaN': (entry('k', 4, np.nan), 'K holds NaN'),
    'R NaN': (entry('r', 3, np.nan), 'R holds NaN'),
    'P inf': (entry('p', 2, np.inf), 'P holds inf'),
    'K = 0': (lambda msg: setattr(msg, 'k', np.zeros(9)), 'K is all zeros.*not calibrated'),
    'K of a larger picture': (
        lambda msg: setattr(msg, 'k', np.array([4, 4, 4, 4, 4, 4, 4, 4, 1]) * msg.k),
        'K does not fit .*are they of one of',
    ),
    'skew': (entry('k', 1, 1.5), 'K has a skew of 1.5 px'),
    'scaled K': (entry('k', 8, 2.0), 'K is no camera matrix'),
    'K not upper triangular': (entry('k', 3, 1.0), 'K is no camera matrix'),
    'no width': (lambda msg: setattr(msg, 'width', 0), 'size of the image is given as 0x48'),
    'roi outside': (lambda msg: setattr(msg.roi, 'x_offset', 60), 'roi'),
    'roi too wide': (
        lambda msg: (setattr(msg.roi, 'width', 65), setattr(msg.roi, 'height', 48)),
        r'roi 65x48 at \(0, 0\) is not inside 64x48',
    ),
    'all binned away': (lambda msg: setattr(msg, 'binning_x', 65), 'binning 65x1 leaves nothing'),
    'too many pixels': (
        lambda msg: (setattr(msg, 'width', 100_000), setattr(msg, 'height', 100_000)),
        '100000x100000 is more than 64 megapixels',
    ),
}


@pytest.mark.parametrize(('fault', 'words'), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_named(fault: Callable[[Any], None], words: str) -> None:
    msg = info(d=BROWN)
    fault(msg)
    with pytest.raises(GsPoseError, match=f'camera_info: .*{words}'):
        rectification_from_message(msg)


def test_an_uncalibrated_camera_is_said_before_all_else() -> None:
    msg = info(d=[np.nan])
    msg.k[:], msg.width = 0, 0
    with pytest.raises(GsPoseError, match='not calibrated'):
        rectification_from_message(msg)


def test_a_turn_that_is_none_is_named() -> None:
    msg = info(d=BROWN)
    msg.r[0] = 2.0
    with pytest.raises(GsPoseError, match='R is no rotation'):
        rectification_from_message(msg)


def test_a_fisheye_that_folds_its_picture_is_refused() -> None:
    assert rectification_from_message(info(model='equidistant', d=[0.05, -0.01, 0, 0])).maps
    with pytest.raises(GsPoseError, match='cannot be undone: it folds the picture at 3'):
        rectification_from_message(info(model='equidistant', d=[-9.0, 1, 0, 0]))


def test_maps_are_made_for_pictures_of_the_right_size_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError('maps were made')

    monkeypatch.setattr('gs_pose_ros.recording.rectification._maps', never)
    large = info(Camera(5e3, 5e3, 4e3, 3e3, 8000, 7000), d=BROWN)
    small = image(np.zeros((48, 64, 3), np.uint8), 'rgb8', 1)
    with pytest.raises(GsPoseError, match='colour image is 64x48, its camera_info says 8000x7000'):
        frame_from_messages(small, large)


numbers = st.floats(width=64) | st.sampled_from([0.0, 1.0, -1.0, 1e308, 1e-308, 60.0])
sizes = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 24, 48, 64, 65])


@st.composite
def mutated_info(draw: st.DrawFn) -> Any:
    model = draw(
        st.sampled_from(['plumb_bob', 'rational_polynomial', 'equidistant', '', 'fisheye', 'x'])
    )
    d = draw(st.sampled_from([BROWN, BROWN[:4], [0.1, 0.01, 0, 0], []]))
    if draw(st.booleans()):
        d = draw(st.lists(numbers, max_size=16))
    msg = info(model=model, d=d)
    for _ in range(draw(st.integers(1, 3))):
        field = draw(st.sampled_from(['k', 'r', 'p', 'size', 'roi', 'binning']))
        if field == 'size':
            setattr(msg, draw(st.sampled_from(['width', 'height'])), draw(sizes))
        elif field == 'roi':
            name = draw(st.sampled_from(['x_offset', 'y_offset', 'width', 'height']))
            setattr(msg.roi, name, draw(sizes))
        elif field == 'binning':
            setattr(msg, draw(st.sampled_from(['binning_x', 'binning_y'])), draw(sizes))
        else:
            values = getattr(msg, field)
            values[draw(st.integers(0, len(values) - 1))] = draw(numbers)
    return msg


@given(mutated_info(), st.booleans())
@examples(60)
def test_any_camera_info_is_used_or_refused_by_name(msg: Any, rectified: bool) -> None:
    color = image(np.full((48, 64, 3), 90, np.uint8), 'rgb8', 1)
    depth = image(np.full((48, 64), 700, np.uint16), '16UC1', 1)
    reason = ''
    try:
        frame = frame_from_messages(color, msg, depth, rectified)
        assert frame.color.shape == (48, 64, 3)
    except GsPoseError as error:
        reason = str(error)
    assert not reason or 'camera_info' in reason
