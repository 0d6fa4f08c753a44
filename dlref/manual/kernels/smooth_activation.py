"""Fast forms of the smooth activations, of real numbers."""

from __future__ import annotations

import math

import torch

from ..nn.common import wide
from ..nn.smooth_activation import DENSITY, gelu, logsigmoid, sigmoid, silu, softplus, tanh
from .common import gated, log1p_exp, logistic, real, sech, where_zero


@sigmoid.kernel(where=real)
def sigmoid_forward(input):
    return logistic(wide(input)).to(input.dtype)


@sigmoid.kernel_gradient
def sigmoid_gradient(dy, input):
    s = sech(wide(input) / 2).mul_(0.5)
    return (dy * s).mul_(s)


@tanh.kernel_gradient(where=real)
def tanh_gradient(dy, input):
    s = sech(wide(input))
    return (dy * s).mul_(s)


@logsigmoid.kernel(where=real)
def logsigmoid_forward(input):
    return log1p_exp(-wide(input)).neg_().to(input.dtype)


@logsigmoid.kernel_gradient
def logsigmoid_gradient(dy, input):
    return logistic(-wide(input)).mul_(dy)


@softplus.kernel(where=lambda input, beta, threshold: input.is_floating_point() and threshold >= 0 and beta != 0)
def softplus_forward(input, beta, threshold):
    x = wide(input)
    z = x if beta == 1 else x * beta
    bend = z.abs().neg_().exp_().log1p_()  # 0 past the threshold, and the line
    bend = bend if beta == 1 else bend.div_(beta)
    line = x.clamp(min=0) if beta > 0 else x.clamp(max=0)
    return where_zero(bend, torch.le, z, threshold).add_(line).to(input.dtype)


@softplus.kernel_gradient
def softplus_gradient(dy, input, beta, threshold):
    z = wide(input) if beta == 1 else wide(input) * beta
    s = logistic(z)
    return torch.maximum(s, torch.gt(z, threshold, out=torch.empty_like(z)), out=s).mul_(dy)


@silu.kernel(where=real)
def silu_forward(input):
    x = wide(input)
    return gated(x, x).to(input.dtype)


@silu.kernel_gradient
def silu_gradient(dy, input):
    x = wide(input)
    return gated(gated(x, -x).add_(1), x).mul_(dy)


@gelu.kernel_gradient(where=lambda input, approximate: input.is_floating_point() and approximate == "none")
def gelu_gradient(dy, input):
    x = wide(input)
    h = x.clamp(-60, 60).square_().mul_(-0.25).exp_()  # beyond, its square is 0
    normal = (x * -math.sqrt(0.5)).erfc_().mul_(0.5)
    return (x * DENSITY).mul_(h).mul_(h).add_(normal).mul_(dy)
