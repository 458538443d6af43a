"""Register an object from posed pictures, find it in an RGB-D image, draw what was found."""

from pathlib import Path

import cv2

from gs_pose_ros import (
    OverlayObject,
    PoseEstimator,
    draw_overlay,
    read_bop_views,
    read_frames,
    register,
)

data = Path(__file__).parent / 'demo'
views = read_bop_views(data / 'train', object_id=3)  # colour, depth, mask, T_cam_obj
truck = register('toy_truck', views)  # Gaussians, diameter, reference views
frame = next(iter(read_frames(data / 'bag')))  # color [H, W, 3] in [0, 1], depth [H, W] m, camera
drawn = []
for found in PoseEstimator().estimate(frame, [truck]):
    pose, mask = found.pose, found.mask(frame.camera.shape)  # mask [H, W], None if not found
    print(pose.status.value, pose.score, pose.reason, pose.T_cam_obj, sep='\n')  # [4, 4], metres
    drawn.append(OverlayObject('toy_truck', pose.T_cam_obj, truck, mask, pose.status.value))
cv2.imwrite('found.png', draw_overlay(frame.color, frame.camera, drawn)[..., ::-1])
