"""The ROS 2 nodes: glue between topics, services and the core. Nothing else imports them."""

import os

# OpenMP threads that wait by spinning (the default) take the cores from the other nodes of the
# graph: measured with four busy processes on two cores, fitting took 11 to 43 s instead of 3 to 4.
# Alone they are a third faster, so only nodes do without. Read when the library is loaded, so
# before torch or numba.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
