"""A map that is built in the background from files or from the live camera."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.localization.map_builder import MapBuilder
from gs_pose_ros.localization.map_store import StoredMap, save_map
from gs_pose_ros.msg import MapProgress
from gs_pose_ros.nodes.runtime.conversions import ns_to_stamp
from gs_pose_ros.nodes.runtime.live_recording import LiveRecording
from gs_pose_ros.recording.bags import left_out_text
from gs_pose_ros.recording.map_source import MapSource, PosedFrame

# Progress is for people: more often than this (s) nobody reads it.
_PERIOD_S = 0.5


@dataclass(frozen=True)
class MapJob:
    """What to build, and what to do with it."""

    source: MapSource
    builder: MapBuilder
    save_to: Path | None
    recording: LiveRecording | None  # of live topics


class MapBuilding:
    """One thread for one job; `use(map)` gets what it made, `report` one final message."""

    def __init__(
        self,
        job: MapJob,
        use: Callable[[StoredMap], None],
        report: Callable[[MapProgress], None],
        on_bug: Callable[[Exception], str],
    ) -> None:
        self._job, self._use, self._report, self._on_bug = job, use, report, on_bug
        self._enough, self._cancelled = threading.Event(), threading.Event()
        self._missed: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()  # images that became no frame
        self._notes: list[str] = []  # what was assumed of the source
        self._reported = 0.0
        self._thread = threading.Thread(target=self._run, name='map building', daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still works."""
        return self._thread.is_alive()

    def finish(self) -> None:
        """Take no more frames: build the map of what there is."""
        self._enough.set()

    def cancel(self, timeout_s: float = 10.0) -> None:
        """Give up and end the thread."""
        self._cancelled.set()
        self._enough.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            stored = self._build()
        except GsPoseError as error:
            self._say(MapProgress.STATE_FAILED, str(error))
        except Exception as error:  # the node's boundary
            self._say(MapProgress.STATE_FAILED, self._on_bug(error))
        else:
            if stored is None:
                self._say(MapProgress.STATE_CANCELLED, 'cancelled')
            else:
                done = (
                    f'{len(stored.scene)} Gaussians, {len(stored.relocalizer.keyframes)} keyframes'
                )
                if self._left_out:
                    self._notes.append(left_out_text(self._left_out))
                done = '; '.join([done, *self._notes])
                self._say(MapProgress.STATE_SUCCEEDED, done, len(stored.scene))

    def _build(self) -> StoredMap | None:
        job = self._job
        for frame, T_map_cam in self._frames():
            try:
                job.builder.add(frame, T_map_cam)
            except GsPoseError as error:  # one bad frame is no end
                self._miss(frame.stamp_ns, str(error))
            if time.monotonic() - self._reported > _PERIOD_S:
                self._say(MapProgress.STATE_RUNNING, 'taking frames')
            if self._enough.is_set():
                break
        if self._cancelled.is_set():
            return None
        self._say(MapProgress.STATE_RUNNING, 'making the map')
        if not job.builder.frames and self._missed:
            reason = self._missed.most_common(1)[0][0]
            raise GsPoseError(f'none of {self._missed.total()} frames could be used: {reason}')
        facts = {'source': f'{job.source.kind} {job.source.path or ""}'.strip()}
        if self._notes:
            facts['notes'] = '; '.join(self._notes)
        counts = {'without_pose': self._missed.total(), 'left_out': self._left_out.total()}
        stored = job.builder.build({**facts, **counts})
        if job.save_to is not None:
            save_map(job.save_to, stored)
        if self._cancelled.is_set():
            return None
        self._use(stored)
        return stored

    def _frames(self) -> Iterator[PosedFrame]:
        job = self._job
        if job.recording is None:
            return job.source.frames(
                missed=self._miss, left_out=self._leave_out, note=self._notes.append
            )
        live = job.recording.stream(job.source.duration_s, self._enough, self._leave_out)
        return job.source.frames(live, job.recording.tree, self._miss)

    def _miss(self, stamp_ns: int, reason: str) -> None:
        self._missed[reason] += 1

    def _leave_out(self, stamp_ns: int, reason: str) -> None:
        self._left_out[reason] += 1

    def _say(self, state: int, message: str, gaussians: int = 0) -> None:
        self._reported = time.monotonic()
        builder = self._job.builder
        self._report(
            MapProgress(
                stamp=ns_to_stamp(time.time_ns()),
                state=state,
                message=message,
                frames=builder.frames,
                skipped=builder.skipped + self._missed.total() + self._left_out.total(),
                gaussian_count=gaussians,
            )
        )
