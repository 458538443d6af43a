"""Render the demo's data with Blender's Cycles: reference views and an RGB-D bag, with truth.

    pip install bpy 'numpy<2' opencv-python-headless pillow rosbags trimesh   # Python 3.11
    python benchmarks/make_demo_bag.py --out examples/demo --work /tmp/demo_render

Writes DIR/train/<object> (BOP: pictures, depth, masks, poses), DIR/demo.mcap (rosbag2: colour,
depth, camera info, the camera's motion on /tf), DIR/test/000001 (the bag's truth in BOP files)
and DIR/models. `--work` keeps every render, so a second run only writes the files anew.

Nothing here shares code with the splat renderer, so the demo is not its own proof.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import demo_models
import mathutils
import numpy as np
from demo_scene import (
    EVENING,
    HEIGHT,
    SOFT,
    WIDTH,
    View,
    look_at,
    new_scene,
    passes,
    place,
    shoot,
    surface,
)
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

SEQUENCE_FRAMES, SEQUENCE_HZ = 60, 10
START_NS = 1_760_000_000_000_000_000
CAMERA_FRAME = 'camera_color_optical_frame'
# fx = fy, cx, cy; pixel centres at integers. The two cameras differ, as they do in practice.
REFERENCE_K = (362.0, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
SEQUENCE_K = (348.0, 203.2, 146.1)


# --- the two recordings ------------------------------------------------------------------------


def reference_views(obj_id: int, count: int, samples: int, work: Path) -> list[View]:
    """Half of the views with the object standing, half with it turned over; upper hemisphere."""
    views = []
    for half in range(2):
        camera = new_scene(SOFT, REFERENCE_K, samples)
        obj = demo_models.OBJECTS[obj_id](work)
        obj.pass_index = obj_id
        place(obj, 0, 0, 0.4 * half, turned_over=half == 1)
        read = passes(work)
        corners = np.array([obj.matrix_world @ mathutils.Vector(c) for c in obj.bound_box])
        center = corners.mean(0)
        radius = np.linalg.norm(corners - center, axis=1).max()
        distance = REFERENCE_K[0] * 2 * radius / (0.72 * HEIGHT)
        n = count // 2
        for k in range(n):  # a spiral from the table upwards
            elevation = math.asin(0.14 + 0.82 * (k + 0.5) / n)
            azimuth = k * 2.39996 + half
            c = math.cos(elevation)
            direction = [c * math.cos(azimuth), c * math.sin(azimuth), math.sin(elevation)]
            eye = center + distance * np.array(direction)
            T_world_cam = look_at(eye, center, 0.1 * math.sin(3 * k))
            views.append(shoot(camera, T_world_cam, {obj_id: obj}, read, work))
    return views


def sequence_views(samples: int, work: Path, keep: Callable[[int, View], None]) -> None:
    """A camera moves over the table with the three objects and two others."""
    camera = new_scene(EVENING, SEQUENCE_K, samples)
    ours = {}
    spots = {1: (0.075, 0.06, 0.5), 2: (-0.085, 0.055, -0.9), 3: (0.0, -0.075, 0.35)}
    for obj_id, make in demo_models.OBJECTS.items():
        ours[obj_id] = make(work)
        ours[obj_id].pass_index = obj_id
        place(ours[obj_id], *spots[obj_id])
    for make, spot in zip(
        demo_models.DISTRACTORS, ((0.16, -0.10, 0.3), (-0.04, 0.21, 1.2)), strict=True
    ):
        place(make(work), *spot)
    read = passes(work)
    for k in range(SEQUENCE_FRAMES):
        s = k / (SEQUENCE_FRAMES - 1)
        azimuth = math.radians(-125 + 95 * s + 3 * math.sin(9 * s))
        elevation = math.radians(34 + 16 * math.sin(math.pi * s))
        distance = 0.45 - 0.04 * math.sin(math.pi * s) + 0.05 * s
        c = math.cos(elevation)
        direction = [c * math.cos(azimuth), c * math.sin(azimuth), math.sin(elevation)]
        target = np.array([0.015 * math.sin(7 * s), 0.015 * math.cos(5 * s), 0.03])
        eye = target + distance * np.array(direction)
        T_world_cam = look_at(eye, target, 0.06 * math.sin(8 * s))
        keep(k, shoot(camera, T_world_cam, ours, read, work))


# --- what a sensor makes of it -----------------------------------------------------------------


def sensor_depth(depth: NDArray, K: tuple, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Depth in mm with a stereo sensor's errors; 0 = invalid.

    Noise grows with z^2 (Khoshelham & Elberink 2012) and is correlated over neighbours, as from
    block matching; holes at depth edges and at grazing angles; 1 mm steps.
    """
    noise = cv2.GaussianBlur(rng.normal(size=depth.shape), (0, 0), 0.9)
    noisy = depth + noise / noise.std() * 0.0022 * depth**2
    spread = cv2.dilate(depth, np.ones((3, 3))) - cv2.erode(depth, np.ones((3, 3)))
    edge = cv2.dilate((spread > 0.02).astype(np.uint8), np.ones((2, 2))) > 0
    v, u = np.indices(depth.shape)
    points = np.stack([(u - K[1]) / K[0] * depth, (v - K[2]) / K[0] * depth, depth], -1)
    normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    lengths = np.linalg.norm(normal, axis=-1) * np.linalg.norm(points, axis=-1)
    facing = np.abs((normal * points).sum(-1)) / np.maximum(lengths, 1e-12)
    patchy = cv2.GaussianBlur(rng.random(depth.shape), (0, 0), 1.0)
    holes = (edge & (patchy > 0.46)) | (facing < 0.1) | (rng.random(depth.shape) < 0.002)
    return np.where(holes | (depth <= 0), 0, np.rint(noisy * 1000)).astype(np.uint16)


def sensor_color(color: NDArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    """RGB with a little noise."""
    noisy = color + rng.normal(size=color.shape) * 1.2
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def jpeg(rgb: NDArray, quality: int) -> NDArray[np.uint8]:
    """JPEG file as bytes [N]."""
    return cv2.imencode('.jpg', rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].ravel()


def png(image: NDArray, *flags: int) -> NDArray[np.uint8]:
    """PNG file as bytes [N]."""
    return cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 9, *flags])[1].ravel()


def stamp_ns(frame: int) -> int:
    """When a frame of the sequence was taken."""
    return START_NS + frame * 1_000_000_000 // SEQUENCE_HZ


# --- files -------------------------------------------------------------------------------------


def write_bop(folder: Path, views: Sequence[View], K: tuple, images: bool) -> None:
    """A BOP scene: truth and visible masks, with pictures and depth if `images`."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(5)
    cam_K = [K[0], 0, K[1], 0, K[0], K[2], 0, 0, 1]
    cameras, truths, facts = {}, {}, {}
    for k, view in enumerate(views):
        T_cam_world = np.linalg.inv(view.T_world_cam)
        cameras[str(k)] = {
            'cam_K': cam_K,
            'depth_scale': 1.0,
            'cam_R_w2c': T_cam_world[:3, :3].ravel().tolist(),
            'cam_t_w2c': (T_cam_world[:3, 3] * 1000).tolist(),
        }
        if not images:  # our addition to BOP: which recorded image this is
            cameras[str(k)]['stamp_ns'] = stamp_ns(k)
        truths[str(k)], facts[str(k)] = [], []
        if images:
            save(folder / 'rgb' / f'{k:06d}.jpg', jpeg(sensor_color(view.color, rng), 90))
            save(folder / 'depth' / f'{k:06d}.png', png(sensor_depth(view.depth, K, rng)))
        for j, (obj_id, T_world_obj) in enumerate(view.T_world_obj.items()):
            T_cam_obj = T_cam_world @ T_world_obj
            seen, full = view.visible == obj_id, view.full[obj_id]
            mask = png(seen.astype(np.uint8) * 255, cv2.IMWRITE_PNG_BILEVEL, 1)
            save(folder / 'mask_visib' / f'{k:06d}_{j:06d}.png', mask)
            truths[str(k)].append(
                {
                    'obj_id': obj_id,
                    'cam_R_m2c': T_cam_obj[:3, :3].ravel().tolist(),
                    'cam_t_m2c': (T_cam_obj[:3, 3] * 1000).tolist(),
                }
            )
            facts[str(k)].append(
                {
                    'bbox_obj': box(full),
                    'bbox_visib': box(seen),
                    'px_count_all': int(full.sum()),
                    'px_count_valid': int(full.sum()),
                    'px_count_visib': int(seen.sum()),
                    'visib_fract': float(seen.sum() / max(full.sum(), 1)),
                }
            )
    named = {'scene_camera': cameras, 'scene_gt': truths, 'scene_gt_info': facts}
    for name, content in named.items():
        (folder / f'{name}.json').write_text(json.dumps(content, indent=0))


def save(path: Path, data: NDArray[np.uint8]) -> None:
    """Write bytes, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def box(mask: NDArray) -> list[int]:
    """x, y, width, height of a mask, as BOP writes it."""
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        return [-1, -1, -1, -1]
    return [int(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)]


def write_models(folder: Path, work: Path) -> None:
    """Meshes in mm and models_info.json."""
    folder.mkdir(parents=True, exist_ok=True)
    info = {}
    for obj_id, make in demo_models.OBJECTS.items():
        new_scene(SOFT, REFERENCE_K, 1)
        mesh = surface(make(work))
        mesh.export(folder / f'obj_{obj_id:06d}.ply', vertex_normal=False)
        hull = mesh.convex_hull.vertices
        low, size = mesh.bounds[0], mesh.extents
        info[str(obj_id)] = {
            'name': make.__name__,
            'diameter': float(np.linalg.norm(hull[:, None] - hull[None], axis=-1).max()),
            **{f'min_{a}': float(v) for a, v in zip('xyz', low, strict=True)},
            **{f'size_{a}': float(v) for a, v in zip('xyz', size, strict=True)},
        }
    (folder / 'models_info.json').write_text(json.dumps(info, indent=1))


def write_bag(folder: Path, views: Sequence[View], K: tuple) -> None:
    """A rosbag2 in MCAP: compressed colour and depth, camera info, the camera's pose on /tf."""
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(7)
    store = get_typestore(Stores.ROS2_KILTED)
    types = store.types
    Header, Time = types['std_msgs/msg/Header'], types['builtin_interfaces/msg/Time']
    Image, Info = types['sensor_msgs/msg/CompressedImage'], types['sensor_msgs/msg/CameraInfo']
    matrix = np.array([K[0], 0, K[1], 0, K[0], K[2], 0, 0, 1.0])
    projection = np.array([K[0], 0, K[1], 0, 0, K[0], K[2], 0, 0, 0, 1.0, 0])
    topics = {
        'color': ('/camera/color/image_raw/compressed', Image.__msgtype__),
        'info': ('/camera/color/camera_info', Info.__msgtype__),
        'depth': ('/camera/depth/image_raw/compressed', Image.__msgtype__),
        'tf': ('/tf', 'tf2_msgs/msg/TFMessage'),
    }
    roi = types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        lines = {k: bag.add_connection(*topic, typestore=store) for k, topic in topics.items()}
        for k, view in enumerate(views):
            stamp = stamp_ns(k)
            now = Time(stamp // 10**9, stamp % 10**9)
            header = Header(now, CAMERA_FRAME)
            color = jpeg(sensor_color(view.color, rng), 88)
            depth = png(sensor_depth(view.depth, K, rng))
            messages = {
                'tf': camera_motion(types, Header(now, 'world'), view.T_world_cam),
                'info': Info(
                    header, HEIGHT, WIDTH, 'plumb_bob', np.zeros(5), matrix,
                    np.eye(3).ravel(), projection, 0, 0, roi,
                ),
                'color': Image(header, 'rgb8; jpeg compressed bgr8', color),
                'depth': Image(header, '16UC1; png compressed ', depth),
            }  # fmt: skip
            for name, message in messages.items():
                raw = store.serialize_cdr(message, topics[name][1])
                bag.write(lines[name], stamp, raw)


def camera_motion(types: dict, header, T_world_cam: NDArray):
    """T_world_cam as a tf2_msgs/TFMessage."""
    w, x, y, z = mathutils.Matrix(T_world_cam.tolist()).to_quaternion()
    transform = types['geometry_msgs/msg/Transform'](
        types['geometry_msgs/msg/Vector3'](*(float(v) for v in T_world_cam[:3, 3])),
        types['geometry_msgs/msg/Quaternion'](x, y, z, w),
    )
    stamped = types['geometry_msgs/msg/TransformStamped'](header, CAMERA_FRAME, transform)
    return types['tf2_msgs/msg/TFMessage']([stamped])


def store_view(path: Path, view: View) -> None:
    """Keep a render."""
    ids = np.array(list(view.T_world_obj), np.uint8)
    np.savez_compressed(
        path,
        color=view.color,
        depth=view.depth,
        visible=view.visible,
        full=np.stack([view.full[int(i)] for i in ids]),
        T_world_cam=view.T_world_cam,
        ids=ids,
        T_world_obj=np.stack([view.T_world_obj[int(i)] for i in ids]),
    )


def load_view(path: Path) -> View:
    """Inverse of `store_view`."""
    with np.load(path, allow_pickle=False) as z:
        ids = [int(i) for i in z['ids']]
        full = dict(zip(ids, z['full'], strict=True))
        poses = dict(zip(ids, z['T_world_obj'], strict=True))
        return View(z['color'], z['depth'], z['visible'], full, z['T_world_cam'], poses)


def main() -> None:
    """Render what `--work` does not hold yet, then write all files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--work', type=Path, required=True)
    parser.add_argument('--views', type=int, default=28, help='reference views of each object')
    parser.add_argument('--samples', type=int, default=16)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for obj_id in demo_models.OBJECTS:
        if not (args.work / f'ref_{obj_id}_{args.views - 1:03d}.npz').exists():
            for k, view in enumerate(reference_views(obj_id, args.views, args.samples, args.work)):
                store_view(args.work / f'ref_{obj_id}_{k:03d}.npz', view)
        print(f'references of object {obj_id}: {time.monotonic() - began:.0f} s', flush=True)
    if not (args.work / f'seq_{SEQUENCE_FRAMES - 1:03d}.npz').exists():
        sequence_views(
            args.samples, args.work, lambda k, v: store_view(args.work / f'seq_{k:03d}.npz', v)
        )
    print(f'sequence: {time.monotonic() - began:.0f} s', flush=True)
    write_models(args.out / 'models', args.work)
    for obj_id in demo_models.OBJECTS:
        views = [load_view(p) for p in sorted(args.work.glob(f'ref_{obj_id}_*.npz'))]
        write_bop(args.out / 'train' / f'{obj_id:06d}', views, REFERENCE_K, images=True)
    views = [load_view(p) for p in sorted(args.work.glob('seq_*.npz'))]
    write_bop(args.out / 'test' / '000001', views, SEQUENCE_K, images=False)
    write_bag(args.out / 'bag', views, SEQUENCE_K)


if __name__ == '__main__':
    main()
