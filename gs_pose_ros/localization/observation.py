"""What a frame saw, in fewer pixels, as it is compared with a map."""

from __future__ import annotations

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry.camera import Camera

_kernel = {'cache': True, 'nogil': True, 'error_model': 'numpy'}
JUMP = 0.03  # a step of this share of the depth between two pixels leads to another surface
# Columns of what `shrink` fills.
DEPTH, DU, DV, GRAY = range(4)


@numba.njit(**_kernel)
def shrink(depth, gray, factor, out):
    """Fill out [h, w, 4] from depth (m, 0 unknown) and gray [H, W], `factor` pixels for one.

    Mean depth of the pixels of a block that are known and on one surface, where their middle lies
    beside that of the block (px of `out`), and the mean gray; depth 0 where there is none.
    """
    height, width = out.shape[0], out.shape[1]
    middle = 0.5 * (factor - 1)
    for y in range(height):
        for x in range(width):
            nearest, furthest = np.float32(np.inf), np.float32(0)
            total, count, du, dv, shade = 0.0, 0, 0.0, 0.0, 0.0
            for j in range(factor):
                for i in range(factor):
                    z = depth[y * factor + j, x * factor + i]
                    shade += gray[y * factor + j, x * factor + i]
                    if z <= 0:
                        continue
                    nearest, furthest = min(nearest, z), max(furthest, z)
                    total += z
                    du += i - middle
                    dv += j - middle
                    count += 1
            known = count > 0 and furthest - nearest < JUMP * factor * nearest
            out[y, x, DEPTH] = total / count if known else 0.0
            out[y, x, DU] = du / (count * factor) if known else 0.0
            out[y, x, DV] = dv / (count * factor) if known else 0.0
            out[y, x, GRAY] = shade / (factor * factor)


def observe(frame: RGBDFrame, width: int) -> tuple[Camera, NDArray[np.float32]]:
    """The camera of a picture of at least `width` px, and what it saw [h, w, 4], see `shrink`."""
    assert frame.depth is not None
    factor = max(1, frame.camera.width // width)
    height, width = frame.camera.height // factor, frame.camera.width // factor
    out = np.empty((height, width, 4), np.float32)
    gray = cv2.cvtColor(frame.color, cv2.COLOR_RGB2GRAY)
    shrink(frame.depth, np.asarray(gray, np.float32), factor, out)
    camera = frame.camera.crop(-0.5, -0.5, width * factor, height * factor, 1 / factor)
    return camera, out
