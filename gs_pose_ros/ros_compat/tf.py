"""Transforms between frames over topics: the installed `tf2_ros`, else `transform_topics`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # one of the two; they have the same signatures
    from gs_pose_ros.ros_compat.transform_topics import (
        Buffer,
        StaticTransformBroadcaster,
        TransformBroadcaster,
        TransformException,
        TransformListener,
    )
else:
    try:
        from tf2_ros import (
            Buffer,
            StaticTransformBroadcaster,
            TransformBroadcaster,
            TransformException,
            TransformListener,
        )
    except ImportError:
        from gs_pose_ros.ros_compat.transform_topics import (
            Buffer,
            StaticTransformBroadcaster,
            TransformBroadcaster,
            TransformException,
            TransformListener,
        )

__all__ = [
    'Buffer',
    'StaticTransformBroadcaster',
    'TransformBroadcaster',
    'TransformException',
    'TransformListener',
]
