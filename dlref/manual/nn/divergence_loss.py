"""Divergences of log-probabilities: the generalised Jensen-Shannon divergence, the total variation distance."""

from __future__ import annotations

import torch

from ...builtin import functional as builtin
from ...builtin.divergence_loss import check_divergence
from ...builtin.nn import divergence_loss as builtin_nn
from ...builtin.reduction import check_between
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import wide
from .cross_entropy_loss import kl_div, weighed
from .reduction import reduce_loss, unreduced


def reduce_divergence(loss, reduction):
    """As `reduce_loss`, and the sum over the size of the first dimension."""
    if reduction == "batchmean":
        return loss.sum() / loss.shape[0] if loss.dim() else loss.sum()
    return reduce_loss(loss, reduction)


def unreduced_divergence(dy, shape, reduction):
    """The upstream gradient of each element."""
    if reduction == "batchmean":
        return wide(dy) / shape[0] if shape else wide(dy)
    return unreduced(dy, shape.numel(), reduction)


def apart(a, b):
    """a - b, and 0 where both are one infinity."""
    return torch.where((a == b) & a.isinf(), 0, a - b)


def over_mixture(d, w):
    r"""$\log(1 - w + w\,e^d)$, the logarithm of a mixture over the part of which it holds 1 - w: $\log(1 + w\,(e^d - 1))$,
    which does not cancel, and for large d $d + \log(w + (1 - w)\,e^{-d})$, which does not overflow.
    """
    large = d > 1
    near = torch.log1p(w * torch.expm1(torch.where(large, 0, d)))
    far = torch.where(large, d, 0)
    return torch.where(large, far + torch.log(w + (1 - w) * torch.exp(-far)), near)


def _parts(log_q, log_p, beta):
    r"""$\beta p \log(p / m)$ and $(1 - \beta)\,q \log(q / m)$."""
    d = apart(log_q, log_p)
    return -beta * weighed(log_p, over_mixture(d, 1 - beta)), (beta - 1) * weighed(log_q, over_mixture(-d, beta))


def excess(x):
    r"""$\psi(x) = (1 + x) \log(1 + x) - x = 2\,\frac{y^2 + (1 + y)\,r}{1 - y}$ for $|x| \le 1/4$, with $y = x / (2 + x)$ and
    $r = \mathrm{artanh}\,y - y = y^3 / 3 + y^5 / 5 + \ldots$, as $\log(1 + x) = 2\,\mathrm{artanh}\,y$: nothing cancels.
    """
    y = x / (2 + x)
    square, r = y.square(), 0.0
    for k in range(21, 1, -2):
        r = (1 / k + r) * square
    return 2 * (square + (1 + y) * y * r) / (1 - y)


def _sum_of_parts(log_q, log_p, beta):
    r"""Their sum; where p and q are near, and it is of the second order, as $u\,(w\,\psi(e) - \psi(w e))$ with u the one of the
    larger weight, w the weight of the other and 1 + e its ratio to u: the parts of first order, which cancel, are out of it.
    """
    of_p, of_q = _parts(log_q, log_p, beta)
    one, other, w = (log_q, log_p, beta) if beta <= 0.5 else (log_p, log_q, 1 - beta)
    d = apart(other, one)
    near = d.abs() < 0.2
    e = torch.expm1(torch.where(near, d, 0))
    return torch.where(near, one.exp() * (w * excess(e) - excess(w * e)), of_p + of_q)


@op(builtin=builtin.js_div, dtypes=Dtypes(promote=("input", "target")))
def js_div(input, target, beta=0.5, reduction="batchmean"):
    r"""Generalised Jensen-Shannon divergence of log-probabilities:
    $D = \beta\,\mathrm{KL}(p \Vert m) + (1 - \beta)\,\mathrm{KL}(q \Vert m),\quad m = \beta p + (1 - \beta)\,q$, elementwise
    $\beta p \log(p / m) + (1 - \beta)\,q \log(q / m)$.

    input $\log q$ (the student's) and target $\log p$ (the teacher's) of one shape (*), in the order of `kl_div`; output a
    number, or elementwise; "batchmean" divides by the first dimension. $\beta$ = 1/2 is the divergence of Jensen and Shannon.
    The limits of $D / \beta (1 - \beta)$ stand at the ends: $\beta$ = 0 is the forward $\mathrm{KL}(p \Vert q)$, 1 the reverse
    $\mathrm{KL}(q \Vert p)$. ValueError where shapes, beta or reduction do not fit. Agarwal et al. 2024, arXiv:2306.13649,
    eq. 1; Lin 1991.
    """
    if beta in (0, 1):
        log_q, log_p = (input, target) if beta == 0 else (target, input)
        return kl_div.forward(log_q, log_p, reduction, True)
    return reduce_divergence(_sum_of_parts(wide(input), wide(target), beta), reduction).to(
        torch.promote_types(input.dtype, target.dtype)
    )


@js_div.gradient
def js_div_gradient(dy, needs, input, target, beta, reduction):
    r"""$d \log q = s\,(1 - \beta)\,q \log(q / m),\quad d \log p = s\,\beta\,p \log(p / m)$; at the ends as of `kl_div`; s is
    dy, for a mean dy over its denominator.

    Of $D = \sum_u w_u u \log(u / m)$, $m = \sum_u w_u u$: $dD = \sum_u w_u (\log(u / m) + 1)\,du - dm$, as
    $\sum_u w_u u\,dm / m = dm$; and $\sum_u w_u\,du = dm$ too, so $w_u \log(u / m)\,du$ is left, $du = u\,d \log u$.
    """
    if beta in (0, 1):
        pull, ends = kl_div.pull, kl_div.Each(needs.input, needs.target, False, False)
        if beta == 0:
            return pull(dy, ends, input, target, reduction, True)
        ends = kl_div.Each(needs.target, True, False, False)
        dp, dq = pull(dy, ends, target, input, reduction, True)
        return dq, dp
    of_p, of_q = _parts(wide(input), wide(target), beta)
    s = unreduced_divergence(dy, input.shape, reduction)
    return s * of_q, s * of_p


class JSDivLoss(Manual, builtin_nn.JSDivLoss):
    """The module of `js_div`."""

    op = js_div


@js_div.prepare
def js_div_prepare(input, target, beta, reduction):
    check_divergence(input, target, reduction)
    check_between("beta", beta, 0, 1)
    return input, target, beta, reduction


@op(builtin=builtin.tv_distance, dtypes=Dtypes(promote=("input", "target")))
def tv_distance(input, target, reduction="batchmean"):
    r"""Total variation distance of log-probabilities: $\tfrac12 \sum |p - q|$, elementwise
    $\tfrac12 e^{m} (1 - e^{-|\log q - \log p|})$ with m the larger logarithm: what differs little does not cancel.

    input $\log q$ and target $\log p$ of one shape (*), output a number, or elementwise; "batchmean" divides by the first
    dimension. ValueError where shapes or reduction do not fit. Wen et al. 2023, arXiv:2307.15190, eq. 7; Levin, Peres & Wilmer
    2009, proposition 4.2.
    """
    log_q, log_p = wide(input), wide(target)
    loss = -torch.maximum(log_q, log_p).exp() * torch.expm1(-apart(log_q, log_p).abs()) / 2
    return reduce_divergence(loss, reduction).to(torch.promote_types(input.dtype, target.dtype))


@tv_distance.gradient
def tv_distance_gradient(dy, input, target, reduction):
    r"""$d \log q = \tfrac{s}{2}\,q\,\mathrm{sgn}(q - p),\quad d \log p = -\tfrac{s}{2}\,p\,\mathrm{sgn}(q - p)$; 0 where both
    are one."""
    log_q, log_p = wide(input), wide(target)
    s = unreduced_divergence(dy, input.shape, reduction) * apart(log_q, log_p).sign() / 2
    return s * log_q.exp(), -s * log_p.exp()


class TVDistanceLoss(Manual, builtin_nn.TVDistanceLoss):
    """The module of `tv_distance`."""

    op = tv_distance


@tv_distance.prepare
def tv_distance_prepare(input, target, reduction):
    check_divergence(input, target, reduction)
    return input, target, reduction
