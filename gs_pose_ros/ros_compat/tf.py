"""Transforms between frames over topics: the installed `tf2_ros`, else `transform_topics`."""

try:
    from tf2_ros import (  # type: ignore[import-not-found]
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
