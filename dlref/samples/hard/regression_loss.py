"""Hard samples, wrong calls and equations of manual/nn/regression_loss.py."""

from __future__ import annotations

import math

from ...manual.nn.regression_loss import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from .register import call, equation, errors, samples


def _samples(tensor):
    """Equal values, the boundary of the pieces at 1, both sides of it, extremes, no elements, broadcasting."""
    x, y = tensor([[0.0, 1.0, -1.0, 0.5], [2.0, 1e4, -1e4, 1.5]]), tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -1e4, 1e4, 3.5]])
    for reduction in ("none", "mean", "sum"):
        yield call(x, y, reduction=reduction)
    yield call(x[0], y)
    yield call(x[:, :1], y[:1], reduction="sum")
    yield call(x[:0], y[:0], reduction="sum")
    yield call(x[0, 1], y[0, 1])


def _weighted(tensor):
    yield from _samples(tensor)
    x, y, w = tensor([[0.0, 1.0], [2.0, -0.5]]), tensor([[0.0, 0.0], [1.0, 1.5]]), tensor([[1.0, 0.0], [0.5, 2.0]])
    for reduction in ("none", "mean", "sum"):
        yield call(x, y, reduction=reduction, weight=w)


def _wrong(tensor):
    x = tensor([[1.0, 2.0]])
    yield ValueError, call(x, x, reduction="total")
    yield RuntimeError, call(x, tensor([1.0, 2.0, 3.0]))


for loss in (l1_loss, mse_loss):
    samples(loss)(_weighted)
for loss in (l1_loss, mse_loss, smooth_l1_loss, huber_loss):
    errors(loss)(_wrong)


@samples(smooth_l1_loss)
def smooth_l1_loss_samples(tensor):
    yield from _samples(tensor)
    yield call(tensor([0.0, 0.5, -0.5, 0.4]), tensor([0.0, 0.0, 0.0, 0.0]), beta=0.5)
    for beta in (0, 1e-300, 1e-30, 1e30, math.inf):
        yield call(tensor([0.0, 0.5, -0.5]), tensor([0.0, 0.0, 0.0]), beta=beta)


@samples(huber_loss)
def huber_loss_samples(tensor):
    yield from _weighted(tensor)
    for delta in (0.5, 1e-300, 1e-30, 1e30, math.inf):
        yield call(tensor([0.0, 0.5, -0.5, 0.4, 2.0]), tensor([0.0, 0.0, 0.0, 0.0, 0.0]), delta=delta)


@equation(l1_loss)
def l1_loss_equation(sp, input, target):
    d = input - target
    return sp.Piecewise((d, d > 0), (-d, d < 0), (0, True))


@equation(mse_loss)
def mse_loss_equation(sp, input, target):
    return (input - target) ** 2


@equation(smooth_l1_loss)
def smooth_l1_loss_equation(sp, input, target, beta):
    d = input - target
    return sp.Piecewise((d - beta / 2, d >= beta), (-d - beta / 2, d <= -beta), (d**2 / (2 * beta), True))


@equation(huber_loss)
def huber_loss_equation(sp, input, target, delta):
    d = input - target
    ends = ((d - delta / 2) * delta, d >= delta), ((-d - delta / 2) * delta, d <= -delta)
    return sp.Piecewise(*ends, (d**2 / 2, True))
