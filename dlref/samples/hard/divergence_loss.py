"""Hard samples, wrong calls and equations of manual/nn/divergence_loss.py."""

from __future__ import annotations

from ...manual.nn.divergence_loss import js_div, tv_distance
from .register import INF, call, equation, errors, samples

REDUCTIONS = ("none", "mean", "sum", "batchmean")


def _pair(tensor):
    """Far from each other, in the tails, and near."""
    return (tensor([[-1.0, -2.0, -0.75], [-90.0, -1e-3, -1e3], [-0.5, -3.0, -2.0]]),
            tensor([[-0.5, -2.5, -3.0], [-1e-3, -90.0, -2.0], [-0.5078125, -3.0078125, -1.0]]))  # fmt: skip


@samples(js_div)
def js_div_samples(tensor):
    q, p = _pair(tensor)
    for reduction in REDUCTIONS:
        for beta in (0.5, 0.1, 0.9, 0.0, 1.0):
            yield call(q, p, beta, reduction)
    yield call(q, q.clone())  # one distribution
    nowhere = tensor([[-INF, 0.0, -INF], [-0.5, -1.0, -INF]])
    yield call(nowhere, p[:2])
    yield call(q[:2], nowhere, 0.25)
    yield call(nowhere, nowhere.clone(), 0.75)
    yield call(q[0], p[0])
    yield call(q[0, 0], p[0, 0])
    yield call(q[:0], p[:0], reduction="sum")
    yield call(q.t(), p.t(), 0.3)


@samples(tv_distance)
def tv_distance_samples(tensor):
    q, p = _pair(tensor)
    for reduction in REDUCTIONS:
        yield call(q, p, reduction)
    yield call(tensor([[-INF, 0.0, INF], [-0.5, -1.0, -INF]]), tensor([[-INF, -1.0, 0.0], [-0.5, -INF, -2.0]]), "none")
    yield call(q[0], p[0])
    yield call(q[0, 0], p[0, 0])
    yield call(q[:0], p[:0], "sum")
    yield call(q.t(), p.t())


@errors(js_div)
def js_div_errors(tensor):
    x = tensor([[-1.0, -2.0]])
    yield ValueError, call(x, x[0])
    yield ValueError, call(x, x, 1.5)
    yield ValueError, call(x, x, reduction="total")


@errors(tv_distance)
def tv_distance_errors(tensor):
    x = tensor([[-1.0, -2.0]])
    yield ValueError, call(x, x[0])
    yield ValueError, call(x, x, "total")


@equation(js_div)
def js_div_equation(sp, input, target, beta):
    if beta in (0, 1):
        a, b = (target, input) if beta == 0 else (input, target)
        return sp.exp(a) * (a - b)
    p, q = sp.exp(target), sp.exp(input)
    log_m = sp.log(beta * p + (1 - beta) * q)
    return beta * p * (target - log_m) + (1 - beta) * q * (input - log_m)


@equation(tv_distance)
def tv_distance_equation(sp, input, target):
    difference = sp.exp(input) - sp.exp(target)
    return sp.Piecewise((difference, input > target), (-difference, input < target), (0, True)) / 2
