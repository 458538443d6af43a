"""Parameters come from dataclass fields: declared, described, checked, applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import rclpy
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from gs_pose_ros.bounds import Bounds, NonNegative
from gs_pose_ros.nodes.parameter_table import SETTINGS, tables
from gs_pose_ros.nodes.runtime.parameters import (
    ParameterField,
    Parameters,
    markdown_table,
    parameter_fields,
    setting,
)


@dataclass(frozen=True)
class Inner:
    size: int = 8  # px, of something
    # Two lines about
    # the ratio.
    ratio: float = 0.5
    levels: tuple[tuple[int, int], ...] = ((1, 2),)  # no parameter type for this


@dataclass(frozen=True)
class Outer:
    name: str = 'a # b'  # a text
    mode: Literal['fast', 'good'] = setting('fast', 'Which way.')
    limit: Annotated[int, Bounds(1, 10)] = setting(3, 'At most.')
    weight: NonNegative = setting(0.5, 'How much.')
    names: tuple[str, ...] = ('x',)
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.limit == 7:
            raise ValueError('limit 7 is unlucky')


NUMBERS = [
    pytest.param(number, id=f'{node}:{number.name}')
    for node, settings in SETTINGS.items()
    for number in parameter_fields(settings)
    if number.type in (Parameter.Type.INTEGER, Parameter.Type.DOUBLE)
]


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    made = rclpy.create_node('parameters_test', context=context)
    yield made
    made.destroy_node()
    context.try_shutdown()


def test_fields_have_type_default_description_range() -> None:
    fields = {f.name: f for f in parameter_fields(Outer)}
    assert list(fields) == [
        'name',
        'mode',
        'limit',
        'weight',
        'names',
        'inner.size',
        'inner.ratio',
    ]
    assert fields['name'].doc == 'a text'
    assert fields['inner.size'].doc == 'px, of something'
    assert fields['inner.ratio'].doc == 'Two lines about the ratio.'
    assert fields['mode'].choices == ('fast', 'good')
    assert fields['names'].type == Parameter.Type.STRING_ARRAY
    assert fields['limit'].bounds == Bounds(1, 10)


def test_declared_on_a_node_and_applied_when_set(node: Node) -> None:
    parameters = Parameters(node, Outer())
    assert parameters.value == Outer()
    descriptor = node.describe_parameter('limit')
    assert descriptor.description == 'At most.'
    assert descriptor.integer_range[0].to_value == 10
    results = node.set_parameters([Parameter('inner.size', value=9), Parameter('limit', value=4)])
    assert all(result.successful for result in results)
    assert parameters.value.inner == Inner(size=9)
    assert parameters.value.limit == 4
    assert parameters.value.inner.levels == ((1, 2),)


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        ('limit', 11, 'range'),
        ('weight', -0.1, 'range'),
        ('mode', 'slow', 'one of'),
        ('limit', 7, 'unlucky'),
        ('weight', 1, 'DOUBLE|expected'),
        ('inner.size', 'x', 'INTEGER|expected'),
    ],
)
def test_refused_when_set_with_the_reason(node: Node, name: str, value, words: str) -> None:
    import re

    parameters = Parameters(node, Outer())
    result = node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful
    assert re.search(words, result.reason), result.reason
    assert parameters.value == Outer()


@pytest.mark.parametrize('number', NUMBERS)
def test_every_number_has_a_range_that_holds_its_default(number: ParameterField) -> None:
    assert number.bounds is not None, f'{number.name}: say in its type what is sane (bounds.py)'
    low, high = number.bounds.low, number.bounds.high
    assert low is not None, 'none of ours may be any negative number'
    assert low <= number.default
    assert high is None or number.default <= high
    assert high is not None or number.type == Parameter.Type.DOUBLE, 'integers count what costs'


@pytest.mark.parametrize('settings', SETTINGS.values(), ids=SETTINGS)
def test_every_node_refuses_the_absurd(node: Node, settings: type) -> None:
    parameters = Parameters(node, settings())
    absurd = {
        Parameter.Type.INTEGER: (-5, 10**9),
        Parameter.Type.DOUBLE: (-5.0, float('nan'), float('inf')),
    }
    for number in parameter_fields(settings):
        for value in absurd.get(number.type, ()):
            result = node.set_parameters([Parameter(number.name, value=value)])[0]
            assert not result.successful, f'{number.name} became {value}'
            assert f'{number.name} out of range' in result.reason
    assert parameters.value == settings()


def test_refused_start_values_are_errors() -> None:
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    for name, value, error in (
        ('limit', 99, InvalidParameterValueException),
        ('mode', 'slow', ValueError),
    ):
        node = rclpy.create_node(
            'start', context=context, parameter_overrides=[Parameter(name, value=value)]
        )
        with pytest.raises(error):
            Parameters(node, Outer())
        node.destroy_node()
    context.try_shutdown()


def test_table() -> None:
    rows = markdown_table(parameter_fields(Outer)).splitlines()
    assert rows[2] == "| `name` | string | `'a # b'` |  | a text |"
    assert rows[4] == '| `limit` | integer | `3` | 1 … 10 | At most. |'
    assert rows[5] == '| `weight` | double | `0.5` | 0 …  | How much. |'


def test_table_of_all_nodes() -> None:
    text = tables()
    for name in ('object_database', 'detector', 'pose_initializer', 'gs_refiner'):
        assert f'#### {name}' in text
    assert '`allowed_roots`' in text
