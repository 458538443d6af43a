"""What a node began while active ends with it, in whatever way that comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy
from std_msgs.msg import Header

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.nodes.frame_worker import FrameWorker
from gs_pose_ros.nodes.stage import Stage, StageSettings


class Listener(Stage[StageSettings]):
    """Subscribes and starts a worker; fails after that if it is `broken`."""

    broken = False

    def activate(self) -> None:
        self.work: FrameWorker[Header] = self.worker(lambda item: None, lambda item, error: None)
        self.subscribe(Header, 'header', self.work.put, self.input_group)
        if self.broken:
            raise GsPoseError('no camera')


@pytest.fixture
def node() -> Iterator[Listener]:
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    made = Listener('listener', StageSettings(), context=context)
    yield made
    made.stop()
    made.destroy_node()
    context.try_shutdown()


def listens(node: Listener) -> bool:
    return any(subscription.topic_name.endswith('/header') for subscription in node.subscriptions)


def test_it_can_be_activated_again(node: Listener) -> None:
    node.start()
    for _ in range(2):
        assert node.active
        assert listens(node)
        node.trigger_deactivate()
        assert not listens(node)
        assert node.work.stop(0)  # the thread has ended
        node.trigger_activate()


def test_a_failed_activation_leaves_nothing_behind(node: Listener) -> None:
    node.broken = True
    node.start()
    assert not node.active
    assert not listens(node)
    assert node.work.stop(0)
    node.broken = False
    node.trigger_activate()
    assert node.active
    assert listens(node)


def test_no_events_cost_time_at_every_message(node: Listener) -> None:
    node.start()
    node.create_publisher(Header, 'out', 1)
    node.create_lifecycle_publisher(Header, 'out', 1)
    assert not list(node.waitables)
