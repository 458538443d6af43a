"""The same table of cases for our synchronizers and, where it is installed, the original."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from builtin_interfaces.msg import Time
from std_msgs.msg import Bool, Header

from gs_pose_ros.ros_compat import message_filters as chosen
from gs_pose_ros.ros_compat import stamp_synchronizer as own

ORIGINAL = [] if chosen.TimeSynchronizer is own.TimeSynchronizer else [chosen]
IMPLEMENTATIONS = [own, *ORIGINAL]


class Stamped(NamedTuple):
    header: Header
    name: str


def message(name: str, stamp_ms: int) -> Stamped:
    sec, ms = divmod(stamp_ms, 1000)
    return Stamped(Header(stamp=Time(sec=sec, nanosec=ms * 10**6)), name)


def play(synchronizer: Any, filters: list[Any], events: str) -> list[str]:
    """Events like "a10 b10": a message of stamp 10 ms on filter a, ...; the sets that came."""
    got: list[str] = []
    synchronizer.registerCallback(lambda *msgs: got.append(' '.join(m.name for m in msgs)))
    for event in events.split():
        filters['abc'.index(event[0])].signalMessage(message(event, int(event[1:])))
    return got


EXACT = [
    ('equal stamps join', 2, 'a10 b10', ['a10 b10']),
    ('in any order', 2, 'b10 a10', ['a10 b10']),
    ('three inputs', 3, 'a10 b10 c10', ['a10 b10 c10']),
    ('two of three wait', 3, 'a10 b10', []),
    ('near is not equal', 2, 'a10 b11', []),
    ('late partner', 2, 'a10 a20 a30 b10 b30', ['a10 b10', 'a30 b30']),
    ('the oldest is dropped', 2, 'a10 a20 a30 a40 b10 b40', ['a40 b40']),
    ('each joins once', 2, 'a10 b10 b10', ['a10 b10']),
    ('beyond one second', 2, 'a1500 b1500', ['a1500 b1500']),
]
APPROXIMATE = [
    ('equal stamps join', 2, 'a100 b100', ['a100 b100']),
    ('near stamps join', 2, 'a100 b104', ['a100 b104']),
    ('far stamps do not', 2, 'a100 b120', []),
    ('the limit itself is too far', 2, 'a100 b110', []),
    ('the nearest is chosen', 2, 'a100 a104 b105', ['a104 b105']),
    ('all must be near each other', 3, 'a100 b108 c116', []),
    ('three near each other', 3, 'a100 b104 c108', ['a100 b104 c108']),
    ('each joins once', 2, 'a100 b101 b102', ['a100 b101']),
    ('the oldest is dropped', 2, 'a100 a200 a300 a400 b100', []),
]


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    ('count', 'events', 'sets'), [c[1:] for c in EXACT], ids=[c[0] for c in EXACT]
)
def test_time_synchronizer(module: Any, count: int, events: str, sets: list[str]) -> None:
    filters = [module.SimpleFilter() for _ in range(count)]
    assert play(module.TimeSynchronizer(filters, 3), filters, events) == sets


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
@pytest.mark.parametrize(
    ('count', 'events', 'sets'), [c[1:] for c in APPROXIMATE], ids=[c[0] for c in APPROXIMATE]
)
def test_approximate_time_synchronizer(
    module: Any, count: int, events: str, sets: list[str]
) -> None:
    filters = [module.SimpleFilter() for _ in range(count)]
    synchronizer = module.ApproximateTimeSynchronizer(filters, 3, 0.01)
    assert play(synchronizer, filters, events) == sets


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
def test_messages_without_header(module: Any) -> None:
    for allowed, sets in ((False, 0), (True, 1)):
        filters = [module.SimpleFilter() for _ in range(2)]
        synchronizer = module.ApproximateTimeSynchronizer(filters, 3, 5.0, allowed)
        got: list[Any] = []
        synchronizer.registerCallback(lambda *msgs, got=got: got.append(msgs))
        for filter_ in filters:
            filter_.signalMessage(Bool(data=True))
        assert len(got) == sets


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
def test_callbacks_get_their_own_arguments(module: Any) -> None:
    filter_, got = module.SimpleFilter(), []
    first = filter_.registerCallback(lambda *all_: got.append(all_), 'x', 2)
    second = filter_.registerCallback(lambda *all_: got.append(all_))
    filter_.signalMessage('m')
    assert first != second
    assert got == [('m', 'x', 2), ('m',)]


@pytest.mark.parametrize('module', IMPLEMENTATIONS, ids=lambda m: m.__name__)
def test_subscriber_takes_the_arguments_of_a_subscription(module: Any) -> None:
    class Node:
        def create_subscription(self, *args: Any, **kwargs: Any) -> Any:
            self.args, self.kwargs = args, kwargs
            return self

        answer = 42

    node, got = Node(), []
    subscriber = module.Subscriber(node, Bool, 'topic', qos_profile=7)
    subscriber.registerCallback(got.append)
    node.args[2]('message')
    assert node.args[:2] == (Bool, 'topic')
    assert node.kwargs == {'qos_profile': 7}
    assert (got, subscriber.getTopic(), subscriber.answer) == (['message'], 'topic', 42)
    module.Subscriber(node, Bool, 'topic')
    assert node.kwargs == {'qos_profile': 10}


def test_an_exception_in_a_callback_does_not_lock_ours_up() -> None:
    filters = [own.SimpleFilter(), own.SimpleFilter()]
    synchronizer = own.TimeSynchronizer(filters, 3)
    got: list[str] = []

    def callback(a: Stamped, b: Stamped) -> None:
        got.append(a.name)
        if len(got) == 1:
            raise ValueError('once')

    synchronizer.registerCallback(callback)
    filters[0].signalMessage(message('a1', 1))
    with pytest.raises(ValueError, match='once'):
        filters[1].signalMessage(message('b1', 1))
    filters[0].signalMessage(message('a2', 2))
    filters[1].signalMessage(message('b2', 2))
    assert got == ['a1', 'a2']


@pytest.mark.parametrize('approximate', [False, True])
def test_a_stamp_before_all_time_is_dropped_and_the_next_set_joins(approximate: bool) -> None:
    filters = [own.SimpleFilter(), own.SimpleFilter()]
    synchronizer = (
        own.ApproximateTimeSynchronizer(filters, 3, 0.01)
        if approximate
        else own.TimeSynchronizer(filters, 3)
    )
    filters[0].signalMessage(Stamped(Header(stamp=Time(sec=-5, nanosec=0)), 'bad'))
    assert play(synchronizer, filters, 'a10 b10') == ['a10 b10']
