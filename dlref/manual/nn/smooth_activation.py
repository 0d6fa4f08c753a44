"""Smooth activations of one number: the sigmoids, and the units that gate their input by one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from .common import floating, gated, log1p_exp, logistic, rounded, sech, wide, widened

INF = float("inf")


# --- sigmoids ---------------------------------------------------------------------------------------------------


@op(builtin=torch.sigmoid)
def sigmoid(input):
    r"""Logistic function: $y = 1 / (1 + e^{-x})$. Any shape; output as input. Rumelhart et al. 1986 (Nature 323), eq. 2."""
    return rounded(logistic(floating(input)), input)


@sigmoid.gradient
def sigmoid_gradient(dy, input):
    r"""$dx = dy\, \sigma(x) \sigma(-x) = dy / (2 \cosh (x / 2))^2$.

    Of the input, as in $y (1 - y)$, of which torch keeps y alone, the second factor is 0 from where y rounds to 1: exact,
    for the memory of an input beside the output that the next layer keeps.
    """
    s = sech(wide(input) / 2).conj() / 2
    return dy * s * s


class Sigmoid(Manual, torch.nn.Sigmoid):
    """The module of `sigmoid`."""

    op = sigmoid


@op(builtin=F.tanh)
def tanh(input):
    r"""Hyperbolic tangent: $y = (e^x - e^{-x}) / (e^x + e^{-x})$. Any shape; output as input.

    LeCun et al. 1998, Efficient BackProp, section 4.4.
    """
    return torch.tanh(input)


@tanh.gradient
def tanh_gradient(dy, input):
    r"""$dx = dy\,(1 - \tanh^2 x) = dy / \cosh^2 x$: of the input, as in the former 1 cancels from where y rounds to 1."""
    s = sech(wide(input)).conj()
    return dy * s * s


class Tanh(Manual, torch.nn.Tanh):
    """The module of `tanh`."""

    op = tanh


@op(builtin=F.logsigmoid)
def logsigmoid(input):
    r"""Logarithm of the logistic function: $y = -\log(1 + e^{-x})$. Any shape; output as input.

    The logarithm of Bishop 2006, eq. 4.59.
    """
    return (-log1p_exp(-wide(input))).to(input.dtype)


@logsigmoid.gradient
def logsigmoid_gradient(dy, input):
    r"""$dx = dy\,\sigma(-x)$."""
    return dy * logistic(-wide(input))


class LogSigmoid(Manual, torch.nn.LogSigmoid):
    """The module of `logsigmoid`."""

    op = logsigmoid


@op(builtin=F.softplus, autocast={"cuda": "float32"})
def softplus(input, beta=1.0, threshold=20.0):
    r"""Smooth rectifier: $y = \log(1 + e^{\beta x}) / \beta$, and $y = x$ where $\beta x$ exceeds the threshold.

    Any shape; output as input. Dugas et al. 2001.
    """
    x = wide(input)
    z = beta * x
    return torch.where(z > threshold, x, log1p_exp(z) / beta).to(input.dtype)


@softplus.gradient
def softplus_gradient(dy, input, beta, threshold):
    r"""$dx = dy\,\sigma(\beta x)$, and $dy$ where $\beta x$ exceeds the threshold."""
    z = beta * wide(input)
    return torch.where(z > threshold, dy, dy * logistic(z))


class Softplus(Manual, torch.nn.Softplus):
    """The module of `softplus`."""

    op = softplus


@op(builtin=F.softsign)
def softsign(input):
    r"""$y = x / (1 + |x|)$. Any shape; output as input. Bergstra et al. 2009."""
    x = widened(input)
    return rounded(x / (1 + x.abs()), input)


@softsign.gradient
def softsign_gradient(dy, input):
    r"""$dx = dy / (1 + |x|)^2$; of a complex number, where |x| turns with it: with $d = 1 + |x|$ real,
    $dx = dy / d - \mathrm{sgn}(x)\,\mathrm{Re}(\overline{dy}\, x) / d^2$.
    """
    x = wide(input)
    d = 1 + x.abs()
    return dy / d - x.sgn() * (dy.conj() * x).real / d.square() if x.is_complex() else dy / d / d


class Softsign(Manual, torch.nn.Softsign):
    """The module of `softsign`."""

    op = softsign


@op(builtin=F.tanhshrink)
def tanhshrink(input):
    r"""$y = x - \tanh x$. Any shape; output as input.

    Where $|x| < 1$ the difference cancels, and Lambert's continued fraction $\tanh x = x / (1 + x^2 / K),\quad
    K = 3 + x^2 / (5 + x^2 / (7 + \dots))$ makes it $x\,x^2 / (K + x^2)$.
    """
    x = floating(input)
    small = x.abs() < 1
    square = torch.where(small, x, 0).square()
    k = 21 + torch.zeros_like(square)
    for odd in range(19, 1, -2):
        k = odd + square / k
    return rounded(torch.where(small, x * (square / (k + square)), x - torch.tanh(x)), input)


@tanhshrink.gradient
def tanhshrink_gradient(dy, input):
    r"""$dx = dy\,\tanh^2 x$, as $\tanh' = 1 - \tanh^2$."""
    return dy * torch.tanh(wide(input)).square().conj()


class Tanhshrink(Manual, torch.nn.Tanhshrink):
    """The module of `tanhshrink`."""

    op = tanhshrink


# --- gates ------------------------------------------------------------------------------------------------------


@op(builtin=F.silu)
def silu(input):
    r"""Sigmoid linear unit (swish): $y = x\,\sigma(x)$. Any shape; output as input.

    Hendrycks & Gimpel 2016, arXiv:1606.08415; Ramachandran et al. 2017, arXiv:1710.05941.
    """
    x = wide(input)
    return gated(x, x).to(input.dtype)


@silu.gradient
def silu_gradient(dy, input):
    r"""$dx = dy\,\sigma(x)\,(1 + x\,\sigma(-x))$."""
    x = wide(input)
    return dy * gated(1 + gated(x, -x), x).conj()


class SiLU(Manual, torch.nn.SiLU):
    """The module of `silu`."""

    op = silu


def _root_exp(x):
    r"""$h = e^{x / 2}$ and $e^x$, with x no larger than 22, where $\tanh(\log(1 + e^x)) = n / (n + 2),\quad n = e^x (e^x + 2)$,
    is 1. A factor h at a time, nothing is subnormal but the result.
    """
    h = torch.exp(x.clamp(max=22) / 2)
    return h, h * h


@op(builtin=F.mish)
def mish(input):
    r"""$y = x \tanh(\log(1 + e^x))$. Any shape; output as input. Misra 2019, arXiv:1908.08681, eq. 1."""
    x = wide(input)
    h, e = _root_exp(x)
    negative = x < 0
    first, second = torch.where(negative, h, 1), torch.where(negative, h, e)
    return (x * first * (second * (e + 2) / (e * (e + 2) + 2))).to(input.dtype)


@mish.gradient
def mish_gradient(dy, input):
    r"""$dx = dy\,(t + x (1 - t^2)\,\sigma(x)),\quad t = \tanh(\log(1 + e^x)) = n / (n + 2)$, as softplus' = \sigma.

    With $1 - t^2 = 4 (n + 1) / (n + 2)^2$ and $n + 1 = (1 + e^x)^2$ this is
    $dx = dy\,e^x (e^x + 2 + 4 x (1 + e^x) / (n + 2)) / (n + 2)$.
    """
    x = wide(input)
    h, e = _root_exp(x)
    n = e * (e + 2)
    near = x.clamp(-1e4, 22) + (x - x)  # beyond, e is 0, or dx = dy; of an infinite x NaN, as in torch
    return dy * (h * (h * ((e + 2 + 4 * near * (1 + e) / (n + 2)) / (n + 2))))


class Mish(Manual, torch.nn.Mish):
    """The module of `mish`."""

    op = mish


RATE, CUBIC, DENSITY = math.sqrt(2 / math.pi), 0.044715, 1 / math.sqrt(2 * math.pi)


def _cubic(x):
    return RATE * (x + CUBIC * x.square() * x)


def _normal(x):
    r"""$\Phi(x) = \mathrm{erfc}(-x / \sqrt 2) / 2$: no difference, so exact where x is negative and it is small."""
    return torch.erfc(x * -math.sqrt(0.5)) / 2


# Where the normal distribution function is soon subnormal, and its tail below is exact to rounding.
DEEP = {torch.float64: -37.0, torch.float32: -12.5}


def _tail(x):
    r"""$x\,\Phi(x) \approx -\Phi'(x)\,(1 - x^{-2} + 3 x^{-4} - 15 x^{-6} + 105 x^{-8})$ far below 0: x times a number that is
    subnormal would have none of its digits."""
    r = 1 / x.clamp(max=-1).square()
    return torch.exp(-x.square() / 2) * ((1 - r * (1 - 3 * r * (1 - 5 * r * (1 - 7 * r)))) * -DENSITY)


@op(builtin=F.gelu)
def gelu(input, approximate="none"):
    r"""Gaussian error linear unit: $y = x\,\Phi(x)$, $\Phi$ the normal distribution function; with approximate="tanh",
    $\Phi(x) \approx (1 + \tanh u) / 2 = \sigma(2u),\quad u = \sqrt{2 / \pi}\,(x + 0.044715\,x^3)$.

    Any shape; output as input. RuntimeError for another approximation. Hendrycks & Gimpel 2016, arXiv:1606.08415.
    """
    x = wide(input)
    if approximate == "tanh":
        return gated(x, 2 * _cubic(x)).to(input.dtype)
    deep = (x < DEEP[x.dtype]) & (x > -INF)  # $-\\infty \\cdot 0$ is NaN, as in torch
    return torch.where(deep, _tail(x), x * _normal(x)).to(input.dtype)


@gelu.gradient
def gelu_gradient(dy, input, approximate):
    r"""$dx = dy\,(\Phi + x\,\Phi')$, with $\Phi'(x) = e^{-x^2 / 2} / \sqrt{2 \pi}$, or
    $\sigma(2u)\,\sigma(-2u)\,2u',\quad u' = \sqrt{2 / \pi}\,(1 + 3 \cdot 0.044715\,x^2)$.
    """
    x = wide(input)
    if approximate == "none":
        h = torch.exp(-x.clamp(-60, 60).square() / 4)  # beyond, $h^2$ is 0
        return dy * (_normal(x) + DENSITY * x * h * h)
    near = x.clamp(-40, 40) + (x - x)  # beyond, $\sigma(2u)\,\sigma(-2u)$ is 0; of an infinite x NaN, as in torch
    u = 2 * _cubic(near)
    return dy * gated(1 + gated(near * (2 * RATE) * (1 + 3 * CUBIC * near.square()), -u), u)


class GELU(Manual, torch.nn.GELU):
    """The module of `gelu`."""

    op = gelu


@gelu.prepare
def gelu_prepare(input, approximate="none"):
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu(): approximate must be 'none' or 'tanh', it is {approximate!r}")
    return input, approximate


@op(builtin=F.glu)
def glu(input, dim=-1):
    r"""Gated linear unit: $y = a \odot \sigma(b)$, a and b the first and the second half along the dimension.

    input (*, 2n, *), output (*, n, *). RuntimeError where the size is odd, IndexError where there is no such
    dimension. Dauphin et al. 2017, arXiv:1612.08083.
    """
    a, b = wide(input).tensor_split(2, dim)
    return gated(a, b).to(input.dtype)


@glu.gradient
def glu_gradient(dy, input, dim):
    r"""$da = dy\,\sigma(b),\quad db = dy\,a\,\sigma(b)\,\sigma(-b)$."""
    a, b = wide(input).tensor_split(2, dim)
    s = sech(b / 2) / 2
    return torch.cat((dy * logistic(b), a * s * s * dy), dim)


class GLU(Manual, torch.nn.GLU):
    """The module of `glu`."""

    op = glu


@glu.prepare
def glu_prepare(input, dim):
    if input.dim() == 0:
        raise RuntimeError("glu(): the input must have a dimension to split, it is a single number")
    if input.size(dim) % 2:
        raise RuntimeError(f"glu(): the size of dimension {dim} must be even, it is {input.size(dim)}")
    return input, dim
