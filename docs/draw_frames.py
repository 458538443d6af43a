"""Draw frames.png for conventions.md: world, board, object and camera frames, and the pixel grid.

python docs/draw_frames.py
"""

from pathlib import Path

import matplotlib as mpl

mpl.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera

AXIS_COLORS = ('#d62728', '#2ca02c', '#1f77b4')  # x, y, z, as in RViz
CAMERA = Camera(60.0, 60.0, 31.5, 23.5, 64, 48)


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """T_world_cam [4, 4]: z to the target, y down."""
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    return se3.from_rotation_translation(np.stack([x, np.cross(z, x), z], 1), eye)


def draw_frame(ax, T_world_frame: np.ndarray, length: float) -> None:
    origin = T_world_frame[:3, 3]
    for k, letter in enumerate('xyz'):
        tip = origin + length * T_world_frame[:3, k]
        ax.plot(*np.stack([origin, tip], 1), color=AXIS_COLORS[k], lw=2.5)
        ax.text(*(origin + 1.15 * length * T_world_frame[:3, k]), letter, color=AXIS_COLORS[k])


def draw_scene(ax) -> None:
    T_world_obj = se3.from_rotation_translation(se3.exp([0, 0, 0, 0, 0, 0.6])[:3, :3], [0, 0, 0])
    T_world_cam = look_at(np.array([-0.6, -0.25, 0.4]), np.array([0, 0, 0.05]))
    low, high = np.array([-0.1, -0.07, 0.0]), np.array([0.1, 0.07, 0.14])
    corners = np.stack(np.meshgrid(*np.stack([low, high], 1), indexing='ij'), -1).reshape(8, 3)
    corners = se3.transform(T_world_obj, corners)
    faces = [[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]]
    box = Poly3DCollection(
        [corners[f] for f in faces], alpha=0.12, facecolor='#999', edgecolor='#555'
    )
    ax.add_collection3d(box)
    board = np.array([[-0.2, -0.15, 0], [0.2, -0.15, 0], [0.2, 0.15, 0], [-0.2, 0.15, 0]])
    board = se3.transform(T_world_obj, board)
    ax.add_collection3d(Poly3DCollection([board], alpha=0.08, facecolor='k', edgecolor='#777'))
    draw_frame(ax, T_world_obj, 0.19)
    ax.text(-0.08, -0.3, -0.03, 'obj: on a marker board its middle, z up', ha='center', va='top')
    draw_frame(ax, T_world_cam, 0.13)
    ax.text(*(T_world_cam[:3, 3] + [0.02, 0, 0.1]), 'cam: z ahead, x right, y down', ha='center')
    # The image, drawn 0.2 m ahead of the camera.
    uv = [[-0.5, -0.5], [63.5, -0.5], [63.5, 47.5], [-0.5, 47.5]]
    outline = se3.transform(T_world_cam, CAMERA.back_project(uv, np.full(4, 0.2)))
    ax.add_collection3d(
        Poly3DCollection([outline], alpha=0.15, facecolor='#ffbf00', edgecolor='#b8860b')
    )
    for corner in outline:
        ax.plot(*np.stack([T_world_cam[:3, 3], corner], 1), color='#b8860b', lw=0.7)
    point = T_world_obj[:3, 3]
    line = np.stack([T_world_cam[:3, 3], point], 1)
    ax.plot(*line, color='#9467bd', lw=1.5, ls='--')
    middle = np.add(line.mean(1), [0.02, 0, 0.05])
    ax.text(*middle, r'$T_{cam\,obj}$', color='#9467bd', fontsize=13)
    ax.set(xlim=(-0.68, 0.22), ylim=(-0.35, 0.25), zlim=(0, 0.5))
    ax.set_box_aspect((0.9, 0.6, 0.5), zoom=1.18)
    ax.view_init(elev=32, azim=-82)
    ax.set_axis_off()
    ax.set_title('p_cam = T_cam_obj p_obj', family='monospace', fontsize=11)


def draw_pixels(ax: Axes) -> None:
    for k in range(5):
        ax.plot([k - 0.5, k - 0.5], [-0.5, 2.5], color='#888', lw=1)
    for k in range(4):
        ax.plot([-0.5, 3.5], [k - 0.5, k - 0.5], color='#888', lw=1)
    u, v = np.meshgrid(range(4), range(3))
    ax.plot(u.ravel(), v.ravel(), 'o', color='#1f77b4', ms=4)
    ax.annotate('(0, 0)', (0, 0), (0.12, -0.12), color='#1f77b4')
    ax.annotate('(3, 2)', (3, 2), (2.97, 1.75), color='#1f77b4', ha='right')
    ax.annotate('(-0.5, -0.5)', (-0.5, -0.5), (-0.5, -0.85), color='#d62728', ha='center')
    ax.annotate('(W - 0.5, H - 0.5)', (3.5, 2.5), (3.5, 2.95), color='#d62728', ha='center')
    ax.plot([-0.5, 3.5], [-0.5, 2.5], 's', color='#d62728', ms=5)
    ax.annotate('', (1.2, -1.15), (-0.5, -1.15), arrowprops={'arrowstyle': '->'})
    ax.annotate('', (-1.15, 1.2), (-1.15, -0.5), arrowprops={'arrowstyle': '->'})
    ax.text(1.3, -1.15, 'u', va='center')
    ax.text(-1.15, 1.35, 'v', ha='center', va='top')
    ax.set(xlim=(-1.5, 4.8), ylim=(3.4, -1.5), aspect='equal')
    ax.set_title('Pixels: centres at integers', fontsize=11)
    ax.set_axis_off()


def main() -> None:
    figure = plt.figure(figsize=(11, 4.8))
    draw_scene(figure.add_axes((-0.02, 0.0, 0.66, 0.92), projection='3d'))
    draw_pixels(figure.add_axes((0.63, 0.08, 0.36, 0.8)))
    figure.savefig(Path(__file__).parent / 'frames.png', dpi=110)


if __name__ == '__main__':
    main()
