"""Losses of a language model's preferences: of the log-probabilities of whole answers, and of an answer's tokens."""

from __future__ import annotations

import math

import torch

from ...builtin import functional as builtin
from ...builtin.nn import preference_loss as builtin_nn
from ...builtin.preference_loss import check_dpo_loss, check_grpo_loss, check_kto_loss, check_pair
from ...core.dtypes import Dtypes
from ...core.module import Manual
from ...core.pair import op
from .common import log1p_exp, logistic, wide, widened
from .reduction import reduce_loss, unreduced


def _margin(chosen, rejected, reference_chosen, reference_rejected, beta):
    return beta * ((wide(chosen) - wide(reference_chosen)) - (wide(rejected) - wide(reference_rejected)))


@op(builtin=builtin.dpo_loss, dtypes=Dtypes(promote=("chosen", "rejected", "reference_chosen", "reference_rejected")))
def dpo_loss(
    chosen, rejected, reference_chosen, reference_rejected, beta=0.1, label_smoothing=0.0, reduction="mean"
):  # fmt: skip
    r"""Direct preference optimisation: $l = (1 - \epsilon)\,\zeta(-z) + \epsilon\,\zeta(z)$ of the difference of rewards
    $z = \beta\,(\log \frac{\pi(y_w)}{\pi_0(y_w)} - \log \frac{\pi(y_l)}{\pi_0(y_l)})$, $\zeta(z) = \log(1 + e^z) =
    -\log \sigma(-z)$.

    chosen $\log \pi(y_w)$, rejected $\log \pi(y_l)$ and the reference's of both: log-probabilities of answers, sums over their
    tokens, of one shape (*); $\epsilon$ (label_smoothing) is how often a label is taken for wrong. Output a number, or
    elementwise. ValueError where shapes, label_smoothing or reduction do not fit. Rafailov et al. 2023, arXiv:2305.18290, eq.
    7; label_smoothing: Mitchell 2023 (conservative DPO), eq. 3.
    """
    z = _margin(chosen, rejected, reference_chosen, reference_rejected, beta)
    loss = (1 - label_smoothing) * log1p_exp(-z)
    loss = loss + label_smoothing * log1p_exp(z) if label_smoothing else loss
    return reduce_loss(loss, reduction).to(chosen.dtype)


@dpo_loss.gradient
def dpo_loss_gradient(
    dy, chosen, rejected, reference_chosen, reference_rejected, beta, label_smoothing, reduction
):  # fmt: skip
    r"""$dz = s\,(\epsilon\,\sigma(z) - (1 - \epsilon)\,\sigma(-z))$, as $\zeta' = \sigma$; $d \log \pi(y_w) = \beta\,dz$, of
    $\log \pi(y_l)$ its negative, of the reference's the other way round; s is dy, for the mean dy over the pairs."""
    z = _margin(chosen, rejected, reference_chosen, reference_rejected, beta)
    slope = -(1 - label_smoothing) * logistic(-z)
    slope = slope + label_smoothing * logistic(z) if label_smoothing else slope
    d = beta * unreduced(dy, z.numel(), reduction) * slope
    return d, -d, -d, d


class DPOLoss(Manual, builtin_nn.DPOLoss):
    """The module of `dpo_loss`."""

    op = dpo_loss


@dpo_loss.prepare
def dpo_loss_prepare(chosen, rejected, reference_chosen, reference_rejected, beta, label_smoothing, reduction):
    check_dpo_loss(chosen, rejected, reference_chosen, reference_rejected, label_smoothing, reduction)
    return chosen, rejected, reference_chosen, reference_rejected, beta, label_smoothing, reduction


def _loss_of(logps, reference_logps, desirable, kl, beta):
    """The reward above the reference point, its sign turned where the answer is desirable."""
    z = beta * (wide(logps) - wide(reference_logps) - (widened(kl).detach() if isinstance(kl, torch.Tensor) else kl))
    return torch.where(desirable, -z, z)


@op(builtin=builtin.kto_loss, dtypes=Dtypes(promote=("logps", "reference_logps")))
def kto_loss(logps, reference_logps, desirable, kl, beta=0.1, reduction="mean"):
    r"""Kahneman-Tversky optimisation: $l = 1 - \sigma(\pm z) = \sigma(\mp z),\quad
    z = \beta\,(\log \frac{\pi(y)}{\pi_0(y)} - z_0)$, the upper sign of desirable answers.

    logps $\log \pi(y)$, reference_logps $\log \pi_0(y)$ and desirable (bool) of one shape (*), kl the reference point $z_0$: a
    number, or a tensor of one or of that shape, a constant without a gradient. Both weights $\lambda$ are 1. Output a number,
    or elementwise. ValueError where shapes, dtypes or reduction do not fit. Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8.
    """
    return reduce_loss(logistic(_loss_of(logps, reference_logps, desirable, kl, beta)), reduction).to(logps.dtype)


@kto_loss.gradient
def kto_loss_gradient(dy, logps, reference_logps, desirable, kl, beta, reduction):
    r"""$d \log \pi(y) = \mp s\,\beta\,\sigma(z)\,\sigma(-z)$, of $\log \pi_0(y)$ its negative; s is dy, for the mean dy over
    the answers."""
    u = _loss_of(logps, reference_logps, desirable, kl, beta)
    d = beta * unreduced(dy, u.numel(), reduction) * logistic(u) * logistic(-u)
    d = torch.where(desirable, -d, d)
    return d, -d


class KTOLoss(Manual, builtin_nn.KTOLoss):
    """The module of `kto_loss`."""

    op = kto_loss


@kto_loss.prepare
def kto_loss_prepare(logps, reference_logps, desirable, kl, beta, reduction):
    check_kto_loss(logps, reference_logps, desirable, kl, reduction)
    return logps, reference_logps, desirable, kl, beta, reduction


@op(builtin=builtin.simpo_loss, dtypes=Dtypes(promote=("chosen", "rejected")))
def simpo_loss(chosen, rejected, beta=2.0, gamma=0.5, reduction="mean"):
    r"""Preference without a reference: $l = \zeta(-z) = -\log \sigma(z),\quad z = \beta\,(a_w - a_l) - \gamma$.

    chosen $a_w$ and rejected $a_l$: mean log-probabilities a token, $\log \pi(y) / |y|$, of one shape (*). Output a number, or
    elementwise. ValueError where shapes or reduction do not fit. Meng et al. 2024, arXiv:2405.14734, eq. 6.
    """
    z = beta * (wide(chosen) - wide(rejected)) - gamma
    return reduce_loss(log1p_exp(-z), reduction).to(chosen.dtype)


@simpo_loss.gradient
def simpo_loss_gradient(dy, chosen, rejected, beta, gamma, reduction):
    r"""$da_w = -s\,\beta\,\sigma(-z) = -da_l$; s is dy, for the mean dy over the pairs."""
    z = beta * (wide(chosen) - wide(rejected)) - gamma
    d = -beta * unreduced(dy, z.numel(), reduction) * logistic(-z)
    return d, -d


class SimPOLoss(Manual, builtin_nn.SimPOLoss):
    """The module of `simpo_loss`."""

    op = simpo_loss


@simpo_loss.prepare
def simpo_loss_prepare(chosen, rejected, beta, gamma, reduction):
    check_pair(chosen, rejected, reduction)
    return chosen, rejected, beta, gamma, reduction


def log1m_exp(x):
    r"""$\log(1 - e^x)$ for x < 0: of $-(e^x - 1)$ where that is small, else as $\log(1 + (-e^x))$."""
    near = x > -math.log(2)
    return torch.where(near, torch.log(-torch.expm1(torch.where(near, x, -1))),
                       torch.log1p(-torch.exp(torch.where(near, -1, x))))  # fmt: skip


@op(builtin=builtin.orpo_loss, dtypes=Dtypes(promote=("chosen", "rejected")))
def orpo_loss(chosen, rejected, weight=0.1, reduction="mean"):
    r"""The odds-ratio term of ORPO: $l = -\lambda \log \sigma(o_w - o_l),\quad o = \log \frac{P}{1 - P} = a - \log(1 - e^a)$.

    chosen $a_w$ and rejected $a_l$: mean log-probabilities a token, below 0, of one shape (*); the loss of the chosen answer,
    its negative log-likelihood, is to be added. Output a number, or elementwise. ValueError where shapes or reduction do not
    fit. Hong et al. 2024, arXiv:2403.07691, eq. 7.
    """
    w, l = wide(chosen), wide(rejected)  # noqa: E741
    z = (w - l) - (log1m_exp(w) - log1m_exp(l))
    return reduce_loss(weight * log1p_exp(-z), reduction).to(chosen.dtype)


@orpo_loss.gradient
def orpo_loss_gradient(dy, chosen, rejected, weight, reduction):
    r"""$da_w = -\frac{s \lambda}{q_w + q_l\,e^{a_w - a_l}},\quad da_l = -\frac{q_w}{q_l}\,da_w,\quad q = 1 - e^a$: of
    $dl = -s \lambda\,\sigma(-z)\,dz$ with $do / da = 1 / q$ and $\sigma(-z) = q_w / (q_w + q_l\,e^{a_w - a_l})$; in this form
    nothing is 0 times infinity where the chosen is certain. s is dy, for the mean dy over the pairs.
    """
    w, l = wide(chosen), wide(rejected)  # noqa: E741
    q_w, q_l = -torch.expm1(w), -torch.expm1(l)
    d = -weight * unreduced(dy, w.numel(), reduction) / (q_w + q_l * torch.exp(w - l))
    return d, -d * q_w / q_l


class ORPOLoss(Manual, builtin_nn.ORPOLoss):
    """The module of `orpo_loss`."""

    op = orpo_loss


@orpo_loss.prepare
def orpo_loss_prepare(chosen, rejected, weight, reduction):
    check_pair(chosen, rejected, reduction)
    return chosen, rejected, weight, reduction


def _tokens(logps, old_logps, reference_logps, advantages, mask, epsilon):
    """Of each token: whether it counts and is clipped, its clipped ratio, the advantage, and the reference's distance."""
    counted = torch.ones_like(logps, dtype=torch.bool) if mask is None else mask != 0
    now, old, reference = (torch.where(counted, wide(t), 0) for t in (logps, old_logps, reference_logps))
    a = wide(advantages).unsqueeze(1)
    change, sign = now - old, torch.where(a >= 0, torch.ones_like(a), -1)
    clipped = sign * (change.exp() - 1) > epsilon
    ratio = torch.where(clipped, 1 + epsilon * sign, torch.where(clipped, 0, change).exp())
    return counted, clipped, ratio, a, reference - now


@op(builtin=builtin.grpo_loss, dtypes=Dtypes(promote=("logps", "old_logps", "reference_logps", "advantages")))
def grpo_loss(
    logps, old_logps, reference_logps, advantages, mask=None, beta=0.04, epsilon=0.2, reduction="mean"
):  # fmt: skip
    r"""Group relative policy optimisation: $l_n = \frac{1}{|y_n|} \sum_t (\beta\,(e^d - d - 1) - \min(\rho A,\
    \mathrm{clip}(\rho, 1 - \epsilon, 1 + \epsilon)\,A))$, $\rho = \pi / \pi_{old},\ d = \log \pi_0 - \log \pi$ of each token.

    logps, old_logps, reference_logps (N, T): a token's log-probabilities under the policy, the one that drew it, the reference;
    advantages A (N,); mask (N, T), bool or integers, not 0 where a token counts: a sequence's mean is over those, and 0 where
    there are none. Output a number, or (N,); the mean is that of the sequences, not of all tokens. ValueError where shapes,
    dtypes, epsilon or reduction do not fit. Shao et al. 2024, arXiv:2402.03300, eq. 3 and 4.
    """
    counted, _, ratio, a, d = _tokens(logps, old_logps, reference_logps, advantages, mask, epsilon)
    loss = torch.where(counted, beta * (torch.expm1(d) - d) - ratio * a, 0)
    return reduce_loss(loss.sum(1) / counted.sum(1).clamp(min=1), reduction).to(logps.dtype)


@grpo_loss.gradient
def grpo_loss_gradient(dy, logps, old_logps, reference_logps, advantages, mask, beta, epsilon, reduction):
    r"""$d \log \pi_{old} = s\,\rho\,A$ where the ratio is not clipped, else 0; $d \log \pi_0 = s\,\beta\,(e^d - 1)$;
    $d \log \pi = -d \log \pi_{old} - d \log \pi_0$; $dA_n = -\sum_t s\,\bar\rho$, $\bar\rho$ the ratio as it is clipped: up to
    $1 + \epsilon$ where $A \ge 0$, down to $1 - \epsilon$ where A < 0. s is dy over the sequence's tokens that count, for the
    mean over N too, and 0 where a token does not.
    """
    counted, clipped, ratio, a, d = _tokens(logps, old_logps, reference_logps, advantages, mask, epsilon)
    s = unreduced(dy, len(logps), reduction)
    s = s.unsqueeze(1) if reduction == "none" else s
    s = torch.where(counted, s / counted.sum(1, keepdim=True).clamp(min=1), 0)
    dold = torch.where(clipped | ~counted, 0, s * ratio * a)
    dreference = s * beta * torch.expm1(d)
    return -dold - dreference, dold, dreference, -(s * ratio).sum(1)


class GRPOLoss(Manual, builtin_nn.GRPOLoss):
    """The module of `grpo_loss`."""

    op = grpo_loss


@grpo_loss.prepare
def grpo_loss_prepare(logps, old_logps, reference_logps, advantages, mask, beta, epsilon, reduction):
    check_grpo_loss(logps, old_logps, reference_logps, advantages, mask, epsilon, reduction)
    return logps, old_logps, reference_logps, advantages, mask, beta, epsilon, reduction
