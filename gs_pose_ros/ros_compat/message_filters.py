"""Joins messages by stamp: the installed `message_filters`, else `stamp_synchronizer`."""

try:
    from message_filters import (  # type: ignore[import-not-found]
        ApproximateTimeSynchronizer,
        SimpleFilter,
        Subscriber,
        TimeSynchronizer,
    )
except ImportError:
    from gs_pose_ros.ros_compat.stamp_synchronizer import (
        ApproximateTimeSynchronizer,
        SimpleFilter,
        Subscriber,
        TimeSynchronizer,
    )

__all__ = ['ApproximateTimeSynchronizer', 'SimpleFilter', 'Subscriber', 'TimeSynchronizer']
