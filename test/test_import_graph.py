"""The imports of the package point one way, importing it is cheap, and no file is long."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'gs_pose_ros'

# The floors, from the bottom up. A module imports its own room (a folder or a file) and rooms on
# floors below; rooms on one floor know nothing of each other.
FLOORS = (
    ('bounds', 'errors', 'parallel', 'share', 'field_docs'),
    ('geometry', 'extras', 'regular_files', 'command_options'),
    ('frame', 'estimate', 'gaussians', 'losses'),
    ('rendering', 'ply'),
    ('datasets', 'optimization', 'models'),
    ('objects',),
    ('features',),
    ('visualization',),
    ('recording',),
    ('pose', 'localization', 'ros_compat'),
    ('clients',),
    ('tracking', 'graph'),
    ('evaluation',),
    ('nodes', 'commands'),
    ('cli',),
)
# The same inside pose/.
POSE_FLOORS = (
    ('stages', 'rehearsal', 'distinct'),
    ('verification',),
    ('refinement', 'initialization'),
    ('detection',),
)
RANK = {part: rank for rank, parts in enumerate(FLOORS) for part in parts}
POSE_RANK = {part: rank for rank, parts in enumerate(POSE_FLOORS) for part in parts}
ROS_PACKAGES = ('rclpy', 'rpyutils', 'message_filters', 'cv_bridge', 'tf2_ros')
MAY_USE_ROS = ('nodes', 'clients', 'ros_compat')

MODULES = sorted(PACKAGE.rglob('*.py'))
# Where the repository keeps its Python; beside these there are environments and build folders.
FOLDERS = ('gs_pose_ros', 'test', 'benchmarks', 'docs', 'examples', 'launch')
MOST_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, full name) of all a file imports, in functions and for types as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                package = module_name(path).split('.')
                drop = node.level - (path.name == '__init__.py')
                base = '.'.join([*package[: len(package) - drop], *filter(None, [base])])
            yield from ((node.lineno, f'{base}.{alias.name}') for alias in node.names)


def part_of(name: str, depth: int = 1) -> str:
    """'pose' for gs_pose_ros.pose.refinement.lm, '' for the package itself."""
    return [*name.split('.'), '', ''][depth]


def is_ros(name: str) -> bool:
    top, part = name.split('.')[0], part_of(name)
    own = top == PACKAGE.name and part in ('msg', 'srv')
    return own or top in ROS_PACKAGES or top.endswith(('_msgs', '_srvs', '_interfaces'))


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_imports_point_downwards(path: Path) -> None:
    here = part_of(module_name(path))
    if not here:  # the public names, which may come from everywhere
        return
    assert here in RANK, f'{here} has no place in the order of imports'
    for line, name in imports(path):
        there = part_of(name)
        if name.split('.')[0] != PACKAGE.name or there not in RANK:
            continue
        where = f'{path}:{line} imports {name}'
        assert there == here or RANK[there] < RANK[here], f'{where}, which is not below it'


@pytest.mark.parametrize('path', sorted((PACKAGE / 'pose').rglob('*.py')), ids=module_name)
def test_imports_inside_pose_point_downwards(path: Path) -> None:
    here = POSE_RANK.get(part_of(module_name(path), 2), len(POSE_FLOORS))
    for line, name in imports(path):
        there = part_of(name, 2)
        if part_of(name) == 'pose' and there != part_of(module_name(path), 2):
            where = f'{path}:{line} imports {name}'
            assert POSE_RANK.get(there, len(POSE_FLOORS)) < here, f'{where}, which is not below it'


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_only_nodes_clients_and_ros_compat_import_ros(path: Path) -> None:
    if part_of(module_name(path)) not in MAY_USE_ROS:
        assert not [f'{path}:{line} {name}' for line, name in imports(path) if is_ros(name)]


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    names = {module_name(path) for path in MODULES}
    names.remove(PACKAGE.name)  # every module has it loaded, and it imports nothing by itself
    graph: dict[str, set[str]] = {}
    for path in MODULES[1:]:
        found = [name for _, name in imports(path)]
        targets = {t for name in found for t in (name, name.rpartition('.')[0]) if t in names}
        graph[module_name(path)] = targets - {module_name(path)}
    # A package and its modules count as one: `from gs_pose_ros.objects import x` names both.
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, ' -> '.join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in graph[name]:
                walk(target, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_no_file_is_too_long_to_read() -> None:
    root = PACKAGE.parent
    files = [
        root / 'setup.py',
        *(path for folder in FOLDERS for path in (root / folder).rglob('*.py')),
    ]
    lines = {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in files}
    assert len(lines) > len(MODULES)
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_importing_the_package_is_cheap() -> None:
    code = (
        'import sys, time; t = time.perf_counter(); import gs_pose_ros; '
        'print(time.perf_counter() - t); '
        'print([m for m in ("torch", "numba", "cv2", "rclpy", "numpy") if m in sys.modules])'
    )
    command = [sys.executable, '-c', code]
    # The best of three: the machine may be busy with the other tests.
    outputs = [
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
        for _ in range(3)
    ]
    seconds = min(float(output.stdout.split('\n')[0]) for output in outputs)
    assert seconds < 0.3
    assert outputs[0].stdout.split('\n')[1] == '[]'
