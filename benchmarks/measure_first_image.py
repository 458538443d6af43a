"""How long nodes with registered objects take to their first answer.

`python benchmarks/measure_first_image.py --root render_bop --db DATABASE [--before CHECKOUT]`: the
four nodes start on a database, a camera shows one picture ten times a second, and the times of the
detector's first answer and of the first refined poses are noted, by their publishers' clock. With
`--before` the nodes of another checkout take turns with ours.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro
from figures import RESULTS, origin, print_table, write_figures
from std_msgs.msg import Header

from gs_pose_ros.clients.spinning import spinning_node
from gs_pose_ros.datasets.bop import read_bop_split
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.graph import GraphArguments, GraphProcesses
from gs_pose_ros.msg import ObjectDetectionArray, ObjectPose, ObjectPoseArray
from gs_pose_ros.nodes.runtime.conversions import (
    camera_to_message,
    image_to_message,
    ns_to_stamp,
)
from gs_pose_ros.objects.database import ObjectDatabase

_TOPICS = ('/camera/color', '/camera/info', '/camera/depth')
_ANSWERED = (ObjectDetectionArray.STATUS_OK, ObjectDetectionArray.STATUS_NOT_FOUND)


@dataclass(frozen=True)
class MeasureFirstImage:
    """Start the nodes again and again."""

    root: Path
    """BOP set; the picture is of its test split."""
    db: Path
    """Database of its objects."""
    before: Path | None = None
    """Another checkout whose nodes take turns with these."""
    image: int = 0
    """Which picture of the split."""
    runs: int = 5
    """Starts of each; medians are over these."""
    fresh: bool = False
    """Also begin without what was prepared of the objects."""
    out: Path = RESULTS
    """Folder for first_image.json."""

    def run(self) -> None:
        """Measure, print the table, write the file."""
        figures = origin('the first answer of nodes with registered objects', asdict(self))
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        root, db, out = self.root.resolve(), self.db.resolve(), self.out.resolve()
        picture = read_bop_split(root, 'test')[self.image].read_frame(with_depth=True)
        codes = {'ours': Path(__file__).parents[1]}
        if self.before is not None:
            codes['before'] = self.before.resolve()
        runs: dict[str, list[dict[str, float]]] = {}
        if self.fresh:
            shutil.rmtree(db / '.prepared', ignore_errors=True)
            runs['ours, objects not prepared'] = [self._started(codes['ours'], db, picture)]
        for _ in range(self.runs):
            for name, code in codes.items():
                runs.setdefault(name, []).append(self._started(code, db, picture))
        rows = {
            name: {key: median(run[key] for run in of_code) for key in of_code[0]}
            for name, of_code in runs.items()
        }
        print_table('seconds, medians', rows, dict.fromkeys(next(iter(rows.values())), '{:.2f}'))
        figures |= {
            'meaning': 'Seconds from the activation of the detector (the start, of nodes that do '
            'not say when they are active) to its first answer, the number of objects in it, and '
            'to the first refined poses; and from the start of the processes to these two.',
            'objects': len(ObjectDatabase(db).object_ids()),
            'medians': rows,
            'runs': runs,
        }
        write_figures(out, 'first_image', figures)

    def _started(self, code: Path, db: Path, picture: RGBDFrame) -> dict[str, float]:
        """One start; seconds."""
        os.environ['ROS_DOMAIN_ID'] = str(random.randint(1, 100))
        os.environ['PYTHONPATH'] = str(code)
        os.chdir(code)  # python -m looks here first
        came: dict[str, Any] = {}

        def on_detections(msg: ObjectDetectionArray) -> None:
            if msg.status in _ANSWERED:
                came.setdefault('detected', (time.time(), len(msg.detections)))

        def on_poses(msg: ObjectPoseArray) -> None:
            if any(pose.status == ObjectPose.STATUS_OK for pose in msg.poses):
                came.setdefault('posed', time.time())

        arguments = GraphArguments(
            color_topic=_TOPICS[0],
            camera_info_topic=_TOPICS[1],
            depth_topic=_TOPICS[2],
            image_reliability='reliable',
            database=str(db),
        )
        with TemporaryDirectory() as logs, spinning_node('camera') as node:
            header = Header(frame_id='camera')
            depth = picture.depth
            assert depth is not None
            messages = [
                image_to_message(np.rint(255 * picture.color).astype(np.uint8), 'rgb8', header),
                camera_to_message(picture.camera, header),
                image_to_message(depth, '32FC1', header),
            ]
            publishers = [
                node.create_publisher(type(m), t, 5)
                for m, t in zip(messages, _TOPICS, strict=True)
            ]
            node.create_subscription(
                ObjectDetectionArray, '/gs_pose/detector/detections', on_detections, 10
            )
            node.create_subscription(ObjectPoseArray, '/gs_pose/gs_refiner/poses', on_poses, 10)
            begun = time.time()
            with GraphProcesses(arguments, Path(logs)) as graph:
                while not {'detected', 'posed'} <= came.keys():
                    graph.check()
                    if time.time() - begun > 120:
                        raise GsPoseError(f'within 2 minutes only {came}')
                    stamp = ns_to_stamp(time.time_ns())
                    for message, publisher in zip(messages, publishers, strict=True):
                        message.header.stamp = stamp
                        publisher.publish(message)
                    time.sleep(0.1)
            active = _active(Path(logs) / 'detector.log') or begun
        detected, count = came['detected']
        return {
            'detected_s': detected - active,
            'detections': float(count),
            'posed_s': came['posed'] - active,
            'detected_from_start_s': detected - begun,
            'posed_from_start_s': came['posed'] - begun,
        }


def _active(log: Path) -> float | None:
    """When the node said that it is active, s; None if it does not say so."""
    for line in log.read_text(errors='replace').splitlines():
        if line.endswith(']: active'):
            return float(line.split('[', 2)[2].split(']')[0])
    return None


if __name__ == '__main__':
    tyro.cli(MeasureFirstImage).run()
