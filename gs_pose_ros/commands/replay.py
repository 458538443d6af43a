"""`gs-pose replay` and `gs-pose record`: bags onto live topics and back.

`read_frames` reads a bag without any of it: evaluation and registration take that way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from rich.progress import Progress
from tyro.conf import Positional, arg

from gs_pose_ros.datasets.rgbd_sequences import write_tum_trajectory
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.extras import POSE_EVALUATION, require_modules
from gs_pose_ros.recording.bags import read_frames, read_transforms
from gs_pose_ros.recording.camera_topics import BagInput, CameraTopics, find_topics

if TYPE_CHECKING:
    from gs_pose_ros.clients.pose_collector import PoseCollector
    from gs_pose_ros.evaluation.evaluation import Evaluation

__all__ = ['CameraTopics', 'Record', 'Replay', 'find_topics', 'read_frames', 'read_transforms']


@dataclass(frozen=True)
class Replay:
    """Play a bag onto the topics it was recorded from, with /clock; nodes must be up already."""

    bag: Positional[Path]
    """The rosbag2 folder."""
    rate: float = 1.0
    """Speed: 0.5 is half as fast as recorded."""
    remap: tuple[str, ...] = ()
    """Topics to rename, as /old:=/new."""
    topics: tuple[str, ...] = ()
    """Play only these; all if none is given."""
    wait_s: float = 20.0
    """Wait at most so long for those who listen, then play anyway."""
    trajectory: Path | None = None
    """Write the camera's poses of gsplatloc there (TUM format); the bag waits for each of them."""
    evaluate: Path | None = None
    """BOP folder with the truth of the bag: compare the nodes' poses with it at the end."""
    split: str = 'test'
    """Split of that folder."""
    names: tuple[str, ...] = ()
    """How BOP objects are registered, as 1:=mug; obj_000001 and so on if not given."""
    out: Path = Path('out/replay')
    """Folder for the figures and the report of the evaluation."""
    settle_s: float = 3.0
    """The evaluation begins when no pose has come for so long."""
    namespace: str = 'gs_pose'
    """Of the nodes."""
    camera: Annotated[BagInput, arg(name='')] = BagInput()
    """With `trajectory` and `evaluate`: what of the bag is the camera."""

    def run(self) -> Evaluation | None:
        """Play the bag; with `evaluate`, report on the poses that came meanwhile.

        Raises:
            GsPoseError: the bag or the truth cannot be read.

        """
        from gs_pose_ros.clients.bag_player import BagPlayer
        from gs_pose_ros.clients.camera_collector import CameraCollector
        from gs_pose_ros.clients.pose_collector import PoseCollector

        if self.evaluate is not None:
            require_modules(*POSE_EVALUATION)  # before the work
        with _spinning_node('bag_player') as node:
            collector = PoseCollector(node, self.namespace) if self.evaluate else None
            camera = None
            if self.trajectory is not None:
                color = find_topics(self.bag, wanted=self.camera).color
                camera = CameraCollector(node, color, self.namespace)
            player = BagPlayer(node, self.bag, self.rate, _pairs(self.remap), self.topics)
            console = Console(stderr=True)
            if player.left_out:
                console.print(f'not played, type not installed: {", ".join(player.left_out)}')
            if not player.wait_for_subscribers(self.wait_s):
                console.print('nobody listens; playing anyway')
            with Progress(console=console, transient=True) as progress:
                bar = progress.add_task(self.bag.name, total=player.duration_s)
                count = player.play(
                    lambda seconds: progress.update(bar, completed=seconds),
                    before=camera.before if camera else None,
                )
            console.print(f'{count} messages, {player.duration_s:.1f} s of recording')
            if camera is not None and self.trajectory is not None:
                camera.wait()
                write_tum_trajectory(self.trajectory, *camera.trajectory())
                console.print(f'{self.trajectory}: {camera.summary()}')
            if collector is None:
                return None
            _until_quiet(collector, self.settle_s)
        return self._evaluate(collector)

    def _evaluate(self, collector: PoseCollector) -> Evaluation:
        from gs_pose_ros.evaluation.evaluation import evaluate_poses
        from gs_pose_ros.evaluation.report import write_report
        from gs_pose_ros.evaluation.truth import read_truth

        assert self.evaluate is not None
        topics = find_topics(self.bag, with_depth=False, wanted=self.camera)
        frames = list(read_frames(self.bag, topics))
        names = {int(number): name for number, name in _pairs(self.names).items()}
        stamps = [frame.stamp_ns for frame in frames]
        camera = frames[0].camera if frames else None
        truth, objects = read_truth(self.evaluate, self.split, names or None, camera, stamps)
        pictures = dict(
            zip([image.name for image in truth], [image.stamp_ns for image in truth], strict=True)
        )
        by_stamp = {frame.stamp_ns: frame for frame in frames}
        result = evaluate_poses(
            collector.estimates(),
            truth,
            objects,
            title=f'{self.bag.name} through the nodes',
            settings={'rate': self.rate, 'bag': self.bag.name},
            seconds=collector.seconds(),
            read_color=lambda name: (by_stamp[pictures[name] or 0].color * 255).astype('uint8'),
        )
        result.print_table()
        result.write_json(self.out / 'replay.json')
        write_report(result, self.out)
        return result


@dataclass(frozen=True)
class Record:
    """Write live topics into a bag until Ctrl-C."""

    bag: Positional[Path]
    """The folder to be made."""
    topics: Positional[tuple[str, ...]] = ()
    """Which; all that there are if none is given."""
    storage: Literal['mcap', 'sqlite3'] = 'mcap'
    """Kind of file."""
    duration_s: float = 0.0
    """Stop by itself after so long; 0: never."""

    def run(self, stop: Callable[[], bool] | None = None) -> None:
        """Record until Ctrl-C, or until `stop()`.

        Raises:
            GsPoseError: the bag exists already.

        """
        from gs_pose_ros.clients.bag_player import BagRecorder

        begun = time.monotonic()
        with _spinning_node('bag_recorder') as node:
            recorder = BagRecorder(node, self.bag, self.topics, self.storage)
            try:
                while not (stop and stop()):
                    if 0 < self.duration_s < time.monotonic() - begun:
                        break
                    recorder.step()
                    time.sleep(0.02)
            except KeyboardInterrupt:
                pass
            finally:
                recorder.close()
        Console(stderr=True).print(f'{recorder.count} messages in {self.bag}')


@contextmanager
def _spinning_node(name: str) -> Iterator[Any]:
    """A node of our own that is spun in a thread."""
    from gs_pose_ros.clients.spinning import spinning_node

    with spinning_node(name) as node:
        yield node


def _until_quiet(collector: PoseCollector, quiet_s: float) -> None:
    """Wait until the nodes have worked off what they hold."""
    seen, since = collector.messages, time.monotonic()
    while time.monotonic() - since < quiet_s:
        threading.Event().wait(0.05)
        if collector.messages != seen:
            seen, since = collector.messages, time.monotonic()


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """{'a': 'b'} from ('a:=b',)."""
    out: dict[str, str] = {}
    for text in texts:
        left, separator, right = text.partition(':=')
        if not separator or not left or not right:
            raise GsPoseError(f'{text!r} is not of the form old:=new')
        out[left] = right
    return out
