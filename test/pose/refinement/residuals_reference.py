"""What `residuals.normal_equations` does, pixel by pixel, as one reads it; for tests, slowly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from test.optimization.reference import point_at, seen_jacobian, tukey

Array = np.ndarray
DEPTH, ALPHA = 3, 4
STEEP = 8  # m of depth a pixel, in widths of the pixel
OUTLINE = 0.01  # slope of alpha, 1/px
UNKNOWN, ABOVE_SUPPORT = -1, -2  # in the mask


@dataclass
class Pixel:
    """What one pixel adds to the cost; a pixel may also constrain the pose."""

    cut: float
    cost: float = 0.0
    constrains: bool = False
    rows: list[tuple[float, Array, float]] = field(default_factory=list)  # r, J, weight

    def add(self, r: float, J: Array | None) -> None:
        """A residual; without a Jacobian it is only a cost."""
        weight, cost = tukey(r, self.cut)
        self.cost += cost
        if J is not None:
            self.rows.append((r, J, weight))


@dataclass(frozen=True)
class Comparison:
    """A rendering, image [S, 5, S], against a window of the picture."""

    image: Array
    color: Array
    depth: Array
    mask: Array
    K: Array  # [4] fx, fy, cx, cy
    center: Array  # [3] of the object, m, camera frame
    gain: Array  # [6] three gains, three offsets
    sigmas: Array  # [3] of colour, depth (m), silhouette
    cut: float

    def pixel(self, x: int, y: int) -> Pixel | None:
        """None where there is no object, or where it is hidden."""
        sigma_color, sigma_depth, sigma_silhouette = self.sigmas
        observed, alpha = self.depth[y, x], self.image[y, ALPHA, x]
        if alpha < 0.02:
            return None
        z = self.drawn(DEPTH, x, y)
        hidden = observed > 0 and (z - observed) / sigma_depth > self.cut
        is_free = observed > 0 and (observed - z) / sigma_depth > self.cut
        if hidden:
            return None
        out = Pixel(self.cut)

        # The silhouette: free space, where something further away is seen, is not the object.
        label = self.mask[y, x]
        if is_free and label < 0:
            label = 0
        elif observed > 0 and label == ABOVE_SUPPORT:
            label = 1
        if label >= 0:
            slopes = self.slopes(lambda i, j: self.image[j, ALPHA, i], x, y)
            on_outline = np.hypot(*slopes) > OUTLINE
            J = self.jacobian(slopes, 0.0, x, y) / sigma_silhouette
            out.add((alpha - label) / sigma_silhouette, J if on_outline else None)
            out.constrains |= bool(on_outline)

        cross = [(x, y), (x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
        if min(self.image[j, ALPHA, i] for i, j in cross) <= 0.5:
            return out

        # The depth.
        if observed > 0:
            slopes = self.slopes(lambda i, j: self.drawn(DEPTH, i, j), x, y)
            is_smooth = np.hypot(*slopes) < STEEP * z / self.K[0]
            J = self.jacobian(slopes, 1.0, x, y) / sigma_depth
            out.add((z - observed) / sigma_depth, J if is_smooth and not is_free else None)
        if is_free:  # the colour is not the object's: three outliers, and no constraint at all
            out.cost += 3 * self.cut**2 / 6
            out.constrains = False
            return out

        # The colour, in the light of the picture.
        for c in range(3):
            seen = self.color[y, x, c]
            if np.isfinite(seen):
                r = self.gain[c] * self.drawn(c, x, y) + self.gain[3 + c] - seen
                slopes = self.slopes(lambda i, j, c=c: self.drawn(c, i, j), x, y)
                J = self.gain[c] * self.jacobian(slopes, 0.0, x, y)
                out.add(r / sigma_color, J / sigma_color)
        out.constrains = True
        return out

    def drawn(self, plane: int, x: int, y: int) -> float:
        """A colour, or the depth."""
        return self.image[y, plane, x] / self.image[y, ALPHA, x]

    def slopes(self, value, x: int, y: int) -> tuple[float, float]:
        """By how much value(x, y) grows per pixel to the right and down."""
        return (value(x + 1, y) - value(x - 1, y)) / 2, (value(x, y + 1) - value(x, y - 1)) / 2

    def jacobian(self, slopes: tuple[float, float], grows: float, x: int, y: int) -> Array:
        """See `seen_jacobian`."""
        point = point_at(self.K, x, y, self.drawn(DEPTH, x, y))
        return seen_jacobian(slopes, grows, point, self.center, self.K)


def compared(c: Comparison, n: int) -> tuple[Array, Array, float, int]:
    """H [6, 6], gradients [n, n, 6], cost per pixel, and the pixels that constrain the pose."""
    height, width = c.depth.shape
    H, gradients = np.zeros((6, 6)), np.zeros((n, n, 6))
    pixels = []
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            pixel = c.pixel(x, y)
            if pixel is None:
                continue
            pixels.append(pixel)
            for r, J, weight in pixel.rows:
                H += weight * np.outer(J, J)
                gradients[y * n // height, x * n // width] += weight * r * J
    cost = sum(pixel.cost for pixel in pixels) / max(len(pixels), 1)
    return H, gradients, cost, sum(pixel.constrains for pixel in pixels)
