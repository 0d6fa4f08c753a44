"""Activations in pieces: the rectifiers, the exponential units, the piecewise linear ones.

A gradient is written with `where` over values that are finite on both branches (the argument of an exponential is clamped
first), because the branch that is not taken still has a derivative, and 0 times infinity is not 0.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F

from ..module import Manual
from ..op import call, op
from .common import own, plain, select, where_zero, wide, zero_where

INF, NAN = float("inf"), float("nan")


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
def _(dy, output):
    r"""$dx = dy\,[y > 0]$: only the output is kept."""
    return where_zero(dy, torch.ne, output, 0)


@relu.hard_samples
def _(tensor):
    yield call(tensor([-1.0, -0.0, 0.0, 1e-30, 1.0, INF, -INF, NAN]))


@relu.equation
def _(sp, input):
    return sp.Piecewise((input, input > 0), (0, True))


class ReLU(Manual, torch.nn.ReLU):
    op = relu


@op(builtin=F.relu6)
def relu6(input):
    r"""Rectified linear unit that saturates: $y = \min(\max(x, 0), 6)$. Krizhevsky 2010."""
    return input.clamp(*_integral(input, 0, 6))


@relu6.gradient
def _(dy, output):
    r"""$dx = dy\,[0 < y < 6]$: only the output is kept."""
    inside = 6 - output
    inside = torch.mul(inside, output, out=own(inside))  # positive: it cannot be rounded to 0
    return zero_where(dy, torch.le, inside, 0, own(inside))


@relu6.hard_samples
def _(tensor):
    yield call(tensor([-1.0, -0.0, 0.0, 1e-30, 3.0, 6.0, 7.0, INF, -INF]))
    yield call(tensor([NAN]))
    yield call(tensor([]))


@relu6.equation
def _(sp, input):
    return sp.Piecewise((0, input <= 0), (input, input < 6), (6, True))


class ReLU6(Manual, torch.nn.ReLU6):
    op = relu6


@op(builtin=F.threshold)
def threshold(input, threshold, value):
    r"""$y = x$ where $x > \theta$, else the constant `value`. Any shape; output as input."""
    threshold, value = _integral(input, threshold, value)
    above = wide(input) if input.is_floating_point() else input  # half precision would round the threshold
    return select(torch.le, above, threshold, value, input).to(input.dtype)


@threshold.gradient
def _(dy, input, threshold):
    r"""$dx = dy\,[x > \theta]$."""
    return zero_where(dy, torch.le, wide(input), threshold)


@threshold.hard_samples
def _(tensor):
    yield call(tensor([-1.0, 0.0, 0.5, 0.7, 1.0, INF, -INF, NAN]), 0.5, -1.0)
    yield call(tensor([0.69, 0.7, 0.71, 0.0]), 0.7, 20.0)  # half precision cannot hold the threshold
    yield call(tensor([]), 0.0, 1.0)


@threshold.equation
def _(sp, input, threshold, value):
    return sp.Piecewise((input, input > threshold), (value, True))


class Threshold(Manual, torch.nn.Threshold):
    op = threshold


def _leak(x, slope):
    """$x$ where it is positive, else $a x$."""
    leaked = x * slope
    if plain() and isinstance(slope, float) and 0 < slope <= 1:
        return torch.maximum(x, leaked, out=leaked)
    return select(torch.gt, x, 0, x, leaked)


@op(builtin=F.leaky_relu)
def leaky_relu(input, negative_slope=0.01):
    r"""Leaky rectifier: $y = x$ where $x > 0$, else $a x$. Any shape; output as input. Maas et al. 2013."""
    return _leak(wide(input), negative_slope).to(input.dtype)


@leaky_relu.gradient
def _(dy, input, negative_slope):
    r"""$dx = dy$ where $x > 0$, else $a\,dy$ (at 0 too)."""
    if plain() and 0 <= negative_slope <= 1:
        return torch.gt(input, 0, out=torch.empty_like(input)).clamp_(min=negative_slope).mul_(dy)
    return select(torch.gt, input, 0, dy, dy * negative_slope)


@leaky_relu.hard_samples
def _(tensor):
    yield call(tensor([-1e4, -1.0, -0.0, 0.0, 1e-30, 1e4, INF, -INF, NAN]))
    for slope in (0.0, 1.0, -0.5, 2.0):
        yield call(tensor([-1.0, 0.0, 2.0]), slope)
    yield call(tensor([]))


@leaky_relu.equation
def _(sp, input, negative_slope):
    return sp.Piecewise((input, input > 0), (negative_slope * input, True))


class LeakyReLU(Manual, torch.nn.LeakyReLU):
    op = leaky_relu


@op(builtin=F.prelu, autocast="low")
def prelu(input, weight):
    r"""Leaky rectifier whose slope is learnt: $y = x$ where $x > 0$, else $w_c x$.

    input (N, C, *), weight (C,), or of one element for all. RuntimeError for other shapes, or another dtype.
    He et al. 2015, arXiv:1502.01852, eq. 1.
    """
    return _leak(wide(input), _over_channels(wide(weight), input)).to(input.dtype)


@prelu.gradient
def _(dy, needs, input, weight):
    r"""$dx = dy$ where $x > 0$, else $w_c\,dy$; $dw_c = \sum dy\,\min(x, 0)$ over all of channel c."""
    x, w = wide(input), _over_channels(wide(weight), input)
    dx = select(torch.gt, x, 0, wide(dy), dy * w) if needs.input else None
    if not needs.weight:
        return dx, None
    negative = torch.where(x > 0, 0, x)  # whose slope at 0 is that of w x, as dx has it
    return dx, torch.mul(negative, dy, out=own(negative)).sum_to_size(w.shape).reshape(weight.shape)


def _over_channels(weight, input):
    """The weight of each channel along the input's second dimension."""
    return weight.reshape((-1, *(1 for _ in input.shape[2:])) if input.dim() else ())


@prelu.prepare
def _(input, weight):
    channels = input.shape[1] if input.dim() > 1 else 1
    if input.dtype != weight.dtype and not torch.is_autocast_enabled(input.device.type):
        raise RuntimeError(f"prelu(): input and weight must have one dtype, they have {input.dtype} and {weight.dtype}")
    if weight.dim() > 1 or weight.numel() not in (1, channels):
        raise RuntimeError(f"prelu(): weight must be one number, or one for each of the {channels} channels; it has shape "
                           f"{tuple(weight.shape)}")  # fmt: skip
    return input, weight


@prelu.hard_samples
def _(tensor):
    x = tensor([[-1.0, -0.0], [0.0, 1e4], [INF, -1e4]])
    yield call(x, tensor([0.25]))
    yield call(x, tensor([0.0, -2.0]))  # one a channel
    yield call(x, tensor(0.5))  # a weight without dimensions
    yield call(tensor(-2.0), tensor([0.5]))  # an input without dimensions
    yield call(tensor([-2.0, NAN]), tensor([0.5]))  # an input without channels
    yield call(tensor([]).reshape(0, 2, 3), tensor([0.5, 1.0]))


@prelu.equation
def _(sp, input, weight):
    return sp.Piecewise((input, input > 0), (weight * input, True))


class PReLU(Manual, torch.nn.PReLU):
    op = prelu


@op(builtin=F.rrelu)
def rrelu(input, slope):
    r"""Leaky rectifier of a random slope: $y = x$ where $x > 0$, else $a x$, $a \sim U(l, u)$ for each element in
    training, $a = (l + u) / 2$ after it.

    Any shape; output as input. RuntimeError where the bounds are not finite or l > u. Xu et al. 2015, arXiv:1505.00853.
    """
    # A slope drawn for each element is 1 where x is positive.
    return (wide(input) * slope if isinstance(slope, torch.Tensor) else _leak(wide(input), slope)).to(input.dtype)


@rrelu.gradient
def _(dy, input, slope):
    r"""$dx = dy$ where $x > 0$, else $a\,dy$."""
    return dy * slope if isinstance(slope, torch.Tensor) else select(torch.gt, input, 0, dy, dy * slope)


@rrelu.prepare
def _(input, lower, upper, training):
    if not (math.isfinite(lower) and math.isfinite(upper) and lower <= upper):
        raise RuntimeError(f"rrelu(): the bounds must be finite, lower at most upper; they are {lower} and {upper}")
    if not training:
        return input, (lower + upper) / 2
    # One draw in double precision for each x <= 0, in their order: with the same generator, torch's numbers on the CPU.
    dtype = torch.float64 if input.device.type == "cpu" else torch.float32
    drawn = torch.rand(input.numel() or 1, dtype=dtype, device=input.device) * (upper - lower) + lower
    negative = wide(input.detach()) <= 0
    rank = negative.flatten().cumsum(0).sub(1).clamp(min=0)
    slope = torch.where(negative, drawn[rank].reshape(input.shape), 1)
    return input, slope.to(wide(input).dtype)


@rrelu.hard_samples
def _(tensor):
    x = tensor([-1e4, -1.0, -0.0, 0.0, 1e-30, 1e4, INF, -INF])
    for training in (False, True):
        yield call(x, training=training)
        yield call(x, 0.2, 0.2, training=training)  # no choice
        yield call(tensor([]), training=training)
        yield call(tensor(-2.0), training=training)


@rrelu.equation
def _(sp, input, lower, upper):
    return sp.Piecewise((input, input > 0), (input * (lower + upper) / 2, True))


class RReLU(Manual, torch.nn.RReLU):
    op = rrelu


# --- exponential units ------------------------------------------------------------------------------------------


def _elu(input, alpha, scale=1.0, rate=1.0):
    r"""$s x$ where $x > 0$, else $s \alpha\,(e^{r x} - 1)$."""
    x = wide(input)
    y = torch.expm1(x.clamp(max=0) * rate)
    return (torch.where(x < 0, y if alpha == 1 else y * alpha, x) * scale).to(input.dtype)


def _elu_gradient(dy, input, factor, scale=1.0, rate=1.0):
    r"""$s\,dy$ where $x > 0$, else $f\,e^{r x} dy,\quad f = s \alpha r$: of the input, as $y + s \alpha$ would cancel."""
    x = wide(input)
    return torch.where(x <= 0, torch.exp(x.clamp(max=0) * rate) * factor * dy, scale * dy)


def _elu_samples(tensor, *options):
    for option in ({}, *options):
        yield call(tensor([-1e4, -20.0, -1.0, -1e-6, -0.0, 0.0, 1e-6, 1.0, 1e4, INF, -INF]), **option)
    yield call(tensor([NAN]))
    yield call(tensor([]))


@op(builtin=F.elu)
def elu(input, alpha=1.0):
    r"""Exponential linear unit: $y = x$ where $x > 0$, else $\alpha (e^x - 1)$.

    Any shape; output as input. Clevert et al. 2016, arXiv:1511.07289, eq. 15.
    """
    return _elu(input, alpha)


@elu.gradient
def _(dy, input, alpha):
    r"""$dx = dy$ where $x > 0$, else $\alpha e^x dy$."""
    return _elu_gradient(dy, input, alpha)


@elu.hard_samples
def _(tensor):
    yield from _elu_samples(tensor, *({"alpha": alpha} for alpha in (0.3, -2.0, 0.0, 1e-300, 1e30, INF)))


@elu.equation
def _(sp, input, alpha):
    return sp.Piecewise((input, input > 0), (alpha * (sp.exp(input) - 1), input < 0), (alpha * input, True))


class ELU(Manual, torch.nn.ELU):
    op = elu


@op(builtin=F.celu)
def celu(input, alpha=1.0):
    r"""Continuously differentiable ELU: $y = x$ where $x > 0$, else $\alpha (e^{x / \alpha} - 1)$.

    Any shape; output as input. RuntimeError where alpha is 0. Barron 2017, arXiv:1704.07483, eq. 2.
    """
    return _elu(input, alpha, rate=_rate(alpha, input))


def _rate(alpha, input):
    """1 / alpha, no larger than the dtype holds, as infinity times an x of 0 would be NaN."""
    largest = torch.finfo(wide(input).dtype).max
    return min(max(1 / alpha, -largest), largest)


@celu.gradient
def _(dy, input, alpha):
    r"""$dx = dy$ where $x > 0$, else $e^{x / \alpha} dy$."""
    return _elu_gradient(dy, input, 1.0, rate=_rate(alpha, input))


@celu.prepare
def _(input, alpha):
    if alpha == 0:
        raise RuntimeError("celu(): alpha must not be 0, x is divided by it")
    return input, alpha


@celu.hard_samples
def _(tensor):
    yield from _elu_samples(
        tensor, *({"alpha": alpha} for alpha in (0.25, 4.0, 2.0**-99, 2.0**99))
    )  # torch rounds 1 / alpha
    yield call(tensor([-1.0, 0.0, 2.0]), -2.0)


@celu.equation
def _(sp, input, alpha):
    return sp.Piecewise((input, input > 0), (alpha * (sp.exp(input / alpha) - 1), input < 0), (input, True))


class CELU(Manual, torch.nn.CELU):
    op = celu


# The fixed point of mean 0 and variance 1, Klambauer et al. 2017, eq. 14.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@op(builtin=F.selu)
def selu(input):
    r"""Self-normalising unit: $y = \lambda x$ where $x > 0$, else $\lambda \alpha (e^x - 1)$, with the constants that keep
    mean 0 and variance 1 through the layers.

    Any shape; output as input. Klambauer et al. 2017, arXiv:1706.02515, eq. 2.
    """
    return _elu(input, SELU_ALPHA, SELU_SCALE)


@selu.gradient
def _(dy, input):
    r"""$dx = \lambda\,dy$ where $x > 0$, else $\lambda \alpha e^x dy$."""
    return _elu_gradient(dy, input, SELU_SCALE * SELU_ALPHA, SELU_SCALE)


@selu.hard_samples
def _(tensor):
    yield from _elu_samples(tensor)


@selu.equation
def _(sp, input):
    alpha, scale = sp.Rational(SELU_ALPHA), sp.Rational(SELU_SCALE)
    return scale * sp.Piecewise((input, input > 0), (alpha * (sp.exp(input) - 1), input < 0), (alpha * input, True))


class SELU(Manual, torch.nn.SELU):
    op = selu


# --- piecewise linear -------------------------------------------------------------------------------------------


@op(builtin=F.hardtanh)
def hardtanh(input, min_val=-1.0, max_val=1.0):
    r"""$y = \min(\max(x, l), u)$. Any shape; output as input. ValueError where l > u. Collobert 2004."""
    return input.clamp(*_integral(input, min_val, max_val))


@hardtanh.gradient
def _(dy, input, min_val, max_val):
    r"""$dx = dy\,[l < x < u]$."""
    x = wide(input)  # half precision would round the bounds
    if -min_val == max_val:
        size = x.abs()
        return zero_where(dy, torch.ge, size, max_val, own(size))
    return zero_where(zero_where(dy, torch.le, x, min_val), torch.ge, x, max_val)


@hardtanh.prepare
def _(input, min_val, max_val):
    if min_val > max_val:
        raise ValueError(f"hardtanh(): min_val must not exceed max_val, they are {min_val} and {max_val}")
    return input, min_val, max_val


@hardtanh.hard_samples
def _(tensor):
    yield call(tensor([-1e4, -1.0, -0.5, -0.0, 0.5, 1.0, 1e4, INF, -INF]))
    yield call(tensor([0.69, 0.7, 0.71, -0.3, -0.31, -0.29]), -0.3, 0.7)  # half precision cannot hold the bounds
    yield call(tensor([0.0, 1.0, 2.0]), 1.0, 1.0)
    yield call(tensor([NAN]))
    yield call(tensor([]))


@hardtanh.equation
def _(sp, input, min_val, max_val):
    return sp.Piecewise((min_val, input <= min_val), (input, input < max_val), (max_val, True))


class Hardtanh(Manual, torch.nn.Hardtanh):
    op = hardtanh


@op(builtin=F.hardsigmoid)
def hardsigmoid(input):
    r"""Piecewise linear sigmoid: $y = \min(\max(x + 3, 0), 6) / 6$. Any shape; output as input."""
    return _ramp(wide(input)).to(input.dtype)


def _ramp(x):
    r"""$\min(\max(x + 3, 0), 6) / 6$, as a product, which takes a quarter of the time of a division; 6 times 1/6 is 1."""
    y = x + 3
    y = torch.clamp(y, 0, 6, out=own(y))
    return torch.mul(y, 1 / 6, out=own(y))


@hardsigmoid.gradient
def _(dy, input):
    r"""$dx = dy / 6$ where $-3 < x < 3$, else 0."""
    size = wide(input).abs()
    dx = where_zero(dy, torch.lt, size, 3, own(size))
    return torch.mul(dx, 1 / 6, out=own(dx))


def _knots(tensor):
    yield call(tensor([-1e4, -4.0, -3.0, -2.9, 0.0, 2.9, 3.0, 4.0, 1e4, INF, -INF]))
    yield call(tensor([NAN]))
    yield call(tensor([]))


hardsigmoid.hard_samples(_knots)


@hardsigmoid.equation
def _(sp, input):
    return sp.Piecewise((0, input <= -3), ((input + 3) / 6, input < 3), (1, True))


class Hardsigmoid(Manual, torch.nn.Hardsigmoid):
    op = hardsigmoid


@op(builtin=F.hardswish)
def hardswish(input):
    r"""Piecewise SiLU: $y = x\,\min(\max(x + 3, 0), 6) / 6$. Any shape; output as input.

    Howard et al. 2019, arXiv:1905.02244, section 5.2.
    """
    x = wide(input)
    y = _ramp(x)
    return torch.mul(y, x, out=own(y)).to(input.dtype)


@hardswish.gradient
def _(dy, input):
    r"""$dx = 0$ where $x \le -3$, $dy\,(x / 3 + 1 / 2)$ where $x < 3$, else $dy$."""
    x = wide(input)
    if (
        plain()
    ):  # t + 1/2 with t = x / 3 from -1 to 1, where of each bound only half counts: of t and its fraction the mean
        t = x.nan_to_num(3).clamp_(-3, 3).mul_(1 / 3)
        return torch.lerp(t, torch.frac(t), 0.5, out=t).add_(0.5).mul_(dy)
    return torch.where(x <= -3, 0, torch.where(x < 3, dy * (x / 3 + 0.5), dy))


hardswish.hard_samples(_knots)


@hardswish.equation
def _(sp, input):
    return sp.Piecewise((0, input <= -3), (input * (input + 3) / 6, input < 3), (input, True))


class Hardswish(Manual, torch.nn.Hardswish):
    op = hardswish


@op(builtin=F.hardshrink)
def hardshrink(input, lambd=0.5):
    r"""$y = x$ where $|x| > \lambda$, else 0. Any shape; output as input."""
    size = wide(input).abs()
    return zero_where(input, torch.le, size, lambd, own(size)).to(input.dtype)


@hardshrink.gradient
def _(dy, output, lambd):
    r"""$dx = dy\,[y \ne 0]$: only the output is kept."""
    return where_zero(dy, torch.ne, output, 0) if lambd >= 0 else dy


def _shrink_samples(tensor):
    for lambd in (0.5, 0.0, 0.7):
        yield call(tensor([-1e4, -0.7, -0.5, -0.1, -0.0, 0.1, 0.5, 0.7, 1e4, INF, -INF]), lambd)
    yield call(tensor([NAN]))
    yield call(tensor([]))


@hardshrink.hard_samples
def _(tensor):
    yield from _shrink_samples(tensor)
    yield call(tensor([-1.0, 0.0, 1.0]), -0.5)


@hardshrink.equation
def _(sp, input, lambd):
    return sp.Piecewise((input, input > lambd), (input, input < -lambd), (0, True))


class Hardshrink(Manual, torch.nn.Hardshrink):
    op = hardshrink


@op(builtin=F.softshrink)
def softshrink(input, lambd=0.5):
    r"""$y = \mathrm{sign}(x)\,\max(|x| - \lambda, 0)$. Any shape; output as input. RuntimeError where lambda < 0."""
    x = wide(input)
    near = x.clamp(-lambd, lambd)
    return torch.sub(x, near, out=own(near)).to(input.dtype)


@softshrink.gradient
def _(dy, input, lambd):
    r"""$dx = dy\,[|x| > \lambda]$."""
    size = wide(input).abs()
    return zero_where(dy, torch.le, size, lambd, own(size))


@softshrink.prepare
def _(input, lambd=0.5):
    if not lambd >= 0:
        raise RuntimeError(f"softshrink(): lambd must not be negative, it is {lambd}")
    return input, lambd


softshrink.hard_samples(_shrink_samples)


@softshrink.equation
def _(sp, input, lambd):
    return sp.Piecewise((input - lambd, input > lambd), (input + lambd, input < -lambd), (0, True))


class Softshrink(Manual, torch.nn.Softshrink):
    op = softshrink


# torch.nn.functional's names with an underscore: the operation writes over its input.
(threshold_, relu_, leaky_relu_, rrelu_, elu_, celu_, selu_, hardtanh_) = (
    functools.partial(operation, inplace=True)
    for operation in (threshold, relu, leaky_relu, rrelu, elu, celu, selu, hardtanh)
)
