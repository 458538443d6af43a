"""The object database node, with a registration that takes no time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gs_pose_ros.geometry import se3
from gs_pose_ros.msg import ObjectList
from gs_pose_ros.nodes import registration_jobs
from gs_pose_ros.nodes.object_database import DatabaseNode
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.registration import RegistrationCancelled
from gs_pose_ros.objects.registration import RegistrationProgress as CoreProgress
from gs_pose_ros.objects.sources import RegistrationView
from gs_pose_ros.srv import RegisterObject
from test.fakes import make_reference
from test.nodes.conftest import LATCHED, World


class Fitting:
    """Stands in for the minutes of a registration."""

    def __init__(self) -> None:
        self.views: Sequence[RegistrationView] = ()
        self.settings: Any = None
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def __call__(
        self,
        object_id: str,
        views: Sequence[RegistrationView],
        settings: Any = None,
        on_progress: Callable[[CoreProgress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ObjectReference:
        self.views, self.settings = views, settings
        if on_progress is not None:
            on_progress(CoreProgress('fitting', 0.5, 'half'))
        while not self.gate.wait(0.02):
            if cancelled is not None and cancelled():
                raise RegistrationCancelled(f'{object_id}: registration cancelled')
        if self.broken:
            raise ZeroDivisionError('a bug')
        return make_reference(object_id)


@pytest.fixture
def fitting() -> Fitting:
    return Fitting()


@pytest.fixture
def store(tmp_path: Path) -> ObjectDatabase:
    out = ObjectDatabase(tmp_path / 'objects')
    out.root.mkdir()
    out.save(make_reference())
    return out


@pytest.fixture
def lists(
    world: World,
    store: ObjectDatabase,
    fitting: Fitting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list:
    monkeypatch.setattr(registration_jobs, '_PERIOD_S', 0.0)  # no progress is left out
    world.add(
        DatabaseNode,
        method=fitting,
        parameters={'database': str(store.root), 'allowed_roots': [str(tmp_path)]},
    )
    got = world.listen(ObjectList, 'object_database/objects', LATCHED)
    world.until(lambda: got, 'the latched list')
    return got


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four posed pictures with masks, in the NeRF convention."""
    folder = tmp_path / 'pictures'
    folder.mkdir()
    frames = []
    for k in range(4):
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, 20:40] = 255
        cv2.imwrite(str(folder / f'{k}.png'), np.full((48, 64, 3), 40 * k, np.uint8))
        cv2.imwrite(str(folder / f'mask{k}.png'), mask)
        T = se3.exp([0, 0, 1, 0, 0.1 * k, 0])
        frames.append(
            {
                'file_path': f'{k}.png',
                'mask_path': f'mask{k}.png',
                'transform_matrix': T.tolist(),
            }
        )
    intrinsics = {'fl_x': 60.0, 'fl_y': 60.0, 'cx': 32.0, 'cy': 24.0, 'w': 64, 'h': 48}
    (folder / 'transforms.json').write_text(json.dumps({**intrinsics, 'frames': frames}))
    return folder


def register_request(path: Path, object_id: str = 'can', **fields: Any) -> RegisterObject.Request:
    fields = {'source': RegisterObject.Request.SOURCE_TRANSFORMS, **fields}
    return RegisterObject.Request(object_id=object_id, path=str(path), **fields)


def register(world: World, request: RegisterObject.Request) -> RegisterObject.Response:
    return world.call(RegisterObject, 'object_database/register', request)


def ids(msg: ObjectList) -> list[str]:
    return [info.object_id for info in msg.objects]
