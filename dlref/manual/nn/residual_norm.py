"""What stands between the blocks of a deep network of sequences: the sum with its root-mean-square norm, and the tanh in its
place."""

from __future__ import annotations

import torch

from ...builtin import sequence as builtin
from ...builtin.nn import sequence as builtin_nn
from ...core.module import Manual
from ...core.pair import op
from .common import sech, wide
from .normalization import rms_norm


@op(builtin=builtin.add_rms_norm, outputs=("output", "total"))
def add_rms_norm(input, residual, weight, eps=1e-6):
    r"""Sum with what came before, and its root-mean-square norm: $h = x + r,\quad y = h\,\rho \odot \gamma,\quad
    \rho = (\overline{h^2} + \epsilon)^{-1/2}$; (y, h).

    input x and residual r (*, *S), weight $\gamma$ of shape S, mean over S; both outputs as input. In half precision what is
    normalised is h as it is returned. RuntimeError where shapes or dtypes do not fit. He et al. 2015, arXiv:1512.03385, eq. 1;
    Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
    """
    h = input + residual
    y, saved = rms_norm.forward(h, weight.shape, weight, eps)
    return (y, h), saved


@add_rms_norm.gradient
def add_rms_norm_gradient(dy, total, saved, needs, weight):
    r"""$dx = dr = dh + \rho\,(g - \hat h\,\overline{g \odot \hat h})$ with $g = dy \odot \gamma,\ \hat h = h \rho$ as in
    `rms_norm`; $d\gamma = \sum dy \odot \hat h$. The sum h and $\rho$, one a row, are kept, neither of what was added.
    """
    dy, dh = dy
    wanted = rms_norm.Each(needs.input or needs.residual, False, needs.weight, False)
    of_norm, _, dweight = rms_norm.pull(dy, saved, wanted, total, weight.shape, weight)
    both = None if of_norm is None else of_norm + dh
    return both, both, dweight


class AddRMSNorm(Manual, builtin_nn.AddRMSNorm):
    """The module of `add_rms_norm`."""

    op = add_rms_norm


@add_rms_norm.prepare
def add_rms_norm_prepare(input, residual, weight, eps=1e-6):
    builtin.check_add_rms_norm(input, residual, weight)
    return input, residual, weight, eps


@op(builtin=builtin.dynamic_tanh)
def dynamic_tanh(input, alpha, weight=None, bias=None):
    r"""Dynamic tanh, in the place of a norm: $y = \tanh(\alpha x) \odot \gamma + \beta$.

    input (*, *S), alpha $\alpha$ a number, of shape () or (1,), weight $\gamma$ and bias $\beta$ of shape S; output as input.
    RuntimeError where they do not fit. Zhu et al. 2025, arXiv:2503.10622, eq. 1.
    """
    y = torch.tanh(wide(alpha) * wide(input))
    y = y if weight is None else y * wide(weight)
    y = y if bias is None else y + wide(bias)
    return y.to(input.dtype)


@dynamic_tanh.gradient
def dynamic_tanh_gradient(dy, needs, input, alpha, weight):
    r"""With $u = \alpha x$ and $du = dy \odot \gamma \odot \mathrm{sech}^2 u$: $dx = \alpha\,du,\
    d\alpha = \sum du\,x,\quad d\gamma = \sum dy \odot \tanh u,\quad d\beta = \sum dy$."""
    dy, x, alpha = wide(dy), wide(input), wide(alpha)
    u = alpha * x
    du = (dy if weight is None else dy * wide(weight)) * sech(u).square()
    return alpha * du, du * x if needs.alpha else None, dy * torch.tanh(u) if needs.weight else None, dy


class DynamicTanh(Manual, builtin_nn.DynamicTanh):
    """The module of `dynamic_tanh`."""

    op = dynamic_tanh


@dynamic_tanh.prepare
def dynamic_tanh_prepare(input, alpha, weight=None, bias=None):
    builtin.check_dynamic_tanh(input, alpha, weight, bias)
    return input, alpha, weight, bias
