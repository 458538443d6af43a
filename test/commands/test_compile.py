"""`gs-pose compile` leaves nothing for a node to compile."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own, where no other test has called a kernel.
_COMPILED_LATER = """
import sys
from numba.core.registry import CPUDispatcher
from gs_pose_ros.commands.compile import Compile
from gs_pose_ros.localization.depth_localizer import DepthLocalizer
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.refinement.lm import LMRefiner
from test.localization import room
from test.synthetic import bar, make_scene, standing

def compiled():
    modules = [m for name, m in list(sys.modules.items()) if name.startswith('gs_pose_ros.')]
    kernels = {k for m in modules for k in vars(m).values() if isinstance(k, CPUDispatcher)}
    # Of each its kinds of arguments: one may be compiled, and the one of real pictures not.
    return {f'{k.__name__}{sig}'.replace(' ', '') for k in kernels for sig in k.stats.cache_misses}

Compile().run()
before = compiled()
reference = bar()
scene = make_scene([(reference, standing())])
for frame in (scene.frame, scene.frame.without_depth()):
    for detection in TemplateDetector().detect(frame, [reference], effort=0.2):
        LMRefiner().refine(frame, reference, detection.pose_hints)
T = room.camera_pose(room.EYES[0])
assert DepthLocalizer().refine(room.view(T), room.scene_map(), T).found
print(*sorted(compiled() - before))
"""


def test_real_pictures_compile_nothing_more() -> None:
    done = subprocess.run(
        [sys.executable, '-c', _COMPILED_LATER], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
