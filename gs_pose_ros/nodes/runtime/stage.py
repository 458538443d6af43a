"""What the nodes have in common: lifecycle, settings, faults, diagnostics, start and end."""

from __future__ import annotations

import functools
import gc
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import (
    CallbackGroup,
    MutuallyExclusiveCallbackGroup,
    ReentrantCallbackGroup,
)

# In rclpy.clock_type since Jazzy; here it is everywhere.
from rclpy.clock import Clock, ClockType  # pyright: ignore[reportPrivateImportUsage]
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

# In rclpy.event_handler since Iron; here they are everywhere.
from rclpy.node import (
    PublisherEventCallbacks,  # pyright: ignore[reportPrivateImportUsage]
    SubscriptionEventCallbacks,  # pyright: ignore[reportPrivateImportUsage]
)
from rclpy.qos import DurabilityPolicy, QoSProfile

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.nodes.runtime.answers import in_line, refused
from gs_pose_ros.nodes.runtime.frame_worker import FrameWorker
from gs_pose_ros.nodes.runtime.parameters import Parameters, setting
from gs_pose_ros.share import transport_environment

# By default rclpy adds two events to every publisher and subscription, to log them; its executor
# walks through all of them at every message: two thirds of the time that a node spent on taking an
# image in. What the events would say of the camera's topics, `FrameInput.problem` says.
_NO_EVENTS_OUT = PublisherEventCallbacks(use_default_callbacks=False)
_NO_EVENTS_IN = SubscriptionEventCallbacks(use_default_callbacks=False)

# Of the executor, which makes a thread when all others are busy: every service of a node may wait
# at the same time (gsplatloc has seven), and images and transforms are taken in beside them.
_MOST_THREADS = 16

QOS_OUT = QoSProfile(depth=10)
# With rclpy's 10, requests that come together are lost without a word: of 20 at once 10 were.
_QOS_REQUESTS = QoSProfile(depth=100)
QOS_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class StageSettings:
    """Parameters of every node."""

    autostart: bool = setting(True, 'Configure and activate at start, without a manager.')


S = TypeVar('S', bound=StageSettings)
T = TypeVar('T')


class Stage(LifecycleNode, Generic[S]):
    """A lifecycle node that says on `/diagnostics`, once a second, what keeps it from working.

    Sub-classes fill in `configure` (load), `activate` (subscribe), `cleanup`, and `check` (called
    every second while active). Their faults are named: `fault('depth', reason)` reports one until
    `fault('depth', '')` ends it.
    """

    def __init__(self, name: str, settings: S, **kwargs: Any) -> None:
        super().__init__(name, namespace='gs_pose', **kwargs)
        self._settings_source = Parameters(self, settings)
        self._faults: dict[str, str] = {}
        self._faults_lock = threading.Lock()
        self.durations_s: deque[float] = deque(maxlen=100)  # of the stage's work per image
        self.worked = 0  # images
        self.active = False
        self.hears_camera = False  # whether images have come since it was activated
        # End what `configure` and `activate` began, the latest first: nothing wakes a worker that
        # is gone. Each thing as soon as it is made: Ctrl-C may come before the next one.
        self.while_configured = ExitStack()
        self.while_active = ExitStack()
        self.input_group = MutuallyExclusiveCallbackGroup()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', QOS_OUT)
        # Not the node's clock: a simulated one that stands still is among what is reported.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._heartbeat = self.create_timer(1.0, self._beat, clock=steady)

    def create_subscription(
        self, msg_type: type, topic: str, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As of `Node`, without events; what goes wrong in the callback is a fault, no end."""
        callback = self.guarded(f'messages on {topic}', callback)
        kwargs = {'event_callbacks': _NO_EVENTS_IN, **kwargs}
        return super().create_subscription(msg_type, topic, callback, *args, **kwargs)

    def create_timer(
        self, timer_period_sec: float, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As of `Node`; what goes wrong in the callback is a fault, no end."""
        callback = self.guarded(f'timer of {timer_period_sec} s', callback)
        return super().create_timer(timer_period_sec, callback, *args, **kwargs)

    def create_service(
        self, srv_type: type, srv_name: str, callback: Callable[..., Any], **kwargs: Any
    ) -> Any:
        """As of `Node`; whoever asks gets the reason of what goes wrong, as `message`."""
        callback = self.guarded(f'service {srv_name}', callback, refused)
        return super().create_service(srv_type, srv_name, callback, **kwargs)

    def guarded(
        self,
        name: str,
        callback: Callable[..., Any],
        instead: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """The callback, with whose errors the node goes on.

        The traceback goes to the log, the reason to the diagnostics until the callback works
        again. `instead(*arguments, reason=...)` gives what is returned then.
        """
        failing = False

        @functools.wraps(callback)
        def call(*args: Any) -> Any:
            nonlocal failing
            try:
                answer = callback(*args)
            except Exception as error:  # the node's boundary
                if not self.context.ok():  # the end interrupted it
                    raise
                failing, reason = True, self.failed(error)
                self.fault(name, reason)
                return None if instead is None else instead(*args, reason=reason)
            if failing:
                failing = False
                self.fault(name, '')
            return answer

        return call

    def create_publisher(self, *args: Any, **kwargs: Any) -> Any:
        """As of `Node`, without events."""
        return super().create_publisher(*args, **{'event_callbacks': _NO_EVENTS_OUT, **kwargs})

    def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> Any:
        """As of `LifecycleNode`, without events."""
        return super().create_lifecycle_publisher(
            *args, **{'event_callbacks': _NO_EVENTS_OUT, **kwargs}
        )

    @property
    def settings(self) -> S:
        """The parameters as they are now."""
        return self._settings_source.value

    # ---- to be filled in ----

    def configure(self) -> None:
        """Load and create what publishes and answers."""

    def activate(self) -> None:
        """Subscribe."""

    def deactivate(self) -> None:
        """Unsubscribe and end the work."""
        self.while_active.close()

    def cleanup(self) -> None:
        """Take down what `configure` made."""
        self.while_configured.close()

    def check(self) -> None:
        """Report faults that only time shows."""

    def facts(self) -> dict[str, str]:
        """More values for the diagnostics."""
        return {}

    # ---- lifecycle ----

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Unconfigured to inactive."""
        result = self._transition('configure', self.configure, super().on_configure, state)
        if result != TransitionCallbackReturn.SUCCESS:  # what was made before it failed
            self.cleanup()
        return result

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Inactive to active."""
        # Publishers first: the first message may come before `activate` returns.
        done = super().on_activate(state)
        if done != TransitionCallbackReturn.SUCCESS:
            return done
        result = self._transition('activate', self.activate, None, state)
        self.active = result == TransitionCallbackReturn.SUCCESS
        if self.active:
            self.get_logger().info('active')
        else:  # what was begun before it failed
            self.deactivate()
        return result

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Active to inactive."""
        self.active = self.hears_camera = False
        return self._transition('deactivate', self.deactivate, super().on_deactivate, state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Inactive to unconfigured."""
        return self._transition('cleanup', self.cleanup, super().on_cleanup, state)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """To the end, from any state."""
        was_active, self.active = self.active, False
        if was_active:
            self._transition('deactivate', self.deactivate, None, state)
        return self._transition('cleanup', self.cleanup, super().on_shutdown, state)

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        """Back to unconfigured, to be tried again."""
        self.active = False
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> None:
        """Configure and activate, if `autostart` says so."""
        if (
            self.settings.autostart
            and self.trigger_configure() == TransitionCallbackReturn.SUCCESS
        ):
            self.trigger_activate()

    def stop(self) -> None:
        """End the work before the node is destroyed."""
        self.active = False
        self.deactivate()
        self.cleanup()

    def _transition(
        self,
        name: str,
        action: Callable[[], None],
        then: Callable[[Any], TransitionCallbackReturn] | None,
        state: Any,
    ) -> TransitionCallbackReturn:
        """Run one transition; rclpy itself would swallow the exception."""
        try:
            action()
        except GsPoseError as error:
            self.fault('lifecycle', f'{name}: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception:  # the node's boundary
            self.fault('lifecycle', f'{name} failed, see the log')
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        self.fault('lifecycle', '')
        return TransitionCallbackReturn.SUCCESS if then is None else then(state)

    # ---- faults and diagnostics ----

    def fault(self, name: str, reason: str) -> None:
        """Report (or with an empty reason end) a fault; logged when it changes."""
        with self._faults_lock:
            before = self._faults.pop(name, '')
            if reason:
                self._faults[name] = reason
        if reason and not before:
            self.get_logger().warning(f'{name}: {reason}')
        elif before and not reason:
            self.get_logger().info(f'{name}: well again')

    def failed(self, error: Exception) -> str:
        """Log an unexpected error with its traceback; one line for the status message."""
        text = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
        self.get_logger().error(text, throttle_duration_sec=1.0)
        return f'{type(error).__name__}: {error}'

    def took(self, seconds: float) -> None:
        """Count one image and the time that the stage worked on it."""
        self.worked += 1
        self.durations_s.append(seconds)

    def subscribe(
        self, kind: type[T], topic: str, callback: Callable[[T], None], group: CallbackGroup
    ) -> None:
        """Take messages until the node is deactivated."""
        made = self.create_subscription(kind, topic, callback, QOS_OUT, callback_group=group)
        self.while_active.callback(self.destroy_subscription, made)

    def advertise(self, kind: type, topic: str, qos: QoSProfile = QOS_OUT) -> Any:
        """A publisher until the node is cleaned up."""
        made = self.create_publisher(kind, topic, qos)
        self.while_configured.callback(self.destroy_publisher, made)
        return made

    def serve(
        self, kind: type, name: str, answer: Callable[[Any, Any], Any], most_at_once: int = 0
    ) -> None:
        """Answer a service until the node is cleaned up, one call at a time.

        Of one that takes seconds, requests beyond `most_at_once` are refused at once; 0 is no
        limit. Each service has a thread while it works or waits: the others, and what takes
        images in, go on meanwhile. What services share is theirs to guard.
        """
        group: CallbackGroup = MutuallyExclusiveCallbackGroup()
        if most_at_once:
            answer, group = in_line(answer, most_at_once), ReentrantCallbackGroup()
        made = self.create_service(
            kind, name, answer, callback_group=group, qos_profile=_QOS_REQUESTS
        )
        self.while_configured.callback(self.destroy_service, made)

    def worker(
        self, work: Callable[[T], None], failed: Callable[[T, Exception], None]
    ) -> FrameWorker[T]:
        """A worker until the node is deactivated; `failed(item, error)` answers for its errors."""

        def on_error(item: T, error: Exception) -> None:
            if self.context.ok():  # else it is the end that interrupted the work
                failed(item, error)

        made = FrameWorker(self.get_name(), work, on_error)
        self.while_active.callback(made.stop)
        return made

    def _beat(self) -> None:
        if self.active:
            self.check()
        with self._faults_lock:
            faults = dict(self._faults)
        state = 'active' if self.active else 'not active'
        times = sorted(self.durations_s)
        values = {'state': state, 'images': str(self.worked), **self.facts(), **faults}
        if times:
            values['ms_p50'] = f'{1e3 * times[len(times) // 2]:.1f}'
            values['ms_p95'] = f'{1e3 * times[len(times) * 95 // 100]:.1f}'
        status = DiagnosticStatus(name=self.get_fully_qualified_name(), hardware_id='gs_pose_ros')
        status.level = DiagnosticStatus.WARN if faults else DiagnosticStatus.OK
        status.message = '; '.join(faults.values()) or state
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        out = DiagnosticArray(status=[status])
        out.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(out)


class Stopwatch:
    """Seconds since it was made, by a clock that never jumps."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self) -> float:
        """Seconds by now."""
        return time.monotonic() - self._start


def run(make_node: Callable[[], Stage[Any]], args: Sequence[str] | None = None) -> None:
    """Run one node until it is told to stop; the `main` of every node."""
    os.environ.update(transport_environment())
    rclpy.init(args=None if args is None else list(args))
    node = executor = None
    try:
        node = make_node()
        executor = MultiThreadedExecutor(num_threads=_MOST_THREADS)
        executor.add_node(node)
        node.start()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:  # the executor may find its context gone at any point of its loop
        if rclpy.ok():
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # launch repeats Ctrl-C's
        if node is not None:
            node.stop()
        if executor is not None:
            # Ctrl-C may come while a thread is being made: one that nobody knows of, and only this
            # tells it to end.
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        # The last garbage collection would walk through all of torch and numba, for seconds on a
        # busy machine, and launch kills what takes longer than five.
        gc.freeze()
