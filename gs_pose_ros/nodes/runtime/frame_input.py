"""Camera topics joined by stamp, and the reason when nothing joins.

What is checked, and what is said of it, is the same as of bags.
"""

from __future__ import annotations

import copy
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from gs_pose_ros.bounds import Bounds, Queue
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import DepthNoise, RGBDFrame
from gs_pose_ros.msg import ObjectPoseArray
from gs_pose_ros.nodes.runtime.parameters import setting
from gs_pose_ros.nodes.runtime.stage import Stage
from gs_pose_ros.recording.camera_topics import is_depth_alone_rectified
from gs_pose_ros.recording.frame_decoding import frame_from_messages, stamp_to_ns
from gs_pose_ros.recording.joining import (
    JUMP_NS,
    NO_STAMPS,
    PATIENCE,
    HeldInfo,
    nearest_ns,
    never_equal,
    stamp_fault,
)
from gs_pose_ros.recording.rectification import without_distortion
from gs_pose_ros.ros_compat.message_filters import (
    ApproximateTimeSynchronizer,
    SimpleFilter,
    Subscriber,
    TimeSynchronizer,
)


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
    stamp_tolerance: Annotated[float, Bounds(0, 1)] = setting(
        0.0, 'Seconds by which the stamps of one frame may differ; 0: they are equal.'
    )
    sync_queue: Queue = setting(15, 'Messages of each topic that wait to be taken in and joined.')


class ImageSet(NamedTuple):
    """The messages of one moment."""

    color: Image | CompressedImage
    info: CameraInfo
    depth: Image | CompressedImage | None
    topic: str = ''  # of the colour image; '' if it came by a service
    depth_topic: str = ''

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
            GsPoseError: as `frame_from_messages`, and names the topic.

        """
        depth_info = None
        if is_depth_alone_rectified(self.topic, self.depth_topic) and not settings.rectified:
            depth_info = without_distortion(self.info)
        try:
            frame = frame_from_messages(
                self.color, self.info, self.depth, settings.rectified, depth_info
            )
        except GsPoseError as error:
            if not self.topic:
                raise
            raise GsPoseError(f'{self.topic}: {error}') from error
        return replace(frame, depth_noise=settings.depth_noise)


class FrameInput:
    """Subscribes to the camera and calls `on_images` with what has one stamp.

    A camera_info that comes less often than images, or with stamps of its own, holds for images
    without their own as long as it says one thing. Messages whose stamp is no time are dropped.
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
        images = self._inputs[:1] + self._inputs[2:]  # depth after colour
        self._image_topics = [self._name(filter_.getTopic()) for filter_ in images]
        # Counted since the last set: what is missing then is what keeps the rest from joining.
        self._waiting = {filter_.getTopic(): 0 for filter_ in self._inputs}
        self._newest_ns = 0
        self._last_image = self._last_set = time.monotonic()
        self._recent = [0, 0]  # colour images, camera infos since the last `problem()`
        self.header: Header | None = None  # of the newest colour image
        self.joined = 0
        self._ages_ms: deque[float] = deque(maxlen=100)
        self._held, self._holds = HeldInfo(), False
        self._dropped: Counter[tuple[str, str]] = Counter()  # topics and faults, since `problem()`
        self.dropped = 0
        self._sound = [SimpleFilter() for _ in self._inputs]
        for index, filter_ in enumerate(self._inputs):
            filter_.registerCallback(self._seen, index)
        tolerance, size = settings.stamp_tolerance, settings.sync_queue
        self._sync = (
            ApproximateTimeSynchronizer(self._sound, size, tolerance)
            if tolerance > 0
            else TimeSynchronizer(self._sound, size)
        )
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
        if self.dropped:
            out['dropped'] = str(self.dropped)
        ages = sorted(self._ages_ms)
        if ages:
            out['age_ms_p50'] = f'{ages[len(ages) // 2]:.1f}'
        return out

    def problem(self) -> tuple[int, str]:
        """Why no images come or join: an ObjectPoseArray status and a reason, or OK and ''.

        Meant to be asked once a second.
        """
        status, reason = self._silence()
        dropped, self._dropped = self._dropped, Counter()
        if dropped and time.monotonic() - self._last_set > 1.0:  # it is they that would join
            status, reason = ObjectPoseArray.STATUS_BAD_INPUT, ''
        elif dropped and not reason:
            status = ObjectPoseArray.STATUS_UNKNOWN
        faults = [
            f'{self._name(topic)}: {fault} ({count} dropped)'
            for (topic, fault), count in dropped.most_common(2)
        ]
        parts = [*filter(None, [reason]), *faults]
        return status, '; '.join([*parts, *self._refused()]) if parts else ''

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
                'config/fastdds_large_images.xml, or set input.image_reliability to reliable'
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
                f'no image on {missing[0]}; set input.use_depth to false if there is no depth',
            )
        names = [self._name(topic) for topic in self._waiting]
        queues = self._sync.queues
        nearest = nearest_ns(list(queues[0]), list(queues[2])) if len(queues) > 2 else None
        return (
            ObjectPoseArray.STATUS_BAD_INPUT,
            never_equal(names, nearest or None, 'input.stamp_tolerance'),
        )

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
        topic, stamp = self._inputs[index].getTopic(), msg.header.stamp
        now = time.monotonic()
        if index == 0:
            self._last_image = now
        if index < 2:
            self._recent[index] += 1
        if index == 1:
            self._held.add(msg)
        fault = stamp_fault(stamp)
        if fault:  # what is told of a time that is none helps nobody
            if index != 1:
                self._dropped[topic, fault] += 1
                self.dropped += 1
            if index == 0 and fault == NO_STAMPS:
                self.header = msg.header
            return
        self._waiting[topic] += 1
        stamp_ns = stamp_to_ns(stamp)
        if stamp_ns < self._newest_ns - JUMP_NS:
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
            self.header = msg.header
            self._lend(msg)
        self._sound[index].signalMessage(msg)

    def _lend(self, color: Any) -> None:
        """Give an image the camera_info that is held, where images wait in vain for their own."""
        self._holds |= self._waiting[self._color.getTopic()] > PATIENCE
        if self._holds and self._held.held is not None:
            info = copy.copy(self._held.held)
            info.header = Header(stamp=color.header.stamp, frame_id=info.header.frame_id)
            self._sound[1].signalMessage(info)

    def _together(self, color: Any, info: CameraInfo, depth: Any = None) -> None:
        self._waiting = dict.fromkeys(self._waiting, 0)
        self._last_set = time.monotonic()
        self.joined += 1
        self._node.hears_camera = True
        age_ns = self._node.get_clock().now().nanoseconds - stamp_to_ns(color.header.stamp)
        self._ages_ms.append(age_ns / 1e6)
        self._on_images(ImageSet(color, info, depth, *self._image_topics))
