"""Ranges of settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gs_pose_ros.bounds import check_bounds
from gs_pose_ros.localization.map_builder import MapSettings


def test_defaults_are_within_their_bounds() -> None:
    check_bounds(MapSettings())


@pytest.mark.parametrize(
    ('part', 'name', 'value'),
    [
        ('fusion', 'voxel_m', -0.01),
        ('fusion', 'voxel_m', float('nan')),
        ('fusion', 'voxel_m', float('inf')),
        ('fusion', 'far_m', 1000.0),
        ('surfel', 'thickness', 1.01),
        ('relocalization', 'words', -1),
    ],
)
def test_the_first_field_out_of_its_bounds_is_named(part: str, name: str, value: float) -> None:
    settings = MapSettings()
    broken = replace(settings, **{part: replace(getattr(settings, part), **{name: value})})
    with pytest.raises(ValueError, match=rf'^{part}\.{name} is {value}, not within'):
        check_bounds(broken)


def test_the_ends_are_within() -> None:
    check_bounds(MapSettings(fuse_spacing_m=0.0, min_frames=1))
    check_bounds(MapSettings(min_frames=100))
    with pytest.raises(ValueError, match='min_frames is 101, not within 1 to 100'):
        check_bounds(MapSettings(min_frames=101))
