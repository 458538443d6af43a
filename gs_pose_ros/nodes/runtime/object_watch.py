"""Keeps a node's references equal to the object database, by its latched list."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

from gs_pose_ros.errors import GsPoseError, shown
from gs_pose_ros.msg import ObjectInfo, ObjectList
from gs_pose_ros.nodes.runtime.stage import QOS_LATCHED, Stage, Stopwatch
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference

_MOST_SHOWN = 10  # reasons in one text, which is sent once a second

Prepare = Callable[[ObjectReference], None]


class ObjectWatch:
    """The objects that can be used now, loaded from the directory that the list names.

    `references` and `unusable` (object id to reason) are replaced, never changed: a reader may
    hold on to what it took. As long as no camera is heard `prepare(reference)` is called for each
    new one: the first image would do the same, and does not share the processor with it.
    """

    def __init__(self, node: Stage[Any], prepare: Prepare | None = None) -> None:
        self._node, self._prepare = node, prepare
        self._loaded: dict[str, tuple[tuple[str, str], ObjectReference]] = {}
        self.references: dict[str, ObjectReference] = {}
        self.unusable: dict[str, str] = {}
        self.known = False  # whether a list has come
        self._subscription = node.create_subscription(
            ObjectList,
            'object_database/objects',
            self._on_list,
            QOS_LATCHED,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def close(self) -> None:
        """End the subscription and forget the objects."""
        self._node.destroy_subscription(self._subscription)
        self._loaded, self.references = {}, {}

    def why_not(self, object_id: str) -> str:
        """The reason why this object cannot be used."""
        return self.unusable.get(object_id, f'object {object_id!r} is not in the database')

    def reason_for_none(self) -> str:
        """Why there is no object at all."""
        if not self.known:
            topic = self._node.resolve_topic_name('object_database/objects')
            return f'no object list on {topic}: is the node object_database active?'
        broken = some_of(self.unusable.values())
        return f'no object can be used: {broken}' if broken else 'the object database is empty'

    def _on_list(self, msg: ObjectList) -> None:
        loaded: dict[str, tuple[tuple[str, str], ObjectReference]] = {}
        unusable: dict[str, str] = {}
        for info in msg.objects:
            version = (msg.database, info.revision)
            if info.status != ObjectInfo.STATUS_OK:
                unusable[info.object_id] = info.reason
            elif (before := self._loaded.get(info.object_id)) and before[0] == version:
                loaded[info.object_id] = before
            else:
                try:
                    reference = _database(msg).load(info.object_id)
                    loaded[info.object_id] = version, reference
                except GsPoseError as error:
                    unusable[info.object_id] = str(error)
        new = [o for o, entry in loaded.items() if self._loaded.get(o) is not entry]
        self._loaded, self.known = loaded, True
        self.references = {object_id: entry[1] for object_id, entry in loaded.items()}
        self.unusable = unusable
        self._node.fault('objects', some_of(unusable.values()))
        self._node.get_logger().info(
            f'{len(loaded)} objects ({some_of(loaded, ", ")}), {len(unusable)} unusable'
        )
        for object_id in new:
            self._get_ready(self.references[object_id])

    def _get_ready(self, reference: ObjectReference) -> None:
        """Do the slow first-time work; should it fail, the first image will say so."""
        if self._prepare is None or self._node.hears_camera:
            return
        watch = Stopwatch()
        try:
            self._prepare(reference)
        except Exception as error:  # the node's boundary
            self._node.failed(error)
        self._node.get_logger().info(f'{reference.object_id} is ready after {watch():.1f} s')


def some_of(texts: Iterable[str], between: str = '; ') -> str:
    """The first ten of them, and how many there are more."""
    texts = list(texts)
    more = [f'and {len(texts) - _MOST_SHOWN} more'] if len(texts) > _MOST_SHOWN else []
    return between.join([*texts[:_MOST_SHOWN], *more])


def _database(msg: ObjectList) -> ObjectDatabase:
    """The one that a list names.

    Raises:
        GsPoseError: it is none that objects could be in.

    """
    if not msg.database.startswith('/'):
        raise GsPoseError(
            f'the list of objects names the database {shown(repr(msg.database))}: no absolute path'
        )
    return ObjectDatabase(Path(msg.database))
