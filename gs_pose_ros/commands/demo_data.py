"""The data of `gs-pose demo`: pictures, bag and truth, and which objects were made from them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gs_pose_ros.commands.replay import read_frames
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.objects.database import ObjectDatabase

PACKAGE = Path(__file__).resolve().parents[1]
DATA = PACKAGE.parent / 'examples' / 'demo'
# What decides how an object looks once it is registered.
_REGISTRATION_CODE = ('objects/*.py', 'rendering/*.py', 'gaussians.py', 'losses.py', 'frame.py')


@dataclass(frozen=True)
class DemoData:
    """The folder made by benchmarks/make_demo_bag.py."""

    root: Path

    @property
    def bag(self) -> Path:
        """The recording to be replayed."""
        return self.root / 'bag'

    @property
    def references(self) -> Path:
        """The BOP split with the pictures that objects are registered from."""
        return self.root / 'train'

    @cached_property
    def names(self) -> dict[int, str]:
        """The names of the objects by their number in the BOP files.

        Raises:
            GsPoseError: the data is not there.

        """
        path = self.root / 'models' / 'models_info.json'
        try:
            infos = json.loads(path.read_text())
            return {int(number): str(info['name']) for number, info in infos.items()}
        except FileNotFoundError as error:
            raise GsPoseError(
                f"{path}: missing; --data must name the repository's examples/demo"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GsPoseError(f'{path}: not readable: {error}') from error

    @cached_property
    def frames(self) -> list[RGBDFrame]:
        """The bag's frames, read without ROS."""
        frames = list(read_frames(self.bag))
        if not frames:
            raise GsPoseError(f'{self.bag}: holds no frame')
        return frames

    def content(self, number: int) -> str:
        """A hash of an object's pictures and of the code that registers them."""
        digest = hashlib.sha256()
        folder = self.references / f'{number:06d}'
        files = sorted(p for p in folder.rglob('*') if p.is_file())
        if not files:
            raise GsPoseError(f'{folder}: no reference pictures')
        code = sorted(p for pattern in _REGISTRATION_CODE for p in PACKAGE.glob(pattern))
        for path in (*files, *code):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class RegistrationRecord:
    """Which pictures the objects in a database were made from, so that a repeat can skip them."""

    path: Path
    database: ObjectDatabase

    def is_current(self, object_id: str, content: str) -> bool:
        """Whether the stored object was made from this content and was not touched since."""
        try:
            return self._read().get(object_id) == [content, self.database.revision(object_id)]
        except GsPoseError:
            return False

    def note(self, object_id: str, content: str) -> None:
        """Remember what the stored object was made from."""
        entries = {**self._read(), object_id: [content, self.database.revision(object_id)]}
        self.path.write_text(json.dumps(entries, indent=1))

    def _read(self) -> dict[str, list[str]]:
        try:
            entries = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}
