"""Starts the localizer alone: `ros2 launch gs_pose_ros gsplatloc.launch.py map:=/path/to/map`.

All arguments of gs_pose.launch.py can be given; `rviz:=true` shows map, path and camera.
"""

from __future__ import annotations

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from gs_pose_ros.share import share_folder
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """The whole graph without the nodes that find objects."""
    source = PythonLaunchDescriptionSource(str(share_folder() / 'launch' / 'gs_pose.launch.py'))
    chosen = {'objects': 'false', 'localize': 'true', 'rviz_config': 'gsplatloc.rviz'}
    return LaunchDescription([IncludeLaunchDescription(source, launch_arguments=chosen.items())])
