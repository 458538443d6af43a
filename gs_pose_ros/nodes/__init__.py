"""The ROS 2 nodes: glue between topics, services and the core. Nothing else imports them."""

import os
import sys

from gs_pose_ros.ros_compat.presence import why_no_ros

# OpenMP threads that wait by spinning (the default) take the cores from the other nodes of the
# graph: measured with four busy processes on two cores, fitting took 11 to 43 s instead of 3 to 4.
# Alone they are a third faster, so only nodes do without. Read when the library is loaded, so
# before torch or numba.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

if _REASON := why_no_ros():
    # What `python -m gs_pose_ros.nodes.detector` finds in its arguments while it looks for the
    # module: a person waits there, to whom one line says more than a traceback.
    if sys.argv[:1] == ['-m']:
        raise SystemExit(f'gs_pose_ros: {_REASON}')
    raise ImportError(_REASON, name='rclpy')
