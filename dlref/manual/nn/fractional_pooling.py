"""Max pooling over windows whose steps are random and whose number is chosen: fractional max pooling.

One body serves images and volumes: L stands for the sizes of the input, O for those of the output, K for the windows'.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.module import Manual
from ...core.pair import op
from .common import contiguous, named
from .pool_windows import Ints, first_largest, scattered

INDEXED = ("output", "indices")


def starts(u: Tensor, length: int, o: int, k: int) -> Tensor:
    r"""Where the windows of one dimension begin, (N, C, O): $a_i = \lfloor \alpha (i + u) \rfloor - \lfloor \alpha u \rfloor$
    with $\alpha = (L - K) / (O - 1)$, the last at $L - K$; u (N, C) in [0, 1), in whose dtype torch takes these steps,
    but on a GPU at least in float32."""
    i = torch.arange(o, device=u.device)
    u = u if u.is_cpu or u.dtype == torch.float64 else u.float()
    u = u.unsqueeze(-1)
    alpha = torch.full_like(u, length - k) / torch.full_like(u, max(o - 1, 1))
    begin = ((i.to(u.dtype) + u) * alpha).long() - (u * alpha).long()
    return torch.where(i < o - 1, begin.clamp(0, length - k), length - k)  # rounding never leads over the end


def fractional_elements(samples: Tensor, size: Ints, output: Ints, kernel: Ints) -> Tensor:
    """The flat indices of each window's elements, (N, C, *O, K), K all of a window in their order."""
    n = len(size)
    index = torch.zeros((), dtype=torch.int64, device=samples.device)
    for d, (u, length, o, k) in enumerate(zip(samples.unbind(-1), size, output, kernel, strict=True)):
        at = starts(u, length, o, k).unsqueeze(-1) + torch.arange(k, device=u.device)  # (N, C, O, K)
        before, after = (1,) * d, (1,) * (n - 1 - d)
        index = index * length + at.view(*u.shape, *before, o, *after, *before, k, *after)
    return index.flatten(-n)


def fractional_max_pool(input, samples, output_size, kernel_size):
    r"""The largest element of each of O windows of one size, whose steps are random: $y_o = \max_{k < K} x_{a_o + k}$,
    $a_i = \lfloor \alpha (i + u) \rfloor - \lfloor \alpha u \rfloor$, $\alpha = (L - K) / (O - 1)$, the last window at the end.

    input (N, C, *L) or (C, *L), kernel_size K, output_size O, or output_ratio, which times L is O; output (N, C, *O), with
    return_indices the flat index of each largest element beside it, the first of equals. u of each channel and dimension is
    uniform in [0, 1), drawn as torch draws it, or _random_samples (N, C, 2 or 3), of images that of the last dimension first,
    of volumes last. ValueError where neither size nor ratio is given, RuntimeError where sizes or samples do not fit,
    NotImplementedError for integers. Graham 2014, arXiv:1412.6071, section 3 (pseudorandom, overlapping).
    """
    n = len(output_size)
    x = input if input.dim() == n + 2 else input.unsqueeze(0)
    index = fractional_elements(samples, tuple(x.shape[2:]), output_size, kernel_size)  # (N, C, *O, K)
    w = x.flatten(2).gather(2, index.flatten(2)).view(index.shape)
    k = first_largest(w)
    shape = (*input.shape[:-n], *output_size)
    return (w.amax(-1).view(shape), index.gather(-1, k).view(shape)), ()


def fractional_max_pool_gradient(dy, indices, shapes, output_size):
    r"""$dx_l = \sum_{o : \arg\max_o = l} dy_o$."""
    return scattered(dy[0], indices, tuple(shapes.input[-len(output_size) :]))


def _two(suffix=""):
    """The operations of images and of volumes."""
    for n in (2, 3):
        name = f"fractional_max_pool{n}d{suffix}"
        pool = op(builtin=getattr(F, name), autocast={"cpu": "float32"}, layout=contiguous, outputs=INDEXED)(
            named(fractional_max_pool, name)
        )
        pool.gradient(named(fractional_max_pool_gradient, f"{name}_gradient"))
        yield pool


fractional_max_pool2d, fractional_max_pool3d = _two()
fractional_max_pool2d_with_indices, fractional_max_pool3d_with_indices = _two("_with_indices")
ATTRIBUTES = {
    name: name for name in ("kernel_size", "output_size", "output_ratio", "return_indices", "_random_samples")
}


class FractionalMaxPool2d(Manual, torch.nn.FractionalMaxPool2d):
    """The module of `fractional_max_pool2d`."""

    op, attributes = fractional_max_pool2d, ATTRIBUTES


class FractionalMaxPool3d(Manual, torch.nn.FractionalMaxPool3d):
    """The module of `fractional_max_pool3d`."""

    op, attributes = fractional_max_pool3d, ATTRIBUTES


def _prepare(
    name, n, input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None
):
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name}(): output_size or output_ratio must be given")
    if input.dim() not in (n + 1, n + 2) or 0 in input.shape[1:]:
        raise RuntimeError(f"{name}(): the input must be (N, C, *L) or (C, *L), L of {n} dimensions, only the first may be 0, "
                           f"it has shape {tuple(input.shape)}")  # fmt: skip
    if not input.is_floating_point():
        raise NotImplementedError(f"{name}(): the input must be floating point, it is {input.dtype}: convert it first")
    size = tuple(input.shape[-n:])
    if output_size is None:
        ratio = tuple(output_ratio) if isinstance(output_ratio, Sequence) else (output_ratio,) * n
        if len(ratio) != n:
            raise ValueError(f"{name}(): output_ratio must be one number or {n}, it is {output_ratio}")
        output_size = tuple(int(length * r) for length, r in zip(size, ratio, strict=True))
    output, kernel = (tuple(v) if isinstance(v, Sequence) else (v,) * n for v in (output_size, kernel_size))
    if len(output) != n or len(kernel) != n:
        raise RuntimeError(f"{name}(): kernel_size and output_size must be one number or {n}, they are {kernel_size} and "
                           f"{output_size}")  # fmt: skip
    most = [length - k + (n == 2) for length, k in zip(size, kernel, strict=True)]  # torch leaves volumes a place more
    if min(kernel) < 1 or min(output) < 0 or any(o > m for o, m in zip(output, most, strict=True)):
        raise RuntimeError(f"{name}(): kernel_size must be at least 1 and output_size from 0 to {most} for it, they are "
                           f"{kernel} and {output}")  # fmt: skip
    batch, channels = input.shape[0] if input.dim() == n + 2 else 1, input.shape[-n - 1]
    if (samples := _random_samples) is None:
        samples = torch.rand((batch, channels, n), dtype=input.dtype, device=input.device)
    shape = tuple(samples.shape)
    if len(shape) != 3 or shape[0] < batch or shape[1] != channels or shape[2] != n or samples.dtype != input.dtype:
        raise RuntimeError(f"{name}(): _random_samples must be {input.dtype} of shape {(batch, channels, n)} or a larger N, "
                           f"they are {samples.dtype} of {shape}")  # fmt: skip
    samples = samples[:batch].detach()
    return input, samples.flip(-1) if n == 2 else samples, output, kernel  # of images the last dimension's comes first


def _with_indices(output, indices, return_indices):
    return (output, indices) if return_indices else output


for _n, _ops in ((2, (fractional_max_pool2d, fractional_max_pool2d_with_indices)),
                 (3, (fractional_max_pool3d, fractional_max_pool3d_with_indices))):  # fmt: skip
    for _op in _ops:
        _op.prepare(functools.partial(_prepare, _op.__name__, _n))
    _ops[0].finish(named(_with_indices, f"{_ops[0].__name__}_finish"))
