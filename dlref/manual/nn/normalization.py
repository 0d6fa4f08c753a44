"""Normalisation over the features of one sample: layer norm and root-mean-square norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..module import Manual
from ..op import call, op
from .common import wide


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
    x = wide(input)  # statistics in at least float32
    dims = _dims(normalized_shape)
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    rstd = (centred.square().mean(dims, keepdim=True) + eps).rsqrt()
    y = centred * rstd
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return y.to(input.dtype), (mean, rstd)


@layer_norm.gradient
def _(dy, saved, needs, input, normalized_shape, weight):
    r"""With $g = dy \odot \gamma$ and means over S: $dx = \rho\,(g - \overline{g} - \hat x\,\overline{g \odot \hat x}),
    \quad d\gamma = \sum dy \odot \hat x,\quad d\beta = \sum dy$.

    $\hat x$ is x projected off the constants and onto a sphere; the gradient is projected off both directions.
    """
    mean, rstd = saved
    dims = _dims(normalized_shape)
    x_hat = (input - mean) * rstd
    dx = None
    if needs.input:
        g = dy if weight is None else dy * weight
        dx = rstd * (g - g.mean(dims, keepdim=True) - x_hat * (g * x_hat).mean(dims, keepdim=True))
    return dx, None, dy * x_hat if needs.weight else None, dy


@layer_norm.prepare
def _(input, normalized_shape, weight, bias, eps):
    _check("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return input, normalized_shape, weight, bias, eps


@layer_norm.hard_samples
def _(tensor):
    yield call(tensor([[2.0, 2.0, 2.0]]), (3,))  # no variance
    yield call(tensor([[5.0], [-1.0]]), (1,), tensor([2.0]), tensor([1.0]))  # one feature
    yield call(tensor([[1e4, -1e4, 0.0]]), (3,), tensor([1.0, 0.0, -1.0]))  # large, no bias
    yield call(tensor([[1e-3, -1e-3, 2e-3]]), (3,), None, tensor([1.0, 2.0, 3.0]), 1e-12)  # below eps, no weight
    yield call(tensor([]).reshape(0, 2), (2,), tensor([1.0, 2.0]), tensor([0.0, 0.0]))  # an empty batch
    yield call(tensor([[[1.0, 2.0], [3.0, 5.0]]]), (2, 2), tensor([[1.0, 2.0], [3.0, 4.0]]))  # S of two dimensions


def _dims(normalized_shape):
    return tuple(range(-len(normalized_shape), 0))


@layer_norm.error_samples
def _(tensor):
    x = tensor([[1.0, 2.0]])
    yield RuntimeError, call(x, (3,))
    yield RuntimeError, call(x, ())
    yield RuntimeError, call(x, (2,), tensor([1.0]))
    yield RuntimeError, call(x, (2,), None, tensor([1.0, 2.0, 3.0]))


class LayerNorm(Manual, torch.nn.LayerNorm):
    op = layer_norm


@op(builtin=F.rms_norm, autocast={"cuda": "float32"})
def rms_norm(input, normalized_shape, weight=None, eps=None):
    r"""Root-mean-square norm: $y = x\,\rho \odot \gamma,\quad \rho = (\overline{x^2} + \epsilon)^{-1/2}$.

    input (*, *S), weight $\gamma$ of shape S, mean over S; output as input. eps is by default the machine epsilon of
    what is computed in (at least float32). RuntimeError where the input does not end in S. Zhang & Sennrich 2019,
    arXiv:1910.07467, eq. 4.
    """
    x = wide(input)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    rstd = (x.square().mean(_dims(normalized_shape), keepdim=True) + eps).rsqrt()
    y = x * rstd if weight is None else x * rstd * weight
    return y.to(input.dtype), (rstd,)


@rms_norm.gradient
def _(dy, saved, needs, input, normalized_shape, weight):
    r"""With $g = dy \odot \gamma,\ \hat x = x \rho$, means over S: $dx = \rho\,(g - \hat x\,\overline{g \odot \hat x})$,
    $d\gamma = \sum dy \odot \hat x$, as $\partial \hat x_i / \partial x_j = \rho\,([i = j] - \hat x_i \hat x_j / n)$.
    """
    (rstd,) = saved
    x_hat = (wide(input) * rstd).conj()
    dx = None
    if needs.input:
        g = wide(dy) if weight is None else dy * wide(weight).conj()
        dx = rstd.conj() * (g - x_hat * (g * x_hat).mean(_dims(normalized_shape), keepdim=True))
    return dx, None, dy * x_hat if needs.weight else None


@rms_norm.prepare
def _(input, normalized_shape, weight, eps):
    _check("rms_norm", input, normalized_shape, weight=weight)
    return input, normalized_shape, weight, eps


@rms_norm.hard_samples
def _(tensor):
    yield call(tensor([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]), (3,))  # no length
    yield call(tensor([[5.0], [-1.0]]), (1,), tensor([2.0]))  # one feature
    yield call(tensor([[1e4, -1e4, 0.0]]), (3,), tensor([1.0, 0.0, -1.0]))  # large
    yield call(tensor([[1e-3, -1e-3, 2e-3]]), (3,), None, 1e-12)  # small
    yield call(tensor([[1e-4, 1e-4]]), (2,), tensor([1.0, 2.0]), 1e-2)  # below eps
    yield call(tensor([]).reshape(0, 2), (2,), tensor([1.0, 2.0]))  # an empty batch
    yield call(tensor([[[1.0, 2.0], [3.0, 5.0]]]), (2, 2), tensor([[1.0, 2.0], [3.0, 4.0]]))  # S of two dimensions


class RMSNorm(Manual, torch.nn.RMSNorm):
    op = rms_norm
    attributes = {"normalized_shape": "normalized_shape", "weight": "weight", "eps": "eps"}
