"""The object database node: registers, loads, saves, lists and removes objects.

The list of objects is latched on `~/objects`; the other nodes read the objects from the directory
that it names. Registrations run one after the other in the background.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.msg import ObjectInfo, ObjectList, RegistrationProgress
from gs_pose_ros.nodes.registration_jobs import RegisterMethod, RegistrationJobs
from gs_pose_ros.nodes.runtime.allowed_paths import allowed_path, usable_path
from gs_pose_ros.nodes.runtime.conversions import object_to_message
from gs_pose_ros.nodes.runtime.frame_input import InputSettings
from gs_pose_ros.nodes.runtime.live_recording import LiveRecording
from gs_pose_ros.nodes.runtime.object_watch import some_of
from gs_pose_ros.nodes.runtime.parameters import setting
from gs_pose_ros.nodes.runtime.stage import QOS_LATCHED, Stage, StageSettings, run
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.database_copy import copy_database
from gs_pose_ros.objects.leftovers import clear_leftovers
from gs_pose_ros.objects.registration import RegistrationSettings, register
from gs_pose_ros.srv import (
    CancelRegistration,
    ListObjects,
    LoadDatabase,
    RegisterObject,
    RemoveObject,
    SaveDatabase,
)


@dataclass(frozen=True)
class DatabaseSettings(StageSettings):
    """Parameters of the object database node."""

    database: str = setting(
        '~/.local/share/gs_pose_ros/objects', 'Directory of the objects that are loaded at start.'
    )
    allowed_roots: tuple[str, ...] = setting(
        ('~',), 'Paths in services must lie under one of these directories.'
    )
    input: InputSettings = field(default_factory=InputSettings)
    registration: RegistrationSettings = field(default_factory=RegistrationSettings)


class DatabaseNode(Stage[DatabaseSettings]):
    """Owns the directory of objects."""

    def __init__(self, method: RegisterMethod = register, **kwargs: Any) -> None:
        super().__init__('object_database', DatabaseSettings(), **kwargs)
        self._method = method
        # Held while the list is brought up to date and told: services and registrations do so.
        self._changing = threading.RLock()

    def configure(self) -> None:
        """Open the database and offer the services."""
        root = usable_path(self.settings.database)
        self._database, self._infos = ObjectDatabase(root), dict[str, ObjectInfo]()
        try:
            self._open(root)
        except GsPoseError as error:  # another may be loaded: no reason to end
            self.fault('database', str(error))
        self._list_out = self.advertise(ObjectList, '~/objects', QOS_LATCHED)
        progress_out = self.advertise(RegistrationProgress, '~/progress')
        self._jobs = RegistrationJobs(
            self._method,
            progress_out.publish,
            self._on_registered,
            self.failed,
            _rehearse if self._method is register else None,
        )
        self.while_configured.callback(self._jobs.stop)
        self.serve(RegisterObject, '~/register', self._register)
        self.serve(CancelRegistration, '~/cancel', self._cancel)
        self.serve(LoadDatabase, '~/load', self._load, most_at_once=3)
        self.serve(SaveDatabase, '~/save', self._save, most_at_once=3)
        self.serve(ListObjects, '~/list', self._list)
        self.serve(RemoveObject, '~/remove', self._remove)

    def activate(self) -> None:
        """Tell what there is."""
        self._publish()

    def facts(self) -> dict[str, str]:
        """What is there, and what runs."""
        if not self.active:
            return {}
        return {
            'database': str(self._database.root),
            'objects': str(len(self._infos)),
            'registering': self._jobs.running(),
        }

    # ---- the database ----

    def _open(self, root: Path, must_exist: bool = False) -> None:
        """Use this directory from now on."""
        try:
            if not must_exist and not root.exists():
                root.mkdir(parents=True)
        except OSError as error:
            raise GsPoseError(f'{root}: cannot be made: {error.strerror}') from error
        database = ObjectDatabase(root)
        clear_leftovers(database)
        infos = _read(database, {})  # may take seconds: the others answer from the old one
        with self._changing:
            self._database, self._infos = database, infos
            self._report()

    def _reload(self) -> None:
        """Look at what is on disk; only changed objects are read."""
        with self._changing:
            try:
                self._infos = _read(self._database, self._infos)
            except GsPoseError as error:
                self._infos = {}
                self.fault('database', str(error))
            else:
                self._report()

    def _report(self) -> None:
        infos = self._infos
        broken = [i for i in infos.values() if i.status != ObjectInfo.STATUS_OK]
        self.fault('database', '')
        self.fault('broken', some_of(f'{i.object_id}: {i.reason}' for i in broken))
        self.get_logger().info(
            f'{self._database.root}: {len(infos) - len(broken)} objects, {len(broken)} broken'
        )

    def _message(self) -> ObjectList:
        with self._changing:
            out = ObjectList(database=str(self._database.root))
            out.objects = [self._infos[name] for name in sorted(self._infos)]
        out.header.stamp = self.get_clock().now().to_msg()
        return out

    def _publish(self) -> None:
        with self._changing:  # or a list that is older would be the last to be sent
            self._list_out.publish(self._message())

    def _roots(self) -> tuple[Path, ...]:
        return (*map(Path, self.settings.allowed_roots), self._database.root)

    def _allowed(self, text: str) -> Path:
        return allowed_path(text, self._roots())

    # ---- services ----

    def _register(
        self, request: RegisterObject.Request, response: RegisterObject.Response
    ) -> RegisterObject.Response:
        try:
            path = None
            if request.source != RegisterObject.Request.SOURCE_TOPICS:
                path = self._allowed(request.path)
            self._check_free(request)
            recording = LiveRecording(self, self.settings.input) if path is None else None
            response.job_id = self._jobs.add(
                request,
                path,
                self._database,
                self.settings.registration,
                recording,
                self._roots(),
            )
            response.accepted = True
        except GsPoseError as error:
            response.message = str(error)
        return response

    def _check_free(self, request: RegisterObject.Request) -> None:
        if request.object_id in self._database.object_ids() and not request.overwrite:
            raise GsPoseError(
                f'{request.object_id!r} is there already; set overwrite or take another name'
            )

    def _on_registered(self) -> None:
        """From the thread of the jobs."""
        self._reload()
        self._publish()

    def _cancel(
        self, request: CancelRegistration.Request, response: CancelRegistration.Response
    ) -> CancelRegistration.Response:
        response.success = self._jobs.cancel(request.job_id)
        if not response.success:
            response.message = f'no job {request.job_id!r} is waiting or running'
        return response

    def _load(
        self, request: LoadDatabase.Request, response: LoadDatabase.Response
    ) -> LoadDatabase.Response:
        try:
            self._open(self._allowed(request.path), must_exist=True)
            self._publish()
            response.success = True
        except GsPoseError as error:
            response.message = str(error)
        response.objects = self._message()
        return response

    def _save(
        self, request: SaveDatabase.Request, response: SaveDatabase.Response
    ) -> SaveDatabase.Response:
        try:
            target = self._allowed(request.path)
            response.object_count, left_out = copy_database(self._database, target)
            response.success = True
            if left_out:
                response.message = f'left out, broken: {some_of(left_out.values())}'
        except GsPoseError as error:
            response.message = str(error)
        return response

    def _list(
        self, request: ListObjects.Request, response: ListObjects.Response
    ) -> ListObjects.Response:
        self._reload()
        response.objects = self._message()
        return response

    def _remove(
        self, request: RemoveObject.Request, response: RemoveObject.Response
    ) -> RemoveObject.Response:
        try:
            self._database.remove(request.object_id)
            response.success = True
        except GsPoseError as error:
            response.message = str(error)
        self._reload()
        self._publish()
        return response


def _read(database: ObjectDatabase, known: Mapping[str, ObjectInfo]) -> dict[str, ObjectInfo]:
    """What is on disk, where it does not have the revision that is known."""
    try:
        if not database.root.is_dir():
            raise GsPoseError(f'{database.root}: no such directory')
    except OSError as error:
        raise GsPoseError(f'{database.root}: {error.strerror}') from error
    infos: dict[str, ObjectInfo] = {}
    for object_id in database.object_ids():
        revision = ''
        try:
            revision = database.revision(object_id)
            before = known.get(object_id)
            if before is not None and before.revision == revision:
                infos[object_id] = before
            else:
                infos[object_id] = object_to_message(database.load(object_id), revision)
        except GsPoseError as error:
            infos[object_id] = ObjectInfo(
                object_id=_sendable(object_id),
                status=ObjectInfo.STATUS_BROKEN,
                reason=_sendable(str(error)),
                # What the disk refused may be read next time, without a change of the files.
                revision='' if _is_of_disk(error) else revision,
            )
    return infos


def _sendable(text: str) -> str:
    """A text without the bytes of a name on disk that are no UTF-8, which no message takes."""
    return text.encode(errors='backslashreplace').decode()


def _is_of_disk(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is not None


def _rehearse(reference: ObjectReference) -> None:
    # Imported here: this node needs it only when it has registered something.
    from gs_pose_ros.pose.estimator import PoseEstimator

    PoseEstimator().rehearse(reference, use_depth=bool(reference.facts['with_depth']))


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(DatabaseNode, args)


if __name__ == '__main__':
    main()
