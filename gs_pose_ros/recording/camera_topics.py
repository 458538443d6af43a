"""Which topics of a bag are the colour camera, its camera_info and its depth.

They are found by the types, names, frames and encodings of their messages. Where that leaves a
choice, the user has to make it: a guess might be the wrong camera.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.recording.bag_files import OpenBag, open_bag

_IMAGE = 'sensor_msgs/msg/Image'
_IMAGES = (_IMAGE, 'sensor_msgs/msg/CompressedImage')
_INFO = 'sensor_msgs/msg/CameraInfo'
_COLORS = ('rgb', 'bgr', 'bayer', 'yuv', 'uyvy', 'yuyv', 'nv', '8UC3', '8UC4')
# Formats of a CompressedImage; the standard has jpeg and png, drivers also JPEG and image/jpeg.
_FILES = re.compile(r'\.?(image/)?(jp|png|webp|bmp|tif)', re.IGNORECASE)
_GRAYS = ('mono8', '8UC1')
_DEPTHS = ('16UC1', '32FC1', 'mono16')
# What nodes make of pictures, ours among them: nothing that a camera took. By the last two parts
# of a name, and by the last.
_MADE = re.compile(
    'overlay|mask|debug|confidence|disparity|heatmap|visuali|thumbnail|colou?ri[sz]ed|colormap'
)
_DRAWN = re.compile('detect|segment|semantic|label|annotat|result')
# Of infrared and heat, which are no colours.
_INFRARED = re.compile(r'infra|thermal|lwir|(^|[/_])ir\d?([/_]|$)')
_RECTIFIED = re.compile('(?<![a-z])(image)?rect(ified)?(?![a-z])')  # and not of direct or correct
_COLORED = re.compile('rgb|colou?r')
_ALIGNED = re.compile('aligned|registered|depth_to_(color|rgb)')
# Behind the name of a topic: how image_transport sends it.
_TRANSPORTS = ('compressed', 'compressedDepth', 'zstd')
_OPTIONS = (
    'choose with color_topic, depth_topic and camera_info_topic (--color-topic, --depth-topic, '
    '--camera-info-topic)'
)


@dataclass(frozen=True)
class BagInput:
    """What of a bag is taken as the camera, and how its messages come together."""

    color_topic: str = ''
    """Bag: topic of the colour images; found by types and names if not given."""
    depth_topic: str = ''
    """Bag: topic of the depth images."""
    camera_info_topic: str = ''
    """Bag: topic of the colour camera's camera_info."""
    stamp_tolerance: float = 0.0
    """Bag: seconds by which the stamps of one frame may differ; 0: they are equal."""

    def __post_init__(self) -> None:
        if not 0 <= self.stamp_tolerance <= 1:
            raise GsPoseError(
                f'stamp_tolerance (--stamp-tolerance) is {self.stamp_tolerance:g} s, not '
                'within 0 to 1 s'
            )

    @property
    def tolerance_ns(self) -> int:
        """The tolerance in nanoseconds."""
        return round(self.stamp_tolerance * 1e9)


@dataclass(frozen=True)
class CameraTopics:
    """The topics of one camera in a bag; `depth` is '' for none."""

    color: str
    camera_info: str
    depth: str = ''
    depth_info: str = ''  # the depth's own camera_info, '' for none
    listing: str = field(default='', compare=False)  # of all image topics, for messages


@dataclass(frozen=True)
class _Seen:
    """A topic by its first message."""

    topic: str
    frame_id: str
    kind: str  # color, gray, depth, info, or what it is else
    said: str  # its encoding or format
    size: tuple[int, int] | None  # width and height, where they are said
    rank: int  # among the ways in which one image is sent: raw, then what loses nothing

    @property
    def base(self) -> str:
        """The name without the transport."""
        head, _, tail = self.topic.rpartition('/')
        return head if tail in _TRANSPORTS else self.topic

    @property
    def folder(self) -> str:
        """Where its camera_info stands as well."""
        return self.base.rpartition('/')[0]

    @property
    def rectified(self) -> bool:
        """Whether its name says that its distortion is undone."""
        return says_rectified(self.topic)


T = TypeVar('T')


def says_rectified(topic: str) -> bool:
    """Whether the name of an image's topic says that its distortion is undone (image_proc)."""
    return _RECTIFIED.search(topic.lower()) is not None


def is_depth_alone_rectified(color: str, depth: str) -> bool:
    """Whether, by the names of the topics, depth is of the undistorted colour camera, colour not.

    The register node of depth_image_proc makes it so.
    """
    return says_rectified(depth) and not says_rectified(color)


def find_topics(
    bag: Path,
    with_depth: bool = True,
    wanted: BagInput | None = None,
    roots: Iterable[Path] = (),
) -> CameraTopics:
    """The colour camera of a bag and its depth, as `wanted` or by their messages and names.

    Raises:
        GsPoseError: a wanted topic is not there, there is no colour image with a camera_info, or
            several would do; the message lists what is there.

    """
    wanted = wanted or BagInput()
    with open_bag(bag, roots) as reader:
        seen = _seen(reader)
    images = [item for item in seen if item.kind != 'info']
    infos = [item for item in seen if item.kind == 'info']
    listing = ', '.join(f'{item.topic} ({item.said})' for item in images) or 'none'
    if wanted.color_topic:
        colors = [_named(bag, 'colour', wanted.color_topic, images, listing)]
    else:
        colors = [item for item in images if item.kind in ('color', 'gray')]
    likely = infos
    if wanted.camera_info_topic:
        there = ', '.join(item.topic for item in infos) or 'none'
        likely = [_named(bag, 'camera_info', wanted.camera_info_topic, infos, there)]
    if not colors:
        raise GsPoseError(f'{bag}: no colour image; image topics: {listing}')
    sure = bool(wanted.camera_info_topic)
    pairs = [(color, info) for color in colors if (info := _info_of(bag, color, likely, sure))]
    if not pairs:
        raise GsPoseError(
            f'{bag}: no camera_info of {", ".join(item.topic for item in colors)}; camera_info '
            f'topics: {", ".join(f"{i.topic} (frame {i.frame_id!r})" for i in infos) or "none"}; '
            'camera_info_topic (--camera-info-topic) names one'
        )
    depths = [item for item in images if item.kind == 'depth']
    color, info = _chosen_color(bag, pairs, depths)
    if not with_depth:
        return CameraTopics(color.topic, info.topic, listing=listing)
    if wanted.depth_topic:
        depth = _named(bag, 'depth', wanted.depth_topic, images, listing)
    else:
        depth = _chosen_depth(bag, color, depths)
    if depth is None:
        return CameraTopics(color.topic, info.topic, listing=listing)
    own = next((item for item in infos if item.topic in _sibling_infos(depth)), None)
    if wanted.camera_info_topic:
        own = next(
            (i for i in seen if i.kind == 'info' and i.topic in _sibling_infos(depth)), None
        )
    beside = '' if own is None or own.topic == info.topic else own.topic
    return CameraTopics(color.topic, info.topic, depth.topic, beside, listing)


def _seen(reader: OpenBag) -> list[_Seen]:
    """Images and camera_infos that have messages, by topic."""
    out: dict[str, _Seen] = {}
    for connection in reader.connections:
        kind = connection.msgtype
        if connection.topic in out or kind not in (*_IMAGES, _INFO):
            continue
        msg = reader.first(connection)
        if msg is not None:
            out[connection.topic] = _described(connection.topic, kind, msg)
    return [out[topic] for topic in sorted(out)]


def _described(topic: str, kind: str, msg: Any) -> _Seen:
    frame_id = msg.header.frame_id.lstrip('/')
    if kind == _INFO:
        plain = not (msg.binning_x > 1 or msg.binning_y > 1 or msg.roi.width or msg.roi.height)
        size = (int(msg.width), int(msg.height)) if plain else None
        return _Seen(topic, frame_id, 'info', 'camera_info', size, 0)
    if kind == _IMAGE:
        what = _kind_of(topic, msg.encoding)
        return _Seen(topic, frame_id, what, msg.encoding, (int(msg.width), int(msg.height)), 0)
    said = msg.format.strip()
    if 'compressedDepth' in said or topic.endswith('/compressedDepth'):
        what, rank = _kind_of(topic, _DEPTHS[0]), 1
    else:
        what, rank = _kind_of(topic, said.partition(';')[0]), 2
        if what == 'depth' and _is_lossy(msg):
            what = 'lossy depth'  # JPEG has 8 bits of it
    return _Seen(topic, frame_id, what, said or 'compressed', None, rank)


def _is_lossy(msg: Any) -> bool:
    """Whether a compressed image is anything but a PNG or TIFF, whatever its format says."""
    return bytes(msg.data[:4]) not in (b'\x89PNG', b'II*\0', b'MM\0*')


def _kind_of(topic: str, encoding: str) -> str:
    """What an image is by its encoding and the last two parts of its name."""
    name = topic.lower()
    for transport in _TRANSPORTS:
        name = name.removesuffix(f'/{transport.lower()}')
    near = '/'.join(name.split('/')[-2:])
    if _MADE.search(near) or _DRAWN.search(name.rpartition('/')[2]):
        return 'made'
    if _INFRARED.search(near):
        return 'infrared'
    if encoding in _DEPTHS:
        return 'depth' if encoding != 'mono16' or 'depth' in name else 'gray of 16 bits'
    if 'depth' in near:  # in colours or in 8 bits
        return 'picture of depth' if encoding.startswith((*_COLORS, *_GRAYS)) else 'depth'
    if encoding.startswith(_GRAYS):
        return 'gray'
    is_color = not encoding or encoding.startswith(_COLORS) or _FILES.match(encoding)
    return 'color' if is_color else 'other'


def _named(bag: Path, what: str, topic: str, there: list[_Seen], listing: str) -> _Seen:
    for item in there:
        if item.topic == topic:
            return item
    raise GsPoseError(f'{bag}: has no {what} topic {topic} with a message; there are: {listing}')


def _sibling_infos(image: _Seen) -> tuple[str, str]:
    return f'{image.folder}/camera_info', f'{image.base}/camera_info'


def _info_of(bag: Path, color: _Seen, infos: list[_Seen], sure: bool) -> _Seen | None:
    """The camera_info beside an image, else the one nearest by name that fits."""
    siblings = _sibling_infos(color)
    for info in infos:
        if sure or info.topic in siblings:
            return info
    fits = [
        info
        for info in infos
        if (not info.frame_id or not color.frame_id or info.frame_id == color.frame_id)
        and (info.size is None or color.size is None or info.size == color.size)
    ]
    best = _best(fits, [-_shared(color.topic, info.topic) for info in fits])
    if len(best) > 1:
        raise GsPoseError(
            f'{bag}: several camera_info may be that of {color.topic}: '
            f'{", ".join(info.topic for info in best)}; choose with '
            'camera_info_topic (--camera-info-topic)'
        )
    return best[0] if best else None


def _chosen_color(
    bag: Path, pairs: list[tuple[_Seen, _Seen]], depths: list[_Seen]
) -> tuple[_Seen, _Seen]:
    """The camera with colours, depth in its frame and its own camera_info; of it, raw images."""
    with_depth = {depth.frame_id for depth in depths if depth.frame_id}
    ranks = [
        (c.kind != 'color', c.frame_id not in with_depth, i.topic not in _sibling_infos(c))
        for c, i in pairs
    ]
    best = _best(pairs, ranks)
    if len({color.frame_id for color, _ in best}) == 1 and best[0][0].frame_id:
        # One camera by several names, as /left and /rgb of a ZED; or what is drawn on its images.
        best = _best(best, [-len(_COLORED.findall(color.topic)) for color, _ in best])
    cameras = {(color.folder, color.frame_id) for color, _ in best}
    best = _best(best, [(c.rectified, c.rank, 'raw' not in c.topic) for c, _ in best])
    if len(cameras) > 1 or len({color.base for color, _ in best}) > 1:
        names = ', '.join(f'{c.topic} (frame {c.frame_id!r})' for c, _ in best)
        raise GsPoseError(f'{bag}: several colour cameras are as likely: {names}; {_OPTIONS}')
    return best[0]


def _chosen_depth(bag: Path, color: _Seen, depths: list[_Seen]) -> _Seen | None:
    """The depth in the frame of colour, else named as registered to it, else beside it."""
    ranks = [
        (
            bool(d.frame_id and color.frame_id and d.frame_id != color.frame_id),
            _ALIGNED.search(d.topic) is None,
            -_shared(color.topic, d.topic),
        )
        for d in depths
    ]
    best = _best(depths, ranks)
    if len({depth.folder for depth in best}) > 1:
        names = ', '.join(f'{d.topic} (frame {d.frame_id!r})' for d in best)
        raise GsPoseError(
            f'{bag}: several depth images may belong to {color.topic}: {names}; {_OPTIONS}'
        )
    order = [(d.rank, d.rectified, 'raw' not in d.topic, len(d.topic)) for d in best]
    return next(iter(_best(best, order)), None)


def _best(items: Sequence[T], ranks: Sequence[Any]) -> list[T]:
    """All items of the lowest rank."""
    lowest = min(ranks, default=None)
    return [item for item, rank in zip(items, ranks, strict=True) if rank == lowest]


def _shared(a: str, b: str) -> int:
    """How many leading parts two topic names share."""
    parts = zip(a.split('/'), b.split('/'), strict=False)
    return next((i for i, (x, y) in enumerate(parts) if x != y), 99)
