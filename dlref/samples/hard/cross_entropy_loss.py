"""Hard samples, wrong calls and equations of manual/nn/cross_entropy_loss.py."""

from __future__ import annotations

import math

import torch

from ...manual.nn.cross_entropy_loss import cross_entropy, kl_div, nll_loss
from .register import call, equation, errors, samples


@samples(cross_entropy)
def cross_entropy_samples(tensor):
    x = tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0], [-1e4, -1e4, -1e4]])  # extremes, ties
    y = torch.tensor([1, 0, 2], device=x.device)
    w = tensor([1.0, 0.0, 2.0])
    for reduction in ("none", "mean", "sum"):
        yield call(x, y, reduction=reduction)
        yield call(x, y, w, ignore_index=1, reduction=reduction, label_smoothing=0.1)
        yield call(x, y, w, ignore_index=2, reduction=reduction)
        yield call(x, tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.2, 0.3, 0.5]]), w, reduction=reduction)
    z, q = tensor([[-5.6875, 5.84375, -6.3125]]), tensor([[0.59375, 0.97265625, 0.55859375]])
    yield call(z, q, tensor([1.6875, 8.5, 1.0546875]), reduction="none")  # w q rounded in half precision is lost here
    yield call(x, torch.ones_like(y), ignore_index=1)  # all ignored: 0/0
    yield call(x, torch.ones_like(y), ignore_index=1, reduction="sum")
    yield call(tensor([[-math.inf, 0.0, 1.0], [2.0, 2.0, -math.inf]]), y[:2])  # classes that cannot be
    yield call(x[0], y[0])  # no batch
    yield call(x[:0], y[:0], reduction="none")  # an empty batch
    yield call(x.t().reshape(1, 3, 3), y.reshape(1, 3), label_smoothing=1.0)  # a dimension after the classes


@equation(cross_entropy)
def cross_entropy_equation(sp, input, target, weight, label_smoothing):
    """Of one row; the target is a class, or the row of probabilities."""
    n = len(input)
    t = target if isinstance(target, tuple) else [int(c == target) for c in range(n)]
    q = [(1 - label_smoothing) * p + label_smoothing / n for p in t]
    w = weight or [1] * n
    log_total = sp.log(sum(sp.exp(x) for x in input))
    return sum(w[c] * q[c] * (log_total - input[c]) for c in range(n))


@errors(cross_entropy)
def cross_entropy_errors(tensor):
    x, y = tensor([[1.0, 2.0], [0.0, 1.0]]), tensor([0, 1])
    yield ValueError, call(x, y, reduction="total")
    yield RuntimeError, call(x, y, label_smoothing=1.5)
    yield RuntimeError, call(x, y.int())
    yield ValueError, call(x, tensor([0]))  # batch
    yield RuntimeError, call(x, tensor([[0, 1], [1, 0]]))  # integers where there must be probabilities
    yield RuntimeError, call(x, y, tensor([1.0]))  # weight
    yield RuntimeError, call(x, x, ignore_index=1)
    yield IndexError, call(x, tensor([0, 2]))  # no such class


@samples(nll_loss)
def nll_loss_samples(tensor):
    x, w = tensor([[-1e4, 0.0, -3.0], [-1.0, -1.0, -1.0]]), tensor([1.0, 0.0, 2.0])
    y = torch.tensor([0, 2], device=x.device)
    for reduction in ("none", "mean", "sum"):
        yield call(x, y, reduction=reduction)
        yield call(x, y, w, ignore_index=2, reduction=reduction)
    yield call(x, torch.ones_like(y), ignore_index=1)  # all ignored: 0/0
    yield call(x[0], y[0])
    yield call(x.view(1, 3, 2), y.view(1, 2))


@samples(kl_div)
def kl_div_samples(tensor):
    x, q = tensor([[-1.0, -2.0, -1e4], [0.0, -3.0, -3.0]]), tensor([[0.5, 0.5, 1e-6], [1.0, 1e-6, 0.25]])
    for reduction in ("none", "mean", "sum", "batchmean"):
        yield call(x, q, reduction=reduction)
        yield call(x, q.log(), reduction=reduction, log_target=True)
    yield call(x, q[:1], reduction="sum")
    yield call(x[0, 0], q[0, 0], reduction="batchmean")


@equation(kl_div)
def kl_div_equation(sp, input, target, log_target):
    if log_target:
        return sp.exp(target) * (target - input)
    return target * (sp.log(target) - input)
