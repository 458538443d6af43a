"""Starts the nodes of gs_pose_ros/graph.py: `ros2 launch gs_pose_ros gs_pose.launch.py`.

`ros2 launch gs_pose_ros gs_pose.launch.py --show-args` lists what can be chosen. RViz comes with
`rviz:=true`; the camera driver is yours to start, with the environment this file sets if possible.
"""

from __future__ import annotations

from dataclasses import fields
from string import Formatter

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from gs_pose_ros.field_docs import field_docs
from gs_pose_ros.graph import (
    NODES,
    GraphArguments,
    GraphNode,
    default_params_file,
    parameter_value,
)
from gs_pose_ros.share import share_folder, transport_environment
from launch import LaunchContext, LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """The arguments, the transport profile, and a node for each row of the table."""
    docs = field_docs(GraphArguments)
    arguments = [
        DeclareLaunchArgument(
            field.name, default_value=_text(field.default), description=docs.get(field.name, '')
        )
        for field in fields(GraphArguments)
    ]
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=[
            '-d',
            [str(share_folder() / 'config') + '/', LaunchConfiguration('rviz_config')],
        ],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )
    return LaunchDescription(
        [
            *arguments,
            DeclareLaunchArgument('rviz', default_value='false', description='start RViz as well'),
            DeclareLaunchArgument(
                'rviz_config', default_value='gs_pose.rviz', description='its file in config/'
            ),
            *(SetEnvironmentVariable(name, v) for name, v in transport_environment().items()),
            OpaqueFunction(function=_nodes),
            rviz,
        ]
    )


def _nodes(context: LaunchContext) -> list[Node]:
    """The rows of the table as actions; the arguments are known only now."""
    values = {f.name: _value(context, f.name, f.default) for f in fields(GraphArguments)}
    return [_node(row, values) for row in NODES if row.wanted(values)]


def _node(row: GraphNode, values: dict[str, str | bool]) -> Node:
    chosen = {
        name: parameter_value(name, values[argument]) for name, argument in row.parameters.items()
    }
    return Node(
        package='gs_pose_ros',
        executable=row.executable,
        namespace=values['namespace'],
        parameters=[
            values['params_file'] or str(default_params_file()),
            {'use_sim_time': values['use_sim_time'], **chosen},
        ],
        remappings=[
            (topic, Formatter().vformat(target, (), values))
            for topic, target in row.remappings.items()
        ],
        arguments=['--ros-args', '--log-level', values['log_level']],
        output='screen',
    )


def _value(context: LaunchContext, name: str, default: str | bool) -> str | bool:
    text = LaunchConfiguration(name).perform(context)
    if not isinstance(default, bool):
        return text
    if text.lower() not in ('true', 'false', '1', '0'):
        raise ValueError(f'{name} must be true or false, got {text!r}')
    return text.lower() in ('true', '1')


def _text(default: str | bool) -> str:
    return str(default).lower() if isinstance(default, bool) else default
