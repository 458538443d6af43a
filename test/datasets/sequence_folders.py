"""Small sequences in the layouts of TUM RGB-D and 7-Scenes, written here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE = (6, 8)  # height, width
STAMPS = [1305031102.1, 1305031102.2, 1305031102.3]
POSE = '0.1 0.2 0.3 0 0 0.7071068 0.7071068'
INTRINSICS = '10 11 3.5 2.5 8 6 1000\n'


def rows(name: str) -> str:
    """A list of TUM, as it should be."""
    if name == 'groundtruth':
        return ''.join(f'{stamp:.6f} {POSE}\n' for stamp in STAMPS)
    return ''.join(f'{stamp:.6f} {name}/{stamp:.6f}.png\n' for stamp in STAMPS)


def write_picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def write_tum(root: Path) -> Path:
    for stamp in STAMPS:
        write_picture(root / f'rgb/{stamp:.6f}.png', np.full((*SIZE, 3), 90, np.uint8))
        write_picture(root / f'depth/{stamp:.6f}.png', np.full(SIZE, 1500, np.uint16))
    for name in ('rgb', 'depth', 'groundtruth'):
        (root / f'{name}.txt').write_text(rows(name))
    (root / 'intrinsics.txt').write_text(INTRINSICS)
    return root


def write_seven(root: Path, count: int = 2) -> Path:
    for k in range(count):
        write_picture(root / f'frame-{k:06d}.color.png', np.full((*SIZE, 3), 90, np.uint8))
        write_picture(root / f'frame-{k:06d}.depth.png', np.full(SIZE, 1500, np.uint16))
        np.savetxt(root / f'frame-{k:06d}.pose.txt', np.eye(4))
    (root / 'intrinsics.txt').write_text(INTRINSICS)
    return root
