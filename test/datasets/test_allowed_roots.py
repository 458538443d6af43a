"""Links that lead out of the folders that may be read are found, however deep; loops end."""

from __future__ import annotations

from pathlib import Path

import pytest

from gs_pose_ros.datasets.allowed_roots import check_links, check_under
from gs_pose_ros.errors import GsPoseError


def test_what_leads_out_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / 'inside', tmp_path / 'outside'
    inside.mkdir()
    outside.mkdir()
    (inside / 'loop').symlink_to(inside / 'loop')
    (inside / 'link').symlink_to(outside)
    check_under(inside / 'not/there.png', [outside, inside])
    check_under(Path('/etc/hostname'), [])  # a person at the command line may name any
    for path in ('../outside/a.png', 'link/a.png', '../inside2/a.png'):
        with pytest.raises(GsPoseError, match=r'a\.png is not under the allowed roots \(.*inside'):
            check_under(inside / path, [inside])
    for path in ('x' * 300, 'loop/a.png'):  # not there: whoever reads it says so
        check_under(inside / path, [inside])
    with pytest.raises(GsPoseError, match='null'):
        check_under(inside / 'a\0b', [inside])


def test_all_that_links_lead_to_is_looked_at(tmp_path: Path) -> None:
    inside, outside = tmp_path / 'inside', tmp_path / 'outside'
    (inside / 'a/b').mkdir(parents=True)
    (outside / 'c').mkdir(parents=True)
    (outside / 'secret.png').touch()
    (inside / 'a/b/up').symlink_to(inside)
    (inside / 'a/own').symlink_to(inside / 'a/b')
    check_links(inside, [inside])
    (inside / 'a/b/x.png').symlink_to(outside / 'secret.png')
    check_links(inside, [])
    with pytest.raises(GsPoseError, match=r'x\.png is not under the allowed roots'):
        check_links(inside, [inside])
    (inside / 'a/b/x.png').unlink()
    # What an allowed link leads to is looked at as well.
    (outside / 'c/y.png').symlink_to('/etc/hostname')
    (inside / 'scene').symlink_to(outside / 'c')
    with pytest.raises(GsPoseError, match=r'scene/y\.png is not under'):
        check_links(inside, [tmp_path])
    with pytest.raises(GsPoseError, match='cannot be listed'):
        check_links(tmp_path / 'none', [tmp_path])
