"""A furnished room, ray cast: RGB-D sequences in the TUM layout with exact depth and poses.

`python benchmarks/rendered_room.py --out DIR [--noise]`; nothing in it shares code with a splat
renderer. The noise is that of a structured-light camera (Nguyen et al. 2012): it grows with the
square of the distance, depth is quantised by disparity, and edges and grazing surfaces have holes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

CAMERA = Camera(518.0, 518.0, 319.5, 239.5, 640, 480)
Array = NDArray[np.float64]

ROOM = (np.array([-2.6, -2.2, 0.0]), np.array([2.6, 2.2, 2.5]))  # m, z up
# Middle of the foot, size, turn about z (degrees).
BOXES = (
    ((1.9, 1.3, 0.0), (1.2, 0.7, 0.75), 0), ((1.7, 1.45, 0.75), (0.35, 0.25, 0.3), 25),
    ((2.15, 1.3, 0.75), (0.2, 0.3, 0.45), -15), ((-2.2, 1.4, 0.0), (0.6, 1.2, 1.9), 0),
    ((-1.6, -1.7, 0.0), (1.5, 0.6, 0.45), 0), ((-1.6, -1.95, 0.45), (1.5, 0.2, 0.4), 0),
    ((0.3, -1.9, 0.0), (0.8, 0.4, 1.2), 0), ((0.25, 1.9, 0.0), (0.5, 0.5, 0.5), 40),
    ((2.3, -1.2, 0.0), (0.5, 1.4, 0.9), 0), ((2.25, -1.4, 0.9), (0.25, 0.25, 0.35), 30),
    ((2.3, -0.9, 0.9), (0.15, 0.3, 0.2), 70), ((0.35, -1.85, 1.2), (0.3, 0.2, 0.25), 12),
    ((-0.6, 2.05, 1.1), (0.7, 0.25, 0.05), 0), ((-0.75, 2.05, 1.15), (0.08, 0.18, 0.28), 0),
    ((-0.5, 2.05, 1.15), (0.2, 0.15, 0.18), 20),
)  # fmt: skip
SPHERES = (((1.5, 1.2, 0.87), 0.12), ((-1.1, -1.6, 0.6), 0.15), ((0.3, 1.85, 0.66), 0.16),
           ((2.3, -1.7, 1.05), 0.15), ((-2.1, 1.0, 2.05), 0.15))  # fmt: skip


def _hash(i: NDArray[np.int64]) -> Array:
    """A number in [0, 1) for each lattice point [N, 3]."""
    x = (i[:, 0] * 73856093) ^ (i[:, 1] * 19349663) ^ (i[:, 2] * 83492791)
    x = (x ^ (x >> 13)) * 1274126177
    return ((x ^ (x >> 16)) & 0xFFFF) / 65536.0


def _noise(p: Array) -> Array:
    """Smooth noise in [0, 1) at points [N, 3]."""
    low = np.floor(p).astype(np.int64)
    f = p - low
    f = f * f * (3 - 2 * f)
    out = np.zeros(len(p))
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(np.array(corner) == 1, f, 1 - f).prod(1)
        out += weight * _hash(low + corner)
    return out


def _texture(points: Array, thing: NDArray[np.int64]) -> Array:
    """Colours [N, 3] of points on the things they belong to."""
    tint = np.stack([_hash(np.stack([thing + 7, thing * 3, thing + k], 1)) for k in (1, 2, 3)], 1)
    shift = 10.0 * tint.sum(1)[:, None]
    pattern = np.zeros(len(points))
    for scale, share in ((6.0, 0.45), (23.0, 0.35), (70.0, 0.2)):
        pattern += share * _noise(points * scale + shift)
    # No wall lies on the border of two checks, where rounding would choose.
    checks = ((np.floor(points * 5.0 + 0.3).sum(1) % 2) - 0.5) * (thing < 6)
    return np.clip((0.25 + 0.5 * tint) * (0.5 + pattern)[:, None] + 0.06 * checks[:, None], 0, 1)


def cast(camera: Camera, T_world_cam: Array) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colour [H, W, 3] and exact depth [H, W] (m)."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.back_project(np.stack([u, v], -1).reshape(-1, 2), np.ones(u.size))
    d, o = rays @ T_world_cam[:3, :3].T, T_world_cam[:3, 3]
    best = np.full(len(d), np.inf)
    thing = np.zeros(len(d), np.int64)
    with np.errstate(divide='ignore', invalid='ignore'):
        for axis in range(3):  # the walls, from inside
            for side, bound in enumerate((ROOM[0][axis], ROOM[1][axis])):
                t = (bound - o[axis]) / d[:, axis]
                hit = (t > 1e-6) & (t < best)
                at = o + t[:, None] * d
                inside = ((at > ROOM[0] - 1e-9) & (at < ROOM[1] + 1e-9)) | (np.arange(3) == axis)
                hit &= inside.all(1)
                best[hit], thing[hit] = t[hit], 2 * axis + side
        for k, (foot, size, turn) in enumerate(BOXES):
            R = se3.exp([0, 0, 0, 0, 0, np.radians(turn)])[:3, :3]
            half = 0.5 * np.array(size)
            middle = np.add(foot, [0, 0, half[2]])
            local_o, local_d = R.T @ (o - middle), d @ R
            near, far = (-half - local_o) / local_d, (half - local_o) / local_d
            enter, leave = np.minimum(near, far).max(1), np.maximum(near, far).min(1)
            hit = (enter < leave) & (enter > 1e-6) & (enter < best)
            best[hit], thing[hit] = enter[hit], 6 + k
        for k, (middle, radius) in enumerate(SPHERES):
            offset = o - np.array(middle)
            a, b, c = (d * d).sum(1), d @ offset, offset @ offset - radius**2
            t = (-b - np.sqrt(b * b - a * c)) / a
            hit = (t > 1e-6) & (t < best)
            best[hit], thing[hit] = t[hit], 6 + len(BOXES) + k
    color = _texture(o + best[:, None] * d, thing)
    shape = camera.shape
    return (
        (255 * color).round().astype(np.uint8).reshape(*shape, 3),
        best.reshape(shape).astype(np.float32),
    )


def sensor(
    depth: NDArray[np.float32], camera: Camera, rng: np.random.Generator
) -> NDArray[np.float32]:
    """What a structured-light camera makes of an exact depth image; 0 where it sees nothing."""
    z = depth.astype(np.float64)
    v, u = np.mgrid[: camera.height, : camera.width].astype(np.float32)
    shift = rng.normal(0, 0.4, (2, *camera.shape)).astype(np.float32)  # of the pattern, px
    z = cv2.remap(depth, u + shift[0], v + shift[1], cv2.INTER_NEAREST).astype(np.float64)
    z += rng.normal(size=z.shape) * (0.0012 + 0.0019 * (z - 0.4) ** 2)
    disparity = np.round(8 * 0.075 * camera.fx / z) / 8  # an eighth of a pixel, baseline 7.5 cm
    z = 0.075 * camera.fx / disparity
    points = camera.point_map(depth).astype(np.float64)
    across, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normal = np.cross(across, down)
    slant = np.abs((normal * points).sum(-1))
    slant /= np.maximum(np.linalg.norm(normal, axis=-1) * np.linalg.norm(points, axis=-1), 1e-12)
    lost = rng.uniform(size=z.shape) < np.clip(1.2 - 6 * slant, 0.005, 1)
    z[lost | (z > 7)] = 0
    return z.astype(np.float32)


def look(eye: Array, at: Array) -> Array:
    """T_world_cam of a camera at `eye` that looks at `at`, z of the world up."""
    forward = (at - eye) / np.linalg.norm(at - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    return se3.from_rotation_translation(
        np.stack([right, np.cross(forward, right), forward], 1), eye
    )


def trajectory(count: int, fps: float, phase: float = 0.0) -> list[Array]:
    """Poses T_world_cam of a hand that moves the camera once round the room in 40 s."""
    poses = []
    for i in range(count):
        t = i / fps + phase
        turn = 2 * np.pi * t / 40
        eye = np.array(
            [
                0.7 * np.cos(turn + 2.5) + 0.1 * np.sin(0.9 * t),
                0.6 * np.sin(turn + 2.5) + 0.08 * np.cos(1.1 * t),
                1.35 + 0.15 * np.sin(0.7 * t),
            ]
        )
        at = np.array(
            [
                2.4 * np.cos(turn) + 0.2 * np.sin(1.3 * t),
                2.0 * np.sin(turn) + 0.2 * np.sin(0.8 * t),
                0.8 + 0.25 * np.sin(0.5 * t),
            ]
        )
        roll = se3.exp([0, 0, 0, 0, 0, 0.06 * np.sin(0.6 * t)])
        poses.append(look(eye, at) @ roll)
    return poses


@dataclass(frozen=True)
class RenderedRoom:
    """Write a sequence as rgb/, depth/ (16 bit, 0.1 mm), rgb.txt, depth.txt, groundtruth.txt."""

    out: Path
    """Folder, made if need be."""
    frames: int = 120
    """How many."""
    fps: float = 30.0
    """A second."""
    phase: float = 0.0
    """Seconds after the start of the tour."""
    noise: bool = False
    """Add what a sensor adds."""
    seed: int = 0
    """Of the noise."""

    def run(self) -> None:
        """Cast and write."""
        rng = np.random.default_rng(self.seed)
        for name in ('rgb', 'depth'):
            (self.out / name).mkdir(parents=True, exist_ok=True)
        lists: dict[str, list[str]] = {'rgb': [], 'depth': [], 'groundtruth': []}
        for i, T in enumerate(trajectory(self.frames, self.fps, self.phase)):
            stamp = f'{i / self.fps:.6f}'
            color, depth = cast(CAMERA, T)
            if self.noise:
                depth = sensor(depth, CAMERA, rng)
            cv2.imwrite(str(self.out / f'rgb/{i:06d}.png'), color[..., ::-1])
            cv2.imwrite(
                str(self.out / f'depth/{i:06d}.png'), (depth * 1e4).round().astype(np.uint16)
            )
            lists['rgb'].append(f'{stamp} rgb/{i:06d}.png')
            lists['depth'].append(f'{stamp} depth/{i:06d}.png')
            w, x, y, z = se3.mat_to_quat(T[:3, :3])
            values = ' '.join(f'{k:.9f}' for k in (*T[:3, 3], x, y, z, w))
            lists['groundtruth'].append(f'{stamp} {values}')
        for name, lines in lists.items():
            (self.out / f'{name}.txt').write_text('\n'.join(lines) + '\n')
        c = CAMERA
        (self.out / 'intrinsics.txt').write_text(
            '# fx fy cx cy width height depth_units_per_metre\n'
            f'{c.fx} {c.fy} {c.cx} {c.cy} {c.width} {c.height} 10000\n'
        )


if __name__ == '__main__':
    tyro.cli(RenderedRoom).run()
