"""`gs-pose`: the command line. Each command is a dataclass with `run()`, imported when chosen."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from gs_pose_ros import __version__
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.ros_compat.presence import require_ros, why_no_ros

# Command: module, class and what it is for. Importing all of them would cost seconds.
_COMMANDS = {
    'demo': (
        'gs_pose_ros.commands.demo',
        'Demo',
        'register, track and evaluate three objects in a bag',
    ),
    'eval bop': ('gs_pose_ros.evaluation.bop', 'BopEvaluation', 'evaluate on a BOP data set'),
    'eval tum': (
        'gs_pose_ros.evaluation.tum',
        'TumEvaluation',
        'evaluate where an RGB-D camera was',
    ),
    'map': ('gs_pose_ros.commands.map', 'BuildMap', 'make a map of posed RGB-D frames'),
    'register': ('gs_pose_ros.commands.register', 'Register', 'register an object from files'),
    'up': ('gs_pose_ros.graph', 'Up', 'start the nodes as processes'),
    'replay': ('gs_pose_ros.commands.replay', 'Replay', 'play a bag onto the live topics'),
    'bag': ('gs_pose_ros.recording.bag_writing', 'WriteBag', 'make a bag of a folder of frames'),
    'record': ('gs_pose_ros.commands.replay', 'Record', 'write live topics into a bag'),
    'compile': (
        'gs_pose_ros.commands.compile',
        'Compile',
        'compile what the first start would have to',
    ),
    'parameters': ('', '', 'print all node parameters as Markdown'),
}
_WITH_ROS = ('demo', 'parameters', 'record', 'replay', 'up')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 for a failed command, 2 for a wrong one."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ['help']:
        words = [*words[1:], '--help']
    if words[:1] in ([], ['-h'], ['--help']):
        print(_usage())
        return 0
    if words == ['--version']:
        print(f'gs-pose {__version__}')
        return 0
    name = next((c for c in _COMMANDS if words[: len(c.split())] == c.split()), '')
    if not name:
        print(_not_a_command(words), file=sys.stderr)
        return 2
    rest = words[len(name.split()) :]
    try:
        if name == 'parameters':
            require_ros()
            runpy.run_module('gs_pose_ros.nodes.parameter_table', run_name='__main__')
            return 0
        module, class_name, _ = _COMMANDS[name]
        command = _parsed(getattr(import_module(module), class_name), name, rest)
        if name in _WITH_ROS:
            require_ros()
        return _exit_code(command.run())
    except GsPoseError as error:
        print(f'gs-pose {name}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _not_a_command(words: Sequence[str]) -> str:
    """What is wrong, and which commands may have been meant."""
    meant = [name for name in _COMMANDS if name.split()[0] == words[0]]  # `eval` alone
    typed = ' '.join(words[: 2 if meant else 1])
    meant = meant or get_close_matches(typed, _COMMANDS, n=3, cutoff=0.6)
    meant = meant or get_close_matches(' '.join(words[:2]), _COMMANDS, n=3, cutoff=0.6)
    hint = f'did you mean {" or ".join(meant)}?' if meant else '`gs-pose help` lists all of them.'
    return f'gs-pose: there is no command {typed!r}; {hint}'


def _parsed(command: type, name: str, arguments: list[str]) -> Any:
    import tyro

    return tyro.cli(command, prog=f'gs-pose {name}', args=arguments)


def _exit_code(result: Any) -> int:
    """What a command returned if that is a number of its own to exit with, else 0."""
    return result if isinstance(result, int) else 0


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    rows = [f'  {name:<{width}}  {entry[2]}' for name, entry in _COMMANDS.items()]
    usage = ['usage: gs-pose COMMAND [-h] ...', '       gs-pose help [COMMAND] | --version']
    lines = [*usage, '', *rows]
    if reason := why_no_ros():
        lines += ['', f'{", ".join(_WITH_ROS)} need ROS 2. {reason[0].upper()}{reason[1:]}.']
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
