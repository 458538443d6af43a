"""Links that lead out of a folder are found, however deep, and loops end."""

from __future__ import annotations

from pathlib import Path

import pytest

from gs_pose_ros.datasets.links import check_links
from gs_pose_ros.errors import GsPoseError


def test_all_that_links_lead_to_is_asked_for(tmp_path: Path) -> None:
    inside, outside = tmp_path / 'inside', tmp_path / 'outside'
    (inside / 'a/b').mkdir(parents=True)
    (outside / 'c').mkdir(parents=True)
    (outside / 'secret.png').touch()

    def check(path: Path) -> None:
        if not path.resolve().is_relative_to(inside):
            raise GsPoseError(f'{path} leads out')

    (inside / 'a/b/up').symlink_to(inside)
    (inside / 'a/own.png').symlink_to(inside / 'a/b')
    check_links(inside, check)
    (inside / 'a/b/x.png').symlink_to(outside / 'secret.png')
    with pytest.raises(GsPoseError, match=r'x\.png leads out'):
        check_links(inside, check)
    (inside / 'a/b/x.png').unlink()
    # What an allowed link leads to is looked at as well.
    (outside / 'c/y.png').symlink_to('/etc/hostname')
    asked: list[Path] = []
    (inside / 'scene').symlink_to(outside / 'c')
    check_links(inside, asked.append)
    assert inside / 'scene/y.png' in asked
    with pytest.raises(GsPoseError, match='cannot be listed'):
        check_links(tmp_path / 'none', check)
