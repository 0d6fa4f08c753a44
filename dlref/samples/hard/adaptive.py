"""Hard samples and wrong calls of manual/nn/adaptive.py."""

from __future__ import annotations

from ...manual.nn.adaptive import cluster_log_prob
from .register import call, errors, samples


@samples(cluster_log_prob)
def cluster_log_prob_samples(tensor):
    x = tensor([[1.0, -0.5, 2.0], [0.3, 0.7, -1.1], [-20.0, 3.0, 40.0], [0.1, 0.2, 0.4]])
    w, p = tensor([[1.0, 0.5], [-0.3, 2.0], [1.0, 0.5]]), tensor([[0.5, -1.0, 0.2], [1.5, 0.3, -0.6]])
    head, b = tensor([[1.0, -0.5, 0.3], [0.2, 0.9, -0.4]]), tensor([0.5, -1.0, 9.0])
    for t in ([0.0, 2.0, 1.0, 1.0], [-1.0, 3.0, 0.0, 1.0], [-2.0, 3.0, 5.0, -1.0]):  # of some, of none of the rows
        t = tensor(t).long()
        yield call(x, t, w, None, p)  # ties of the largest, extremes
        yield call(x, t, w, b, p)
        yield call(x, t, head)
        yield call(x, t, head, b[:2])
    yield call(x, tensor([0.0, 0.0, 1.0, 0.0]).long(), head[:1])  # one class
    yield call(x[:0], t[:0], head, b[:2])


@errors(cluster_log_prob)
def cluster_log_prob_errors(tensor):
    x, t, w = tensor([[1.0, -0.5], [0.3, 0.7]]), tensor([0, 1]), tensor([[1.0, 0.5], [-0.3, 2.0], [1.0, 0.5]])
    yield RuntimeError, call(x, t * 1.0, w)
    yield RuntimeError, call(x, t.int(), w)
    yield RuntimeError, call(x, t[:1], w)
    yield RuntimeError, call(x[0], t, w)
    yield RuntimeError, call(x, t, w[0])
    yield RuntimeError, call(x, t, w[:0])
    yield RuntimeError, call(x, t, w[:, :1])
    yield RuntimeError, call(x, t, w, w[0])
    yield RuntimeError, call(x, t, w, None, w[:1])
    yield RuntimeError, call(x, t, w, None, w[0])
