"""Hard samples, wrong calls and equations of manual/nn/preference_loss.py."""

from __future__ import annotations

import torch

from ...manual.nn.preference_loss import dpo_loss, grpo_loss, kto_loss, orpo_loss, simpo_loss
from .register import INF, call, equation, errors, samples

REDUCTIONS = ("none", "mean", "sum")


def _answers(tensor):
    """Preferred, of equal rewards, dispreferred, and both without doubt."""
    return (tensor([-10.0, -20.0, -31.5, -1e3, -9e3]), tensor([-12.0, -20.0, -7.0, -9e3, -1e3]),
            tensor([-11.0, -20.5, -30.0, -5e3, -5e3]), tensor([-11.5, -20.5, -8.0, -5e3, -5e3]))  # fmt: skip


@samples(dpo_loss)
def dpo_loss_samples(tensor):
    answers = _answers(tensor)
    for reduction in REDUCTIONS:
        yield call(*answers, reduction=reduction)
        yield call(*answers, 0.5, 0.1, reduction)
    yield call(*answers, 0.01, 1.0)
    yield call(tensor([-INF, -1.0]), tensor([-1.0, -INF]), *(t[:2] for t in answers[2:]), reduction="none")
    yield call(*(t[0] for t in answers))
    yield call(*(t[:0] for t in answers), reduction="sum")
    yield call(*(t[:4].view(2, 2).t() for t in answers), 0.2)


@samples(kto_loss)
def kto_loss_samples(tensor):
    logps, _, reference, _ = _answers(tensor)
    desirable = torch.tensor([True, False, False, True, False], device=logps.device)
    for reduction in REDUCTIONS:
        yield call(logps, reference, desirable, 0.25, reduction=reduction)
        yield call(logps, reference, ~desirable, torch.tensor(1, device=logps.device), 0.5, reduction)
    yield call(logps, reference, desirable, torch.tensor([0, 1, 2, -1, 0], device=logps.device), 0.01)
    yield call(logps[0], reference[0], desirable[0], 0)
    yield call(logps[:0], reference[:0], desirable[:0], 0.25, reduction="sum")


def _pairs(name, tensor, *options):
    chosen, rejected = tensor([-0.5, -2.0, -30.0, -1e-3, -90.0]), tensor([-1.5, -2.0, -1e-3, -30.0, -120.0])
    for reduction in REDUCTIONS:
        yield call(chosen, rejected, reduction=reduction)
        yield call(chosen, rejected, *options, reduction)
    yield call(chosen[0], rejected[0])
    yield call(chosen[:0], rejected[:0], reduction="sum")
    yield call(chosen[:4].view(2, 2).t(), rejected[:4].view(2, 2).t(), *options)


@samples(simpo_loss)
def simpo_loss_samples(tensor):
    yield from _pairs(simpo_loss, tensor, 2.5, 1.5)
    yield call(tensor([-1e4, -1.0, -INF]), tensor([-1.0, -1e4, -1.0]), 10.0, reduction="none")


@samples(orpo_loss)
def orpo_loss_samples(tensor):
    yield from _pairs(orpo_loss, tensor, 0.5)
    # what cannot be, what is all but certain and, of the chosen, certain
    yield call(tensor([-1.0, -INF, -1e-6, -1.0, 0.0]), tensor([-INF, -1.0, -1.0, -1e-6, -1.0]), reduction="none")
    yield call(tensor([-0.6875, -0.703125]), tensor([-1e-2, -0.5]), 1.0)  # beside log 1/2


@samples(grpo_loss)
def grpo_loss_samples(tensor):
    now = tensor([[-1.0, -2.0, -0.5, -3.0], [-1.0, -2.0, -0.5, -3.0], [-0.1, -0.2, -0.3, -0.4]])
    old = tensor([[-1.0, -1.0, -1.5, -3.125], [-1.0, -1.0, -1.5, -3.125], [-0.2, -0.1, -0.3, -0.5]])
    reference = tensor([[-1.5, -2.0, -1.0, -2.0], [-1.25, -2.125, -0.5, -4.0], [-0.1, -5.0, -0.3, -0.4]])
    a = tensor([1.5, -0.75, 0.25])
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 0], [1, 1, 1, 1]], device=now.device)
    for reduction in REDUCTIONS:
        yield call(now, old, reference, a, reduction=reduction)
        yield call(now, old, reference, a, mask, reduction=reduction)
        yield call(now, old, reference, a, mask > 0, 0.5, 0.3, reduction)
    yield call(now, old, reference, a, mask, 0.0)  # no penalty
    yield call(now, old, reference, a, beta=0.1, epsilon=10.0)  # nothing is clipped
    yield call(now, old, reference, a, mask * mask[1])  # of one token each, the third of none of ours
    yield call(now, old, reference, a, torch.zeros_like(mask), reduction="none")  # of none
    yield call(now, now.clone(), now.clone(), a)  # the first step on a batch
    far = tensor([[-800.0, -1.0, 0.0, -INF]]).expand(3, 4)
    yield call(
        torch.where(mask > 0, now, far), torch.where(mask > 0, old, far), reference, a, mask
    )  # what is not counted
    yield call(now[:0], old[:0], reference[:0], a[:0], reduction="sum")
    yield call(now[:, :0], old[:, :0], reference[:, :0], a, reduction="sum")


@errors(dpo_loss)
def dpo_loss_errors(tensor):
    x = tensor([-1.0, -2.0])
    yield ValueError, call(x, x, x, x[:1])
    yield ValueError, call(x, x, x, x, label_smoothing=1.5)
    yield ValueError, call(x, x, x, x, reduction="batchmean")


@errors(kto_loss)
def kto_loss_errors(tensor):
    x, yes = tensor([-1.0, -2.0]), torch.tensor([True, False])
    yield ValueError, call(x, x[:1], yes, 0.0)
    yield ValueError, call(x, x, yes[:1], 0.0)
    yield ValueError, call(x, x, yes.long(), 0.0)
    yield ValueError, call(x, x, yes, tensor([0.0, 0.0, 0.0]))
    yield ValueError, call(x, x, yes, 0.0, reduction="batchmean")


@errors(simpo_loss)
def simpo_loss_errors(tensor):
    x = tensor([-1.0, -2.0])
    yield ValueError, call(x, x[:1])
    yield ValueError, call(x, x, reduction="batchmean")


@errors(orpo_loss)
def orpo_loss_errors(tensor):
    yield from simpo_loss_errors(tensor)


@errors(grpo_loss)
def grpo_loss_errors(tensor):
    x, a = tensor([[-1.0, -2.0]]), tensor([1.0])
    yield ValueError, call(x, x, x, x)  # an advantage a token
    yield ValueError, call(x[0], x[0], x[0], a)
    yield ValueError, call(x, x[:, :1], x, a)
    yield ValueError, call(x, x, x, a, torch.ones(1, 1, dtype=torch.bool))
    yield ValueError, call(x, x, x, a, torch.ones(1, 2))
    yield ValueError, call(x, x, x, a, epsilon=-0.1)
    yield ValueError, call(x, x, x, a, reduction="batchmean")


@equation(dpo_loss)
def dpo_loss_equation(sp, chosen, rejected, reference_chosen, reference_rejected, beta, label_smoothing):
    z = beta * (chosen - reference_chosen - rejected + reference_rejected)
    return (1 - label_smoothing) * sp.log(1 + sp.exp(-z)) + label_smoothing * sp.log(1 + sp.exp(z))


@equation(kto_loss)
def kto_loss_equation(sp, logps, reference_logps, kl, beta):
    """Of a desirable answer."""
    return 1 / (1 + sp.exp(beta * (logps - reference_logps - kl)))


@equation(simpo_loss)
def simpo_loss_equation(sp, chosen, rejected, beta, gamma):
    return sp.log(1 + sp.exp(gamma - beta * (chosen - rejected)))


@equation(orpo_loss)
def orpo_loss_equation(sp, chosen, rejected, weight):
    odds = [sp.exp(a) / (1 - sp.exp(a)) for a in (chosen, rejected)]
    return weight * sp.log(1 + odds[1] / odds[0])


@equation(grpo_loss)
def grpo_loss_equation(sp, logps, old_logps, reference_logps, advantages, beta, epsilon):
    """Of a sequence of one token, off the ratios at which clipping begins."""
    ratio, a = sp.exp(logps[0] - old_logps[0]), advantages
    d = reference_logps[0] - logps[0]
    up = sp.Piecewise((1 + epsilon, ratio > 1 + epsilon), (ratio, True))
    down = sp.Piecewise((1 - epsilon, ratio < 1 - epsilon), (ratio, True))
    return beta * (sp.exp(d) - d - 1) - a * sp.Piecewise((up, a >= 0), (down, True))
