"""Render reference views of meshes by ray casting: a BOP `train/` split without a renderer.

    pip install trimesh embreex pillow opencv-python-headless scipy
    python benchmarks/mesh_views.py --models DATASET/models --objects 2,5 --out /tmp/renders

Writes OUT/train/<object>/ (rgb, depth, mask_visib, exact poses), one scene an object, seen from
directions spread evenly over the full sphere. Shading is one soft light from above the camera:
the pictures differ from a real camera's in light, noise and white balance, as renders do.

Nothing here shares code with the splat renderer.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from trimesh.ray.ray_pyembree import RayMeshIntersector

SIZE, FOCAL = 320, 600.0  # px
FILL = 0.8  # of the picture's side, by the object's diameter
SAMPLES = 2  # rays a pixel and axis
AMBIENT, DIFFUSE = 0.55, 0.5
LIGHT = np.array([-0.3, -0.7, -1.0]) / np.linalg.norm([-0.3, -0.7, -1.0])  # camera axes, towards
PAINT = (150.0, 150.0, 150.0)  # RGB of a mesh that says nothing of its colour
BACKGROUND = (70, 70, 70)
DEPTH_UNIT_MM = 0.1


@dataclass(frozen=True)
class Surface:
    """A mesh in millimetres with what is needed to colour it."""

    caster: RayMeshIntersector
    vertices: NDArray[np.float64]  # [V, 3] mm
    faces: NDArray[np.int64]  # [F, 3]
    normals: NDArray[np.float64]  # [V, 3]
    uv: NDArray[np.float64] | None  # [V, 2]
    texture: NDArray[np.float32] | None  # [H, W, 3] RGB
    paint: tuple[float, ...] = PAINT  # without a texture

    @classmethod
    def read(cls, path: Path, paint: tuple[float, ...] = PAINT) -> Surface:
        """From a file with or without a texture."""
        mesh = trimesh.load_mesh(path, process=False)
        material = getattr(mesh.visual, 'material', None)
        image = getattr(material, 'image', None)
        textured = image is not None and mesh.visual.uv is not None
        return cls(
            caster=RayMeshIntersector(mesh),
            vertices=np.asarray(mesh.vertices, np.float64),
            faces=np.asarray(mesh.faces, np.int64),
            normals=np.asarray(mesh.vertex_normals, np.float64),
            uv=np.asarray(mesh.visual.uv, np.float64) if textured else None,
            texture=np.asarray(image.convert('RGB'), np.float32) if textured else None,
            paint=paint,
        )

    def colors(self, face: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """RGB [N, 3] in 0 to 255 at barycentric `weights` [N, 3] of the faces [N]."""
        if self.uv is None or self.texture is None:
            return np.tile(np.array(self.paint), (len(face), 1))
        u, v = (weights[..., None] * self.uv[self.faces[face]]).sum(1).T
        height, width = self.texture.shape[:2]
        x = (u % 1) * width - 0.5
        y = (1 - v % 1) * height - 0.5  # v runs upwards
        # Not cv2.remap: it takes no row of more than 32767 pixels.
        channels = np.moveaxis(self.texture, -1, 0)
        return np.stack([map_coordinates(c, (y, x), order=1, mode='nearest') for c in channels], 1)


@dataclass(frozen=True)
class Picture:
    """One rendered view."""

    color: NDArray[np.uint8]  # [S, S, 3] RGB
    depth: NDArray[np.float64]  # [S, S] mm, 0 where nothing is hit
    mask: NDArray[np.bool_]  # [S, S]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', type=Path, required=True)
    parser.add_argument('--objects', default='', help='BOP ids, separated by commas; all if empty')
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--views', type=int, default=40)
    parser.add_argument(
        '--paint', default='', help='R,G,B (0 to 255) of the meshes that have no texture'
    )
    arguments = parser.parse_args()
    infos = json.loads((arguments.models / 'models_info.json').read_text())
    ids = [int(i) for i in arguments.objects.split(',')] if arguments.objects else map(int, infos)
    paint = tuple(map(float, arguments.paint.split(','))) if arguments.paint else PAINT
    for object_id in sorted(ids):
        started = time.monotonic()
        surface = Surface.read(arguments.models / f'obj_{object_id:06d}.obj', paint)
        folder = arguments.out / 'train' / f'{object_id:06d}'
        poses = sphere_poses(surface.vertices, arguments.views)
        write_scene(folder, object_id, [(T, render(surface, T)) for T in poses])
        print(f'object {object_id}: {len(poses)} views in {time.monotonic() - started:.1f} s')


def sphere_poses(vertices: NDArray[np.float64], count: int) -> list[NDArray[np.float64]]:
    """T_cam_obj [4, 4] (mm) of cameras on a Fibonacci sphere, looking at the box's centre."""
    center = vertices.min(0) / 2 + vertices.max(0) / 2
    diameter = 2 * np.linalg.norm(vertices - center, axis=1).max()
    distance = FOCAL * diameter / (FILL * SIZE)
    poses = []
    for i in range(count):
        z = 1 - (2 * i + 1) / count
        turn = math.pi * (3 - math.sqrt(5)) * i
        direction = np.array([*(math.sqrt(1 - z * z) * np.array([np.cos(turn), np.sin(turn)])), z])
        forward = -direction
        right = np.cross(forward, [0.0, 0.0, 1.0])  # never parallel: no view is at a pole
        right /= np.linalg.norm(right)
        T = np.eye(4)
        T[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        T[:3, 3] = -T[:3, :3] @ (center + distance * direction)
        poses.append(T)
    return poses


def render(surface: Surface, T_cam_obj: NDArray[np.float64]) -> Picture:
    """Cast SAMPLES^2 rays a pixel; depth is of the ray nearest to the pixel's centre."""
    fine = SIZE * SAMPLES
    steps = (np.arange(fine) + 0.5) / SAMPLES - 0.5  # pixel coordinates, centres at integers
    x, y = np.meshgrid((steps - (SIZE - 1) / 2) / FOCAL, (steps - (SIZE - 1) / 2) / FOCAL)
    rays_cam = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    R, origin = T_cam_obj[:3, :3], -T_cam_obj[:3, :3].T @ T_cam_obj[:3, 3]
    rays = rays_cam @ R
    face = surface.caster.intersects_first(np.broadcast_to(origin, rays.shape), rays)
    hit = np.flatnonzero(face >= 0)
    a, b, c = np.moveaxis(surface.vertices[surface.faces[face[hit]]], 1, 0)
    normal = np.cross(b - a, c - a)
    # Where rays_cam has z = 1, the ray parameter is the depth.
    z = ((a - origin) * normal).sum(1) / (rays[hit] * normal).sum(1)
    points = origin + z[:, None] * rays[hit]
    weights = trimesh.triangles.points_to_barycentric(np.stack([a, b, c], 1), points)
    shade_normal = (weights[..., None] * surface.normals[surface.faces[face[hit]]]).sum(1) @ R.T
    shade_normal /= np.linalg.norm(shade_normal, axis=1, keepdims=True) + 1e-12
    # Scanned meshes may be inside out in places: light the side that is seen.
    shade_normal *= -np.sign((shade_normal * rays_cam[hit]).sum(1, keepdims=True))
    light = AMBIENT + DIFFUSE * np.clip(shade_normal @ LIGHT, 0, None)
    image = np.tile(np.array(BACKGROUND, np.float32), (fine * fine, 1))
    image[hit] = surface.colors(face[hit], weights) * light[:, None]
    image = image.reshape(fine, fine, 3)
    color = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    depth = np.zeros(fine * fine)
    depth[hit] = z
    # The mean of a pixel's rays, if all of them hit about the same depth.
    cells = depth.reshape(SIZE, SAMPLES, SIZE, SAMPLES).swapaxes(1, 2).reshape(SIZE, SIZE, -1)
    hits = np.count_nonzero(cells, axis=2)
    mask = hits >= cells.shape[2] / 2
    solid = (hits == cells.shape[2]) & (np.ptp(cells, axis=2) < 0.01 * cells.max(2).clip(1e-9))
    out = np.where(solid, cells.mean(2), 0)
    return Picture(color.round().clip(0, 255).astype(np.uint8), out, mask)


def write_scene(
    folder: Path, object_id: int, views: list[tuple[NDArray[np.float64], Picture]]
) -> None:
    """One BOP scene that shows one object."""
    for name in ('rgb', 'depth', 'mask_visib'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    center = (SIZE - 1) / 2
    K = [FOCAL, 0, center, 0, FOCAL, center, 0, 0, 1]
    cameras, truths, infos = {}, {}, {}
    for i, (T, picture) in enumerate(views):
        stored = (picture.depth / DEPTH_UNIT_MM).round().astype(np.uint16)
        mask = picture.mask.astype(np.uint8) * 255
        cv2.imwrite(str(folder / 'rgb' / f'{i:06d}.png'), picture.color[..., ::-1])
        cv2.imwrite(str(folder / 'depth' / f'{i:06d}.png'), stored)
        cv2.imwrite(str(folder / 'mask_visib' / f'{i:06d}_000000.png'), mask)
        pixels = int(picture.mask.sum())
        cameras[str(i)] = {'cam_K': K, 'depth_scale': DEPTH_UNIT_MM}
        pose = {'cam_R_m2c': T[:3, :3].ravel().tolist(), 'cam_t_m2c': T[:3, 3].tolist()}
        truths[str(i)] = [{**pose, 'obj_id': object_id}]
        infos[str(i)] = [{'px_count_all': pixels, 'px_count_visib': pixels, 'visib_fract': 1.0}]
    for name, content in (('camera', cameras), ('gt', truths), ('gt_info', infos)):
        (folder / f'scene_{name}.json').write_text(json.dumps(content, indent=1))


if __name__ == '__main__':
    main()
