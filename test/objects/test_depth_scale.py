"""Depth in another unit than the poses is found by what neighbouring views see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.depth_scale import check_depth_scale
from gs_pose_ros.objects.sources import RegistrationView
from test import synthetic


@pytest.fixture(scope='module')
def views() -> list[RegistrationView]:
    gaussians = synthetic.reference().gaussians
    return synthetic.sphere_views(gaussians, 16, gaussians.means.mean(0).numpy(), 0.4)


def _scaled(views: list[RegistrationView], factor: float) -> list[RegistrationView]:
    return [
        view if view.depth is None else replace(view, depth=view.depth * np.float32(factor))
        for view in views
    ]


@pytest.mark.parametrize('factor', [0.001, 0.1, 0.27, 3.7, 1000.0])
def test_depth_off_by_a_factor_is_refused_and_the_factor_told(
    views: list[RegistrationView], factor: float
) -> None:
    with pytest.raises(GsPoseError, match='depth and poses contradict each other') as error:
        check_depth_scale(_scaled(views, factor))
    told = float(str(error.value).split('multiplied by ')[1].split(':')[0])
    assert told * factor == pytest.approx(1, rel=0.1)


def test_good_depth_passes_with_noise_holes_and_missing_views(
    views: list[RegistrationView],
) -> None:
    rng = np.random.default_rng(0)
    check_depth_scale(views)
    noisy = []
    for k, view in enumerate(views):
        assert view.depth is not None
        depth = view.depth + rng.normal(0, 0.003, view.depth.shape) * (view.depth > 0)
        depth[rng.random(depth.shape) < 0.3] = 0
        noisy.append(replace(view, depth=None if k % 3 == 0 else depth.astype(np.float32)))
    check_depth_scale(noisy)
    check_depth_scale(_scaled(views, 1.1))


def test_nothing_is_said_where_nothing_is_known(views: list[RegistrationView]) -> None:
    wrong = _scaled(views, 10)
    check_depth_scale([])
    check_depth_scale(wrong[:1])
    check_depth_scale([replace(view, depth=None) for view in wrong])
    check_depth_scale([replace(view, mask=None) for view in wrong])
    check_depth_scale([wrong[0]] * 4)  # seen from one place, any unit agrees
    blank = np.zeros_like(wrong[0].depth)
    check_depth_scale([replace(view, depth=blank) for view in wrong])


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (lambda T: np.diag([1.0, -1, -1, 1]) @ T, 'y and z axes of the camera turned'),
        (lambda T: np.linalg.inv(T), 'the poses are inverted'),
    ],
    ids=['OpenGL', 'inverse'],
)
def test_poses_of_another_convention_are_refused(
    views: list[RegistrationView], wrong: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    def azimuth(view: RegistrationView) -> float:
        x, y, _ = np.linalg.inv(view.T_cam_obj)[:3, 3]
        return np.arctan2(y, x)

    around = sorted(views, key=azimuth)  # as a hand moves the camera
    check_depth_scale(around)
    with pytest.raises(GsPoseError, match=words):
        check_depth_scale([replace(view, T_cam_obj=wrong(view.T_cam_obj)) for view in around])
