"""Dropout: what is kept is drawn before the operation, which takes the mask as an argument."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from .common import HALF, named, warn, wide


def _identity(input, p, training):
    """Whether nothing is dropped; the errors that torch raises first."""
    if not 0 <= p <= 1:
        raise ValueError(f"the dropout probability must lie in [0, 1], it is {p}")
    if not training or p == 0 or not input.numel():
        return True
    if not (input.is_floating_point() or input.is_complex()):
        raise RuntimeError(f"the input of dropout must be floating point, it is {input.dtype}: convert it first")
    return False


def _kept(input, p, shape=None):
    """A mask of bytes, each 1 with probability 1 - p, of the given shape or one for each element of the input.

    Drawn in the order of the input's memory, as torch draws: with the same generator, the same mask on the CPU. Bools are
    as small, but a product with them is slow in what torch.compile makes of it.
    """
    stride = (
        torch.empty_like(input).stride if 0 in input.stride() else input.stride
    )  # of what is expanded that of a copy
    order = sorted(range(input.dim()), key=stride, reverse=True) if shape is None else list(range(len(shape)))
    shape = input.shape if shape is None else shape
    mask = torch.empty([shape[d] for d in order], dtype=torch.uint8, device=input.device)
    # torch draws nothing where all is dropped
    mask = torch.zeros_like(mask) if p == 1 else torch.bernoulli(mask, 1 - p)
    return mask.permute([order.index(d) for d in range(len(order))])


def _scale(p):
    return 1 / (1 - p) if p < 1 else 0.0


# --- dropout of elements ----------------------------------------------------------------------------------------


@op(builtin=F.dropout)
def dropout(input, mask, scale):
    r"""In training, $y = x \odot m / (1 - p)$, each element of m 1 with probability 1 - p, else 0; after it $y = x$.

    Any shape; output as input. ValueError where p is no probability. Srivastava et al. 2014 (JMLR 15), sections 4
    and 10 (there p is the probability to keep).
    """
    return input * mask * scale


@dropout.gradient
def dropout_gradient(dy, mask, scale):
    r"""$dx = dy \odot m / (1 - p)$."""
    return dy * mask * scale


class Dropout(Manual, torch.nn.Dropout):
    """The module of `dropout`."""

    op = dropout


@dropout.prepare
def dropout_prepare(input, p, training):
    return None if _identity(input, p, training) else (input, _kept(input, p), _scale(p))


# --- dropout of channels ----------------------------------------------------------------------------------------


def channel_dropout(input, mask, scale):
    r"""`dropout` of whole channels: $y = x \odot m / (1 - p)$, one m for each (n, c) of the input (N, C, *L), or c of (C, *L).

    Output as input. dropout1d raises RuntimeError for other dimensions; dropout2d, which takes (C, *L) for (N, C, L), and
    dropout3d warn of them, as torch does. Tompson et al. 2015, arXiv:1411.4280, section 3.2.
    """
    return (input * (mask * scale)).to(input.dtype)


def channel_dropout_gradient(dy, mask, scale):
    r"""$dx = dy \odot m / (1 - p)$."""
    return dy * (mask * scale)


dropout1d, dropout2d, dropout3d = (
    op(builtin=getattr(F, name))(named(channel_dropout, name)) for name in ("dropout1d", "dropout2d", "dropout3d")
)
for _op in (dropout1d, dropout2d, dropout3d):
    _op.gradient(named(channel_dropout_gradient, f"{_op.__name__}_gradient"))


class Dropout1d(Manual, torch.nn.Dropout1d):
    """The module of `dropout1d`."""

    op = dropout1d


class Dropout2d(Manual, torch.nn.Dropout2d):
    """The module of `dropout2d`."""

    op = dropout2d


class Dropout3d(Manual, torch.nn.Dropout3d):
    """The module of `dropout3d`."""

    op = dropout3d


def _kept_channels(name, input, p, batched):
    """A mask to compute with, one number for each channel: (N, C, 1, ...), or (C, 1, ...) where there is no batch."""
    if input.dim() < (2 if batched else 1):
        raise RuntimeError(f"{name}(): the input must have a dimension of channels, it has {input.dim()} dimensions")
    kept = 2 if batched else 1
    mask = _kept(input, p, (*input.shape[:kept], *(1 for _ in input.shape[kept:])))
    return mask.to(torch.float32 if input.dtype in HALF else input.dtype)


@dropout1d.prepare
def dropout1d_prepare(input, p, training):
    identity = _identity(input, p, training)
    if input.dim() not in (2, 3):
        raise RuntimeError(f"dropout1d(): the input must be (C, L) or (N, C, L), it has {input.dim()} dimensions")
    return None if identity else (input, _kept_channels("dropout1d", input, p, input.dim() == 3), _scale(p))


@dropout2d.prepare
def dropout2d_prepare(input, p, training):
    identity = _identity(input, p, training)
    if input.dim() != 4:
        meant = "it is taken for (N, C, L): use dropout1d" if input.dim() == 3 else "this is deprecated: use dropout"
        warn(f"dropout2d(): the input should be (N, C, H, W), it has {input.dim()} dimensions; {meant}")
    return None if identity else (input, _kept_channels("dropout2d", input, p, True), _scale(p))


@dropout3d.prepare
def dropout3d_prepare(input, p, training):
    identity = _identity(input, p, training)
    if input.dim() not in (4, 5):
        warn("dropout3d(): the input should be (C, D, H, W) or (N, C, D, H, W), it has "
             f"{input.dim()} dimensions; this is deprecated: use dropout")  # fmt: skip
    return None if identity else (input, _kept_channels("dropout3d", input, p, input.dim() == 5), _scale(p))


# --- dropout that keeps mean and variance -----------------------------------------------------------------------

SATURATION = -1.7580993408473766  # -lambda alpha of SELU, its limit at -infinity


@op(builtin=F.alpha_dropout)
def alpha_dropout(input, mask, a, b):
    r"""Dropout after SELU: in training $y = a\,(x \odot m + \alpha' (1 - m)) + b$, m 1 with probability 1 - p, else 0.

    $\alpha' = -\lambda \alpha$ is what SELU saturates at, $a = ((1 - p)(1 + p \alpha'^2))^{-1/2},\ b = -a p \alpha'$ keep
    mean 0 and variance 1. Any shape; output as input. Klambauer et al. 2017, arXiv:1706.02515, section 3.
    """
    x = wide(input)
    m = mask.to(x.dtype)
    return torch.addcmul(a * SATURATION * (1 - m) + b, x, a * m).to(input.dtype)


@alpha_dropout.gradient
def alpha_dropout_gradient(dy, mask, a):
    r"""$dx = a\,dy \odot m$."""
    return dy * mask * a


class AlphaDropout(Manual, torch.nn.AlphaDropout):
    """The module of `alpha_dropout`. It drops in training alone."""

    op = alpha_dropout
    attributes = {"p": "p", "training": "training"}  # torch's module does not work in place either


def _affine(p):
    r"""a and b of alpha dropout, 0 where all is dropped."""
    if p == 1:
        return 0.0, 0.0
    a = ((1 - p) * (1 + p * SATURATION**2)) ** -0.5
    return a, -a * p * SATURATION


@alpha_dropout.prepare
def alpha_dropout_prepare(input, p, training):
    return None if _identity(input, p, training) else (input, _kept(input, p), *_affine(p))


@op(builtin=F.feature_alpha_dropout)
def feature_alpha_dropout(input, mask, a, b):
    r"""`alpha_dropout` of channels: $y = a\,(x \odot m + \alpha' (1 - m)) + b$, one m for each (n, c) of (N, C, *).

    RuntimeError where there are no channels. Klambauer et al. 2017, arXiv:1706.02515; Tompson et al. 2014, arXiv:1411.4280.
    """
    return torch.addcmul(a * SATURATION * (1 - mask) + b, wide(input), a * mask).to(input.dtype)


@feature_alpha_dropout.gradient
def feature_alpha_dropout_gradient(dy, mask, a):
    r"""$dx = a\,dy \odot m$."""
    return dy * (a * mask)


class FeatureAlphaDropout(Manual, torch.nn.FeatureAlphaDropout):
    """The module of `feature_alpha_dropout`."""

    op = feature_alpha_dropout
    attributes = {"p": "p", "training": "training"}


@feature_alpha_dropout.prepare
def feature_alpha_dropout_prepare(input, p, training):
    if _identity(input, p, training):
        return None
    return input, _kept_channels("feature_alpha_dropout", input, p, True), *_affine(p)
