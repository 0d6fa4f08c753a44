"""Hard samples and wrong calls of manual/nn/fractional_pooling.py."""

from __future__ import annotations

import functools

import torch

from ...core.compat import FRACTIONAL_POOL_OF_NOTHING
from ...manual.nn.fractional_pooling import (
    fractional_max_pool2d,
    fractional_max_pool2d_with_indices,
    fractional_max_pool3d,
    fractional_max_pool3d_with_indices,
)
from .register import NAN, call, errors, samples

OPERATIONS = (
    (2, (fractional_max_pool2d, fractional_max_pool2d_with_indices)),
    (3, (fractional_max_pool3d, fractional_max_pool3d_with_indices)),
)


def _waves(tensor, *shape):
    return torch.arange(torch.Size(shape).numel()).mul(2.3).sin().reshape(shape).to(tensor([]))


def fractional_max_pool_samples(n, flag, tensor):
    x = _waves(tensor, 2, 3, *(6, 7, 6)[:n])
    flagged = {"return_indices": True} if flag else {}
    u = tensor([0.0, 0.5, 0.75, 0.99, 0.25, 0.125]).repeat(n).view(2, 3, n)
    yield call(x, 2, 3, _random_samples=u)
    yield call(x, 2, 3)  # drawn
    yield call(x, (2, 1, 3)[:n], (3, 4, 2)[:n], _random_samples=u, **flagged)
    yield call(x, 2, None, (0.5, 0.8, 0.7)[:n], _random_samples=u)
    yield call(x[0], 3, 2, _random_samples=u[:1], **flagged)  # no batch
    yield call(x, 2, 1, _random_samples=u)  # one window, at the end
    most = (6, 7) if n == 2 else (5, 6, 5)
    yield call(x, most, 1, _random_samples=u)  # of images the whole
    yield call(x, 1, most, _random_samples=u)  # as they are
    if flag:  # the other form is without ties, for derivatives by differences
        yield call(x * 0, 3, 3, _random_samples=u, **flagged)  # the first wins
    yield call(x.where(x < 0.9, NAN), 3, 3, _random_samples=u, **flagged)  # the last NaN
    yield call(x.where(x > 0.9, -float("inf")), 2, 3, _random_samples=u, **flagged)
    yield call(x, 2, 3, _random_samples=torch.cat([u, u])[:3], **flagged)  # more samples than images
    yield call(x[:0], 2, 3, _random_samples=u[:0])


def fractional_max_pool_errors(n, tensor):
    x = _waves(tensor, 2, 3, *(6,) * n)
    u = torch.full((2, 3, n), 0.5).to(x)
    yield ValueError, call(x, 2)
    if FRACTIONAL_POOL_OF_NOTHING:
        yield RuntimeError, call(x, 0, 3, _random_samples=u)
    yield RuntimeError, call(x, 2, 6, _random_samples=u)
    yield RuntimeError, call(x, (2,) * (n + 1), 3, _random_samples=u)
    yield RuntimeError, call(x, 2, (3,) * (n + 1), _random_samples=u)
    yield RuntimeError, call(x[:, :0], 2, 3, _random_samples=u)
    yield RuntimeError, call(x[..., :0], 2, 3, _random_samples=u)
    yield RuntimeError, call(x, 2, 3, _random_samples=u[:1])
    yield RuntimeError, call(x, 2, 3, _random_samples=u[..., :1])
    yield RuntimeError, call(x, 2, 3, _random_samples=u.half())
    yield NotImplementedError, call(x.long(), 2, 3)


for _n, _operations in OPERATIONS:
    for _flag, _operation in zip((True, False), _operations, strict=True):
        samples(_operation)(functools.partial(fractional_max_pool_samples, _n, _flag))
        errors(_operation)(functools.partial(fractional_max_pool_errors, _n))
