"""Which folders of a BOP set hold what: scenes, and pictures by their numbers."""

from __future__ import annotations

import os
import re
from pathlib import Path

from gs_pose_ros.errors import GsPoseError

ENDINGS = ('.png', '.jpg', '.jpeg', '.tif', '.tiff')  # the first that is there is read


def scene_folders(folder: Path) -> list[Path]:
    """The folders of scenes: it itself, or those in it.

    Raises:
        GsPoseError: there is none.

    """
    try:
        if (folder / 'scene_camera.json').is_file():
            return [folder]
        scenes = sorted(path.parent for path in folder.glob('*/scene_camera.json'))
        reason = '' if scenes else _no_scene(folder)
    except OSError as error:  # a name too long, links in a circle
        raise GsPoseError(f'{str(folder)[:200]}: not readable: {error.strerror}') from error
    if reason:
        raise GsPoseError(f'{folder}: {reason}')
    return scenes


def _no_scene(folder: Path) -> str:
    """Why a folder is no split."""
    if not folder.is_dir():
        return 'is a file, not a folder' if folder.exists() else 'there is no such folder'
    by_sensor = sorted(
        {p.name for pattern in ('', '*/') for p in folder.glob(f'{pattern}scene_camera_*.json')}
    )
    if not by_sensor:
        return 'no scene_camera.json in it or in its folders'
    sensor = by_sensor[0].removeprefix('scene_camera_').removesuffix('.json')
    return (
        f'no scene_camera.json, but {", ".join(by_sensor)}: sets of several sensors (IPD, '
        'XYZ-IBD, HOT3D) are not read. Make a folder with the files of one of them under the '
        'plain names: '
        f'scene_camera_{sensor}.json as scene_camera.json, scene_gt_{sensor}.json as '
        f'scene_gt.json, rgb_{sensor} or gray_{sensor} as rgb, depth_{sensor} as depth, '
        f'mask_visib_{sensor} as mask_visib'
    )


def numbered_pictures(folder: Path) -> dict[tuple[int, ...], Path]:
    """The pictures of a folder by the numbers in their names: (image,) or (image, instance).

    Raises:
        GsPoseError: the folder cannot be listed; one that is not there is empty.

    """
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a path each would take longer
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise GsPoseError(f'{folder}: not readable: {error.strerror}') from error
    out: dict[tuple[int, ...], Path] = {}
    for ending in ENDINGS:
        for name in names:
            stem = name[: -len(ending)]
            if name.lower().endswith(ending) and re.fullmatch(r'\d+(_\d+)?', stem, re.ASCII):
                out.setdefault(tuple(map(int, stem.split('_'))), folder / name)
    return out
