"""What documents repeat from code and results is what code and results say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent


def test_one_version() -> None:
    from gs_pose_ros import __version__

    assert ElementTree.parse(ROOT / 'package.xml').findtext('version') == __version__
    assert re.findall(r'^## \[(.+)\]', (ROOT / 'CHANGELOG.md').read_text(), re.M)[0] == __version__


def test_the_parameter_tables_are_those_of_the_code() -> None:
    from gs_pose_ros.nodes.parameter_table import tables

    assert (ROOT / 'docs' / 'parameters.md').read_text().endswith(tables()), (
        'write docs/parameters.md anew: gs-pose parameters'
    )


def test_the_figures_in_the_readme_are_those_measured() -> None:
    script = ROOT / 'benchmarks' / 'readme_results.py'
    subprocess.run([sys.executable, script, '--check'], check=True)
