"""Whether ROS 2 and our messages are there: the library works without both."""

from __future__ import annotations

from importlib.util import find_spec

from gs_pose_ros.errors import GsPoseError


def why_no_ros() -> str:
    """What is missing for nodes and live topics, and what to do about it; empty if nothing is."""
    if find_spec('rclpy') is None:
        return (
            'ROS 2 is not here (no module rclpy): source an installed one or install its wheels '
            '(README), then install gs_pose_ros again, which builds its messages'
        )
    if find_spec('gs_pose_ros.msg') is None:
        return (
            'the messages of gs_pose_ros are not here: it was installed without ROS 2; install it '
            'again where ROS 2 is'
        )
    return ''


def require_ros() -> None:
    """Raise GsPoseError, with what to do about it, if ROS 2 or our messages are missing."""
    if reason := why_no_ros():
        raise GsPoseError(reason)
