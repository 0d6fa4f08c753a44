"""Hard samples, wrong calls and equations of manual/nn/sparse.py."""

from __future__ import annotations

from ...manual.nn.sparse import embedding
from .register import call, errors, samples


@samples(embedding)
def embedding_samples(tensor):
    w = tensor([[1.0, 2.0], [3.0, -4.0], [0.5, 0.0]])
    x = (tensor([[2.0, 0.0], [2.0, 2.0]]) * 1).long()
    yield call(x, w)
    yield call(x, w, -1)
    yield call(x, w, 2, None, 2.0, True)
    yield call(x.int(), w, None, None, 2.0, True)
    yield call(x[0, 0], w)
    yield call(x[:0], w)


@errors(embedding)
def embedding_errors(tensor):
    w = tensor([[1.0, 2.0], [3.0, -4.0]])
    yield IndexError, call(tensor([2]), w)
    yield IndexError, call(tensor([-1]), w)
    yield AssertionError, call(tensor([0]), w, 2)
    yield RuntimeError, call(tensor([0.0]), w)
    yield RuntimeError, call(tensor([0]), w[0])
