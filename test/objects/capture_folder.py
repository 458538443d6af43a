"""A small folder with transforms.json: pictures of gray ramps, and what a test adds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gs_pose_ros.geometry import se3

SHAPE = (48, 64)
INTRINSICS = {'fl_x': 60.0, 'fl_y': 61.0, 'cx': 33.0, 'cy': 23.0, 'w': 64, 'h': 48}
POSES = [se3.exp([0.1 * k, -0.2, 1.5, 0.3, 0.2 * k, -0.1]) for k in range(3)]  # T_cam_obj


def ramp(height: int = SHAPE[0], width: int = SHAPE[1]) -> np.ndarray:
    """A picture whose every pixel says where it is: BGR [H, W, 3]."""
    v, u = np.mgrid[0:height, 0:width]
    return np.stack([np.full_like(u, 90), 3 * v, 3 * u], -1).astype(np.uint8)


def camera_to_world_gl(T_cam_obj: np.ndarray) -> list:
    """As transforms.json holds a pose."""
    return (se3.inverse(T_cam_obj) @ np.diag([1.0, -1, -1, 1])).tolist()


def frames(**fields: Any) -> list[dict[str, Any]]:
    """Three frames, all with these fields; `{}` in a text becomes the frame's number."""
    return [
        {
            'file_path': f'images/{k}.png',
            'transform_matrix': camera_to_world_gl(T),
            **{n: v.format(k) if isinstance(v, str) else v for n, v in fields.items()},
        }
        for k, T in enumerate(POSES)
    ]


def write_capture(folder: Path, content: dict[str, Any] | None = None, **top: Any) -> Path:
    """Write pictures, masks (a rectangle), depth (1234 steps) and transforms.json."""
    for name in ('images', 'masks', 'depth'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:30, 20:40] = 255
    for k in range(len(POSES)):
        cv2.imwrite(str(folder / f'images/{k}.png'), ramp())
        cv2.imwrite(str(folder / f'masks/{k}.png'), mask)
        cv2.imwrite(str(folder / f'depth/{k}.png'), np.full(SHAPE, 1234, np.uint16))
    if content is None:
        content = {**INTRINSICS, 'frames': frames(), **top}
    (folder / 'transforms.json').write_text(json.dumps(content))
    return folder
