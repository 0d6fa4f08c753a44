"""Pools a dimension at a time: the largest and the sums of windows that are not copied."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from ..nn.common import wide, widened
from ..nn.pool_windows import Ints, Options, adaptive_elements, counts, elements, output_length
from ..nn.pooling import (
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    completed,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from ..windows import overlap_add, padded

# --- the largest ------------------------------------------------------------------------------------------------


def _largest(x: Tensor, by: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Comparisons are numbers: bools and `where` would take ten times as long. The index is one for the batch at first."""
    n = len(by)
    number = math.prod(x.shape[-n:])
    small = torch.int32 if number < 2**31 else torch.int64
    index = torch.arange(number, dtype=small, device=x.device).view(x.shape[-n:])
    for dim, at in zip(range(-1, -n - 1, -1), reversed(by), strict=True):
        best, chosen = x.index_select(dim, at[:, 0]), index.index_select(dim, at[:, 0])
        for k in range(1, at.shape[1]):
            candidate, other = x.index_select(dim, at[:, k]), index.index_select(dim, at[:, k])
            better = torch.gt(candidate, best, out=torch.empty_like(best, dtype=small))
            if x.is_floating_point():
                better += torch.ne(
                    candidate, candidate, out=torch.empty_like(best, dtype=small)
                )  # then it is not larger
            chosen = better.mul_(other - chosen).add_(chosen)
            best = torch.maximum(best, candidate)
        x, index = best, chosen
    return x, index.long().expand(x.shape).contiguous()


@max_pool1d.kernel
@max_pool2d.kernel
@max_pool3d.kernel
def max_pool_forward(input, options, ceil_mode):
    return _largest(input, elements(input, options, ceil_mode)), ()


@adaptive_max_pool1d.kernel
@adaptive_max_pool2d.kernel
@adaptive_max_pool3d.kernel
def adaptive_max_pool_forward(input, size):
    return _largest(input, adaptive_elements(input, size)), ()


def _scattered(dy: Tensor, indices: Tensor, size: Ints) -> Tensor:
    """As the definition has it, added to the zeros themselves."""
    flat = widened(dy).flatten(-len(size))
    zeros = flat.new_zeros((*flat.shape[:-1], math.prod(size)))
    return zeros.scatter_add_(-1, indices.flatten(-len(size)), flat).unflatten(-1, size)


@max_pool1d.kernel_gradient
@max_pool2d.kernel_gradient
@max_pool3d.kernel_gradient
def max_pool_gradient(dy, indices, shapes, options):
    return _scattered(dy[0], indices, tuple(shapes.input[-len(options) :]))


@adaptive_max_pool1d.kernel_gradient
@adaptive_max_pool2d.kernel_gradient
@adaptive_max_pool3d.kernel_gradient
def adaptive_max_pool_gradient(dy, indices, shapes, size):
    return _scattered(dy[0], indices, tuple(shapes.input[-len(size) :]))


# --- sums -------------------------------------------------------------------------------------------------------


def _total(x: Tensor, options: Options, ceil_mode: bool) -> Tensor:
    """The sum of each window, of views of a dimension at a time."""
    for dim, (k, s, p, _) in enumerate(options, x.dim() - len(options)):
        o = output_length(x.shape[dim], k, s, p, 1, ceil_mode)
        x = padded(x, dim, [(p, (o - 1) * s + k - x.shape[dim] - p)])
        before = (slice(None),) * dim
        views = [(*before, slice(i, i + s * (o - 1) + 1, s)) for i in range(k)]
        x = functools.reduce(operator.add, [x[view] for view in views])
    return x


def _untotal(y: Tensor, size: Ints, options: Options) -> Tensor:
    for dim, length, (k, s, p, _) in zip(range(y.dim() - len(size), y.dim()), size, options, strict=True):
        grown = max(p + length, (y.shape[dim] - 1) * s + k)
        y = overlap_add(y.unsqueeze(-1).expand(*y.shape, k), dim, [grown], [s], [1]).narrow(dim, p, length)
    return y


@avg_pool1d.kernel
@avg_pool2d.kernel
@avg_pool3d.kernel
def avg_pool_forward(input, options, ceil_mode, count_include_pad, divisor_override):
    y = _total(widened(input), options, ceil_mode)
    c = divisor_override or counts(input, options, ceil_mode, count_include_pad)
    exact = input.is_floating_point() or input.is_complex()
    return torch.div(y, c, rounding_mode=None if exact else "trunc").to(input.dtype)


@avg_pool1d.kernel_gradient
@avg_pool2d.kernel_gradient
@avg_pool3d.kernel_gradient
def avg_pool_gradient(dy, input, options, ceil_mode, count_include_pad, divisor_override):
    c = divisor_override or counts(input, options, ceil_mode, count_include_pad)
    return _untotal(wide(dy) / c, tuple(input.shape[-len(options) :]), options)


def _finite(input, norm_type, *_):
    return not math.isinf(norm_type)


@lp_pool1d.kernel(where=_finite)
@lp_pool2d.kernel(where=_finite)
@lp_pool3d.kernel(where=_finite)
def lp_pool_forward(input, norm_type, options, ceil_mode):
    y = completed(_total(wide(input).pow(norm_type), options, ceil_mode), input, options, ceil_mode)
    return y.pow(1.0 / norm_type).to(input.dtype)


@lp_pool1d.kernel_gradient
@lp_pool2d.kernel_gradient
@lp_pool3d.kernel_gradient
def lp_pool_gradient(dy, output, input, norm_type, options, ceil_mode):
    x, y = wide(input), wide(output)
    none = y == 0
    slope = y.masked_fill(none, 1).pow_(1 - norm_type).masked_fill_(none, 0)
    dsum = slope.mul_(dy) if slope.dtype == dy.dtype else slope * wide(dy)
    dsum = completed(dsum, input, options, ceil_mode)
    return _untotal(dsum, tuple(input.shape[-len(options) :]), options).mul_(x.pow(norm_type - 1))
