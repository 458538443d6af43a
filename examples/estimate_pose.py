"""Register an object from posed pictures, find it in an RGB-D image, draw what was found."""

from pathlib import Path

import cv2

import gs_pose_ros as gs

data = Path(__file__).parent / 'demo'
views = gs.read_bop_views(data / 'train', object_id=3)  # colour, depth, mask, T_cam_obj
truck = gs.register('toy_truck', views)  # Gaussians, diameter, reference views
frame = next(iter(gs.read_frames(data / 'bag')))  # color [H, W, 3], depth [H, W] m, camera
drawn = []
for found in gs.PoseEstimator().estimate(frame, [truck]):
    pose, mask = found.pose, found.mask(frame.camera.shape)  # mask [H, W], None if not found
    print(pose.status.value, pose.score, pose.reason, pose.T_cam_obj, sep='\n')  # [4, 4], metres
    if found.found:
        drawn.append(gs.OverlayObject('toy_truck', pose.T_cam_obj, truck, mask))
cv2.imwrite('found.png', gs.draw_overlay(frame.color, frame.camera, drawn)[..., ::-1])
