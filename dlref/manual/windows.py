"""Sliding windows and their transpose: what convolution, pooling, unfold and fold are made of.

Each is the other's gradient, so both are operations: a second derivative passes through one node, not one for each element
of the kernel.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from torch import Tensor

from ..core.pair import op


@op()
def windows(x: Tensor, dim: int, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    r"""Every window of x over the dimensions from `dim` on, as a view: (..., *L, ...) to (..., *O, ..., *K).

    $w_{o, k} = x_{o s + k d}$ with stride s and dilation d, $O = \lfloor (L - d (K - 1) - 1) / s \rfloor + 1$.
    """
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), dim):
        if x.shape[i] < (span := d * (k - 1) + 1):  # no window
            x = x.narrow(i, 0, 0).unsqueeze(-1)
            x = x.expand(*x.shape[:-1], k)
            continue
        x = x.unfold(i, span, s)
        if d > 1:
            x = x[..., ::d]
    return x


@windows.gradient
def windows_gradient(dy, x, dim, kernel, stride, dilation):
    r"""$dx = $ `overlap_add` of dy."""
    return overlap_add(dy, dim, x.shape[dim : dim + len(kernel)], stride, dilation)


@op()
def overlap_add(w: Tensor, dim: int, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    r"""The transpose of `windows`: (..., *O, ..., *K) to (..., *L, ...) with L = size, windows added where they overlap.

    $x_l = \sum_{o s + k d = l} w_{o, k}$, dimension by dimension: a term for each element k of the kernel, zero between the
    places $o s + k d$.
    """
    for i in reversed(range(len(size))):  # the last dimension is that of kernel i
        terms = (spaced(w[..., k], dim + i, size[i], k * dilation[i], stride[i]) for k in range(w.shape[-1]))
        w = functools.reduce(operator.add, terms)
    return w


@overlap_add.gradient
def overlap_add_gradient(dy, w, dim, size, stride, dilation):
    r"""$dw = $ `windows` of dy, of which the output's size takes the first."""
    n = len(size)
    found = windows(dy, dim, w.shape[-n:], stride, dilation)
    return found[(slice(None),) * dim + tuple(slice(o) for o in w.shape[dim : dim + n])]


def spaced(x: Tensor, dim: int, length: int, start: int, step: int) -> Tensor:
    """x with zeros around and between: element o of the dimension at start + o step, of `length` places."""
    number = x.shape[dim]
    zeros = x.new_zeros((*x.shape[:dim], length, *x.shape[dim + 1 :]))
    return zeros.slice_scatter(x, dim, start, start + step * (number - 1) + 1, step) if number else zeros


def padded(x: Tensor, dim: int, pads: Sequence[tuple[int, int]]) -> Tensor:
    """x with zeros (before, after) each of the dimensions from `dim` on; negative numbers cut off."""
    for i, (before, after) in enumerate(pads, dim):
        if before < 0 or after < 0:
            x = x.narrow(i, max(-before, 0), x.shape[i] + min(before, 0) + min(after, 0))
    grown = [(max(b, 0), max(a, 0)) for b, a in pads]
    if not any(map(any, grown)):
        return x
    size = [length + b + a for length, (b, a) in zip(x.shape[dim : dim + len(pads)], grown, strict=True)]
    y = x.new_zeros((*x.shape[:dim], *size, *x.shape[dim + len(pads) :]))
    inner = tuple(slice(b, n - a) for n, (b, a) in zip(size, grown, strict=True))
    y[(slice(None),) * dim + inner] = x
    return y


def ntuple(value: int | Sequence[int], n: int) -> tuple[int, ...]:
    """An option of torch's, one number for all dimensions or for each its own (one in a sequence counts for all)."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values * n if len(values) == 1 else values
