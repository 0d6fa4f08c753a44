"""Hard samples, wrong calls and equations of manual/nn/instancenorm.py."""

from __future__ import annotations

from ...manual.nn.instancenorm import instance_norm
from .register import call, errors, samples


@samples(instance_norm)
def instance_norm_samples(tensor):
    x = tensor([[[1.0, 2.0], [3.0, 3.0]], [[-1.0, 0.5], [3.0, 3.0]]])  # channels without variance
    w, b = tensor([2.0, -1.0]), tensor([0.5, 0.0])
    yield call(x, None, None, w, b)
    yield call(x + 10, None, None, None, None, True, 0.1, 1e-2)


@errors(instance_norm)
def instance_norm_errors(tensor):
    x = tensor([[[1.0, 2.0]]])
    yield ValueError, call(x[..., :1])
    yield RuntimeError, call(x, None, None, tensor([1.0, 2.0]))
