"""Tests see no ROS graph but their own, and share the processor fairly."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

# All of it before anything imports rclpy, numba or torch: they read the environment once.

# Checked at every assignment; unchecked, a wrong type goes out as garbage without a word.
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'

if os.environ.get('ROS_DISTRO') == 'humble':
    os.environ['ROS_LOCALHOST_ONLY'] = '1'
else:
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
# One of the domains 1 to 100 for each worker; another run beside this one starts elsewhere.
_worker = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])
_run = os.getppid() if 'PYTEST_XDIST_WORKER' in os.environ else os.getpid()
os.environ['ROS_DOMAIN_ID'] = str(1 + (_run * 7 + _worker) % 100)

# The wheels of ROS 2 set their library path, but not the path of their index.
if (Path(sys.prefix) / 'share/ament_index').is_dir():
    os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)

_workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
_threads = str(max(1, len(os.sched_getaffinity(0)) // _workers))
for _name in ('NUMBA_NUM_THREADS', 'OMP_NUM_THREADS'):
    os.environ.setdefault(_name, _threads)
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # two workers, and nodes beside them
os.environ.setdefault('MPLBACKEND', 'Agg')

with suppress(ImportError):  # only some tests need it
    from hypothesis import settings

    # The same examples in every run, and no deadline: a shared machine has no steady clock.
    settings.register_profile('repeatable', derandomize=True, deadline=None)
    settings.load_profile('repeatable')
