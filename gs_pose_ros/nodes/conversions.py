"""Between messages and the nouns of the core; pure functions.

Every scalar goes through float(), int() or bool() and every array through `array.frombytes`:
without rclpy's checks (the default since Jazzy) a wrong type is sent as garbage, and other ways to
fill `data` take up to a second per image.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseWithCovariance, TransformStamped
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.frame import RGBDFrame
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.msg import ObjectDetection, ObjectInfo, ObjectPose
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.ros_compat.cv_bridge import CvBridge, CvBridgeError

COLOR_ENCODINGS = ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8')
DEPTH_ENCODINGS = ('16UC1', 'mono16', '32FC1')
# Variance (m^2, rad^2) that stands for "nothing known"; zeros would mean "exactly known".
UNKNOWN_VARIANCE = 1e6

_STAGES = {
    Status.INITIAL: ObjectPose.STAGE_INITIAL,
    Status.CONVERGED: ObjectPose.STAGE_REFINED,
    Status.TRACKED: ObjectPose.STAGE_TRACKED,
}


# ---- time ---------------------------------------------------------------------------------------


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def ns_to_stamp(ns: int) -> Time:
    """The stamp of nanoseconds."""
    return Time(sec=int(ns // 1_000_000_000), nanosec=int(ns % 1_000_000_000))


# ---- images -------------------------------------------------------------------------------------


def color_from_message(msg: Image | CompressedImage) -> NDArray[np.uint8]:
    """RGB [H, W, 3] uint8 of rgb8, bgr8, rgba8, bgra8, mono8 or a JPEG or PNG file.

    Raises:
        GsPoseError: another encoding, or fewer bytes than the header promises.

    """
    try:
        if isinstance(msg, CompressedImage):
            return CvBridge().compressed_imgmsg_to_cv2(msg, 'rgb8')
        if msg.encoding not in COLOR_ENCODINGS:
            raise GsPoseError(
                f'colour encoding {msg.encoding!r} is not one of {", ".join(COLOR_ENCODINGS)}'
            )
        return CvBridge().imgmsg_to_cv2(msg, 'rgb8')
    except (CvBridgeError, cv2.error) as error:
        raise GsPoseError(f'colour image: {error}') from error


def depth_from_message(msg: Image | CompressedImage) -> NDArray[np.float32]:
    """Depth [H, W] float32 m of 16UC1 (mm) or 32FC1 (m); invalid values as they came.

    Raises:
        GsPoseError: another encoding, or fewer bytes than the header promises.

    """
    try:
        if isinstance(msg, CompressedImage):
            return _decompressed_depth(msg)
        if msg.encoding not in DEPTH_ENCODINGS:
            raise GsPoseError(
                f'depth encoding {msg.encoding!r} is not one of {", ".join(DEPTH_ENCODINGS)}'
            )
        return _metres(CvBridge().imgmsg_to_cv2(msg))
    except (CvBridgeError, cv2.error) as error:
        raise GsPoseError(f'depth image: {error}') from error


def _metres(depth: NDArray[Any]) -> NDArray[np.float32]:
    """REP 118: 16-bit depth is in millimetres, float depth in metres."""
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32):
        raise GsPoseError(f'depth image: expected 16-bit or float, got {depth.dtype} {depth.shape}')
    return depth * np.float32(0.001) if depth.dtype == np.uint16 else depth


def _decompressed_depth(msg: CompressedImage) -> NDArray[np.float32]:
    data = bytes(msg.data)
    if 'compressedDepth' not in msg.format:
        return _metres(CvBridge().compressed_imgmsg_to_cv2(msg))
    # compressed_depth_image_transport: 12 bytes of header (int32, float a, float b), then a PNG;
    # 32FC1 is stored as inverse depth, a / z + b.
    a, b = np.frombuffer(data[4:12], '<f4') if len(data) > 12 else (0.0, 0.0)
    png = CompressedImage(format='png', data=array('B', data[12:]))
    raw = CvBridge().compressed_imgmsg_to_cv2(png)
    if not msg.format.startswith('32FC1'):
        return _metres(raw)
    safe = np.where(raw > 0, raw - b, 1)
    return np.where(raw > 0, a / safe, 0).astype(np.float32)


def image_to_message(image: NDArray[Any], encoding: str, header: Header) -> Image:
    """An image [H, W] or [H, W, C] as a message of that encoding.

    Raises:
        GsPoseError: the array's type does not fit the encoding.

    """
    try:
        return CvBridge().cv2_to_imgmsg(np.ascontiguousarray(image), encoding, header)
    except CvBridgeError as error:
        raise GsPoseError(str(error)) from error


# ---- camera -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rectification:
    """The undistorted camera of a camera_info and where its pixels come from in the raw image."""

    camera: Camera
    maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None  # None: nothing to do

    def color(self, image: NDArray[Any]) -> NDArray[Any]:
        """The image as the undistorted camera sees it."""
        return image if self.maps is None else cv2.remap(image, *self.maps, cv2.INTER_LINEAR)

    def depth(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same for depth, by the nearest pixel: a mean over an edge is a point in the air."""
        return image if self.maps is None else cv2.remap(image, *self.maps, cv2.INTER_NEAREST)


def rectification_from_message(info: CameraInfo, rectified: bool = False) -> Rectification:
    """The camera behind images that come with this camera_info.

    Raw images: K, undistorted to P (or K) if D is not zero. `rectified`: the images are image_rect
    already, so P holds and D is history. roi and binning are those of the delivered image.

    Raises:
        GsPoseError: no positive focal length, empty image, unknown distortion model.

    """
    roi = info.roi
    return _rectification(
        tuple(map(float, info.k)),
        tuple(map(float, info.p)),
        tuple(map(float, info.r)),
        tuple(map(float, info.d)),
        info.distortion_model,
        (int(info.width), int(info.height)),
        (int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)),
        (max(1, int(info.binning_x)), max(1, int(info.binning_y))),
        rectified,
    )


@lru_cache(maxsize=8)
def _rectification(
    k: tuple[float, ...],
    p: tuple[float, ...],
    r: tuple[float, ...],
    d: tuple[float, ...],
    model: str,
    size: tuple[int, int],
    roi: tuple[int, int, int, int],
    binning: tuple[int, int],
    rectified: bool,
) -> Rectification:
    # An all-zero region means the whole image (sensor_msgs/RegionOfInterest).
    x, y, width, height = roi if roi[2] and roi[3] else (0, 0, *size)
    width, height = width // binning[0], height // binning[1]
    # Pixel centres are at integers: the outline -0.5 is what binning keeps in place.
    S = np.diag([1 / binning[0], 1 / binning[1], 1.0])
    S[:2, 2] = [(0.5 - x) / binning[0] - 0.5, (0.5 - y) / binning[1] - 0.5]
    K, P = S @ np.reshape(k, (3, 3)), S @ np.reshape(p, (3, 4))[:, :3]
    has_p = p[0] > 0 and p[5] > 0
    distorted = any(d) and not rectified
    try:
        if rectified and not has_p:
            raise GsPoseError('camera_info: rectified images need P, and its fx or fy is not > 0')
        camera = Camera.from_matrix(P if has_p and (rectified or distorted) else K, width, height)
        if not (k[0] > 0 and k[4] > 0) and not rectified:
            raise GsPoseError(f'camera_info: K has fx = {k[0]:g}, fy = {k[4]:g}; uncalibrated?')
    except ValueError as error:
        raise GsPoseError(f'camera_info: {error}') from error
    if not distorted:
        return Rectification(camera, None)
    R = np.reshape(r, (3, 3)) if has_p and np.any(r) else np.eye(3)
    if model in ('equidistant', 'fisheye'):
        undistort, D = cv2.fisheye.initUndistortRectifyMap, np.array(d[:4])
    elif model in ('plumb_bob', 'rational_polynomial', ''):
        undistort, D = cv2.initUndistortRectifyMap, np.array(d)
    else:
        raise GsPoseError(f'camera_info: unknown distortion model {model!r}')
    maps = undistort(K, D, R, camera.matrix, (width, height), cv2.CV_32FC1)
    return Rectification(camera, (maps[0], maps[1]))


def camera_to_message(camera: Camera, header: Header) -> CameraInfo:
    """The camera_info of an undistorted camera."""
    info = CameraInfo(header=header, distortion_model='plumb_bob')
    info.width, info.height = int(camera.width), int(camera.height)
    info.d = [0.0] * 5
    info.k = _floats(camera.matrix)
    info.r = _floats(np.eye(3))
    info.p = _floats(np.hstack([camera.matrix, np.zeros((3, 1))]))
    return info


def frame_from_messages(
    color: Image | CompressedImage,
    info: CameraInfo,
    depth: Image | CompressedImage | None = None,
    rectified: bool = False,
) -> RGBDFrame:
    """One undistorted frame; its stamp is the colour image's.

    A depth image without a single valid pixel counts as no depth.

    Raises:
        GsPoseError: an encoding, size or camera_info that cannot be used, saying which.

    """
    rectify = rectification_from_message(info, rectified)
    camera = rectify.camera
    rgb = color_from_message(color)
    _check_size('colour image', rgb.shape, camera)
    metres = None
    if depth is not None:
        metres = depth_from_message(depth)
        _check_size('depth image', metres.shape, camera)
        metres = rectify.depth(np.ascontiguousarray(metres))
        if not (np.isfinite(metres) & (metres > 0)).any():
            metres = None
    stamp_ns = stamp_to_ns(color.header.stamp)
    return RGBDFrame.from_uint8(rectify.color(rgb), metres, camera, stamp_ns)


def _check_size(what: str, shape: tuple[int, ...], camera: Camera) -> None:
    if shape[:2] != camera.shape:
        raise GsPoseError(
            f'the {what} is {shape[1]}x{shape[0]}, '
            f'its camera_info says {camera.width}x{camera.height}'
        )


# ---- poses --------------------------------------------------------------------------------------


def pose_to_message(T_a_b: NDArray[np.float64]) -> Pose:
    """A rigid motion [4, 4] as position and quaternion xyzw."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = _floats(T_a_b[:3, 3])
    q = pose.orientation
    q.w, q.x, q.y, q.z = _floats(se3.mat_to_quat(T_a_b[:3, :3]))
    return pose


def pose_from_message(pose: Pose) -> NDArray[np.float64]:
    """The rigid motion [4, 4] of a pose message.

    Raises:
        GsPoseError: not finite, or the quaternion is not of unit length.

    """
    p, q = pose.position, pose.orientation
    numbers = np.array([p.x, p.y, p.z, q.w, q.x, q.y, q.z])
    if not np.isfinite(numbers).all() or abs(np.linalg.norm(numbers[3:]) - 1) > 0.01:
        raise GsPoseError(f'not a pose: xyz, wxyz = {numbers.tolist()}')
    return se3.from_rotation_translation(se3.quat_to_mat(numbers[3:]), numbers[:3])


def transform_to_message(
    header: Header, child_frame_id: str, T_parent_child: NDArray[np.float64]
) -> TransformStamped:
    """A transform from `child_frame_id` to `header.frame_id`."""
    pose = pose_to_message(T_parent_child)
    out = TransformStamped(header=header, child_frame_id=child_frame_id)
    t = out.transform.translation
    t.x, t.y, t.z = pose.position.x, pose.position.y, pose.position.z
    out.transform.rotation = pose.orientation
    return out


def covariance_to_message(
    covariance: NDArray[np.float64] | None, T_cam_obj: NDArray[np.float64]
) -> NDArray[np.float64]:
    """ROS' covariance [36] of a covariance [6, 6] of the left tangent at T_cam_obj.

    The left increment (rho, w) turns the object about the *camera*: its position moves by
    rho + w x t. ROS means the position itself, and a rotation about the object's own origin.
    """
    if covariance is None:
        return (np.eye(6) * UNKNOWN_VARIANCE).reshape(36)
    J = _position_from_left_tangent(T_cam_obj)
    return (J @ covariance @ J.T).reshape(36)


def covariance_from_message(
    covariance: Sequence[float], T_cam_obj: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The inverse of `covariance_to_message`: [6, 6], or None for "nothing known"."""
    C = np.asarray(covariance, np.float64).reshape(6, 6)
    if (np.diag(C) >= UNKNOWN_VARIANCE).all():
        return None
    J = np.linalg.inv(_position_from_left_tangent(T_cam_obj))
    return J @ C @ J.T


def _position_from_left_tangent(T_cam_obj: NDArray[np.float64]) -> NDArray[np.float64]:
    J = np.eye(6)
    J[:3, 3:] = -se3.hat(T_cam_obj[:3, 3])
    return J


def estimate_to_message(
    header: Header,
    object_id: str,
    instance: int,
    estimate: PoseEstimate,
    stage: int | None = None,
) -> ObjectPose:
    """A pose estimate as a message; a lost one keeps the `stage` that lost it."""
    msg = ObjectPose(header=header, object_id=object_id)
    msg.instance, msg.iterations = int(instance), int(estimate.iterations)
    C = covariance_to_message(estimate.covariance, estimate.T_cam_obj)
    msg.pose = PoseWithCovariance(pose=pose_to_message(estimate.T_cam_obj), covariance=C)
    msg.score = float(np.clip(estimate.score, 0, 1)) if np.isfinite(estimate.score) else 0.0
    lost = estimate.status is Status.LOST
    msg.status = ObjectPose.STATUS_LOST if lost else ObjectPose.STATUS_OK
    msg.stage = _STAGES.get(estimate.status, ObjectPose.STAGE_REFINED) if stage is None else stage
    msg.reason = estimate.reason
    return msg


def estimate_from_message(msg: ObjectPose) -> PoseEstimate:
    """The pose estimate of a message.

    Raises:
        GsPoseError: the pose is not a rigid motion.

    """
    T_cam_obj = pose_from_message(msg.pose.pose)
    status = Status.LOST
    if msg.status == ObjectPose.STATUS_OK:
        status = next(s for s, stage in _STAGES.items() if stage == msg.stage)
    return PoseEstimate(
        T_cam_obj,
        msg.score,
        status,
        msg.reason,
        covariance_from_message(msg.pose.covariance, T_cam_obj),
        msg.iterations,
        stamp_to_ns(msg.header.stamp),
    )


def failed_pose(
    header: Header, object_id: str, instance: int, status: int, reason: str
) -> ObjectPose:
    """Why there is no pose of an object."""
    msg = ObjectPose(header=header, object_id=object_id, status=status, reason=reason)
    msg.instance = int(instance)
    msg.pose.pose.orientation.w = 1.0
    msg.pose.covariance = covariance_to_message(None, np.eye(4))
    return msg


# ---- detections and objects ---------------------------------------------------------------------


def detection_to_message(header: Header, detection: Detection, instance: int) -> ObjectDetection:
    """A detection as a message."""
    x, y, width, height = detection.box
    msg = ObjectDetection(header=header, object_id=detection.object_id)
    msg.instance, msg.score = int(instance), float(detection.score)
    msg.roi = RegionOfInterest(
        x_offset=int(x), y_offset=int(y), width=int(width), height=int(height), do_rectify=False
    )
    msg.mask = image_to_message(detection.mask.astype(np.uint8) * 255, 'mono8', header)
    msg.pose_hints = [pose_to_message(T) for T in detection.pose_hints]
    return msg


def detection_from_message(msg: ObjectDetection, shape: tuple[int, int]) -> Detection:
    """The detection of a message in an image of (height, width).

    Raises:
        GsPoseError: the region leaves the image, or the mask is of another size, empty, or all of
            the image: neither says where the object is.

    """
    roi, mask = msg.roi, msg.mask
    what = f'detection of {msg.object_id!r}'
    x, y, width, height = roi.x_offset, roi.y_offset, roi.width, roi.height
    if width < 1 or height < 1 or x + width > shape[1] or y + height > shape[0]:
        raise GsPoseError(
            f'{what}: region {width}x{height} at ({x}, {y}) is not inside '
            f'the {shape[1]}x{shape[0]} image'
        )
    if mask.encoding != 'mono8' or (mask.height, mask.width) != (height, width):
        raise GsPoseError(
            f'{what}: the mask is {mask.encoding} {mask.width}x{mask.height}, '
            f'expected mono8 {width}x{height}'
        )
    try:
        pixels = CvBridge().imgmsg_to_cv2(mask) > 127
    except CvBridgeError as error:
        raise GsPoseError(f'{what}: mask: {error}') from error
    if not pixels.any():
        raise GsPoseError(f'{what}: the mask is empty')
    if pixels.all() and (height, width) == shape:
        raise GsPoseError(f'{what}: the mask covers the whole image')
    hints = tuple(pose_from_message(pose) for pose in msg.pose_hints)
    return Detection(msg.object_id, msg.score, (x, y, width, height), pixels, hints)


def object_to_message(reference: ObjectReference, revision: str) -> ObjectInfo:
    """What others need to know of a registered object."""
    msg = ObjectInfo(
        object_id=reference.object_id, revision=revision, status=ObjectInfo.STATUS_OK
    )
    msg.diameter = float(reference.diameter_m)
    for corner, values in zip((msg.box_min, msg.box_max), reference.box):
        corner.x, corner.y, corner.z = _floats(values)
    identity = Header()
    msg.symmetries = [
        transform_to_message(identity, '', T).transform for T in reference.symmetries
    ]
    msg.gaussian_count = len(reference.gaussians)
    msg.view_count = len(reference.views.T_cam_obj)
    msg.psnr = float(reference.facts.get('psnr_heldout', np.nan))
    return msg


def _floats(values: Any) -> list[float]:
    return [float(v) for v in np.asarray(values, np.float64).ravel()]
