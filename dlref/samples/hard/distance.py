"""Hard samples, wrong calls and equations of manual/nn/distance.py."""

from __future__ import annotations

import math

import torch

from ...manual.nn.distance import cosine_similarity, normalize, one_hot, pairwise_distance, pdist
from .register import call, equation, errors, samples


@equation(pairwise_distance)
def pairwise_distance_equation(sp, x1, x2, p, eps):
    return _length(sp, [a - b + eps for a, b in zip(x1, x2, strict=True)], p)


@samples(pairwise_distance)
def pairwise_distance_samples(tensor):
    x, y = tensor([[1.0, -2.0, 3.0], [0.5, 0.5, 0.5]]), tensor([[1.0, -2.0, 3.0], [2.5, -1.5, 0.5]])
    for p in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf):
        yield call(x, y, p, 0.0)  # a distance of 0, ties of the largest
        yield call(x, y, p, keepdim=True)
    yield call(x, y[:1])
    yield call(x[:0], y[:0])


@samples(pdist)
def pdist_samples(tensor):
    x = tensor([[1.0, -2.0, 3.0], [1.0, -2.0, 3.0], [2.5, -1.5, 0.25], [0.75, 0.5, 0.875]])
    for p in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 7.0, math.inf):
        yield call(x, p)  # rows that are the same
        yield call(x[:, :1], p)
    yield call(x[2:], 2)
    yield call(x[:1])  # no pair


@errors(pdist)
def pdist_errors(tensor):
    x = tensor([[1.0, -2.0], [0.5, 3.0]])
    for wrong in (x[0], x[None], x.long(), x + 0j):
        yield RuntimeError, call(wrong)
    for p in (-1.0, math.nan):
        yield RuntimeError, call(x, p)


@equation(cosine_similarity)
def cosine_similarity_equation(sp, x1, x2):
    """Of rows no shorter than eps: as in torch the gradient is another function below."""
    return sum(a * b for a, b in zip(x1, x2, strict=True)) / _length(sp, x1) / _length(sp, x2)


@samples(cosine_similarity)
def cosine_similarity_samples(tensor):
    x, y = tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 1e-3]]), tensor([[4.0, -3.0], [1.0, 2.0], [2.0, 2.0]])
    yield call(x, y)  # right angle, no angle, parallel
    yield call(x, y, 0)
    yield call(x, y[:1], -1, 1e-2)  # below eps
    yield call(x[:1], y[:1], 1, 1e-300)
    yield call(x, y, 1, 1e4)
    yield call(x[:0], y[:0])


def _length(sp, v, p=2):
    size = [sp.Piecewise((x, x > 0), (-x, True)) for x in v]
    return sp.sqrt(sum(x**2 for x in v)) if p == 2 else sum(x**p for x in size) ** (1 / sp.Rational(p))


@equation(normalize)
def normalize_equation(sp, input, p, eps):
    n = _length(sp, input, p)
    n = sp.Piecewise((n, n >= eps), (eps, True))
    return tuple(x / n for x in input)


@samples(normalize)
def normalize_samples(tensor):
    x = tensor([[3.0, 4.0, -4.0], [0.0, 0.0, 0.0], [1e-3, 0.0, -1e-3]])
    for p in (1.0, 2.0, 3.0, math.inf):
        yield call(x, p)
        yield call(x, p, 0, 1e-2)
        yield call(x, p, 0, 1e4)
    yield call(x[:0])


@samples(one_hot)
def one_hot_samples(tensor):
    classes = torch.arange(4, device=tensor([]).device).view(2, 2)
    yield call(classes, 4)
    yield call(classes, 7)
    yield call(classes[:0], 3)
    yield call(classes[1, 1], 4)


@errors(one_hot)
def one_hot_errors(tensor):
    yield RuntimeError, call(tensor([-1]))
    yield RuntimeError, call(tensor([3]), 3)
    yield RuntimeError, call(tensor([1.0]))
    yield RuntimeError, call(tensor([1]), 0)
    yield RuntimeError, call(tensor([]).long())
