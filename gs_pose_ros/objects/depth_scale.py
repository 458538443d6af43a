"""Whether depth and poses agree: what one view sees, its neighbour must see as well.

If not, they may be in two units, or the poses of another convention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.sources import RegistrationView

_PAIRS = 12
_POINTS = 200  # of each view
# From micrometres for millimetres to the reverse, in steps that the tolerance covers.
_FACTORS = np.geomspace(1e-3, 1e3, 201)
# Of the depth, to both sides: more than the noise of depth cameras, and between two factors
# nothing is missed.
_TOLERANCE = 0.05
# Neighbours share about half of what they see; by chance hardly a tenth agrees.
_LEAST_AGREEMENT = 0.3
_MOST_BY_CHANCE = 0.1
_GROSS = 1.3
_LEAST_OTHERWISE = 0.4  # that speaks for another convention of poses: there are several to try
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # cameras of OpenGL


def check_depth_scale(views: Sequence[RegistrationView]) -> None:
    """Make sure that the depth of views is not off by a factor against their poses.

    Depth inside the masks is placed in the world, multiplied by many factors, and looked for in
    the next view. Views without depth or mask are left out; where nothing can be said, nothing is.

    Raises:
        GsPoseError: hardly any depth agrees with the next view, and with a factor, or with poses
            of another convention, it does.

    """
    usable = [view for view in views if view.depth is not None and view.mask is not None]
    pairs = list(pairwise(usable))
    chosen = np.linspace(0, len(pairs) - 1, min(_PAIRS, len(pairs))).round().astype(int)
    if not len(chosen):
        return
    agreement = np.mean([_agreement(*pairs[i]) for i in chosen], axis=0)
    best = int(np.argmax(agreement))
    as_it_is = float(np.interp(0.0, np.log(_FACTORS), agreement))
    factor = float(_FACTORS[best])
    if as_it_is > _MOST_BY_CHANCE:
        return
    if agreement[best] >= _LEAST_AGREEMENT and not 1 / _GROSS < factor < _GROSS:
        raise GsPoseError(
            f'depth and poses contradict each other: {as_it_is:.0%} of the depth is where the '
            f'next view sees it, and {agreement[best]:.0%} if depth is multiplied by '
            f'{factor:.3g}: correct the unit of depth (depth_unit_scale_factor, '
            'integer_depth_scale, depth_scale) or that of the poses'
        )
    for what, changed in _CONVENTIONS.items():
        otherwise = np.mean(
            [np.interp(0.0, np.log(_FACTORS), _agreement(*map(changed, pairs[i]))) for i in chosen]
        )
        if otherwise >= _LEAST_OTHERWISE:
            raise GsPoseError(
                f'depth and poses contradict each other: {as_it_is:.0%} of the depth is where the '
                f'next view sees it, and {otherwise:.0%} if the poses are {what}. '
                'transforms.json has camera to world with cameras of OpenGL (y up, z backward), '
                'BOP has model to camera with cameras of OpenCV (y down, z ahead)'
            )


def _flipped(view: RegistrationView) -> RegistrationView:
    return replace(view, T_cam_obj=_FLIP @ view.T_cam_obj)


def _inverted(view: RegistrationView) -> RegistrationView:
    return replace(view, T_cam_obj=se3.inverse(view.T_cam_obj))


def _transposed(view: RegistrationView) -> RegistrationView:
    R, t = view.T_cam_obj[:3, :3], view.T_cam_obj[:3, 3]
    return replace(view, T_cam_obj=se3.from_rotation_translation(R.T, t))


# How poses go wrong, up to a motion of the world, in which nothing is seen to change.
_CONVENTIONS: dict[str, Callable[[RegistrationView], RegistrationView]] = {
    'taken with the y and z axes of the camera turned': _flipped,
    'inverted': _inverted,
    'inverted, with the y and z axes of the camera turned': lambda v: _flipped(_inverted(v)),
    'taken with their rotations transposed': _transposed,
}


def _agreement(view: RegistrationView, other: RegistrationView) -> NDArray[np.float64]:
    """The share of a view's depth that the other one sees there, for each factor."""
    assert view.depth is not None
    assert view.mask is not None
    assert other.depth is not None
    assert other.mask is not None
    v, u = np.nonzero(view.mask & (view.depth > 0))
    if not len(v):
        return np.zeros(len(_FACTORS))
    some = np.linspace(0, len(v) - 1, min(_POINTS, len(v))).round().astype(int)
    v, u = v[some], u[some]
    T_other_view = other.T_cam_obj @ se3.inverse(view.T_cam_obj)
    rays = view.camera.back_project(np.stack([u, v], -1), view.depth[v, u])  # [N, 3] m
    seen = _FACTORS[:, None, None] * (rays @ T_other_view[:3, :3].T) + T_other_view[:3, 3]
    z = seen[..., 2]  # [F, N]
    ahead = z > 1e-9
    pixels = other.camera.project(np.where(ahead[..., None], seen, 1.0)).round()
    height, width = other.camera.shape
    inside = ahead & (pixels >= 0).all(-1) & (pixels < [width, height]).all(-1)
    column, row = np.where(inside[..., None], pixels, 0).astype(int).transpose(2, 0, 1)
    depth = np.where(other.mask, other.depth, 0)[row, column] * _FACTORS[:, None]
    return (inside & (np.abs(z - depth) < _TOLERANCE * z) & (depth > 0)).mean(1)
