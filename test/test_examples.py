"""examples/ and the Python blocks of the README run as they stand, and find what there is."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import runpy
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gs_pose_ros
from gs_pose_ros.estimate import PoseEstimate, Status
from gs_pose_ros.evaluation.truth import read_truth
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.objects import registration
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.objects.gaussian_fitting import GaussianFitting
from test.localization.room import EYES, camera_pose, view
from test.synthetic import Pose

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / 'examples' / 'demo'
EXAMPLES = sorted((ROOT / 'examples').glob('*.py'))
README = (ROOT / 'README.md').read_text()
BLOCKS = [
    pytest.param(found[1], id=f'line {README.count(chr(10), 0, found.start(1)) + 1}')
    for found in re.finditer(r'^```python\n(.*?)^```', README, re.MULTILINE | re.DOTALL)
]
register = gs_pose_ros.register  # loads it, so that the package has it to be replaced


@pytest.fixture(scope='module')
def known() -> dict[str, ObjectReference]:
    return {}


@pytest.fixture(autouse=True)
def quick_registration(known: dict[str, ObjectReference], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is registered is fitted once, for seconds; under every name it is known by."""

    def quick(object_id: str, views: Any, settings: Any = None, *args: Any) -> ObjectReference:
        if object_id not in known:
            settings = settings or registration.RegistrationSettings()
            fitting = GaussianFitting(iterations=60)
            settings = replace(settings, fitting=fitting, final_iterations=20)
            known[object_id] = register(object_id, views, settings, *args)
        return known[object_id]

    for name, module in list(sys.modules.items()):
        if name.startswith('gs_pose_ros') and vars(module).get('register') is register:
            monkeypatch.setattr(module, 'register', quick)


@cache
def posed_frames() -> tuple[tuple[RGBDFrame, Pose], ...]:
    """RGB-D frames of a room and T_map_cam of each; what a reader has to bring along."""
    poses = [camera_pose(eye) for eye in EYES]
    return tuple((replace(view(T), stamp_ns=k), T) for k, T in enumerate(poses, 1))


def imports_of(path: Path) -> ast.Module:
    """The imports of an example, which the README leaves out."""
    tree = ast.parse(path.read_text())
    kept: list[ast.stmt] = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return ast.Module(kept, [])


def defined(name: str) -> Any:
    """What the package calls so; a block without its imports means that."""
    for path in sorted((ROOT / 'gs_pose_ros').rglob('*.py')):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
                module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
                return getattr(importlib.import_module(module), name)
    raise NameError(f'the README names {name}, which it does not define')


def names_for(block: str) -> dict[str, Any]:
    """What a block of the README takes for granted: data, and the imports of the examples."""
    names: dict[str, Any] = {'data': DATA, 'posed_frames': posed_frames()}
    for path in EXAMPLES:
        exec(compile(imports_of(path), path, 'exec'), names)
    used = [n for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Name)]
    bound = {n.id for n in used if isinstance(n.ctx, ast.Store)} | set(dir(builtins)) | set(names)
    imported = [n for n in ast.walk(ast.parse(block)) if isinstance(n, ast.alias)]
    bound |= {n.asname or n.name.partition('.')[0] for n in imported}
    return {**names, **{n.id: defined(n.id) for n in used if n.id not in bound}}


def poses_in(value: Any) -> Iterator[PoseEstimate | CameraEstimate]:
    """All poses but first guesses in what a block leaves behind."""
    if isinstance(value, (PoseEstimate, CameraEstimate)):
        if value.status is not Status.INITIAL:
            yield value
    elif isinstance(value, dict):
        yield from (pose for item in value.values() for pose in poses_in(item))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (pose for item in vars(value).values() for pose in poses_in(item))
    elif isinstance(value, (list, tuple)):
        yield from (pose for item in value for pose in poses_in(item))


def is_true(pose: PoseEstimate | CameraEstimate) -> bool:
    """Whether it is one of those in that image, to 5 mm and 3 degrees."""
    if isinstance(pose, CameraEstimate):
        T = pose.T_map_cam
        truths = [T for frame, T in posed_frames() if frame.stamp_ns == pose.stamp_ns]
    else:
        T = pose.T_cam_obj
        images = [i for i in read_truth(DATA, 'test')[0] if i.stamp_ns == pose.stamp_ns]
        truths = [instance.T_cam_obj for image in images for instance in image.instances]
    return any(
        np.linalg.norm(T[:3, 3] - true[:3, 3]) < 0.005
        and se3.rotation_angle(T[:3, :3], true[:3, :3]) < np.radians(3)
        for true in truths
    )


@pytest.mark.parametrize('block', BLOCKS)
def test_a_block_of_the_readme_finds_what_there_is(block: str) -> None:
    names = names_for(block)
    exec(compile(block, 'README.md', 'exec'), names)
    check(names)


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.name)
def test_an_example_finds_what_there_is(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # pictures go to where it is run
    check(runpy.run_path(str(path), run_name='__main__'))
    assert list(tmp_path.glob('*.png'))


def check(names: dict[str, Any]) -> None:
    poses = [pose for value in names.values() for pose in poses_in(value)]
    assert poses
    assert all(pose.found for pose in poses), [pose.reason for pose in poses]
    assert all(is_true(pose) for pose in poses)


def test_the_readme_has_blocks_and_there_are_examples() -> None:
    assert BLOCKS
    assert EXAMPLES
