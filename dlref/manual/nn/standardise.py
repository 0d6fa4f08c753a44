"""What the normalisations share: numbers less their mean, in units of their deviation, as exact as the dtype allows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .common import own

Dims = tuple[int, ...]


def unit(x: Tensor, dims: Dims, eps: float) -> tuple[Tensor, Tensor]:
    r"""The scale $s = 2^{-k}$ that brings the largest $|x|$, or $\sqrt{|\epsilon|}$, between 1/2 and 1, and $s^2 \epsilon$.

    Then no square overflows, and none that counts is lost; a product with s is exact. Dimensions are kept.
    """
    x, kind = x.detach(), torch.finfo(x.dtype)
    size = x.abs() if x.is_complex() else x
    if x.numel():
        top = torch.maximum(size.amax(dims, keepdim=True), -size.amin(dims, keepdim=True))
    else:
        top = size.sum(dims, keepdim=True)
    root = abs(eps) ** 0.5 if abs(eps) ** 0.5 <= kind.max else math.inf  # which is infinite in this dtype
    top = top.clamp(min=max(root, kind.tiny)).clamp(max=kind.max / 4)
    scale = torch.exp2(-torch.ceil(torch.log2(top)))
    small = (scale * root).square()
    small = small.clamp(min=kind.tiny) if eps else small  # not 0: numbers without a deviation are 0 with any epsilon
    return scale, small * math.copysign(1, eps)


def standardised(x: Tensor, dims: Dims, eps: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    r"""$\hat x = (x - \mu)\,\rho,\ \rho = (\sigma^2 + \epsilon)^{-1/2}$ with mean and (biased) variance over `dims`; and
    (scale s, mean, rest, variance, $\rho$), all of $s x$ and with dimensions kept, of which `restandardised` makes it again.

    The mean of n numbers is rounded by more than their deviation where that is small beside it: what it lacks, `rest`, is the
    mean of what is left when it is subtracted (Chan, Golub & LeVeque 1983, The American
    Statistician 37, eq. 1.7). The derivative of the sum of the two is that of `rest` alone.
    """
    scale, small = unit(x, dims, eps)
    x = x * scale
    mean = x.detach().mean(dims, keepdim=True)
    x = torch.sub(x, mean, out=own(x))
    rest = x.mean(dims, keepdim=True)
    x = torch.sub(x, rest, out=own(x))
    variance = x.square().mean(dims, keepdim=True)
    rho = (variance + small).rsqrt()
    return torch.mul(x, rho, out=own(x)), (scale, mean, rest, variance, rho)


def restandardised(x: Tensor, scale: Tensor, mean: Tensor, rest: Tensor, rho: Tensor) -> Tensor:
    r"""$\hat x$ once more, of what `standardised` kept."""
    x = x * scale
    x = torch.sub(x, mean, out=own(x))
    x = torch.sub(x, rest, out=own(x))
    return torch.mul(x, rho, out=own(x))


def statistics(saved: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of x itself, of what `standardised` kept."""
    scale, mean, rest, variance, _ = saved
    return (mean + rest) / scale, variance / scale.square()


def summed(t: Tensor, dims: Dims, times: Tensor | None = None) -> Tensor:
    """The sum over dimensions of t, or of t times the other. Since its terms may cancel, those of float32 are multiplied and
    added in float64, as by torch's kernels on the CPU, on every device that has it."""
    kind = torch.float64 if t.dtype == torch.float32 and t.device.type != "mps" else t.dtype
    if times is None:
        return t.sum(dims, dtype=kind).to(t.dtype)
    terms = t.to(kind)
    return torch.mul(terms, times, out=None if terms is t else own(terms)).sum(dims).to(t.dtype)
