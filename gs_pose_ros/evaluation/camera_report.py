"""The folder that shows an evaluation of the camera's pose: trajectories, plots, worst frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.datasets.rgbd_sequences import write_tum_trajectory
from gs_pose_ros.evaluation.camera_protocols import Outcome
from gs_pose_ros.evaluation.camera_run import CameraRun
from gs_pose_ros.extras import require_modules
from gs_pose_ros.visualization import draw_map_comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_camera_report(outcome: Outcome, title: str, folder: Path, pictures: int = 12) -> None:
    """Trajectories as `read_tum_trajectory` reads them, two plots, and the worst frames.

    A picture is that of `draw_map_comparison` at the estimate.
    """
    require_modules('matplotlib')
    folder.mkdir(parents=True, exist_ok=True)
    _write_trajectories(outcome.runs, folder / 'trajectories')
    _plot_from_above(outcome.runs, title, folder / 'trajectory.png')
    _plot_errors(outcome.runs, title, folder / 'errors.png')
    (folder / 'frames').mkdir(exist_ok=True)
    for place in worst_frames(outcome.main, pictures):
        pose = outcome.main.poses[place]
        caption = _caption(outcome.main, place)
        scene, frame = outcome.scene_of(place), pose.frame.read()
        picture = draw_map_comparison(frame, scene.gaussians, pose.T_map_cam, caption)
        name = f'{pose.frame.number}_{"worst" if pose.found else "lost"}.png'
        cv2.imwrite(str(folder / 'frames' / name), picture[..., ::-1])


def worst_frames(run: CameraRun, most: int) -> list[int]:
    """Places of all lost frames, then of those with the largest errors, `most` in all."""
    lost = np.flatnonzero(~run.found)
    distance = np.where(run.found & np.isfinite(run.errors[0]), run.errors[0], -1.0)
    worst = [i for i in np.argsort(-distance, kind='stable') if distance[i] >= 0]
    return [int(i) for i in (*lost, *worst)][:most]


def _caption(run: CameraRun, place: int) -> str:
    pose, metres, radians = run.poses[place], run.errors[0][place], run.errors[1][place]
    state = f'lost: {pose.reason}, ' if pose.reason else ''
    return f'{pose.frame.number}: {state}{1000 * metres:.1f} mm, {np.degrees(radians):.2f} deg off'


def _write_trajectories(runs: Sequence[CameraRun], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        found = [pose for pose in run.poses if pose.found]
        name = run.name.replace(',', '').replace(' ', '_')
        stamps = [pose.frame.stamp_ns for pose in found]
        write_tum_trajectory(folder / f'{name}.txt', stamps, [pose.T_map_cam for pose in found])
    frames = [pose.frame for run in runs for pose in run.poses]
    truth = {f.stamp_ns: f.T_world_cam for f in frames if f.T_world_cam is not None}
    stamps = sorted(truth)
    write_tum_trajectory(folder / 'truth.txt', stamps, [truth[stamp] for stamp in stamps])


def _plot_from_above(runs: Sequence[CameraRun], title: str, path: Path) -> None:
    """In the plane in which the camera moved most: a map has no up."""
    from matplotlib.figure import Figure

    frames = {p.frame.stamp_ns: p.frame.T_world_cam for run in runs for p in run.poses}
    true = np.array([T[:3, 3] for _, T in sorted(frames.items()) if T is not None])
    center = true.mean(0)
    plane = np.linalg.svd(true - center, full_matrices=True)[2][:2].T  # [3, 2]
    figure = Figure(figsize=(8, 7))
    axes = figure.add_subplot()
    axes.plot(*((true - center) @ plane).T, 'k-', lw=2, label='truth')
    for run in runs:
        found = [pose.T_map_cam[:3, 3] for pose in run.poses if pose.found]
        if found:
            line = (np.array(found) - center) @ plane
            axes.plot(*line.T, '.-', lw=0.8, ms=3, label=run.name)
    # An estimate far off would shrink the truth to a dot.
    extent = 1.5 * np.abs((true - center) @ plane).max() + 0.02
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect='equal')
    axes.set(xlabel='m, along the largest motion', ylabel='m, along the second largest')
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _plot_errors(runs: Sequence[CameraRun], title: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6))
    upper, lower = figure.subplots(2, 1, sharex=True)
    first = min(pose.frame.stamp_ns for run in runs for pose in run.poses)
    for run in runs:
        seconds = np.array([(pose.frame.stamp_ns - first) / 1e9 for pose in run.poses])
        distance, angle = run.errors
        _plot_found(upper, seconds, 1000 * distance, run)
        _plot_found(lower, seconds, np.degrees(angle), run)
    upper.set_ylabel('mm')
    lower.set_ylabel('deg')
    lower.set_xlabel('s')
    upper.set_title(f'{title}: errors (crosses: lost)', fontsize=10)
    upper.legend(fontsize=8)
    for axes in (upper, lower):
        axes.grid(visible=True, which='both', alpha=0.3)
    figure.savefig(path, dpi=110)


def _plot_found(
    axes: Axes, seconds: NDArray[np.float64], errors: NDArray[np.float64], run: CameraRun
) -> None:
    line = axes.semilogy(seconds, np.where(run.found, errors, np.nan), '.-', lw=0.8, ms=3)[0]
    line.set_label(run.name)
    lost = ~run.found
    if lost.any():
        axes.semilogy(seconds[lost], errors[lost], 'x', color=line.get_color())
