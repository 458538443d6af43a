"""6D object pose and camera localization on Gaussian splats, as a library and as ROS 2 nodes.

The names below are what users import: they stay, and a change of them stands in the CHANGELOG.
Each is imported when it is first asked for, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gs_pose_ros.datasets.rgbd_sequences import read_sequence
    from gs_pose_ros.errors import GsPoseError
    from gs_pose_ros.estimate import Detection, PoseEstimate, Status
    from gs_pose_ros.frame import DepthNoise, RGBDFrame
    from gs_pose_ros.gaussians import Gaussians
    from gs_pose_ros.geometry.camera import Camera
    from gs_pose_ros.localization.camera_estimate import CameraEstimate
    from gs_pose_ros.localization.camera_tracker import CameraTracker
    from gs_pose_ros.localization.depth_localizer import DepthLocalizer
    from gs_pose_ros.localization.gsplatloc import GSplatLoc
    from gs_pose_ros.localization.map_builder import MapBuilder, MapSettings
    from gs_pose_ros.localization.map_store import load_map, save_map
    from gs_pose_ros.objects.bop_views import read_bop_views
    from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
    from gs_pose_ros.objects.registration import RegistrationSettings, register
    from gs_pose_ros.objects.sources import RegistrationView
    from gs_pose_ros.objects.splat_object import SplatObject
    from gs_pose_ros.objects.transforms_json import read_transforms_json
    from gs_pose_ros.pose.detection.template_detector import TemplateDetector
    from gs_pose_ros.pose.estimator import ObjectEstimate, PoseEstimator
    from gs_pose_ros.pose.initialization.view_retrieval import TemplateRetrieval
    from gs_pose_ros.pose.refinement.gs2pose import GS2PoseRefiner
    from gs_pose_ros.pose.refinement.gs_pose import GSPoseRefiner
    from gs_pose_ros.pose.refinement.lm import LMRefiner
    from gs_pose_ros.recording.bags import read_frames
    from gs_pose_ros.rendering import render
    from gs_pose_ros.visualization import OverlayObject, draw_overlay

# gs_pose_ros.msg and gs_pose_ros.srv are generated: they may lie in another sys.path folder
# than these modules (source tree first, interfaces from the installation).
__path__ = extend_path(__path__, __name__)
__version__ = '0.2.0'

_MODULES = {
    'datasets.rgbd_sequences': ('read_sequence',),
    'errors': ('GsPoseError',),
    'estimate': ('Detection', 'PoseEstimate', 'Status'),
    'frame': ('DepthNoise', 'RGBDFrame'),
    'gaussians': ('Gaussians',),
    'geometry.camera': ('Camera',),
    'localization.camera_estimate': ('CameraEstimate',),
    'localization.camera_tracker': ('CameraTracker',),
    'localization.depth_localizer': ('DepthLocalizer',),
    'localization.gsplatloc': ('GSplatLoc',),
    'localization.map_builder': ('MapBuilder', 'MapSettings'),
    'localization.map_store': ('load_map', 'save_map'),
    'objects.bop_views': ('read_bop_views',),
    'objects.database': ('ObjectDatabase', 'ObjectReference'),
    'objects.registration': ('RegistrationSettings', 'register'),
    'objects.sources': ('RegistrationView',),
    'objects.splat_object': ('SplatObject',),
    'objects.transforms_json': ('read_transforms_json',),
    'pose.detection.template_detector': ('TemplateDetector',),
    'pose.estimator': ('ObjectEstimate', 'PoseEstimator'),
    'pose.initialization.view_retrieval': ('TemplateRetrieval',),
    'pose.refinement.gs2pose': ('GS2PoseRefiner',),
    'pose.refinement.gs_pose': ('GSPoseRefiner',),
    'pose.refinement.lm': ('LMRefiner',),
    'recording.bags': ('read_frames',),
    'rendering': ('render',),
    'visualization': ('OverlayObject', 'draw_overlay'),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    'Camera',
    'CameraEstimate',
    'CameraTracker',
    'DepthLocalizer',
    'DepthNoise',
    'Detection',
    'GS2PoseRefiner',
    'GSPoseRefiner',
    'GSplatLoc',
    'Gaussians',
    'GsPoseError',
    'LMRefiner',
    'MapBuilder',
    'MapSettings',
    'ObjectDatabase',
    'ObjectEstimate',
    'ObjectReference',
    'OverlayObject',
    'PoseEstimate',
    'PoseEstimator',
    'RGBDFrame',
    'RegistrationSettings',
    'RegistrationView',
    'SplatObject',
    'Status',
    'TemplateDetector',
    'TemplateRetrieval',
    'draw_overlay',
    'load_map',
    'read_bop_views',
    'read_frames',
    'read_sequence',
    'read_transforms_json',
    'register',
    'render',
    'save_map',
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
