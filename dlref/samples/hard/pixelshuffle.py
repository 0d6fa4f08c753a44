"""Hard samples, wrong calls and equations of manual/nn/pixelshuffle.py."""

from __future__ import annotations

from ...manual.nn.pixelshuffle import channel_shuffle, pixel_shuffle, pixel_unshuffle
from .register import call, errors, samples


@samples(pixel_shuffle)
def pixel_shuffle_samples(tensor):
    x = tensor([float(i) for i in range(24)])
    yield call(x.reshape(1, 4, 2, 3), 2)
    yield call(x.reshape(4, 6, 1), 1)


@errors(pixel_shuffle)
def pixel_shuffle_errors(tensor):
    x = tensor([0.0] * 12).reshape(3, 2, 2)
    yield RuntimeError, call(x, 2)
    yield RuntimeError, call(x, 0)
    yield RuntimeError, call(x[0], 1)


@samples(pixel_unshuffle)
def pixel_unshuffle_samples(tensor):
    x = tensor([float(i) for i in range(24)])
    yield call(x.reshape(1, 1, 4, 6), 2)
    yield call(x.reshape(4, 6, 1), 1)


@errors(pixel_unshuffle)
def pixel_unshuffle_errors(tensor):
    x = tensor([0.0] * 12).reshape(1, 3, 4)
    yield RuntimeError, call(x, 2)
    yield RuntimeError, call(x, 0)
    yield RuntimeError, call(x[0], 1)


@samples(channel_shuffle)
def channel_shuffle_samples(tensor):
    x = tensor([float(i) for i in range(24)])
    yield call(x.reshape(1, 6, 4), 2)
    yield call(x.reshape(2, 6, 2, 1), 3)
    yield call(x.reshape(2, 6, 2), 1)


@errors(channel_shuffle)
def channel_shuffle_errors(tensor):
    x = tensor([0.0] * 12).reshape(1, 3, 4)
    yield RuntimeError, call(x, 2)
    yield RuntimeError, call(x, 0)
    yield RuntimeError, call(x[0], 1)
