"""Hard samples, wrong calls and equations of manual/nn/dropout.py."""

from __future__ import annotations

import torch

from ...manual.nn.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from .register import call, samples


def _samples(tensor, *shapes):
    x = tensor([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    for shape in shapes:
        for p in (0.0, 0.3, 0.5, 1.0):
            yield call(x.reshape(shape), p, True)
        yield call(x.reshape(shape), 0.5, False)
    image = tensor([[float(i * j) for i in range(6)] for j in range(8)]).reshape(2, 6, 2, 2)
    yield call(image.contiguous(memory_format=torch.channels_last), 0.4, True)
    yield call(x[:0].reshape(0, 2, 1, 1), 0.5, True)


@samples(dropout)
def dropout_samples(tensor):
    yield from _samples(tensor, (6,), (2, 3), (3, 1, 2))


@samples(dropout1d)
def dropout1d_samples(tensor):
    x = tensor([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    for shape in ((2, 3), (6, 1), (2, 3, 1), (3, 1, 2)):
        for p in (0.0, 0.5, 1.0):
            yield call(x.reshape(shape), p)
        yield call(x.reshape(shape), 0.5, False)
    yield call(x[:0].reshape(0, 2, 3))


@samples(dropout2d)
def dropout2d_samples(tensor):
    yield from _samples(tensor, (2, 3), (3, 1, 2), (1, 3, 2, 1))


@samples(dropout3d)
def dropout3d_samples(tensor):
    yield from _samples(tensor, (2, 3), (3, 1, 2, 1), (1, 3, 2, 1, 1))


@samples(alpha_dropout)
def alpha_dropout_samples(tensor):
    yield from _samples(tensor, (6,), (2, 3), (3, 1, 2))


@samples(feature_alpha_dropout)
def feature_alpha_dropout_samples(tensor):
    yield from _samples(tensor, (2, 3), (3, 1, 2), (1, 3, 2, 1))
