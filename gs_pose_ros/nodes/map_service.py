"""`~/build_map`, `~/finish_map`, `~/load_map` and `~/save_map` of gsplatloc."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.localization.map_builder import MapBuilder
from gs_pose_ros.localization.map_store import (
    StoredMap,
    check_free,
    clear_leftovers,
    load_map,
    save_map,
)
from gs_pose_ros.msg import MapProgress
from gs_pose_ros.nodes.map_building import MapBuilding, MapJob
from gs_pose_ros.nodes.runtime.allowed_paths import allowed_path
from gs_pose_ros.nodes.runtime.live_recording import LiveRecording
from gs_pose_ros.nodes.runtime.stage import Stage
from gs_pose_ros.recording.camera_topics import BagInput
from gs_pose_ros.recording.map_source import MapSource, MapSourceKind
from gs_pose_ros.srv import BuildMap, LoadMap, SaveMap

_KINDS: dict[int, MapSourceKind] = {
    BuildMap.Request.SOURCE_FOLDER: 'folder',
    BuildMap.Request.SOURCE_BAG: 'bag',
    BuildMap.Request.SOURCE_TOPICS: 'topics',
}
_POSE_FRAME = 'odom'


class MapService:
    """Holds the map that is in use; `use(map)` is told of each new one."""

    def __init__(self, node: Stage[Any], use: Callable[[StoredMap], None]) -> None:
        self._node, self._tell = node, use
        self._changing = threading.Lock()  # a map may be loaded while another is finished
        self.present: StoredMap | None = None
        self._building: MapBuilding | None = None
        self._progress = node.advertise(MapProgress, '~/map_progress')
        node.serve(BuildMap, '~/build_map', self._build)
        node.serve(Trigger, '~/finish_map', self._finish)
        node.serve(LoadMap, '~/load_map', self._load, most_at_once=3)
        node.serve(SaveMap, '~/save_map', self._save, most_at_once=3)
        node.while_configured.callback(self._cancel)

    @property
    def building(self) -> bool:
        """Whether a map is being built."""
        return self._building is not None and self._building.running

    def open(self, path: Path) -> StoredMap:
        """Use a stored map.

        Raises:
            GsPoseError: it cannot be read; the present map is kept.

        """
        clear_leftovers(path)
        stored = load_map(path)
        self._use(stored)
        return stored

    def _use(self, stored: StoredMap) -> None:
        _ = stored.scene.levels  # made now, in this thread, instead of with the next image
        with self._changing:
            self.present = stored
            self._tell(stored)

    def _cancel(self) -> None:
        if self._building is not None:
            self._building.cancel()

    def _allowed(self, text: str) -> Path:
        return allowed_path(text, self._node.settings.allowed_roots)

    # ---- services ----

    def _build(self, request: BuildMap.Request, response: BuildMap.Response) -> BuildMap.Response:
        if self.building:
            response.message = 'a map is being built already: ~/finish_map ends that'
            return response
        try:
            job = self._job(request)
            self._building = MapBuilding(job, self._use, self._progress.publish, self._node.failed)
            response.accepted = True
        except GsPoseError as error:
            response.message = str(error)
        return response

    def _job(self, request: BuildMap.Request) -> MapJob:
        settings = self._node.settings
        if request.source not in _KINDS:
            raise GsPoseError(
                f'source is {request.source}, not one of the SOURCE_ constants of BuildMap'
            )
        if not request.duration >= 0:
            raise GsPoseError(f'duration is {request.duration:g} s; it must be 0 or above')
        kind = _KINDS[request.source]
        source = MapSource(
            kind,
            None if kind == 'topics' else self._allowed(request.path),
            request.pose_frame or _POSE_FRAME,
            request.odometry_topic,
            float(request.duration),
            int(request.max_frames),
            bag=BagInput(
                request.color_topic,
                request.depth_topic,
                request.camera_info_topic,
                float(request.stamp_tolerance),
            ),
            roots=tuple(map(Path, settings.allowed_roots)),
        )
        save_to = None
        if request.save_to:
            save_to = self._allowed(request.save_to)
            check_free(save_to, request.overwrite)
        recording = LiveRecording(self._node, settings.input) if kind == 'topics' else None
        return MapJob(source, MapBuilder(settings.build, settings.map_frame), save_to, recording)

    def _finish(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self.building
        if self.building and self._building is not None:
            self._building.finish()
        else:
            response.message = 'no map is being built'
        return response

    def _load(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        try:
            stored = self.open(self._allowed(request.path))
            response.success = True
            response.gaussian_count = len(stored.scene)
            response.keyframe_count = len(stored.relocalizer.keyframes)
        except GsPoseError as error:
            response.message = str(error)
        return response

    def _save(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        stored = self.present
        if stored is None:
            response.message = 'there is no map to be saved'
            return response
        try:
            path = self._allowed(request.path)
            check_free(path, request.overwrite)
            save_map(path, stored)
            response.success, response.gaussian_count = True, len(stored.scene)
        except GsPoseError as error:
            response.message = str(error)
        return response
