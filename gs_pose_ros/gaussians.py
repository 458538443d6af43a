"""A set of 3D Gaussians: the one representation of objects and scenes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gs_pose_ros.errors import GsPoseError

# Zeroth spherical harmonic: color = SH_C0 * sh[:, 0] + 0.5 (Kerbl et al. 2023).
SH_C0 = 0.28209479177387814


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: caches hang on it
class Gaussians:
    """N anisotropic Gaussians with view-dependent colour (Kerbl et al. 2023).

    The parameters are the unconstrained ones that optimisers move: scale = exp(log_scales),
    opacity = sigmoid(logit_opacities); quaternions are wxyz and normalised where used.
    """

    means: Tensor  # [N, 3] m
    quats: Tensor  # [N, 4] wxyz, any norm but zero
    log_scales: Tensor  # [N, 3] log m
    logit_opacities: Tensor  # [N]
    sh: Tensor  # [N, K, 3], K = (degree + 1)^2 in {1, 4, 9, 16}

    def __post_init__(self) -> None:
        n = self.means.shape[0]
        expected: dict[str, tuple[int, ...]] = {
            'means': (n, 3),
            'quats': (n, 4),
            'log_scales': (n, 3),
            'logit_opacities': (n,),
        }
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f'{name} must be {shape}, got {tuple(getattr(self, name).shape)}')
        if self.sh.ndim != 3 or self.sh.shape[0] != n or self.sh.shape[2] != 3:
            raise ValueError(f'sh must be ({n}, K, 3), got {tuple(self.sh.shape)}')
        if self.sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(f'sh must hold 1, 4, 9 or 16 coefficients, got {self.sh.shape[1]}')

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[1]]

    @property
    def scales(self) -> Tensor:
        """Standard deviations along the Gaussians' own axes [N, 3], m."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """Peak opacities [N] in (0, 1)."""
        return self.logit_opacities.sigmoid()

    def __getitem__(self, index: Tensor | slice) -> Gaussians:
        """The subset that `index` (boolean mask, integer indices or a slice) selects."""
        return Gaussians(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Gaussians:
        """The same Gaussians on another device."""
        return Gaussians(*(getattr(self, f.name).to(device) for f in fields(self)))

    def detached(self) -> Gaussians:
        """The same values cut off from the autograd graph."""
        return Gaussians(*(getattr(self, f.name).detach() for f in fields(self)))

    def check_finite(self, source: str) -> None:
        """Raise GsPoseError naming `source` if any parameter is NaN or infinite."""
        for f in fields(self):
            if not np.isfinite(getattr(self, f.name).detach().cpu().numpy()).all():
                raise GsPoseError(f'{source}: {f.name} holds NaN or infinite values')

    @classmethod
    def from_points(
        cls,
        points: NDArray,
        colors: NDArray,
        scale: float | NDArray,
        opacity: float = 0.5,
        sh_degree: int = 3,
    ) -> Gaussians:
        """Isotropic Gaussians at points [N, 3] with colours [N, 3] in [0, 1].

        `scale` is one standard deviation in metres for all, or [N].
        """
        n = len(points)
        sh = torch.zeros(n, (sh_degree + 1) ** 2, 3)
        sh[:, 0] = (torch.as_tensor(np.asarray(colors), dtype=torch.float32) - 0.5) / SH_C0
        log_scale = torch.as_tensor(np.log(np.broadcast_to(scale, n)), dtype=torch.float32)
        quats = torch.zeros(n, 4)
        quats[:, 0] = 1
        return cls(
            means=torch.as_tensor(np.asarray(points), dtype=torch.float32).clone(),
            quats=quats,
            log_scales=log_scale[:, None].repeat(1, 3),
            logit_opacities=torch.full((n,), float(np.log(opacity / (1 - opacity)))),
            sh=sh,
        )
