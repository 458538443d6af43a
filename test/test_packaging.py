"""What is installed: requirements, extras, the robot's recipe, and what is said without ROS."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import setuptools

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.extras import EXTRAS, require_modules
from test.test_import_graph import MODULES, imports, is_ros, module_name

ROOT = Path(__file__).parents[1]
PACKAGE_XML = ElementTree.parse(ROOT / 'package.xml')
# Keys of rosdep, and what pip calls the same.
APT = {
    'python3-matplotlib': 'matplotlib',
    'python3-numpy': 'numpy',
    'python3-opencv': 'opencv-contrib-python-headless',
    'python3-pil': 'pillow',
    'python3-scipy': 'scipy',
    'python3-yaml': 'pyyaml',
}
WITH_ROS = ('gs_pose_ros.nodes', 'gs_pose_ros.clients', 'gs_pose_ros.ros_compat.')
# What pip calls otherwise than Python.
DISTRIBUTIONS = {'PIL': 'pillow', 'cv2': 'opencv-contrib-python-headless', 'yaml': 'pyyaml'}


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of `setup()` in setup.py."""
    said: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **arguments: said.update(arguments))
    runpy.run_path(str(ROOT / 'setup.py'))
    return said


def names(requirements: list[str]) -> set[str]:
    """Without versions and extras."""
    return {re.split(r'[<>=\[; ]', text)[0].lower() for text in requirements}


def keys_of_package_xml() -> set[str]:
    kinds = ('depend', 'exec_depend', 'build_depend')
    return {str(element.text) for kind in kinds for element in PACKAGE_XML.iter(kind)}


def test_the_robots_recipe_and_apt_bring_all_that_is_required(declared: dict[str, Any]) -> None:
    recipes = re.findall(
        r'^    pip install ([a-z0-9_ ]+)$', (ROOT / 'README.md').read_text(), re.M
    )
    assert len(recipes) == 1
    recipe = set(recipes[0].split())
    of_apt = {APT[key] for key in keys_of_package_xml() if key in APT}
    assert recipe | of_apt >= names(declared['install_requires'])
    assert not recipe - names(declared['install_requires'])
    assert not recipe & of_apt


def test_package_xml_names_ros_packages_and_apt_keys_alone() -> None:
    """rosdep would stop at a key that it does not know."""
    keys = keys_of_package_xml()
    of_ros = keys - set(APT)
    assert not {key for key in of_ros if key.startswith('python')}
    imported = {
        name.split('.')[0] for path in MODULES for _, name in imports(path) if is_ros(name)
    }
    optional = {'rpyutils', 'tf2_ros', 'gs_pose_ros'}
    assert imported - optional <= of_ros


def test_every_import_is_required_or_of_an_extra(declared: dict[str, Any]) -> None:
    required = names(declared['install_requires'])
    known = {'gs_pose_ros', 'ament_index_python', *sys.stdlib_module_names, *EXTRAS}
    for path in MODULES:
        for line, name in imports(path):
            top = name.split('.')[0]
            if top not in known and not is_ros(name):
                assert DISTRIBUTIONS.get(top, top) in required, f'{path}:{line} imports {name}'


@pytest.mark.parametrize('path', MODULES, ids=module_name)
def test_modules_of_extras_are_imported_where_they_are_used(path: Path) -> None:
    top = [
        n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    found = [a.name for n in top if isinstance(n, ast.Import) for a in n.names]
    found += [n.module or '' for n in top if isinstance(n, ast.ImportFrom)]
    assert not {name.split('.')[0] for name in found} & set(EXTRAS)


def test_extras_bring_what_they_are_said_to(declared: dict[str, Any]) -> None:
    extras = {extra: names(list(found)) for extra, found in declared['extras_require'].items()}
    for module, extra in EXTRAS.items():
        assert module in extras[extra], module
    assert extras['eval'] <= extras['dev']


def test_a_missing_module_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_modules('trimesh')
    monkeypatch.setitem(sys.modules, 'trimesh', None)
    with pytest.raises(
        GsPoseError, match=r"trimesh is not .*: pip install trimesh .*'\.\[eval\]'"
    ):
        require_modules('pycocotools', 'trimesh')


# ---- without ROS ----


@pytest.fixture
def without_ros(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that finds no ROS and nothing of an extra."""
    missing = ('rclpy', 'gs_pose_ros.msg', 'gs_pose_ros.srv', 'ament_index_python', *EXTRAS)
    code = f'import sys\nsys.modules.update(dict.fromkeys({missing}))\n'
    (tmp_path / 'sitecustomize.py').write_text(code)
    return {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), str(ROOT)])}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    'words', ['up', 'demo', 'replay some_bag', 'record some_bag', 'parameters']
)
def test_commands_that_need_ros_say_so(without_ros: dict[str, str], words: str) -> None:
    result = run(without_ros, '-m', 'gs_pose_ros.cli', *words.split())
    assert result.returncode == 1
    assert 'ROS 2 is not here' in result.stderr
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize('node', ['detector', 'gsplatloc'])
def test_nodes_say_that_they_need_ros(without_ros: dict[str, str], node: str) -> None:
    result = run(without_ros, '-m', f'gs_pose_ros.nodes.{node}')
    assert result.returncode == 1
    assert 'ROS 2 is not here' in result.stderr
    assert 'Traceback' not in result.stderr
    imported = run(without_ros, '-c', f'import gs_pose_ros.nodes.{node}')
    assert 'ImportError: ROS 2 is not here' in imported.stderr


def test_the_help_says_whether_there_is_ros(without_ros: dict[str, str]) -> None:
    assert 'need ROS 2' in run(without_ros, '-m', 'gs_pose_ros.cli', '--help').stdout
    assert 'need ROS 2' not in run(dict(os.environ), '-m', 'gs_pose_ros.cli', '--help').stdout


def test_all_else_is_imported_without_ros_and_extras(without_ros: dict[str, str]) -> None:
    modules = [n for n in map(module_name, MODULES) if not n.startswith(WITH_ROS)]
    assert 'gs_pose_ros.evaluation.bop' in modules
    result = run(without_ros, '-c', '\n'.join(f'import {name}' for name in modules))
    assert result.returncode == 0, result.stderr
