"""The command line: what is printed, and what it exits with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gs_pose_ros import __version__, cli

ROOT = Path(__file__).parents[1]


def test_usage_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['--help']) == 0
    text = capsys.readouterr().out
    for command in (
        'demo',
        'eval bop',
        'eval tum',
        'map',
        'register',
        'up',
        'replay',
        'record',
        'parameters',
    ):
        assert command in text
    assert cli.main(['help']) == cli.main([]) == 0
    assert capsys.readouterr().out == 2 * text


@pytest.mark.parametrize(
    ('typed', 'meant'),
    [
        ('regster mug', "no command 'regster'; did you mean register?"),
        ('replya bag', 'did you mean replay'),
        ('eval', "no command 'eval'; did you mean eval bop or eval tum?"),
        ('eval bob --root x', "no command 'eval bob'; did you mean eval bop or eval tum?"),
        ('evl bop', 'did you mean eval bop'),
        ('nonsense', '`gs-pose help` lists'),
        ('--verison', '`gs-pose help` lists'),
    ],
)
def test_a_mistyped_command_says_what_is_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(typed.split()) == 2
    captured = capsys.readouterr()
    assert meant in captured.err
    assert captured.err.count('\n') == 1
    assert captured.out == ''


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['--version']) == 0
    assert capsys.readouterr().out == f'gs-pose {__version__}\n'


def test_help_of_a_command_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(['help', 'eval', 'bop'])
    assert end.value.code == 0
    assert 'gs-pose eval bop' in capsys.readouterr().out


def test_an_error_of_ours_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ['register', 'mug', 'bag', str(tmp_path / 'missing'), '--object-frame', 'mug']
    assert cli.main([*arguments, '--db', str(tmp_path / 'db')]) == 1
    error = capsys.readouterr().err
    assert error.startswith('gs-pose register: ')
    assert 'missing' in error
    assert 'Traceback' not in error


@pytest.mark.parametrize(
    'command', ['eval bop', 'eval tum', 'map', 'register', 'up', 'replay', 'record', 'demo']
)
def test_every_command_has_its_own_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command.split(), '--help'])
    assert end.value.code == 0
    assert f'gs-pose {command}' in capsys.readouterr().out


def test_parameters_prints_the_tables() -> None:
    command = [sys.executable, '-m', 'gs_pose_ros.cli', 'parameters']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert '| parameter | type | default | range | meaning |' in result.stdout
    assert '`input.use_depth`' in result.stdout


def test_the_command_line_starts_fast() -> None:
    code = 'import sys, gs_pose_ros.cli; print({"torch", "rclpy"} & set(sys.modules))'
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == 'set()'
