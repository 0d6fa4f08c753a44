"""Losses of a difference: absolute, squared, and the two that are squared near zero and absolute beyond."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import real_dtype, warn, widened
from .reduction import check_reduction, reduce_loss


def _check(name, input, target, reduction, weight=None):
    """What these losses ask of their arguments, and torch's advice where they are broadcast."""
    check_reduction(reduction)
    if target.shape != input.shape:
        warn(f"{name}: input has shape {tuple(input.shape)}, target {tuple(target.shape)}; they are broadcast, which is "
             "seldom what is meant: give them one shape")  # fmt: skip
    torch.broadcast_shapes(input.shape, target.shape)
    if weight is not None and weight.shape != input.shape:
        raise ValueError(
            f"{name}: weight must have the input's shape {tuple(input.shape)}, it has {tuple(weight.shape)}"
        )


def difference(input, target):
    return widened(input) - widened(target)


def reduced(loss, reduction, weight, input, target, normalised=True):
    """The reduction, weighted: the mean is $\\sum w l / \\sum w$ where normalised, else $\\sum w l / n$."""
    if weight is None:
        loss = reduce_loss(loss, reduction)
    elif reduction == "mean" and normalised:
        loss = (loss * weight).sum() / weight.sum()
    else:
        loss = reduce_loss(loss * weight, reduction)
    return loss.to(real_dtype(input, target))


def _pull(dy, slope, loss, reduction, weight, needs, normalised=True):
    r"""Gradients of `reduced`, given the slopes $dl/d(input)$ and the losses of the elements, which only the weight's asks
    for: of input, target $(= -)$ and weight.

    $dw = s\,l$, for the normalised mean $s\,(l - E)$ with $E = \sum w l / \sum w$.
    """
    dweight, dy = None, widened(dy)
    if reduction == "mean":
        dy = dy / (weight.sum() if weight is not None and normalised else slope.numel())
    if weight is not None and needs.weight:
        spread = loss
        if reduction == "mean" and normalised:
            spread = spread - (spread * weight).sum() / weight.sum()
        dweight = dy * spread
    dinput = slope * (dy if weight is None else dy * weight)
    return dinput, -dinput if needs.target else None, dweight


# --- absolute and squared ---------------------------------------------------------------------------------------


@op(builtin=F.l1_loss, autocast="float32", dtypes=Dtypes(promote=("input", "target", "weight")))
def l1_loss(input, target, reduction="mean", weight=None):
    r"""Absolute error: $l = |x - y|$, its mean or sum, weighted where there is a weight (mean $\sum w l / \sum w$).

    input and target of one shape (others are broadcast, with a warning), weight of the input's; output a number, or for
    "none" as the input. ValueError where reduction or weight is wrong, RuntimeError where shapes do not fit. Boscovich 1757.
    """
    return reduced(difference(input, target).abs(), reduction, weight, input, target)


@l1_loss.gradient
def l1_loss_gradient(dy, needs, input, target, reduction, weight):
    r"""$dx = s\,w\,\mathrm{sign}(x - y)$, 0 at 0, and minus that for y; s: dy, for the mean dy over its denominator."""
    d = difference(input, target)
    dinput, dtarget, dweight = _pull(dy, d.sgn(), d.abs() if needs.weight else None, reduction, weight, needs)
    return dinput, dtarget, None, dweight


class L1Loss(Manual, torch.nn.L1Loss):
    """The module of `l1_loss`."""

    op = l1_loss
    attributes = {"reduction": "reduction"}


@l1_loss.prepare
def l1_loss_prepare(input, target, reduction, weight):
    _check("l1_loss", input, target, reduction, weight)
    return input, target, reduction, weight


@op(builtin=F.mse_loss, autocast="float32", dtypes=Dtypes(promote=("input", "target", "weight")))
def mse_loss(input, target, reduction="mean", weight=None):
    r"""Squared error: $l = (x - y)^2$, its mean or sum, weighted where there is a weight (mean $\sum w l / \sum w$).

    input and target of one shape (others are broadcast, with a warning), weight of the input's; output a number, or for
    "none" as the input. It grows without bound, so that one outlier may outweigh all else. Errors as `l1_loss`.
    Legendre 1805; Gauss 1809.
    """
    return reduced(difference(input, target).square(), reduction, weight, input, target)


@mse_loss.gradient
def mse_loss_gradient(dy, needs, input, target, reduction, weight):
    r"""$dx = 2\,s\,w\,(x - y)$, and minus that for y; s: dy, for the mean dy over its denominator."""
    d = difference(input, target)
    dinput, dtarget, dweight = _pull(dy, 2 * d, d.square() if needs.weight else None, reduction, weight, needs)
    return dinput, dtarget, None, dweight


class MSELoss(Manual, torch.nn.MSELoss):
    """The module of `mse_loss`."""

    op = mse_loss
    attributes = {"reduction": "reduction"}


@mse_loss.prepare
def mse_loss_prepare(input, target, reduction, weight):
    _check("mse_loss", input, target, reduction, weight)
    return input, target, reduction, weight


# --- squared near zero, absolute beyond -------------------------------------------------------------------------


def _bowl(d, bound, unit=1.0):
    r"""$d^2 / 2u$ where $|d| \le b$, else $b (|d| - b / 2) / u$: both are $c / u\,(|d| - c / 2)$ with $c = \min(|d|, b)$."""
    c = d.abs().clamp(max=bound)
    return c / unit * (d.abs() - c / 2)


def held(number, difference):
    """The number as the difference's dtype holds it: infinity where it is larger than the largest."""
    return math.inf if number > torch.finfo(difference.dtype).max else number


def divisor(beta, difference):
    """beta as `held` has it, by which it can be divided too."""
    return max(held(beta, difference), torch.finfo(difference.dtype).tiny)


@op(builtin=F.smooth_l1_loss, autocast="float32", dtypes=Dtypes(promote=("input", "target")))
def smooth_l1_loss(input, target, reduction="mean", beta=1.0):
    r"""Smooth absolute error: $l = d^2 / 2\beta$ where $|d| < \beta$, else $|d| - \beta / 2$, of $d = x - y$.

    input and target of one shape (others are broadcast, with a warning); beta 0 is l1_loss. Girshick 2015,
    arXiv:1504.08083, eq. 3. RuntimeError where beta is negative or shapes do not fit, ValueError where reduction is wrong.
    """
    d = difference(input, target)
    if not beta:
        return reduced(d.abs(), reduction, None, input, target)
    beta = divisor(beta, d)
    return reduced(_bowl(d, beta, beta), reduction, None, input, target)


@smooth_l1_loss.gradient
def smooth_l1_loss_gradient(dy, needs, input, target, reduction, beta):
    r"""$dx = s\,\mathrm{sgn}\,d$ where $|d| \ge \beta$, else $s\,d / \beta$; s is dy, for the mean dy/n."""
    d = difference(input, target)
    if not beta:
        return _pull(dy, d.sgn(), None, reduction, None, needs)[:2]
    beta = divisor(beta, d)
    return _pull(dy, torch.where(d.abs() >= beta, d.sgn(), d / beta), None, reduction, None, needs)[:2]


class SmoothL1Loss(Manual, torch.nn.SmoothL1Loss):
    """The module of `smooth_l1_loss`."""

    op = smooth_l1_loss


@smooth_l1_loss.prepare
def smooth_l1_loss_prepare(input, target, reduction, beta):
    _check("smooth_l1_loss", input, target, reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta must not be negative, it is {beta}")
    return input, target, reduction, beta


@op(
    builtin=F.huber_loss,
    autocast={"cpu": "float32", "cuda": "float32"},
    dtypes=Dtypes(promote=("input", "target", "weight")),
)
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    r"""Huber's loss: $l = d^2 / 2$ where $|d| \le \delta$, else $\delta (|d| - \delta / 2)$, of $d = x - y$.

    input and target of one shape (others are broadcast, with a warning), weight of the input's (the mean is
    $\sum w l / n$). Huber 1964 (Annals of Mathematical Statistics 35). RuntimeError where delta is not positive or shapes do
    not fit, ValueError where reduction is wrong.
    """
    d = difference(input, target)
    return reduced(_bowl(d, held(delta, d)), reduction, weight, input, target, normalised=False)


@huber_loss.gradient
def huber_loss_gradient(dy, needs, input, target, reduction, delta, weight):
    r"""$dx = s\,w\,\mathrm{clamp}(d, -\delta, \delta)$; s is dy, for the mean dy/n."""
    d = difference(input, target)
    delta = held(delta, d)
    loss = _bowl(d, delta) if needs.weight else None
    dinput, dtarget, dweight = _pull(dy, d.clamp(-delta, delta), loss, reduction, weight, needs, normalised=False)
    return dinput, dtarget, None, None, dweight


class HuberLoss(Manual, torch.nn.HuberLoss):
    """The module of `huber_loss`."""

    op = huber_loss
    attributes = {"reduction": "reduction", "delta": "delta"}


@huber_loss.prepare
def huber_loss_prepare(input, target, reduction, delta, weight):
    _check("huber_loss", input, target, reduction, weight)
    if delta <= 0:
        raise RuntimeError(f"huber_loss: delta must be positive, it is {delta}")
    return input, target, reduction, delta, weight
