"""Hard samples, wrong calls and equations of manual/nn/linear.py."""

from __future__ import annotations

from ...manual.nn.linear import bilinear, linear
from .register import call, errors, samples


@samples(linear)
def linear_samples(tensor):
    yield call(tensor([[1.0, 2.0]]), tensor([[3.0, -1.0]]), tensor([0.5]))  # one element out, one row
    yield call(tensor([[1.0, 2.0]]), tensor([3.0, -1.0]))  # a weight of one dimension
    yield call(tensor([1.0, 2.0]), tensor([[3.0, -1.0], [0.0, 1.0]]), tensor([0.5, 0.0]))  # no batch
    yield call(tensor([]).reshape(0, 2), tensor([[3.0, -1.0]]), tensor([0.5]))  # an empty batch
    yield call(tensor([]).reshape(3, 0), tensor([]).reshape(2, 0), tensor([0.5, 1.0]))  # no features
    yield call(tensor([[[1e4, -1e4]]]), tensor([[1e-4, 1.0], [1.0, 1.0]]))  # cancellation, three dimensions


@errors(linear)
def linear_errors(tensor):
    x = tensor([[1.0, 2.0]])
    yield RuntimeError, call(x, tensor([[1.0, 2.0, 3.0]]))  # features
    yield RuntimeError, call(x, tensor([[1.0, 2.0]]), tensor([1.0, 2.0]))  # bias
    yield RuntimeError, call(x, tensor([[1, 2]]))  # dtypes
    yield TypeError, call(x)


@samples(bilinear)
def bilinear_samples(tensor):
    yield call(tensor([[1.0, -2.0]]), tensor([[3.0]]), tensor([[[0.5], [1.0]]]), tensor([2.0]))
    yield call(tensor([1.0, -2.0]), tensor([3.0]), tensor([[[0.5], [1.0]]]))  # no batch, no bias
    yield call(tensor([]).reshape(0, 2), tensor([]).reshape(0, 1), tensor([[[0.5], [1.0]]]))  # an empty batch


@errors(bilinear)
def bilinear_errors(tensor):
    x, y, w = tensor([[1.0, 2.0]]), tensor([[1.0]]), tensor([[[1.0], [2.0]]])
    yield RuntimeError, call(x, tensor([1.0]), w)  # dimensions
    yield RuntimeError, call(x, y.expand(2, 1), w)  # batch
    yield RuntimeError, call(y, x, w)  # features
    yield RuntimeError, call(x, y, w, tensor([1.0, 2.0]))  # bias
