"""Node parameters from the fields of frozen dataclasses: a default is written once.

Name, type and default are the field's; the description is `metadata['doc']` or the comment beside
or above the field; the range is the `Bounds` in its type; a `Literal` lists its choices. A nested
dataclass becomes a prefix: `fitting.iterations`. Fields of a kind that ROS has no parameter type
for keep their default.
"""

from __future__ import annotations

import dataclasses
import threading
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from gs_pose_ros.bounds import Bounds
from gs_pose_ros.field_docs import field_docs

S = TypeVar('S')
T = TypeVar('T')

_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
}
_ARRAYS = {
    bool: Parameter.Type.BOOL_ARRAY,
    int: Parameter.Type.INTEGER_ARRAY,
    float: Parameter.Type.DOUBLE_ARRAY,
    str: Parameter.Type.STRING_ARRAY,
}


def setting(default: T, doc: str) -> T:
    """A dataclass field with a description."""
    return typing.cast(T, dataclasses.field(default=default, metadata={'doc': doc}))


@dataclass(frozen=True)
class ParameterField:
    """One parameter of a node."""

    name: str
    type: Parameter.Type
    default: Any
    doc: str
    bounds: Bounds | None
    choices: tuple[str, ...]

    def check(self, value: Any) -> None:
        """Raise ValueError naming the parameter if the value is not one of the choices."""
        if self.choices and value not in self.choices:
            raise ValueError(f'{self.name} must be one of {self.choices}, got {value!r}')

    def descriptor(self) -> ParameterDescriptor:
        """What ROS tools show, and rclpy checks."""
        doc = self.doc + (f' One of: {", ".join(self.choices)}.' if self.choices else '')
        out = ParameterDescriptor(
            name=self.name, description=doc.strip(), type=self.type.value, dynamic_typing=False
        )
        if self.bounds is not None:
            low, high = self.bounds.low, self.bounds.high
            if self.type == Parameter.Type.INTEGER:
                ends = (-(2**63) if low is None else low, 2**63 - 1 if high is None else high)
                out.integer_range = [IntegerRange(from_value=int(ends[0]), to_value=int(ends[1]))]
            else:
                ends = (-1e300 if low is None else low, 1e300 if high is None else high)
                out.floating_point_range = [
                    FloatingPointRange(from_value=float(ends[0]), to_value=float(ends[1]))
                ]
        return out


def parameter_fields(settings: Any, prefix: str = '') -> list[ParameterField]:
    """The parameters of a settings dataclass (its type, or an object that gives the defaults)."""
    if isinstance(settings, type):
        settings = settings()
    hints = typing.get_type_hints(type(settings), include_extras=True)
    comments = field_docs(type(settings))
    out: list[ParameterField] = []
    for field in dataclasses.fields(settings):
        name, hint = prefix + field.name, hints[field.name]
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            out += parameter_fields(value, name + '.')
            continue
        bounds = None
        if typing.get_origin(hint) is Annotated:
            hint, *extras = typing.get_args(hint)
            bounds = next((extra for extra in extras if isinstance(extra, Bounds)), None)
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        doc = field.metadata.get('doc', comments.get(field.name, ''))
        if (kind := _type_of(hint)) is not None:
            out.append(ParameterField(name, kind, value, doc, bounds, choices))
    return out


class Parameters(Generic[S]):
    """Declares the parameters of a settings object on a node and keeps it up to date.

    A change that the settings class refuses (`__post_init__` raising ValueError) is refused.

    Raises:
        ValueError: the start values are refused.

    """

    def __init__(self, node: Node, default: S, prefix: str = '') -> None:
        self._default, self._prefix = default, prefix
        self._fields = {field.name: field for field in parameter_fields(default, prefix)}
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        for field in self._fields.values():
            parameter = Parameter(field.name, field.type, _to_ros(field.default))
            node.declare_parameter(field.name, parameter.value, field.descriptor())
            self._values[field.name] = node.get_parameter(field.name).value
        self._settings = self._build(self._values)
        node.add_on_set_parameters_callback(self._on_set)

    @property
    def value(self) -> S:
        """The settings as they are now."""
        return self._settings

    def _on_set(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        changed = {p.name: p.value for p in parameters if p.name in self._fields}
        if changed:
            with self._lock:
                values = {**self._values, **changed}
                try:
                    self._settings = self._build(values)
                except (ValueError, TypeError) as error:
                    return SetParametersResult(successful=False, reason=str(error))
                self._values = values
        return SetParametersResult(successful=True)

    def _build(self, values: dict[str, Any]) -> S:
        for name, field in self._fields.items():
            field.check(values[name])
        return with_parameters(self._default, values, self._prefix)


def markdown_table(fields: Sequence[ParameterField]) -> str:
    """A table of parameters for the README."""
    rows = ['| parameter | type | default | range | meaning |', '| --- | --- | --- | --- | --- |']
    for f in fields:
        allowed = ' or '.join(f.choices)
        if f.bounds is not None:
            ends = (f.bounds.low, f.bounds.high)
            allowed = ' … '.join('' if end is None else f'{end:,}' for end in ends)
        kind = f.type.name.lower().replace('_', ' ')
        default = _to_ros(f.default)
        rows.append(f'| `{f.name}` | {kind} | `{default!r}` | {allowed} | {f.doc} |')
    return '\n'.join(rows)


def _type_of(hint: Any) -> Parameter.Type | None:
    if typing.get_origin(hint) is Literal:
        return Parameter.Type.STRING
    if typing.get_origin(hint) is tuple:
        elements = set(typing.get_args(hint)) - {...}
        if len(elements) == 1 and (element := elements.pop()) in _ARRAYS:
            return _ARRAYS[element]
    return _TYPES.get(hint)


def _to_ros(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def with_parameters(settings: T, values: dict[str, Any], prefix: str = '') -> T:
    """The settings dataclass with the values of these parameters; others are left alone."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        old, name = getattr(settings, field.name), prefix + field.name
        if dataclasses.is_dataclass(old):
            changes[field.name] = with_parameters(old, values, name + '.')
        elif name in values:
            changes[field.name] = tuple(values[name]) if isinstance(old, tuple) else values[name]
    return dataclasses.replace(settings, **changes)  # type: ignore[type-var]
