"""6D object pose from RGB(-D) on a Gaussian-splat core, as a library and as ROS 2 nodes.

Importing this package loads no heavy dependency; import the module you need.
"""

import os
from pkgutil import extend_path

# OpenMP threads that wait by spinning (the default) take the cores from the other nodes of the
# graph: measured with four busy processes on two cores, fitting took 11 to 43 s instead of 3 to 4.
# Read when the library is loaded, so before torch or numba.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

# gs_pose_ros.msg and gs_pose_ros.srv are generated: they may lie in another sys.path folder
# than these modules (source tree first, interfaces from the installation).
__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
