"""How long a picture takes, and how that grows with Gaussians and pixels; forward and backward.

`python benchmarks/measure_rasterizer.py`; with `--backend gsplat` on a CUDA device. The scene is a
closed, bumpy surface of Gaussians as fitting makes them: as large as their spacing asks for, half
of them on the far side.
"""

from __future__ import annotations

import importlib.util
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from figures import RESULTS, origin, print_table, write_figures

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.camera import Camera
from gs_pose_ros.rendering import render
from gs_pose_ros.rendering.numba_rasterizer import rasterize, rasterize_batch

_RADIUS = 0.08  # m
_DISTANCE = 0.6


def surface(count: int, seed: int = 0) -> Gaussians:
    """Gaussians of SH degree 3 on a bumpy sphere."""
    r = np.random.default_rng(seed)
    p = r.normal(size=(count, 3))
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    points = p * _RADIUS * (1 + 0.15 * np.sin(5 * p[:, :1]) * np.cos(4 * p[:, 1:2]))
    spacing = _RADIUS * np.sqrt(4 * np.pi / count)
    g = Gaussians.from_points(points, r.uniform(size=(count, 3)), 0.7 * spacing)
    torch.manual_seed(seed)
    return Gaussians(
        means=g.means,
        quats=torch.randn(count, 4),
        log_scales=g.log_scales + 0.3 * torch.randn(count, 3),
        logit_opacities=1 + 1.5 * torch.randn(count),
        sh=torch.cat([g.sh[:, :1], 0.1 * torch.randn(count, 15, 3)], 1),
    )


def view(width: int, height: int) -> tuple[Camera, torch.Tensor]:
    """A camera whose shorter side shows 1.4 diameters, and T_cam_obj [4, 4]."""
    focal = min(width, height) * _DISTANCE / (2.8 * _RADIUS)
    T = torch.eye(4, dtype=torch.float64)
    T[2, 3] = _DISTANCE
    return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height), T


@dataclass(frozen=True)
class MeasureRasterizer:
    """Medians of forward, and of forward with backward, for every number and size."""

    counts: tuple[int, ...] = (5_000, 20_000, 50_000, 200_000, 500_000)
    """Gaussians."""
    sizes: tuple[tuple[int, int], ...] = ((224, 224), (640, 480), (1280, 720))
    """Width and height, px."""
    repeats: int = 15
    """Calls of which the median is taken at least, after two that are not counted."""
    least_s: float = 1.0
    """Seconds that they last at least: what else a machine does comes in bursts."""
    dense_count: int = 500
    """Gaussians of the comparison with the dense definition in float64, at 64 x 64 px."""
    endurance: int = 10_000
    """Calls after which memory must not have grown."""
    backend: Literal['numba', 'gsplat'] = 'numba'
    """gsplat wants a CUDA device."""
    out: Path = RESULTS
    """Folder for rasterizer.json and rasterizer.png."""

    def run(self) -> None:
        """Measure, print the table, write the files."""
        name = 'rasterizer' if self.backend == 'numba' else 'rasterizer_gsplat'
        figures = origin('rasterizer on a surface of Gaussians', asdict(self))
        rows = {}
        for count in self.counts:
            gaussians = surface(count).to(self._device)
            for width, height in self.sizes:
                label = f'{count} at {width}x{height}'
                rows[label] = {
                    'gaussians': count,
                    'width': width,
                    'height': height,
                    **self._times(gaussians, width, height),
                }
        columns = {'forward_ms': '{:.2f}', 'both_ms': '{:.2f}', 'batch_ms': '{:.2f}'}
        print_table(f'{self.backend}, medians of {self.repeats} or more', rows, columns)
        figures |= {'rows': rows, 'growth': growth(rows)}
        print_table('cost by Gaussians', figures['growth'], {'worst_deviation': '{:.2f}'})
        if self.backend == 'numba':
            figures |= {'dense': self._dense(), 'memory': self._memory()}
            print_table(
                'other',
                {'dense reference': figures['dense'], 'memory': figures['memory']},
                {'ours_ms': '{:.2f}', 'dense_ms': '{:.1f}', 'growth_mib': '{:.2f}'},
            )
        write_figures(self.out, name, figures)
        plot(rows, self.out / f'{name}.png')

    @property
    def _device(self) -> str:
        return 'cpu' if self.backend == 'numba' else 'cuda'

    def _times(self, gaussians: Gaussians, width: int, height: int) -> dict[str, float | None]:
        camera, T = view(width, height)
        names = ('means', 'quats', 'log_scales', 'logit_opacities', 'sh')
        leaf = Gaussians(*(getattr(gaussians, n).clone().requires_grad_() for n in names))
        pose = T.clone().to(self._device).requires_grad_()
        weight = torch.randn(height, width, device=self._device)

        def forward() -> None:
            if self.backend == 'numba':
                rasterize(gaussians, camera, T.numpy())
            else:
                render(gaussians, camera, T.to(self._device), backend='gsplat')

        def both() -> None:
            color, alpha, depth = render(leaf, camera, pose, backend=self.backend)
            (color.sum(-1) * weight + alpha * weight + depth * weight).sum().backward()
            for tensor in (*(getattr(leaf, n) for n in names), pose):
                tensor.grad = None

        out: dict[str, float | None] = {'forward_ms': self._median(forward)}
        out['both_ms'] = self._median(both)
        # Eight poses in one call, for one of them.
        batch = None
        if self.backend == 'numba' and width * height <= 224 * 224:
            poses = [T.numpy()] * 8
            batch = self._median(lambda: rasterize_batch(gaussians, [camera] * 8, poses)) / 8
        return {**out, 'batch_ms': batch}

    def _median(self, call: Callable[[], Any]) -> float:
        seconds: list[float] = []
        while len(seconds) < self.repeats + 2 or sum(seconds) < self.least_s:
            begun = time.perf_counter()
            call()
            if self.backend == 'gsplat':
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begun)
        return 1000 * float(np.median(seconds[2:]))

    def _dense(self) -> dict[str, float]:
        render_dense = _dense_reference()
        gaussians, (camera, T) = surface(self.dense_count), view(64, 64)
        ours = rasterize(gaussians, camera, T.numpy())
        dense = render_dense(gaussians, camera, T).numpy()
        return {
            'gaussians': self.dense_count,
            'ours_ms': self._median(lambda: rasterize(gaussians, camera, T.numpy())),
            'dense_ms': self._median(lambda: render_dense(gaussians, camera, T)),
            'largest_difference': float(np.abs(ours - dense).max()),
        }

    def _memory(self) -> dict[str, float]:
        """Peak memory before and after many calls, alternating between two sizes."""
        sets, views = [surface(2000), surface(5000)], [view(224, 224), view(120, 90)]

        def calls(count: int) -> None:
            for k in range(count):
                camera, T = views[k // 2 % 2]
                rasterize(sets[k % 2], camera, T.numpy())
                if k % 20 == 0:
                    pose = T.clone().requires_grad_()
                    render(sets[k % 2], camera, pose).color.sum().backward()

        calls(500)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        calls(self.endurance)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {'calls': self.endurance, 'before_mib': before, 'growth_mib': after - before}


def _dense_reference() -> Callable[[Gaussians, Camera, torch.Tensor], torch.Tensor]:
    """The definition that the tests compare with; `test` as a package is Python's own."""
    path = RESULTS.parents[1] / 'test' / 'rendering' / 'dense_reference.py'
    spec = importlib.util.spec_from_file_location('dense_reference', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.render_dense


def growth(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each size the best line through time by number of Gaussians, from 20 000 on.

    `worst_deviation` is the largest relative distance of a median from that line.
    """
    out = {}
    for size in sorted({(r['width'], r['height']) for r in rows.values()}):
        for kind in ('forward_ms', 'both_ms'):
            chosen = [
                (r['gaussians'], r[kind])
                for r in rows.values()
                if (r['width'], r['height']) == size and r['gaussians'] >= 20_000
            ]
            if len(chosen) < 3:
                continue
            n, ms = np.array(chosen).T
            # Relative errors count alike, or the largest number would be all that matters.
            A = np.stack([np.ones_like(n), n], 1) / ms[:, None]
            (fixed, each), *_ = np.linalg.lstsq(A, np.ones_like(ms), rcond=None)
            deviation = np.abs((fixed + each * n) / ms - 1).max()
            out[f'{size[0]}x{size[1]} {kind[:-3]}'] = {
                'fixed_ms': float(fixed),
                'ms_per_1000': float(1000 * each),
                'worst_deviation': float(deviation),
            }
    return out


def plot(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Time by number of Gaussians, one line for each size."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, kind in zip(axes, ('forward_ms', 'both_ms'), strict=True):
        for size in sorted({(r['width'], r['height']) for r in rows.values()}):
            line = [r for r in rows.values() if (r['width'], r['height']) == size]
            n, ms = [r['gaussians'] for r in line], [r[kind] for r in line]
            axis.loglog(n, ms, 'o-', label=f'{size[0]} x {size[1]}')
        axis.set_xlabel('Gaussians')
        axis.set_title('forward' if kind == 'forward_ms' else 'forward and backward')
        axis.grid(True, which='both', alpha=0.3)
    axes[0].set_ylabel('ms')
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == '__main__':
    tyro.cli(MeasureRasterizer).run()
