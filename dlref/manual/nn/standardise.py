"""What the normalisations share: numbers less their mean, in units of their deviation, as exact as the dtype allows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...core.modes import finest

Dims = tuple[int, ...]


def mean_of(t: Tensor, dims: Dims) -> Tensor:
    """The mean over dimensions, which are kept."""
    return t.mean(dims, keepdim=True)


def largest_of(top: Tensor) -> Tensor:
    """The largest number of all, of the largest here."""
    return top


def unit(x: Tensor, dims: Dims, eps: float, largest: Callable[[Tensor], Tensor] = largest_of) -> tuple[Tensor, Tensor]:
    r"""The scale $s = 2^{-k}$ that brings the largest $|x|$, or $\sqrt{|\epsilon|}$, between 1/2 and 1, and $s^2 \epsilon$.

    Then no square overflows, and none that counts is lost; a product with s is exact. Dimensions are kept.
    """
    x, kind = x.detach(), torch.finfo(x.dtype)
    size = x.abs() if x.is_complex() else x
    if x.numel():
        top = torch.maximum(size.amax(dims, keepdim=True), -size.amin(dims, keepdim=True))
    else:
        top = size.sum(dims, keepdim=True)
    top = largest(top)
    root = abs(eps) ** 0.5 if abs(eps) ** 0.5 <= kind.max else math.inf  # which is infinite in this dtype
    top = top.clamp(min=max(root, kind.tiny)).clamp(max=kind.max / 4)
    scale = torch.exp2(-torch.ceil(torch.log2(top)))
    small = (scale * root).square()
    small = small.clamp(min=kind.tiny) if eps else small  # not 0: numbers without a deviation are 0 with any epsilon
    return scale, small * math.copysign(1, eps)


def centred(
    x: Tensor, dims: Dims, mean_of: Callable[[Tensor, Dims], Tensor] = mean_of
) -> tuple[Tensor, Tensor, Tensor]:
    r"""$x - \mu$, and $\mu$ in two parts: the mean as it is rounded, and what that lacks.

    The mean of n numbers is rounded by more than their deviation where that is small beside it: what it lacks is the mean of
    what is left when it is subtracted (Chan, Golub & LeVeque 1983, The American Statistician 37, eq. 1.7). The derivative of
    the sum of the two is that of the second alone.
    """
    mean = mean_of(x.detach(), dims)
    rest = mean_of(x - mean, dims)
    return x - mean - rest, mean, rest


def summed(t: Tensor, dims: Dims, times: Tensor | None = None) -> Tensor:
    """The sum over dimensions of t, or of t times the other. Since its terms may cancel, those of float32 are multiplied and
    added in float64, as by torch's kernels on the CPU, on every device that has it."""
    kind = finest(t.device) if t.dtype == torch.float32 else t.dtype
    return (t.sum(dims, dtype=kind) if times is None else (t.to(kind) * times).sum(dims)).to(t.dtype)
