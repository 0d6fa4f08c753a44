"""Fast forms of the activations in pieces."""

from __future__ import annotations

import torch

from ..nn.activation import (
    SELU_ALPHA,
    SELU_SCALE,
    celu,
    elu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    over_channels,
    prelu,
    relu,
    relu6,
    rrelu,
    selu,
    softshrink,
    threshold,
)
from ..nn.common import wide
from .common import real, select, where_zero, zero_where


@relu.kernel_gradient
def relu_gradient(dy, output):
    return where_zero(dy, torch.ne, output, 0)


@relu6.kernel_gradient
def relu6_gradient(dy, output):
    inside = 6 - output
    inside.mul_(output)  # positive inside: it cannot be rounded to 0
    return zero_where(dy, torch.le, inside, 0, inside)


@threshold.kernel(where=real)
def threshold_forward(input, threshold, value):
    return select(torch.le, wide(input), threshold, value, input)


@threshold.kernel_gradient
def threshold_gradient(dy, input, threshold):
    return zero_where(dy, torch.le, wide(input), threshold)


@leaky_relu.kernel
def leaky_relu_forward(input, negative_slope):
    x = wide(input)
    leaked = x * negative_slope
    if 0 < negative_slope <= 1:
        return torch.maximum(x, leaked, out=leaked).to(input.dtype)
    return select(torch.gt, x, 0, x, leaked).to(input.dtype)


@leaky_relu.kernel_gradient
def leaky_relu_gradient(dy, input, negative_slope):
    if 0 <= negative_slope <= 1:
        return torch.gt(input, 0, out=torch.empty_like(input)).clamp_(min=negative_slope).mul_(dy)
    return select(torch.gt, input, 0, dy, dy * negative_slope)


@prelu.kernel
def prelu_forward(input, weight):
    x = wide(input)
    return select(torch.gt, x, 0, x, x * over_channels(wide(weight), input)).to(input.dtype)


@prelu.kernel_gradient
def prelu_gradient(dy, needs, input, weight):
    x, w = wide(input), over_channels(wide(weight), input)
    dx = select(torch.gt, x, 0, wide(dy), dy * w) if needs.input else None
    dw = x.clamp(max=0).mul_(dy).sum_to_size(w.shape).reshape(weight.shape) if needs.weight else None
    return dx, dw


@rrelu.kernel
def rrelu_forward(input, slope):
    if isinstance(slope, torch.Tensor):  # 1 where x is positive
        return (wide(input) * slope).to(input.dtype)
    return leaky_relu_forward(input, slope)


@rrelu.kernel_gradient
def rrelu_gradient(dy, input, slope):
    return dy * slope if isinstance(slope, torch.Tensor) else leaky_relu_gradient(dy, input, slope)


def _exponential(input, alpha, scale=1.0, rate=1.0):
    """max(x, 0) and alpha (e^(r x) - 1) of min(x, 0), one of which is 0, times the scale."""
    x = wide(input)
    y = x.clamp(max=0)
    y = (y if rate == 1 else y.mul_(rate)).expm1_()
    y = y if scale * alpha == 1 else y.mul_(scale * alpha)
    return y.add_(x.clamp(min=0), alpha=scale).to(input.dtype)


def _exponential_gradient(dy, input, factor, scale=1.0, rate=1.0):
    x = wide(input)
    e = x.clamp(max=0)
    e = (e if rate == 1 else e.mul_(rate)).exp_()
    e = (e if factor == 1 else e.mul_(factor)).mul_(dy)
    return select(torch.le, x, 0, e, wide(dy) if scale == 1 else wide(dy) * scale)


@elu.kernel(where=lambda input, alpha: abs(alpha) < 1e4)
def elu_forward(input, alpha):
    return _exponential(input, alpha)


@elu.kernel_gradient
def elu_gradient(dy, input, alpha):
    return _exponential_gradient(dy, input, alpha)


@celu.kernel(where=lambda input, alpha: 1e-4 < abs(alpha) < 1e4)
def celu_forward(input, alpha):
    return _exponential(input, alpha, rate=1 / alpha)


@celu.kernel_gradient
def celu_gradient(dy, input, alpha):
    return _exponential_gradient(dy, input, 1.0, rate=1 / alpha)


@selu.kernel
def selu_forward(input):
    return _exponential(input, SELU_ALPHA, SELU_SCALE)


@selu.kernel_gradient
def selu_gradient(dy, input):
    return _exponential_gradient(dy, input, SELU_SCALE * SELU_ALPHA, SELU_SCALE)


@hardtanh.kernel_gradient(where=real)
def hardtanh_gradient(dy, input, min_val, max_val):
    x = wide(input)
    if -min_val == max_val:
        size = x.abs()
        return zero_where(dy, torch.ge, size, max_val, size)
    return zero_where(zero_where(dy, torch.le, x, min_val), torch.ge, x, max_val)


def _ramp(x):
    """A product takes a quarter of the time of a division, and 6 times 1/6 is 1."""
    return (x + 3).clamp_(0, 6).mul_(1 / 6)


@hardsigmoid.kernel
def hardsigmoid_forward(input):
    return _ramp(wide(input)).to(input.dtype)


@hardsigmoid.kernel_gradient
def hardsigmoid_gradient(dy, input):
    size = wide(input).abs()
    return where_zero(dy, torch.lt, size, 3, size).mul_(1 / 6)


@hardswish.kernel
def hardswish_forward(input):
    x = wide(input)
    return _ramp(x).mul_(x).to(input.dtype)


@hardswish.kernel_gradient
def hardswish_gradient(dy, input):
    # t + 1/2 with t = x / 3 from -1 to 1, where of each bound only half counts: of t and its fraction the mean
    t = wide(input).nan_to_num(3).clamp_(-3, 3).mul_(1 / 3)
    return torch.lerp(t, torch.frac(t), 0.5, out=t).add_(0.5).mul_(dy)


@hardshrink.kernel
def hardshrink_forward(input, lambd):
    size = wide(input).abs()
    return zero_where(input, torch.le, size, lambd, size).to(input.dtype)


@hardshrink.kernel_gradient
def hardshrink_gradient(dy, output, lambd):
    return where_zero(dy, torch.ne, output, 0) if lambd >= 0 else dy


@softshrink.kernel
def softshrink_forward(input, lambd):
    x = wide(input)
    near = x.clamp(-lambd, lambd)
    return torch.sub(x, near, out=near).to(input.dtype)


@softshrink.kernel_gradient
def softshrink_gradient(dy, input, lambd):
    size = wide(input).abs()
    return zero_where(dy, torch.le, size, lambd, size)
