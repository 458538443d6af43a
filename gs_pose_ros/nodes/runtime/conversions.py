"""From the nouns of the core to messages, and from our own messages back; pure functions.

Every scalar goes through float(), int() or bool() and every array through `array.frombytes`:
without rclpy's checks (the default since Jazzy) a wrong type is sent as garbage, and other ways to
fill `data` take up to a second per image.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseWithCovariance, TransformStamped
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField, RegionOfInterest
from std_msgs.msg import Header

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.estimate import Detection, PoseEstimate, Status
from gs_pose_ros.geometry import se3
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.msg import ObjectDetection, ObjectInfo, ObjectPose
from gs_pose_ros.objects.database import ObjectReference
from gs_pose_ros.recording.frame_decoding import pose_from_message, stamp_to_ns
from gs_pose_ros.ros_compat.cv_bridge import CvBridge, CvBridgeError

# Variance (m^2, rad^2) that stands for "nothing known"; zeros would mean "exactly known".
UNKNOWN_VARIANCE = 1e6
_MOST_HINTS = 100  # of a detection, the best

_STAGES = {
    Status.INITIAL: ObjectPose.STAGE_INITIAL,
    Status.CONVERGED: ObjectPose.STAGE_REFINED,
    Status.TRACKED: ObjectPose.STAGE_TRACKED,
}


# ---- time ---------------------------------------------------------------------------------------


def ns_to_stamp(ns: int) -> Time:
    """The stamp of nanoseconds."""
    return Time(sec=int(ns // 1_000_000_000), nanosec=int(ns % 1_000_000_000))


# ---- images -------------------------------------------------------------------------------------


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


def camera_to_message(camera: Camera, header: Header) -> CameraInfo:
    """The camera_info of an undistorted camera."""
    info = CameraInfo(header=header, distortion_model='plumb_bob')
    info.width, info.height = int(camera.width), int(camera.height)
    info.d = [0.0] * 5
    info.k = _floats(camera.matrix)
    info.r = _floats(np.eye(3))
    info.p = _floats(np.hstack([camera.matrix, np.zeros((3, 1))]))
    return info


# ---- poses --------------------------------------------------------------------------------------


def pose_to_message(T_a_b: NDArray[np.float64]) -> Pose:
    """A rigid motion [4, 4] as position and quaternion xyzw."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = _floats(T_a_b[:3, 3])
    q = pose.orientation
    q.w, q.x, q.y, q.z = _floats(se3.mat_to_quat(T_a_b[:3, :3]))
    return pose


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
    covariance: ArrayLike, T_cam_obj: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The inverse of `covariance_to_message`: [6, 6], or None for "nothing known" and for NaN."""
    C = np.asarray(covariance, np.float64).reshape(6, 6)
    if (np.diag(C) >= UNKNOWN_VARIANCE).all() or not np.isfinite(C).all():
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
    msg.alternatives = [pose_to_message(T) for T in estimate.alternatives]
    if estimate.free_axis is not None:
        axis = msg.free_axis
        axis.x, axis.y, axis.z = _floats(estimate.free_axis)
    return msg


def estimate_from_message(msg: ObjectPose) -> PoseEstimate:
    """The pose estimate of a message.

    Raises:
        GsPoseError: the pose is not a rigid motion, or a good one of an unknown stage.

    """
    T_cam_obj = pose_from_message(msg.pose.pose)
    axis = np.array([msg.free_axis.x, msg.free_axis.y, msg.free_axis.z])
    status = Status.LOST
    if msg.status == ObjectPose.STATUS_OK:
        stages = {stage: status for status, stage in _STAGES.items()}
        if msg.stage not in stages:
            raise GsPoseError(
                f'pose of {msg.object_id!r}: stage is {msg.stage}, not one of the STAGE_ '
                'constants of ObjectPose'
            )
        status = stages[msg.stage]
    return PoseEstimate(
        T_cam_obj,
        msg.score,
        status,
        msg.reason,
        covariance_from_message(msg.pose.covariance, T_cam_obj),
        msg.iterations,
        stamp_to_ns(msg.header.stamp),
        tuple(pose_from_message(pose) for pose in msg.alternatives),
        axis if axis.any() else None,
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


# ---- the camera in a map ------------------------------------------------------------------------


def camera_to_pose(
    T_map_cam: NDArray[np.float64], covariance: NDArray[np.float64] | None
) -> PoseWithCovariance:
    """The camera in the map, from `CameraEstimate`'s covariance.

    exp(xi) T_cam_map puts the camera at T_map_cam exp(-xi): ROS means a shift along the map's axes
    and a rotation about them, at the camera.
    """
    pose = pose_to_message(T_map_cam)
    if covariance is None:
        return PoseWithCovariance(pose=pose, covariance=covariance_to_message(None, T_map_cam))
    turn = np.kron(np.eye(2), T_map_cam[:3, :3])
    return PoseWithCovariance(pose=pose, covariance=(turn @ covariance @ turn.T).reshape(36))


def cloud_to_message(points: ArrayLike, colors: ArrayLike, header: Header) -> PointCloud2:
    """Points [N, 3] (m) with colours [N, 3] in [0, 1], as RViz shows them."""
    xyz, rgb = np.asarray(points, np.float32), np.asarray(colors)
    names = ('x', 'y', 'z', 'rgb')
    rows = np.empty((len(xyz), 4), '<f4')
    rows[:, :3] = xyz
    red, green, blue = np.round(255 * rgb.clip(0, 1)).astype(np.uint32).T
    rows[:, 3] = (red << 16 | green << 8 | blue).view(np.float32)
    msg = PointCloud2(header=header, height=1, width=len(rows), point_step=16, is_dense=True)
    msg.row_step = 16 * len(rows)
    msg.fields = [
        PointField(name=name, offset=4 * k, datatype=PointField.FLOAT32, count=1)
        for k, name in enumerate(names)
    ]
    msg.data = array('B')
    msg.data.frombytes(rows.tobytes())
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
        GsPoseError: the region leaves the image, a hint is no pose, or the mask is of another
            size, empty, or all of the image: neither says where the object is.

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
    try:
        hints = tuple(pose_from_message(pose) for pose in list(msg.pose_hints)[:_MOST_HINTS])
    except GsPoseError as error:
        raise GsPoseError(f'{what}: hint: {error}') from error
    return Detection(msg.object_id, msg.score, (x, y, width, height), pixels, hints)


def object_to_message(reference: ObjectReference, revision: str) -> ObjectInfo:
    """What others need to know of a registered object."""
    msg = ObjectInfo(object_id=reference.object_id, revision=revision, status=ObjectInfo.STATUS_OK)
    msg.diameter = float(reference.diameter_m)
    for corner, values in zip((msg.box_min, msg.box_max), reference.box, strict=True):
        corner.x, corner.y, corner.z = _floats(values)
    identity = Header()
    msg.symmetries = [
        transform_to_message(identity, '', T).transform for T in reference.symmetries
    ]
    msg.gaussian_count = len(reference.gaussians)
    msg.view_count = len(reference.views.T_cam_obj)
    msg.psnr = float(reference.facts.get('psnr_heldout_db', np.nan))
    return msg


def _floats(values: Any) -> list[float]:
    return [float(v) for v in np.asarray(values, np.float64).ravel()]
