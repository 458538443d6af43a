"""The objects of the demo, modelled by code: a tea carton, a mug with a handle, a toy truck.

Geometry is in metres with z up; the drawings on the surfaces are made here with Pillow, so
nothing is downloaded. Runs in the environment of `make_demo_bag.py` (Blender's bpy, Pillow).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
UV = tuple[float, float]
Point = tuple[float, float, float]

TEXTURE = 1024  # pixels a side; every object has one square texture


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font: no font file of the machine is needed."""
    return ImageFont.load_default(size)


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


# --- drawings --------------------------------------------------------------------------------


def sheet(columns: int, rows: int, drawings: Sequence[Callable | Color]) -> Image.Image:
    """A texture of cells, row by row; a drawing is a plain colour or fills an image itself."""
    image = Image.new('RGB', (TEXTURE, TEXTURE))
    width, height = TEXTURE // columns, TEXTURE // rows
    for k, drawing in enumerate(drawings):
        if callable(drawing):
            part = Image.new('RGB', (width, height))
            drawing(ImageDraw.Draw(part), width, height)
        else:
            part = Image.new('RGB', (width, height), drawing)
        image.paste(part, ((k % columns) * width, (k // columns) * height))
    return image


def fine_print(draw: ImageDraw.ImageDraw, box, color: Color, rng: np.random.Generator) -> None:
    """Lines of words too small to read."""
    x0, y0, x1, y1 = box
    for y in range(y0, y1, 13):
        x = x0
        while x < x1 - 30:
            word = int(rng.integers(12, 44))
            draw.rectangle([x, y, min(x + word, x1), y + 5], fill=color)
            x += word + 8


def barcode(draw: ImageDraw.ImageDraw, box, rng: np.random.Generator) -> None:
    """A bar code on a white label."""
    x0, y0, x1, y1 = box
    draw.rectangle(box, fill=(245, 245, 240))
    x = x0 + 8
    while x < x1 - 10:
        bar = int(rng.integers(2, 7))
        draw.rectangle([x, y0 + 6, x + bar, y1 - 6], fill=(20, 20, 20))
        x += bar + int(rng.integers(2, 7))


def leaf(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, turn: float, color) -> None:
    """A pointed leaf with its rib."""
    t = np.linspace(0, 2 * np.pi, 40)
    outline = np.stack([size * np.cos(t), 0.38 * size * np.sin(t) * np.abs(np.sin(t / 2))], 1)
    c, s = math.cos(turn), math.sin(turn)
    turned = outline @ np.array([[c, s], [-s, c]]) + [x, y]
    draw.polygon([tuple(p) for p in turned], fill=color)
    draw.line(
        [x - size * c, y - size * s, x + size * c, y + size * s], fill=(235, 240, 210), width=3
    )


def carton_texture() -> Image.Image:
    """Six different sides of a tea carton."""
    rng = np.random.default_rng(1)
    green, cream, dark = (38, 110, 66), (236, 226, 196), (22, 50, 38)

    def front(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=green)
        draw.rectangle([14, 14, w - 14, h - 14], outline=cream, width=7)
        draw.text((w / 2, 62), 'HILL', font=font(84), fill=cream, anchor='mm')
        draw.text((w / 2, 136), 'GREEN TEA', font=font(42), fill=(250, 205, 90), anchor='mm')
        for k in range(5):
            leaf(
                draw, w * (0.2 + 0.15 * k), 290 + 40 * (k % 2), 78, -1.9 + 0.5 * k, (130, 190, 80)
            )
        draw.ellipse([w - 120, h - 118, w - 30, h - 28], fill=(205, 55, 40))
        draw.text((w - 75, h - 73), '20', font=font(52), fill=(255, 255, 255), anchor='mm')

    def back(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=cream)
        draw.rectangle([0, 0, w, 80], fill=green)
        draw.text((w / 2, 40), 'HOW TO BREW', font=font(38), fill=cream, anchor='mm')
        fine_print(draw, (24, 100, w - 24, 260), dark, rng)
        for k, mark in enumerate('123'):
            draw.ellipse([30 + 100 * k, 280, 110 + 100 * k, 360], fill=(240, 160, 50))
            draw.text((70 + 100 * k, 320), mark, font=font(50), fill=dark, anchor='mm')
        barcode(draw, (24, 400, 210, 490), rng)

    def left(draw, w, h):
        for k in range(8):
            draw.rectangle(
                [0, k * h / 8, w, (k + 1) * h / 8], fill=green if k % 2 else (250, 205, 90)
            )
        draw.text((w / 2, h / 2), 'TEA', font=font(130), fill=(120, 25, 25), anchor='mm')

    def right(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=dark)
        for k in range(7):
            leaf(
                draw,
                w * rng.uniform(0.15, 0.85),
                h * (0.1 + 0.13 * k),
                60,
                rng.uniform(0, 3),
                green,
            )
        draw.rectangle([30, h - 130, w - 30, h - 30], fill=cream)
        fine_print(draw, (40, h - 120, w - 40, h - 40), dark, rng)

    def bottom(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(196, 164, 120))
        draw.line([0, h / 2, w, h / 2], fill=(120, 95, 62), width=6)
        draw.text((w * 0.3, h * 0.3), 'LOT 0815', font=font(46), fill=dark, anchor='mm')
        barcode(draw, (w - 170, h - 150, w - 20, h - 30), rng)

    def top(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(205, 55, 40))
        draw.polygon([(0, 0), (w * 0.4, 0), (0, h * 0.6)], fill=cream)
        draw.text((w * 0.6, h * 0.45), 'OPEN', font=font(76), fill=cream, anchor='mm')
        draw.line([w * 0.3, h * 0.7, w * 0.9, h * 0.7], fill=cream, width=10)

    return sheet(3, 2, [front, back, left, right, bottom, top])


def mug_texture() -> Image.Image:
    """A printed band on the top half; plain glazes below."""
    image = Image.new('RGB', (TEXTURE, TEXTURE), (228, 222, 208))
    draw = ImageDraw.Draw(image)
    half = TEXTURE // 2
    draw.rectangle([0, 0, TEXTURE, half], fill=(226, 219, 203))
    draw.rectangle([0, 60, TEXTURE, half - 60], fill=(28, 62, 120))
    hills = [
        (x, 330 - 70 * math.sin(x / 83) - 35 * math.sin(x / 31 + 1)) for x in range(0, 1025, 8)
    ]
    draw.polygon([(0, half - 60), *hills, (TEXTURE, half - 60)], fill=(236, 148, 52))
    front_hills = [(x, 390 - 30 * math.sin(x / 47 + 2)) for x in range(0, 1025, 8)]
    draw.polygon([(0, half - 60), *front_hills, (TEXTURE, half - 60)], fill=(170, 58, 48))
    draw.ellipse([250, 90, 350, 190], fill=(250, 226, 120))
    draw.text((560, 170), 'GOOD', font=font(110), fill=(240, 240, 235), anchor='mm')
    draw.text((840, 190), 'DAY!', font=font(76), fill=(250, 200, 90), anchor='mm')
    for k in range(9):  # a train runs round the mug
        x = 60 + 52 * k
        draw.rectangle([x, 265, x + 42, 305], fill=[(90, 180, 170), (230, 230, 220)][k % 2])
        draw.ellipse([x + 8, 299, x + 22, 313], fill=(15, 15, 20))
    draw.rectangle([0, half, half, TEXTURE], fill=(214, 86, 60))  # handle, base ring
    draw.rectangle([half, half, TEXTURE, TEXTURE], fill=(240, 236, 226))  # inside, bottom
    draw.text((half + 256, half + 256), 'GS 1', font=font(70), fill=(60, 60, 70), anchor='mm')
    return image


def truck_texture() -> Image.Image:
    """Decals and plain colours of the truck, 4 x 4 cells."""
    rng = np.random.default_rng(3)
    red, yellow, glass = (192, 40, 36), (238, 186, 44), (40, 62, 92)

    def door(mark: str, stripe: Color) -> Callable:
        def draw_door(draw, w, h):
            draw.rectangle([0, 0, w, h], fill=red)
            draw.polygon([(30, 112), (30, 22), (112, 22), (150, 112)], fill=glass)
            draw.line([64, 22, 64, 112], fill=red, width=7)
            draw.rectangle([0, 190, w, 222], fill=stripe)
            draw.text((78, 158), mark, font=font(66), fill=(245, 245, 245), anchor='mm')
            draw.ellipse([206, 138, 240, 172], fill=(250, 240, 180))

        return draw_door

    def bed(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=yellow)
        for k in range(-1, 5):
            x = 70 * k
            draw.polygon(
                [(x, h), (x + 35, h), (x + 105, h - 90), (x + 70, h - 90)], fill=(30, 30, 30)
            )
        draw.text((w / 2, 78), 'CARGO', font=font(70), fill=(30, 60, 130), anchor='mm')

    def bed_other(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=yellow)
        for k in range(6):
            draw.ellipse(
                [10 + 42 * k, 90, 46 + 42 * k, 126], fill=[(30, 110, 60), (190, 40, 36)][k % 2]
            )
        draw.text((w / 2, 200), 'N° 42', font=font(66), fill=(30, 30, 30), anchor='mm')

    def tailgate(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(236, 236, 230))
        draw.rectangle([0, 0, 56, h], fill=red)
        draw.rectangle([w - 56, 0, w, h], fill=red)
        draw.text((w / 2, h / 2), 'GS-07', font=font(56), fill=(20, 20, 20), anchor='mm')

    def grille(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(60, 60, 64))
        for k in range(5):
            draw.rectangle([60, 40 + 40 * k, w - 60, 58 + 40 * k], fill=(190, 190, 195))
        for x in (4, w - 52):
            draw.ellipse([x, 90, x + 48, 150], fill=(252, 246, 200))

    def hood(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=red)
        draw.rectangle([w * 0.36, 0, w * 0.46, h], fill=(245, 245, 245))
        draw.rectangle([w * 0.54, 0, w * 0.64, h], fill=(245, 245, 245))

    def windshield(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=red)
        draw.rectangle([22, 22, w - 22, h - 22], fill=glass)
        draw.line([60, h - 40, 150, 50], fill=(120, 150, 180), width=10)

    def roof(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=red)
        draw.ellipse([58, 58, w - 58, h - 58], fill=(245, 245, 245))
        draw.text((w / 2, h / 2), '7', font=font(120), fill=(25, 40, 110), anchor='mm')

    def hub(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(26, 26, 28))
        draw.ellipse([62, 62, w - 62, h - 62], fill=(214, 214, 218))
        for k in range(5):
            a = 2 * math.pi * k / 5
            x, y = w / 2 + 38 * math.cos(a), h / 2 + 38 * math.sin(a)
            draw.ellipse([x - 12, y - 12, x + 12, y + 12], fill=(70, 70, 74))

    def floor(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(150, 112, 66))
        for k in range(6):
            draw.line([0, 43 * k, w, 43 * k], fill=(96, 68, 38), width=6)
            x = int(rng.integers(20, w - 20))
            draw.ellipse([x, 43 * k + 15, x + 9, 43 * k + 24], fill=(70, 50, 30))

    def underside(draw, w, h):
        draw.rectangle([0, 0, w, h], fill=(52, 54, 58))
        draw.rectangle([w * 0.1, h * 0.42, w * 0.9, h * 0.58], fill=(120, 122, 128))
        draw.text((w * 0.35, h * 0.22), 'TOY 2', font=font(46), fill=(220, 220, 220), anchor='mm')
        draw.ellipse([w * 0.66, h * 0.66, w * 0.9, h * 0.9], fill=(160, 70, 40))

    doors = [door('7', (245, 245, 245)), door('X', (40, 90, 170))]
    prints = [*doors, bed, bed_other, tailgate, grille, hood, windshield, roof, hub]
    plain = [(34, 34, 36), (58, 60, 64), yellow, (176, 178, 184)]
    return sheet(4, 4, [*prints, floor, underside, *plain])


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
