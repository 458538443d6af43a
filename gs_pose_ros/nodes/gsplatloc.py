"""The localizer node: where the RGB-D camera is in a Gaussian-splat map of the scene.

It follows the camera from image to image, with odometry as motion prior where TF has it, and finds
it by itself at the start and after it was lost.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from gs_pose_ros.bounds import NonNegative
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.camera_estimate import CameraEstimate, Localizer
from gs_pose_ros.localization.camera_tracker import CameraTracker, TrackerSettings
from gs_pose_ros.localization.gsplatloc import GSplatLoc
from gs_pose_ros.localization.map_builder import MapSettings
from gs_pose_ros.localization.map_store import StoredMap
from gs_pose_ros.localization.rehearsal import rehearse
from gs_pose_ros.msg import CameraLocalization, ObjectPoseArray
from gs_pose_ros.nodes.camera_frames import CameraFrames
from gs_pose_ros.nodes.camera_output import CameraOutput, OutputSettings
from gs_pose_ros.nodes.map_service import MapService
from gs_pose_ros.nodes.runtime.allowed_paths import usable_path
from gs_pose_ros.nodes.runtime.conversions import pose_to_message
from gs_pose_ros.nodes.runtime.frame_input import FrameInput, ImageSet, InputSettings
from gs_pose_ros.nodes.runtime.frame_worker import FrameWorker
from gs_pose_ros.nodes.runtime.parameters import setting
from gs_pose_ros.nodes.runtime.stage import Stage, StageSettings, Stopwatch, run
from gs_pose_ros.recording.frame_decoding import pose_from_message
from gs_pose_ros.srv import Relocalize

# Of ~/relocalize: by default, and at most. No other call of it is answered meanwhile.
_PATIENCE_S, _LONGEST_S = 5.0, 600.0


@dataclass(frozen=True)
class LocalizerSettings(StageSettings):
    """Parameters of the localizer node."""

    input: InputSettings = field(default_factory=InputSettings)
    map: str = setting('', 'Folder of the map that is loaded at start; empty: none.')
    map_frame: str = setting('map', 'Name of the frame of maps that are built here.')
    allowed_roots: tuple[str, ...] = setting(
        ('~',), 'Paths in services must lie under one of these directories.'
    )
    odom_frame: str = setting(
        'odom', 'The frame of odometry, taken as motion prior where TF has it; empty: none.'
    )
    tf_wait_s: NonNegative = setting(0.1, 'TF of an image is waited for this long.')
    method: Literal['lm', 'paper'] = setting('lm', 'How poses are refined: ours, or GSplatLoc.')
    output: OutputSettings = field(default_factory=OutputSettings)
    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    paper: GSplatLoc = field(default_factory=GSplatLoc)
    build: MapSettings = field(default_factory=MapSettings)


class _Use(NamedTuple):
    """The map that is used, and the camera's state in it."""

    stored: StoredMap
    tracker: CameraTracker


class _Wish:
    """A call of `~/relocalize` that waits for its answer."""

    def __init__(self, near: NDArray[np.float64] | None) -> None:
        self.near = near
        self.begun = False
        self.done = threading.Event()
        self.found: PoseStamped | None = None
        self.reason = 'no image came'

    def end(self, reason: str) -> None:
        """Answer now, without a pose."""
        self.reason = reason
        self.done.set()


class LocalizerNode(Stage[LocalizerSettings]):
    """Publishes `~/status` for every image, and the camera's pose where the map confirms it."""

    def __init__(self, localizer: Localizer | None = None, **kwargs: Any) -> None:
        super().__init__('gsplatloc', LocalizerSettings(), **kwargs)
        self._localizer = localizer
        self._lock = threading.Lock()
        self._used: _Use | None = None
        self._wish: _Wish | None = None
        self._paused = self._again = False
        self._last_odometry: NDArray[np.float64] | None = None
        self._odometry_fact = ''

    def configure(self) -> None:
        """Load the map, and offer topics and services."""
        if not self.settings.input.use_depth:
            raise GsPoseError(
                'the camera is localized by its depth, but input.use_depth is false: set '
                'it to true'
            )
        self._out = CameraOutput(self)
        self._maps = MapService(self, self._use)
        self.while_configured.callback(self._give_up_map)
        self.serve(Relocalize, '~/relocalize', self._relocalize, most_at_once=1)
        self.serve(Trigger, '~/pause', lambda _, response: self._pause(True, response))
        self.serve(Trigger, '~/resume', lambda _, response: self._pause(False, response))
        if self._localizer is None:
            watch = Stopwatch()
            rehearse(self.settings.tracker.localizer)  # `paper` would take minutes
            self.get_logger().info(f'ready after {watch():.1f} s')
        if self.settings.map:
            self._open(self.settings.map)

    def activate(self) -> None:
        """Start to take images."""
        self._restart()
        self._frames = CameraFrames(self)
        self.while_active.callback(self._frames.close)
        self._worker: FrameWorker[ImageSet] = self.worker(self._work, self._failed)
        self._input = FrameInput(self, self.settings.input, self._worker.put, self._on_jump)
        self.while_active.callback(self._input.close)
        self.while_active.callback(self._end_wish)

    def check(self) -> None:
        """Say what is missing: to diagnostics, and to whoever waits for poses."""
        status, reason = self._input.problem()
        self.fault('input', reason)
        self.fault('no_map', self._why_no_map())
        if self._input.header is not None and status in (
            ObjectPoseArray.STATUS_NO_CAMERA_INFO,
            ObjectPoseArray.STATUS_BAD_INPUT,
        ):
            self._out.say(self._input.header, status, reason)

    def facts(self) -> dict[str, str]:
        """The map and what is done with it."""
        if not self.active or self._used is None:
            return {}
        stored = self._used.stored
        return {
            'map_frame': stored.frame_id,
            'gaussians': str(len(stored.scene)),
            'keyframes': str(len(stored.relocalizer.keyframes)),
            'paused': str(self._paused).lower(),
            'odometry': self._odometry_fact,
            'skipped': str(self._worker.replaced),
            **self._input.facts(),
        }

    # ---- the map ----

    def _open(self, path: str) -> None:
        try:
            self._maps.open(usable_path(path))
            self.fault('map', '')
        except GsPoseError as error:  # another may be loaded or built: no reason to end
            self.fault('map', str(error))

    def _use(self, stored: StoredMap) -> None:
        """Localize in this map from the next image on; in a thread of the map service."""
        tracker = CameraTracker(
            stored.scene, stored.relocalizer, self.settings.tracker, self._method()
        )
        with self._lock:
            self._used = _Use(stored, tracker)
        self._out.restart()
        self._out.show_map(stored)
        self.fault('map', '')
        self.get_logger().info(
            f'map of {len(stored.scene)} Gaussians, {len(stored.relocalizer.keyframes)} keyframes'
        )

    def _give_up_map(self) -> None:
        with self._lock:
            self._used = None

    def _method(self) -> Localizer:
        s = self.settings
        return self._localizer or (s.paper if s.method == 'paper' else s.tracker.localizer)

    def _why_no_map(self) -> str:
        if self._used is not None:
            return ''
        if self._maps.building:
            return 'there is no map yet, one is being built'
        return 'there is no map: load one by ~/load_map or the parameter `map`, or build one'

    def _why_idle(self) -> str:
        if not self.active:
            return 'the node is not active'
        return 'paused: ~/resume goes on' if self._paused else self._why_no_map()

    # ---- images ----

    def _on_jump(self) -> None:
        self._worker.clear()
        self._frames.forget()
        self._restart()

    def _restart(self) -> None:
        """Nothing is known of the past any more."""
        with self._lock:
            self._again = True
        self._out.restart()

    def _work(self, images: ImageSet) -> None:
        watch, header = Stopwatch(), images.header
        with self._lock:
            used, wish, again, self._again = self._used, self._wish, self._again, False
        if self._paused or used is None:
            missing = CameraLocalization.STATUS_NO_MAP
            status = CameraLocalization.STATUS_PAUSED if self._paused else missing
            self._out.say(header, status, self._why_idle())
            return
        stored, tracker = used
        if again:
            tracker.reset()
            self._last_odometry = None
        if wish is not None and not wish.begun:
            wish.begun = True
            tracker.reset(wish.near)
        frame = self._frame(images)
        if frame is None:
            return
        T_odom_cam = self._odometry(header, frame.stamp_ns)
        estimate = tracker.track(frame, self._moved(tracker, T_odom_cam))
        if estimate.found:
            self._last_odometry = T_odom_cam
        if used is not self._used:  # another map by now
            return
        self._publish(images, frame, stored, estimate, watch())
        if wish is not None:
            self._answer(wish, header, stored, estimate)
        self.took(watch())

    def _frame(self, images: ImageSet) -> RGBDFrame | None:
        """The frame, or None after saying why there is none."""
        try:
            frame = images.frame(self.settings.input)
        except GsPoseError as error:
            self.fault('images', str(error))
            self._out.say(images.header, CameraLocalization.STATUS_BAD_INPUT, str(error))
            return None
        self.fault('images', '')
        self.fault(
            'depth', '' if frame.depth is not None else 'the depth image has no valid pixel'
        )
        return frame

    def _publish(
        self,
        images: ImageSet,
        frame: RGBDFrame,
        stored: StoredMap,
        estimate: CameraEstimate,
        seconds: float,
    ) -> None:
        header, settings = images.header, self.settings
        warning, T_cam_child = '', np.eye(4)
        child = settings.output.tf_child or header.frame_id
        if settings.output.publish_tf and estimate.found:
            try:
                if child != header.frame_id:
                    T_cam_child = self._frames.lookup(
                        header.frame_id, child, frame.stamp_ns, settings.tf_wait_s
                    )
                T_map_child = estimate.T_map_cam @ T_cam_child
                # Odometry drifts slowly: where its origin is holds until the next image has come.
                ahead_s = settings.output.tf_ahead_s if child == settings.odom_frame else 0.0
                self._out.transform(header, stored.frame_id, child, T_map_child, ahead_s)
            except GsPoseError as error:
                warning = f'{stored.frame_id} → {child} is not published: {error}'
            self.fault('tf', warning)
        self._out.publish(header, stored.frame_id, estimate, seconds, warning)
        self._out.draw(header, frame, stored, estimate)

    # ---- odometry ----

    def _odometry(self, header: Header, stamp_ns: int) -> NDArray[np.float64] | None:
        """T_odom_cam [4, 4], or None where TF does not have it."""
        odom = self.settings.odom_frame
        if not odom:
            self._odometry_fact = 'not asked for'
            return None
        try:
            wait_s = self.settings.tf_wait_s
            found = self._frames.lookup(odom, header.frame_id, stamp_ns, wait_s)
            self._odometry_fact = 'used'
            return found
        except GsPoseError as error:
            self._odometry_fact = str(error)
            return None

    def _moved(
        self, tracker: CameraTracker, T_odom_cam: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """T_last_cam [4, 4] by odometry, since the last image with a pose."""
        if T_odom_cam is None or self._last_odometry is None or tracker.last is None:
            return None
        return se3.inverse(self._last_odometry) @ T_odom_cam

    # ---- requests ----

    def _relocalize(
        self, request: Relocalize.Request, response: Relocalize.Response
    ) -> Relocalize.Response:
        try:
            patience_s = _patience_s(request.timeout)
            wish = _Wish(pose_from_message(request.pose) if request.near else None)
        except GsPoseError as error:
            response.message = str(error)
            return response
        with self._lock:
            self._wish = wish
        if idle := self._why_idle():  # what makes it idle from here on ends the wish
            wish.end(idle)
        wish.done.wait(patience_s)
        with self._lock:
            self._wish = None
        if wish.found is None:
            response.message = wish.reason
        else:
            response.success, response.pose = True, wish.found
        return response

    def _end_wish(self) -> None:
        """Let nobody wait for the answer of a node that does not work."""
        with self._lock:
            wish = self._wish
        if wish is not None:
            wish.end(self._why_idle())

    def _answer(
        self, wish: _Wish, header: Header, stored: StoredMap, estimate: CameraEstimate
    ) -> None:
        wish.reason = estimate.reason
        if estimate.found:
            in_map = Header(stamp=header.stamp, frame_id=stored.frame_id)
            wish.found = PoseStamped(header=in_map, pose=pose_to_message(estimate.T_map_cam))
            wish.done.set()

    def _pause(self, paused: bool, response: Trigger.Response) -> Trigger.Response:
        response.success = paused != self._paused
        if not response.success:
            response.message = f'it is {"paused" if paused else "at work"} already'
        self._paused = paused
        if paused:
            self._end_wish()
        return response

    def _failed(self, images: ImageSet, error: Exception) -> None:
        """What the tracker knows is not to be trusted: start afresh."""
        reason = self.failed(error)
        self._restart()
        self._out.say(images.header, CameraLocalization.STATUS_ERROR, reason)


def _patience_s(timeout: float) -> float:
    if not 0 <= timeout <= _LONGEST_S:
        raise GsPoseError(
            f'timeout is {timeout:g} s, not within 0 to {_LONGEST_S:g} s (0 means '
            f'{_PATIENCE_S:g} s)'
        )
    return timeout or _PATIENCE_S


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(LocalizerNode, args)


if __name__ == '__main__':
    main()
