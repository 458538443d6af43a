"""How fast the camera is found in a large map, and what such a map takes.

`python benchmarks/measure_localization.py`; the scene is the ray-cast room of `rendered_room` with
a sensor's noise, seen at 320 x 240 px, in a map of which 300 000 Gaussians are in view.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from figures import RESULTS, origin, print_table, write_figures
from rendered_room import CAMERA, cast, sensor, trajectory

from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_tracker import CameraTracker
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud

_SAVE = """
import sys, numpy as np
from pathlib import Path
from gs_pose_ros.localization.map_store import StoredMap, save_map
from gs_pose_ros.localization.relocalization import KeyframeRelocalizer
from gs_pose_ros.localization.surfels import SurfelSettings, surfels
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import OrientedPoints
n = int(sys.argv[1])
r = np.random.default_rng(0)
p = r.uniform(-5, 5, (n, 3))
p[:, 2] = 0.3 * np.sin(p[:, 0])
normals = np.tile([0, 0, 1.0], (n, 1))
cloud = OrientedPoints(p, r.uniform(size=(n, 3)), normals, np.full(n, 0.01))
scene = SceneMap(surfels(cloud, SurfelSettings()), 0.01)
save_map(Path(sys.argv[2]), StoredMap(scene, KeyframeRelocalizer.from_keyframes(())))
"""
_LOAD = """
import sys, time
from pathlib import Path
from gs_pose_ros.localization.map_store import load_map
begin = time.perf_counter()
scene = load_map(Path(sys.argv[1])).scene
loaded = time.perf_counter()
_ = scene.levels
ready = time.perf_counter()
lines = (line.split() for line in open('/proc/self/status'))
kib = {words[0]: int(words[1]) for words in lines if words[0] in ('VmHWM:', 'VmRSS:')}
print(loaded - begin, ready - loaded, kib['VmRSS:'] / 1024, kib['VmHWM:'] / 1024)
"""


def loaded_map(gaussians: int) -> dict[str, float]:
    """Seconds and memory of a saved map in a process of its own, with all levels of detail."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'map')
        subprocess.run([sys.executable, '-c', _SAVE, str(gaussians), path], check=True)
        command = [sys.executable, '-c', _LOAD, path]
        told = subprocess.run(command, capture_output=True, check=True).stdout.split()
    keys = ('load_s', 'levels_s', 'resident_mib', 'peak_mib')
    return {'gaussians': gaussians, **dict(zip(keys, map(float, told), strict=True))}


@dataclass(frozen=True)
class MeasureLocalization:
    """Tracking frame by frame, relocalization, memory."""

    voxel_m: float = 0.0055
    """Width of the map's voxels."""
    map_frames: int = 40
    """Of 640 x 480 px, over ten seconds of the tour."""
    frames: int = 90
    """Followed, at 30 Hz."""
    gaussians: int = 1_000_000
    """Of the map whose memory is measured."""
    seed: int = 0
    """Of the noise."""
    out: Path = RESULTS
    """Folder for localization.json."""

    def run(self) -> None:
        """Measure, print the table, write the file."""
        figures = origin('localization in a rendered room', asdict(self))
        rng = np.random.default_rng(self.seed)
        cloud = VoxelCloud(FusionSettings(voxel_m=self.voxel_m, max_points=4_000_000))
        posed = []
        for T in trajectory(self.map_frames, self.map_frames / 10.0, phase=-3.0):
            color, depth = cast(CAMERA, T)
            frame = RGBDFrame.from_uint8(color, sensor(depth, CAMERA, rng), CAMERA)
            cloud.add(frame, T)
            posed.append((frame, T))
        scene = SceneMap.from_cloud(cloud, min_frames=2)
        camera = CAMERA.scaled(0.5)
        relocalizer = KeyframeRelocalizer.of(posed)
        tracker = CameraTracker(scene, relocalizer)
        truths = trajectory(self.frames, 30.0)
        tracker.reset(truths[0])
        seconds, errors, in_view, found = [], [], [], 0
        frames = []
        for i, T in enumerate(truths):
            color, depth = cast(camera, T)
            stamp_ns = round(i / 30 * 1e9)
            frames.append(
                RGBDFrame.from_uint8(color, sensor(depth, camera, rng), camera, stamp_ns)
            )
            splats = scene.levels[0].in_view(camera, se3.inverse(T), 8.0)
            in_view.append(len(splats))
        tracker.track(frames[0])  # compiles
        tracker.reset(truths[0])
        for frame, T in zip(frames, truths, strict=True):
            begin = time.perf_counter()
            estimate = tracker.track(frame)
            seconds.append(time.perf_counter() - begin)
            found += estimate.found
            errors.append(_error(estimate.T_map_cam, T))
        again = []
        for frame, T in list(zip(frames, truths, strict=True))[::9]:
            begin = time.perf_counter()
            estimate = tracker.relocalize(frame)
            took = time.perf_counter() - begin
            mm, deg = _error(estimate.T_map_cam, T)
            again.append((took, estimate.found and mm < 50 and deg < 5))
        mm, deg = np.array(errors).T
        rows = {
            'tracking': {
                'p50_ms': 1e3 * float(np.percentile(seconds, 50)),
                'p95_ms': 1e3 * float(np.percentile(seconds, 95)),
                'hz': 1 / float(np.percentile(seconds, 50)),
                'median_mm': float(np.median(mm)),
                'ate_cm': float(np.sqrt(np.mean(mm**2)) / 10),
                'median_deg': float(np.median(deg)),
                'lost': self.frames - found,
                'gaussians': len(scene),
                'in_view': round(float(np.median(in_view))),
            },
            'relocalization': {
                'p50_ms': 1e3 * float(np.percentile([t for t, _ in again], 50)),
                'p95_ms': 1e3 * float(np.percentile([t for t, _ in again], 95)),
                'found': float(np.mean([ok for _, ok in again])),
                'frames': len(again),
            },
            'map': loaded_map(self.gaussians),
        }
        print_table(
            'localization',
            rows,
            {
                'p50_ms': '{:.0f}', 'p95_ms': '{:.0f}', 'median_mm': '{:.2f}', 'lost': '{}',
                'in_view': '{}', 'found': '{:.2f}', 'resident_mib': '{:.0f}',
                'peak_mib': '{:.0f}', 'load_s': '{:.1f}', 'levels_s': '{:.1f}',
            },
        )  # fmt: skip
        write_figures(self.out, 'localization', {**figures, 'rows': rows})


def _error(T: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Millimetres and degrees."""
    angle = np.degrees(float(se3.rotation_angle(T[:3, :3], truth[:3, :3])))
    return 1e3 * float(np.linalg.norm(T[:3, 3] - truth[:3, 3])), float(angle)


if __name__ == '__main__':
    tyro.cli(MeasureLocalization).run()
