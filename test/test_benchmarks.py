"""The benchmarks run on the package as it is; what they measure is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'


def _run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize('script', sorted(path.name for path in BENCHMARKS.glob('measure_*.py')))
def test_a_benchmark_finds_all_that_it_imports(script: str) -> None:
    assert '--out' in _run(script, '--help')


def test_registration_is_measured_with_its_origin(tmp_path: Path) -> None:
    few = [
        '--views',
        '8',
        '--settings.fitting.iterations',
        '3',
        '--settings.final-iterations',
        '2',
    ]
    _run('measure_registration.py', *few, '--out', str(tmp_path))
    figures = json.loads((tmp_path / 'registration.json').read_text())
    assert {'commit', 'machine', 'libraries', 'settings', 'load_average_before'} <= set(figures)
    (measured,) = figures['objects'].values()
    assert measured['views'] == 8
    assert measured['seconds'] > 0
    assert measured['gaussians'] > 10
