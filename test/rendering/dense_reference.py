"""The definition of the renderer: every Gaussian on every pixel, float64, plain autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from gs_pose_ros.gaussians import Gaussians
from gs_pose_ros.geometry.camera import Camera


def _sh_basis(d: Tensor, count: int) -> Tensor:
    x, y, z = d.unbind(-1)
    one = torch.ones_like(x)
    basis = [
        0.28209479177387814 * one,
        -0.4886025119029199 * y,
        0.4886025119029199 * z,
        -0.4886025119029199 * x,
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (3 * z * z - 1),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (x * x - y * y),
        -0.5900435899266435 * y * (3 * x * x - y * y),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (5 * z * z - 1),
        0.3731763325901154 * z * (5 * z * z - 3),
        -0.4570457994644658 * x * (5 * z * z - 1),
        1.445305721320277 * z * (x * x - y * y),
        -0.5900435899266435 * x * (x * x - 3 * y * y),
    ]
    return torch.stack(basis[:count], -1)


def _rotation(q: Tensor) -> Tensor:
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def render_dense(gaussians: Gaussians, camera: Camera, T: Tensor) -> Tensor:
    """[H, 5, W] like the backends: premultiplied colour, depth sum, alpha."""
    g = Gaussians(*(getattr(gaussians, n).double() for n in gaussians.__dataclass_fields__))
    T = T.double()
    W, t = T[:3, :3], T[:3, 3]
    p = g.means @ W.T + t
    order = p[:, 2].detach().argsort()
    z = p[:, 2]
    M = W @ _rotation(g.quats) * g.scales[:, None, :]
    cov = M @ M.transpose(1, 2)
    margin_x, margin_y = 0.15 * camera.width / camera.fx, 0.15 * camera.height / camera.fy
    tx = (p[:, 0] / z).clamp(
        -(camera.cx + 0.5) / camera.fx - margin_x,
        (camera.width - 0.5 - camera.cx) / camera.fx + margin_x,
    )
    ty = (p[:, 1] / z).clamp(
        -(camera.cy + 0.5) / camera.fy - margin_y,
        (camera.height - 0.5 - camera.cy) / camera.fy + margin_y,
    )
    zero = torch.zeros_like(z)
    J = torch.stack(
        [
            torch.stack([camera.fx / z, zero, -camera.fx * tx / z], -1),
            torch.stack([zero, camera.fy / z, -camera.fy * ty / z], -1),
        ],
        -2,
    )
    conic = torch.linalg.inv(J @ cov @ J.transpose(1, 2) + 0.3 * torch.eye(2, dtype=torch.float64))
    uv = torch.stack(
        [camera.fx * p[:, 0] / z + camera.cx, camera.fy * p[:, 1] / z + camera.cy], -1
    )
    direction = g.means + W.T @ t
    direction = direction / direction.norm(dim=-1, keepdim=True)
    basis = _sh_basis(direction, g.sh.shape[1])
    color = (torch.einsum('nk,nkc->nc', basis, g.sh) + 0.5).clamp(min=0)
    ys, xs = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing='ij')
    pixels = torch.stack([xs, ys], -1).double()
    T_pixel = torch.ones(camera.shape, dtype=torch.float64)
    done = torch.zeros(camera.shape, dtype=torch.bool)
    out = torch.zeros(camera.height, camera.width, 5, dtype=torch.float64)
    for i in order.tolist():
        if z[i] < 0.01 or g.opacities[i] < 1 / 255:
            continue
        d = pixels - uv[i]
        sigma = 0.5 * torch.einsum('hwi,ij,hwj->hw', d, conic[i], d)
        alpha = (g.opacities[i] * torch.exp(-sigma)).clamp(max=0.999)
        touched = (alpha >= 1 / 255) & ~done
        after = T_pixel * (1 - alpha)
        done = done | (touched & (after <= 1e-4))
        blended = touched & ~done
        w = torch.where(blended, alpha * T_pixel, 0.0)
        features = torch.cat([color[i], z[i][None], torch.ones(1, dtype=torch.float64)])
        out = out + w[..., None] * features
        T_pixel = torch.where(blended, after, T_pixel)
    return out.transpose(1, 2)
