"""Follows the camera through a map from frame to frame, and finds it again when it is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import Angle, Few, NonNegative, Positive, Share
from gs_pose_ros.estimate import Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.motion import constant_velocity
from gs_pose_ros.localization.camera_estimate import CameraEstimate, Localizer
from gs_pose_ros.localization.depth_localizer import DepthLocalizer
from gs_pose_ros.localization.scene_map import SceneMap


class Relocalizer(Protocol):
    """Finds the camera in the map without a start."""

    def candidates(self, frame: RGBDFrame, scene: SceneMap) -> list[NDArray[np.float64]]:
        """Poses T_map_cam [4, 4] that may be near the true one, the likeliest first."""
        ...


class _Posed(NamedTuple):
    stamp_ns: int
    T_map_cam: NDArray[np.float64]
    T_last_cam: NDArray[np.float64] | None = None  # of odometry, while it was lost


@dataclass(frozen=True)
class TrackerSettings:
    """When the tracker believes a pose that the localizer has found in a frame.

    A pose is a *jump* if it is further from the predicted one than the camera can have moved. It
    is believed when several frames in a row confirm it.

    A pose is *doubted* if depths confirm it, but the texture in the picture is not that of the
    map: along a wall every place has the same depths. The camera is then looked for elsewhere.

    A pose is *found anew* if it was not found near a prediction but by relocalization.
    """

    localizer: DepthLocalizer = field(default_factory=DepthLocalizer)
    # A pose that is shifted by more than this (m) from the predicted one is a jump.
    jump_m: Positive = 0.3
    # A pose that is turned by more than this from the predicted one is a jump.
    jump_deg: Angle = 20.0
    # So many frames in a row must agree on where the camera is now before a jump is believed.
    confirmations: Few = 3
    # While the camera is lost the limits of a jump grow, each second by as much as they are, for
    # at most so many seconds: a camera that was lost for a minute may be anywhere, and then one
    # frame does not say where.
    lost_s: NonNegative = 3.0
    # Share of the measured pixels that the map explains (overlap times agreement). Relocalization
    # takes the first place with more than this. Frames that each jump elsewhere confirm each
    # other if each has more than this. A doubted pose with less is lost.
    enough: Share = 0.6
    # Share of the depths that must agree for a pose that was found anew: from everywhere some
    # wall fits another.
    sure: Share = 0.7
    # Correlation of the texture below which a pose that was followed is doubted, and one that was
    # found anew is lost. Those followed are not lost, as colour may lag behind depth by pixels.
    likely: Share = 0.45
    # A camera whose pose is doubted is looked for elsewhere once in so many seconds.
    doubt_s: NonNegative = 1.0
    # After a gap between frames longer than this (s) the camera is predicted to be where it was,
    # not to have gone on at its velocity.
    predict_s: NonNegative = 0.5


class CameraTracker:
    """The state of one camera in one map; not for several threads at a time."""

    def __init__(
        self,
        scene: SceneMap,
        relocalizer: Relocalizer | None = None,
        settings: TrackerSettings | None = None,
        localizer: Localizer | None = None,
    ) -> None:
        self.scene, self._relocalizer = scene, relocalizer
        self.settings = settings or TrackerSettings()
        self._localizer = localizer or self.settings.localizer
        self.reset()

    def reset(self, T_map_cam: NDArray[np.float64] | None = None) -> None:
        """Forget the past; the next frame is taken near a given pose [4, 4], or anywhere."""
        self._given = T_map_cam
        self._past: list[_Posed] = []  # the last two that were believed
        self._waiting: list[_Posed] = []  # in a row after a jump that is not believed yet
        self._asked_ns = -(1 << 62)  # when a pose was doubted last

    @property
    def last(self) -> NDArray[np.float64] | None:
        """T_map_cam [4, 4] of the last frame that had a pose."""
        return self._past[-1].T_map_cam if self._past else None

    def track(
        self, frame: RGBDFrame, T_last_cam: NDArray[np.float64] | None = None
    ) -> CameraEstimate:
        """The pose in the next frame; TRACKED, CONVERGED where it was found anew, or LOST.

        `T_last_cam` [4, 4] is the camera's motion since the last frame with a pose, of odometry.
        """
        if not self._past:
            return self._found_first(frame)
        predicted = self._predicted(frame.stamp_ns, T_last_cam)
        estimate = self._near(frame, [predicted, self._past[-1].T_map_cam])
        if estimate.found and self._apart(estimate.T_map_cam, predicted):
            estimate = estimate.lost('the map pulls away from where the camera can be')
        doubtful = estimate.found and self._is_doubtful(estimate)
        if doubtful and estimate.evidence < self.settings.enough:
            estimate = estimate.lost('little of the map is in sight, and its texture is another')
        if not estimate.found or self._asks(estimate):
            other = self._elsewhere(frame, T_last_cam)
            if other is not None:
                return self._jumped(other, T_last_cam)
        if estimate.found:
            return self._believed(estimate, Status.TRACKED)
        self._waiting.clear()
        return estimate

    def relocalize(self, frame: RGBDFrame) -> CameraEstimate:
        """The pose from nothing: of all places that look alike, the one that the map confirms."""
        nowhere = CameraEstimate(np.eye(4), Status.LOST, stamp_ns=frame.stamp_ns)
        if frame.depth is None or not frame.depth.any():
            return nowhere.lost('the depth image has no valid pixel')
        if self._relocalizer is None:
            return nowhere.lost('the camera is lost, and the map has no keyframes')
        best = nowhere.lost('no keyframe looks like this')
        for T in self._relocalizer.candidates(frame, self.scene):
            estimate = self._found_anew(self._localizer.refine(frame, self.scene, T))
            better = (estimate.found, estimate.evidence) > (best.found, best.evidence)
            if better or not (best.found or best.overlap):
                best = estimate
            if best.found and best.evidence > self.settings.enough:
                break
        return best

    def _found_anew(self, estimate: CameraEstimate) -> CameraEstimate:
        """The same, LOST if it would do only where the camera was expected."""
        if not estimate.found:
            return estimate
        if estimate.agreement < self.settings.sure:
            share = f'{100 * estimate.agreement:.0f} %'
            return estimate.lost(f'{share} of the depths agree, too few to be found anew')
        if math.isnan(estimate.correlation):
            return estimate.lost('too little texture in sight to be found anew')
        if self._is_doubtful(estimate):
            value = f'correlation {estimate.correlation:.2f}'
            return estimate.lost(f'depths agree, but not the texture ({value}), to be found anew')
        return estimate

    def _is_doubtful(self, estimate: CameraEstimate) -> bool:
        return estimate.correlation < self.settings.likely  # NaN is not: it may be dark

    def _asks(self, estimate: CameraEstimate) -> bool:
        """Whether the camera is looked for elsewhere although it was followed; notes when."""
        if self._relocalizer is None or not self._is_doubtful(estimate):
            return False
        since = (estimate.stamp_ns - self._asked_ns) * 1e-9
        if not self._waiting and 0 <= since < self.settings.doubt_s:
            return False
        self._asked_ns = estimate.stamp_ns
        return True

    def _found_first(self, frame: RGBDFrame) -> CameraEstimate:
        """There is nothing that it could contradict: the first pose is believed."""
        if self._given is not None:
            estimate = self._localizer.refine(frame, self.scene, self._given)
            if estimate.found:
                return self._believed(estimate, Status.CONVERGED)
        estimate = self.relocalize(frame)
        return self._believed(estimate, Status.CONVERGED) if estimate.found else estimate

    def _elsewhere(
        self, frame: RGBDFrame, T_last_cam: NDArray[np.float64] | None
    ) -> CameraEstimate | None:
        """Found near where it seemed to be in the frame before, or anywhere."""
        waiting = self._waited(T_last_cam)
        # What jumped here with the last belief was looked for near it already.
        if waiting is not None and self._waiting[-1].stamp_ns != self._past[-1].stamp_ns:
            estimate = self._found_anew(self._localizer.refine(frame, self.scene, waiting))
            if estimate.found:
                return estimate
        estimate = self.relocalize(frame)
        return estimate if estimate.found else None

    def _jumped(
        self, estimate: CameraEstimate, T_last_cam: NDArray[np.float64] | None
    ) -> CameraEstimate:
        """What was found elsewhere, believed if the camera can have gone there or frames agree."""
        waiting = self._waited(T_last_cam)
        if self._may_be(estimate, T_last_cam):
            return self._believed(estimate, Status.CONVERGED)
        jumps = waiting is not None and self._apart(estimate.T_map_cam, waiting)
        if jumps and estimate.evidence < self.settings.enough:
            # Each says something else; only what the map explains well may jump every time.
            self._waiting.clear()
        self._waiting.append(_Posed(estimate.stamp_ns, estimate.T_map_cam, T_last_cam))
        if len(self._waiting) < self.settings.confirmations:
            last = self._past[-1].T_map_cam
            distance = np.linalg.norm(estimate.T_map_cam[:3, 3] - last[:3, 3])
            count = f'{len(self._waiting)} of {self.settings.confirmations}'
            return estimate.lost(f'a jump of {distance:.2f} m, confirmed by {count} frames')
        kept = self._waiting[1:] if jumps else []
        believed = self._believed(estimate, Status.CONVERGED)
        # A camera that jumps every frame, as a heap of pictures does, is believed from then on,
        # until the map explains one badly or the camera is followed again. Odometry counts anew.
        self._waiting = [posed._replace(T_last_cam=None) for posed in kept]
        return believed

    def _waited(self, T_last_cam: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Where the camera would be now, had the last jump been one."""
        if not self._waiting:
            return None
        waiting = self._waiting[-1]
        if T_last_cam is None:
            return waiting.T_map_cam
        before = np.eye(4) if waiting.T_last_cam is None else waiting.T_last_cam
        return waiting.T_map_cam @ se3.inverse(before) @ T_last_cam

    def _may_be(self, estimate: CameraEstimate, T_last_cam: NDArray[np.float64] | None) -> bool:
        """Whether it can have come there from the last pose: by odometry, else in the time."""
        last = self._past[-1]
        if T_last_cam is not None:
            return not self._apart(estimate.T_map_cam, last.T_map_cam @ T_last_cam)
        seconds = (estimate.stamp_ns - last.stamp_ns) * 1e-9
        factor = 1 + min(max(seconds, 0.0), self.settings.lost_s)
        return not self._apart(estimate.T_map_cam, last.T_map_cam, factor)

    def _near(self, frame: RGBDFrame, starts: list[NDArray[np.float64]]) -> CameraEstimate:
        """The first pose that is found, of doubtful ones the likelier, or the first failure."""
        best = self._localizer.refine(frame, self.scene, starts[0])
        for T in starts[1:]:
            if best.found and not self._is_doubtful(best):
                break
            if not np.allclose(T, starts[0], atol=1e-3):
                estimate = self._localizer.refine(frame, self.scene, T)
                likelier = best.found and best.correlation >= estimate.correlation
                if estimate.found and not likelier:
                    best = estimate
        return best

    def _predicted(
        self, stamp_ns: int, T_last_cam: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """By odometry, else as fast as between the last two."""
        last = self._past[-1]
        if T_last_cam is not None:
            return last.T_map_cam @ T_last_cam
        seconds = (stamp_ns - last.stamp_ns) * 1e-9
        if len(self._past) < 2 or not 0 < seconds <= self.settings.predict_s:
            return last.T_map_cam
        return constant_velocity(self._past[-2][:2], last[:2], stamp_ns, at_most=3.0)

    def _apart(
        self, T_a: NDArray[np.float64], T_b: NDArray[np.float64], factor: float = 1.0
    ) -> bool:
        angle = np.degrees(float(se3.rotation_angle(T_a[:3, :3], T_b[:3, :3])))
        distance = float(np.linalg.norm(T_a[:3, 3] - T_b[:3, 3]))
        s = self.settings
        return distance > factor * s.jump_m or angle > factor * s.jump_deg

    def _believed(self, estimate: CameraEstimate, status: Status) -> CameraEstimate:
        self._waiting.clear()
        posed = _Posed(estimate.stamp_ns, estimate.T_map_cam)
        # A motion is that of two frames in a row that were both followed.
        follows = status == Status.TRACKED and self._past
        self._past = [self._past[-1], posed] if follows else [posed]
        return replace(estimate, status=status)
