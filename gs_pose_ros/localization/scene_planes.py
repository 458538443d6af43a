"""The scratch memory of `scene_comparison`: which of its planes holds what.

At most `PIECE` pixels of a row are compared at a time. What that takes lies in one flat array w:
a plane has `STRIDE` numbers, one for each pixel from two left of the piece to one right of it, so
that `w[plane.MAP_Z + k]` is the depth of the map at the k-th of them, and the piece begins at
k = `FIRST`. With one array, offsets that the compiler knows and unsigned counts it turns loops
over k into vector instructions.

A group is seven planes in a row: a Jacobian by (translation, rotation about the centre), and the
value that it belongs to.
"""

from __future__ import annotations

from itertools import count

from gs_pose_ros.rendering.projection import u64

PIECE = 64  # pixels
FIRST = u64(2)
STRIDE = u64(PIECE + 8)
COLUMNS = 7  # planes of a group
GROUP = u64(COLUMNS) * STRIDE

_numbers = count()


def _plane() -> u64:
    """Where the next plane begins."""
    return u64(next(_numbers)) * STRIDE


def _group() -> u64:
    """Where the next group begins."""
    first, *_ = [_plane() for _ in range(COLUMNS)]
    return first


# The map as it is drawn, at the pixels of the row, of the one above and of the one below: depth
# (m, 0 where little of the map is there) and gray.
MAP_Z, MAP_Z_ABOVE, MAP_Z_BELOW = _plane(), _plane(), _plane()
MAP_GRAY, MAP_GRAY_ABOVE, MAP_GRAY_BELOW = _plane(), _plane(), _plane()
# The picture: depth (m, 0 unknown), where in the pixel it was measured (px from the middle), gray.
SEEN_Z, SEEN_Z_ABOVE = _plane(), _plane()
SEEN_DU, SEEN_DV = _plane(), _plane()
SEEN_GRAY = _plane()
# Slopes of the map's depth to the right and down, m/px.
SLOPE_U, SLOPE_V = _plane(), _plane()
# What comes of the comparison: the residual of the depth (NaN where it is not in both), whether
# both show the same surface (1 or 0), and the cost of all residuals.
RESIDUAL, SAME, COST = _plane(), _plane(), _plane()
# The depth of the map with its Jacobian, in the row and in the one above; the depth is 0 where it
# is unknown or jumps.
SURFACE, SURFACE_ABOVE = _group(), _group()
# Residuals with their Jacobians, times the roots of their weights: of the depth, of its slope to
# the left and up (the contour), and of the gray.
DEPTH_ROWS, LEFT_ROWS, UP_ROWS, GRAY_ROWS = _group(), _group(), _group(), _group()
SIZE = next(_numbers) * int(STRIDE)
# Where in a group the planes of the Jacobian begin, and that of the value.
TX, TY, TZ, WX, WY, WZ, VALUE = (u64(k) * STRIDE for k in range(COLUMNS))
