"""How the localizer is measured on a sequence with true poses: frame to frame, or in a map."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeVar, overload

import numpy as np

from gs_pose_ros.datasets.rgbd_sequences import SequenceFrame
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.evaluation.camera_run import CameraRun, FramePose, Pose
from gs_pose_ros.evaluation.point_registration import PointRegistration, depth_points
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry.motion import constant_velocity
from gs_pose_ros.localization.camera_estimate import Localizer
from gs_pose_ros.localization.depth_localizer import DepthLocalizer
from gs_pose_ros.localization.gsplatloc import GSplatLoc
from gs_pose_ros.localization.map_builder import MapBuilder, MapSettings
from gs_pose_ros.localization.map_store import StoredMap
from gs_pose_ros.localization.scene_map import SceneMap
from gs_pose_ros.localization.voxel_cloud import FusionSettings, VoxelCloud
from gs_pose_ros.localization.wide_start import WideStart
from gs_pose_ros.objects.sources import thinned

Method = Literal['lm', 'paper']
Start = Literal['relocalize', 'truth']
Arguments = ParamSpec('Arguments')
Result = TypeVar('Result')
Progress = Callable[[Sequence[Any], str], Iterable[Any]]  # shows how far a loop is

LOCALIZERS: dict[Method, Callable[[], Localizer]] = {'lm': DepthLocalizer, 'paper': GSplatLoc}
# From frame to frame the start is all that is known; in a map there are keyframes as well, and the
# tracker, which has them, does without other starts.
PAIRWISE: dict[Method, Callable[[], Localizer]] = {**LOCALIZERS, 'lm': WideStart}
NO_DEPTH = 'the depth image has too few valid pixels'


@dataclass(frozen=True)
class Outcome:
    """The rows of one protocol."""

    runs: Sequence[CameraRun]
    main: CameraRun  # the row that pictures are made of
    # The map in which a frame of the main row, by its place, was looked for.
    scene_of: Callable[[int], SceneMap]
    map_facts: Mapping[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)  # rows that are missing, and why


class PosedFrames(Sequence[tuple[RGBDFrame, Pose]]):
    """Frames with their true poses, read when asked for: a thousand take 5 GB."""

    def __init__(self, frames: Sequence[SequenceFrame]) -> None:
        self._frames = [frame for frame in frames if frame.T_world_cam is not None]

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> tuple[RGBDFrame, Pose]: ...
    @overload
    def __getitem__(self, index: slice) -> PosedFrames: ...
    def __getitem__(self, index: int | slice) -> tuple[RGBDFrame, Pose] | PosedFrames:
        if isinstance(index, slice):
            return PosedFrames(self._frames[index])
        T = self._frames[index].T_world_cam
        assert T is not None
        return self._frames[index].read(), T


def frame_to_frame(
    frames: Sequence[SequenceFrame],
    method: Method,
    voxel_m: float = 0.0,
    max_pairs: int = 0,
    paper_pairs: int = 0,
    progress: Progress | None = None,
) -> Outcome:
    """Protocol A: each frame in a map of the one before alone, starting from that one's pose.

    Raises:
        GsPoseError: no two frames have true poses, or a picture cannot be read.

    """
    posed = [frame for frame in frames if frame.T_world_cam is not None]
    if len(posed) < 2:
        raise GsPoseError(f'pairs need two frames with a true pose, there are {len(posed)}')
    pairs = thinned(range(1, len(posed)), max_pairs)
    compared = set(thinned(pairs, paper_pairs)) if paper_pairs else set()
    localizer, paper = PAIRWISE[method](), GSplatLoc()
    registration, reason = _registration()
    left_out = {} if registration is not None else {'gicp': reason}
    rows: dict[str, list[FramePose]] = defaultdict(list)
    sizes = []
    for k, i in enumerate((progress or _quietly)(pairs, 'pairs')):
        before, now = posed[i - 1], posed[i]
        T_map_before = _pose(before)
        target, frame = before.read(), now.read()
        rows['no motion'].append(FramePose(now, T_map_before))
        rows['constant velocity'].append(FramePose(now, _predicted(posed, i)))
        if registration is not None:
            rows['gicp'].append(_registered(registration, target, frame, T_map_before, now))
        scene, map_seconds = _timed(single_map, target, T_map_before, voxel_m)
        sizes.append((len(scene), scene.voxel_m))
        if k == 0 and method == 'lm':
            localizer.refine(frame, scene, T_map_before)  # compiles
            scene, map_seconds = _timed(single_map, target, T_map_before, voxel_m)
        estimate, seconds = _timed(localizer.refine, frame, scene, T_map_before)
        main = FramePose.of(now, estimate, seconds, map_seconds)
        rows[method].append(main)
        if i in compared and method != 'paper':
            rows[f'{method}, the same pairs'].append(main)
            # Its published figures are of depths that the query's own balls show.
            drawn = paper.drawn(frame, single_map(frame, _pose(now), voxel_m), _pose(now))
            for name, query in (('paper', frame), ('paper, drawn depth', drawn)):
                estimate, seconds = _timed(paper.refine, query, scene, T_map_before)
                rows[name].append(FramePose.of(now, estimate, seconds, map_seconds))
    runs = [CameraRun(name, poses, is_trajectory=False) for name, poses in rows.items()]

    def scene_of(place: int) -> SceneMap:
        before = posed[pairs[place] - 1]
        return single_map(before.read(), _pose(before), voxel_m)

    facts = {
        'frames': 1,
        'voxel_m': float(np.median([voxel for _, voxel in sizes])),
        'gaussians': float(np.median([count for count, _ in sizes])),
    }
    main_run = next(run for run in runs if run.name == method)
    return Outcome(runs, main_run, scene_of, facts, left_out)


def in_a_map(
    mapped: Sequence[SequenceFrame],
    queries: Sequence[SequenceFrame],
    method: Method,
    voxel_m: float = 0.0,
    start: Start = 'relocalize',
    progress: Progress | None = None,
) -> Outcome:
    """Protocol B: the queries in their order, from estimates alone, in a map of other frames.

    Raises:
        GsPoseError: nothing has a true pose, or a picture cannot be read.

    """
    from gs_pose_ros.localization.camera_tracker import CameraTracker

    progress = progress or _quietly
    posed = PosedFrames(mapped)
    first = next((k for k, frame in enumerate(queries) if frame.T_world_cam is not None), None)
    if not len(posed) or first is None:
        what = 'map' if not len(posed) else 'query'
        raise GsPoseError(f'no {what} frame has a true pose')
    queries = queries[first:]  # there is nothing to start from before
    T_first = _pose(queries[0])
    stored = fused_map(posed, voxel_m, progress)
    scene = _ready(stored.scene)
    facts = {
        **stored.facts,
        'queries_in_it': len({f.color for f in mapped} & {f.color for f in queries}),
        'voxel_m': scene.voxel_m,
        'gaussians': len(scene),
        'keyframes': len(stored.relocalizer.keyframes),
    }
    localizer = LOCALIZERS[method]()
    if method == 'lm':
        localizer.refine(queries[0].read(), scene, T_first)  # compiles
    tracker = CameraTracker(scene, stored.relocalizer, localizer=localizer)
    if start == 'truth':
        tracker.reset(T_first)
    poses = []
    for query in progress(queries, method):
        frame = query.read()
        estimate, seconds = _timed(tracker.track, frame)
        poses.append(FramePose.of(query, estimate, seconds))
    main = CameraRun(method, poses, is_trajectory=True)
    T_kept = next((pose.T_map_cam for pose in poses if pose.found), T_first)
    runs = [CameraRun('no motion', [FramePose(query, T_kept) for query in queries], True)]
    registration, reason = _registration()
    left_out = {}
    if registration is None:
        left_out = {'gicp frame to frame': reason, 'gicp frame to map': reason}
    else:
        runs.append(_chained(registration, queries, progress))
        runs.append(_in_points(registration, scene, queries, progress))
    return Outcome([*runs, main], main, lambda _: scene, facts, left_out)


def single_map(frame: RGBDFrame, T_map_cam: Pose, voxel_m: float = 0.0) -> SceneMap:
    """A map of one frame, ready to be drawn."""
    cloud = VoxelCloud(FusionSettings(voxel_m=voxel_m))
    cloud.add(frame, T_map_cam)
    return _ready(SceneMap.from_cloud(cloud))


def fused_map(
    frames: PosedFrames, voxel_m: float = 0.0, progress: Progress | None = None
) -> StoredMap:
    """A map of frames at their true poses."""
    builder = MapBuilder(MapSettings(fusion=FusionSettings(voxel_m=voxel_m)))
    for frame, T_map_cam in (progress or _quietly)(frames, 'map'):
        builder.add(frame, T_map_cam)
    return builder.build()


def _ready(scene: SceneMap) -> SceneMap:
    """The levels of detail are made when they are asked for first: that is no part of a pose."""
    _ = scene.levels
    return scene


def _predicted(posed: Sequence[SequenceFrame], i: int) -> Pose:
    """The pose of frame i if the camera goes on as it truly went over the two before."""
    if i < 2:
        return _pose(posed[i - 1])
    before, last = ((frame.stamp_ns, _pose(frame)) for frame in posed[i - 2 : i])
    return constant_velocity(before, last, posed[i].stamp_ns)


def _registered(
    registration: PointRegistration,
    target: RGBDFrame,
    source: RGBDFrame,
    T_map_target: Pose,
    now: SequenceFrame,
) -> FramePose:
    # Its map is the prepared frame before, its pose the preparation of this one as well.
    before, map_seconds = _timed(registration.prepared, depth_points(target))
    begin = time.perf_counter()
    points = registration.prepared(depth_points(source))
    if before is None or points is None:
        return FramePose(now, T_map_target, NO_DEPTH, None, map_seconds)
    T_map_source = T_map_target @ registration.align(before, points, np.eye(4))
    return FramePose(now, T_map_source, '', time.perf_counter() - begin, map_seconds)


def _chained(
    registration: PointRegistration, queries: Sequence[SequenceFrame], progress: Progress
) -> CameraRun:
    """Frame to frame, from the first true pose."""
    T_map_before, before = _pose(queries[0]), None
    poses = []
    for query in progress(queries, 'gicp frame to frame'):
        frame = query.read()
        begin = time.perf_counter()
        points = registration.prepared(depth_points(frame))
        if points is not None:
            if before is not None:
                T_map_before = T_map_before @ registration.align(before, points, np.eye(4))
            before = points
        reason = NO_DEPTH if points is None else ''
        poses.append(FramePose(query, T_map_before, reason, time.perf_counter() - begin))
    return CameraRun('gicp frame to frame', poses, is_trajectory=True)


def _in_points(
    registration: PointRegistration,
    scene: SceneMap,
    queries: Sequence[SequenceFrame],
    progress: Progress,
) -> CameraRun:
    """Frame to the map's points, from the pose of the frame before; the first from the truth."""
    T_map_cam = _pose(queries[0])
    target = registration.prepared(scene.gaussians.means.double().numpy())
    poses = []
    for query in progress(queries, 'gicp frame to map'):
        frame = query.read()
        begin = time.perf_counter()
        points = registration.prepared(depth_points(frame))
        if points is not None and target is not None:
            T_map_cam = registration.align(target, points, T_map_cam)
        reason = NO_DEPTH if points is None or target is None else ''
        poses.append(FramePose(query, T_map_cam, reason, time.perf_counter() - begin))
    return CameraRun('gicp frame to map', poses, is_trajectory=True)


def _registration() -> tuple[PointRegistration | None, str]:
    try:
        return PointRegistration(), ''
    except GsPoseError as error:
        return None, str(error)


def _pose(frame: SequenceFrame) -> Pose:
    assert frame.T_world_cam is not None  # those without are sorted out before
    return frame.T_world_cam


def _timed(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> tuple[Result, float]:
    begin = time.perf_counter()
    result = function(*args, **kwargs)
    return result, time.perf_counter() - begin


def _quietly(items: Sequence[Any], _: str) -> Iterable[Any]:
    return items
