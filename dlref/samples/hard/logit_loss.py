"""Hard samples, wrong calls and equations of manual/nn/logit_loss.py."""

from __future__ import annotations

import torch

from ...manual.nn.logit_loss import focal_loss, z_loss
from .register import INF, call, equation, errors, samples


@samples(z_loss)
def z_loss_samples(tensor):
    x = tensor([[1e3, -1e3, 0.0], [2.0, 2.0, 2.0], [-0.5, -INF, -1.0]])  # extremes, ties, a class that cannot be
    for reduction in ("none", "mean", "sum"):
        yield call(x, reduction=reduction)
        yield call(x, 0.5, reduction)
    yield call(tensor([[-INF, -INF], [0.0, 1.0]]), 1.0, "none")  # nothing can be
    yield call(tensor([[-40.0, 0.0]]), 1.0)  # a sum of 1
    yield call(x[1])
    yield call(x[:0], reduction="none")
    yield call(x.t().reshape(1, 3, 3), 0.1)
    yield call(x[:, :1], 1.0)  # one class


@samples(focal_loss)
def focal_loss_samples(tensor):
    x = tensor([[1.5, -2.0, 0.0], [0.25, 0.25, 0.25], [-40.0, -1.0, 2.0], [60.0, 0.0, -60.0]])
    y = torch.tensor([1, 0, 2, 0], device=x.device)
    w = tensor([1.0, 0.25, 2.0])
    for reduction in ("none", "mean", "sum"):
        yield call(x, y, reduction=reduction)
        yield call(x, y, 0.5, w, reduction)
        yield call(x, y, 0.0, w, reduction)  # cross entropy
    certain = tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    for gamma in (0.0, 0.5, 1.0, 2.0):
        yield call(certain, y[:2] - y[:2], gamma)  # p = 1, p = 0
    yield call(tensor([[-INF, 0.0, 1.0], [2.0, 2.0, -INF], [0.0, -INF, 1.0]]), y[:3], 1.5)  # classes that cannot be
    yield call(x[:, :1], torch.zeros_like(y), 0.5)  # one class
    yield call(x[0], y[0])  # no batch
    yield call(x[:0], y[:0], reduction="none")  # an empty batch
    yield call(x[:3].t().reshape(1, 3, 3), y[:3].reshape(1, 3), 3.0, w)  # a dimension after the classes
    yield call(x, y.to(torch.uint8))


@errors(z_loss)
def z_loss_errors(tensor):
    yield ValueError, call(tensor(1.0))
    yield ValueError, call(tensor([1.0]), reduction="batchmean")


@errors(focal_loss)
def focal_loss_errors(tensor):
    x, y = tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([0, 1])
    yield ValueError, call(x, y, reduction="total")
    yield ValueError, call(x, y, -1.0)
    yield ValueError, call(x, y[:1])
    yield ValueError, call(x, y.int())
    yield ValueError, call(x, x)  # probabilities
    yield ValueError, call(x, y, alpha=tensor([1.0]))
    yield ValueError, call(tensor(1.0), y)
    yield IndexError, call(x, y + 1)  # no such class
    yield IndexError, call(x, y - 100)  # nor is one ignored


def _log_total(sp, input):
    return sp.log(sum(sp.exp(x) for x in input))


@equation(z_loss)
def z_loss_equation(sp, input, coefficient):
    return coefficient * _log_total(sp, input) ** 2


@equation(focal_loss)
def focal_loss_equation(sp, input, target, gamma):
    others = sum(sp.exp(x) for c, x in enumerate(input) if c != target)
    total = others + sp.exp(input[target])
    return (others / total) ** gamma * (sp.log(total) - input[target])
