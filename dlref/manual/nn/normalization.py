"""Normalisation within one sample: layer norm, root-mean-square norm, group norm, local response."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.compat import RMS_NORM_UNDER_AUTOCAST
from ...core.module import Manual
from ...core.pair import op
from ..windows import padded, windows
from .batchnorm import check_beside, check_channels
from .common import wide, widened
from .standardise import centred, unit


def _check(name, input, normalized_shape, **affine):
    """The errors of torch's normalisations: what S must be, and what came."""
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError(f"{name}(): normalized_shape must have at least one dimension, it is empty")
    if tuple(input.shape[-len(shape) :]) != shape:
        raise RuntimeError(f"{name}(): the input's last dimensions must be normalized_shape {shape}, the input has shape "
                           f"{tuple(input.shape)}")  # fmt: skip
    for which, tensor in affine.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise RuntimeError(f"{name}(): {which} must have normalized_shape {shape}, it has {tuple(tensor.shape)}")


@op(builtin=F.layer_norm, autocast={"cuda": "float32"})
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    r"""Layer normalisation: $y = \hat x \odot \gamma + \beta,\quad \hat x = (x - \mu)\,\rho,\quad
    \rho = (\sigma^2 + \epsilon)^{-1/2}$.

    input (*, *S), weight $\gamma$ and bias $\beta$ of shape S, mean and (biased) variance over S; output as input.
    RuntimeError where the input does not end in S. Ba et al. 2016, arXiv:1607.06450, eq. 4.
    """
    x, dims = wide(input), _dims(normalized_shape)
    scale, small = unit(x, dims, eps)
    x_centred, mean, rest = centred(x * scale, dims)
    rho = (x_centred.square().mean(dims, keepdim=True) + small).rsqrt()
    y = x_centred * rho
    y = y if weight is None else y * wide(weight)
    y = y if bias is None else y + wide(bias)
    return y.to(input.dtype), (scale, mean, rest, rho)


@layer_norm.gradient
def layer_norm_gradient(dy, saved, needs, input, normalized_shape, weight):
    r"""With $g = dy \odot \gamma$ and means over S: $dx = \rho\,(g - \overline{g} - \hat x\,\overline{g \odot \hat x}),
    \quad d\gamma = \sum dy \odot \hat x,\quad d\beta = \sum dy$.

    $\hat x$ is x projected off the constants and onto a sphere; the gradient is projected off both directions.
    """
    scale, mean, rest, rho = saved
    dims, dy, x_hat = _dims(normalized_shape), wide(dy), (wide(input) * scale - mean - rest) * rho
    dx = None
    if needs.input:
        g = dy if weight is None else dy * wide(weight)
        dx = rho * scale * (g - g.mean(dims, keepdim=True) - x_hat * (g * x_hat).mean(dims, keepdim=True))
    return dx, None, dy * x_hat if needs.weight else None, dy


class LayerNorm(Manual, torch.nn.LayerNorm):
    """The module of `layer_norm`, over its own `normalized_shape`."""

    op = layer_norm


@layer_norm.prepare
def layer_norm_prepare(input, normalized_shape, weight, bias, eps):
    _check("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    check_beside("layer_norm", input, weight=weight, bias=bias)
    return input, normalized_shape, weight, bias, eps


def _dims(normalized_shape):
    return tuple(range(-len(normalized_shape), 0))


@op(builtin=F.rms_norm, autocast={"cuda": "float32"} if RMS_NORM_UNDER_AUTOCAST else None)
def rms_norm(input, normalized_shape, weight=None, eps=None):
    r"""Root-mean-square norm: $y = x\,\rho \odot \gamma,\quad \rho = (\overline{x^2} + \epsilon)^{-1/2}$.

    input (*, *S), weight $\gamma$ of shape S, mean over S; output as input. eps is by default the machine epsilon of
    what is computed in (at least float32). RuntimeError where the input does not end in S. Zhang & Sennrich 2019,
    arXiv:1910.07467, eq. 4.
    """
    x, dims = wide(input), _dims(normalized_shape)
    scale, small = unit(x, dims, torch.finfo(x.dtype).eps if eps is None else eps)
    x = x * scale
    rho = (x.square().mean(dims, keepdim=True) + small).rsqrt()
    y = x * rho if weight is None else x * rho * weight
    return y.to(input.dtype), (scale, rho)


@rms_norm.gradient
def rms_norm_gradient(dy, saved, needs, input, normalized_shape, weight):
    r"""With $g = dy \odot \gamma,\ \hat x = x \rho$, means over S: $dx = \rho\,(g - \hat x\,\overline{g \odot \hat x})$,
    $d\gamma = \sum dy \odot \hat x$, as $\partial \hat x_i / \partial x_j = \rho\,([i = j] - \hat x_i \hat x_j / n)$.
    """
    scale, rho = saved
    dy, x_hat = wide(dy), (wide(input) * scale * rho).conj()
    dx = None
    if needs.input:
        g = dy if weight is None else dy * wide(weight).conj()
        dx = (rho * scale).conj() * (g - x_hat * (g * x_hat).mean(_dims(normalized_shape), keepdim=True))
    return dx, None, dy * x_hat if needs.weight else None


class RMSNorm(Manual, torch.nn.RMSNorm):
    """The module of `rms_norm`, over its own `normalized_shape`."""

    op = rms_norm
    attributes = {"normalized_shape": "normalized_shape", "weight": "weight", "eps": "eps"}


@rms_norm.prepare
def rms_norm_prepare(input, normalized_shape, weight, eps):
    _check("rms_norm", input, normalized_shape, weight=weight)
    return input, normalized_shape, weight, eps


@op(builtin=F.group_norm, autocast={"cuda": "float32"})
def group_norm(input, num_groups, weight, bias, eps):
    r"""Group normalisation: as layer norm over the channels and places of each of G groups of channels of a sample,
    $\hat x = (x - \mu)\,\rho$, then a scale and a shift for each channel: $y = \hat x \gamma + \beta$.

    input (N, C, *), G divides C, weight and bias (C,); output as input. RuntimeError where they do not fit. Wu & He 2018,
    arXiv:1803.08494, eq. 7.
    """
    x, dims = _grouped(wide(input), num_groups), (2, 3)
    scale, small = unit(x, dims, eps)
    x_centred, mean, rest = centred(x * scale, dims)
    rho = (x_centred.square().mean(dims, keepdim=True) + small).rsqrt()
    y = x_centred * rho
    y = y if weight is None else y * _over(wide(weight), num_groups)
    y = y if bias is None else y + _over(wide(bias), num_groups)
    return y.reshape(input.shape).to(input.dtype), (scale, mean, rest, rho)


@group_norm.gradient
def group_norm_gradient(dy, saved, needs, input, num_groups, weight):
    r"""With $g = dy \odot \gamma$ and means over a group: $dx = \rho\,(g - \overline{g} - \hat x\,\overline{g \odot \hat x})$,
    $d\gamma = \sum dy \odot \hat x,\quad d\beta = \sum dy$ over all but the channel."""
    scale, mean, rest, rho = saved
    dy, x = _grouped(wide(dy), num_groups), _grouped(wide(input), num_groups)
    x_hat = (x * scale - mean - rest) * rho
    dx = None
    if needs.input:
        g = dy if weight is None else dy * _over(wide(weight), num_groups)
        dx = rho * scale * (g - g.mean((2, 3), keepdim=True) - x_hat * (g * x_hat).mean((2, 3), keepdim=True))
        dx = dx.reshape(input.shape)
    return dx, None, (dy * x_hat).sum(3).sum(0).flatten(), dy.sum(3).sum(0).flatten()


class GroupNorm(Manual, torch.nn.GroupNorm):
    """The module of `group_norm`, with a weight and a bias for each channel."""

    op = group_norm


def _grouped(x, groups):
    """(N, C, *) as (N, G, C / G, places)."""
    return x.reshape(len(x), groups, x.shape[1] // groups, x.shape[2:].numel())


def _over(t, groups):
    """(C,) as (G, C / G, 1)."""
    return t.view(groups, -1, 1)


@group_norm.prepare
def group_norm_prepare(input, num_groups, weight=None, bias=None, eps=1e-5):
    if input.dim() < 2:
        raise RuntimeError(f"group_norm(): the input must be (N, C, *), it has shape {tuple(input.shape)}")
    if num_groups < 1 or input.shape[1] % num_groups:
        raise RuntimeError(f"group_norm(): num_groups must divide the {input.shape[1]} channels, it is {num_groups}")
    if 0 in input.shape[1:]:
        raise RuntimeError(f"group_norm(): only the batch may be empty, the input has shape {tuple(input.shape)}")
    if input.numel() == num_groups:
        raise ValueError(
            f"group_norm(): a group must have more than one value, the input has shape {tuple(input.shape)}"
        )
    check_channels("group_norm", input, weight=weight, bias=bias)
    check_beside("group_norm", input, weight=weight, bias=bias)
    return input, num_groups, weight, bias, eps


def _response(x, size, alpha, k):
    return k + alpha / size * _round(x.square(), size // 2, (size - 1) // 2)


def _round(x, before, after):
    """The sum over the channels from `before` before to `after` after each."""
    return windows(padded(x, 1, [(before, after)]), 1, (before + after + 1,), (1,), (1,)).sum(-1)


@op(builtin=F.local_response_norm, autocast={"cuda": "float32"})
def local_response_norm(input, size, alpha, beta, k):
    r"""$y_c = x_c\, d_c^{-\beta},\quad d_c = k + \frac{\alpha}{n} \sum_{c'} x_{c'}^2$ over the n channels round c.

    input (N, C, *); output as input. size: n; the window of channel c begins at $c - \lfloor n / 2 \rfloor$. ValueError
    where the input has fewer than 3 dimensions. Krizhevsky et al. 2012 (NIPS 25), section 3.3.
    """
    x = widened(input)
    return (x * _response(x, size, alpha, k).pow(-beta)).to(input.dtype)


@local_response_norm.gradient
def local_response_norm_gradient(dy, input, size, alpha, beta, k):
    r"""$dx_c = dy_c d_c^{-\beta} - \frac{2 \alpha \beta}{n} x_c \sum_{c'} dy_{c'} x_{c'} d_{c'}^{-\beta - 1}$, the sum over
    the channels c' whose window holds c."""
    dy, x = widened(dy), widened(input)
    d = _response(x, size, alpha, k)
    power = d.pow(-beta)
    past = _round(dy * x * power / d, (size - 1) // 2, size // 2)
    return dy * power - x * (2 * alpha * beta / size * past)


class LocalResponseNorm(Manual, torch.nn.LocalResponseNorm):
    """The module of `local_response_norm`."""

    op = local_response_norm


class CrossMapLRN2d(Manual, torch.nn.CrossMapLRN2d):
    r"""The module of `local_response_norm` over windows of as many channels before as behind: with an even size n they hold
    n - 1, of which the sum is still divided by n.

    (N, C, H, W); ValueError where the input has other dimensions.
    """

    op = local_response_norm

    def arguments(self):
        channels = self.size - 1 + self.size % 2
        return {**super().arguments(), "size": channels, "alpha": self.alpha * channels / self.size}

    def forward(self, input):
        return super().forward(_image(input))

    def explicit(self, input):
        return super().explicit(_image(input))


def _image(input):
    if input.dim() != 4:
        raise ValueError(f"CrossMapLRN2d: the input must have 4 dimensions, it has {input.dim()}")
    return input


@local_response_norm.prepare
def local_response_norm_prepare(input, size, alpha=1e-4, beta=0.75, k=1.0):
    if input.dim() < 3:
        raise ValueError(f"local_response_norm(): the input must have at least 3 dimensions, it has {input.dim()}")
    if size < 1:
        raise RuntimeError(f"local_response_norm(): size must be at least 1, it is {size}")
    return input, size, alpha, beta, k
