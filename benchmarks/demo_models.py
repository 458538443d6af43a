"""The objects of the demo, modelled by code: a tea carton, a mug with a handle, a toy truck.

Geometry is in metres with z up; `demo_drawings.py` makes what is printed on the surfaces. Runs in
the environment of `make_demo_bag.py` (Blender's bpy, Pillow).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np
from demo_drawings import carton_texture, font, mug_texture, sheet, truck_texture
from PIL import Image

UV = tuple[float, float]
Point = tuple[float, float, float]


@dataclass
class Mesh:
    """Faces with their own vertices' indices and texture coordinates, before Blender."""

    points: list[Point] = field(default_factory=list)
    faces: list[list[int]] = field(default_factory=list)
    uvs: list[list[UV]] = field(default_factory=list)

    def add(self, points: Sequence[Point], faces: Sequence[Sequence[int]], uvs: list) -> None:
        """Append one part; `faces` index into `points`."""
        start = len(self.points)
        self.points += points
        self.faces += [[start + i for i in face] for face in faces]
        self.uvs += uvs


def cell(column: int, row: int, columns: int, rows: int) -> tuple[float, float, float, float]:
    """u0, v0, u1, v1 of a cell of the texture, a little inside its border; row 0 is at the top."""
    margin = 0.004
    return (
        column / columns + margin,
        1 - (row + 1) / rows + margin,
        (column + 1) / columns - margin,
        1 - row / rows - margin,
    )


def quad_uv(area: tuple[float, float, float, float]) -> list[UV]:
    """Corners of a cell: bottom left, bottom right, top right, top left."""
    u0, v0, u1, v1 = area
    return [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]


def flat_uv(area: tuple[float, float, float, float], corners: int) -> list[UV]:
    """Texture coordinates of a face in one colour: all in the middle of a cell."""
    u0, v0, u1, v1 = area
    return [((u0 + u1) / 2, (v0 + v1) / 2)] * corners


def to_blender(mesh: Mesh, name: str, texture: Image.Image, work: Path, **look: float):
    """A Blender object with bevelled edges and the texture on a principled material.

    `look`: roughness, bevel (m), smooth_angle (rad).
    """
    data = bpy.data.meshes.new(name)
    data.from_pydata(mesh.points, [], mesh.faces)
    layer = data.uv_layers.new()
    flat = [uv for face in mesh.uvs for uv in face]
    layer.data.foreach_set('uv', np.asarray(flat, np.float32).ravel())
    data.validate()
    obj = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(obj)
    data.materials.append(material(name, texture, work, look.get('roughness', 0.5)))
    data.polygons.foreach_set('use_smooth', [True] * len(data.polygons))
    data.set_sharp_from_angle(angle=look.get('smooth_angle', math.radians(40)))
    if look.get('bevel', 0) > 0:
        bevel = obj.modifiers.new('bevel', 'BEVEL')
        bevel.width, bevel.segments, bevel.limit_method = look['bevel'], 2, 'ANGLE'
        bevel.angle_limit = math.radians(40)
    return obj


def material(name: str, texture: Image.Image, work: Path, roughness: float):
    """A principled material that shows the texture."""
    path = work / f'{name}.png'
    texture.save(path)
    mat = bpy.data.materials.new(name)
    mat.use_nodes = True
    nodes, links = mat.node_tree.nodes, mat.node_tree.links
    shader = next(n for n in nodes if n.type == 'BSDF_PRINCIPLED')
    shader.inputs['Roughness'].default_value = roughness
    shader.inputs['Specular IOR Level'].default_value = 0.3
    image = nodes.new('ShaderNodeTexImage')
    image.image = bpy.data.images.load(str(path))
    links.new(image.outputs['Color'], shader.inputs['Base Color'])
    return mat


# --- parts -----------------------------------------------------------------------------------


def add_box(mesh: Mesh, low: Point, high: Point, areas: Sequence) -> None:
    """A box; `areas` are the texture cells of its -x, +x, -y, +y, -z, +z side."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    sides = [  # each from its bottom left corner, seen from outside, counter-clockwise
        [(x0, y1, z0), (x0, y0, z0), (x0, y0, z1), (x0, y1, z1)],
        [(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)],
        [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)],
        [(x1, y1, z0), (x0, y1, z0), (x0, y1, z1), (x1, y1, z1)],
        [(x0, y1, z0), (x1, y1, z0), (x1, y0, z0), (x0, y0, z0)],
        [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)],
    ]
    corners = sorted({p for side in sides for p in side})
    faces = [[corners.index(p) for p in side] for side in sides]
    mesh.add(corners, faces, [quad_uv(a) for a in areas])


def add_turned(
    mesh: Mesh, profile: Sequence[tuple[float, float]], areas: Sequence, segments: int = 64
) -> None:
    """A solid of revolution about z; `profile` is (radius, z), `areas` one cell per segment.

    The direction of travel must keep the outside on the right (outer wall upwards).
    """
    angles = [2 * math.pi * k / segments for k in range(segments)]
    points = [(r * math.cos(a), r * math.sin(a), z) for r, z in profile for a in angles]
    faces, uvs = [], []
    for i, (u0, v0, u1, v1) in enumerate(areas):
        for k in range(segments):
            nxt = (k + 1) % segments
            low, high = i * segments, (i + 1) * segments
            faces.append([low + k, low + nxt, high + nxt, high + k])
            a, b = (u0 + (u1 - u0) * t / segments for t in (k, k + 1))
            uvs.append([(a, v0), (b, v0), (b, v1), (a, v1)])
    mesh.add(points, faces, uvs)


def add_tube(mesh: Mesh, path: np.ndarray, radii: tuple[float, float], area) -> None:
    """A tube along a path [N, 3] in the xz plane; `radii` across y and within the plane."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.array([0.0, 1.0, 0.0])
    normal = np.cross(side, tangent)
    ring = 2 * np.pi * np.arange(16) / 16
    points = (
        path[:, None]
        + radii[0] * np.cos(ring)[None, :, None] * side
        + radii[1] * np.sin(ring)[None, :, None] * normal[:, None]
    )
    faces = []
    for i in range(len(path) - 1):
        for k in range(16):
            n = (k + 1) % 16
            faces.append([i * 16 + k, (i + 1) * 16 + k, (i + 1) * 16 + n, i * 16 + n])
    flat = [tuple(float(x) for x in p) for p in points.reshape(-1, 3)]
    mesh.add(flat, faces, [flat_uv(area, 4) for _ in faces])


def add_wheel(mesh: Mesh, center: Point, radius: float, width: float, tread, cap) -> None:
    """A wheel about the y axis whose two sides show the cell `cap`."""
    n = 32
    x, y, z = center
    ring = [2 * math.pi * k / n for k in range(n)]
    points = [
        (x + radius * math.cos(a), y + s * width / 2, z + radius * math.sin(a))
        for s in (-1, 1)
        for a in ring
    ]
    faces = [[k, n + k, n + (k + 1) % n, (k + 1) % n] for k in range(n)]
    uvs = [flat_uv(tread, 4) for _ in faces]
    u0, v0, u1, v1 = cap
    disc = [
        ((u0 + u1) / 2 + (u1 - u0) / 2 * math.cos(a), (v0 + v1) / 2 + (v1 - v0) / 2 * math.sin(a))
        for a in ring
    ]
    faces += [list(range(n)), [n + k for k in reversed(range(n))]]
    uvs += [disc, disc[::-1]]
    mesh.add(points, faces, uvs)


def add_extruded(mesh: Mesh, outline: list, half_width: float, ends, bounds, edges) -> None:
    """A prism: `outline` (x, z), counter-clockwise as seen from -y, over y = +-`half_width`.

    The ends at -y and +y show the two cells `ends`, stretched over `bounds` (x0, z0, x1, z1);
    `edges` are the cells of the other faces, one per outline segment.
    """
    n = len(outline)
    points = [(x, y, z) for y in (-half_width, half_width) for x, z in outline]
    x0, z0, x1, z1 = bounds
    planar = [
        [
            (u0 + (u1 - u0) * (x - x0) / (x1 - x0), v0 + (v1 - v0) * (z - z0) / (z1 - z0))
            for x, z in outline
        ]
        for u0, v0, u1, v1 in ends
    ]
    faces = [list(range(n)), [n + k for k in reversed(range(n))]]
    uvs = [planar[0], planar[1][::-1]]
    for k in range(n):
        nxt = (k + 1) % n
        faces.append([k, n + k, n + nxt, nxt])
        uvs.append(quad_uv(edges[k]))
    mesh.add(points, faces, uvs)


# --- the objects -----------------------------------------------------------------------------


def tea_carton(work: Path):
    """A cardboard box, 62 x 42 x 98 mm, a different print on each side."""
    mesh = Mesh()
    front, back, left, right, bottom, top = (cell(k % 3, k // 3, 3, 2) for k in range(6))
    add_box(
        mesh, (-0.031, -0.021, 0), (0.031, 0.021, 0.098), [left, right, front, back, bottom, top]
    )
    return to_blender(mesh, 'tea_carton', carton_texture(), work, roughness=0.55, bevel=0.0012)


def mug(work: Path):
    """A mug, 96 mm high, 80 mm wide, with a handle at +x."""
    mesh = Mesh()
    band, plain = (0.0, 0.5, 1.0, 1.0), (0.05, 0.05, 0.45, 0.45)
    inside = (0.52, 0.02, 0.98, 0.20)
    profile = [(0.0005, 0.003), (0.031, 0.003), (0.033, 0.0), (0.037, 0.0), (0.040, 0.004)]
    profile += [(0.040, 0.012), (0.040, 0.092), (0.0392, 0.0952), (0.0382, 0.096)]
    profile += [
        (0.0370, 0.0952),
        (0.0364, 0.092),
        (0.0364, 0.014),
        (0.032, 0.008),
        (0.0005, 0.007),
    ]
    add_turned(mesh, profile, [inside, plain, plain, plain, plain, band] + [inside] * 7)
    t = np.linspace(-1, 1, 33) * 0.5 * math.pi
    path = np.stack([0.0385 + 0.030 * np.cos(t), 0 * t, 0.051 + 0.029 * np.sin(t)], 1)
    add_tube(mesh, path, (0.0065, 0.0045), plain)
    return to_blender(mesh, 'mug', mug_texture(), work, roughness=0.35)


def toy_truck(work: Path):
    """A toy pickup, 136 x 68 x 72 mm: open cargo bed, exhaust on one side only."""
    mesh = Mesh()
    cells = [cell(k % 4, k // 4, 4, 4) for k in range(16)]
    door_l, door_r, bed, bed_other, tailgate, grille, hood, windshield = cells[:8]
    roof, hub, floor, underside, black, gray, yellow, metal = cells[8:]
    add_box(
        mesh,
        (-0.066, -0.024, 0.010),
        (0.066, 0.024, 0.024),
        [gray, grille, gray, gray, underside, gray],
    )
    outline = [(0.006, 0.024), (0.064, 0.024), (0.064, 0.041), (0.042, 0.045), (0.031, 0.066)]
    outline += [(0.006, 0.066)]
    edges = [gray, grille, hood, windshield, roof, windshield]
    bounds = (0.004, 0.022, 0.066, 0.068)
    add_extruded(mesh, outline, 0.029, (door_l, door_r), bounds, edges)
    x0, x1, y, z0, z1, wall = -0.068, 0.003, 0.030, 0.0245, 0.046, 0.0035
    plank = [floor] * 6
    add_box(mesh, (x0, -y, z0), (x1, y, z0 + wall), [*plank[:4], gray, floor])
    add_box(mesh, (x0, -y, z0), (x1, -y + wall, z1), [yellow, yellow, bed, yellow, gray, yellow])
    add_box(
        mesh, (x0, y - wall, z0), (x1, y, z1), [yellow, yellow, yellow, bed_other, gray, yellow]
    )
    add_box(
        mesh, (x0, -y, z0), (x0 + wall, y, z1), [tailgate, floor, yellow, yellow, gray, yellow]
    )
    add_box(mesh, (x1 - wall, -y, z0), (x1, y, z1), [floor, yellow, yellow, yellow, gray, yellow])
    for x in (-0.043, 0.044):
        for side in (-1, 1):
            add_wheel(mesh, (x, side * 0.028, 0.0135), 0.0135, 0.012, black, hub)
    pipe = np.stack([np.full(9, 0.0), np.full(9, -0.0335), np.linspace(0.018, 0.072, 9)], 1)
    add_tube(mesh, pipe, (0.0035, 0.0035), metal)
    add_wheel(mesh, (-0.033, 0.0335, 0.047), 0.0125, 0.007, black, hub)  # the spare one
    return to_blender(mesh, 'toy_truck', truck_texture(), work, roughness=0.45, bevel=0.0008)


def soup_can(work: Path):
    """A distractor: a can of about the mug's size."""

    def label(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(238, 232, 214))
        draw.rectangle([0, h * 0.5, w, h], fill=(60, 130, 70))
        draw.text((w * 0.3, h * 0.28), 'PEAS', font=font(230), fill=(30, 90, 50), anchor='mm')
        for k in range(12):
            draw.ellipse([60 + 80 * k, h * 0.6, 130 + 80 * k, h * 0.6 + 70], fill=(150, 200, 80))

    mesh = Mesh()
    side, lid = (0.0, 0.0, 1.0, 1.0), (0.01, 0.9, 0.02, 0.95)
    profile = [(0.0005, 0.0), (0.034, 0.0), (0.034, 0.105), (0.0005, 0.105)]
    add_turned(mesh, profile, [lid, side, lid])
    return to_blender(mesh, 'soup_can', sheet(1, 1, [label]), work, roughness=0.4, bevel=0.001)


def book(work: Path):
    """A distractor: a thick paperback, lying."""
    rng = np.random.default_rng(9)

    def cover(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(92, 44, 110))
        draw.text((w / 2, 110), 'RAIN', font=font(96), fill=(240, 220, 120), anchor='mm')
        for _ in range(60):
            x, y = rng.uniform(0, w), rng.uniform(200, h)
            draw.line([x, y, x - 10, y + 34], fill=(170, 190, 230), width=4)

    def pages(draw, w, h):
        for k in range(0, h, 6):
            shade = int(rng.integers(190, 240))
            draw.line([0, k, w, k], fill=(shade, shade, shade - 20), width=6)

    mesh = Mesh()
    plain, sheets = cell(1, 0, 2, 2), cell(0, 1, 2, 2)
    front = cell(0, 0, 2, 2)
    add_box(
        mesh,
        (-0.055, -0.08, 0),
        (0.055, 0.08, 0.028),
        [plain, sheets, sheets, sheets, front, front],
    )
    texture = sheet(2, 2, [cover, (92, 44, 110), pages, (92, 44, 110)])
    return to_blender(mesh, 'book', texture, work, roughness=0.6, bevel=0.0008)


OBJECTS: dict[int, Callable] = {1: tea_carton, 2: mug, 3: toy_truck}  # BOP ids
DISTRACTORS: tuple[Callable, ...] = (soup_can, book)
