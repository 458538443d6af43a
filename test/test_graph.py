"""The node table and the two programs that start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from gs_pose_ros import graph
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.graph import NODES, GraphArguments, GraphNode, GraphProcesses, command
from gs_pose_ros.nodes.parameter_table import SETTINGS
from gs_pose_ros.nodes.runtime.parameters import parameter_fields
from gs_pose_ros.share import share_folder, transport_environment

ROOT = Path(__file__).parents[1]


def test_every_node_has_a_module_and_its_parameters_exist() -> None:
    for node in NODES:
        assert (ROOT / 'gs_pose_ros' / 'nodes' / f'{node.executable}.py').is_file()
        known = {field.name for field in parameter_fields(SETTINGS[node.executable])}
        assert set(node.parameters) <= known
        arguments = {field.name for field in fields(GraphArguments)}
        assert set(node.parameters.values()) <= arguments


def test_defaults_of_the_arguments_are_those_of_the_nodes() -> None:
    for node in NODES:
        defaults = {f.name: f.default for f in parameter_fields(SETTINGS[node.executable])}
        for name, argument in node.parameters.items():
            value = graph.parameter_value(name, getattr(GraphArguments(), argument))
            default = defaults[name]
            assert value == (list(default) if isinstance(default, tuple) else default)


def test_command_line_of_a_node() -> None:
    arguments = GraphArguments(
        namespace='arm', color_topic='/cam/rgb', use_depth=False, allowed_roots='/a:/b c'
    )
    line = command(NODES[0], arguments)
    assert line[1:3] == ['-m', 'gs_pose_ros.nodes.object_database']
    assert '__ns:=/arm' in line
    assert 'color/image:=/cam/rgb' in line
    assert 'color/image/compressed:=/cam/rgb/compressed' in line
    assert 'input.use_depth:=false' in line
    assert 'allowed_roots:=["/a", "/b c"]' in line
    assert not any('{' in part for part in line)


def test_transport_profile_is_in_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('ROS_DISTRO', 'humble')
    assert len(transport_environment()) == 2
    monkeypatch.setenv('ROS_DISTRO', 'kilted')
    (path,) = transport_environment().values()
    assert '<segment_size>' in Path(path).read_text()
    monkeypatch.setenv('FASTDDS_DEFAULT_PROFILES_FILE', '/mine.xml')
    assert transport_environment()['FASTDDS_DEFAULT_PROFILES_FILE'] == '/mine.xml'


def test_shipped_parameters_are_known() -> None:
    content = yaml.safe_load((share_folder() / 'config' / 'gs_pose.yaml').read_text())
    shared = set.intersection(
        *({field.name for field in parameter_fields(settings)} for settings in SETTINGS.values())
    )
    assert set(content['/**']['ros__parameters']) <= shared


def test_a_node_that_ends_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    nodes = [GraphNode('no_such_node')]
    with GraphProcesses(GraphArguments(), tmp_path, nodes) as processes:
        processes.processes['no_such_node'].wait(20)
        with pytest.raises(GsPoseError, match=r'no_such_node ended with code 1(.|\n)*No module'):
            processes.check()


def test_without_detection_two_nodes_are_left() -> None:
    processes = GraphProcesses(GraphArguments(detect=False))
    assert [node.executable for node in processes._nodes] == ['object_database', 'gs_refiner']


def test_the_localizer_alone() -> None:
    arguments = GraphArguments(objects=False, localize=True, map='/maps/hall', tf_child='odom')
    processes = GraphProcesses(arguments)
    assert [node.executable for node in processes._nodes] == ['gsplatloc']
    line = command(processes._nodes[0], arguments)
    assert 'map:="/maps/hall"' in line
    assert 'output.tf_child:="odom"' in line


@pytest.mark.slow
@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_up_starts_nodes_that_answer_and_ends_them_cleanly(
    tmp_path: Path, how: signal.Signals
) -> None:
    """`gs-pose up`, a service call, the end."""
    import rclpy

    from gs_pose_ros.srv import ListObjects

    namespace = f'up_{os.getpid()}'
    command = [sys.executable, '-m', 'gs_pose_ros.cli', 'up', '--namespace', namespace]
    command += ['--database', str(tmp_path / 'objects'), '--log-dir', str(tmp_path / 'logs')]
    command += ['--localize']
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node('asker', context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            client = node.create_client(ListObjects, f'/{namespace}/object_database/list')
            assert client.wait_for_service(40.0)
            executor.add_node(node)
            deadline, answer = time.monotonic() + 40, None
            while answer is None and time.monotonic() < deadline:
                # A server that has not yet discovered our reader answers into nothing: ask again.
                future = client.call_async(ListObjects.Request())
                executor.spin_until_future_complete(future, 5.0)
                answer = future.result() if future.done() else None
            assert answer is not None
            assert answer.objects.database == str(tmp_path / 'objects')
            deadline = time.monotonic() + 40
            names: set[str] = set()
            while len(names) < len(NODES) and time.monotonic() < deadline:
                found = node.get_node_names_and_namespaces()
                names = {name for name, space in found if space == f'/{namespace}'}
                time.sleep(0.1)
            assert names == {n.executable for n in NODES}
        finally:
            process.send_signal(how)
            _, error = process.communicate(timeout=30)
    node.destroy_node()
    context.try_shutdown()
    assert process.returncode == 0, error
    assert not subprocess.run(['pgrep', '-f', f'__ns:=/{namespace}'], check=False).stdout
    assert b'Traceback' not in error
    for log in (tmp_path / 'logs').iterdir():
        assert 'Traceback' not in log.read_text(), log


@pytest.mark.slow
def test_stop_gives_the_exit_codes(tmp_path: Path) -> None:
    arguments = replace(GraphArguments(detect=False), database=str(tmp_path / 'objects'))
    with GraphProcesses(arguments, tmp_path) as processes:
        deadline = time.monotonic() + 40
        log = tmp_path / 'object_database.log'
        while '0 objects' not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        codes = processes.stop()
    assert codes['object_database'] == 0
