"""Which code on which machine made a result."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from gs_pose_ros import __version__

_LIBRARIES = (
    'numpy',
    'scipy',
    'torch',
    'numba',
    'opencv-contrib-python-headless',
    'gsplat',
    'rclpy',
    'ros-fastdds',
    'small_gicp',
)


def provenance() -> dict[str, Any]:
    """Commit, versions and machine as plain numbers and strings; None for what is not known."""
    return {
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'package_version': __version__,
        **_commit(),
        'python': platform.python_version(),
        'libraries': {name: _version(name) for name in _LIBRARIES},
        'machine': {
            'system': f'{platform.system()} {platform.machine()}',
            'cpu': _cpu_name(),
            'cpu_cores': len(os.sched_getaffinity(0)),
            'gpu': _gpu_name(),
        },
    }


def _commit() -> dict[str, Any]:
    """The commit of the source tree this package is imported from, if it is one."""

    def git(*arguments: str) -> str | None:
        command = ['git', '-C', str(Path(__file__).parent), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie below some other project's repository.
    if git('ls-files', '--error-unmatch', Path(__file__).name) is None:
        return {'commit': None, 'uncommitted_changes': None}
    changes = git('status', '--porcelain', '--untracked-files=no')
    return {'commit': git('rev-parse', 'HEAD'), 'uncommitted_changes': bool(changes)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str | None:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else None


def _gpu_name() -> str | None:
    import torch  # heavy, and only wanted at the end of an evaluation

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
