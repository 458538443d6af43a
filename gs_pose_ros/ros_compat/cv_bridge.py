"""Image messages as arrays: the installed `cv_bridge` if it works, else `image_bridge`.

`ORIGINAL_REFUSED` says why an installed original is not used: compiled against NumPy 1, it fails
under NumPy 2 (ros-perception/vision_opencv#535).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gs_pose_ros.ros_compat import image_bridge


def _working_original() -> tuple[Any, str]:
    """The module and '', or None and what is wrong with it."""
    try:
        import cv_bridge  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        return None, 'not installed'
    except (ImportError, AttributeError) as error:  # its compiled part does not load
        return None, str(error)
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    try:
        bridge = cv_bridge.CvBridge()
        back = bridge.imgmsg_to_cv2(bridge.cv2_to_imgmsg(image, 'bgr8'), 'rgb8')
    except Exception as error:  # noqa: BLE001 - the original fails in as many ways as NumPy has versions
        return None, f'{type(error).__name__}: {error}'
    if not np.array_equal(back, image[..., ::-1]):
        return None, 'gives a wrong image'
    return cv_bridge, ''


_original, ORIGINAL_REFUSED = _working_original()
CvBridge = (_original or image_bridge).CvBridge
CvBridgeError = (_original or image_bridge).CvBridgeError

__all__ = ['ORIGINAL_REFUSED', 'CvBridge', 'CvBridgeError']
