"""What hostile messages, requests and damaged files do to the running nodes and the readers.

`make fuzz` or `python benchmarks/measure_robustness.py`: all five nodes find and follow objects of
the demo while messages with odd fields, and with broken bytes, come on every topic that they hear,
and odd requests to every service that they offer; files of every kind are damaged and read.
Everything follows from `--seed`, but the order in which threads and processes take it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import tyro
from figures import DEMO, RESULTS, origin, print_table, write_figures
from hostile_files import OUTCOMES, Reader, damage_copy, read_damaged
from hostile_messages import broken_bytes, hostile
from live_graph import NAMES, LiveGraph, live_graph
from rendered_room import RenderedRoom

from gs_pose_ros.commands.demo_data import DemoData
from gs_pose_ros.commands.register import Register
from gs_pose_ros.commands.replay import read_frames
from gs_pose_ros.datasets.bop import object_name
from gs_pose_ros.datasets.rgbd_sequences import read_sequence
from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.geometry import se3
from gs_pose_ros.localization.map_builder import MapBuilder
from gs_pose_ros.localization.map_store import load_map, save_map
from gs_pose_ros.objects.bop_views import read_bop_views
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.objects.sources import RegistrationView
from gs_pose_ros.objects.transforms_json import read_transforms_json
from gs_pose_ros.recording.map_source import MapSource
from gs_pose_ros.srv import LoadDatabase

_PATIENCE_S = 5.0
# These work while they are waited for, seconds for a good picture too; the nodes answer others.
_AT_WORK = ('estimate_pose',)
_AT_WORK_S = 30.0
# Those of the nodes' own life: asking a node to end is no hostility, and is obeyed.
_NOT_ASKED = ('change_state',)
# The nodes are asked how they are after so many messages or requests.
_ROUND = 50


@dataclass(frozen=True)
class MeasureRobustness:
    """Try to end the nodes."""

    messages: int = 2000
    """Hostile messages, on all topics in turn."""
    requests: int = 300
    """Hostile requests, to all services in turn."""
    files: int = 500
    """Damaged files, of all kinds in turn; every tenth of the database also by the node."""
    seed: int = 0
    """Of all that is random."""
    views: int = 0
    """Register the objects from so many pictures; 0 is all."""
    prepared: Path | None = None
    """Folder with objects and map of an earlier run, or where they are left for a later one."""
    out: Path = RESULTS
    """Folder for robustness.json."""

    def run(self) -> None:
        """Measure, print the tables, write the file.

        Raises:
            GsPoseError: a node has ended, or not answered in time.

        """
        figures = origin('hostile messages and requests, damaged files', asdict(self))
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        os.environ['ROS_DOMAIN_ID'] = str(random.randint(215, 230))  # the tests have 1 to 100
        rng = random.Random(self.seed)
        with TemporaryDirectory(prefix='robustness-') as folder:
            root = Path(folder).resolve()
            if self.prepared is None or not self.prepared.is_dir():
                self._prepare(root)
                if self.prepared is not None:
                    shutil.copytree(root, self.prepared)
            else:
                shutil.copytree(self.prepared, root, dirs_exist_ok=True)
            scratch = root / 'scratch'
            scratch.mkdir()
            readers = _readers(root)
            by_reader, grown_mib = read_damaged(readers, self.files, scratch, rng)
            rows = {
                name: {**f.outcomes, 'slowest_s': f.slowest_s} for name, f in by_reader.items()
            }
            print_table(
                'damaged files',
                rows,
                {
                    **dict.fromkeys(OUTCOMES, '{}'),
                    'slowest_s': '{:.2f}',
                },
            )
            errors = [error for f in by_reader.values() for error in f.errors]
            for error in dict.fromkeys(errors):
                print(error)
            live = self._fire(root, rng)
        print_table(
            'nodes', live['nodes'], dict.fromkeys(next(iter(live['nodes'].values())), '{:.2f}')
        )
        figures |= {
            'files': {'readers': rows, 'memory_grown_mib': grown_mib},
            'live': live,
        }
        write_figures(self.out, 'robustness', figures)
        bad = sum(f.outcomes[outcome] for f in by_reader.values() for outcome in OUTCOMES[2:])
        if bad:
            raise GsPoseError(
                f'{bad} of {self.files} damaged files were not refused as they should be'
            )
        if live['requests']['unanswered']:
            raise GsPoseError(
                f'not answered within {_PATIENCE_S} s: {live["requests"]["unanswered"]}'
            )

    def _prepare(self, root: Path) -> None:
        """Two objects of the demo and a map of its bag."""
        for number in (2, 3):
            Register(
                object_name(number),
                'bop',
                DEMO / 'train',
                root / 'objects',
                number,
                max_views=self.views,
            ).run()
        builder = MapBuilder(frame_id='world')
        for frame, T_map_cam in MapSource('bag', DEMO / 'bag', 'world', max_frames=10).frames():
            builder.add(frame, T_map_cam)
        save_map(root / 'map', builder.build())
        RenderedRoom(root / 'room', frames=3).run()
        _write_transforms(root / 'pictures', read_bop_views(DEMO / 'train', 2, max_views=3))

    def _fire(self, root: Path, rng: random.Random) -> dict[str, Any]:
        picture = DemoData(DEMO).frames[0]
        logs = root / 'logs'
        with live_graph(root / 'objects', root / 'map', root, picture, logs) as live:
            first_s = live.recover(120.0)
            before = live.memory_mib()
            messages = self._messages(live, rng)
            recovered = {'after_messages_s': live.recover()}
            requests = self._requests(live, root, rng)
            recovered['after_requests_s'] = live.recover()
            databases = self._databases(live, root, rng)
            recovered['after_databases_s'] = live.recover()
            after = live.memory_mib()
            # As they are: what they have said is of interest to whoever mends them.
            tracebacks = {name: _tracebacks(logs / f'{name}.log') for name in NAMES}
            states = live.slowest_state_s
        return {
            'messages': messages,
            'requests': requests,
            'databases': databases,
            'well_after_start_s': first_s,
            **recovered,
            'nodes': {
                name: {
                    'ended': 0,  # or this line would not be reached
                    'slowest_state_s': states[name],
                    'memory_before_mib': before[name],
                    'memory_peak_mib': after[name],
                    'tracebacks_logged': sum(tracebacks[name].values()),
                }
                for name in NAMES
            },
            'tracebacks': tracebacks,
        }

    def _messages(self, live: LiveGraph, rng: random.Random) -> dict[str, Any]:
        """Hostile messages on every topic that a node hears, good pictures between them."""
        kinds: dict[str, type] = {}
        for name in NAMES:
            for topic, types in live.node.get_subscriber_names_and_types_by_node(name, '/gs_pose'):
                kinds[topic] = _imported(types[0])
        good = {topic: kind() for topic, kind in kinds.items()}
        good.update(_recorded(live, kinds))
        sent: Counter[str] = Counter()
        topics = sorted(kinds)
        for k in range(self.messages):
            topic = topics[k % len(topics)]
            message = good[topic]
            # Now and then with the stamp of now: of the past, most are dropped at once.
            if hasattr(message, 'header') and rng.random() < 0.7:
                message.header.stamp = live.node.get_clock().now().to_msg()
            raw = rng.random() < 0.1
            live.publish(
                topic, broken_bytes(message, rng) if raw else hostile(message, rng), kinds[topic]
            )
            sent['broken bytes' if raw else topic] += 1
            if k % 5 == 0:
                live.show()
                time.sleep(0.05)
            if k % _ROUND == 0:
                live.check()
        live.check()
        return {'sent': sum(sent.values()), 'by_topic': dict(sent)}

    def _requests(self, live: LiveGraph, root: Path, rng: random.Random) -> dict[str, Any]:
        services: dict[str, type] = {}
        for name in NAMES:
            for service, types in live.node.get_service_names_and_types_by_node(name, '/gs_pose'):
                if not service.endswith(_NOT_ASKED):
                    services[service] = _imported(types[0])
        answered: Counter[str] = Counter()
        unanswered: list[str] = []
        slowest: dict[str, float] = {}
        names = sorted(services)
        for k in range(self.requests):
            service = names[k % len(names)]
            request = hostile(_request(services[service], live, root, k), rng)
            begin = time.monotonic()
            patience_s = _AT_WORK_S if service.endswith(_AT_WORK) else _PATIENCE_S
            answer = live.call(services[service], service, request, patience_s)
            slowest[service] = max(slowest.get(service, 0.0), time.monotonic() - begin)
            if answer is None:
                unanswered.append(f'{service} {str(request)[:300]}')
            answered['unanswered' if answer is None else 'answered'] += 1
            if k % 3 == 0:
                live.show()
            if k % _ROUND == 0:
                live.check()
        live.check()
        return {
            'services': len(names),
            **answered,
            'unanswered': unanswered,
            'slowest_answers_s': dict(sorted(slowest.items(), key=lambda item: -item[1])[:5]),
        }

    def _databases(self, live: LiveGraph, root: Path, rng: random.Random) -> dict[str, Any]:
        """Damaged databases loaded by the node, while pictures come."""
        slowest, broken = 0.0, 0
        count = self.files // 10
        for k in range(count):
            target = root / f'damaged{k}'
            damage_copy(root / 'objects', target, rng)
            begin = time.monotonic()
            request = LoadDatabase.Request(path=str(target))
            answer = live.call(LoadDatabase, '/gs_pose/object_database/load', request, _PATIENCE_S)
            if answer is None:
                raise GsPoseError(f'{target}: no answer within {_PATIENCE_S} s')
            slowest = max(slowest, time.monotonic() - begin)
            broken += sum(info.status != info.STATUS_OK for info in answer.objects.objects)
            live.show()
            if k % 10 == 0:
                live.check()
        live.check()
        return {'loaded': count, 'broken_objects_told': broken, 'slowest_answer_s': slowest}


def _write_transforms(folder: Path, views: list[RegistrationView]) -> None:
    """As NeRF's tools write them, with masks and depth (mm)."""
    folder.mkdir()
    frames = []
    for k, view in enumerate(views):
        assert view.mask is not None
        assert view.depth is not None
        c = view.camera
        cv2.imwrite(str(folder / f'{k}.png'), view.color[..., ::-1])
        cv2.imwrite(str(folder / f'mask{k}.png'), 255 * view.mask.astype(np.uint8))
        cv2.imwrite(str(folder / f'depth{k}.png'), np.rint(1e3 * view.depth).astype(np.uint16))
        T_obj_gl = se3.inverse(view.T_cam_obj) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append(
            {
                'file_path': f'{k}.png',
                'mask_path': f'mask{k}.png',
                'depth_file_path': f'depth{k}.png',
                'transform_matrix': T_obj_gl.tolist(),
                'fl_x': c.fx,
                'fl_y': c.fy,
                'cx': c.cx + 0.5,
                'cy': c.cy + 0.5,
                'w': c.width,
                'h': c.height,
                'k1': 0.01,
            }
        )
    (folder / 'transforms.json').write_text(json.dumps({'frames': frames}, indent=1))


def _imported(kind: str) -> type:
    package, _, name = kind.split('/')
    part = kind.split('/')[1]
    return getattr(import_module(f'{package}.{part}'), name)


def _recorded(live: LiveGraph, kinds: dict[str, type]) -> dict[str, Any]:
    """The next good message on each topic, while pictures are shown."""
    got: dict[str, Any] = dict(live.camera_messages())
    subscriptions = [
        live.node.create_subscription(kind, topic, partial(got.setdefault, topic), 10)
        for topic, kind in kinds.items()
        if topic not in got
    ]
    live.recover()
    for subscription in subscriptions:
        live.node.destroy_subscription(subscription)
    return got


def _request(kind: type, live: LiveGraph, root: Path, k: int) -> Any:
    """A request that makes sense, of which one field or more will not."""
    request = kind.Request()  # pyright: ignore[reportAttributeAccessIssue]
    sensible: dict[str, Any] = {
        'path': str(root / ('objects' if 'Register' in kind.__name__ else 'map')),
        'save_to': str(root / f'saved{k}'),
        'object_id': 'mug',
        'timeout': 0.5,
        'duration': 1.0,
        'max_frames': 5,
        'max_views': 5,
        'object_frame': 'world',
    }
    camera = live.camera_messages().values()
    sensible |= zip(('color', 'camera_info', 'depth'), camera, strict=True)
    for name, value in sensible.items():
        if isinstance(getattr(request, name, None), type(value)):
            setattr(request, name, value)
    return request


def _tracebacks(log: Path) -> dict[str, int]:
    """How often which error has been logged with its traceback."""
    lines = log.read_text(errors='replace').splitlines()
    out: Counter[str] = Counter()
    inside = False
    for line in lines:
        if 'Traceback (most recent call last)' in line:
            inside = True
        elif inside and line and not line[0].isspace():
            out[line[:160]] += 1
            inside = False
    return dict(out)


def _readers(root: Path) -> list[Reader]:
    """Every reader of the package on data of the demo, small enough to be read 50 times."""
    return [
        Reader('database', root / 'objects', _every_object),
        Reader('map', root / 'map', load_map),
        Reader('bag', DEMO / 'bag', lambda path: list(read_frames(path))[:1]),
        Reader('BOP', DEMO / 'train' / '000002', lambda folder: read_bop_views(folder, 2)),
        Reader('TUM', root / 'room', _every_frame),
        Reader('transforms.json', root / 'pictures', read_transforms_json),
    ]


def _every_object(folder: Path) -> None:
    database = ObjectDatabase(folder)
    for name in database.object_ids():
        database.load(name)


def _every_frame(folder: Path) -> None:
    for item in read_sequence(folder):
        item.read()


if __name__ == '__main__':
    tyro.cli(MeasureRobustness).run()
