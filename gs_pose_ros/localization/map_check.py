"""Whether a map confirms a pose of the camera: depths first, then the texture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gs_pose_ros.bounds import NonNegative, Positive, Share
from gs_pose_ros.localization.camera_estimate import CameraEstimate
from gs_pose_ros.localization.gray_correlation import gray_correlation


@dataclass(frozen=True)
class MapCheck:
    """Whether what was measured is what the map has before the camera."""

    min_measured: Share = 0.02  # of the pixels
    min_overlap: Share = 0.25
    min_agreement: Share = 0.6
    sigmas: Positive = 3.0  # depths that agree differ by less, in those of the sensor
    # or of the map, whose error grows with its voxels: a bin 0.4 m away, in voxels of 1.4 mm, is
    # not confirmed by what lies 1 cm off.
    map_voxels: NonNegative = 0.7
    # Of the texture, of which another place of the same depths has as good as none.
    min_correlation: Share = 0.1

    def judged(
        self,
        estimate: CameraEstimate,
        seen: NDArray[np.float32],
        difference: NDArray[np.float64],
        noise: NDArray[np.float64],
        gray: tuple[NDArray[np.float32], NDArray[np.float32]],
        voxel_m: float,
    ) -> CameraEstimate:
        """The estimate with its shares, LOST if these are too small.

        `seen` [h, w] is the measured depth, 0 where there is none; `difference` [h, w] that of the
        map to it, NaN where there is no map; `noise` [h, w] that of the sensor at the depth of the
        map, all m: at a depth measured in a wrong unit it may be larger than the room. `gray` is
        that of the map and that of the picture, each [h, w] in [0, 1].
        """
        measured, known = seen > 0, np.isfinite(difference)
        if np.mean(measured) < self.min_measured:
            return estimate.lost(f'{100 * np.mean(measured):.0f} % of the depth image is valid')
        overlap = np.count_nonzero(known) / np.count_nonzero(measured)
        if not known.any():
            return estimate.lost('the map has nothing before the camera')
        error = np.abs(difference)
        agrees = error < self.sigmas * np.hypot(noise, self.map_voxels * voxel_m)
        agreement = float(np.mean(agrees[known]))
        out = replace(
            estimate,
            overlap=overlap,
            agreement=agreement,
            residual_m=float(np.median(error[known])),
            correlation=gray_correlation(*gray, agrees),
        )
        if overlap < self.min_overlap:
            return out.lost(f'the map covers {100 * overlap:.0f} % of what the camera sees')
        if agreement < self.min_agreement:
            return out.lost(f'{100 * agreement:.0f} % of the depths are those of the map')
        if out.correlation < self.min_correlation:  # NaN is not
            return out.lost(
                f'depths agree, but the texture is not that of the map (correlation '
                f'{out.correlation:.2f})'
            )
        return out
