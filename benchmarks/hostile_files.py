"""Files of all kinds, damaged, and how every reader takes them."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gs_pose_ros.errors import GsPoseError

# What another program, or a slip, leaves in a text file.
_ODD_WORDS = (
    *('null', 'nan', '.nan', '.inf', '-1', '0', '1e400', '2026-13-45', '!!float abc', '""', '~'),
    *('[' * 3000, '{}', '[]', '&a [*a]', '!!python/object/apply:os.system [ls]', '9' * 400),
)


OUTCOMES = ('read', 'refused', 'refused without a name', 'traceback', 'hung')
_PATIENCE_S = 5


@dataclass(frozen=True)
class Reader:
    """How one kind of folder or file is read."""

    name: str
    good: Path
    """What is copied, and damaged in one of its files."""
    read: Callable[[Path], Any]


@dataclass
class FileFigures:
    """What became of the damaged files."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    errors: list[str] = field(default_factory=list)


def read_damaged(
    readers: Sequence[Reader], count: int, scratch: Path, rng: random.Random
) -> tuple[dict[str, FileFigures], float]:
    """Damage `count` files in turn and read them.

    Returns:
        The figures by reader, and by how much (MiB) the most memory of this process grew.

    """
    figures = {reader.name: FileFigures() for reader in readers}
    for reader in readers:
        reader.read(reader.good)  # a good one is read, or the figures mean nothing
    signal.signal(signal.SIGALRM, _hung)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k in range(count):
        reader = readers[k % len(readers)]
        target = scratch / f'{k}'
        damage_copy(reader.good, target, rng)
        out = figures[reader.name]
        begin = time.monotonic()
        signal.alarm(_PATIENCE_S)
        try:
            reader.read(target)
            outcome = 'read'
        except _HungError:
            outcome = 'hung'
            out.errors.append(traceback.format_exc()[-2000:])
        except GsPoseError as error:
            # Of the file it names at least the folder that was asked for.
            outcome = 'refused' if target.name in str(error) else 'refused without a name'
            if outcome != 'refused':
                out.errors.append(str(error)[:500])
        except Exception:  # noqa: BLE001 - that there is any is the figure
            outcome = 'traceback'
            out.errors.append(traceback.format_exc()[-2000:])
        finally:
            signal.alarm(0)
        out.slowest_s = max(out.slowest_s, time.monotonic() - begin)
        out.outcomes[outcome] += 1
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return figures, (after - before) / 1024


class _HungError(BaseException):
    """No reader takes it for an error of its own."""


def _hung(*_: object) -> None:
    raise _HungError(f'not read within {_PATIENCE_S} s')


def damage_copy(good: Path, target: Path, rng: random.Random) -> None:
    """Copy a file or folder and damage one of its files."""
    if good.is_dir():
        shutil.copytree(good, target, ignore=shutil.ignore_patterns('.prepared', '.*lock'))
        files = sorted(p for p in target.rglob('*') if p.is_file())
    else:
        shutil.copy(good, target)
        files = [target]
    # Small ones say how the large ones are to be read.
    weights = [1.0 / (1 + path.stat().st_size) ** 0.3 for path in files]
    damage(rng.choices(files, weights)[0], rng)


def damage(path: Path, rng: random.Random) -> None:
    """Change bytes, cut off, empty, replace words - or the file by something else."""
    data = bytearray(path.read_bytes())
    text = path.suffix in ('.yaml', '.json', '.txt')
    kind = rng.choice(
        ('bytes', 'cut', 'insert', 'empty', 'gone', 'folder', 'fifo') + ('word',) * 7 * text
    )
    if kind in ('gone', 'folder', 'fifo'):
        path.unlink()
        if kind == 'folder':
            path.mkdir()
        elif kind == 'fifo':
            os.mkfifo(path)
        return
    if kind == 'bytes' and data:
        for _ in range(rng.randint(1, 30)):
            at = rng.randrange(min(len(data), 400) if rng.random() < 0.5 else len(data))
            data[at] = rng.randrange(256)
    elif kind == 'cut':
        del data[rng.randrange(len(data) + 1) :]
    elif kind == 'insert':
        at = rng.randrange(len(data) + 1)
        data[at:at] = rng.randbytes(rng.randint(1, 100))
    elif kind == 'empty':
        data.clear()
    elif kind == 'word':
        lines = data.decode(errors='replace').split('\n')
        at = rng.randrange(len(lines))
        head, separator, _ = lines[at].partition(': ' if path.suffix != '.txt' else ' ')
        lines[at] = head + separator + rng.choice(_ODD_WORDS) + ',' * (path.suffix == '.json')
        data = bytearray('\n'.join(lines).encode())
    path.write_bytes(data)
