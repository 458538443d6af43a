"""What the demo does on the graph: asks for registrations, and notes when poses arrive."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import ObjectList, ObjectPose, ObjectPoseArray, RegistrationProgress
from gs_pose_ros.recording.frame_decoding import stamp_to_ns
from gs_pose_ros.srv import RegisterObject


class RegistrationClient:
    """Registers objects through the object_database node."""

    def __init__(self, node: Node, namespace: str = 'gs_pose') -> None:
        root = f'/{namespace}/object_database'
        self._progress: queue.SimpleQueue[RegistrationProgress] = queue.SimpleQueue()
        node.create_subscription(
            RegistrationProgress, f'{root}/progress', self._progress.put, QoSProfile(depth=100)
        )
        self._register = node.create_client(RegisterObject, f'{root}/register')
        self._listed = threading.Event()
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(ObjectList, f'{root}/objects', self._on_list, latched)
        self.problems: dict[str, str] = {}  # objects that cannot be used, and why

    def wait(self, check: Callable[[], None], timeout_s: float = 60.0) -> None:
        """Wait until the node is up; `check` raises when it never will be."""
        deadline = time.monotonic() + timeout_s
        while not (self._listed.is_set() and self._register.service_is_ready()):
            check()
            if time.monotonic() > deadline:
                raise GsPoseError(f'object_database does not answer within {timeout_s:.0f} s')
            time.sleep(0.05)

    def register_bop(
        self,
        object_id: str,
        split: Path,
        bop_object_id: int,
        on_progress: Callable[[float, str], None],
        check: Callable[[], None],
        silence_s: float = 180.0,
    ) -> None:
        """Register an object of a BOP split, replacing one of the same name, and wait for it.

        Calls `on_progress(fraction, what is being done)`. Raises GsPoseError when it is refused,
        fails, or says nothing for `silence_s`.
        """
        request = RegisterObject.Request(
            object_id=object_id,
            source=RegisterObject.Request.SOURCE_BOP,
            path=str(split.resolve()),
            overwrite=True,
        )
        request.bop_object_id = int(bop_object_id)
        answer = self._register.call(request, timeout_sec=30.0)
        if answer is None:
            raise GsPoseError(f'{object_id}: object_database/register does not answer')
        if not answer.accepted:
            raise GsPoseError(f'{object_id}: {answer.message}')
        heard = time.monotonic()
        while True:
            check()
            if time.monotonic() - heard > silence_s:
                raise GsPoseError(f'{object_id}: no progress for {silence_s:.0f} s')
            try:
                msg = self._progress.get(timeout=0.2)
            except queue.Empty:
                continue
            if msg.job_id != answer.job_id:
                continue
            heard = time.monotonic()
            on_progress(msg.fraction, f'{msg.stage} {msg.message}'.strip())
            if msg.state == RegistrationProgress.STATE_SUCCEEDED:
                return
            if msg.state in (
                RegistrationProgress.STATE_FAILED,
                RegistrationProgress.STATE_CANCELLED,
            ):
                raise GsPoseError(f'{object_id}: registration failed: {msg.message}')

    def _on_list(self, msg: ObjectList) -> None:
        self.problems = {o.object_id: o.reason for o in msg.objects if o.reason}
        self._listed.set()


class ArrivalWatch:
    """When each image left and when the poses for it came: the latency of the whole line."""

    def __init__(self, node: Node, camera_info_topic: str, namespace: str = 'gs_pose') -> None:
        self._lock = threading.Lock()
        self._sent: dict[int, float] = {}
        self._total: dict[int, float] = {}
        self._stages: dict[str, list[float]] = {'refine': [], 'track': []}
        self._answers: Counter[int] = Counter()
        self._followed: dict[str, bool] = {}
        self._lost: list[tuple[int, str, str]] = []
        qos = QoSProfile(depth=200)
        node.create_subscription(CameraInfo, camera_info_topic, self._on_image, qos)
        node.create_subscription(
            ObjectPoseArray, f'/{namespace}/gs_refiner/poses', self._on_poses, qos
        )

    def answers(self, stamp_ns: int) -> int:
        """How many answers have come for that image, among them that nothing is there."""
        with self._lock:
            return self._answers[stamp_ns]

    def followed(self) -> list[str]:
        """The objects whose last pose was good."""
        with self._lock:
            return sorted(name for name, good in self._followed.items() if good)

    def totals(self) -> dict[int, float]:
        """Seconds from image to first good pose, by stamp."""
        with self._lock:
            return dict(self._total)

    def work(self) -> dict[str, list[float]]:
        """Seconds of the refiner's work per image: on initial poses ('refine'), else 'track'."""
        with self._lock:
            return {stage: list(values) for stage, values in self._stages.items()}

    def lost(self) -> list[tuple[int, str, str]]:
        """(stamp_ns, object, reason) of every pose that was given up."""
        with self._lock:
            return list(self._lost)

    def _on_image(self, msg: CameraInfo) -> None:
        with self._lock:
            self._sent[stamp_to_ns(msg.header.stamp)] = time.monotonic()

    def _on_poses(self, msg: ObjectPoseArray) -> None:
        now, stamp_ns = time.monotonic(), stamp_to_ns(msg.header.stamp)
        good = [pose for pose in msg.poses if pose.status == ObjectPose.STATUS_OK]
        tracked = all(pose.stage == ObjectPose.STAGE_TRACKED for pose in msg.poses)
        with self._lock:
            self._answers[stamp_ns] += 1
            if msg.compute_time > 0 and msg.poses:
                self._stages['track' if tracked else 'refine'].append(msg.compute_time)
            if good and stamp_ns in self._sent:
                self._total.setdefault(stamp_ns, now - self._sent[stamp_ns])
            for pose in msg.poses:
                self._followed[pose.object_id] = pose.status == ObjectPose.STATUS_OK
                if pose.status != ObjectPose.STATUS_OK:
                    self._lost.append((stamp_ns, pose.object_id, pose.reason))
