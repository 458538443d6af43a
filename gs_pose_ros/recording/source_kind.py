"""What a path holds that a registration could read, so that a mistaken kind is named at once."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from gs_pose_ros.errors import GsPoseError

_NAMES = {
    'bop': 'a BOP split (kind bop)',
    'transforms': 'a capture with transforms.json (kind transforms)',
    'bag': 'a bag (kind bag)',
}
_BAGS = ('.mcap', '.db3', '.bag')


def check_kind(kind: str, path: Path) -> None:
    """Make sure that a path is there and holds what the kind (bop, transforms, bag) says.

    Raises:
        GsPoseError: it is not there or holds another kind; says which.

    """
    place = path
    if kind == 'bop':  # a range of images may follow: desk:0-29
        place = path.with_name(path.name.partition(':')[0]) if path.name else path
    try:
        if not place.exists():
            raise GsPoseError(f'{place}: is not there')
        if _holds(kind, place):
            return
        found = [other for other in _NAMES if _holds(other, place)]
        if kind == 'bag' and not found:  # the bag's reader says what is wrong
            return
        held = ' and '.join(_NAMES[other] for other in found)
        others = [path.name for path in islice(place.glob('transforms*.json'), 3)]
    except OSError as error:
        raise GsPoseError(f'{place}: not readable: {error.strerror or error}') from error
    lacks = {
        'bop': 'no scene_camera.json is in it or in its folders, so it is no BOP split',
        'transforms': 'has no transforms.json',
        'bag': 'is no bag',
    }[kind]
    if not held and others:
        held = f'{", ".join(sorted(others))}; name the file itself'
    raise GsPoseError(f'{place}: {lacks}; it is {held}' if held else f'{place}: {lacks}')


def _holds(kind: str, place: Path) -> bool:
    if place.is_file():
        return place.suffix in {'bag': _BAGS, 'transforms': ('.json',)}.get(kind, ())
    patterns = {
        # Sets of several sensors as well: their reader says what is to be done.
        'bop': ('scene_camera*.json', '*/scene_camera*.json'),
        'transforms': ('transforms.json',),
        'bag': ('metadata.yaml', *(f'*{suffix}' for suffix in _BAGS)),
    }[kind]
    return any(next(place.glob(pattern), None) is not None for pattern in patterns)
