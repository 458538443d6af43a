"""What is used of ROS' `cv_bridge`, same names and signatures, in numpy and OpenCV alone."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from gs_pose_ros.recording.image_encoding import (
    ImageEncodingError,
    convert,
    decode_compressed,
    decode_image,
    generic_name,
    type_of,
)

CvBridgeError = ImageEncodingError


class CvBridge:
    """Converts between numpy images and image messages."""

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = 'passthrough') -> NDArray[Any]:
        """The pixels [H, W] or [H, W, C] in the machine's byte order, row padding removed.

        Raises:
            CvBridgeError: unknown encoding, too few bytes, or no conversion between the two.

        """
        return convert(decode_image(img_msg), img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: NDArray[Any], encoding: str = 'passthrough', header: Any = None
    ) -> Image:
        """A message of the pixels [H, W] or [H, W, C].

        Raises:
            CvBridgeError: the array's type is not that of `encoding`.

        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError('Your input type is not a numpy array')
        generic = generic_name(cvim)
        if encoding == 'passthrough':
            encoding = generic
        elif type_of(encoding) != type_of(generic):
            raise CvBridgeError(
                f'encoding specified as {encoding}, but image has incompatible type {generic}'
            )
        msg = Image(encoding=encoding)
        if header is not None:
            msg.header = header
        msg.height, msg.width = int(cvim.shape[0]), int(cvim.shape[1])
        msg.data = _bytes_of(cvim.astype(cvim.dtype.newbyteorder('='), copy=False))
        msg.step = len(msg.data) // max(1, msg.height)
        msg.is_bigendian = int(sys.byteorder == 'big')
        return msg

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = 'passthrough'
    ) -> NDArray[Any]:
        """The decoded picture, blue first where it has colour and nothing else is desired.

        Raises:
            CvBridgeError: the bytes are no picture, or there is no such conversion.

        """
        return decode_compressed(cmprs_img_msg.data, desired_encoding)

    def cv2_to_compressed_imgmsg(
        self, cvim: NDArray[Any], dst_format: str = 'jpg'
    ) -> CompressedImage:
        """The picture (blue first) encoded as a file of that type.

        Raises:
            CvBridgeError: OpenCV cannot write such an array in this format.

        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError('Your input type is not a numpy array')
        try:
            encoded = cv2.imencode('.' + dst_format, cvim)[1]
        except cv2.error as error:
            raise CvBridgeError(str(error)) from error
        return CompressedImage(format=dst_format, data=_bytes_of(encoded))


def _bytes_of(pixels: NDArray[Any]) -> array[int]:
    """The only form that is fast with and without rclpy's field checks."""
    data = array('B')
    data.frombytes(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)
    return data
