"""Smooth activations of one number: the sigmoids, and the units that gate their input by one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..module import Manual
from ..op import call, op
from .common import log1p_exp, own, plain, where_zero, wide

INF, NAN = float("inf"), float("nan")


def _extremes(tensor):
    yield call(tensor([-1e4, -90.0, -20.0, -1.0, -1e-6, -0.0, 0.0, 1e-6, 1.0, 20.0, 90.0, 1e4]))
    yield call(tensor([INF]))
    yield call(tensor([-INF, NAN]))
    yield call(tensor([]))
    yield call(tensor(0.5))


# --- sigmoids ---------------------------------------------------------------------------------------------------


@op(builtin=torch.sigmoid)
def sigmoid(input):
    r"""Logistic function: $y = 1 / (1 + e^{-x})$. Any shape; output as input."""
    return torch.sigmoid(input)


@sigmoid.gradient
def _(dy, output):
    r"""$dx = dy\, y (1 - y)$: only the output is kept."""
    slope = 1 - output
    slope = torch.mul(slope, output, out=own(slope)).conj()
    return torch.mul(slope, dy, out=own(slope))


sigmoid.hard_samples(_extremes)


class Sigmoid(Manual, torch.nn.Sigmoid):
    op = sigmoid


@op(builtin=F.tanh)
def tanh(input):
    r"""Hyperbolic tangent: $y = (e^x - e^{-x}) / (e^x + e^{-x})$. Any shape; output as input."""
    return torch.tanh(input)


@tanh.gradient
def _(dy, output):
    r"""$dx = dy\,(1 - y^2)$: only the output is kept."""
    return dy * (1 - wide(output).square()).conj()


tanh.hard_samples(_extremes)


class Tanh(Manual, torch.nn.Tanh):
    op = tanh


@op(builtin=F.logsigmoid)
def logsigmoid(input):
    r"""Logarithm of the logistic function: $y = -\log(1 + e^{-x})$. Any shape; output as input."""
    x = wide(input)
    if plain():  # $\min(x, 0) - \log(1 + e^{-|x|})$
        return x.abs().neg_().exp_().log1p_().neg_().add_(x.clamp(max=0)).to(input.dtype)
    return (-log1p_exp(-x)).to(input.dtype)


@logsigmoid.gradient
def _(dy, input):
    r"""$dx = dy\,\sigma(-x)$."""
    slope = -wide(input)
    slope = torch.sigmoid(slope, out=own(slope))
    return torch.mul(slope, dy, out=own(slope))


logsigmoid.hard_samples(_extremes)


class LogSigmoid(Manual, torch.nn.LogSigmoid):
    op = logsigmoid


@op(builtin=F.softplus, autocast={"cuda": "float32"})
def softplus(input, beta=1.0, threshold=20.0):
    r"""Smooth rectifier: $y = \log(1 + e^{\beta x}) / \beta$, and $y = x$ where $\beta x$ exceeds the threshold.

    Any shape; output as input. Dugas et al. 2001.
    """
    x = wide(input)
    z = x if beta == 1 else x * beta
    if plain() and threshold >= 0:  # the bend, 0 past the threshold, and the line
        bend = z.abs().neg_().exp_().log1p_()
        bend = bend if beta == 1 else bend.div_(beta)
        line = x.clamp(min=0) if beta > 0 else x.clamp(max=0)
        return where_zero(bend, torch.le, z, threshold).add_(line).to(input.dtype)
    return torch.where(z > threshold, x, log1p_exp(z) / beta).to(input.dtype)


@softplus.gradient
def _(dy, input, beta, threshold):
    r"""$dx = dy\,\sigma(\beta x)$, and $dy$ where $\beta x$ exceeds the threshold."""
    z = wide(input) if beta == 1 else wide(input) * beta
    if plain():  # a sigmoid is at most 1
        slope = torch.gt(z, threshold, out=torch.empty_like(z))
        return torch.maximum(slope, z.sigmoid(), out=slope).mul_(dy)
    return torch.where(z > threshold, dy, dy * torch.sigmoid(z))


@softplus.hard_samples
def _(tensor):
    yield from _extremes(tensor)
    x = tensor([-1e4, -1.0, 0.0, 1.0, 1.5, 2.0, 1e4])
    yield call(x, 2.0, 3.0)  # the piece boundary, and beyond it
    yield call(x, -1.0)
    yield call(x, 0.5, -1.0)


class Softplus(Manual, torch.nn.Softplus):
    op = softplus


@op(builtin=F.softsign)
def softsign(input):
    r"""$y = x / (1 + |x|)$. Any shape; output as input. Bergstra et al. 2009."""
    return input / (1 + input.abs())


@softsign.gradient
def _(dy, input):
    r"""$dx = dy / (1 + |x|)^2$; of a complex number, where |x| turns with it: with $d = 1 + |x|$ real,
    $dx = dy / d - \mathrm{sgn}(x)\,\mathrm{Re}(\overline{dy}\, x) / d^2$.
    """
    x = wide(input)
    d = 1 + x.abs()
    return dy / d - x.sgn() * (dy.conj() * x).real / d.square() if x.is_complex() else dy / d.square()


@softsign.hard_samples
def _(tensor):
    yield call(tensor([-1e4, -1.0, -1e-6, -0.0, 0.0, 1e-6, 1.0, 1e4, NAN]))
    yield call(tensor([]))


class Softsign(Manual, torch.nn.Softsign):
    op = softsign


@op(builtin=F.tanhshrink)
def tanhshrink(input):
    r"""$y = x - \tanh x$. Any shape; output as input."""
    return input - torch.tanh(input)


@tanhshrink.gradient
def _(dy, input):
    r"""$dx = dy\,\tanh^2 x$, as $\tanh' = 1 - \tanh^2$."""
    return dy * torch.tanh(wide(input)).square().conj()


tanhshrink.hard_samples(_extremes)


class Tanhshrink(Manual, torch.nn.Tanhshrink):
    op = tanhshrink


# --- gates ------------------------------------------------------------------------------------------------------


@op(builtin=F.silu)
def silu(input):
    r"""Sigmoid linear unit (swish): $y = x\,\sigma(x)$. Any shape; output as input.

    Hendrycks & Gimpel 2016, arXiv:1606.08415; Ramachandran et al. 2017, arXiv:1710.05941.
    """
    x = wide(input)
    s = torch.sigmoid(x)
    return torch.mul(s, x, out=own(s)).to(input.dtype)


@silu.gradient
def _(dy, input):
    r"""$dx = dy\,\sigma(x)\,(1 + x\,(1 - \sigma(x)))$: where $1 - \sigma(x)$ cancels, the 1 before it is far larger."""
    x = wide(input)
    s = torch.sigmoid(x)
    slope = 1 - s
    slope = torch.mul(slope, x, out=own(slope))
    slope = torch.addcmul(s, slope, s, out=own(slope)).conj()
    return torch.mul(slope, dy, out=own(slope))


silu.hard_samples(_extremes)


class SiLU(Manual, torch.nn.SiLU):
    op = silu


@op(builtin=F.mish)
def mish(input):
    r"""$y = x \tanh(\log(1 + e^x))$. Any shape; output as input. Misra 2019, arXiv:1908.08681, eq. 1."""
    x = wide(input)
    t = _tanh_softplus(x)
    return torch.mul(t, x, out=own(t)).to(input.dtype)


def _tanh_softplus(x):
    r"""$\tanh(\log(1 + e^x)) = n / (n + 2),\quad n = e^x (e^x + 2)$, with x no larger than where that is 1."""
    e = x.clamp(max=40)
    e = torch.exp(e, out=own(e))
    n = e + 2
    n = torch.mul(n, e, out=own(n))
    return torch.div(n, torch.add(n, 2, out=own(e)), out=own(n))


@mish.gradient
def _(dy, input):
    r"""$dx = dy\,(t + x (1 - t^2)\,\sigma(x)),\quad t = \tanh(\log(1 + e^x))$, as softplus' = \sigma."""
    x = wide(input)
    t = _tanh_softplus(x)
    if plain():
        return x.sigmoid().mul_(t.square().neg_().add_(1)).mul_(x).add_(t).mul_(dy)
    return dy * (t + x * (1 - t.square()) * torch.sigmoid(x))


mish.hard_samples(_extremes)


class Mish(Manual, torch.nn.Mish):
    op = mish


@op(builtin=F.gelu)
def gelu(input, approximate="none"):
    r"""Gaussian error linear unit: $y = x\,\Phi(x)$, $\Phi$ the normal distribution function; with approximate="tanh",
    $\Phi(x) \approx (1 + \tanh u) / 2 = \sigma(2u),\quad u = \sqrt{2 / \pi}\,(x + 0.044715\,x^3)$.

    Any shape; output as input. RuntimeError for another approximation. Hendrycks & Gimpel 2016, arXiv:1606.08415.
    """
    x = wide(input)
    phi = _normal(x) if approximate == "none" else torch.sigmoid(2 * _cubic(x))
    return torch.mul(phi, x, out=own(phi)).to(input.dtype)


def _normal(x):
    r"""$\Phi(x) = (1 + \mathrm{erf}(x / \sqrt 2)) / 2$."""
    phi = x * math.sqrt(0.5)
    phi = torch.erf(phi, out=own(phi))
    phi = torch.add(phi, 1, out=own(phi))
    return torch.mul(phi, 0.5, out=own(phi))


@gelu.gradient
def _(dy, input, approximate):
    r"""$dx = dy\,(\Phi + x\,\Phi')$, with $\Phi'(x) = e^{-x^2 / 2} / \sqrt{2 \pi}$, or
    $\sigma(2u)\,\sigma(-2u)\,2u',\quad u' = \sqrt{2 / \pi}\,(1 + 3 \cdot 0.044715\,x^2)$.
    """
    x = wide(input)
    if approximate == "none":
        slope = x.square()
        slope = torch.mul(slope, -0.5, out=own(slope))
        slope = torch.exp(slope, out=own(slope))
        slope = torch.mul(slope, x, out=own(slope))
        slope = torch.add(_normal(x), slope, alpha=1 / math.sqrt(2 * math.pi), out=own(slope))
        return torch.mul(slope, dy, out=own(slope))
    u = _cubic(x)
    phi = torch.sigmoid(2 * u)
    return dy * (phi + x * phi * torch.sigmoid(-2 * u) * (1 + 3 * CUBIC * x.square()) * (2 * RATE))


RATE, CUBIC = math.sqrt(2 / math.pi), 0.044715


def _cubic(x):
    return RATE * (x + CUBIC * x.square() * x)


@gelu.prepare
def _(input, approximate="none"):
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu(): approximate must be 'none' or 'tanh', it is {approximate!r}")
    return input, approximate


@gelu.hard_samples
def _(tensor):
    for approximate in ("none", "tanh"):
        for args, _ in _extremes(tensor):
            yield call(*args, approximate=approximate)


class GELU(Manual, torch.nn.GELU):
    op = gelu


@op(builtin=F.glu)
def glu(input, dim=-1):
    r"""Gated linear unit: $y = a \odot \sigma(b)$, a and b the first and the second half along the dimension.

    input (*, 2n, *), output (*, n, *). RuntimeError where the size is odd. Dauphin et al. 2017, arXiv:1612.08083.
    """
    a, b = wide(input).tensor_split(2, dim)
    return (a * torch.sigmoid(b)).to(input.dtype)


@glu.gradient
def _(dy, input, dim):
    r"""$da = dy\,\sigma(b),\quad db = dy\,a\,\sigma(b)\,\sigma(-b)$."""
    a, b = wide(input).tensor_split(2, dim)
    da = dy * torch.sigmoid(b)
    return torch.cat((da, da * a * torch.sigmoid(-b)), dim)


@glu.prepare
def _(input, dim):
    if input.dim() == 0:
        raise RuntimeError("glu(): the input must have a dimension to split, it is a single number")
    if input.size(dim) % 2:
        raise RuntimeError(f"glu(): the size of dimension {dim} must be even, it is {input.size(dim)}")
    return input, dim


@glu.hard_samples
def _(tensor):
    x = tensor([[1e4, -1e4, 0.0, 2.0], [1e4, -1e4, 3.0, -90.0]])
    for dim in (0, 1, -1):
        yield call(x, dim)
    yield call(tensor([]).reshape(3, 0))
    yield call(tensor([INF, -1.0, 1.0, 1.0]))


@glu.error_samples
def _(tensor):
    yield RuntimeError, call(tensor(1.0))  # no dimension to halve
    yield RuntimeError, call(tensor([1.0, 2.0, 3.0]))  # an odd one
    yield IndexError, call(tensor([1.0, 2.0]), 1)


class GLU(Manual, torch.nn.GLU):
    op = glu
