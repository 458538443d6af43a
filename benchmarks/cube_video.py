"""Tracking and detection of a hand-held cube in real RGB video; a command of `real_sets.py`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from figures import write_figures
from numpy.typing import NDArray

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import PoseEstimate
from gs_pose_ros.evaluation.pose_error import add_error, rotation_translation_error
from gs_pose_ros.evaluation.provenance import provenance
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.pose.estimator import PoseEstimator
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.visualization import OverlayObject, draw_overlay

Pose = NDArray[np.float64]  # [4, 4] T_cam_obj


@dataclass(frozen=True)
class CubeVideo:
    """Follow a hand-held cube in compressed RGB video, and find it from nothing."""

    root: Path
    db: Path
    out: Path
    object_id: str = 'obj_000001'
    detections: int = 10
    """On how many frames to start from nothing."""
    name: str = 'real_cube_video'

    def run(self) -> None:
        """Errors are to reference poses by feature matching, good to 1 deg and 3 mm."""
        self.out.mkdir(parents=True, exist_ok=True)
        reference = ObjectDatabase(self.db).load(self.object_id)
        truth = read_reference_poses(self.root / 'reference_poses.json')
        frames = dict(self._frames(min(truth), max(truth)))
        figures = {
            'title': f'visp_cube_video, RGB only, {self.object_id} of {self.db.name}',
            **provenance(),
            'n_reference_frames': len(truth),
            'registration': dict(reference.facts),
            'from_previous_reference': self._pairs(frames, truth, reference),
            'continuous': self._continuous(frames, truth, reference),
            'from_nothing': self._from_nothing(frames, truth, reference),
        }
        write_figures(self.out, self.name, figures)

    def _frames(self, first: int, last: int) -> Iterator[tuple[int, RGBDFrame]]:
        K = _camera_matrix(json.loads((self.root / 'camera.json').read_text()))
        video = cv2.VideoCapture(str(self.root / 'cube_video.mp4'))
        for number in range(last + 1):
            read, bgr = video.read()
            if not read:
                raise GsPoseError(f'{self.root}: the video ends at frame {number}')
            if number >= first:
                rgb = np.ascontiguousarray(bgr[..., ::-1]).astype(np.uint8, copy=False)
                camera = Camera.from_matrix(K, rgb.shape[1], rgb.shape[0])
                yield number, RGBDFrame.from_uint8(rgb, None, camera, number)

    def _pairs(
        self, frames: dict[int, RGBDFrame], truth: dict[int, Pose], reference: ObjectReference
    ) -> dict[str, Any]:
        """Each reference frame from the reference pose before it."""
        refiner = LMRefiner()
        numbers = sorted(truth)
        rows: dict[str, list[dict[str, Any]]] = {'no_motion': [], 'track': [], 'refine': []}
        for before, now in itertools.pairwise(numbers):
            start = truth[before]
            for name, out in rows.items():
                begin = time.perf_counter()
                if name == 'track':
                    pose = refiner.track(frames[now], reference, start)
                elif name == 'refine':
                    pose = refiner.refine(frames[now], reference, [start])
                else:
                    pose = None
                seconds = time.perf_counter() - begin
                row = _row(now, pose, start, truth[now], reference)
                out.append({**row, 'gap': now - before, 'ms': round(1000 * seconds, 1)})
        adjacent = {k: [r for r in v if r['gap'] <= 2] for k, v in rows.items()}
        return {
            **{name: _medians(out) for name, out in rows.items()},
            'gap_of_at_most_2_frames': {name: _medians(out) for name, out in adjacent.items()},
            'frames': rows,
        }

    def _continuous(
        self, frames: dict[int, RGBDFrame], truth: dict[int, Pose], reference: ObjectReference
    ) -> dict[str, Any]:
        """From the first reference pose on by its own estimates alone, lost or not."""
        refiner = LMRefiner()
        T, rows, lost = truth[min(truth)], [], []
        for number in sorted(frames)[1:]:
            pose = refiner.track(frames[number], reference, T)
            if pose.found:
                T = pose.T_cam_obj
            else:
                lost.append(number)
            if number in truth:
                rows.append(_row(number, pose, T, truth[number], reference))
        return {**_medians(rows), 'n_video_frames': len(frames) - 1, 'lost': lost, 'frames': rows}

    def _from_nothing(
        self, frames: dict[int, RGBDFrame], truth: dict[int, Pose], reference: ObjectReference
    ) -> dict[str, Any]:
        """Detector, retrieval, refiner."""
        estimator = PoseEstimator()
        chosen = np.linspace(0, len(truth) - 1, self.detections).round().astype(int)
        rows = []
        for number in (sorted(truth)[i] for i in chosen):
            frame = frames[number]
            begin = time.perf_counter()
            found = estimator.estimate(frame, [reference])[0]
            seconds = time.perf_counter() - begin
            row = {'frame': number, 'status': 'not found'}
            if found.detection is not None:
                best = found.pose
                row = _row(number, best, best.T_cam_obj, truth[number], reference)
                if best.found:
                    item = OverlayObject('cube', best.T_cam_obj, reference)
                    picture = draw_overlay(frame.color, frame.camera, [item])
                    path = self.out / f'{self.name}_{number:06d}.png'
                    cv2.imwrite(str(path), picture[..., ::-1])
            rows.append({**row, 'ms': round(1000 * seconds, 1)})
        return {**_medians(rows), 'frames': rows}


def read_reference_poses(path: Path) -> dict[int, Pose]:
    """T_cam_obj [4, 4] (m) by frame number."""
    content = json.loads(path.read_text())
    return {
        int(number): se3.from_rotation_translation(
            se3.project_to_so3(np.reshape(entry['cam_R_m2c'], (3, 3))),
            np.array(entry['cam_t_m2c']) / 1000,
        )
        for number, entry in content.items()
    }


def _camera_matrix(content: dict[str, Any]) -> list[float]:
    if 'cam_K' in content:
        return content['cam_K']
    return [content['fx'], 0, content['cx'], 0, content['fy'], content['cy'], 0, 0, 1]


def _row(
    number: int, pose: PoseEstimate | None, T: Pose, T_true: Pose, reference: ObjectReference
) -> dict[str, Any]:
    """The error of T; whether it may be used is what `pose` says."""
    angle, distance = rotation_translation_error(T, T_true)
    corners = np.stack(np.meshgrid(*reference.box.T, indexing='ij'), -1).reshape(8, 3)
    return {
        'frame': number,
        'status': 'given' if pose is None else pose.status.value,
        'reason': '' if pose is None else pose.reason,
        'rot_deg': round(float(np.degrees(angle)), 3),
        'trans_mm': round(1000 * distance, 2),
        'correct': bool(add_error(T, T_true, corners) < 0.1 * reference.diameter_m),
    }


def _medians(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the poses that may be used; the rest is counted."""
    found = [row for row in rows if row['status'] not in ('lost', 'not found')]
    times = [row['ms'] for row in rows if 'ms' in row]

    def median(key: str) -> float | None:
        return float(np.median([row[key] for row in found])) if found else None

    return {
        'n': len(rows),
        'n_found': len(found),
        'n_lost': len(rows) - len(found),
        'n_correct_0.1d': sum(row['correct'] for row in found),
        'median_rot_deg': median('rot_deg'),
        'median_trans_mm': median('trans_mm'),
        'p50_ms': float(np.median(times)) if times else None,
    }
