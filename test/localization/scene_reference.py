"""What `scene_comparison.compare` does, pixel by pixel, as one reads it; for tests, slowly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gs_pose_ros.localization.observation import DEPTH, DU, DV, GRAY
from test.optimization.reference import point_at, seen_jacobian, tukey

Array = np.ndarray
COLOR_TO_GRAY = np.array([0.299, 0.587, 0.114])
JUMP = 0.03  # of the depth, between two pixels of the picture
STEEP = 5  # m of depth a pixel, in widths of the pixel


@dataclass(frozen=True)
class Scales:
    """In the order in which `compare` takes them."""

    scale: float = 1.0
    noise_m: float = 0.01
    noise_per_m2: float = 0.0
    contour_weight: float = 0.1
    gray_weight: float = 0.1
    sigma_gray: float = 0.1
    cut: float = 5.0


@dataclass
class Sums:
    """What the comparison adds up."""

    H: Array = field(default_factory=lambda: np.zeros((6, 6)))
    gradient: Array = field(default_factory=lambda: np.zeros(6))
    cost: float = 0.0
    compared: int = 0
    same: int = 0

    def add(self, r: float, J: Array, weight: float) -> None:
        """One residual."""
        self.H += weight * np.outer(J, J)
        self.gradient += weight * r * J


@dataclass(frozen=True)
class Comparison:
    """A map as it is drawn, image [h, 5, w], against a picture `seen` [h, w, 4]."""

    image: Array
    seen: Array
    K: Array  # [4] fx, fy, cx, cy
    center: Array  # [3] m, camera frame, that rotations are about
    scales: Scales
    gain: float
    offset: float

    def pixel(self, sums: Sums, x: int, y: int, has_row_above: bool) -> float:
        """Add a pixel's residuals to the sums; that of its depth, NaN if it is not compared."""
        s = self.scales
        z, observed = self.surface(x, y), self.seen[y, x, DEPTH]
        if z == 0 or observed <= 0:
            return np.nan
        sums.compared += 1
        sigma = s.scale * (s.noise_m + s.noise_per_m2 * z**2)
        J_z = self.depth_jacobian(x, y)

        # The depth, where in the pixel it was measured.
        slope_u, slope_v = self.slopes(0, x, y)
        at_middle = observed - slope_u * self.seen[y, x, DU] - slope_v * self.seen[y, x, DV]
        r_depth = (z - at_middle) / sigma
        weight, cost = tukey(r_depth, s.cut)
        if weight == 0:  # another surface
            sums.cost += (1 + 2 * s.contour_weight + s.gray_weight) * s.cut**2 / 6
            return r_depth
        sums.same += 1
        sums.add(r_depth, J_z / sigma, weight)
        sums.cost += cost

        # The contour: how much deeper it is than to the left and above.
        beside = [(x - 1, y), (x, y - 1)] if has_row_above else [(x - 1, y)]
        for x_b, y_b in beside:
            z_b, observed_b = self.surface(x_b, y_b), self.seen[y_b, x_b, DEPTH]
            if z_b == 0 or observed_b <= 0 or abs(observed_b - observed) > JUMP * observed:
                continue
            r = ((z - z_b) - (observed - observed_b)) / sigma
            weight, cost = tukey(r, s.cut)
            J = (J_z - self.depth_jacobian(x_b, y_b)) / sigma
            sums.add(r, J, s.contour_weight * weight)
            sums.cost += s.contour_weight * cost

        # The gray, in the light of the picture.
        gray = self.gain * self.drawn(x, y)[1] + self.offset
        r = (gray - self.seen[y, x, GRAY]) / s.sigma_gray
        weight, cost = tukey(r, s.cut)
        J = self.gain * self.moved(self.slopes(1, x, y), 0.0, x, y) / s.sigma_gray
        sums.add(r, J, s.gray_weight * weight)
        sums.cost += s.gray_weight * cost
        return r_depth

    def drawn(self, x: int, y: int) -> tuple[float, float]:
        """Depth and gray of the map, 0 where less than half of the pixel is drawn."""
        height, _, width = self.image.shape
        if not (0 <= x < width and 0 <= y < height) or self.image[y, 4, x] < 0.5:
            return 0.0, 0.0
        *color, depth, alpha = self.image[y, :, x]
        return depth / alpha, COLOR_TO_GRAY @ color / alpha

    def slopes(self, value: int, x: int, y: int) -> tuple[float, float]:
        """By how much depth (0) or gray (1) grow per pixel to the right and down."""
        u = (self.drawn(x + 1, y)[value] - self.drawn(x - 1, y)[value]) / 2
        v = (self.drawn(x, y + 1)[value] - self.drawn(x, y - 1)[value]) / 2
        return u, v

    def surface(self, x: int, y: int) -> float:
        """Depth of the map, 0 where it or a neighbour's is not known, or where it jumps."""
        z = self.drawn(x, y)[0]
        around = [self.drawn(x + dx, y + dy)[0] for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        is_smooth = np.hypot(*self.slopes(0, x, y)) <= STEEP * z / self.K[0]
        return z if min(z, *around) > 0 and is_smooth else 0.0

    def depth_jacobian(self, x: int, y: int) -> Array:
        """Of the depth seen at a pixel."""
        return self.moved(self.slopes(0, x, y), 1.0, x, y)

    def moved(self, slopes: tuple[float, float], grows: float, x: int, y: int) -> Array:
        """See `seen_jacobian`."""
        point = point_at(self.K, x, y, self.drawn(x, y)[0])
        return seen_jacobian(slopes, grows, point, self.center, self.K)


def parts(begin: int, end: int, n: int) -> Iterator[range]:
    """The pixels of a row or column of `end` + 1, without the first and last, in n parts."""
    for part in range(n):
        first, last = part * (end + 1) // n, (part + 1) * (end + 1) // n
        yield range(max(begin, first), min(end, last))


def compared(c: Comparison, n: int) -> tuple[list[list[Sums]], Array]:
    """Sums of n bands of rows and in each of n blocks, and residuals of the depth [h, w]."""
    height, width, _ = c.seen.shape
    residuals = np.full((height, width), np.nan)
    out = []
    for rows in parts(1, height - 1, n):
        blocks = []
        for columns in parts(1, width - 1, n):
            blocks.append(Sums())
            for y in rows:
                for x in columns:
                    residuals[y, x] = c.pixel(blocks[-1], x, y, has_row_above=y > rows[0])
        out.append(blocks)
    return out, residuals
