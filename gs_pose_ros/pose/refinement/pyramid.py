"""The resolutions that a pose passes from coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.objects.splat_object import SplatObject
from gs_pose_ros.rendering.level_of_detail import for_resolution


@dataclass(frozen=True)
class PyramidLevel:
    """One resolution of the coarse-to-fine refinement."""

    crop_size: int  # px, side of the window
    iterations: int
    depth_sigma: float  # scale of a depth residual, in diameters, on top of the sensor's noise
    color_sigma: float  # scale of a colour residual, of [0, 1]
    # Gaussians closer than so many pixels are merged: smooth surfaces have smooth costs, but their
    # distance is less exact.
    merged_px: float = 1.0

    def gaussians(self, reference: SplatObject, padding: float) -> Gaussians:
        """The object's Gaussians, merged, for a window of `padding` diameters."""
        pixels = round(self.crop_size / self.merged_px)
        return for_resolution(reference.gaussians, padding * reference.diameter_m, pixels)


COARSE = (PyramidLevel(40, 10, 0.1, 0.2), PyramidLevel(64, 10, 0.03, 0.1, 2.0))
# The last one is as fine as the splats were fitted: at 144 px the pixel filter widens outlines
# so that distances without depth come out 1.5 % wrong (0.6 % so).
FINE = (PyramidLevel(96, 10, 0.01, 0.08), PyramidLevel(224, 10, 0.004, 0.06))
