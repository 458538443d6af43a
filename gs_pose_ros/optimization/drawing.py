"""What a problem draws, for which camera, and where to: the part that all problems share."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering.numba_rasterizer import Splats, draw, view_of, work_for
from gs_pose_ros.rendering.work_arrays import Work

_kernel = {'nogil': True, 'error_model': 'numpy'}
# Planes of a picture that was drawn, after the three of the colour.
DEPTH_PLANE, ALPHA_PLANE = 3, 4


class Drawing(NamedTuple):
    """Gaussians and the picture of h x w pixels that they are drawn into at one pose at a time.

    `views`, `work` and `image` are written to: a drawing belongs to one thread.
    """

    prepared: NDArray[np.float32]  # [N, 12]
    sh: NDArray[np.float32]  # [N, K, 3]
    starts: NDArray[np.int64]  # [2] 0, N
    views: NDArray[np.float32]  # [1, VIEW] as `view_of` gives it; the pose is filled in
    K: NDArray[np.float64]  # [4] fx, fy, cx, cy, px
    work: Work
    image: NDArray[np.float32]  # [h, 5, w] colour and depth (m) times alpha; alpha

    @classmethod
    def of(cls, splats: Splats, camera: Camera, sloped: bool = False) -> Drawing:
        """With room for as much as is likely; `sloped` as in `view_of`."""
        return cls(
            prepared=splats.prepared,
            sh=splats.sh,
            starts=np.array([0, len(splats)]),
            views=view_of(camera, np.eye(4), sloped)[None],
            K=np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            work=work_for(splats, camera),
            image=np.empty((camera.height, 5, camera.width), np.float32),
        )

    def with_room(self, camera: Camera, needed: int) -> Drawing:
        """The same with room for so many list entries, what `draw_at` says that it needs."""
        return self._replace(work=work_for(Splats(self.prepared, self.sh), camera, needed))


@numba.njit(inline='always', **_kernel)
def draw_at(drawing, T):
    """Draw at T [4, 4] into drawing.image; the list entries that it needs.

    If they are more than `room` nothing is drawn.
    """
    for i in range(3):
        for j in range(3):
            drawing.views[0, 3 * i + j] = T[i, j]
        drawing.views[0, 9 + i] = T[i, 3]
    return draw(
        drawing.prepared, drawing.sh, drawing.starts, drawing.views, drawing.work, drawing.image
    )


@numba.njit(inline='always', **_kernel)
def room(drawing):
    """The list entries that there is room for."""
    return drawing.work.pairs.shape[1]
