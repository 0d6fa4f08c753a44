"""Activations over a dimension: softmax and its kin."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...core.module import Manual
from ...core.pair import op
from .common import contiguous, marked, times, warn, wide


def _checked(name, input, dim, dtype):
    """The dtype checked, and the dimension: torch's choice where none is given."""
    if dim is None:
        dim = 0 if input.dim() in (0, 1, 3) else 1
    if not (dtype or input.dtype).is_floating_point:
        raise NotImplementedError(f"{name}(): the input, or the dtype asked for, must be floating point; it is "
                                  f"{dtype or input.dtype}")  # fmt: skip
    return input, dim, dtype


def shifted(input, dim, dtype):
    """The input in the dtype asked for, less its maximum over the dimension: so exp cannot overflow."""
    x = wide(input if dtype is None else input.to(dtype))
    return x - x.amax(dim, keepdim=True) if x.numel() else x


def log_normalized(x, dim):
    r"""$x - m - \log(1 + \sum_{j \ne k} e^{x_j - m})$ with m = $x_k$ the largest: so exp cannot overflow, and where all others
    are small, the logarithm of what is near 1 keeps them.
    """
    if not x.numel():
        return x.clone()
    top = x.argmax(dim, keepdim=True)
    x = x - x.gather(dim, top)
    others = x.exp().scatter(dim, top, x.gather(dim, top))  # 0, or NaN where the largest is infinite
    return x - others.sum(dim, keepdim=True).log1p()


@op(builtin=F.softmax, autocast={"cuda": "float32"}, layout=contiguous)
def softmax(input, dim, dtype):
    r"""Softmax: $y_i = e^{x_i} / \sum_j e^{x_j}$ over the dimension.

    Any shape; output as input, in the dtype asked for. NotImplementedError where that is not floating point, IndexError
    where there is no such dimension. Bridle 1990.
    """
    e = shifted(input, dim, dtype).exp()
    return (e / e.sum(dim, keepdim=True)).to(dtype or input.dtype)


@softmax.gradient
def softmax_gradient(dy, output, dim):
    r"""$dx = y \odot (dy - \sum dy \odot y)$, as $\partial y_i / \partial x_j = y_i ([i = j] - y_j)$: only the output is kept.

    What all dy have in common does not count, as $\sum y = 1$; without that of the largest y, whose own term is then 0, the
    others are not lost beside it.
    """
    y, dy = wide(output), wide(dy)
    if y.numel():
        dy = dy - dy.gather(dim, y.argmax(dim, keepdim=True))
    return y * (dy - (dy * y).sum(dim, keepdim=True))


class Softmax(Manual, torch.nn.Softmax):
    """The module of `softmax`."""

    op = softmax


class Softmax2d(Manual, torch.nn.Softmax2d):
    """The module of `softmax` over the channels of (N, C, H, W) or (C, H, W); ValueError for another number of dimensions."""

    op = softmax
    dim = -3  # the channels of (N, C, H, W) or (C, H, W)
    attributes = {"dim": "dim"}

    def forward(self, input):
        return super().forward(self._checked(input))

    def explicit(self, input):
        return super().explicit(self._checked(input))

    def _checked(self, input):
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: the input must be (C, H, W) or (N, C, H, W), it has {input.dim()} dimensions")
        return input


@softmax.prepare
def softmax_prepare(input, dim, dtype):
    if dim is None:
        warn("softmax() without dim is deprecated, its choice depends on the input: pass dim")
    return _checked("softmax", input, dim, dtype)


@op(builtin=F.softmin, autocast={"cuda": "float32"}, layout=contiguous)
def softmin(input, dim, dtype):
    r"""Softmax of the negative: $y_i = e^{-x_i} / \sum_j e^{-x_j}$ over the dimension; all else as in `softmax`."""
    e = shifted(-input, dim, dtype).exp()
    return (e / e.sum(dim, keepdim=True)).to(dtype or input.dtype)


@softmin.gradient
def softmin_gradient(dy, output, dim):
    r"""$dx = -y \odot (dy - \sum dy \odot y)$: only the output is kept."""
    return -softmax_gradient(dy, output, dim)


class Softmin(Manual, torch.nn.Softmin):
    """The module of `softmin`."""

    op = softmin


@softmin.prepare
def softmin_prepare(input, dim, dtype):
    if dim is None:
        warn("softmin() without dim is deprecated, its choice depends on the input: pass dim")
    return _checked("softmin", input, dim, dtype)


@op(builtin=F.log_softmax, autocast={"cuda": "float32"}, layout=contiguous)
def log_softmax(input, dim, dtype):
    r"""Logarithm of softmax: $y_i = x_i - \log \sum_j e^{x_j}$ over the dimension; all else as in `softmax`."""
    return log_normalized(wide(input if dtype is None else input.to(dtype)), dim).to(dtype or input.dtype)


@log_softmax.gradient
def log_softmax_gradient(dy, output, dim):
    r"""$dx_i = dy_i\,(1 - e^{y_i}) - e^{y_i} \sum_{j \ne i} dy_j$, as $\partial y_i / \partial x_j = [i = j] - e^{y_j}$: only
    the output is kept.
    """
    y, dy = wide(output), wide(dy)
    return -(dy * y.expm1() + y.exp() * (dy.sum(dim, keepdim=True) - dy))


class LogSoftmax(Manual, torch.nn.LogSoftmax):
    """The module of `log_softmax`."""

    op = log_softmax


@log_softmax.prepare
def log_softmax_prepare(input, dim, dtype):
    if dim is None:
        warn("log_softmax() without dim is deprecated, its choice depends on the input: pass dim")
    return _checked("log_softmax", input, dim, dtype)


def held(tau, z):
    """A number as the dtype holds it, and not 0."""
    return tau if isinstance(tau, torch.Tensor) or tau <= 0 else max(tau, torch.finfo(z.dtype).tiny)


def tempered(logits, gumbels, tau, dim):
    r"""$(x + g - m) / \tau$, m the largest $x + g$: however small $\tau$ is, the largest is 0."""
    z = shifted(logits + gumbels, dim, None)
    return z / held(tau, z)


@op(builtin=F.gumbel_softmax, autocast={"cuda": "float32"})
def gumbel_softmax(logits, gumbels, tau, hard, dim):
    r"""A sample of a categorical distribution that can be differentiated: $y = \mathrm{softmax}((x + g) / \tau)$,
    $g = -\log e,\ e \sim \mathrm{Exp}(1)$; hard: the one-hot vector of its largest element.

    logits of any shape, output as logits. Jang et al. 2017, arXiv:1611.01144, eq. 2; Maddison et al., arXiv:1611.00712.
    """
    e = tempered(logits, gumbels, tau, dim).exp()
    y = e / e.sum(dim, keepdim=True)
    if hard:
        y = marked(y, dim, y.argmax(dim, keepdim=True))
    return y.to(logits.dtype)


@gumbel_softmax.gradient
def gumbel_softmax_gradient(dy, needs, logits, gumbels, tau, dim):
    r"""$dx = dz / \tau,\quad d\tau = -\sum dz \odot z / \tau$, $dz$ softmax's gradient at $z = (x + g) / \tau$.

    Of the hard sample too: straight through, as if it were the soft one.
    """
    z = tempered(logits, gumbels, tau, dim)
    e = z.exp()
    dz = softmax_gradient(dy, e / e.sum(dim, keepdim=True), dim)
    return dz / held(tau, z), None, -times(dz, z).sum() / tau if needs.tau else None


@gumbel_softmax.prepare
def gumbel_softmax_prepare(logits, tau, hard, eps, dim):
    if eps != 1e-10:
        warn("gumbel_softmax(): eps is deprecated and has no effect")
    exponential = torch.empty_like(logits, memory_format=torch.legacy_contiguous_format).exponential_()
    return logits, -exponential.log(), tau, hard, dim
