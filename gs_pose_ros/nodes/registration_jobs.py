"""Registrations that run in the background, one after the other, and can be cancelled."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import RegistrationProgress
from gs_pose_ros.nodes.runtime.conversions import ns_to_stamp
from gs_pose_ros.nodes.runtime.live_recording import LiveRecording
from gs_pose_ros.objects import registration
from gs_pose_ros.objects.board import AprilTagGrid, CharucoBoard
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.folder_store import checked_name
from gs_pose_ros.objects.masks import MaskMode
from gs_pose_ros.objects.registration import RegistrationCancelled, RegistrationSettings
from gs_pose_ros.objects.sources import RegistrationView
from gs_pose_ros.recording.camera_topics import BagInput
from gs_pose_ros.recording.registration_source import Board, RegistrationSource, SourceKind
from gs_pose_ros.recording.source_kind import check_kind
from gs_pose_ros.srv import RegisterObject

_Request = RegisterObject.Request
_KINDS: dict[int, SourceKind] = {
    _Request.SOURCE_BOP: 'bop',
    _Request.SOURCE_TRANSFORMS: 'transforms',
    _Request.SOURCE_BAG: 'bag',
    _Request.SOURCE_TOPICS: 'topics',
}
_MASKS: dict[int, MaskMode] = {
    _Request.MASK_AUTO: MaskMode.AUTO,
    _Request.MASK_GIVEN: MaskMode.GIVEN,
    _Request.MASK_DEPTH_BOX: MaskMode.DEPTH_BOX,
    _Request.MASK_GRABCUT: MaskMode.GRABCUT,
}
# Progress is for people: more often than this (s) nobody reads it.
_PERIOD_S = 0.2
_LIVE_S = 10.0
# Each takes about a minute: whoever is further back in line has not been thought of.
_MOST_WAITING = 20


class RegisterMethod(Protocol):
    """`gs_pose_ros.objects.registration.register`."""

    def __call__(
        self,
        object_id: str,
        views: Sequence[RegistrationView],
        settings: RegistrationSettings | None = None,
        on_progress: Callable[[registration.RegistrationProgress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ObjectReference:
        """Make an object reference from posed pictures."""
        ...


@dataclass
class _Job:
    object_id: str
    source: RegistrationSource
    database: ObjectDatabase
    settings: RegistrationSettings
    recording: LiveRecording | None
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    cancelled: threading.Event = field(default_factory=threading.Event)
    reported: float = 0.0  # monotonic time of the last progress
    notes: str = ''  # on how its pictures were read


class RegistrationJobs:
    """One thread and its queue; every job ends with one final `RegistrationProgress`.

    Objects are saved when they are complete, so a job that is cancelled, or killed with the
    process, leaves the database as it was.
    """

    def __init__(
        self,
        method: RegisterMethod,
        report: Callable[[RegistrationProgress], None],
        on_registered: Callable[[], None],
        on_bug: Callable[[Exception], str],
        prepare: Callable[[ObjectReference], None] | None = None,
    ) -> None:
        """`prepare(reference)` makes what stages need of a stored object, before it is told of."""
        self._method, self._report, self._prepare = method, report, prepare
        self._on_registered, self._on_bug = on_registered, on_bug
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._jobs: dict[str, _Job] = {}  # waiting or running
        self._thread = threading.Thread(target=self._run, name='registration', daemon=True)
        self._thread.start()

    def add(
        self,
        request: RegisterObject.Request,
        path: Path | None,
        database: ObjectDatabase,
        settings: RegistrationSettings,
        recording: LiveRecording | None = None,
        roots: tuple[Path, ...] = (),
    ) -> str:
        """Queue a registration that reads files under `roots` only; returns its job id.

        Raises:
            GsPoseError: a field of the request makes no sense.

        """
        source = source_from_request(request, path, roots)
        object_id = checked_name(request.object_id)
        if any(job.object_id == object_id for job in list(self._jobs.values())):
            raise GsPoseError(f'{object_id!r} is being registered already')
        if self._queue.qsize() >= _MOST_WAITING:
            raise GsPoseError(
                f'{_MOST_WAITING} registrations wait already: ask again when one has ended, '
                'or cancel some'
            )
        job = _Job(object_id, source, database, settings, recording)
        self._jobs[job.job_id] = job
        self._say(job, RegistrationProgress.STATE_QUEUED, 'queued', 0.0, '')
        self._queue.put(job)
        return job.job_id

    def cancel(self, job_id: str) -> bool:
        """Stop a job; whether there was such a one."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.cancelled.set()
        return job is not None

    def running(self) -> str:
        """The objects that wait or run."""
        return ', '.join(job.object_id for job in list(self._jobs.values()))

    def stop(self, timeout_s: float = 10.0) -> None:
        """Cancel everything and end the thread."""
        for job in list(self._jobs.values()):
            job.cancelled.set()
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            state, message, psnr = RegistrationProgress.STATE_FAILED, '', float('nan')
            try:
                psnr = self._register(job)
                state, message = RegistrationProgress.STATE_SUCCEEDED, job.notes
            except RegistrationCancelled as error:
                state, message = RegistrationProgress.STATE_CANCELLED, str(error)
            except GsPoseError as error:
                message = str(error)
            except Exception as error:  # the node's boundary: the next job shall run
                message = self._on_bug(error)
            self._jobs.pop(job.job_id, None)
            if state == RegistrationProgress.STATE_SUCCEEDED:
                self._on_registered()
            fraction = float(state == RegistrationProgress.STATE_SUCCEEDED)
            self._say(job, state, 'end', fraction, message, psnr)

    def _register(self, job: _Job) -> float:
        """Read, fit, store; the PSNR (dB) on held-out views."""
        running = RegistrationProgress.STATE_RUNNING

        def on_progress(progress: registration.RegistrationProgress) -> None:
            if time.monotonic() - job.reported > _PERIOD_S:
                self._say(job, running, progress.stage, progress.fraction, progress.message)

        def check() -> None:
            if job.cancelled.is_set():
                raise RegistrationCancelled(f'{job.object_id}: registration cancelled')

        check()
        self._say(job, running, 'reading', 0.0, str(job.source.path or 'live topics'))
        if job.recording is not None:
            seconds = job.source.duration_s or _LIVE_S
            frames, tree = job.recording.take(seconds, job.cancelled)
            check()
            found = job.source.views(frames, tree)
        else:
            found = job.source.views()
        check()
        job.notes = '; '.join(found.notes)
        if job.notes:
            self._say(job, running, 'reading', 0.0, job.notes)
        settings = job.settings
        if found.box is not None:
            low, high = (tuple(map(float, corner)) for corner in found.box)
            settings = replace(settings, box=(low, high))
        reference = self._method(
            job.object_id, found.views, settings, on_progress, job.cancelled.is_set
        )
        check()
        job.database.save(reference)
        if self._prepare is not None:
            self._say(job, running, 'preparing', 0.99, 'templates and keypoints')
            try:
                self._prepare(job.database.load(job.object_id))
            except Exception as error:  # the object is stored: whoever looks for it prepares it
                self._on_bug(error)
        return float(reference.facts.get('psnr_heldout_db', np.nan))

    def _say(
        self,
        job: _Job,
        state: int,
        stage: str,
        fraction: float,
        message: str,
        psnr: float = float('nan'),
    ) -> None:
        job.reported = time.monotonic()
        out: Any = RegistrationProgress(
            job_id=job.job_id, object_id=job.object_id, state=state, stage=stage, message=message
        )
        out.stamp = ns_to_stamp(time.time_ns())
        out.fraction, out.psnr = float(fraction), float(psnr)
        self._report(out)


def source_from_request(
    request: RegisterObject.Request, path: Path | None, roots: tuple[Path, ...] = ()
) -> RegistrationSource:
    """The source that a service request describes; it reads files under `roots` only.

    Raises:
        GsPoseError: a field makes no sense.

    """
    if request.source not in _KINDS or request.mask_mode not in _MASKS:
        raise GsPoseError(
            f'source is {request.source}, mask_mode {request.mask_mode}: one of them is not a '
            'SOURCE_ or MASK_ constant of RegisterObject'
        )
    low, high = (
        np.array([corner.x, corner.y, corner.z]) for corner in (request.box_min, request.box_max)
    )
    box = np.stack([low, high]) if low.any() or high.any() else None
    if box is not None and not (np.isfinite(box).all() and (low < high).all()):
        raise GsPoseError(
            f'box_min {low.tolist()}, box_max {high.tolist()}: every entry of box_min must '
            'be below that of box_max'
        )
    kind = _KINDS[request.source]
    board = _board(request)
    if path is not None:
        check_kind(kind, path)
    return RegistrationSource(
        kind=kind,
        path=path,
        bop_object_id=int(request.bop_object_id),
        box=box,
        mask_mode=_MASKS[request.mask_mode],
        board=board,
        object_frame=request.object_frame,
        duration_s=float(request.duration),
        max_views=int(request.max_views),
        metres_per_unit=float(request.metres_per_unit),
        bag=BagInput(
            request.color_topic,
            request.depth_topic,
            request.camera_info_topic,
            float(request.stamp_tolerance),
        ),
        roots=roots,
    )


def _board(request: RegisterObject.Request) -> Board | None:
    if request.board == _Request.BOARD_NONE:
        return None
    sizes = (request.board_columns, request.board_rows, request.board_square, request.board_marker)
    if request.board == _Request.BOARD_CHARUCO:
        dictionary = request.board_dictionary or 'DICT_5X5_100'
        return CharucoBoard(*sizes, dictionary, request.board_legacy)
    if request.board == _Request.BOARD_APRILTAG:
        return AprilTagGrid(*sizes, request.board_dictionary or 'DICT_APRILTAG_36h11')
    raise GsPoseError(
        f'board is {request.board}, not one of the BOARD_ constants of RegisterObject'
    )
