"""The square around an object."""

from __future__ import annotations

import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.pose.verification.observation import Observation
from gs_pose_ros.pose.verification.window import ObjectWindow
from test.synthetic import CAMERA, Scene, reference


def window_of(scene: Scene, T: np.ndarray, **kwargs: np.ndarray | None) -> ObjectWindow | None:
    return ObjectWindow.around(Observation(scene.frame, reference(), **kwargs), T, 1.3, 64)


def placed(x: float, y: float, z: float) -> np.ndarray:
    """T_cam_obj with the box centre there."""
    return se3.from_rotation_translation(np.eye(3), [x, y, z] - reference().box.mean(0))


def test_the_object_is_in_the_middle_and_fills_the_window(scene: Scene) -> None:
    ref, T = reference(), scene.T_cam_obj[0]
    window = window_of(scene, T)
    assert window is not None
    center = se3.transform(T, ref.box.mean(0)[None])[0]
    assert np.allclose(window.camera.project(center), 31.5)
    # 64 px are 1.3 diameters at the object's distance.
    assert window.camera.fx / center[2] * 1.3 * ref.diameter_m == pytest.approx(64)


def test_the_mask_says_where_the_object_is(scene: Scene) -> None:
    window = window_of(scene, scene.T_cam_obj[0], mask=scene.masks[0])
    assert window is not None
    assert window.mask.min() == 0
    assert window.mask.max() == 1
    pixels = (window.mask > 0.5).sum() * (CAMERA.fx / window.camera.fx) ** 2
    assert pixels == pytest.approx(scene.masks[0].sum(), rel=0.02)


def test_without_a_mask_nothing_is_known_but_the_support(scene: Scene) -> None:
    window = window_of(scene, scene.T_cam_obj[0])
    assert window is not None
    assert (window.mask == -1).all()
    window = window_of(scene, scene.T_cam_obj[0], foreground=scene.masks[0])
    assert window is not None
    assert set(np.unique(window.mask)) == {-2, 0}
    labelled = window_of(scene, scene.T_cam_obj[0], mask=scene.masks[0])
    assert labelled is not None
    assert ((window.mask == -2) == (labelled.mask > 0.5)).mean() > 0.999


def test_beyond_the_border_nothing_is_known(scene: Scene) -> None:
    # The object's centre is in the left border of the image.
    x = (0 - CAMERA.cx) / CAMERA.fx * 0.45
    window = window_of(scene, placed(x, 0, 0.45), mask=scene.masks[0])
    assert window is not None
    outside = window.camera.width // 2 - 3
    assert np.isnan(window.color[:, :outside]).all()
    assert (window.mask[:, :outside] == -1).all()
    assert (window.depth[:, :outside] == 0).all()
    assert np.isfinite(window.color[:, outside + 6 :]).all()


@pytest.mark.parametrize(
    'T',
    [
        placed(0, 0, -0.5),
        placed(0, 0, 0.03),
        placed(0.5, 0, 0.45),
        placed(-0.5, 0, 0.45),
        placed(0, 0.5, 0.45),
        placed(0, -0.5, 0.45),
        np.full((4, 4), np.nan),
    ],
)
def test_there_is_no_window_on_what_is_not_in_view(scene: Scene, T: np.ndarray) -> None:
    assert window_of(scene, T) is None


def test_without_depth_all_depth_is_unknown(scene: Scene) -> None:
    observation = Observation(scene.frame.without_depth(), reference())
    window = ObjectWindow.around(observation, scene.T_cam_obj[0], 1.3, 64)
    assert window is not None
    assert (window.depth == 0).all()


def test_the_frame_stays_as_it_is(scene: Scene) -> None:
    before = scene.frame.color.copy()
    x = (0 - CAMERA.cx) / CAMERA.fx * 0.45
    window_of(scene, placed(x, 0, 0.45))
    assert np.array_equal(scene.frame.color, before)
