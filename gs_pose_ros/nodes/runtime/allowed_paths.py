"""Which paths a service may name: whoever can call it could otherwise read and write any file."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gs_pose_ros.errors import GsPoseError, shown
from gs_pose_ros.regular_files import shown_path

_MOST_NESTED = 200  # folders in each other; Python makes them by a function that calls itself


def usable_path(text: str) -> Path:
    """The path without links, dots and `~`; there may be nothing yet.

    Raises:
        GsPoseError: it is empty, too long or too deep, of an unknown user, or a loop of links.

    """
    if not text:
        raise GsPoseError('the path is empty')
    try:
        path = Path(text).expanduser()
        if len(path.parts) <= _MOST_NESTED:  # else it takes long
            path = path.resolve()
        if len(path.parts) > _MOST_NESTED:
            raise GsPoseError(
                f'{shown(text)}: {len(path.parts)} folders within each other, '
                f'at most {_MOST_NESTED} are used'
            )
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()  # `resolve` says nothing of names that are too long
    except OSError as error:
        raise GsPoseError(f'{shown(text)}: no usable path: {error.strerror}') from error
    except (RuntimeError, ValueError) as error:  # an unknown user, a loop of links, a NUL
        raise GsPoseError(f'{shown(text)}: no usable path: {shown(str(error))}') from error
    return path


def allowed_path(text: str, roots: Iterable[str | Path]) -> Path:
    """`usable_path`, if it is under one of the roots.

    Raises:
        GsPoseError: it is not usable, or under none of them.

    """
    path, names = usable_path(text), []
    for root in map(str, roots):
        try:
            resolved = usable_path(root)
        except GsPoseError as error:  # the others count
            if root:
                names.append(f'{shown(root)}, which is of no use: {error}')
            continue
        if path.is_relative_to(resolved):
            return path
        names.append(str(resolved))
    raise GsPoseError(
        f'{shown_path(path)} is not under the allowed roots ({", ".join(names)}); the parameter '
        '`allowed_roots` sets them'
    )
