"""A small set of pictures in BOP's layout, written here."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import trimesh

from gs_pose_ros.geometry import se3

SIZE = (48, 64)  # height and width, pixels
K = [60.0, 0, 31.5, 0, 61.0, 23.5, 0, 0, 1]


def write_bop_scene(folder: Path, first_image: int = 0, images: int = 3) -> np.ndarray:
    """Two objects (1 well visible, 2 hardly) in every image; returns the poses [n, 2, 4, 4]."""
    rng = np.random.default_rng(first_image)
    for kind in ('rgb', 'depth', 'mask_visib'):
        (folder / kind).mkdir(parents=True)
    cameras, truths, infos, poses = {}, {}, {}, []
    for i in range(first_image, first_image + images):
        cv2.imwrite(str(folder / f'rgb/{i:06d}.png'), np.full((*SIZE, 3), (1, 2, i), np.uint8))
        cv2.imwrite(str(folder / f'depth/{i:06d}.png'), np.full(SIZE, 5000 + i, np.uint16))
        cameras[str(i)] = {'cam_K': K, 'depth_scale': 0.1}
        T = se3.exp(rng.normal(size=(2, 6)))
        poses.append(T)
        truths[str(i)] = [
            {
                'obj_id': k + 1,
                'cam_R_m2c': np.round(T[k, :3, :3], 6).ravel().tolist(),
                'cam_t_m2c': (1000 * T[k, :3, 3]).tolist(),
            }
            for k in range(2)
        ]
        infos[str(i)] = [{'visib_fract': 0.9}, {'visib_fract': 0.05}]
        for k in range(2):
            mask = np.zeros(SIZE, np.uint8)
            mask[10 : 20 + k, 5:30] = 255
            cv2.imwrite(str(folder / f'mask_visib/{i:06d}_{k:06d}.png'), mask)
    for name, content in (('camera', cameras), ('gt', truths), ('gt_info', infos)):
        (folder / f'scene_{name}.json').write_text(json.dumps(content))
    return np.array(poses)


def write_models(folder: Path, **extra) -> None:
    folder.mkdir(parents=True)
    mesh = trimesh.creation.box(extents=[20, 40, 60])
    info = {}
    for i in (1, 2):
        mesh.export(folder / f'obj_{i:06d}.ply')
        low = dict(zip(('min_x', 'min_y', 'min_z'), (-10, -20, -30), strict=True))
        size = dict(zip(('size_x', 'size_y', 'size_z'), (20, 40, 60), strict=True))
        info[str(i)] = {'diameter': 74.8331, **low, **size, **(extra if i == 2 else {})}
    (folder / 'models_info.json').write_text(json.dumps(info))
