"""The scenes of the demo in Blender: light, table and camera, and pictures with exact geometry.

Runs in the environment of `make_demo_bag.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy
import cv2
import mathutils
import numpy as np
import trimesh
from numpy.typing import NDArray

WIDTH, HEIGHT = 400, 300


@dataclass(frozen=True)
class Light:
    """The light and the table of one scene."""

    ambient: float
    ambient_color: tuple[float, float, float]
    lamps: tuple[tuple[tuple[float, float, float], float, float], ...]  # position, power, size
    lamp_color: tuple[float, float, float]
    table: tuple[tuple[float, float, float], tuple[float, float, float]]


SOFT = Light(
    ambient=0.55,
    ambient_color=(0.95, 0.97, 1.0),
    lamps=(
        ((0.7, 0.5, 1.1), 6.5, 0.7),
        ((-0.8, 0.3, 1.0), 5.0, 0.8),
        ((0.1, -0.9, 1.2), 4.5, 0.6),
    ),
    lamp_color=(1.0, 0.98, 0.94),
    table=((0.42, 0.44, 0.45), (0.50, 0.52, 0.53)),
)
EVENING = Light(
    ambient=0.30,
    ambient_color=(0.85, 0.92, 1.0),
    lamps=(((-0.9, -0.5, 1.0), 17.0, 0.35), ((0.6, 0.9, 1.3), 5.0, 0.5)),
    lamp_color=(1.0, 0.86, 0.70),
    table=((0.28, 0.15, 0.07), (0.44, 0.27, 0.13)),
)


@dataclass(frozen=True)
class View:
    """One rendered picture and all that is known about it."""

    color: NDArray[np.uint8]  # [H, W, 3] RGB
    depth: NDArray[np.float32]  # [H, W] m, exact, 0 = nothing
    visible: NDArray[np.uint8]  # [H, W] BOP object id seen at the pixel, 0 = none of ours
    full: dict[int, NDArray[np.bool_]]  # BOP id -> [H, W] as if nothing were in front
    T_world_cam: NDArray[np.float64]
    T_world_obj: dict[int, NDArray[np.float64]]


def new_scene(light: Light, K: tuple[float, float, float], samples: int):
    """An empty scene with table, light and camera; returns the camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = 'CYCLES'
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.view_settings.view_transform = 'Standard'
    scene.render.use_persistent_data = True
    scene.cycles.device, scene.cycles.max_bounces = 'CPU', 4
    scene.cycles.samples = samples
    scene.view_layers[0].use_pass_z = True
    scene.view_layers[0].use_pass_object_index = True
    world = bpy.data.worlds.new('world')
    scene.world, world.use_nodes = world, True
    background = next(n for n in world.node_tree.nodes if n.type == 'BACKGROUND')
    background.inputs['Color'].default_value = (*light.ambient_color, 1)
    background.inputs['Strength'].default_value = light.ambient
    for position, power, size in light.lamps:
        lamp = bpy.data.lights.new('lamp', 'AREA')
        lamp.energy, lamp.size, lamp.color = power, size, light.lamp_color
        holder = bpy.data.objects.new('lamp', lamp)
        holder.location = position
        aim = -mathutils.Vector(position)
        holder.rotation_euler = aim.to_track_quat('-Z', 'Y').to_euler()
        scene.collection.objects.link(holder)
    add_table(light)
    camera = bpy.data.objects.new('camera', bpy.data.cameras.new('camera'))
    scene.collection.objects.link(camera)
    scene.camera = camera
    focal, cx, cy = K
    camera.data.sensor_fit = 'HORIZONTAL'
    camera.data.angle_x = 2 * math.atan(WIDTH / (2 * focal))
    # Blender shifts in image widths; its image spans [0, W] where ours spans [-0.5, W - 0.5].
    camera.data.shift_x = ((WIDTH - 1) / 2 - cx) / WIDTH
    camera.data.shift_y = (cy - (HEIGHT - 1) / 2) / WIDTH
    return camera


def add_table(light: Light) -> None:
    """A plane at z = 0 with a wood-like grain between two colours."""
    bpy.ops.mesh.primitive_plane_add(size=4)
    mat = bpy.data.materials.new('table')
    mat.use_nodes = True
    nodes, links = mat.node_tree.nodes, mat.node_tree.links
    shader = next(n for n in nodes if n.type == 'BSDF_PRINCIPLED')
    shader.inputs['Roughness'].default_value = 0.6
    position = nodes.new('ShaderNodeTexCoord')
    stretch = nodes.new('ShaderNodeMapping')
    stretch.inputs['Scale'].default_value = (3.0, 28.0, 1.0)
    grain = nodes.new('ShaderNodeTexNoise')
    grain.inputs['Scale'].default_value, grain.inputs['Detail'].default_value = 2.0, 6.0
    ramp = nodes.new('ShaderNodeValToRGB')
    for element, color in zip(ramp.color_ramp.elements, light.table, strict=True):
        element.color = (*color, 1)
    ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.35, 0.65
    links.new(position.outputs['Object'], stretch.inputs['Vector'])
    links.new(stretch.outputs['Vector'], grain.inputs['Vector'])
    links.new(grain.outputs[0], ramp.inputs['Fac'])
    links.new(ramp.outputs['Color'], shader.inputs['Base Color'])
    bpy.context.object.data.materials.append(mat)


def look_at(eye: NDArray, target: NDArray, roll: float = 0.0) -> NDArray[np.float64]:
    """T_world_cam of an optical frame (x right, y down, z forward) at `eye`."""
    turn = (mathutils.Vector(target) - mathutils.Vector(eye)).to_track_quat('-Z', 'Y')
    T = mathutils.Matrix.Translation(eye) @ turn.to_matrix().to_4x4()
    T = T @ mathutils.Matrix.Rotation(roll, 4, 'Z')
    return np.array(T) @ np.diag([1.0, -1, -1, 1])  # Blender's camera: x right, y up, z back


def passes(work: Path) -> Callable[[], tuple[NDArray, NDArray]]:
    """Set the compositor to write depth and object index; returns their reader [H, W]."""
    scene = bpy.context.scene
    scene.use_nodes = True
    tree = scene.node_tree
    tree.nodes.clear()
    layers = tree.nodes.new('CompositorNodeRLayers')
    files = tree.nodes.new('CompositorNodeOutputFile')
    files.base_path = str(work)
    files.format.file_format, files.format.color_depth = 'OPEN_EXR', '32'
    files.file_slots.clear()
    for slot, output in (('depth', 'Depth'), ('index', 'IndexOB')):
        files.file_slots.new(slot)
        links = tree.links
        links.new(layers.outputs[output], files.inputs[slot])

    def read(slot: str) -> NDArray:
        image = bpy.data.images.load(str(work / f'{slot}{scene.frame_current:04d}.exr'))
        pixels = np.empty(WIDTH * HEIGHT * image.channels, np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
        return pixels.reshape(HEIGHT, WIDTH, -1)[::-1, :, 0].copy()

    return lambda: (read('depth'), read('index'))


def render_color(work: Path) -> NDArray[np.uint8]:
    """The picture with all light [H, W, 3] RGB."""
    scene = bpy.context.scene
    scene.use_nodes = False
    scene.cycles.use_denoising = True
    scene.cycles.pixel_filter_type, scene.cycles.filter_width = 'BLACKMAN_HARRIS', 1.3
    scene.render.image_settings.file_format = 'PNG'
    scene.render.filepath = str(work / 'color.png')
    bpy.ops.render.render(write_still=True)
    return cv2.imread(scene.render.filepath)[:, :, ::-1].copy()


def render_geometry(read: Callable) -> tuple[NDArray, NDArray]:
    """Exact depth [H, W] m (0 = nothing) and object index [H, W], one ray a pixel centre."""
    scene = bpy.context.scene
    before = scene.cycles.samples, scene.cycles.max_bounces
    scene.use_nodes = True
    scene.cycles.samples, scene.cycles.max_bounces, scene.cycles.use_denoising = 1, 0, False
    scene.cycles.filter_width = 0.01  # else the one ray is somewhere in the pixel
    bpy.ops.render.render()
    scene.cycles.samples, scene.cycles.max_bounces = before
    depth, index = read()
    return np.where(depth < 10, depth, 0), np.rint(index).astype(np.uint8)


def shoot(
    camera, T_world_cam: NDArray, ours: dict[int, object], read: Callable, work: Path
) -> View:
    """Render one view; `ours` maps BOP ids to Blender objects (their pass_index is the id)."""
    camera.matrix_world = mathutils.Matrix((T_world_cam @ np.diag([1.0, -1, -1, 1])).tolist())
    color = render_color(work)
    depth, index = render_geometry(read)
    full = {}
    shown = [o for o in bpy.context.scene.objects if o.type == 'MESH']
    for obj_id, obj in ours.items():
        if len(shown) <= 2:  # the table and the object: nothing can be in front
            full[obj_id] = index == obj_id
            continue
        for other in shown:
            other.hide_render = other is not obj
        full[obj_id] = render_geometry(read)[1] == obj_id
    for other in shown:
        other.hide_render = False
    poses = {k: np.array(o.matrix_world) for k, o in ours.items()}
    return View(color, depth.astype(np.float32), index, full, T_world_cam, poses)


def place(obj, x: float, y: float, yaw: float, turned_over: bool = False) -> None:
    """Stand the object on the table at (x, y)."""
    T = mathutils.Matrix.Rotation(yaw, 4, 'Z')
    if turned_over:
        T = T @ mathutils.Matrix.Rotation(math.pi, 4, 'X')
    lowest = min((T @ mathutils.Vector(v.co)).z for v in solid(obj).vertices)
    obj.matrix_world = mathutils.Matrix.Translation((x, y, -lowest)) @ T
    bpy.context.view_layer.update()


def solid(obj):
    """The mesh with its modifiers applied, in the object's frame."""
    return bpy.data.meshes.new_from_object(
        obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    )


def surface(obj, largest_edge_mm: float = 15.0) -> trimesh.Trimesh:
    """The object's surface in mm, its vertices spread evenly enough for ADD."""
    mesh = solid(obj)
    mesh.calc_loop_triangles()
    points = np.array([v.co for v in mesh.vertices]) * 1000
    faces = np.array([t.vertices for t in mesh.loop_triangles])
    points, faces = trimesh.remesh.subdivide_to_size(points, faces, largest_edge_mm)
    out = trimesh.Trimesh(points, faces, process=False)
    out.merge_vertices()
    return out
