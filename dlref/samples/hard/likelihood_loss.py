"""Hard samples, wrong calls and equations of manual/nn/likelihood_loss.py."""

from __future__ import annotations

from ...manual.nn.likelihood_loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    gaussian_nll_loss,
    multilabel_soft_margin_loss,
    poisson_nll_loss,
    soft_margin_loss,
)
from .register import call, equation, samples


@samples(binary_cross_entropy)
def binary_cross_entropy_samples(tensor):
    p, t = tensor([[0.5, 0.25, 0.75], [1e-3, 0.999, 0.5]]), tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.25]])
    for reduction in ("none", "mean", "sum"):
        yield call(p, t, reduction=reduction)
        yield call(p, t, tensor([1.0, 0.0, 2.0]), reduction=reduction)
    yield call(p[:0], t[:0], reduction="sum")


@equation(binary_cross_entropy)
def binary_cross_entropy_equation(sp, input, target):
    """The values' clamp at -100 is no kink of the gradient, which has one of its own at 1e-12."""
    at_least = lambda x: sp.Piecewise((x, x > -100), (-100, True))  # noqa: E731
    return -target * at_least(sp.log(input)) - (1 - target) * at_least(sp.log(1 - input))


@samples(binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits_samples(tensor):
    x, t = tensor([[0.0, 1e4, -1e4], [50.0, -50.0, 3.0]]), tensor([[0.5, 0.0, 1.0], [1.0, 0.0, 0.25]])
    for reduction in ("none", "mean", "sum"):
        yield call(x, t, reduction=reduction)
        yield call(x, t, tensor([1.0, 0.0, 2.0]), reduction=reduction, pos_weight=tensor([1.0, 3.0, 0.0]))


@equation(binary_cross_entropy_with_logits)
def binary_cross_entropy_with_logits_equation(sp, input, target, weight, pos_weight):
    zeta = lambda x: sp.log(1 + sp.exp(x))  # noqa: E731
    w, c = (1 if v is None else v for v in (weight, pos_weight))
    return w * (c * target * zeta(-input) + (1 - target) * zeta(input))


@samples(soft_margin_loss)
def soft_margin_loss_samples(tensor):
    x, t = tensor([[0.0, 8.0, -8.0], [2.0, -2.0, 3.0]]), tensor([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0]])
    for reduction in ("none", "mean", "sum"):
        yield call(x, t, reduction=reduction)
    yield call(x[:0], t[:0], reduction="sum")


@equation(soft_margin_loss)
def soft_margin_loss_equation(sp, input, target):
    return sp.log(1 + sp.exp(-target * input))


@samples(multilabel_soft_margin_loss)
def multilabel_soft_margin_loss_samples(tensor):
    x, t = tensor([[0.0, 8.0, -8.0], [2.0, -2.0, 3.0]]), tensor([[1.0, 0.0, 1.0], [1.0, 0.5, 0.0]])
    for reduction in ("none", "mean", "sum"):
        yield call(x, t, reduction=reduction)
        yield call(x, t, tensor([1.0, 0.0, 2.0]), reduction=reduction)


@equation(multilabel_soft_margin_loss)
def multilabel_soft_margin_loss_equation(sp, input, target):
    """Of rows."""
    zeta = lambda x: sp.log(1 + sp.exp(x))  # noqa: E731
    return sum(t * zeta(-x) + (1 - t) * zeta(x) for x, t in zip(input, target, strict=True)) / len(input)


@samples(poisson_nll_loss)
def poisson_nll_loss_samples(tensor):
    x, t = tensor([[0.0, 1.0, 8.0], [2.0, 3.0, 0.5]]), tensor([[0.0, 1.0, 2.0], [5.0, 0.5, 1.5]])
    for log_input in (True, False):
        for full in (False, True):
            yield call(x, t, log_input, full, 1e-2)
            yield call(x, t, log_input, full, 1e-2, reduction="none")
    yield call(x, t, reduction="sum")


@equation(poisson_nll_loss)
def poisson_nll_loss_equation(sp, input, target, log_input, full, eps):
    loss = sp.exp(input) - target * input if log_input else input - target * sp.log(input + eps)
    stirling = target * sp.log(target) - target + sp.log(2 * sp.pi * target) / 2
    return loss + sp.Piecewise((stirling, target > 1), (0, True)) if full else loss


@samples(gaussian_nll_loss)
def gaussian_nll_loss_samples(tensor):
    x, t = tensor([[0.0, 1.0, 8.0], [2.0, -3.0, 0.5]]), tensor([[0.0, 2.0, -8.0], [5.0, 0.5, 1.5]])
    for var in (tensor([[1.0, 0.0, 4.0], [0.5, 1e-3, 2.0]]), tensor([[1.0], [0.5]]), tensor([1.0, 0.5]), 2.0):
        for reduction in ("none", "mean", "sum"):
            yield call(x, t, var, reduction=reduction, eps=1e-2)
            yield call(x, t, var, True, reduction=reduction, eps=1e-2)


@equation(gaussian_nll_loss)
def gaussian_nll_loss_equation(sp, input, target, var, full):
    """Of a variance of at least eps."""
    return (sp.log(var) + (input - target) ** 2 / var + (sp.log(2 * sp.pi) if full else 0)) / 2
