"""A node for tools that are not nodes themselves."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from gs_pose_ros.share import transport_environment


@contextmanager
def spinning_node(name: str) -> Iterator[Node]:
    """A node in a context of its own, spun in a thread until the end of the block."""
    os.environ.update(transport_environment())
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node(name, context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception:
            if context.ok():
                raise

    thread = threading.Thread(target=spin, name=name, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown()
        thread.join(5.0)
        node.destroy_node()
        context.try_shutdown()
