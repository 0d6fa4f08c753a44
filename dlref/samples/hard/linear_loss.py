"""Hard samples, wrong calls and equations of manual/nn/linear_loss.py."""

from __future__ import annotations

import torch

from ...manual.nn.linear_loss import linear_cross_entropy
from .register import call, errors, samples


@samples(linear_cross_entropy)
def linear_cross_entropy_samples(tensor):
    from ...builtin.nn import LinearCrossEntropyOptions

    x, w, b = (
        tensor([[1.0, 2.0], [0.0, 0.0], [-1e2, 3.0]]),
        tensor([[1.0, -1.0], [0.5, 30.0], [1.0, -1.0]]),
        tensor([0.0, 9, 0]),
    )
    y, c = torch.tensor([1, 0, 2], device=x.device), tensor([1.0, 0.0, 2.0])
    q = tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.2, 0.3, 0.5]])
    for reduction in ("none", "mean", "sum"):
        yield call(x, w, y, reduction=reduction, linear_bias=b)  # ties, extremes
        yield call(x, w, y, weight=c, ignore_index=1, reduction=reduction, label_smoothing=0.1)
        yield call(x, w, q, weight=c, reduction=reduction, linear_bias=b, label_smoothing=0.2)
    yield call(
        x, w, y, options=LinearCrossEntropyOptions(batch_chunk_size=2, allow_retain_graph=True)
    )  # a short last chunk
    yield call(x, w, y, options=LinearCrossEntropyOptions(chunking_method="aspect_ratio:2", allow_retain_graph=True))
    yield call(x, w, torch.ones_like(y), ignore_index=1)  # all ignored: 0/0
    yield call(x, w, torch.ones_like(y), ignore_index=1, reduction="sum")
    yield call(x[0], w, y[0], label_smoothing=1.0)  # no batch
    yield call(x[0], w, q[0])
    yield call(x[:0], w, y[:0], reduction="none")  # an empty batch
    yield call(x[:, :0], w[:, :0], y, linear_bias=b)  # no features
    wide_weight = w.view(3, 1, 2).expand(3, 2, 2)
    yield call(
        x, wide_weight, y.view(3, 1).expand(3, 2), weight=c, label_smoothing=0.1
    )  # a dimension after the classes
    yield call(x, wide_weight, q.view(3, 3, 1).expand(3, 3, 2), linear_bias=wide_weight[..., 0], reduction="none")


@errors(linear_cross_entropy)
def linear_cross_entropy_errors(tensor):
    x, w, y = tensor([[1.0, 2.0], [0.0, 1.0]]), tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 1.0]]), tensor([0, 1])
    yield ValueError, call(x, w, y, reduction="total")
    yield RuntimeError, call(x, w, y, label_smoothing=1.5)
    yield RuntimeError, call(x, w.double(), y)
    yield RuntimeError, call(x, w, y.int())
    yield ValueError, call(x, w, tensor([0]))  # batch
    yield RuntimeError, call(x, w, y, weight=tensor([1.0]))
    yield RuntimeError, call(x, w, tensor([[0, 1, 0], [1, 0, 0]]))  # integers where there must be probabilities
    yield IndexError, call(x, w, tensor([0, 3]))  # no such class
