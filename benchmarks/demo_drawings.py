"""What is printed on the objects of the demo: textures drawn with Pillow, none downloaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

TEXTURE = 1024  # pixels a side; every object has one square texture


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font: no font file of the machine is needed."""
    return ImageFont.load_default(size)


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
