"""The ROS packages without a wheel: the installed original where it works, else our own.

    from gs_pose_ros.ros_compat import cv_bridge, message_filters, tf

Each module has the names and signatures of the original, for as much of it as is used here.
"""
