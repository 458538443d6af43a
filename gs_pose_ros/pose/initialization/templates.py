"""Templates of an object rendered from its splat, and the features they are compared by.

A feature vector is made so that a dot product is a similarity: unit normals as they are, scalars
(depth, chroma, brightness) as (cos, sin) of themselves, whose product is cos(difference).
Comparing thousands of places with thousands of templates is then one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.bounds import Cells, Extent, Many, NonNegative
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.objects.prepared import once_per_object, prepared
from gs_pose_ros.rendering.numba_rasterizer import rasterize

# Half periods: two values this far apart count as opposite.
_DEPTH_PERIODS = (0.8, 0.25)  # diameters
_CHROMA_PERIOD = 0.15
_CHROMA_REACH = 0.75 * _CHROMA_PERIOD  # from gray: further, waves come round and red equals blue
_CHROMA_OFFSET = 0.3
_BRIGHTNESS_PERIOD = 1.5
_LEAST_PIXELS = 20  # of a rendered silhouette: a view that shows less gives no template


@dataclass(frozen=True)
class TemplateSettings:
    """How densely the view sphere is covered."""

    viewpoints: Many = 120
    in_plane: Many = 24
    cells: Cells = 16  # a template has cells x cells cells
    extent: Extent = 1.1  # side of a template in diameters
    rank: Many = 512  # principal directions that similarities are computed in
    with_depth: bool = True  # geometry and figure/ground, or colour gradients in their place
    gradient_weight: NonNegative = 1.5
    outline_weight: NonNegative = 1.0  # of the gradients along the silhouette, without depth only
    geometry_weight: NonNegative = 1.0
    color_weight: NonNegative = 1.5
    # Figure and ground: foreground inside the silhouette, background around it (which clutter
    # that touches the object breaks, so it counts less).
    figure_weight: NonNegative = 1.0
    ground_weight: NonNegative = 0.5
    # Templates of few cells agree by chance more easily: similarity *= 1 - this / sqrt(cells).
    small_penalty: NonNegative = 2.5


@dataclass(frozen=True)
class RenderedViews:
    """The object seen from around; the camera looks at the box centre from 5 diameters."""

    R_cam_obj: NDArray[np.float64]  # [V, 3, 3]
    color: NDArray[np.float32]  # [V, S, S, 3], 0 outside the silhouette
    depth: NDArray[np.float32]  # [V, S, S] relative to the box centre in diameters, nan outside
    mask: NDArray[np.bool_]  # [V, S, S]
    extent: float  # side of the picture in diameters at the centre


@dataclass(frozen=True)
class TemplateBank:
    """Templates with their in-plane rotations, anchored at a point of the visible surface."""

    R_cam_obj: NDArray[np.float64]  # [M, 3, 3]
    # Box centre from the anchor, diameters, camera axes; the anchor is the template's middle
    center_from_anchor: NDArray[np.float64]  # [M, 3]
    # The feature vectors, divided by the cells on the mask, are codes @ basis.T but for what a
    # few hundred principal directions miss of them.
    codes: NDArray[np.float32]  # [M, D]
    basis: NDArray[np.float32]  # [cells * cells * channels, D]
    coverage: NDArray[np.float32]  # [M] share of the cells on the mask

    def similarity(self, features: NDArray[np.float32]) -> Tensor:
        """Dot products [A, M] of feature vectors [A, cells * cells * channels] with all templates.

        A third of the work of multiplying them out, and 0.9997 correlated with that.
        """
        return (torch.from_numpy(features) @ torch.from_numpy(self.basis)) @ torch.from_numpy(
            self.codes
        ).T


def fibonacci_rotations(count: int) -> NDArray[np.float64]:
    """Rotations R_cam_obj [count, 3, 3] looking at the origin from all around, upright."""
    z = -se3.fibonacci_directions(count)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], 1)


def render_views(reference: ObjectReference, count: int, size: int = 72) -> RenderedViews:
    """Render the object from `count` directions."""
    distance, extent = 5.0 * reference.diameter_m, 1.2
    # The picture spans `extent` diameters at the centre.
    focal = size / extent * 5.0
    camera = Camera(focal, focal, (size - 1) / 2, (size - 1) / 2, size, size)
    center = reference.center
    rotations = fibonacci_rotations(count)
    colors, depths, masks = [], [], []
    for R in rotations:
        T = se3.from_rotation_translation(R, [0, 0, distance] - R @ center)
        image = rasterize(reference.gaussians, camera, T)
        alpha = np.maximum(image[:, 4], 1e-6)
        mask = image[:, 4] > 0.5
        colors.append(image[:, :3].transpose(0, 2, 1) / alpha[..., None] * mask[..., None])
        depth = (image[:, 3] / alpha - distance) / reference.diameter_m
        depths.append(np.where(mask, depth, np.nan))
        masks.append(mask)
    return RenderedViews(
        rotations,
        np.stack(colors).clip(0, 1).astype(np.float32),
        np.stack(depths).astype(np.float32),
        np.stack(masks),
        extent,
    )


def _waves(values: NDArray[np.float32], period: float) -> list[NDArray[np.float32]]:
    phase = values * np.float32(np.pi / period)
    return [np.cos(phase), np.sin(phase)]


def color_features(color: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features [..., 6] of colours [..., 3]: chroma, which light spares, and brightness."""
    # The offset fades the chroma of dark surfaces, which is mostly noise and reflected light.
    total = color.sum(-1) + np.float32(_CHROMA_OFFSET)
    planes = []
    for channel in (color[..., 0], color[..., 1]):
        chroma = (channel + np.float32(_CHROMA_OFFSET / 3)) / total - np.float32(1 / 3)
        planes += _waves(chroma.clip(-_CHROMA_REACH, _CHROMA_REACH), _CHROMA_PERIOD)
    planes += _waves(total / 3, _BRIGHTNESS_PERIOD)
    return np.stack(planes, -1)


def gradient_features(color: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Features [H, W, 2] of colours [H, W, 3]: direction of the brightness gradient, unsigned.

    The doubled angle makes an edge from dark to bright equal one from bright to dark.
    """
    gray = cv2.cvtColor(np.ascontiguousarray(color), cv2.COLOR_RGB2GRAY)
    gx, gy = np.zeros_like(gray), np.zeros_like(gray)
    gx[:, step:-step] = gray[:, 2 * step :] - gray[:, : -2 * step]
    gy[step:-step] = gray[2 * step :] - gray[: -2 * step]
    squared = gx * gx + gy * gy
    scale = 1 / (squared + np.sqrt(squared) * np.float32(0.05) + np.float32(1e-8))
    planes = [(gx * gx - gy * gy) * scale, 2 * gx * gy * scale]
    return np.stack(planes, -1).astype(np.float32)


def depth_features(
    depth: NDArray[np.float32], normals: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Features [..., 7] of depths [...] (diameters from the anchor, nan unknown) and normals.

    Unknown depth gives zeros: it says neither yes nor no.
    """
    known = np.isfinite(depth)
    clipped = np.clip(np.where(known, depth, 0), -0.7, 0.7)
    planes = [w for period in _DEPTH_PERIODS for w in _waves(clipped, period)]
    features = np.concatenate([np.stack(planes, -1), normals], -1)
    return features * known[..., None]


def surface_normals(points: NDArray[np.float32], step: int = 2) -> NDArray[np.float32]:
    """Unit normals [H, W, 3] towards the camera of a point map; 0 where a neighbour is missing.

    `points` [H, W, 3] with nan or z = 0 where unknown; differences over 2 `step` pixels.
    """
    p = np.where(points[..., 2:] > 0, points, np.nan).astype(np.float32)
    du, dv = np.full_like(p, np.nan), np.full_like(p, np.nan)
    du[:, step:-step] = p[:, 2 * step :] - p[:, : -2 * step]
    dv[step:-step] = p[2 * step :] - p[: -2 * step]
    n = np.cross(dv, du)
    length = np.linalg.norm(n, axis=-1, keepdims=True)
    return np.nan_to_num(n / np.where(length > 0, length, np.nan)).astype(np.float32)


@once_per_object
def cached_views(reference: ObjectReference, count: int) -> RenderedViews:
    """`render_views`, once for each object and count while the object lives."""
    return render_views(reference, count)


@lru_cache
def cell_offsets(cells: int, extent: float) -> NDArray[np.float32]:
    """Centres of the cells [cells * cells, 2] in diameters from the anchor."""
    c = ((np.arange(cells) + 0.5) / cells - 0.5) * extent
    x, y = np.meshgrid(c, c)
    return np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)


@prepared
def template_bank(reference: ObjectReference, settings: TemplateSettings) -> TemplateBank:
    """The templates of an object, made at the first call."""
    views = cached_views(reference, settings.viewpoints)
    rotations, centers, features, coverage = [], [], [], []
    for R, color, depth, mask in zip(
        views.R_cam_obj, views.color, views.depth, views.mask, strict=True
    ):
        if np.count_nonzero(mask) < _LEAST_PIXELS:
            continue
        view = _AnchoredView.of(color, depth, mask, views.extent, settings)
        for k in range(settings.in_plane):
            angle = 2 * np.pi * k / settings.in_plane
            cells = view.cells_at(angle, settings)
            if not cells.on_object.any():
                continue
            if settings.with_depth:
                block = view.geometry_and_figure(cells, settings)
            else:
                block = view.gradients_and_outline(cells, settings)
            features.append(block.ravel())
            coverage.append(cells.on_object.mean())
            turn = np.eye(3)
            turn[:2, :2] = cells.Q
            rotations.append(turn @ R)
            centers.append(turn @ view.center_from_anchor)
    codes, basis = _principal(np.stack(features).astype(np.float32), settings.rank)
    return TemplateBank(
        np.stack(rotations), np.stack(centers), codes, basis, np.array(coverage, np.float32)
    )


@dataclass(frozen=True)
class _Cells:
    """Where the C = cells * cells cells of a turned template lie in an upright view."""

    angle: float  # rad, of the turn
    Q: NDArray[np.float64]  # [2, 2] turns the picture: what was at p from the anchor is at Q p
    row: NDArray[np.int64]  # [C] of the view's pixel that a cell shows; the nearest one if outside
    col: NDArray[np.int64]  # [C]
    inside: NDArray[np.bool_]  # [C] whether the cell lies in the view
    on_object: NDArray[np.bool_]  # [C] whether it lies on the silhouette

    @property
    def share(self) -> NDArray[np.float32]:
        """What each cell counts for [C, 1]: all on the object the same, together 1."""
        on_object = self.on_object[:, None].astype(np.float32)
        return on_object / np.float32(np.count_nonzero(self.on_object))


@dataclass(frozen=True)
class _AnchoredView:
    """One rendered view, S x S pixels, as all its turned templates sample it.

    The anchor is the pixel deepest inside the silhouette: it survives small shifts.
    """

    anchor: NDArray[np.float32]  # [2] x, y, px
    center_from_anchor: NDArray[np.float64]  # [3] diameters, camera axes
    pixel: float  # diameters
    mask: NDArray[np.bool_]  # [S, S]
    color: NDArray[np.float32]  # [S, S, 3] blurred to the size of a cell
    relief: NDArray[np.float32]  # [S, S] depth from the anchor's, diameters, nan outside
    normals: NDArray[np.float32]  # [S, S, 3]
    gradients: NDArray[np.float32]  # [S, S, 2] of the colours
    outline: NDArray[np.float32]  # [S, S, 2] gradients of the silhouette
    rim: NDArray[np.bool_]  # [S, S] whether a pixel is on the blurred edge of the silhouette

    @classmethod
    def of(
        cls,
        color: NDArray[np.float32],
        depth: NDArray[np.float32],
        mask: NDArray[np.bool_],
        extent: float,
        settings: TemplateSettings,
    ) -> _AnchoredView:
        """A view's colour, depth and mask as in `RenderedViews`."""
        size = len(mask)
        pixel, middle = extent / size, (size - 1) / 2
        cell_px = settings.extent / settings.cells / pixel
        # Blur the colours to the size of a cell, as the query's are.
        sigma = 0.4 * cell_px
        weight = np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma), np.float32)
        blurred = np.asarray(cv2.GaussianBlur(color, (0, 0), sigma), np.float32)
        blurred /= np.maximum(weight, 1e-3)[..., None]
        inner = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
        y, x = np.unravel_index(int(inner.argmax()), inner.shape)
        anchor, z_anchor = np.array([x, y], np.float32), float(depth[y, x])
        u = (np.arange(size, dtype=np.float32) - middle) * pixel
        points = np.stack([*np.meshgrid(u, u), np.where(mask, depth, np.nan) + 5], -1)
        step = max(1, round(0.5 * cell_px))
        return cls(
            anchor=anchor,
            center_from_anchor=np.array([*((middle - anchor) * pixel), -z_anchor]),
            pixel=pixel,
            mask=mask,
            color=blurred,
            relief=(depth - z_anchor).astype(np.float32),
            normals=surface_normals(points.astype(np.float32), 1),
            gradients=gradient_features(blurred, step),
            outline=gradient_features(np.repeat(weight[..., None], 3, -1), step),
            rim=(weight > 0.15) & (weight < 0.85),
        )

    def cells_at(self, angle: float, settings: TemplateSettings) -> _Cells:
        """The cells of the template that shows the view turned by `angle` (rad)."""
        c, s = np.cos(angle), np.sin(angle)
        Q = np.array([[c, -s], [s, c]])
        offsets = cell_offsets(settings.cells, settings.extent)
        at = (offsets @ Q) / self.pixel + self.anchor  # Q^T of each offset
        col, row = np.round(at.T).astype(np.int64)
        size = len(self.mask)
        inside = (col >= 0) & (col < size) & (row >= 0) & (row < size)
        col, row = col.clip(0, size - 1), row.clip(0, size - 1)
        return _Cells(angle, Q, row, col, inside, inside & self.mask[row, col])

    def geometry_and_figure(
        self, cells: _Cells, settings: TemplateSettings
    ) -> NDArray[np.floating]:
        """Features [C, 14] to compare with an image with depth: geometry, colour, figure."""
        normals = self.normals[cells.row, cells.col].copy()
        normals[:, :2] = normals[:, :2] @ cells.Q.T.astype(np.float32)
        geometry = depth_features(self.relief[cells.row, cells.col], normals)
        geometry *= np.float32(settings.geometry_weight)
        figure, ground = np.count_nonzero(cells.on_object), np.count_nonzero(~cells.on_object)
        figure_or_ground = np.where(
            cells.on_object,
            settings.figure_weight / figure,
            -settings.ground_weight / max(ground, 1),
        )
        colors = self._colors(cells, settings)
        return np.concatenate([geometry * cells.share, colors, figure_or_ground[:, None]], -1)

    def gradients_and_outline(
        self, cells: _Cells, settings: TemplateSettings
    ) -> NDArray[np.floating]:
        """Features [C, 8] to compare with a colour image: colour, and directions of gradients.

        Along the silhouette the direction is that of the outline, which a background of any
        colour shows.
        """
        edge = (cells.inside & self.rim[cells.row, cells.col])[:, None]
        gradients = np.where(edge, 0, self.gradients[cells.row, cells.col] * cells.share)
        gradients *= np.float32(settings.gradient_weight)
        if edge.any():
            edge_share = settings.outline_weight / np.count_nonzero(edge)
            gradients += edge * self.outline[cells.row, cells.col] * np.float32(edge_share)
        c, s = np.cos(cells.angle), np.sin(cells.angle)
        # Gradients are of doubled angles, and so turn twice as far.
        twice = np.array([[c * c - s * s, -2 * s * c], [2 * s * c, c * c - s * s]])
        colors = self._colors(cells, settings)
        return np.concatenate([colors, gradients @ twice.T.astype(np.float32)], -1)

    def _colors(self, cells: _Cells, settings: TemplateSettings) -> NDArray[np.float32]:
        colors = color_features(self.color[cells.row, cells.col])
        return colors * np.float32(settings.color_weight) * cells.share


def _principal(
    features: NDArray[np.float32], rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Codes [M, D] and basis [F, D] of feature vectors [M, F] (Halko et al. 2011)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same object shall be found the same way
        U, S, V = torch.svd_lowrank(torch.from_numpy(features), min(rank, *features.shape))
    return (U * S).numpy(), V.numpy()
