"""Hard samples, wrong calls and equations of manual/nn/batchnorm.py."""

from __future__ import annotations

from ...manual.nn.batchnorm import batch_norm
from .register import call, errors, samples


@samples(batch_norm)
def batch_norm_samples(tensor):
    x = tensor([[[1.0, 2.0], [3.0, 3.0]], [[-1.0, 0.5], [3.0, 3.0]]])  # a channel without variance
    w, b = tensor([2.0, -1.0]), tensor([0.5, 0.0])
    yield call(x, None, None, w, b, True)
    yield call(x, None, None, w, None, True, eps=1e-2)
    yield call(x, None, None, None, b, True)
    yield call(x[..., 0], None, None, None, None, True)  # (N, C)
    mean, var = tensor([0.5, 1.0]).detach(), tensor([4.0, 1e-6]).detach()
    yield call(x + 10, None, None, w, b, True)  # a mean far above the deviation
    yield call(x[:0], mean, var, w, b)  # an empty batch


@errors(batch_norm)
def batch_norm_errors(tensor):
    x, m, v = tensor([[1.0, 2.0]]), tensor([0.0, 0.0]), tensor([1.0, 1.0])
    yield ValueError, call(x, m, v, None, None, True)
    yield RuntimeError, call(x, m[:1], v)
    yield RuntimeError, call(x, m, v, tensor([1.0]))
    yield RuntimeError, call(x, m, v, None, tensor([1.0, 1.0, 1.0]))
