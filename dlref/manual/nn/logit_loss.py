"""Losses of logits beside cross entropy: focal loss, and the z-loss, which holds their logarithmic sum near 0."""

from __future__ import annotations

import math

import torch

from ...builtin import functional as builtin
from ...builtin.logit_loss import check_focal_loss, check_z_loss, classes_marked
from ...builtin.nn import logit_loss as builtin_nn
from ...core.module import Manual
from ...core.pair import op
from .common import log1p_exp, logistic, marked, times, wide, widened
from .reduction import reduce_loss, unreduced


def log_sum(x, dim):
    r"""The two terms of $\log \sum_j e^{x_j} = m + \log(1 + \sum_{j \ne k} e^{x_j - m})$ along dim, which is kept,
    $m = x_k$ the largest: so exp cannot overflow. Where all are $-\infty$ it is the second, m is 0.
    """
    if not x.shape[dim]:
        nothing = x.sum(dim, keepdim=True)
        return nothing, nothing.log()
    top = x.argmax(dim, keepdim=True)
    m = x.gather(dim, top)
    m = torch.where(m.isinf(), 0, m)
    e = torch.exp(x - m)
    first = e.gather(dim, top)  # 1 where m is finite
    return m, torch.log1p(e.scatter(dim, top, torch.zeros_like(first)).sum(dim, keepdim=True) + (first - 1))


@op(builtin=builtin.z_loss)
def z_loss(input, coefficient=1e-4, reduction="mean"):
    r"""Penalty of logits whose sum drifts: $l = c\,(\log \sum_j e^{x_j})^2$ over the last dimension.

    input (*, C), output a number, or (*). ValueError where the input has no dimension or reduction is wrong. Zoph et al. 2022,
    arXiv:2202.08906, eq. 5; Chowdhery et al. 2022, arXiv:2204.02311, section 5.
    """
    m, l = log_sum(wide(input), -1)  # noqa: E741
    return reduce_loss(coefficient * (m + l).squeeze(-1).square(), reduction).to(input.dtype)


@z_loss.gradient
def z_loss_gradient(dy, input, coefficient, reduction):
    r"""$dx_i = 2\,s\,c\,z\,e^{x_i - z},\quad z = \log \sum_j e^{x_j}$; s is dy, for the mean dy over the rows. Nothing but the
    input is kept, as in a kernel that is fused with cross entropy.
    """
    x = wide(input)
    m, l = log_sum(x, -1)  # noqa: E741
    s = unreduced(dy, input.shape[:-1].numel(), reduction)
    s = s.unsqueeze(-1) if reduction == "none" else s
    root = torch.exp((x - m - l) / 2)  # which is not subnormal where the product is not
    return 2 * coefficient * s * (m + l) * root * root


class ZLoss(Manual, builtin_nn.ZLoss):
    """The module of `z_loss`."""

    op = z_loss


@z_loss.prepare
def z_loss_prepare(input, coefficient, reduction):
    check_z_loss(input, reduction)
    return input, coefficient, reduction


def _against_others(input, index, dim):
    r"""The logits without the class, $-\infty$ there, less their largest; $\log \sum e^x$ of that; the class's log-odds."""
    x = wide(input)
    others = classes_marked(x, dim, index, -math.inf)
    m, l = log_sum(others, dim)  # noqa: E741
    return others - m, l, x.gather(dim, index) - m - l


def _focal(z, gamma):
    r"""$(1 - p)^\gamma\,(-\log p)$ of log-odds z."""
    loss = log1p_exp(-z)
    return times(torch.exp(-gamma * log1p_exp(z)), loss) if gamma else loss


@op(builtin=builtin.focal_loss)
def focal_loss(input, target, gamma=2.0, alpha=None, reduction="mean"):
    r"""Cross entropy that heeds easy examples less: $l = -\alpha_t\,(1 - p_t)^\gamma \log p_t$, p the softmax of the logits.

    Of the log-odds $z = x_t - \log \sum_{c \ne t} e^{x_c}$ it is $\alpha_t\,e^{-\gamma \zeta(z)} \zeta(-z)$,
    $\zeta(z) = \log(1 + e^z)$, as $1 - p = \sigma(-z)$: nothing cancels where p is near 1. input (C), (N, C) or
    (N, C, d1, ...), target class indices (int64 or uint8) without C, alpha (C,); output a number, or as target. $\gamma$ = 0 is
    `cross_entropy`, but for the mean with alpha, which is over the number of targets. ValueError where shapes, gamma or
    reduction do not fit, IndexError where there is no such class. Lin et al. 2017, arXiv:1708.02002, eq. 5.
    """
    dim = min(input.dim() - 1, 1)
    index = target.long().unsqueeze(dim)
    _, _, z = _against_others(input, index, dim)
    loss = _focal(z, gamma)
    loss = loss if alpha is None else widened(alpha)[index] * loss
    return reduce_loss(loss.squeeze(dim), reduction).to(input.dtype)


@focal_loss.gradient
def focal_loss_gradient(dy, needs, input, target, gamma, alpha, reduction):
    r"""$dz = -s\,\alpha_t\,u^\gamma\,(\gamma\,p\,\zeta(-z) + u),\quad u = 1 - p$, as $p = \sigma(z),\ \zeta' = \sigma$; so
    $dx_t = dz,\quad dx_c = -dz\,e^{x_c} / \sum_{k \ne t} e^{x_k}$; $d\alpha_c = \sum_n s\,[t_n = c]\,u^\gamma \zeta(-z)$.

    s is dy, for the mean dy over the targets. No power of u is negative, for $\gamma < 1$ at p = 1 neither. Nothing but the
    input is kept.
    """
    dim = min(input.dim() - 1, 1)
    index = target.long().unsqueeze(dim)
    others, total, z = _against_others(input, index, dim)
    s = unreduced(dy, target.numel(), reduction)
    s = s.unsqueeze(dim) if reduction == "none" else s
    w = s if alpha is None else s * widened(alpha)[index]
    u = logistic(-z)
    dz = -w * u
    if gamma:
        dz = -w * torch.exp(-gamma * log1p_exp(z)) * (times(logistic(z), gamma * log1p_exp(-z)) + u)
    nobody = total == -math.inf  # there is one class alone
    share = torch.where(nobody, 0, torch.exp(others - torch.where(nobody, 0, total)))
    is_target = marked(others, dim, index)
    dalpha = (s * _focal(z, gamma) * is_target).movedim(dim, -1) if needs.alpha else None
    return dz * (is_target - share), None, None, dalpha


class FocalLoss(Manual, builtin_nn.FocalLoss):
    """The module of `focal_loss`."""

    op = focal_loss


@focal_loss.prepare
def focal_loss_prepare(input, target, gamma, alpha, reduction):
    check_focal_loss(input, target, gamma, alpha, reduction)
    return input, target, gamma, alpha, reduction
