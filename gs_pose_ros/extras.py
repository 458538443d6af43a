"""Modules that are installed with an extra of the package, and what is said where one is missing.

They are imported where they are used, after `require_modules`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from gs_pose_ros.errors import GsPoseError

# Name of the module: the extra in setup.py that brings it.
EXTRAS = {
    'jinja2': 'eval',
    'matplotlib': 'eval',
    'pycocotools': 'eval',
    'trimesh': 'eval',
    'small_gicp': 'dev',
    'gsplat': 'gpu',
}
# What an evaluation of objects' poses takes, with its report.
POSE_EVALUATION = ('trimesh', 'pycocotools', 'jinja2')


def require_modules(*modules: str) -> None:
    """Raise GsPoseError, with how to install them, if any of these modules is missing."""
    missing = [m for m in modules if sys.modules.get(m) is None and find_spec(m) is None]
    if missing:
        extra = EXTRAS[missing[0]]
        raise GsPoseError(
            f'{", ".join(missing)} {"is" if len(missing) == 1 else "are"} not installed: '
            f'pip install {" ".join(missing)} (or all of the extra {extra}, in the source folder: '
            f"pip install '.[{extra}]')"
        )
