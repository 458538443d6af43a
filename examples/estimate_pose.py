"""Register an object from posed pictures, find it in an RGB-D image, draw what was found."""

from pathlib import Path

import cv2

from gs_pose_ros.commands.replay import read_frames
from gs_pose_ros.objects.registration import register
from gs_pose_ros.objects.sources import read_bop_views
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
from gs_pose_ros.pose.refinement.lm import LMRefiner
from gs_pose_ros.visualization import OverlayObject, draw_overlay

data = Path(__file__).parent / 'demo'
views = read_bop_views(data / 'train', object_id=3)  # colour, depth, mask, T_cam_obj
truck = register('toy_truck', views)  # Gaussians, diameter, reference views
frame = next(iter(read_frames(data / 'bag')))  # color [H, W, 3] in [0, 1], depth [H, W] m, camera
for detection in TemplateDetector().detect(frame, [truck]):
    hypotheses = TemplateRetrieval().initialize(frame, truck, detection)
    mask = detection.full_mask(frame.camera.shape)  # [H, W] bool
    pose = LMRefiner().refine(frame, truck, [h.T_cam_obj for h in hypotheses], mask)
    print(pose.status.value, pose.score, pose.reason, pose.T_cam_obj, sep='\n')  # [4, 4], metres
    found = OverlayObject(truck.object_id, pose.T_cam_obj, truck, mask, pose.status.value)
    cv2.imwrite('found.png', draw_overlay(frame.color, frame.camera, [found])[..., ::-1])
