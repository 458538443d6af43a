"""6D object pose from RGB(-D) on a Gaussian-splat core, as a library and as ROS 2 nodes.

Importing this package loads no heavy dependency; import the module you need.
"""

from pkgutil import extend_path

# gs_pose_ros.msg and gs_pose_ros.srv are generated: they may lie in another sys.path folder
# than these modules (source tree first, interfaces from the installation).
__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
