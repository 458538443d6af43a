"""What a node began while active ends with it, in whatever way that comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.nodes.detector import DetectorNode
from gs_pose_ros.nodes.gs_refiner import RefinerNode
from gs_pose_ros.nodes.object_database import DatabaseNode
from gs_pose_ros.nodes.pose_initializer import PoseInitializerNode
from gs_pose_ros.nodes.runtime.frame_worker import FrameWorker
from gs_pose_ros.nodes.runtime.stage import Stage, StageSettings


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


def test_services_answer_while_one_of_them_waits(node: Listener) -> None:
    awaited, waiting = threading.Event(), threading.Event()

    def wait(_: Any, response: Trigger.Response) -> Trigger.Response:
        waiting.set()
        response.success = awaited.wait(20.0)
        return response

    def answer(_: Any, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        return response

    node.serve(Trigger, '~/wait', wait)
    node.serve(Trigger, '~/answer', answer)
    with spinning(node) as caller:
        slow = caller.create_client(Trigger, 'listener/wait')
        quick = caller.create_client(Trigger, 'listener/answer')
        assert slow.wait_for_service(10.0)
        assert quick.wait_for_service(10.0)
        late = slow.call_async(Trigger.Request())
        assert waiting.wait(10.0)
        answered = quick.call(Trigger.Request(), timeout_sec=10.0)
        assert answered is not None
        assert answered.success
        assert not late.done()
        awaited.set()


@contextmanager
def spinning(node: Listener) -> Iterator[Node]:
    """The node at work beside another one, in whose thread errors would end both."""
    caller = rclpy.create_node('caller', namespace='gs_pose', context=node.context)
    executor = MultiThreadedExecutor(num_threads=4, context=node.context)
    executor.add_node(node)
    executor.add_node(caller)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        yield caller
        assert thread.is_alive(), 'an error has ended the executor'
    finally:
        executor.shutdown()
        thread.join(10.0)
        caller.destroy_node()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_message_that_fails_is_a_fault_and_the_next_is_taken(node: Listener) -> None:
    taken: list[str] = []

    def take(msg: Header) -> None:
        taken.append(msg.frame_id)
        if msg.frame_id == 'bad':
            raise ZeroDivisionError('a bug')

    node.start()
    node.subscribe(Header, 'guarded', take, node.input_group)
    with spinning(node) as caller:
        publisher = caller.create_publisher(Header, 'guarded', 10)
        until(lambda: publisher.get_subscription_count() > 0, 'a listener')
        publisher.publish(Header(frame_id='bad'))
        until(lambda: 'bad' in taken, 'the message')
        until(lambda: 'ZeroDivisionError: a bug' in str(node._faults), 'the fault')
        assert 'messages on guarded' in str(node._faults)
        publisher.publish(Header(frame_id='good'))
        until(lambda: 'good' in taken, 'the next message')
        until(lambda: not node._faults, 'the end of the fault')


def test_a_request_that_fails_is_answered_with_the_reason(node: Listener) -> None:
    def answer(_: Any, response: Trigger.Response) -> Trigger.Response:
        response.success = True  # half done
        raise RecursionError('too deep')

    node.serve(Trigger, '~/guarded', answer)
    with spinning(node) as caller:
        client = caller.create_client(Trigger, 'listener/guarded')
        assert client.wait_for_service(10.0)
        for _ in range(2):
            got = client.call(Trigger.Request(), timeout_sec=10.0)
            assert got is not None
            assert not got.success
            assert got.message == 'RecursionError: too deep'


def test_all_of_many_requests_at_once_are_answered(node: Listener) -> None:
    def answer(_: Any, response: Trigger.Response) -> Trigger.Response:
        time.sleep(0.005)  # they come faster than they are answered
        response.success = True
        return response

    node.serve(Trigger, '~/many', answer)
    with spinning(node) as caller:
        client = caller.create_client(Trigger, 'listener/many')
        assert client.wait_for_service(10.0)
        waiting = [client.call_async(Trigger.Request()) for _ in range(20)]
        until(lambda: all(future.done() for future in waiting), 'all answers')
        assert all(future.result().success for future in waiting)


def test_requests_beyond_the_line_are_refused_at_once(node: Listener) -> None:
    gate = threading.Event()
    working: list[int] = []

    def answer(_: Any, response: Trigger.Response) -> Trigger.Response:
        working.append(1)
        assert sum(working) == 1, 'two at a time'
        response.success = gate.wait(20.0)
        working.append(-1)
        return response

    node.serve(Trigger, '~/slow', answer, most_at_once=2)
    with spinning(node) as caller:
        client = caller.create_client(Trigger, 'listener/slow')
        assert client.wait_for_service(10.0)
        waiting = [client.call_async(Trigger.Request()) for _ in range(20)]
        until(lambda: sum(future.done() for future in waiting) == 18, 'the refusals')
        refused = [future.result() for future in waiting if future.done()]
        assert not any(answer.success for answer in refused)
        assert {answer.message for answer in refused} == {
            'busy with 2 other requests: ask again later'
        }
        gate.set()
        until(lambda: all(future.done() for future in waiting), 'the others')
        assert sum(future.result().success for future in waiting) == 2
        again = client.call(Trigger.Request(), timeout_sec=10.0)
        assert again is not None
        assert again.success


def test_a_timer_that_fails_goes_on(node: Listener) -> None:
    rung: list[int] = []

    def ring() -> None:
        rung.append(1)
        raise KeyError('nothing')

    timer = node.create_timer(0.01, ring)
    with spinning(node):
        until(lambda: len(rung) > 3, 'more rings')
        assert 'KeyError' in str(node._faults)
    node.destroy_timer(timer)


@pytest.mark.parametrize(
    ('make', 'interrupted'),
    [
        (DatabaseNode, 'create_service'),
        (DetectorNode, 'create_subscription'),
        (PoseInitializerNode, 'create_subscription'),
        (RefinerNode, 'create_service'),
    ],
)
def test_ctrl_c_may_come_while_it_is_configured(
    make: type[Stage[Any]], interrupted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = rclpy.Context()
    rclpy.init(args=['--ros-args', '-p', f'database:={tmp_path}'], context=context)
    node = make(context=context)

    def ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = {publisher.topic_name for publisher in node.publishers}
    monkeypatch.setattr(node, interrupted, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        node.start()
    node.stop()
    assert {publisher.topic_name for publisher in node.publishers} == before
    node.destroy_node()
    context.try_shutdown()
