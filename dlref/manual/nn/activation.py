"""Activations in pieces: the rectifiers, the exponential units, the piecewise linear ones.

A gradient is written with `where` over values that are finite on both branches (the argument of an exponential is clamped
first), because the branch that is not taken still has a derivative, and 0 times infinity is not 0.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F

from ...core.dtypes import Dtypes
from ...core.modes import finest
from ...core.module import Manual
from ...core.pair import op
from .common import wide, widened


def _integral(input, *numbers):
    """The numbers as they meet the input: rounded towards zero where it holds integers."""
    if input.dtype == torch.bool:
        raise NotImplementedError("the input must hold numbers, it holds bools: convert it first")
    return numbers if input.is_floating_point() or input.is_complex() else tuple(int(number) for number in numbers)


# --- rectifiers -------------------------------------------------------------------------------------------------


@op(builtin=F.relu)
def relu(input):
    r"""Rectified linear unit: $y = \max(x, 0)$; its gradient does not vanish for x > 0 (and is 0 at and below 0).

    Any shape; output as input. Nair & Hinton 2010.
    """
    return input.clamp(min=0)


@relu.gradient
def relu_gradient(dy, output):
    r"""$dx = dy\,[y > 0]$: only the output is kept."""
    return torch.where(output != 0, dy, 0)


class ReLU(Manual, torch.nn.ReLU):
    """The module of `relu`."""

    op = relu


@op(builtin=F.relu6)
def relu6(input):
    r"""Rectified linear unit that saturates: $y = \min(\max(x, 0), 6)$. Any shape; output as input.

    NotImplementedError for bools. Krizhevsky 2010 (Convolutional deep belief networks on CIFAR-10).
    """
    return input.clamp(*_integral(input, 0, 6))


@relu6.gradient
def relu6_gradient(dy, output):
    r"""$dx = dy\,[0 < y < 6]$: only the output is kept."""
    return torch.where((output <= 0) | (output >= 6), 0, dy)


class ReLU6(Manual, torch.nn.ReLU6):
    """The module of `relu6`."""

    op = relu6


@op(builtin=F.threshold)
def threshold(input, threshold, value):
    r"""$y = x$ where $x > \theta$, else the constant `value`. Any shape; output as input.

    NotImplementedError for bools.
    """
    threshold, value = _integral(input, threshold, value)
    x = widened(input)  # half precision would round the threshold
    return torch.where(x <= threshold, value, x).to(input.dtype)


@threshold.gradient
def threshold_gradient(dy, input, threshold):
    r"""$dx = dy\,[x > \theta]$."""
    return torch.where(wide(input) <= threshold, 0, dy)


class Threshold(Manual, torch.nn.Threshold):
    """The module of `threshold`."""

    op = threshold


@op(builtin=F.leaky_relu)
def leaky_relu(input, negative_slope=0.01):
    r"""Leaky rectifier: $y = x$ where $x > 0$, else $a x$. Any shape; output as input. Maas et al. 2013."""
    x = wide(input)
    return torch.where(x > 0, x, negative_slope * x).to(input.dtype)


@leaky_relu.gradient
def leaky_relu_gradient(dy, input, negative_slope):
    r"""$dx = dy$ where $x > 0$, else $a\,dy$ (at 0 too)."""
    return torch.where(input > 0, dy, negative_slope * dy)


class LeakyReLU(Manual, torch.nn.LeakyReLU):
    """The module of `leaky_relu`."""

    op = leaky_relu


@op(builtin=F.prelu, autocast="low", dtypes=Dtypes(one=("input", "weight")))
def prelu(input, weight):
    r"""Leaky rectifier whose slope is learnt: $y = x$ where $x > 0$, else $w_c x$.

    input (N, C, *), weight (C,), or of one element for all. RuntimeError for other shapes, or another dtype.
    He et al. 2015, arXiv:1502.01852, eq. 1.
    """
    x, w = wide(input), over_channels(wide(weight), input)
    return torch.where(x > 0, x, w * x).to(input.dtype)


@prelu.gradient
def prelu_gradient(dy, needs, input, weight):
    r"""$dx = dy$ where $x > 0$, else $w_c\,dy$; $dw_c = \sum dy\,\min(x, 0)$ over all of channel c."""
    x, w = wide(input), over_channels(wide(weight), input)
    dx = torch.where(x > 0, dy, w * dy) if needs.input else None
    # min(x, 0) has at 0 the slope of w x, as dx has it
    dw = (torch.where(x > 0, 0, x) * dy).sum_to_size(w.shape).reshape(weight.shape) if needs.weight else None
    return dx, dw


class PReLU(Manual, torch.nn.PReLU):
    """The module of `prelu`. Its slope `weight` is learnt: one, or `num_parameters` for the channels."""

    op = prelu


def over_channels(weight, input):
    """The weight of each channel along the input's second dimension."""
    return weight.reshape((-1, *(1 for _ in input.shape[2:])) if input.dim() else ())


@prelu.prepare
def prelu_prepare(input, weight):
    channels = input.shape[1] if input.dim() > 1 else 1
    if weight.dim() > 1 or weight.numel() not in (1, channels):
        raise RuntimeError(f"prelu(): weight must be one number, or one for each of the {channels} channels; it has shape "
                           f"{tuple(weight.shape)}")  # fmt: skip
    return input, weight


@op(builtin=F.rrelu)
def rrelu(input, slope):
    r"""Leaky rectifier of a random slope: $y = x$ where $x > 0$, else $a x$, $a \sim U(l, u)$ for each element in
    training, $a = (l + u) / 2$ after it.

    Any shape; output as input. RuntimeError where the bounds are not finite or l > u. Xu et al. 2015, arXiv:1505.00853.
    """
    x = wide(input)
    return torch.where(x > 0, x, slope * x).to(input.dtype)


@rrelu.gradient
def rrelu_gradient(dy, input, slope):
    r"""$dx = dy$ where $x > 0$, else $a\,dy$."""
    return torch.where(input > 0, dy, slope * dy)


class RReLU(Manual, torch.nn.RReLU):
    """The module of `rrelu`. A slope for each element is drawn in training alone."""

    op = rrelu


@rrelu.prepare
def rrelu_prepare(input, lower, upper, training):
    if not (math.isfinite(lower) and math.isfinite(upper) and lower <= upper):
        raise RuntimeError(f"rrelu(): the bounds must be finite, lower at most upper; they are {lower} and {upper}")
    if not training:
        return input, (lower + upper) / 2
    # One draw in double precision for each x <= 0, in their order: with the same generator, torch's numbers on the CPU.
    drawn = torch.rand(input.numel() or 1, dtype=finest(input.device), device=input.device) * (upper - lower) + lower
    negative = wide(input.detach()) <= 0
    rank = negative.flatten().cumsum(0).sub(1).clamp(min=0)
    slope = torch.where(negative, drawn[rank].reshape(input.shape), 1)
    return input, slope.to(wide(input).dtype)


# --- exponential units ------------------------------------------------------------------------------------------


@op(builtin=F.elu)
def elu(input, alpha=1.0):
    r"""Exponential linear unit: $y = x$ where $x > 0$, else $\alpha (e^x - 1)$.

    Any shape; output as input. Clevert et al. 2016, arXiv:1511.07289, eq. 15.
    """
    x = wide(input)
    return torch.where(x < 0, alpha * torch.expm1(x.clamp(max=0)), x).to(input.dtype)


@elu.gradient
def elu_gradient(dy, input, alpha):
    r"""$dx = dy$ where $x > 0$, else $\alpha e^x dy$: of the input, as $y + \alpha$ would cancel."""
    x = wide(input)
    return torch.where(x <= 0, alpha * torch.exp(x.clamp(max=0)) * dy, dy)


class ELU(Manual, torch.nn.ELU):
    """The module of `elu`."""

    op = elu


@op(builtin=F.celu)
def celu(input, alpha=1.0):
    r"""Continuously differentiable ELU: $y = x$ where $x > 0$, else $\alpha (e^{x / \alpha} - 1)$.

    Any shape; output as input. RuntimeError where alpha is 0. Barron 2017, arXiv:1704.07483, eq. 2.
    """
    x = wide(input)
    return torch.where(x < 0, alpha * torch.expm1(x.clamp(max=0) * reciprocal(alpha, x)), x).to(input.dtype)


@celu.gradient
def celu_gradient(dy, input, alpha):
    r"""$dx = dy$ where $x > 0$, else $e^{x / \alpha} dy$."""
    x = wide(input)
    return torch.where(x <= 0, torch.exp(x.clamp(max=0) * reciprocal(alpha, x)) * dy, dy)


class CELU(Manual, torch.nn.CELU):
    """The module of `celu`."""

    op = celu


def reciprocal(alpha, x):
    """1 / alpha, no larger than x's dtype holds, as infinity times an x of 0 would be NaN."""
    largest = torch.finfo(x.dtype).max
    return min(max(1 / alpha, -largest), largest)


@celu.prepare
def celu_prepare(input, alpha):
    if alpha == 0:
        raise RuntimeError("celu(): alpha must not be 0, x is divided by it")
    return input, alpha


# The fixed point of mean 0 and variance 1, Klambauer et al. 2017, eq. 14.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@op(builtin=F.selu)
def selu(input):
    r"""Self-normalising unit: $y = \lambda x$ where $x > 0$, else $\lambda \alpha (e^x - 1)$, with the constants that keep
    mean 0 and variance 1 through the layers.

    Any shape; output as input. Klambauer et al. 2017, arXiv:1706.02515, eq. 2.
    """
    x = wide(input)
    return (SELU_SCALE * torch.where(x < 0, SELU_ALPHA * torch.expm1(x.clamp(max=0)), x)).to(input.dtype)


@selu.gradient
def selu_gradient(dy, input):
    r"""$dx = \lambda\,dy$ where $x > 0$, else $\lambda \alpha e^x dy$."""
    x = wide(input)
    return torch.where(x <= 0, SELU_SCALE * SELU_ALPHA * torch.exp(x.clamp(max=0)) * dy, SELU_SCALE * dy)


class SELU(Manual, torch.nn.SELU):
    """The module of `selu`."""

    op = selu


# --- piecewise linear -------------------------------------------------------------------------------------------


@op(builtin=F.hardtanh)
def hardtanh(input, min_val=-1.0, max_val=1.0):
    r"""$y = \min(\max(x, l), u)$. Any shape; output as input. ValueError where l > u.

    NotImplementedError for bools. Collobert 2004 (Large scale machine learning).
    """
    return input.clamp(*_integral(input, min_val, max_val))


@hardtanh.gradient
def hardtanh_gradient(dy, input, min_val, max_val):
    r"""$dx = dy\,[l < x < u]$."""
    x = wide(input)  # half precision would round the bounds
    return torch.where((x <= min_val) | (x >= max_val), 0, dy)


class Hardtanh(Manual, torch.nn.Hardtanh):
    """The module of `hardtanh`."""

    op = hardtanh


@hardtanh.prepare
def hardtanh_prepare(input, min_val, max_val):
    if min_val > max_val:
        raise ValueError(f"hardtanh(): min_val must not exceed max_val, they are {min_val} and {max_val}")
    return input, min_val, max_val


@op(builtin=F.hardsigmoid)
def hardsigmoid(input):
    r"""Piecewise linear sigmoid: $y = \min(\max(x + 3, 0), 6) / 6$. Any shape; output as input.

    Howard et al. 2019, arXiv:1905.02244, section 5.2.
    """
    return ((wide(input) + 3).clamp(0, 6) / 6).to(input.dtype)


@hardsigmoid.gradient
def hardsigmoid_gradient(dy, input):
    r"""$dx = dy / 6$ where $-3 < x < 3$, else 0."""
    return torch.where(wide(input).abs() < 3, dy / 6, 0)


class Hardsigmoid(Manual, torch.nn.Hardsigmoid):
    """The module of `hardsigmoid`."""

    op = hardsigmoid


@op(builtin=F.hardswish)
def hardswish(input):
    r"""Piecewise SiLU: $y = x\,\min(\max(x + 3, 0), 6) / 6$. Any shape; output as input.

    Howard et al. 2019, arXiv:1905.02244, section 5.2.
    """
    x = wide(input)
    return (x * ((x + 3).clamp(0, 6) / 6)).to(input.dtype)


@hardswish.gradient
def hardswish_gradient(dy, input):
    r"""$dx = 0$ where $x \le -3$, $dy\,(x / 3 + 1 / 2)$ where $x < 3$, else $dy$."""
    x = wide(input)
    return torch.where(x <= -3, 0, torch.where(x < 3, dy * (x / 3 + 0.5), dy))


class Hardswish(Manual, torch.nn.Hardswish):
    """The module of `hardswish`."""

    op = hardswish


@op(builtin=F.hardshrink)
def hardshrink(input, lambd=0.5):
    r"""$y = x$ where $|x| > \lambda$, else 0. Any shape; output as input. Donoho & Johnstone 1994 (Biometrika 81)."""
    return torch.where(wide(input).abs() <= lambd, 0, input)


@hardshrink.gradient
def hardshrink_gradient(dy, output, lambd):
    r"""$dx = dy\,[y \ne 0]$: only the output is kept."""
    return torch.where(output != 0, dy, 0) if lambd >= 0 else dy


class Hardshrink(Manual, torch.nn.Hardshrink):
    """The module of `hardshrink`."""

    op = hardshrink


@op(builtin=F.softshrink)
def softshrink(input, lambd=0.5):
    r"""$y = \mathrm{sign}(x)\,\max(|x| - \lambda, 0) = x - \min(\max(x, -\lambda), \lambda)$.

    Any shape; output as input. RuntimeError where lambda < 0. Donoho & Johnstone 1994 (Biometrika 81).
    """
    x = wide(input)
    return (x - x.clamp(-lambd, lambd)).to(input.dtype)


@softshrink.gradient
def softshrink_gradient(dy, input, lambd):
    r"""$dx = dy\,[|x| > \lambda]$."""
    return torch.where(wide(input).abs() <= lambd, 0, dy)


class Softshrink(Manual, torch.nn.Softshrink):
    """The module of `softshrink`."""

    op = softshrink


@softshrink.prepare
def softshrink_prepare(input, lambd=0.5):
    if not lambd >= 0:
        raise RuntimeError(f"softshrink(): lambd must not be negative, it is {lambd}")
    return input, lambd


# torch.nn.functional's names with an underscore: the operation writes over its input.
(threshold_, relu_, leaky_relu_, rrelu_, elu_, celu_, selu_, hardtanh_) = (
    functools.partial(operation, inplace=True)
    for operation in (threshold, relu, leaky_relu, rrelu, elu, celu, selu, hardtanh)
)
