"""Joins messages by stamp: the installed `message_filters`, else `stamp_synchronizer`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # one of the two; they have the same signatures
    from gs_pose_ros.ros_compat.stamp_synchronizer import (
        ApproximateTimeSynchronizer,
        SimpleFilter,
        Subscriber,
        TimeSynchronizer,
    )
else:
    try:
        from message_filters import (
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
