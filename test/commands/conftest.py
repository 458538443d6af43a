"""The data of the demo, and what it prints."""

from __future__ import annotations

import pytest
from rich.console import Console

from gs_pose_ros.commands.demo_data import DATA, DemoData

NAMES = {1: 'tea_carton', 2: 'mug', 3: 'toy_truck'}


@pytest.fixture(scope='module')
def data() -> DemoData:
    return DemoData(DATA)


def printed(table: object) -> str:
    console = Console(width=120, record=True, file=open('/dev/null', 'w'))  # noqa: PTH123, SIM115
    console.print(table)
    return console.export_text()
