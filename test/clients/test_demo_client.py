"""The demo's client of the nodes: registrations, and when their answers came."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from gs_pose_ros.commands.demo import INFO
from gs_pose_ros.commands.demo_data import DATA
from gs_pose_ros.commands.demo_results import latency_table
from gs_pose_ros.errors import GsPoseError
from test.commands.conftest import printed


@pytest.fixture
def server() -> Iterator[FakeDatabase]:
    from gs_pose_ros.clients.spinning import spinning_node

    with spinning_node('object_database_fake') as node:
        yield FakeDatabase(node)


class FakeDatabase:
    """Answers registrations as the object_database node does."""

    def __init__(self, node) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from gs_pose_ros.msg import ObjectInfo, ObjectList, RegistrationProgress
        from gs_pose_ros.srv import RegisterObject

        self.requests: list = []
        self.states: list[int] = []
        self.refusal = ''
        root = '/gs_pose/object_database'
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._progress = node.create_publisher(RegistrationProgress, f'{root}/progress', 10)
        self._objects = node.create_publisher(ObjectList, f'{root}/objects', latched)
        broken = ObjectInfo(object_id='cup', status=ObjectInfo.STATUS_BROKEN, reason='torn')
        self._objects.publish(ObjectList(objects=[broken]))
        node.create_service(RegisterObject, f'{root}/register', self._register)

    def _register(self, request, response):
        self.requests.append(request)
        response.accepted, response.message = not self.refusal, self.refusal
        response.job_id = '' if self.refusal else 'job'
        threading.Thread(target=self._work).start()
        return response

    def _work(self) -> None:
        from gs_pose_ros.msg import RegistrationProgress

        other = RegistrationProgress(job_id='other', state=RegistrationProgress.STATE_FAILED)
        self._progress.publish(other)
        for k, state in enumerate(self.states):
            msg = RegistrationProgress(job_id='job', state=state, stage='fit', message='torn')
            msg.fraction = float((k + 1) / len(self.states))
            self._progress.publish(msg)


def nothing() -> None:
    """A check of processes that are all well."""


def test_client_registers_and_follows_the_progress(server: FakeDatabase) -> None:
    from gs_pose_ros.clients.demo_client import RegistrationClient
    from gs_pose_ros.clients.spinning import spinning_node
    from gs_pose_ros.msg import RegistrationProgress

    running, queued = RegistrationProgress.STATE_RUNNING, RegistrationProgress.STATE_QUEUED
    seen: list[tuple[float, str]] = []
    with spinning_node('client') as node:
        client = RegistrationClient(node)
        client.wait(nothing)
        assert client.problems == {'cup': 'torn'}
        server.states = [queued, running, RegistrationProgress.STATE_SUCCEEDED]
        client.register_bop('mug', DATA / 'train', 2, lambda *a: seen.append(a), nothing)
        assert seen[-1] == (1.0, 'fit torn')
        request = server.requests[0]
        assert (request.object_id, request.bop_object_id, request.overwrite) == ('mug', 2, True)
        assert request.path == str(DATA / 'train')

        server.states = [running, RegistrationProgress.STATE_FAILED]
        with pytest.raises(GsPoseError, match='mug: registration failed: torn'):
            client.register_bop('mug', DATA / 'train', 2, lambda *a: None, nothing)
        server.states = []
        with pytest.raises(GsPoseError, match='mug: no progress for 0'):
            client.register_bop('mug', DATA / 'train', 2, lambda *a: None, nothing, 0.3)
        server.refusal = 'not under the allowed roots'
        with pytest.raises(GsPoseError, match='mug: not under the allowed roots'):
            client.register_bop('mug', DATA / 'train', 2, lambda *a: None, nothing)


def test_client_without_a_server_gives_up_or_passes_on_what_the_check_says() -> None:
    from gs_pose_ros.clients.demo_client import RegistrationClient
    from gs_pose_ros.clients.spinning import spinning_node

    def dead() -> None:
        raise GsPoseError('the node has ended')

    with spinning_node('client') as node:
        client = RegistrationClient(node, 'nobody')
        with pytest.raises(GsPoseError, match='does not answer within 0 s'):
            client.wait(nothing, timeout_s=0.2)
        with pytest.raises(GsPoseError, match='the node has ended'):
            client.wait(dead)


def test_arrivals_are_timed_and_sorted_by_kind_of_work() -> None:
    from sensor_msgs.msg import CameraInfo

    from gs_pose_ros.clients.demo_client import ArrivalWatch
    from gs_pose_ros.clients.spinning import spinning_node
    from gs_pose_ros.msg import ObjectPose, ObjectPoseArray

    def answer(stamp: int, stage: int, status: int = ObjectPose.STATUS_OK) -> ObjectPoseArray:
        out = ObjectPoseArray(compute_time=0.25)
        out.header.stamp.sec = stamp
        out.poses = [ObjectPose(object_id='mug', stage=stage, status=status, reason='dark')]
        return out

    def wait(condition) -> None:
        deadline = time.monotonic() + 10
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert condition()

    with spinning_node('watching') as node, spinning_node('talking') as talker:
        arrivals = ArrivalWatch(node, INFO)
        infos = talker.create_publisher(CameraInfo, INFO, 10)
        poses = talker.create_publisher(ObjectPoseArray, '/gs_pose/gs_refiner/poses', 10)
        wait(lambda: infos.get_subscription_count() and poses.get_subscription_count())
        info = CameraInfo()
        info.header.stamp.sec = 1
        infos.publish(info)
        wait(lambda: arrivals._sent)
        poses.publish(answer(1, ObjectPose.STAGE_REFINED))
        wait(lambda: arrivals.answers(1_000_000_000) == 1)
        assert arrivals.followed() == ['mug']
        assert 0 < arrivals.totals()[1_000_000_000] < 5
        poses.publish(answer(2, ObjectPose.STAGE_TRACKED, ObjectPose.STATUS_LOST))
        wait(lambda: arrivals.answers(2_000_000_000) == 1)
        assert arrivals.followed() == []
        assert arrivals.lost() == [(2_000_000_000, 'mug', 'dark')]
        assert arrivals.work() == {'refine': [0.25], 'track': [0.25]}
        text = printed(latency_table({1: {'detect': 1.5}}, arrivals))
        assert '1500 ms' in text
        assert '250 ms' in text
