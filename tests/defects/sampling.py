"""Errors of kernels that look up pixels by places, or pool by random windows, as public reports have them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from . import Kernel, defect

FLOAT32 = {"dtypes": ["float32"], "beyond": False}


@defect("grid_sample", "value", **FLOAT32)
def rows_first(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    return F.grid_sample(input, grid.flip(-1), mode, padding_mode, align_corners)  # the grid's x is taken for the row


@defect("grid_sample", "gradient", "constant factor", **FLOAT32)
class scaled_by_the_edges(Kernel):
    @staticmethod
    def forward(ctx, input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
        Kernel.keep(ctx, input, grid, mode, padding_mode, align_corners)
        return F.grid_sample(input, grid, mode, padding_mode, align_corners)

    @staticmethod
    def backward(ctx, dy):
        input, grid, *options = ctx.args
        with torch.enable_grad():
            x, g = input.detach().requires_grad_(), grid.detach().requires_grad_()
            dx, dgrid = torch.autograd.grad(F.grid_sample(x, g, *options), (x, g), dy)
        if options[-1]:
            sizes = torch.tensor(input.shape[2:], dtype=dgrid.dtype).flip(0)
            dgrid = dgrid * sizes / (sizes - 1).clamp(min=1)  # W / 2 of aligned corners too, not (W - 1) / 2
        return dx, dgrid, None, None, None


@defect("grid_sample", "value|gradient", "reflection|padding_mode", **FLOAT32)
def mirrored_at_the_centres(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    if padding_mode != "reflection" or align_corners or mode == "bicubic":
        return F.grid_sample(input, grid, mode, padding_mode, align_corners)
    sizes = torch.tensor(input.shape[2:], dtype=grid.dtype).flip(0)
    u = ((grid + 1) * sizes - 1) / 2
    span = (sizes - 1).clamp(min=1)
    u = (u - 2 * span * (u / (2 * span)).round()).abs()  # about the outer pixels' centres, whatever align_corners says
    return F.grid_sample(input, (2 * u + 1) / sizes - 1, mode, "border", False)


@defect("fractional_max_pool2d", "value", "from index 7 of dimension 2", **FLOAT32)
def without_an_end(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
    *batch, c, h, w = input.shape
    k = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    o = tuple(int(s * r) for s, r in zip((h, w), output_ratio, strict=True)) if output_size is None else output_size
    o = (o, o) if isinstance(o, int) else o
    u = _random_samples
    if u is None:
        u = torch.rand(batch[0] if batch else 1, c, 2, dtype=input.dtype)
    u = u[: batch[0] if batch else 1]
    x = input.reshape(-1, c, h, w)
    index = torch.zeros((), dtype=torch.int64)
    for d, (length, kd, od) in enumerate(zip((h, w), k, o, strict=True)):
        i, ud = torch.arange(od), u[..., 1 - d, None]
        alpha = (length - kd) / max(od - 1, 1)
        start = ((i + ud) * alpha).long() - (
            ud * alpha
        ).long()  # the last window is where its step leads, not at the end
        start = start.clamp(max=length - kd)
        at = start.unsqueeze(-1) + torch.arange(kd)
        index = index * length + at.reshape(*u.shape[:2], *((od, 1, kd, 1) if d == 0 else (1, od, 1, kd)))
    values = x.flatten(2).gather(2, index.flatten(2)).reshape(index.shape).flatten(-2)
    y, at = values.max(-1)
    shape = (*batch, c, *o)
    return (
        (y.reshape(shape), index.flatten(-2).gather(-1, at[..., None]).reshape(shape))
        if return_indices
        else y.reshape(shape)
    )
