"""What the package promises to its users is there, and is said in one way in all three places."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gs_pose_ros

SOURCE = Path(gs_pose_ros.__file__).read_text()


def typed() -> dict[str, str]:
    """Name to module, of the imports for type checkers."""
    (check,) = [n for n in ast.parse(SOURCE).body if isinstance(n, ast.If)]
    imports = [n for n in check.body if isinstance(n, ast.ImportFrom)]
    return {alias.name: node.module or '' for node in imports for alias in node.names}


def test_type_checkers_and_importers_see_the_same_names() -> None:
    table = {name: f'gs_pose_ros.{module}' for name, module in gs_pose_ros._HOMES.items()}
    assert table == typed()
    assert sorted(table) == gs_pose_ros.__all__
    assert set(table) <= set(dir(gs_pose_ros))


@pytest.mark.parametrize('name', gs_pose_ros.__all__)
def test_every_public_name_can_be_imported_and_is_documented(name: str) -> None:
    assert getattr(gs_pose_ros, name).__doc__


def test_other_names_are_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match='no attribute'):
        gs_pose_ros.nothing  # noqa: B018
