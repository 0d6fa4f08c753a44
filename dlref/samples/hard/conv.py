"""Hard samples and wrong calls of manual/nn/conv.py."""

from __future__ import annotations

import functools
import operator

import torch

from ...manual.nn.conv import conv1d, conv2d, conv3d, conv_tbc, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .register import call, errors, samples


def conv_samples(n, tensor):
    def ramp(*shape):
        return torch.arange(functools.reduce(operator.mul, shape)).sin().reshape(shape).to(tensor([]))

    one = (1,) * (n - 1)
    x, w, b = ramp(2, 4, *(3,) * (n - 1), 5), ramp(6, 2, *(2,) * (n - 1), 3), ramp(6)
    yield call(x, w, b, groups=2)
    yield call(x, w, None, 2, 1, groups=2)  # a stride that leaves a rest
    yield call(x, w[..., :2], b, 1, "same", groups=2)  # an even kernel: one more zero behind
    yield call(x, w, b, 1, "valid", (*one, 2), 2)
    yield call(x[0], w, b, (*one, 2), (*one, 2), (*one, 2), 2)  # no batch, dilation and padding
    yield call(x, ramp(4, 1, *one, 1), None, 1, 0, 1, 4)  # a channel for itself
    yield call(x, ramp(3, 4, *one, 1), ramp(3), 3)  # gaps between the windows
    yield call(x[:0], w, b, groups=2)  # an empty batch
    yield call(x.transpose(-1, 1), ramp(2, 5, *one, 2), None, 1, (*(0 for _ in one), 1))


for n, operation in enumerate((conv1d, conv2d, conv3d), 1):
    samples(operation)(functools.partial(conv_samples, n))


def conv_errors(n, tensor):
    x, w = (
        tensor([0.0] * 24).reshape(1, 4, *(1,) * (n - 1), 6),
        tensor([0.0] * 12).reshape(2, 2, *(1,) * (n - 1), 3),
    )
    yield RuntimeError, call(x, w)  # channels
    yield RuntimeError, call(x, w, None, 1, 0, 1, 3)  # groups
    yield RuntimeError, call(x, w, None, 0, 0, 1, 2)
    yield RuntimeError, call(x, w, None, 1, -1, 1, 2)
    yield RuntimeError, call(x, w, None, 1, 0, -1, 2)
    yield RuntimeError, call(x, w, None, 1, 0, 4, 2)  # larger than the input
    yield RuntimeError, call(x, w, None, 2, "same", 1, 2)
    yield RuntimeError, call(x, w, None, 1, "full", 1, 2)
    yield RuntimeError, call(x, w, tensor([0.0]), 1, 0, 1, 2)
    yield RuntimeError, call(x.to(torch.float64), w.to(torch.float32), None, 1, 0, 1, 2)
    yield RuntimeError, call(x[0, 0], w)


for n, operation in enumerate((conv1d, conv2d, conv3d), 1):
    errors(operation)(functools.partial(conv_errors, n))


def conv_transpose_samples(n, tensor):
    def ramp(*shape):
        return torch.arange(functools.reduce(operator.mul, shape)).sin().reshape(shape).to(tensor([]))

    one = (1,) * (n - 1)
    x, w, b = ramp(2, 4, *(2,) * (n - 1), 4), ramp(4, 3, *(2,) * (n - 1), 3), ramp(6)
    yield call(x, w, b, groups=2)
    yield call(x, w, None, 2, 1, 1, 2)  # output_padding
    yield call(x, w, b, 1, 1, 1, 2, 2)  # output_padding below the dilation
    yield call(x[0], w, b, (*one, 3), 0, (*(0 for _ in one), 2), 2)  # no batch
    yield call(x, ramp(4, 2, *one, 1), None, 3)  # gaps between the windows
    yield call(x[:0], w, b, groups=2)


for n, operation in enumerate((conv_transpose1d, conv_transpose2d, conv_transpose3d), 1):
    samples(operation)(functools.partial(conv_transpose_samples, n))


def conv_transpose_errors(n, tensor):
    x, w = (
        tensor([0.0] * 24).reshape(1, 4, *(1,) * (n - 1), 6),
        tensor([0.0] * 24).reshape(4, 2, *(1,) * (n - 1), 3),
    )
    yield RuntimeError, call(x[:, :3], w)
    yield RuntimeError, call(x, w, None, 0)
    yield RuntimeError, call(x, w, None, 1, -1)
    yield RuntimeError, call(x, w, None, 1, 0, 1)
    yield RuntimeError, call(x, w, tensor([0.0]))


for n, operation in enumerate((conv_transpose1d, conv_transpose2d, conv_transpose3d), 1):
    errors(operation)(functools.partial(conv_transpose_errors, n))


@samples(conv_tbc)
def conv_tbc_samples(tensor):
    def ramp(*shape):
        return torch.arange(functools.reduce(operator.mul, shape)).sin().reshape(shape).to(tensor([]))

    x, w, b = ramp(5, 2, 3), ramp(3, 3, 4), ramp(4)
    yield call(x, w, b)
    yield call(x, w, b, 1)
    yield call(x, w[:2], b, 4)  # windows of nothing but zeros
    yield call(x, w[:1], b, -2)  # the first and last frames are cut off
    yield call(x[:1], w, b, 2)
    yield call(x[:2], w, b)  # no frame is left
    yield call(x[:, :0], w, b, 1)
    yield call(x[:, :1].expand(5, 2, 3), w.transpose(0, 1), b, 1)


@errors(conv_tbc)
def conv_tbc_errors(tensor):
    x, w, b = tensor([0.0] * 30).view(5, 2, 3), tensor([0.0] * 36).view(3, 3, 4), tensor([0.0] * 4)
    yield RuntimeError, call(x[0], w, b)
    yield RuntimeError, call(x, w[0], b)
    yield RuntimeError, call(x, w, b[None])
    yield RuntimeError, call(x[..., :2], w, b)
    yield RuntimeError, call(x, w, b[:2])
    yield RuntimeError, call(x, w, b, -2)
    yield RuntimeError, call(x, w.double(), b)
    yield TypeError, call(x, w, None)
