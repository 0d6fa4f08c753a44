"""Hard samples and wrong calls of manual/nn/pooling.py."""

from __future__ import annotations

import functools
import itertools
import math
import operator

import torch

from ...core.compat import LP_POOL_OF_INFINITE_NORM, LP_POOL_OF_NORM_NOUGHT
from ...manual.nn.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool1d_with_indices,
    adaptive_max_pool2d,
    adaptive_max_pool2d_with_indices,
    adaptive_max_pool3d,
    adaptive_max_pool3d_with_indices,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool2d_with_indices,
    max_pool3d,
    max_pool3d_with_indices,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from .register import call, errors, samples


def _ramp(tensor, *shape):
    return torch.arange(functools.reduce(operator.mul, shape)).sin().reshape(shape).to(tensor([]))


def max_pool_samples(n, tensor):
    x = tensor([[2.0, 2.0, 1.0, 2.0, -1.0, -1.0, 0.0]]).reshape(1, 1, *(1,) * (n - 1), 7)
    k = (*(1,) * (n - 1), 3)
    yield call(x, k, 1)  # ties: the first wins
    yield call(x.expand(2, 3, *(2,) * (n - 1), 7) * 0, 2, 1, 1)  # nothing but ties
    yield call(x, k, k, (*(0,) * (n - 1), 1), 1, True)  # a last window that hangs over
    yield call(x, k, 2, (*(0,) * (n - 1), 1), 2, False, True)
    yield call(x.where(x > 0, -float("inf")), k, 3, (*(0,) * (n - 1), 1))  # a window of nothing but -inf
    yield call(x.where(x < 1, float("nan"))[0], k, 2)  # no batch, NaN
    yield call(x.flip(-1).where(x < 1, float("nan")), k, 2, (*(0,) * (n - 1), 1))  # NaN beside the padding


for n, operation in enumerate((max_pool1d, max_pool2d, max_pool3d), 1):
    samples(operation)(functools.partial(max_pool_samples, n))


def max_pool_with_indices_samples(n, tensor):
    """Without ties, for derivatives by differences."""
    x = _ramp(tensor, 2, 3, *(5,) * n)
    yield call(x, 2)
    yield call(x, 4, 2, 1, 1, True)
    yield call(x, 2, 1, 0, 2)
    yield call(x[0], 2, 2, 1)
    yield call(x.where(x < 0.9, float("nan")), 3, 2, 1)
    yield call(x[:0], 2)


for n, operation in enumerate((max_pool1d_with_indices, max_pool2d_with_indices, max_pool3d_with_indices), 1):
    samples(operation)(functools.partial(max_pool_with_indices_samples, n))


def max_pool_errors(n, tensor):
    x = _ramp(tensor, 1, 1, *(4,) * n)
    yield RuntimeError, call(x, 5)
    yield RuntimeError, call(x, 2, 1, 2)
    yield RuntimeError, call(x, 2, -1)
    yield RuntimeError, call(x, 2, 1, -1)
    yield RuntimeError, call(x, 2, 1, 0, -1)
    yield RuntimeError, call(x, 0)
    yield RuntimeError, call(x.reshape(-1), 2)


for operations in ((max_pool1d, max_pool2d, max_pool3d),
                   (max_pool1d_with_indices, max_pool2d_with_indices, max_pool3d_with_indices)):  # fmt: skip
    for n, operation in enumerate(operations, 1):
        errors(operation)(functools.partial(max_pool_errors, n))


def adaptive_max_pool_samples(n, tensor):
    x = _ramp(tensor, 1, 2, *(5,) * n)
    yield call(x, 3)
    yield call(x, 7)  # windows of one element, some twice
    yield call(x * 0, 2, True)  # ties
    yield call(x[0], 1)


for n, operation in enumerate((adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d), 1):
    samples(operation)(functools.partial(adaptive_max_pool_samples, n))


def adaptive_max_pool_with_indices_samples(n, tensor):
    x = _ramp(tensor, 1, 2, *(5,) * n)
    yield call(x, 3)
    yield call(x, 7)
    yield call(x[0], 2)
    yield call(x.where(x < 0.9, float("nan")), (3, 2, 4)[:n] if n > 1 else 3)
    yield call(x[:0], 2)


for n, operation in enumerate(
    (adaptive_max_pool1d_with_indices, adaptive_max_pool2d_with_indices, adaptive_max_pool3d_with_indices), 1
):
    samples(operation)(functools.partial(adaptive_max_pool_with_indices_samples, n))


def avg_pool_samples(n, tensor):
    x = _ramp(tensor, 2, 3, *(5,) * n)
    for ceil_mode, include in itertools.product((False, True), repeat=2):
        yield call(x, 2, 2, 1, ceil_mode, include)
        yield call(x, 3, 1, 1, ceil_mode, include)  # overlapping
    yield call(x[0], (*(2,) * (n - 1), 4), 3)
    yield call(x[:0], 2)
    yield call(_ramp(tensor, 1, 2, *(6,) * n), 3, 2, 1, True, False)  # a window of which a part lies outside
    if n > 1:
        yield call(x, 2, 1, 0, False, True, 3)


for n, operation in enumerate((avg_pool1d, avg_pool2d, avg_pool3d), 1):
    samples(operation)(functools.partial(avg_pool_samples, n))


def avg_pool_errors(n, tensor):
    x = _ramp(tensor, 1, 1, *(4,) * n)
    yield RuntimeError, call(x, 5)
    yield RuntimeError, call(x, 2, 1, 2)
    yield RuntimeError, call(x, 2, 1, -1)
    yield RuntimeError, call(x[None, None], 2)


for n, operation in enumerate((avg_pool1d, avg_pool2d, avg_pool3d), 1):
    errors(operation)(functools.partial(avg_pool_errors, n))


def adaptive_avg_pool_samples(n, tensor):
    x = _ramp(tensor, 1, 2, *(5,) * n)
    yield call(x, 3)
    yield call(x, 7)
    yield call(x[0], 1)
    yield call(x[:0], 2)


for n, operation in enumerate((adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d), 1):
    samples(operation)(functools.partial(adaptive_avg_pool_samples, n))


def lp_pool_samples(n, tensor):
    x = _ramp(tensor, 2, 3, *(5,) * n) + 2
    yield call(x, 2.0, 2)
    yield call(x, 1.5, 2, 1)
    yield call(x, 3.0, 2, 2, True)
    yield call(x[0], 1.0, 3)
    yield call(x, 2.0, 3, 4, True)  # a window of which a part lies outside
    yield call(x, 3.0, 4, 2, True)  # a quarter of it: 4 / 3 is no number of few bits
    for p in (math.inf, -math.inf) if LP_POOL_OF_INFINITE_NORM else ():
        y = _ramp(tensor, 2, 3, *(5,) * n) + 0.1
        yield call(y, p, 2)
        yield call(y, p, 3, 2, True)
        yield call(y[0], p, 2, 1)


for n, operation in enumerate((lp_pool1d, lp_pool2d, lp_pool3d), 1):
    samples(operation)(functools.partial(lp_pool_samples, n))


def lp_pool_errors(n, tensor):
    refused = ValueError if LP_POOL_OF_NORM_NOUGHT else (ValueError, ZeroDivisionError)
    yield refused, call(_ramp(tensor, 1, 1, *(4,) * n), 0, 2)
    yield RuntimeError, call(_ramp(tensor, 1, 1, *(4,) * n), math.inf, 5)


for n, operation in enumerate((lp_pool1d, lp_pool2d, lp_pool3d), 1):
    errors(operation)(functools.partial(lp_pool_errors, n))


def max_unpool_samples(n, tensor):
    x = _ramp(tensor, 2, 3, *(2,) * n)
    at = torch.arange(2**n, device=x.device).view((2,) * n).expand(x.shape) * 2
    yield call(x, at, 2)
    yield call(x[0], at[0], 2, 2, 0, tuple(5 for _ in range(n)))


for n, operation in enumerate((max_unpool1d, max_unpool2d, max_unpool3d), 1):
    samples(operation)(functools.partial(max_unpool_samples, n))
