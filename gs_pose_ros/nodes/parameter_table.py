"""Prints the README's table of all node parameters; `gs-pose parameters` runs it."""

from __future__ import annotations

import sys

from gs_pose_ros.nodes.detector import DetectorSettings
from gs_pose_ros.nodes.gs_refiner import RefinerSettings
from gs_pose_ros.nodes.gsplatloc import LocalizerSettings
from gs_pose_ros.nodes.object_database import DatabaseSettings
from gs_pose_ros.nodes.pose_initializer import InitializerSettings
from gs_pose_ros.nodes.runtime.parameters import markdown_table, parameter_fields

SETTINGS = {
    'object_database': DatabaseSettings,
    'detector': DetectorSettings,
    'pose_initializer': InitializerSettings,
    'gs_refiner': RefinerSettings,
    'gsplatloc': LocalizerSettings,
}


def tables() -> str:
    """One table a node, in Markdown."""
    parts = [f'#### {n}\n\n{markdown_table(parameter_fields(s))}\n' for n, s in SETTINGS.items()]
    return '\n'.join(parts)


def main() -> None:
    """Print the tables."""
    sys.stdout.write(tables())


if __name__ == '__main__':
    main()
