"""Fast forms of the activations in pieces."""

from __future__ import annotations

import torch

from ..nn.activation import leaky_relu, relu, relu6, threshold
from ..nn.common import wide
from .common import select, where_zero, zero_where


@relu.kernel_gradient
def relu_gradient(dy, output):
    return where_zero(dy, torch.ne, output, 0)


@relu6.kernel_gradient
def relu6_gradient(dy, output):
    inside = 6 - output
    inside.mul_(output)  # positive inside: it cannot be rounded to 0
    return zero_where(dy, torch.le, inside, 0, inside)


def _real(input, *_):
    return input.is_floating_point()


@threshold.kernel(where=_real)
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
