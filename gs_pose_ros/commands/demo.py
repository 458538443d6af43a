"""`gs-pose demo`: three objects registered, found and followed in a bag by the running nodes."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from gs_pose_ros.commands.demo_data import DATA, DemoData, RegistrationRecord
from gs_pose_ros.commands.demo_results import (
    accuracy_table,
    latency_table,
    save_picture,
    to_uint8,
)
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.evaluation.evaluation import Evaluation, evaluate_poses
from gs_pose_ros.evaluation.report import write_report
from gs_pose_ros.evaluation.truth import read_truth
from gs_pose_ros.extras import POSE_EVALUATION, require_modules
from gs_pose_ros.graph import GraphArguments, GraphProcesses
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference

if TYPE_CHECKING:
    from gs_pose_ros.clients.bag_player import BagPlayer
    from gs_pose_ros.clients.demo_client import ArrivalWatch
    from gs_pose_ros.clients.pose_collector import PoseCollector
    from gs_pose_ros.clients.spinning import Node

# Of the demo's bag; its pictures are compressed.
COLOR = '/camera/color/image_raw'
INFO = '/camera/color/camera_info'
DEPTH = '/camera/depth/image_raw'
PLAYED = (f'{COLOR}/compressed', INFO, f'{DEPTH}/compressed', '/tf')  # one message a frame each


@dataclass(frozen=True)
class Demo:
    """Register three objects, run the four nodes over a bag, and judge the poses they publish."""

    out: Path = Path('out/demo')
    """Folder for the object database, logs, picture, figures and report."""
    data: Path = DATA
    """The demo's pictures, bag and truth."""
    rate: float = 0.2
    """Speed of the replay: 1.0 is the 10 frames a second of the recording."""
    fresh: bool = False
    """Register all objects again, also those that have not changed."""
    required: float = 0.9
    """Share of poses with an ADD(S) below 0.1 diameters that the demo must reach."""

    def run(self) -> int:
        """Run it; 0, or 1 if the poses were worse than `required`.

        Raises:
            GsPoseError: the data is missing, a node has ended, or does not answer.

        """
        began = time.monotonic()
        require_modules(*POSE_EVALUATION)
        console, data = Console(), DemoData(self.data)
        names = data.names
        database = ObjectDatabase(self.out.resolve() / 'objects')
        database.root.mkdir(parents=True, exist_ok=True)
        try:
            collector, arrivals = self._through_the_nodes(data, database, console)
        except GsPoseError as error:
            raise GsPoseError(f'{error}\nWhat the nodes said is in {self.out / "logs"}') from error
        references = {name: database.load(name) for name in names.values()}
        evaluation = self._evaluate(data, collector, arrivals, references)
        evaluation.write_json(self.out / 'demo.json')
        report = write_report(evaluation, self.out / 'report')
        picture = self.out / 'overlay.png'
        save_picture(picture, data.frames, collector.estimates(), references)
        console.print(accuracy_table(evaluation))
        console.print(latency_table(collector.seconds(), arrivals))
        console.print(f'picture {picture}, report {report}')
        console.print(f'{time.monotonic() - began:.0f} s in all')
        return self._verdict(evaluation)

    def _through_the_nodes(
        self, data: DemoData, database: ObjectDatabase, console: Console
    ) -> tuple[PoseCollector, ArrivalWatch]:
        """Start the nodes, register, replay, and stop them; what they published."""
        with _private_ros(), _ended_in_order():
            # After the variables are set: rclpy reads them when it is imported.
            from gs_pose_ros.clients.demo_client import ArrivalWatch
            from gs_pose_ros.clients.pose_collector import PoseCollector
            from gs_pose_ros.clients.spinning import spinning_node

            with (
                GraphProcesses(self._arguments(database), self.out / 'logs') as graph,
                spinning_node('gs_pose_demo') as node,
            ):
                console.print(f'{len(graph.processes)} nodes: {", ".join(graph.processes)}')
                self._register(node, graph, data, database, console)
                collector, arrivals = PoseCollector(node), ArrivalWatch(node, INFO)
                self._replay(node, graph, data, arrivals, console)
                _settle(collector, arrivals, data.frames[-1].stamp_ns, graph)
                graph.check()
        return collector, arrivals

    def _verdict(self, evaluation: Evaluation) -> int:
        reached = evaluation.overall['adds_0.1d']
        if reached >= self.required:
            return 0
        Console(stderr=True).print(
            f'the demo is bad: ADD(S)-0.1d is {reached:.1%}, {self.required:.0%} is required; '
            f'{self.out / "report/index.html"} shows the worst cases, '
            f'{self.out / "logs"} what the nodes said',
            style='bold red',
        )
        return 1

    def _arguments(self, database: ObjectDatabase) -> GraphArguments:
        return GraphArguments(
            color_topic=COLOR,
            camera_info_topic=INFO,
            depth_topic=DEPTH,
            color_transport='compressed',
            depth_transport='compressed',
            image_reliability='reliable',
            database=str(database.root),
            allowed_roots=str(self.data.resolve()),
        )

    def _register(
        self,
        node: Node,
        graph: GraphProcesses,
        data: DemoData,
        database: ObjectDatabase,
        console: Console,
    ) -> None:
        from gs_pose_ros.clients.demo_client import RegistrationClient

        client = RegistrationClient(node)
        client.wait(graph.check)
        record = RegistrationRecord(self.out / 'registered.json', database)
        for number, name in data.names.items():
            content = data.content(number)
            if not self.fresh and record.is_current(name, content):
                console.print(f'{name}: registered before, nothing has changed')
                continue
            with _progress(console) as progress:
                bar = progress.add_task(f'registering {name}', total=1.0, note='')

                def show(fraction: float, note: str, p=progress, bar=bar) -> None:
                    p.update(bar, completed=fraction, note=note)

                client.register_bop(name, data.references, number, show, graph.check)
            record.note(name, content)
            facts = database.load(name).facts
            console.print(
                f'{name}: registered from {facts.get("views")} views in '
                f'{float(facts.get("registration_s", 0)):.0f} s, '
                f'held-out PSNR {float(facts.get("psnr_heldout_db", np.nan)):.1f} dB'
            )

    def _replay(
        self,
        node: Node,
        graph: GraphProcesses,
        data: DemoData,
        arrivals: ArrivalWatch,
        console: Console,
    ) -> None:
        """Show the first frame until the nodes have answered it, then play the bag."""
        from gs_pose_ros.clients.bag_player import BagPlayer

        player = BagPlayer(node, data.bag, self.rate, topics=PLAYED)
        if player.left_out:
            console.print(f'not played, type not installed: {", ".join(player.left_out)}')
        _wait_for_stages(node, graph)
        stamps = [frame.stamp_ns for frame in data.frames]
        with _progress(console) as progress:
            bar = progress.add_task('first frame', total=len(stamps), note='nodes warm up')
            _show_first_frame(player, arrivals, stamps[0], graph)

            def show(seconds: float) -> None:
                graph.check()
                done = int(np.searchsorted(np.subtract(stamps, stamps[0]), seconds * 1e9 + 1))
                note = f'{done}/{len(stamps)}  following {", ".join(arrivals.followed()) or "-"}'
                progress.update(bar, description='replaying', completed=done, note=note)

            player.play(show)
        player.close()

    def _evaluate(
        self,
        data: DemoData,
        collector: PoseCollector,
        arrivals: ArrivalWatch,
        references: Mapping[str, ObjectReference],
    ) -> Evaluation:
        camera = data.frames[0].camera
        truth, objects = read_truth(data.root, 'test', data.names, camera)
        stamp_of = {image.name: image.stamp_ns for image in truth}
        colors = {frame.stamp_ns: frame.color for frame in data.frames}
        seconds = collector.seconds()
        for stamp, total in arrivals.totals().items():
            seconds.setdefault(stamp, {})['total'] = total
        evaluation = evaluate_poses(
            collector.estimates(),
            truth,
            objects,
            title='Demo: a bag through the four nodes',
            settings={'rate': self.rate, 'given up': str(arrivals.lost() or 'never')},
            seconds=seconds,
            read_color=lambda name: to_uint8(colors[stamp_of[name] or 0]),
        )
        facts = {
            name: {
                'registration_s': reference.facts.get('registration_s'),
                'psnr_heldout': reference.facts.get('psnr_heldout_db'),
            }
            for name, reference in references.items()
        }
        return replace(evaluation, registration=facts)


@contextmanager
def _private_ros() -> Iterator[None]:
    """Keep to this machine, and out of the way of a robot that is on the same network."""
    own = {
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_DOMAIN_ID': str(random.randint(1, 100)),
    }
    added = {name: value for name, value in own.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Make a kill end the nodes too, as Ctrl-C does; they are processes of their own."""

    def end(signum: int, _: object) -> None:
        raise SystemExit(128 + signum)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _progress(console: Console) -> Progress:
    columns = (*Progress.get_default_columns()[:3], TimeElapsedColumn())
    return Progress(*columns, TextColumn('{task.fields[note]}'), console=console, transient=True)


def _wait_for_stages(node: Node, graph: GraphProcesses, timeout_s: float = 60.0) -> None:
    """Wait until detector, initializer and refiner listen to the camera."""
    deadline = time.monotonic() + timeout_s
    # One subscriber of camera_info is our own.
    wanted = {topic: 3 + (topic == INFO) for topic in PLAYED[:3]}
    while any(node.count_subscribers(topic) < n for topic, n in wanted.items()):
        graph.check()
        if time.monotonic() > deadline:
            counts = ', '.join(
                f'{t}: {node.count_subscribers(t)} of {n}' for t, n in wanted.items()
            )
            raise GsPoseError(f'the nodes do not subscribe within {timeout_s:.0f} s ({counts})')
        time.sleep(0.05)


def _show_first_frame(
    player: BagPlayer,
    arrivals: ArrivalWatch,
    stamp_ns: int,
    graph: GraphProcesses,
    timeout_s: float = 120.0,
) -> None:
    """Send the first frame until a pose comes: the nodes compile and prepare templates meanwhile.

    As on a robot, where the camera is up before anything moves. After the time the bag is played
    anyway: what is not found in the first frame may be found in a later one.
    """
    one_frame = len(PLAYED) - len(player.left_out)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and stamp_ns not in arrivals.totals():
        answers, sent = arrivals.answers(stamp_ns), time.monotonic()
        messages: list[float] = []
        player.play(messages.append, lambda seen=messages: len(seen) == one_frame)
        # One answer to each try; without any (a stage was not up yet) the next try comes later.
        while arrivals.answers(stamp_ns) == answers and time.monotonic() - sent < 30.0:
            graph.check()
            time.sleep(0.1)


def _settle(
    collector: PoseCollector,
    arrivals: ArrivalWatch,
    last_stamp_ns: int,
    graph: GraphProcesses,
    quiet_s: float = 4.0,
) -> None:
    """Wait until the last frame is answered, or nothing has come for a while."""
    seen, since = collector.messages, time.monotonic()
    while time.monotonic() - since < quiet_s and not arrivals.answers(last_stamp_ns):
        graph.check()
        time.sleep(0.05)
        if collector.messages != seen:
            seen, since = collector.messages, time.monotonic()
