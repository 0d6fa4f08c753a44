"""Negative log-likelihoods of two classes, of counts and of normal values."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import HALF, concrete, gated, log1p_exp, logistic, times, wide, widened
from .reduction import check_reduction, reduce_loss, unreduced

LEAST = 9.999999960041972e-13  # 1e-12 in float32, as torch has it for every dtype

# --- two classes ------------------------------------------------------------------------------------------------


@op(
    builtin=F.binary_cross_entropy,
    autocast={"cpu": "float32"},
    dtypes=Dtypes(one=("input", "target"), promote=("input", "target", "weight"), result="input"),
)
def binary_cross_entropy(input, target, weight=None, reduction="mean"):
    r"""Of probabilities p: $l = -w\,(t \log p + (1 - t) \log(1 - p))$, each logarithm at least -100.

    input and target of one shape, input in [0, 1]; weight broadcast to it. Prefer the logits: p near 1 has lost
    what tells it from 1. ValueError where shapes differ, RuntimeError where p or t is no probability (on the CPU). Bishop 2006,
    eq. 4.90.
    """
    p = wide(input)
    loss = (target - 1) * (-p).log1p().clamp(min=-100) - target * p.log().clamp(min=-100)
    return reduce_loss(loss if weight is None else loss * weight, reduction).to(input.dtype)


@binary_cross_entropy.gradient
def binary_cross_entropy_gradient(dy, needs, input, target, weight, reduction):
    r"""$dp = s\,w\,(p - t) / p(1 - p)$, at the ends $(1 - t) / (1 - p) - t / p$, each denominator at least $10^{-12}$;
    $dt = s\,w\,(\log(1 - p) - \log p)$.

    At p = 0 and t = 0 that is 1, as it is beside them, where the former is 0/0.
    """
    p = wide(input)
    s = unreduced(dy, input.numel(), reduction)
    s = s if weight is None else s * weight
    dp = s * _slope_of_probability(p, target) if needs.input else None
    return dp, s * ((-p).log1p() - p.log()) if needs.target else None


class BCELoss(Manual, torch.nn.BCELoss):
    """The module of `binary_cross_entropy`."""

    op = binary_cross_entropy


@binary_cross_entropy.prepare
def binary_cross_entropy_prepare(input, target, weight, reduction):
    check_reduction(reduction)
    if target.shape != input.shape:
        raise ValueError(f"binary_cross_entropy: the target must have the input's shape {tuple(input.shape)}, it has "
                         f"{tuple(target.shape)}")  # fmt: skip
    if weight is not None and torch.broadcast_shapes(target.shape, weight.shape) != target.shape:
        raise RuntimeError(f"binary_cross_entropy: the weight must broadcast to the target's shape {tuple(target.shape)}, it "
                           f"has {tuple(weight.shape)}")  # fmt: skip
    for what, values in (("input", input), ("target", target)):
        if concrete(values) and values.device.type == "cpu" and not ((values >= 0) & (values <= 1)).all():
            raise RuntimeError(f"binary_cross_entropy: all elements of {what} should be between 0 and 1, as probabilities are; "
                               "of logits use binary_cross_entropy_with_logits")  # fmt: skip
    if torch.is_autocast_enabled("cuda") and input.is_cuda:
        raise RuntimeError(
            "binary_cross_entropy is unsafe to autocast: use binary_cross_entropy_with_logits, or disable it"
        )
    return input, target, weight, reduction


def _slope_of_probability(p, t):
    both = (1 - p) * p
    inside = both >= LEAST
    ends = (1 - t) / (1 - p).clamp(min=LEAST) - t / p.clamp(min=LEAST)
    return torch.where(inside, (p - t) / torch.where(inside, both, 1), ends)


@op(
    builtin=F.binary_cross_entropy_with_logits,
    autocast="float32",
    dtypes=Dtypes(promote=("input", "target", "weight", "pos_weight"), result="target"),
)
def binary_cross_entropy_with_logits(input, target, weight=None, reduction="mean", pos_weight=None):
    r"""Of logits x: $l = w\,(c\,t\,\zeta(-x) + (1 - t)\,\zeta(x)),\quad \zeta(x) = \log(1 + e^x)$.

    $\zeta(-x) = -\log \sigma(x)$, so this is the binary cross entropy of $\sigma(x)$, exact where that is 0 or 1. input
    and target of one shape; weight w and pos_weight c broadcast to it. ValueError where shapes differ. Bishop 2006,
    eq. 4.90.
    """
    loss = _binary(wide(input), target, pos_weight)
    return reduce_loss(loss if weight is None else loss * weight, reduction).to(input.dtype)


@binary_cross_entropy_with_logits.gradient
def binary_cross_entropy_with_logits_gradient(dy, needs, input, target, weight, reduction, pos_weight):
    r"""$dx = s\,w\,((1 - t)\,\sigma(x) - c\,t\,\sigma(-x))$, as $\zeta' = \sigma$; $dt = s\,w\,(c\,\zeta(-x) - \zeta(x))$,
    $dw = s\,l / w,\ dc = s\,w\,t\,\zeta(-x)$.
    """
    x = wide(input)
    c = 1 if pos_weight is None else pos_weight
    shape = torch.broadcast_shapes(input.shape, *(v.shape for v in (weight, pos_weight) if v is not None))
    s = unreduced(dy, shape.numel(), reduction)
    sw = s if weight is None else s * weight
    dx = sw * ((1 - target) * logistic(x) - c * target * logistic(-x)) if needs.input else None
    dt = None
    if needs.target:  # $\zeta(x) = x + \zeta(-x)$
        dt = sw * (-x if pos_weight is None else (c - 1) * log1p_exp(-x) - x)
    dw = s * _binary(x, target, pos_weight) if needs.weight else None
    return dx, dt, dw, None, sw * target * log1p_exp(-x) if needs.pos_weight else None


class BCEWithLogitsLoss(Manual, torch.nn.BCEWithLogitsLoss):
    """The module of `binary_cross_entropy_with_logits`."""

    op = binary_cross_entropy_with_logits


def _binary(x, t, c):
    r"""$c\,t\,\zeta(-x) + (1 - t)\,\zeta(x)$: of either label alone exact, as no x is subtracted from $\zeta(x)$ again."""
    return times(t if c is None else c * t, log1p_exp(-x)) + times(1 - t, log1p_exp(x))


@binary_cross_entropy_with_logits.prepare
def binary_cross_entropy_with_logits_prepare(input, target, weight, reduction, pos_weight):
    check_reduction(reduction)
    if target.shape != input.shape:
        raise ValueError(f"binary_cross_entropy_with_logits: the target must have the input's shape {tuple(input.shape)}, "
                         f"it has {tuple(target.shape)}")  # fmt: skip
    return input, target, weight, reduction, pos_weight


@op(builtin=F.soft_margin_loss, autocast="float32", dtypes=Dtypes(promote=("input", "target"), result="input"))
def soft_margin_loss(input, target, reduction="mean"):
    r"""Logistic loss of targets 1 and -1: $l = \log(1 + e^{-t x})$.

    target broadcast to the input; output a number, or elementwise. ValueError where reduction is wrong,
    RuntimeError where shapes do not fit. Friedman et al. 2000 (Annals of Statistics 28).
    """
    return reduce_loss(log1p_exp(_opposed(wide(input), target)), reduction).to(input.dtype)


@soft_margin_loss.gradient
def soft_margin_loss_gradient(dy, needs, input, target, reduction):
    r"""$dx = -s\,t\,\sigma(-t x),\quad dt = -s\,x\,\sigma(-t x)$."""
    x = wide(input)
    z = _opposed(x, target)
    s = -unreduced(dy, z.numel(), reduction)
    return gated(s * target, z), gated(s * x, z) if needs.target else None


class SoftMarginLoss(Manual, torch.nn.SoftMarginLoss):
    """The module of `soft_margin_loss`."""

    op = soft_margin_loss


def _opposed(x, target):
    """$-t x$."""
    return -(target * x)


@soft_margin_loss.prepare
def soft_margin_loss_prepare(input, target, reduction):
    check_reduction(reduction)
    if torch.broadcast_shapes(input.shape, target.shape) != input.shape:
        raise RuntimeError(f"soft_margin_loss: the target must broadcast to the input's shape {tuple(input.shape)}, it has "
                           f"{tuple(target.shape)}")  # fmt: skip
    return input, target, reduction


@op(builtin=F.multilabel_soft_margin_loss, dtypes=Dtypes(promote=("input", "target", "weight")))
def multilabel_soft_margin_loss(input, target, weight=None, reduction="mean"):
    r"""Binary cross entropies of C labels, their mean:
    $l_n = \frac1C \sum_c w_c\,(t_{nc}\,\zeta(-x_{nc}) + (1 - t_{nc})\,\zeta(x_{nc}))$.

    input, target (*, C) and weight broadcast to each other; output a number, or (*). ValueError where reduction is wrong.
    Nam et al. 2013, arXiv:1312.5419.
    """
    loss = _binary(wide(input), target, None)
    loss = (loss if weight is None else loss * weight).sum(-1) / input.shape[-1]
    return reduce_loss(loss, reduction).to(torch.promote_types(input.dtype, target.dtype))


@multilabel_soft_margin_loss.gradient
def multilabel_soft_margin_loss_gradient(dy, needs, input, target, weight, reduction):
    r"""$dx = \frac{s\,w}{C} ((1 - t)\,\sigma(x) - t\,\sigma(-x)),\quad dt = -\frac{s\,w}{C} x,\quad
    dw_c = \frac{s}{C} (t\,\zeta(-x) + (1 - t)\,\zeta(x))$.
    """
    x, target = torch.broadcast_tensors(wide(input), target)
    s = of_labels(dy, x, reduction) / input.shape[-1]
    sw = s if weight is None else s * weight
    dx = sw * ((1 - target) * logistic(x) - target * logistic(-x)) if needs.input else None
    return dx, -sw * x if needs.target else None, s * _binary(x, target, None) if needs.weight else None


class MultiLabelSoftMarginLoss(Manual, torch.nn.MultiLabelSoftMarginLoss):
    """The module of `multilabel_soft_margin_loss`."""

    op = multilabel_soft_margin_loss


def of_labels(dy, x, reduction):
    """The upstream gradient of each sample's sum over its labels."""
    return dy.unsqueeze(-1) if reduction == "none" else unreduced(dy, x.numel() // max(x.shape[-1], 1), reduction)


@multilabel_soft_margin_loss.prepare
def multilabel_soft_margin_loss_prepare(input, target, weight, reduction):
    check_reduction(reduction)
    return input, target, weight, reduction


# --- counts and normal values -----------------------------------------------------------------------------------


@op(builtin=F.poisson_nll_loss, autocast="float32", dtypes=Dtypes(promote=("input", "target")))
def poisson_nll_loss(input, target, log_input=True, full=False, eps=1e-8, reduction="mean"):
    r"""Of counts t with mean $\lambda$: $l = \lambda - t \log \lambda$, with full $+\,\log t!$ by Stirling where t > 1.

    input x is $\log \lambda$, or $\lambda$ itself (then $\log(\lambda + \epsilon)$); target broadcast to it; output a number,
    or elementwise. ValueError where reduction is wrong, RuntimeError where shapes do not fit. McCullagh & Nelder 1989,
    chapter 6.
    """
    x = widened(input)
    loss = x.exp() - times(target, x) if log_input else x - times(target, (x + eps).log())
    if full:
        t = widened(target).masked_fill(target <= 1, 1)
        stirling = t * t.log() - t + 0.5 * (2 * math.pi * t).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    dtype = torch.promote_types(input.dtype, target.dtype)
    return reduce_loss(loss, reduction).to(dtype if dtype.is_floating_point else loss.dtype)


@poisson_nll_loss.gradient
def poisson_nll_loss_gradient(dy, needs, input, target, log_input, full, eps, reduction):
    r"""$dx = s\,(e^x - t)$, or $s\,(1 - t / (x + \epsilon))$; $dt = -s \log \lambda$, with full $+\,s (\log t + 1 / 2t)$."""
    x = widened(input)
    s = unreduced(dy, torch.broadcast_shapes(input.shape, target.shape).numel(), reduction)
    dx = s * (x.exp() - target if log_input else 1 - target / _mean(x, target, eps))
    dt = None
    if needs.target:
        slope = -x if log_input else -(x + eps).log()
        if full:
            t = widened(target).masked_fill(target <= 1, 1)
            slope = slope + (t.log() + 0.5 / t).masked_fill(target <= 1, 0)
        dt = s * slope
    return dx, dt


class PoissonNLLLoss(Manual, torch.nn.PoissonNLLLoss):
    """The module of `poisson_nll_loss`."""

    op = poisson_nll_loss
    attributes = {name: name for name in ("log_input", "full", "eps", "reduction")}


def _mean(x, target, eps):
    r"""$x + \epsilon$, but no 0 where the target is: 0/0 stands for 0 there."""
    mean = x + eps
    return torch.where((mean == 0) & (target == 0), 1, mean)


@poisson_nll_loss.prepare
def poisson_nll_loss_prepare(input, target, log_input, full, eps, reduction):
    check_reduction(reduction)
    torch.broadcast_shapes(input.shape, target.shape)
    return input, target, log_input, full, eps, reduction


@op(builtin=F.gaussian_nll_loss, dtypes=Dtypes(promote=("input", "target", "var")))
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    r"""Of normal values t with mean x and variance v: $l = \frac12 (\log v + (x - t)^2 / v)$, with full $+\frac12 \log 2\pi$.

    var of the input's shape, or with one dimension 1 or missing at the end, or a number; v is var, at least eps (as in
    torch the bound does not stop var's gradient). ValueError where var's shape does not fit or it is negative, RuntimeError
    where input and target do not fit. Nix & Weigend 1994 (ICNN).
    """
    v = _variance(input, var, eps)
    loss = 0.5 * (v.log() + ((widened(input) - widened(target)) / v.sqrt()).square())
    loss = reduce_loss(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)
    half = all(t.dtype in HALF for t in (input, target, var) if isinstance(t, torch.Tensor))
    return loss.to(torch.promote_types(input.dtype, target.dtype)) if half else loss


@gaussian_nll_loss.gradient
def gaussian_nll_loss_gradient(dy, needs, input, target, var, eps, reduction):
    r"""$dx = s\,(x - t) / v = -dt,\quad dv = \frac{s}{2} (1 - (x - t)^2 / v) / v$."""
    v = _variance(input, var, eps)
    difference = widened(input) - widened(target)
    s = unreduced(dy, torch.broadcast_shapes(difference.shape, v.shape).numel(), reduction)
    dx = s * difference / v
    dv = None
    if needs.var:
        dv = s * 0.5 * (1 - (difference / v.sqrt()).square()) / v
        dv = dv.sum(-1) if var.dim() < input.dim() else dv
    return dx, -dx, dv


class GaussianNLLLoss(Manual, torch.nn.GaussianNLLLoss):
    """The module of `gaussian_nll_loss`."""

    op = gaussian_nll_loss


def _variance(input, var, eps):
    if not isinstance(var, torch.Tensor):
        var = input.new_full((), var)
    return widened(var.unsqueeze(-1) if 0 < var.dim() < input.dim() else var).clamp(min=eps)


@gaussian_nll_loss.prepare
def gaussian_nll_loss_prepare(input, target, var, full, eps, reduction):
    check_reduction(reduction)
    if not isinstance(var, torch.Tensor):
        if var < 0:
            raise ValueError(f"gaussian_nll_loss: var must not be negative, it is {var}")
        return input, target, float(var), full, eps, reduction
    if concrete(var) and (var < 0).any():
        raise ValueError("gaussian_nll_loss: var must not be negative, it has negative entries")
    if var.shape != input.shape and var.shape != input.shape[:-1]:
        other = [v for i, v in zip(input.shape, var.shape, strict=False) if i != v]
        if var.dim() != input.dim() or sum(other) != 1:
            raise ValueError(f"gaussian_nll_loss: var must have the input's shape {tuple(input.shape)}, with at most one "
                             f"dimension 1 or the last one missing; it has {tuple(var.shape)}")  # fmt: skip
    return input, target, var, full, eps, reduction
