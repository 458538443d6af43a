"""Where the package's data files are, and the transport profile that every start needs."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

_NAME = 'gs_pose_ros'


def share_folder() -> Path:
    """The folder with `config/` and `msg/`: the source tree, or the installed share folder.

    The wheels do not set AMENT_PREFIX_PATH, so the index alone does not find it; without ROS 2
    there is no index, and what pip has noted is asked.
    """
    source = Path(__file__).resolve().parents[1]
    if (source / 'package.xml').is_file() and (source / 'config').is_dir():
        return source
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory(_NAME))
    except (ImportError, LookupError, OSError):
        return _share_of_pip()


def _share_of_pip() -> Path:
    try:
        files = metadata.files(_NAME) or []
    except metadata.PackageNotFoundError:
        files = []
    manifests = (f for f in files if f.match(f'share/{_NAME}/package.xml'))
    manifest = next((Path(str(f.locate())) for f in manifests), None)
    return Path(sys.prefix) / 'share' / _NAME if manifest is None else manifest.resolve().parent


def transport_environment() -> dict[str, str]:
    """Variables that give Fast DDS shared memory for whole images; what is set already stays.

    With its 512 KB by default, 97 % of best-effort VGA frames are lost (ros2/rmw_fastrtps#739).
    """
    profile = str(share_folder() / 'config' / 'fastdds_large_images.xml')
    names = ['FASTDDS_DEFAULT_PROFILES_FILE']
    if os.environ.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy'):
        names.append('FASTRTPS_DEFAULT_PROFILES_FILE')  # later ones warn that it is deprecated
    return {name: os.environ.get(name, profile) for name in names}
