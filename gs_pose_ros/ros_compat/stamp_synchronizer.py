"""What is used of ROS 2's `message_filters`, same names and signatures, where it is missing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.clock import ROSClock
from rclpy.logging import get_logger
from rclpy.time import Time

Message = Any


class SimpleFilter:
    """A source of messages with callbacks."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., None], *args: Any) -> int:
        """Call `cb(*messages, *args)` on every output; returns the number of the connection."""
        connection = len(self.callbacks)
        self.callbacks[connection] = (cb, args)
        return connection

    def signalMessage(self, *msg: Message) -> None:
        """Hand messages to every callback."""
        for cb, args in list(self.callbacks.values()):
            cb(*msg, *args)


class Subscriber(SimpleFilter):
    """A subscription as a filter: `Subscriber(node, type, topic, **create_subscription args)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.node = args[0]
        self.topic = args[2]
        kwargs.setdefault('qos_profile', 10)
        self.sub = self.node.create_subscription(*args[1:], self.callback, **kwargs)

    def callback(self, msg: Message) -> None:
        """Pass one message on."""
        self.signalMessage(msg)

    def getTopic(self) -> str:
        """The name of the topic as it was given."""
        return self.topic

    def __getattr__(self, key: str) -> Any:
        """All else is the subscription's."""
        if key == 'sub':  # not yet subscribed
            raise AttributeError(key)
        return getattr(self.sub, key)


class TimeSynchronizer(SimpleFilter):
    """Calls back with one message of each filter when their stamps are equal.

    Keeps `queue_size` messages of each filter, dropping the one with the oldest stamp.
    """

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int) -> None:
        super().__init__()
        # The original holds a plain lock over the callbacks: one exception there and it never
        # opens again. Here it opens, and a callback may feed the filter it came from.
        self.lock = threading.RLock()
        self.queue_size = queue_size
        self.connectInput(fs)

    def connectInput(self, fs: Sequence[SimpleFilter]) -> None:
        """Take the messages of these filters."""
        self.queues: list[dict[int, Message]] = [{} for _ in fs]
        self.input_connections = [
            f.registerCallback(self.add, queue, i)
            for i, (f, queue) in enumerate(zip(fs, self.queues, strict=True))
        ]

    def add(
        self, msg: Message, my_queue: dict[int, Message], my_queue_index: int | None = None
    ) -> None:
        """Take one message of the filter that `my_queue` belongs to."""
        at = _nanoseconds(msg.header.stamp)
        if at is None:
            return
        with self.lock:
            self._keep(my_queue, at, msg)
            for stamp in sorted(set.intersection(*(set(q) for q in self.queues))):
                self.signalMessage(*(queue.pop(stamp) for queue in self.queues))

    def _keep(self, queue: dict[int, Message], stamp: int, msg: Message) -> None:
        queue[stamp] = msg
        while len(queue) > self.queue_size:
            del queue[min(queue)]


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Like `TimeSynchronizer`, with stamps that differ by less than `slop` seconds."""

    def __init__(
        self,
        fs: Sequence[SimpleFilter],
        queue_size: int,
        slop: float,
        allow_headerless: bool = False,
    ) -> None:
        super().__init__(fs, queue_size)
        self.slop_ns = round(slop * 1e9)
        self.allow_headerless = allow_headerless

    def add(
        self, msg: Message, my_queue: dict[int, Message], my_queue_index: int | None = None
    ) -> None:
        """Take one message of the filter that `my_queue` belongs to."""
        if hasattr(msg, 'header') and hasattr(msg.header, 'stamp'):
            stamp = _nanoseconds(msg.header.stamp)
        elif self.allow_headerless:
            stamp = ROSClock().now().nanoseconds
        else:
            get_logger('message_filters').warning('a message without a header is dropped')
            return
        if stamp is None:
            return
        own: int = stamp
        with self.lock:
            self._keep(my_queue, own, msg)
            if own not in my_queue:  # older than all of a full queue
                return
            candidates = [
                [own]
                if queue is my_queue
                else sorted(
                    (s for s in queue if abs(s - own) <= self.slop_ns),
                    key=lambda s: abs(s - own),
                )
                for queue in self.queues
            ]
            for stamps in itertools.product(*candidates):
                if max(stamps) - min(stamps) < self.slop_ns:
                    self.signalMessage(
                        *(q.pop(s) for q, s in zip(self.queues, stamps, strict=True))
                    )
                    return


def _nanoseconds(stamp: Any) -> int | None:
    """Of a stamp; None, and a warning, for one that is no time: the message is dropped.

    The original lets the exception out of the callback, which ends the node.
    """
    try:
        return Time.from_msg(stamp).nanoseconds
    except ValueError as error:
        get_logger('message_filters').warning(f'a message is dropped: {error}')
        return None
