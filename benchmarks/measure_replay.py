"""A replayed bag through the localizer's process, beside the same tracker without ROS.

`python benchmarks/measure_replay.py --sequence 7scenes_redkitchen`: its map frames become a bag
with TF, of which the map is built; its tracking frames become a bag without. That is played so
that it waits for each pose, and at its recorded speed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro
from figures import RESULTS, milliseconds, origin, print_table, write_figures
from rich.console import Console

from gs_pose_ros.clients.bag_player import BagPlayer
from gs_pose_ros.clients.camera_collector import CameraCollector
from gs_pose_ros.clients.spinning import spinning_node
from gs_pose_ros.commands.map import BuildMap
from gs_pose_ros.datasets.rgbd_sequences import chosen, read_sequence
from gs_pose_ros.evaluation.trajectory_error import ate_rmse
from gs_pose_ros.geometry import se3
from gs_pose_ros.graph import GraphArguments, GraphProcesses
from gs_pose_ros.localization.camera_tracker import CameraTracker
from gs_pose_ros.localization.map_store import load_map
from gs_pose_ros.recording.bag_writing import WriteBag
from gs_pose_ros.recording.bags import read_frames
from gs_pose_ros.recording.camera_topics import find_topics

_NAMESPACE = 'measure_replay'
COLUMNS = {
    'images': '{:d}',
    'answered': '{:d}',
    'poses': '{:d}',
    'ate_rmse_cm': '{:.2f}',
    'to_offline_um': '{:.3f}',
    'p50_ms': '{:.0f}',
    'p95_ms': '{:.0f}',
}


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    sequence: Path
    """TUM layout, with split_map.txt and split_tracking.txt."""
    out: Path = RESULTS
    """Folder for replay.json."""


def main(arguments: Arguments) -> None:
    """Make the bags and the map, play, compare."""
    figures = origin('a bag through the localizer', asdict(arguments))
    root = arguments.sequence
    tracking = chosen(read_sequence(root), root / 'split_tracking.txt')
    with TemporaryDirectory() as scratch:
        bags = Path(scratch)
        WriteBag(root, bags / 'posed', root / 'split_map.txt', tf='map').run()
        WriteBag(root, bags / 'tracking', root / 'split_tracking.txt').run()
        BuildMap('bag', bags / 'posed', bags / 'kitchen').run()
        stored = load_map(bags / 'kitchen')
        tracker = CameraTracker(stored.scene, stored.relocalizer)
        offline = {f.stamp_ns: tracker.track(f) for f in read_frames(bags / 'tracking')}
        rows: dict[str, Any] = {
            'offline': _row(
                {k: e.T_map_cam for k, e in offline.items() if e.found}, tracking, {}, len(offline)
            )
        }
        poses = {stamp: estimate.T_map_cam for stamp, estimate in offline.items()}
        for name, waits in (('node, the bag waits', True), ('node, at 30 Hz', False)):
            found, answered, seconds = _played(bags, waits)
            rows[name] = {
                **_row(found, tracking, poses if waits else {}, answered),
                **milliseconds(seconds),
            }
        figures['map'] = {
            'gaussians': len(stored.scene),
            'keyframes': len(stored.relocalizer.keyframes),
            **stored.facts,
        }
    figures['rows'] = rows
    print_table('replay', rows, COLUMNS)
    write_figures(arguments.out, 'replay', figures)


def _played(bags: Path, waits: bool) -> tuple[dict[int, Any], int, list[float]]:
    """Poses by stamp, how many images were answered, and what the node worked on each (s)."""
    topics = find_topics(bags / 'tracking')
    arguments = GraphArguments(
        namespace=_NAMESPACE,
        color_topic=topics.color,
        camera_info_topic=topics.camera_info,
        depth_topic=topics.depth,
        objects=False,
        localize=True,
        map=str(bags / 'kitchen'),
    )
    with GraphProcesses(arguments, bags / 'logs') as graph, spinning_node('player') as node:
        collector = CameraCollector(node, topics.color, _NAMESPACE)
        player = BagPlayer(node, bags / 'tracking')
        if not player.wait_for_subscribers(60):
            Console(stderr=True).print('nobody listens')
        player.play(before=collector.before if waits else None)
        collector.settle()
        graph.check()
        stamps, poses = collector.trajectory()
        return dict(zip(stamps, poses, strict=True)), collector.answered, collector.seconds


def _row(
    found: dict[int, Any], tracking: list[Any], offline: dict[int, Any], answered: int
) -> dict[str, Any]:
    truth = {frame.stamp_ns: frame.T_world_cam for frame in tracking}
    stamps = sorted(found)
    out = {
        'images': len(tracking),
        'answered': answered,
        'poses': len(found),
        'ate_rmse_cm': 100
        * ate_rmse(
            np.array([found[k] for k in stamps]),
            np.array([truth[k] for k in stamps]),
            np.ones(len(stamps), bool),
        ),
    }
    if offline:
        apart = [np.linalg.norm((found[k] - offline[k])[:3, 3]) for k in stamps]
        out['to_offline_um'] = 1e6 * float(max(apart))
        turned = [float(se3.rotation_angle(found[k][:3, :3], offline[k][:3, :3])) for k in stamps]
        out['to_offline_deg'] = float(np.degrees(max(turned)))
    return out


if __name__ == '__main__':
    main(tyro.cli(Arguments))
