"""Tracking: time and errors frame by frame, and what happens while the object is hidden.

`python benchmarks/measure_tracking.py --root render_bop --db objects`

First the refiner alone on the `track` scenes, in order. Then the four nodes in real time: every
scene to and fro at its 30 Hz, and again and again the object is behind a board for a second.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro
from figures import RESULTS, milliseconds, origin, print_table, write_figures
from rclpy.node import Node
from rclpy.qos import QoSProfile
from refinement_cases import Case, Pose, read_sequence
from std_msgs.msg import Header

from gs_pose_ros.clients.spinning import spinning_node
from gs_pose_ros.datasets.bop import read_bop_split
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.evaluation.pose_error import rotation_translation_error
from gs_pose_ros.graph import GraphArguments, GraphProcesses
from gs_pose_ros.msg import ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import camera_to_message, image_to_message, ns_to_stamp
from gs_pose_ros.nodes.tracks import Track
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.recording.frame_decoding import pose_from_message, stamp_to_ns

PERIOD_S = 1 / 30
HIDDEN_IMAGES = 30
COLOR, INFO, DEPTH = '/camera/color', '/camera/info', '/camera/depth'
QUESTION = (
    'Images from the first that hides the object to the first answer LOST; seconds from sending '
    'the first image that shows it again to the arrival of a good pose.'
)


class Player:
    """Sends the pictures of a scene to and fro, and notes what the refiner answers."""

    def __init__(self, node: Node, cases: Sequence[Case]) -> None:
        rng = np.random.default_rng(0)
        self._cases = cases
        self._shown = [_messages(case) for case in cases]
        self._hidden = [_messages(case.occluded(1.0, rng)) for case in cases]
        kinds = {topic: type(msg) for topic, msg in self._shown[0].items()}
        self._publishers = {t: node.create_publisher(kind, t, 10) for t, kind in kinds.items()}
        self._turn = 0
        self.truth: dict[int, Pose] = {}  # by stamp
        self.answers: list[tuple[float, int, ObjectPose]] = []  # arrival (monotonic), stamp
        poses = 'gs_pose/gs_refiner/poses'
        node.create_subscription(
            ObjectPoseArray, f'/{poses}', self._on_poses, QoSProfile(depth=99)
        )

    def send(self, images: int, hidden: bool = False) -> list[tuple[float, int]]:
        """So many images at 30 Hz; when (monotonic) and with what stamp each was sent."""
        sent, begun = [], time.monotonic()
        for k in range(images):
            time.sleep(max(0.0, begun + k * PERIOD_S - time.monotonic()))
            n = len(self._cases)
            place = min(self._turn, 2 * n - 1 - self._turn)
            self._turn = (self._turn + 1) % (2 * n)
            messages = (self._hidden if hidden else self._shown)[place]
            stamp_ns = time.time_ns()
            self.truth[stamp_ns] = self._cases[place].T_cam_obj
            sent.append((time.monotonic(), stamp_ns))
            for topic, msg in messages.items():
                msg.header.stamp = ns_to_stamp(stamp_ns)
                self._publishers[topic].publish(msg)
        return sent

    def followed(self) -> bool:
        """Whether the last answer is a tracked pose."""
        last = self.answers[-1][2] if self.answers else None
        return (
            last is not None
            and last.status == ObjectPose.STATUS_OK
            and last.stage == ObjectPose.STAGE_TRACKED
        )

    def _on_poses(self, msg: ObjectPoseArray) -> None:
        stamp_ns = stamp_to_ns(msg.header.stamp)
        self.answers += [(time.monotonic(), stamp_ns, pose) for pose in msg.poses]


def _messages(case: Case) -> dict[str, Any]:
    header, frame = Header(frame_id='camera'), case.frame
    if frame.depth is None:
        raise GsPoseError('the scene has no depth')
    return {
        COLOR: image_to_message(np.rint(255 * frame.color).astype(np.uint8), 'rgb8', header),
        DEPTH: image_to_message(frame.depth, '32FC1', header),
        INFO: camera_to_message(frame.camera, header),
    }


@dataclass(frozen=True)
class MeasureTracking:
    """The refiner alone, then the nodes."""

    root: Path
    """BOP set with train/ and track/."""
    db: Path = Path('out/benchmarks/refinement')
    """Objects; what is missing is registered from train/."""
    hidings: int = 4
    """How often the object of each scene is hidden."""
    out: Path = RESULTS
    """Folder for tracking.json."""

    def run(self) -> None:
        """Measure, print, write."""
        figures = origin(f'tracking, {self.root.resolve().name} track', asdict(self))
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        os.environ['ROS_DOMAIN_ID'] = str(random.randint(1, 100))
        # Whoever ends this process means the nodes as well.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        scenes = sorted({image.scene_id for image in read_bop_split(self.root, 'track')})
        alone, hidden = {}, {}
        for scene in scenes:
            cases = read_sequence(self.root, 'track', scene, self.db)
            alone[f'scene {scene}'] = track_alone(cases)
            hidden[f'scene {scene}'] = self._hide(cases)
        print_table(
            'the refiner alone, frame by frame',
            alone,
            {
                'n': '{}', 'lost': '{}', 'p50_ms': '{:.0f}', 'p95_ms': '{:.0f}',
                'median_deg': '{:.2f}', 'median_pc': '{:.2f}', 'worst_deg': '{:.1f}',
            },
        )  # fmt: skip
        print_table(
            'the nodes at 30 Hz, hidden for 1 s',
            hidden,
            {
                'lost_after_images': '{}', 'found_after_s': '{}', 'deg_when_found': '{}',
                'good_while_hidden': '{}', 'lost_before': '{}',
            },
        )  # fmt: skip
        figures |= {'alone': alone, 'question': QUESTION, 'hidden': hidden}
        write_figures(self.out, 'tracking', figures)

    def _hide(self, cases: Sequence[Case]) -> dict[str, Any]:
        with TemporaryDirectory() as scratch:
            objects, name = Path(scratch) / 'objects', cases[0].reference.object_id
            shutil.copytree(self.db / name, objects / name)
            arguments = GraphArguments(
                color_topic=COLOR,
                camera_info_topic=INFO,
                depth_topic=DEPTH,
                database=str(objects),
            )
            with (
                GraphProcesses(arguments, Path(scratch) / 'logs') as graph,
                spinning_node('camera') as node,
            ):
                player = Player(node, cases)
                for _ in range(60):
                    player.send(30)
                    graph.check()
                    if player.followed():
                        break
                else:
                    raise GsPoseError(f'{name} is not followed after a minute')
                trials = [self._trial(player) for _ in range(self.hidings)]
        return {key: [trial[key] for trial in trials] for key in trials[0]}

    def _trial(self, player: Player) -> dict[str, Any]:
        player.answers.clear()
        before = player.send(60)
        gone = player.send(HIDDEN_IMAGES, hidden=True)
        back = player.send(90)
        time.sleep(0.5)
        hidden = [stamp for _, stamp in gone]
        lost = {s for _, s, pose in player.answers if pose.status == ObjectPose.STATUS_LOST}
        good = [a for a in player.answers if a[2].status == ObjectPose.STATUS_OK]
        # The answer to an image in which it was hidden, whenever it came.
        declared = [i for i, stamp in enumerate(hidden, 1) if stamp in lost]
        found = [(at, stamp, pose) for at, stamp, pose in good if stamp >= back[0][1]]
        out: dict[str, Any] = {
            'lost_before': sum(stamp in lost for _, stamp in before),
            'lost_after_images': declared[0] if declared else None,
            'good_while_hidden': sum(stamp in set(hidden) for _, stamp, _ in good),
            'found_after_s': None,
            'deg_when_found': None,
        }
        if found:
            at, stamp, pose = found[0]
            T = pose_from_message(pose.pose.pose)
            angle, _ = rotation_translation_error(T, player.truth[stamp])
            out['found_after_s'] = round(at - back[0][0], 3)
            out['deg_when_found'] = round(float(np.degrees(angle)), 2)
        return out


def track_alone(cases: Sequence[Case]) -> Mapping[str, Any]:
    """Follow the object from its true pose in the first frame; lost frames keep the last pose."""
    refiner, reference = LMRefiner(), cases[0].reference
    track = Track(reference.object_id, 0)
    track.moved_to(0, cases[0].T_cam_obj)
    refiner.track(cases[0].frame, reference, track.T_cam_obj)  # loads or compiles the kernels
    seconds, errors, lost = [], [], 0
    for i, case in enumerate(cases[1:], 1):
        stamp_ns = round(i * PERIOD_S * 1e9)
        begun = time.perf_counter()
        predicted = track.predicted(stamp_ns)
        estimate = refiner.track(case.frame, reference, track.T_cam_obj, predicted)
        seconds.append(time.perf_counter() - begun)
        lost += not estimate.found
        T = estimate.T_cam_obj if estimate.found else track.T_cam_obj
        track.moved_to(stamp_ns, T)
        angle, shift = rotation_translation_error(T, case.T_cam_obj)
        errors.append((np.degrees(angle), 100 * shift / np.linalg.norm(case.T_cam_obj[:3, 3])))
    angle, share = np.array(errors).T
    return {
        **milliseconds(seconds),
        'lost': lost,
        'median_deg': float(np.median(angle)),
        'worst_deg': float(angle.max()),
        'median_pc': float(np.median(share)),
    }


if __name__ == '__main__':
    tyro.cli(MeasureTracking).run()
