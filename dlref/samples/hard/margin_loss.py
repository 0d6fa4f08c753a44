"""Hard samples, wrong calls and equations of manual/nn/margin_loss.py."""

from __future__ import annotations

import math

import torch

from ...manual.nn.margin_loss import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    triplet_margin_loss,
)
from .register import call, equation, samples


@samples(hinge_embedding_loss)
def hinge_embedding_loss_samples(tensor):
    x, y = tensor([0.0, 1.0, 0.5, 1e4, -1e4, 2.0]), tensor([1.0, -1.0, -1.0, 1.0, -1.0, 0.0])
    for reduction in ("none", "mean", "sum"):
        yield call(x, y, reduction=reduction)
    yield call(x, y, margin=0.5)
    yield call(x[:0], y[:0], reduction="sum")


@equation(hinge_embedding_loss)
def hinge_embedding_loss_equation(sp, input, target, margin):
    hinge = sp.Piecewise((margin - input, margin - input > 0), (0, True))
    return sp.Piecewise((input, target > 0), (hinge, True))


@samples(margin_ranking_loss)
def margin_ranking_loss_samples(tensor):
    x, y, t = tensor([0.0, 1.0, 2.0, 1e4]), tensor([0.0, 2.0, 1.0, -1e4]), tensor([1.0, 1.0, -1.0, 1.0])
    for reduction in ("none", "mean", "sum"):
        yield call(x, y, t, reduction=reduction)
        yield call(x, y, t, 1.0, reduction=reduction)  # on the boundary


@equation(margin_ranking_loss)
def margin_ranking_loss_equation(sp, input1, input2, target, margin):
    z = -target * (input1 - input2) + margin
    return sp.Piecewise((z, z > 0), (0, True))


@samples(cosine_embedding_loss)
def cosine_embedding_loss_samples(tensor):
    x, y = tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]), tensor([[4.0, -3.0], [2.0, 0.0], [1.0, 1.0]])
    for t in ([1, 1, 1], [-1, -1, -1], [1, -1, 0]):
        for reduction in ("none", "mean", "sum"):
            yield call(x, y, torch.tensor(t, device=x.device), reduction=reduction)
    yield call(x[0], y[1], torch.tensor(-1, device=x.device), 0.5)


@equation(cosine_embedding_loss)
def cosine_embedding_loss_equation(sp, input1, input2, target, margin):
    q1, q2 = (sum(x**2 for x in v) + sp.Rational(1e-12) for v in (input1, input2))
    c = sum(a * b for a, b in zip(input1, input2, strict=True)) / sp.sqrt(q1 * q2)
    return sp.Piecewise((1 - c, target > 0), (c - margin, c > margin), (0, True))


@samples(multi_margin_loss)
def multi_margin_loss_samples(tensor):
    x = tensor([[1.0, 0.0, 2.0], [0.5, 0.5, 0.5], [1e4, -1e4, 0.0]])
    y, w = torch.tensor([0, 1, 2], device=x.device), tensor([0.5, 1.0, 0.0])
    for p in (1, 2):
        for reduction in ("none", "mean", "sum"):
            yield call(x, y, p, reduction=reduction)
            yield call(x, y, p, 0.5, w, reduction=reduction)
        yield call(x, y, p, -math.inf)
    yield call(x[0], y[0])
    for reduction in ("none", "mean"):
        yield call(x[0], y[:1], 2, reduction=reduction)  # the target's shape decides whether a dimension stays
        yield call(x[:1], y[0], reduction=reduction)


@samples(multilabel_margin_loss)
def multilabel_margin_loss_samples(tensor):
    x = tensor([[1.0, 0.0, 2.0, 3.0], [0.5, 0.5, 0.5, 0.5], [1e4, -1e4, 0.0, 1.0]])
    y = torch.tensor([[3, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3]], device=x.device)
    for reduction in ("none", "mean", "sum"):
        yield call(x, y, reduction=reduction)
    yield call(x[0], y[0])
    yield call(x[:2], torch.tensor([[2, 2, 0, -1], [1, 1, 1, 1]], device=x.device))  # a class listed twice counts twice
    yield call(x[1:2], y[1:2])  # none listed
    yield call(tensor([[-math.inf, 0.0, -math.inf, 2.0], [math.inf, 0.0, 1.0, 2.0]]), y[0:1, [1, 2, 2, 2]].expand(2, 4))


@samples(triplet_margin_loss)
def triplet_margin_loss_samples(tensor):
    a, p, n = tensor([[1.0, 2.0], [0.0, 0.0]]), tensor([[1.0, 2.0], [0.5, 0.0]]), tensor([[4.0, 6.0], [0.0, 1.0]])
    for norm_p in (1.0, 2.0, 3.0):
        for swap in (False, True):
            yield call(a, p, n, 2.0, norm_p, swap=swap)
            yield call(a, p, n, 1.0, norm_p, swap=swap, reduction="none")
    yield call(a, p, n, 1.0, 2.0, 0.0)  # a distance of 0
    for swap in (False, True):  # on the boundary
        yield call(tensor([[0.0, 0.0]]), tensor([[0.0, 1.0]]), tensor([[1.5, 0.0]]), 0.5, 2.0, 0.0, swap)
    yield call(a, p, n, 5.0, swap=True, reduction="sum")  # a = p: equal distances
