"""Draw poses onto a picture: axes, 3-D box, outline of the splat, mask, label; depth beside depth.

NumPy and OpenCV, no window system: a node, the report and the demo draw the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.geometry.se3 import inverse, transform
from gs_pose_ros.rendering.numba_rasterizer import rasterize, rasterize_scene

if TYPE_CHECKING:
    from gs_pose_ros.frame import RGBDFrame
    from gs_pose_ros.gaussians import Gaussians
    from gs_pose_ros.objects.database import ObjectReference

Color = tuple[int, int, int]

# Distinct for the colour-blind as well (Okabe & Ito 2008), RGB.
PALETTE: tuple[Color, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 200, 140),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
)
AXES: tuple[Color, ...] = ((235, 50, 50), (60, 200, 60), (70, 110, 255))  # x, y, z, as in RViz
GRAY: Color = (170, 170, 170)

_NEAR_M = 0.01  # nothing nearer is drawn: the projection has no meaning there
_BOX_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]
_PART_WIDTH = 320  # px, of each of the four parts of a comparison
_SHOWN_M = 0.05  # difference of depth that has the full colour
_SUBPIXEL = 4  # binary digits after the point of OpenCV's drawing coordinates


class OverlayObject(NamedTuple):
    """One object to draw.

    `shape` is the registered object (its box and the outline of its splat are drawn), a 3-D box
    [2, 3] (lowest and highest corner, m, object frame) or None. `T_cam_obj` [4, 4] is None when
    there is no pose: then only mask and label appear. `mask` [H, W] bool of the whole image.
    A `status` of 'lost' is drawn in gray.
    """

    label: str
    T_cam_obj: NDArray[np.float64] | None
    shape: ObjectReference | NDArray | None
    mask: NDArray[np.bool_] | None = None
    status: str = ''


def draw_overlay(
    color: NDArray, camera: Camera, objects: Sequence[OverlayObject]
) -> NDArray[np.uint8]:
    """A new picture [H, W, 3] RGB uint8 with every object drawn over `color`.

    `color` is [H, W, 3] RGB, uint8 or float in [0, 1], taken by `camera`. Objects behind the
    camera or outside the image leave no trace but their label. Raises ValueError when the size
    of the image or of a mask is not the camera's.
    """
    picture = _picture(color, camera)
    paints = _paints({_name(item.label) for item in objects})
    for item in objects:
        paint = GRAY if item.status == 'lost' else paints[_name(item.label)]
        _draw_object(picture, camera, item, paint)
    return picture


def draw_rendering(
    color: NDArray, camera: Camera, objects: Sequence[tuple[Gaussians, NDArray[np.float64]]]
) -> NDArray[np.uint8]:
    """A new picture [H, W, 3] RGB uint8: `color` dark and gray, the objects as their splats look.

    `objects` are Gaussians with T_cam_obj [4, 4]; they hide each other. What a pose is worth shows
    best where this picture and the camera's are looked at in turn. Raises ValueError as
    `draw_overlay` does.
    """
    gray = _picture(color, camera).mean(-1, keepdims=True) * (0.5 / 255)
    if not objects:
        return _picture(np.repeat(gray, 3, -1), camera)
    image = rasterize_scene(objects, camera)
    seen = image[:, :3].transpose(0, 2, 1) + (1 - image[:, 4, :, None]) * gray
    return _picture(seen, camera)


def _picture(color: NDArray, camera: Camera) -> NDArray[np.uint8]:
    """A copy of `color` as RGB uint8."""
    if color.shape != (*camera.shape, 3):
        raise ValueError(f'color must be {(*camera.shape, 3)}, got {color.shape}')
    if color.dtype == np.uint8:
        return np.ascontiguousarray(color).copy()
    return np.rint(np.clip(color, 0, 1) * 255).astype(np.uint8)


def splat_outline(
    reference: ObjectReference, camera: Camera, T_cam_obj: NDArray
) -> Sequence[NDArray]:
    """Contours (OpenCV's [N, 1, 2] pixels) round the projected Gaussians of an object.

    A silhouette from discs at the Gaussians' centres: good for the eye, not for measuring.
    """
    gaussians = reference.gaussians
    solid = (gaussians.opacities > 0.3).cpu().numpy()
    points = transform(T_cam_obj, gaussians.means.detach().cpu().numpy()[solid])
    largest = gaussians.scales.detach().cpu().numpy()[solid].max(1)
    ahead = points[:, 2] > _NEAR_M
    points, largest = points[ahead], largest[ahead]
    if len(points) == 0:
        return []
    centers = np.rint(camera.project(points)).astype(np.int64)
    inside = (centers >= 0).all(1) & (centers < [camera.width, camera.height]).all(1)
    silhouette = np.zeros(camera.shape, np.uint8)
    silhouette[centers[inside, 1], centers[inside, 0]] = 1
    # One disc size for all: the middle Gaussian's one standard deviation, in pixels.
    reach = int(np.clip(np.median(camera.fx * largest / points[:, 2]), 1, 8))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    closed = cv2.morphologyEx(
        silhouette, cv2.MORPH_CLOSE, disc, iterations=2, borderType=cv2.BORDER_CONSTANT
    )
    return cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]


def _name(label: str) -> str:
    """The object in a label like 'mug 0.83': its colour must not change with the number."""
    return label.split(' ')[0]


def _paints(names: set[str]) -> dict[str, Color]:
    """A colour for each name: its own wherever possible, so that it does not depend on others."""
    taken: dict[str, int] = {}
    for name in sorted(names):
        k = crc32(name.encode()) % len(PALETTE)
        while k in taken.values() and len(taken) < len(PALETTE):
            k = (k + 1) % len(PALETTE)
        taken[name] = k
    return {name: PALETTE[k] for name, k in taken.items()}


def _draw_object(
    picture: NDArray[np.uint8], camera: Camera, item: OverlayObject, paint: Color
) -> None:
    thick = max(1, round(camera.height / 300))
    anchor = None
    if item.mask is not None:
        if item.mask.shape != camera.shape:
            raise ValueError(
                f'mask of {item.label!r} must be {camera.shape}, got {item.mask.shape}'
            )
        anchor = _tint(picture, item.mask.astype(bool), paint)
    T = item.T_cam_obj
    if T is not None and np.isfinite(T).all():
        box = item.shape
        if box is not None and not isinstance(box, np.ndarray):
            contours = splat_outline(box, camera, T)
            cv2.drawContours(picture, contours, -1, paint, thick, cv2.LINE_AA)
            box = box.box
        seen = transform(T, np.zeros((1, 3)))
        if box is not None:
            seen = transform(T, _corners(box))
            _draw_box(picture, camera, seen, paint, thick)
        _draw_axes(picture, camera, T, _axis_length(box), thick + 1)
        if (seen[:, 2] > _NEAR_M).all():
            anchor = camera.project(seen).min(0) - [0, 4]
    text = f'{item.label} {item.status}'.strip()
    _write(picture, text, np.zeros(2) if anchor is None else anchor, paint)


def _tint(picture: NDArray, mask: NDArray[np.bool_], paint: Color) -> NDArray | None:
    """Blend the colour into the mask; returns the pixel above which a label may stand."""
    if not mask.any():
        return None
    blend = 0.65 * picture[mask] + 0.35 * np.asarray(paint)
    picture[mask] = np.rint(blend).astype(np.uint8)
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min() - 4.0])


def _axis_length(box: NDArray | None) -> float:
    """Half of the longest side, m: the axes stay near the object, and 5 cm when it is unknown."""
    return 0.05 if box is None else 0.5 * float(np.max(box[1] - box[0]))


def _corners(box: NDArray) -> NDArray:
    """The corners [8, 3] of a box [2, 3]; bit `axis` of the index says which end."""
    return np.array([[box[(k >> axis) & 1, axis] for axis in range(3)] for k in range(8)])


def _draw_box(picture: NDArray, camera: Camera, seen: NDArray, paint: Color, thick: int) -> None:
    """The edges between corners `seen` [8, 3] from the camera, m."""
    for a, b in _BOX_EDGES:
        _draw_segment(picture, camera, seen[a], seen[b], paint, thick)


def _draw_axes(
    picture: NDArray, camera: Camera, T_cam_obj: NDArray, length: float, thick: int
) -> None:
    tips = transform(T_cam_obj, length * np.eye(3))
    for axis in np.argsort(-tips[:, 2]):  # the far one first, so that the near one covers it
        _draw_segment(picture, camera, T_cam_obj[:3, 3], tips[axis], AXES[axis], thick)


def _draw_segment(
    picture: NDArray, camera: Camera, a: NDArray, b: NDArray, paint: Color, thick: int
) -> None:
    """A line between camera-frame points (m), cut where it would pass behind the camera."""
    if a[2] > b[2]:
        a, b = b, a
    if b[2] <= _NEAR_M:
        return
    if a[2] < _NEAR_M:
        a = a + (b - a) * (_NEAR_M - a[2]) / (b[2] - a[2])
    ends = np.rint(camera.project(np.stack([a, b])) * 2**_SUBPIXEL)
    if np.abs(ends).max() > 2**30:  # OpenCV's coordinates are 32 bit
        return
    (u0, v0), (u1, v1) = ends.astype(int).tolist()
    cv2.line(picture, (u0, v0), (u1, v1), paint, thick, cv2.LINE_AA, _SUBPIXEL)


def _write(picture: NDArray, text: str, anchor: NDArray, paint: Color) -> None:
    """Text that stays inside the image and is readable on any ground."""
    height, width = picture.shape[:2]
    scale = max(0.35, height / 900)
    stroke = max(1, round(2 * scale))
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)
    x = int(np.clip(anchor[0], 2, max(2, width - w - 2)))
    y = int(np.clip(anchor[1], h + 2, max(h + 2, height - 4)))
    for ink, thick in (((0, 0, 0), stroke + 2), (paint, stroke)):
        cv2.putText(
            picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thick, cv2.LINE_AA
        )


def draw_map_comparison(
    frame: RGBDFrame, scene: Gaussians, T_map_cam: NDArray[np.float64], caption: str
) -> NDArray[np.uint8]:
    """What was measured beside what a map has at a pose [4, 4]; RGB [h, w, 3].

    Colour, measured depth, the map's depth, and their difference: red where the map is further
    away, blue where it is nearer, grey where one of them is not known.
    """
    measured = np.zeros(frame.camera.shape, np.float32) if frame.depth is None else frame.depth
    image = rasterize(scene, frame.camera, inverse(T_map_cam), sloped=True)
    alpha = image[:, 4]
    rendered = np.where(alpha > 0.5, image[:, 3] / np.maximum(alpha, 1e-6), 0)
    known = measured[measured > 0]
    near, far = np.percentile(known, [2, 98]) if len(known) else (0.0, 1.0)
    parts = [
        np.asarray(255 * frame.color, np.uint8),
        _depth_colors(measured, near, far),
        _depth_colors(rendered, near, far),
        _difference_colors(measured, rendered),
    ]
    height = round(_PART_WIDTH * frame.camera.height / frame.camera.width)
    size = (_PART_WIDTH, height)
    small = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in parts]
    strip = np.full((22, _PART_WIDTH * len(parts), 3), 255, np.uint8)
    cv2.putText(strip, caption, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, np.concatenate(small, 1).astype(np.uint8)])


def _depth_colors(depth: NDArray[np.float32], near: float, far: float) -> NDArray[np.uint8]:
    share = np.clip((depth - near) / max(far - near, 1e-6), 0, 1)
    colors = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(depth[..., None] > 0, colors, 0).astype(np.uint8)


def _difference_colors(
    measured: NDArray[np.float32], rendered: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """White where equal, red where the map is further away, blue where it is nearer."""
    share = np.clip((rendered - measured) / _SHOWN_M, -1, 1)
    rest = 1 - np.abs(share)
    further, nearer = np.where(share > 0, 1, rest), np.where(share < 0, 1, rest)
    colors = 255 * np.stack([further, rest, nearer], -1)
    known = (measured > 0) & (rendered > 0)
    return np.where(known[..., None], colors, 110).astype(np.uint8)
