"""The node graph, described once; `launch/gs_pose.launch.py` and `gs-pose up` both start it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.share import share_folder, transport_environment


@dataclass(frozen=True)
class GraphArguments:
    """What can be chosen at start; the camera topics are those of a RealSense by default."""

    namespace: str = 'gs_pose'  # of all nodes
    color_topic: str = '/camera/camera/color/image_raw'  # sensor_msgs/Image
    camera_info_topic: str = '/camera/camera/color/camera_info'  # of the colour image
    depth_topic: str = '/camera/camera/aligned_depth_to_color/image_raw'  # registered to colour
    use_depth: bool = True  # false: colour alone
    color_transport: str = 'raw'  # raw or compressed
    depth_transport: str = 'raw'  # raw, compressed or compressedDepth
    image_reliability: str = 'best_effort'  # best_effort or reliable, which a RealSense sends
    rectified: bool = False  # the images are image_rect
    database: str = '~/.local/share/gs_pose_ros/objects'  # directory of the objects
    allowed_roots: str = '~'  # services take paths under these; separate them with a colon
    objects: bool = True  # start the nodes that find objects
    detect: bool = True  # of these detector and pose_initializer; else others send initial poses
    localize: bool = False  # start gsplatloc, which localizes the camera in a map
    map: str = ''  # folder of the map that gsplatloc loads at start
    tf_child: str = ''  # frame that gsplatloc places in the map: odom, camera_link, ...
    params_file: str = ''  # yaml with more parameters; empty: config/gs_pose.yaml
    use_sim_time: bool = False  # take the time from /clock
    log_level: str = 'info'  # debug, info, warn, error or fatal


@dataclass(frozen=True)
class GraphNode:
    """One row of the table. `{name}` stands for an argument."""

    executable: str  # also the name, and gs_pose_ros.nodes.<executable>
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)  # name: argument
    remappings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    conditions: tuple[str, ...] = ()  # arguments that must be true

    def wanted(self, values: Mapping[str, Any]) -> bool:
        """Whether it is started with these arguments."""
        return all(values[name] for name in self.conditions)


_CAMERA_PARAMETERS = {
    f'input.{name}': name
    for name in (
        'use_depth',
        'color_transport',
        'depth_transport',
        'image_reliability',
        'rectified',
    )
}
_CAMERA_TOPICS = {
    'color/image': '{color_topic}',
    'color/image/compressed': '{color_topic}/compressed',
    'color/camera_info': '{camera_info_topic}',
    'depth/image': '{depth_topic}',
    'depth/image/compressed': '{depth_topic}/compressed',
    'depth/image/compressedDepth': '{depth_topic}/compressedDepth',
}

NODES = (
    GraphNode(
        'object_database',
        {**_CAMERA_PARAMETERS, 'database': 'database', 'allowed_roots': 'allowed_roots'},
        _CAMERA_TOPICS,
        ('objects',),
    ),
    GraphNode('detector', _CAMERA_PARAMETERS, _CAMERA_TOPICS, ('objects', 'detect')),
    GraphNode('pose_initializer', _CAMERA_PARAMETERS, _CAMERA_TOPICS, ('objects', 'detect')),
    GraphNode('gs_refiner', _CAMERA_PARAMETERS, _CAMERA_TOPICS, ('objects',)),
    GraphNode(
        'gsplatloc',
        {
            **_CAMERA_PARAMETERS,
            'map': 'map',
            'allowed_roots': 'allowed_roots',
            'output.tf_child': 'tf_child',
        },
        _CAMERA_TOPICS,
        ('localize',),
    ),
)


def parameter_value(name: str, value: Any) -> Any:
    """The value of a node parameter from that of the argument behind it."""
    return [part for part in value.split(':') if part] if name == 'allowed_roots' else value


def default_params_file() -> Path:
    """The parameters that differ from the defaults in the code."""
    return share_folder() / 'config' / 'gs_pose.yaml'


def command(node: GraphNode, arguments: GraphArguments) -> list[str]:
    """The command line that starts one node."""
    values = dataclasses.asdict(arguments)
    out = [sys.executable, '-m', f'gs_pose_ros.nodes.{node.executable}', '--ros-args']
    out += ['--log-level', arguments.log_level]
    out += ['--params-file', arguments.params_file or str(default_params_file())]
    out += ['-r', f'__ns:=/{arguments.namespace.strip("/")}']
    out += ['-p', f'use_sim_time:={json.dumps(arguments.use_sim_time)}']
    for name, argument in node.parameters.items():
        # JSON is YAML, and keeps a path like 'on' or '~' a string.
        out += ['-p', f'{name}:={json.dumps(parameter_value(name, values[argument]))}']
    for topic, target in node.remappings.items():
        out += ['-r', f'{topic}:={target.format(**values)}']
    return out


class GraphProcesses:
    """The nodes as processes; a context that ends them.

    With `log_dir` each node writes to `<log_dir>/<node>.log`, else to this terminal.
    """

    def __init__(
        self,
        arguments: GraphArguments,
        log_dir: Path | None = None,
        nodes: Sequence[GraphNode] = NODES,
    ) -> None:
        self._arguments, self._log_dir = arguments, log_dir
        values = dataclasses.asdict(arguments)
        self._nodes = [node for node in nodes if node.wanted(values)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> GraphProcesses:
        environment = {**os.environ, **transport_environment()}
        try:
            for node in self._nodes:
                self._start(node, environment)
        except OSError:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raise GsPoseError with the end of its log if a node has ended."""
        for name, process in self.processes.items():
            if (code := process.poll()) is not None:
                raise GsPoseError(f'{name} ended with code {code}{self._log_tail(name)}')

    def wait(self) -> None:
        """Wait until a node ends, and raise as `check` does."""
        while True:
            self.check()
            time.sleep(0.2)

    def stop(self, timeout_s: float = 10.0) -> dict[str, int]:
        """End all nodes as Ctrl-C does, by force after the time; exit codes by node."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + timeout_s
        codes: dict[str, int] = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        return codes

    def _start(self, node: GraphNode, environment: Mapping[str, str]) -> None:
        output = None
        if self._log_dir is not None:
            self._log_dir.mkdir(parents=True, exist_ok=True)
            output = self._log_path(node.executable).open('wb')
        try:
            self.processes[node.executable] = subprocess.Popen(
                command(node, self._arguments),
                env=dict(environment),
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                # Ctrl-C is ours to pass on, once.
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    def _log_path(self, name: str) -> Path:
        assert self._log_dir is not None
        return self._log_dir / f'{name}.log'

    def _log_tail(self, name: str, lines: int = 20) -> str:
        if self._log_dir is None:
            return ''
        text = self._log_path(name).read_text(errors='replace').splitlines()
        return ':\n' + '\n'.join(text[-lines:])


@dataclass(frozen=True)
class Up(GraphArguments):
    """Start the nodes as processes, where launch_ros is missing; Ctrl-C ends them."""

    log_dir: Path | None = None  # write <node>.log there instead of to this terminal

    def run(self) -> None:
        """Run until Ctrl-C or SIGTERM.

        Raises:
            GsPoseError: a node has ended by itself.

        """
        # Whoever ends this process by SIGTERM means the nodes as well.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        interrupted = contextlib.suppress(KeyboardInterrupt)
        with interrupted, GraphProcesses(self, self.log_dir) as graph:
            graph.wait()
