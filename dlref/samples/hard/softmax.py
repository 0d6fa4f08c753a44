"""Hard samples, wrong calls and equations of manual/nn/softmax.py."""

from __future__ import annotations

import torch

from ...manual.nn.softmax import gumbel_softmax, log_softmax, softmax, softmin
from .register import INF, NAN, call, equation, samples


def _softmax_samples(tensor):
    x = tensor([[1e4, -1e4, 0.0], [2.0, 2.0, 2.0], [-1e4, -1e4, -1e4], [-INF, 0.0, 1.0]])  # extremes, ties, a mask
    for dim in (0, 1, -1):
        yield call(x, dim)
    yield call(x, 1, dtype=torch.float64)
    yield call(tensor([[-INF, -INF], [INF, 0.0], [NAN, 0.0]]), 1)  # all masked
    yield call(tensor(3.0), 0)
    yield call(tensor([[1.0], [-2.0]]), 1)  # one class
    for shape in ([0, 3], [3, 0]):
        yield call(tensor([]).reshape(shape), 1)
    for shape in ([4], [2, 2], [2, 2, 1], [1, 2, 2, 1]):
        yield call(tensor([1.0, 2.0, -1.0, 0.5]).reshape(shape))  # no dimension


samples(softmax)(_softmax_samples)


@equation(softmax)
def softmax_equation(sp, input):
    total = sum(sp.exp(x) for x in input)
    return tuple(sp.exp(x) / total for x in input)


samples(softmin)(_softmax_samples)


@equation(softmin)
def softmin_equation(sp, input):
    total = sum(sp.exp(-x) for x in input)
    return tuple(sp.exp(-x) / total for x in input)


samples(log_softmax)(_softmax_samples)


@equation(log_softmax)
def log_softmax_equation(sp, input):
    total = sp.log(sum(sp.exp(x) for x in input))
    return tuple(x - total for x in input)


@samples(gumbel_softmax)
def gumbel_softmax_samples(tensor):
    x = tensor([[1e4, -1e4, 0.0], [2.0, 2.0, 2.0], [1.0, 0.0, -1.0]])
    for hard in (False, True):
        yield call(x, hard=hard)
        yield call(x[1:], 0.5, hard, dim=0)
        yield call(x[:0], hard=hard)
        yield call(x[0] / 1e4, 10.0, hard)
        yield call(x[2:], 1e-30, hard)
        yield call(x, INF, hard)
