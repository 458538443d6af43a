"""The demo's data is right, its client of the nodes is, and a broken run says so."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trimesh
from rich.console import Console

from gs_pose_ros import graph
from gs_pose_ros.commands.demo import INFO, Demo
from gs_pose_ros.commands.demo_data import DATA, DemoData, RegistrationRecord
from gs_pose_ros.commands.demo_results import accuracy_table, latency_table, save_picture
from gs_pose_ros.datasets.bop import read_bop_models, read_bop_split
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.evaluation.evaluation import Evaluation, evaluate_poses
from gs_pose_ros.evaluation.truth import read_truth
from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference, ReferenceViews

NAMES = {1: 'tea_carton', 2: 'mug', 3: 'toy_truck'}


@pytest.fixture(scope='module')
def data() -> DemoData:
    return DemoData(DATA)


@pytest.fixture(scope='module')
def surfaces() -> dict[int, trimesh.Trimesh]:
    """The models' meshes, m."""
    out = {}
    for number in NAMES:
        mesh = trimesh.load(DATA / 'models' / f'obj_{number:06d}.ply', force='mesh')
        mesh.apply_scale(0.001)
        out[number] = mesh
    return out


def distance_to_surface(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Distance of points [N, 3] to dense samples of the surface [N], m."""
    from scipy.spatial import cKDTree

    samples, _ = trimesh.sample.sample_surface(mesh, 40_000, seed=0)
    return np.asarray(cKDTree(samples).query(points)[0])


# ---- data ----


def test_objects_have_names(data: DemoData) -> None:
    assert data.names == NAMES


def test_every_frame_of_the_bag_has_its_truth(data: DemoData) -> None:
    truth, _ = read_truth(data.root, 'test', data.names, data.frames[0].camera)
    assert [image.stamp_ns for image in truth] == [frame.stamp_ns for frame in data.frames]
    assert len(truth) == 60
    assert all({i.object_id for i in image.instances} == set(NAMES.values()) for image in truth)


def test_depth_of_the_bag_lies_on_the_true_surfaces(
    data: DemoData, surfaces: dict[int, trimesh.Trimesh]
) -> None:
    images = read_bop_split(DATA, 'test', with_pictures=False)
    for image in images[::20]:
        frame = next(f for f in data.frames if f.stamp_ns == image.stamp_ns)
        assert frame.depth is not None
        assert np.allclose(frame.camera.matrix, image.intrinsics)
        for instance in image.instances:
            mask = instance.visible_mask()
            assert mask is not None
            seen = frame.camera.point_map(frame.depth)[mask & (frame.depth > 0)]
            points = se3.transform(se3.inverse(instance.T_cam_obj), seen)
            distance = distance_to_surface(surfaces[instance.object_id], points)
            # The sensor's noise is 0.0022 z^2 (m); half a pixel of shift would be seen at once.
            assert np.median(distance) < 0.0012
            assert (distance < 0.005).mean() > 0.97


def test_reference_pictures_fit_the_models(surfaces: dict[int, trimesh.Trimesh]) -> None:
    for image in read_bop_split(DATA, 'train')[5::14]:
        (instance,) = image.instances
        frame = image.read_frame()
        mask = instance.visible_mask()
        assert frame.depth is not None
        assert mask is not None
        seen = frame.camera.point_map(frame.depth)[mask & (frame.depth > 0)]
        points = se3.transform(se3.inverse(instance.T_cam_obj), seen)
        assert np.median(distance_to_surface(surfaces[instance.object_id], points)) < 0.0008
        # The silhouette, too: every visible vertex projects into the mask, to a pixel.
        vertices = se3.transform(instance.T_cam_obj, surfaces[instance.object_id].vertices)
        u, v = np.rint(frame.camera.project(vertices)).astype(int).T
        grown = np.pad(mask, 1)
        near = sum(
            grown[1 + dy : mask.shape[0] + 1 + dy, 1 + dx : mask.shape[1] + 1 + dx]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        )
        assert near[v, u].all()


def test_data_is_small_enough_for_the_repository() -> None:
    assert sum(p.stat().st_size for p in DATA.rglob('*') if p.is_file()) < 8_000_000


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(GsPoseError, match=r'models_info.json: missing; --data'):
        Demo(out=tmp_path / 'out', data=tmp_path).run()
    (tmp_path / 'models').mkdir()
    (tmp_path / 'models' / 'models_info.json').write_text('{"1": {}}')
    with pytest.raises(GsPoseError, match=r'models_info.json: not readable'):
        _ = DemoData(tmp_path).names


# ---- repeated runs ----


def a_reference(object_id: str, seed: int = 0) -> ObjectReference:
    points = np.random.default_rng(seed).uniform(-0.04, 0.04, (50, 3))
    gaussians = Gaussians.from_points(points, np.full((50, 3), 0.5), 0.004, 0.9, 0)
    views = ReferenceViews(
        np.eye(4)[None],
        np.ones((1, 4)),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.full((1, 8, 8), 9, 'u1'),
    )
    box = np.array([points.min(0), points.max(0)])
    return ObjectReference(object_id, views, gaussians=gaussians, diameter_m=0.1, box=box)


def test_objects_are_registered_again_only_when_something_changed(tmp_path: Path) -> None:
    database = ObjectDatabase(tmp_path / 'objects')
    database.root.mkdir()
    record = RegistrationRecord(tmp_path / 'registered.json', database)
    assert not record.is_current('mug', 'abc')
    database.save(a_reference('mug'))
    record.note('mug', 'abc')
    assert record.is_current('mug', 'abc')
    assert not record.is_current('mug', 'other pictures')
    database.save(a_reference('mug', seed=1))  # somebody else registered it
    assert not record.is_current('mug', 'abc')
    record.note('mug', 'abc')
    database.remove('mug')
    assert not record.is_current('mug', 'abc')


@pytest.mark.parametrize('text', ['', '[1, 2]', '{"mug": 3}', 'no json'])
def test_a_broken_record_means_registering_again(tmp_path: Path, text: str) -> None:
    database = ObjectDatabase(tmp_path / 'objects')
    database.root.mkdir()
    database.save(a_reference('mug'))
    record = RegistrationRecord(tmp_path / 'registered.json', database)
    record.path.write_text(text)
    assert not record.is_current('mug', 'abc')


def test_content_changes_with_the_pictures(tmp_path: Path, data: DemoData) -> None:
    copy = DemoData(tmp_path)
    shutil.copytree(data.references / '000001', copy.references / '000001')
    assert copy.content(1) == data.content(1)
    (copy.references / '000001' / 'rgb' / '000003.jpg').write_bytes(b'another picture')
    assert copy.content(1) != data.content(1)
    with pytest.raises(GsPoseError, match='no reference pictures'):
        copy.content(2)


# ---- results ----


def perfect_evaluation(data: DemoData, error_m: float = 0.0) -> Evaluation:
    """As if the nodes had found everything, too far away by an error."""
    truth, objects = read_truth(data.root, 'test', data.names, data.frames[0].camera)
    shift = se3.exp([0, 0, error_m, 0, 0, 0])
    estimates = [
        (image.stamp_ns or 0, i.object_id, shift @ i.T_cam_obj, 0.9)
        for image in truth
        for i in image.instances
    ]
    return evaluate_poses(estimates, truth, objects)


def printed(table: object) -> str:
    console = Console(width=120, record=True, file=open('/dev/null', 'w'))  # noqa: PTH123, SIM115
    console.print(table)
    return console.export_text()


def test_verdict_follows_the_poses(
    data: DemoData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = Demo(out=tmp_path)
    good, bad = perfect_evaluation(data), perfect_evaluation(data, error_m=0.05)
    assert demo._verdict(good) == 0
    assert '100.0%' in printed(accuracy_table(good))
    assert demo._verdict(bad) == 1
    assert 'ADD(S)-0.1d is 0.0%, 90% is required' in capsys.readouterr().err.replace('\n', ' ')


def test_frames_without_a_pose_are_misses(data: DemoData) -> None:
    truth, objects = read_truth(data.root, 'test', data.names, data.frames[0].camera)
    first = truth[0]
    estimates = [(first.stamp_ns or 0, i.object_id, i.T_cam_obj, 0.9) for i in first.instances]
    evaluation = evaluate_poses(estimates, truth, objects)
    assert evaluation.overall['adds_0.1d'] == pytest.approx(1 / 60)
    assert '1.7%' in printed(accuracy_table(evaluation))


def test_picture_shows_the_poses(data: DemoData, tmp_path: Path) -> None:
    import cv2

    truth, _ = read_truth(data.root, 'test', data.names, data.frames[0].camera)
    estimates = [
        (image.stamp_ns or 0, i.object_id, i.T_cam_obj, 0.9)
        for image in truth
        for i in image.instances
    ]
    references = {name: a_reference(name) for name in NAMES.values()}
    save_picture(tmp_path / 'with.png', data.frames, estimates, references)
    save_picture(tmp_path / 'without.png', data.frames, [], references)
    drawn, plain = (cv2.imread(str(tmp_path / f'{n}.png')) for n in ('with', 'without'))
    assert drawn.shape == plain.shape == (1200, 1600, 3)
    changed = (drawn != plain).any(-1)
    assert all(tile.any() for half in np.split(changed, 2) for tile in np.split(half, 2, axis=1))


# ---- over DDS ----


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


@pytest.mark.slow
def test_a_node_that_dies_ends_the_demo_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = graph.command

    def command(node: graph.GraphNode, arguments: graph.GraphArguments) -> list[str]:
        if node.executable == 'detector':
            return [sys.executable, '-c', "raise SystemExit('no memory left')"]
        return whole(node, arguments)

    monkeypatch.setattr(graph, 'command', command)
    with pytest.raises(GsPoseError, match=r'(?s)detector ended with code 1.*no memory left'):
        Demo(out=tmp_path).run()


@pytest.mark.slow
def test_a_killed_demo_takes_its_nodes_along(tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'gs_pose_ros.cli', 'demo', '--out', str(tmp_path)]
    demo = subprocess.Popen(command, cwd=DATA.parents[1], stdout=subprocess.DEVNULL)
    log = tmp_path / 'logs' / 'object_database.log'
    deadline = time.monotonic() + 60
    while not (log.exists() and '0 objects' in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    nodes = children(demo.pid)
    values = dataclasses.asdict(graph.GraphArguments())
    assert len(nodes) == sum(node.wanted(values) for node in graph.NODES)
    demo.terminate()
    assert demo.wait(60) == 128 + signal.SIGTERM
    assert not [pid for pid in nodes if Path(f'/proc/{pid}').exists()]


def children(pid: int) -> list[int]:
    """The processes that a process has started, Linux."""
    out = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            parent = int(stat.read_text().rpartition(')')[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == pid:
            out.append(int(stat.parent.name))
    return out


def test_models_agree_with_their_facts() -> None:
    for number, model in read_bop_models(DATA).items():
        assert model.name == NAMES[number]
        assert np.allclose(model.points.min(0), model.box[0], atol=1e-6)
        far = np.linalg.norm(model.points[:, None] - model.points[None, ::7], axis=-1).max()
        assert model.diameter_m == pytest.approx(far, rel=0.03)


def test_demo_is_a_command_with_documented_fields() -> None:
    assert {f.name for f in dataclasses.fields(Demo)} == {
        'out',
        'data',
        'rate',
        'fresh',
        'required',
    }
