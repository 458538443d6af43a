"""The settings of another node of the graph, kept equal to its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import Parameter, ParameterEvent
from rcl_interfaces.srv import GetParameters
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

# In rclpy.clock_type since Jazzy; here it is everywhere.
from rclpy.clock import Clock, ClockType  # pyright: ignore[reportPrivateImportUsage]
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import qos_profile_parameter_events

from gs_pose_ros.nodes.runtime.parameters import parameter_fields, with_parameters
from gs_pose_ros.nodes.runtime.stage import Stage

S = TypeVar('S')


class OtherSettings(Generic[S]):
    """What a node beside this one is set to; the defaults until it is heard of.

    A setting that two nodes need is a parameter of one of them. It is asked for when that node
    appears, and followed on /parameter_events.
    """

    def __init__(self, node: Stage[Any], other: str, default: S, prefix: str) -> None:
        """Those of node `other` in the same namespace whose names begin with the prefix."""
        self._node, self._prefix = node, prefix
        self._other = f'{node.get_namespace().rstrip("/")}/{other}'
        self._names = [field.name for field in parameter_fields(default, prefix)]
        self.value = default
        self._there = False  # whether the other node was, when it was last looked for
        group = MutuallyExclusiveCallbackGroup()
        self._client = node.create_client(
            GetParameters, f'{self._other}/get_parameters', callback_group=group
        )
        self._events = node.create_subscription(
            ParameterEvent,
            '/parameter_events',
            self._on_event,
            qos_profile_parameter_events,
            callback_group=group,
        )
        # Not the node's clock, which may stand still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(0.5, self._look, callback_group=group, clock=steady)

    def close(self) -> None:
        """Follow no more."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._events)
        self._node.destroy_client(self._client)

    def _look(self) -> None:
        """Ask for all values whenever the other node has come, or come back."""
        before, self._there = self._there, self._client.service_is_ready()
        if self._there and not before:
            answer = self._client.call_async(GetParameters.Request(names=self._names))
            answer.add_done_callback(self._node.guarded('settings', self._on_values))

    def _on_values(self, future: Any) -> None:
        if (answer := future.result()) is not None and len(answer.values) == len(self._names):
            pairs = zip(self._names, answer.values, strict=True)
            self._take(Parameter(name=name, value=value) for name, value in pairs)

    def _on_event(self, event: ParameterEvent) -> None:
        if event.node == self._other:
            self._take([*event.new_parameters, *event.changed_parameters])

    def _take(self, parameters: Iterable[Parameter]) -> None:
        values = {p.name: parameter_value_to_python(p.value) for p in parameters}
        known = {k: v for k, v in values.items() if k in self._names and v is not None}
        if known:
            self.value = with_parameters(self.value, known, self._prefix)
