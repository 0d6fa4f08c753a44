"""Losses of a difference: absolute, squared, and the two that are squared near zero and absolute beyond."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..module import Manual
from ..op import op
from .common import own, real_dtype, warn, widened
from .loss import check_reduction, reduce_loss


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


def _difference(input, target):
    return widened(input) - widened(target)


def _reduce(loss, reduction, weight, input, target, normalised=True):
    """The reduction, weighted: the mean is $\\sum w l / \\sum w$ where normalised, else $\\sum w l / n$."""
    if weight is None:
        loss = reduce_loss(loss, reduction)
    elif reduction == "mean" and normalised:
        loss = (loss * weight).sum() / weight.sum()
    else:
        loss = reduce_loss(loss * weight, reduction)
    return loss.to(real_dtype(input, target))


def _pull(dy, slope, reduction, weight, needs, normalised=True, loss=None, factor=1):
    r"""Gradients of `_reduce`, given a fresh tensor of the slopes $dl/d(input)$, to be multiplied by factor: of input,
    target $(= -)$ and, where it is wanted, of the weight, for which loss() gives the elements' losses.

    $dw = s\,l$, for the normalised mean $s\,(l - E)$ with $E = \sum w l / \sum w$.
    """
    dweight, dy = None, widened(dy)
    if reduction == "mean":
        dy = dy / (weight.sum() if weight is not None and normalised else slope.numel())
    if weight is not None and needs.weight:
        spread = loss()
        if reduction == "mean" and normalised:
            spread = spread - (spread * weight).sum() / weight.sum()
        dweight = dy * spread
    if factor != 1:
        dy = dy * factor
    dinput = torch.mul(slope, dy if weight is None else dy * weight, out=own(slope))
    return dinput, -dinput if needs.target else None, dweight


# --- absolute and squared ---------------------------------------------------------------------------------------


@op(builtin=F.l1_loss, autocast="float32")
def l1_loss(input, target, reduction="mean", weight=None):
    r"""Absolute error: $l = |x - y|$, its mean or sum, weighted where there is a weight (mean $\sum w l / \sum w$).

    input and target of one shape (others are broadcast, with a warning), weight of the input's; output a number, or for
    "none" as the input. ValueError where reduction or weight is wrong.
    """
    difference = _difference(input, target)
    return _reduce(_size(difference), reduction, weight, input, target)


@l1_loss.prepare
def l1_loss_prepare(input, target, reduction, weight):
    _check("l1_loss", input, target, reduction, weight)
    return input, target, reduction, weight


@l1_loss.gradient
def l1_loss_gradient(dy, needs, input, target, reduction, weight):
    r"""$dx = s\,w\,\mathrm{sign}(x - y) = -dy$, 0 where they are equal; s is dy, for the mean dy over its denominator."""
    difference = _difference(input, target)
    loss = difference.abs() if needs.weight else None
    slope = torch.sgn(difference, out=own(difference))
    dinput, dtarget, dweight = _pull(dy, slope, reduction, weight, needs, loss=lambda: loss)
    return dinput, dtarget, None, dweight


class L1Loss(Manual, torch.nn.L1Loss):
    op = l1_loss
    attributes = {"reduction": "reduction"}


@op(builtin=F.mse_loss, autocast="float32")
def mse_loss(input, target, reduction="mean", weight=None):
    r"""Squared error: $l = (x - y)^2$, its mean or sum, weighted where there is a weight (mean $\sum w l / \sum w$).

    input and target of one shape (others are broadcast, with a warning), weight of the input's; output a number, or for
    "none" as the input. It grows without bound, so that one outlier may outweigh all else. ValueError as l1_loss.
    """
    difference = _difference(input, target)
    return _reduce(torch.square(difference, out=own(difference)), reduction, weight, input, target)


@mse_loss.prepare
def mse_loss_prepare(input, target, reduction, weight):
    _check("mse_loss", input, target, reduction, weight)
    return input, target, reduction, weight


@mse_loss.gradient
def mse_loss_gradient(dy, needs, input, target, reduction, weight):
    r"""$dx = 2\,s\,w\,(x - y) = -dy$; s is dy, for the mean dy over its denominator."""
    difference = _difference(input, target)
    dinput, dtarget, dweight = _pull(
        dy, difference, reduction, weight, needs, loss=lambda: difference.square(), factor=2
    )
    return dinput, dtarget, None, dweight


class MSELoss(Manual, torch.nn.MSELoss):
    op = mse_loss
    attributes = {"reduction": "reduction"}


# --- squared near zero, absolute beyond -------------------------------------------------------------------------


def _size(difference):
    """The absolute value, in the place of a real difference."""
    return difference.abs() if difference.is_complex() else torch.abs(difference, out=own(difference))


def _bowl(difference, bound, unit=1.0):
    r"""$d^2 / 2u$ where $|d| \le b$, else $b (|d| - b / 2) / u$: both are $c / u\,(|d| - c / 2)$ with $c = \min(|d|, b)$."""
    size = _size(difference)
    near = size.clamp(max=bound)
    size = torch.sub(size, near, alpha=0.5, out=own(size))
    near = near if unit == 1 else torch.div(near, unit, out=own(near))
    return torch.mul(size, near, out=own(size))


def _held(number, difference):
    """The number as the difference's dtype holds it: infinity where it is larger than the largest."""
    return math.inf if number > torch.finfo(difference.dtype).max else number


@op(builtin=F.smooth_l1_loss, autocast="float32")
def smooth_l1_loss(input, target, reduction="mean", beta=1.0):
    r"""Smooth absolute error: $l = d^2 / 2\beta$ where $|d| < \beta$, else $|d| - \beta / 2$, of $d = x - y$.

    input and target of one shape (others are broadcast, with a warning); beta 0 is l1_loss. Girshick 2015,
    arXiv:1504.08083, eq. 3. RuntimeError where beta is negative.
    """
    difference = _difference(input, target)
    if not beta:
        return _reduce(difference.abs(), reduction, None, input, target)
    beta = max(_held(beta, difference), torch.finfo(difference.dtype).tiny)  # by which it can be divided
    return _reduce(_bowl(difference, beta, beta), reduction, None, input, target)


@smooth_l1_loss.prepare
def smooth_l1_loss_prepare(input, target, reduction, beta):
    _check("smooth_l1_loss", input, target, reduction)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta must not be negative, it is {beta}")
    return input, target, reduction, beta


@smooth_l1_loss.gradient
def smooth_l1_loss_gradient(dy, needs, input, target, reduction, beta):
    r"""$dx = s\,\mathrm{clamp}(d / \beta, -1, 1)$; s is dy, for the mean dy/n."""
    difference = _difference(input, target)
    if not beta:
        return _pull(dy, difference.sgn(), reduction, None, needs)[:2]
    beta = max(_held(beta, difference), torch.finfo(difference.dtype).tiny)  # by which it can be divided
    slope = torch.clamp(difference, -beta, beta, out=own(difference))
    return _pull(dy, torch.div(slope, beta, out=own(slope)), reduction, None, needs)[:2]


class SmoothL1Loss(Manual, torch.nn.SmoothL1Loss):
    op = smooth_l1_loss


@op(builtin=F.huber_loss, autocast={"cpu": "float32", "cuda": "float32"})
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    r"""Huber's loss: $l = d^2 / 2$ where $|d| \le \delta$, else $\delta (|d| - \delta / 2)$, of $d = x - y$.

    input and target of one shape (others are broadcast, with a warning), weight of the input's (the mean is
    $\sum w l / n$). Huber 1964. RuntimeError where delta is not positive.
    """
    difference = _difference(input, target)
    loss = _bowl(difference, _held(delta, difference))
    return _reduce(loss, reduction, weight, input, target, normalised=False)


@huber_loss.prepare
def huber_loss_prepare(input, target, reduction, delta, weight):
    _check("huber_loss", input, target, reduction, weight)
    if delta <= 0:
        raise RuntimeError(f"huber_loss: delta must be positive, it is {delta}")
    return input, target, reduction, delta, weight


@huber_loss.gradient
def huber_loss_gradient(dy, needs, input, target, reduction, delta, weight):
    r"""$dx = s\,w\,\mathrm{clamp}(d, -\delta, \delta)$; s is dy, for the mean dy/n."""
    difference = _difference(input, target)
    delta = _held(delta, difference)
    slope = (
        difference.clamp(-delta, delta) if needs.weight else torch.clamp(difference, -delta, delta, out=own(difference))
    )
    dinput, dtarget, dweight = _pull(
        dy, slope, reduction, weight, needs, normalised=False, loss=lambda: _bowl(difference, delta)
    )
    return dinput, dtarget, None, None, dweight


class HuberLoss(Manual, torch.nn.HuberLoss):
    op = huber_loss
    attributes = {"reduction": "reduction", "delta": "delta"}
