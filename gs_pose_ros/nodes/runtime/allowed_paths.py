"""Which paths a service may name: whoever can call it could otherwise read and write any file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gs_pose_ros.errors import GsPoseError


def allowed_path(text: str, roots: Iterable[str | Path]) -> Path:
    """The path, without links, dots and `~`, if it is under one of the roots.

    Raises:
        GsPoseError: it is empty, or under none of them.

    """
    if not text:
        raise GsPoseError('the path is empty')
    path = Path(text).expanduser().resolve()
    resolved = [Path(root).expanduser().resolve() for root in roots if str(root)]
    if not any(path.is_relative_to(root) for root in resolved):
        names = ', '.join(map(str, resolved))
        raise GsPoseError(f'{path} is not under the allowed roots ({names}): `allowed_roots`')
    return path
