"""Hard samples, wrong calls and equations of manual/nn/local.py."""

from __future__ import annotations

from ...manual.nn.local import local_linear
from .register import call, errors, samples


@samples(local_linear)
def local_linear_samples(tensor):
    def wave(*shape):
        count = 1
        for size in shape:
            count *= size
        return tensor([((i * 37) % 23 - 11) / 7 for i in range(count)]).reshape(shape)

    yield call(wave(2, 3, 7), wave(5, 4, 3, 3), wave(4, 5))
    yield call(wave(3, 7), wave(5, 4, 3, 3))  # no batch, no bias
    yield call(wave(2, 3, 7), wave(3, 4, 3, 3), wave(4, 3), 2)
    yield call(wave(2, 3, 7), wave(5, 4, 3, 3), None, 2, 2)
    yield call(wave(2, 3, 7), wave(5, 4, 3, 3), wave(4, 5), 2, 2)
    yield call(wave(2, 1, 7), wave(3, 2, 1, 3), wave(2, 3), dilation=2)
    yield call(wave(2, 2, 5, 4), wave(4, 2, 3, 2, 2, 3), wave(3, 4, 2))
    yield call(wave(2, 5, 4), wave(4, 2, 1, 2, 2, 3), None, (1, 2), (0, 2), (1, 2))
    yield call(wave(0, 3, 7), wave(5, 4, 3, 3), wave(4, 5))  # an empty batch


@errors(local_linear)
def local_linear_errors(tensor):
    x, weight = tensor([0.0] * 21).reshape(1, 3, 7), tensor([0.0] * 180).reshape(5, 4, 3, 3)
    yield ValueError, call(x[:, :2], weight)
    yield ValueError, call(x[:, :, :6], weight)
    yield ValueError, call(x, weight[:, :, :, 0])
    yield ValueError, call(x, weight, weight[0, :, 0, 0])
    yield ValueError, call(x, weight, stride=0)
    yield ValueError, call(x, weight, dilation=-1)
    yield ValueError, call(x, weight, padding=-1)
    yield ValueError, call(x[0, 0], weight)
