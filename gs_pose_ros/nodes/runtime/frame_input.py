"""Camera topics joined by exact stamp, and the reason when nothing joins."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from gs_pose_ros.bounds import Queue
from gs_pose_ros.frame import DepthNoise, RGBDFrame
from gs_pose_ros.msg import ObjectPoseArray
from gs_pose_ros.nodes.runtime.parameters import setting
from gs_pose_ros.nodes.runtime.stage import Stage
from gs_pose_ros.recording.frame_decoding import frame_from_messages, stamp_to_ns
from gs_pose_ros.ros_compat.message_filters import Subscriber, TimeSynchronizer

# Topics may be a few frames out of step with each other; a bag that starts again is further off.
_JUMP_NS = 500_000_000


@dataclass(frozen=True)
class InputSettings:
    """Parameters of the camera input; read when the node is activated."""

    use_depth: bool = setting(True, 'Join depth/image; without it, colour alone is used.')
    image_reliability: Literal['best_effort', 'reliable'] = setting(
        'best_effort', 'QoS of the image subscriptions; a RealSense publishes reliable.'
    )
    color_transport: Literal['raw', 'compressed'] = setting(
        'raw', 'Take color/image or color/image/compressed.'
    )
    depth_transport: Literal['raw', 'compressed', 'compressedDepth'] = setting(
        'raw', 'Take depth/image, depth/image/compressed or depth/image/compressedDepth.'
    )
    depth_noise: DepthNoise = DepthNoise()
    rectified: bool = setting(
        False, 'Images are image_rect: use P of camera_info. Otherwise K, and D is undone.'
    )
    sync_queue: Queue = setting(15, 'Messages of each topic that wait to be taken in and joined.')


class ImageSet(NamedTuple):
    """The messages of one moment."""

    color: Image | CompressedImage
    info: CameraInfo
    depth: Image | CompressedImage | None

    @property
    def header(self) -> Header:
        """Stamp and frame of all that is made from it."""
        return self.color.header

    @property
    def stamp_ns(self) -> int:
        """The stamp of the colour image."""
        return stamp_to_ns(self.color.header.stamp)

    def frame(self, settings: InputSettings) -> RGBDFrame:
        """The images undistorted and in the units of the core, with the noise of their depth.

        Raises:
            GsPoseError: as `conversions.frame_from_messages`.

        """
        frame = frame_from_messages(self.color, self.info, self.depth, settings.rectified)
        return replace(frame, depth_noise=settings.depth_noise)


class FrameInput:
    """Subscribes to the camera and calls `on_images` with what has one stamp.

    `on_jump` is called when stamps jump back, as when a bag starts again: whatever is remembered
    of the future must go.
    """

    def __init__(
        self,
        node: Stage[Any],
        settings: InputSettings,
        on_images: Callable[[ImageSet], None],
        on_jump: Callable[[], None],
    ) -> None:
        self._node, self._on_images, self._on_jump = node, on_images, on_jump
        self._color = self._subscribe('color/image', settings.color_transport, settings)
        self._info = self._subscribe('color/camera_info', None, settings)
        self._inputs = [self._color, self._info]
        if settings.use_depth:
            self._inputs.append(self._subscribe('depth/image', settings.depth_transport, settings))
        # Counted since the last set: what is missing then is what keeps the rest from joining.
        self._waiting = {filter_.getTopic(): 0 for filter_ in self._inputs}
        self._newest_ns = 0
        self._last_image = self._last_set = time.monotonic()
        self._recent = [0, 0]  # colour images, camera infos since the last `problem()`
        self.header: Header | None = None  # of the newest colour image
        self.joined = 0
        self._ages_ms: deque[float] = deque(maxlen=100)
        for index, filter_ in enumerate(self._inputs):  # before the synchronizer's own callback
            filter_.registerCallback(self._seen, index)
        self._sync = TimeSynchronizer(self._inputs, settings.sync_queue)
        self._sync.registerCallback(self._together)

    def close(self) -> None:
        """End the subscriptions."""
        for filter_ in self._inputs:
            self._node.destroy_subscription(filter_.sub)

    def facts(self) -> dict[str, str]:
        """For the diagnostics: sets so far, and how old the last ones were when they joined.

        The age is by the node's clock: the time from the shutter to here if the camera's clock
        is the same.
        """
        out = {'joined': str(self.joined)}
        ages = sorted(self._ages_ms)
        if ages:
            out['age_ms_p50'] = f'{ages[len(ages) // 2]:.1f}'
        return out

    def problem(self) -> tuple[int, str]:
        """Why no images come or join: an ObjectPoseArray status and a reason, or OK and ''.

        Meant to be asked once a second.
        """
        status, reason = self._silence()
        return status, '; '.join([reason, *self._refused()]) if reason else ''

    def _refused(self) -> list[str]:
        """The publishers whose QoS is not what is asked for here."""
        out = []
        for filter_ in self._inputs:
            topic = self._name(filter_.getTopic())
            for publisher in self._node.get_publishers_info_by_topic(topic):
                offered = publisher.qos_profile
                match, why = qos_check_compatible(offered, filter_.sub.qos_profile)
                if match == QoSCompatibility.ERROR:
                    why = why.removeprefix('ERROR: ').rstrip(';')
                    out.append(f'{publisher.node_name} publishes {topic} with another QoS: {why}')
        return out

    def _silence(self) -> tuple[int, str]:
        colors, infos = self._recent
        self._recent = [0, 0]
        now = time.monotonic()
        color, info = self._color.getTopic(), self._info.getTopic()
        if infos >= 10 and colors < infos / 2:
            return ObjectPoseArray.STATUS_BAD_INPUT, (
                f'{infos} camera_info but {colors} images a second on {self._name(color)}: frames '
                'are lost on the way. Give the camera driver FASTDDS_DEFAULT_PROFILES_FILE='
                'config/fastdds_large_images.xml, or set image_reliability'
            )
        if now - self._last_image > 2.0:
            silence = f'{now - self._last_image:.0f} s' if self.header else 'start'
            since = f'for {silence}' if self.header else f'since {silence}'
            return (
                ObjectPoseArray.STATUS_UNKNOWN,
                f'no image on {self._name(color)} {since}',
            )
        if now - self._last_set < 1.0 or self._waiting[color] < 3:
            return ObjectPoseArray.STATUS_OK, ''
        if self._waiting[info] == 0:
            return (
                ObjectPoseArray.STATUS_NO_CAMERA_INFO,
                f'no camera info on {self._name(info)}',
            )
        missing = [self._name(topic) for topic, count in self._waiting.items() if count == 0]
        if missing:
            return (
                ObjectPoseArray.STATUS_BAD_INPUT,
                f'no image on {missing[0]}; set use_depth to false if there is no depth',
            )
        names = ', '.join(self._name(topic) for topic in self._waiting)
        return ObjectPoseArray.STATUS_BAD_INPUT, f'the stamps of {names} are never equal'

    def _name(self, topic: str) -> str:
        return self._node.resolve_topic_name(topic)

    def _subscribe(self, topic: str, transport: str | None, settings: InputSettings) -> Subscriber:
        kind: type = CameraInfo
        if transport is not None:
            kind = Image if transport == 'raw' else CompressedImage
            topic = topic if transport == 'raw' else f'{topic}/{transport}'
        reliable = settings.image_reliability == 'reliable'
        qos = QoSProfile(
            depth=settings.sync_queue,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )
        return Subscriber(
            self._node,
            kind,
            topic,
            qos_profile=qos,
            callback_group=self._node.input_group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _seen(self, msg: Any, index: int) -> None:
        self._waiting[self._inputs[index].getTopic()] += 1
        stamp_ns = stamp_to_ns(msg.header.stamp)
        if stamp_ns < self._newest_ns - _JUMP_NS:
            self._node.get_logger().warning(
                f'stamps jumped back by {(self._newest_ns - stamp_ns) / 1e9:.3f} s'
            )
            # Their stamps are in the future now: they would push out every new message.
            for queue in self._sync.queues:
                queue.clear()
            self._newest_ns = stamp_ns
            self._on_jump()
        self._newest_ns = max(self._newest_ns, stamp_ns)
        if index == 0:
            self._last_image, self.header = time.monotonic(), msg.header
        if index < 2:
            self._recent[index] += 1

    def _together(self, color: Any, info: CameraInfo, depth: Any = None) -> None:
        self._waiting = dict.fromkeys(self._waiting, 0)
        self._last_set = time.monotonic()
        self.joined += 1
        self._node.hears_camera = True
        age_ns = self._node.get_clock().now().nanoseconds - stamp_to_ns(color.header.stamp)
        self._ages_ms.append(age_ns / 1e6)
        self._on_images(ImageSet(color, info, depth))
