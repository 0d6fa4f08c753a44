"""Convolutions by parts of the batch: the windows of a few images at a time, which a cache holds.

The windows are copied, kernel times as many numbers as the images themselves: of a whole batch they would be most of the
memory that a step takes.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

from torch import Tensor

from ..nn.common import widened
from ..nn.conv import (
    Ints,
    Pads,
    as_rows,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    correlate,
    correlated_size,
    fitting,
    of_rows,
    short_sums,
    spread,
    transposed_size,
    with_batch,
)
from ..nn.standardise import summed

WINDOWS = 1 << 19  # numbers that are copied at once: 2 MB of float32, which a cache holds


def _parts(number: int, places: Ints, kernel: Ints, channels: int) -> list[slice]:
    """The images that are taken together, so that their windows at so many places stay small."""
    step = max(1, WINDOWS // max(math.prod((*places, *kernel, channels)), 1))
    return [slice(i, i + step) for i in range(0, number, step)] or [slice(0, 0)]


def _together(one: Callable[[slice], Tensor], parts: list[slice], number: int) -> Tensor:
    """What `one` makes of each part, (N, ...) as one tensor."""
    first = one(parts[0])
    if len(parts) == 1:
        return first.contiguous()
    whole = first.new_empty((number, *first.shape[1:]))  # written part by part, so that they are not held twice
    whole[parts[0]] = first
    del first
    for part in parts[1:]:
        whole[part] = one(part)
    return whole


def _correlate(x: Tensor, weight: Tensor, bias, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    """`correlate`, by parts."""
    size, kernel = correlated_size(x, weight, stride, pads, dilation), tuple(weight.shape[2:])
    return _together(lambda part: correlate(x[part], weight, bias, stride, pads, dilation, groups),
                     _parts(len(x), size, kernel, x.shape[1]), len(x))  # fmt: skip


def _spread(y: Tensor, weight: Tensor, size: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    """`spread`, by parts."""
    parts = _parts(len(y), y.shape[2:], tuple(weight.shape[2:]), weight.shape[1] * groups)
    return _together(lambda part: spread(y[part], weight, size, stride, pads, dilation, groups), parts, len(y))


def _outer(x: Tensor, y: Tensor, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    """`outer`, by parts."""
    products = (
        widened(short_sums(of_rows(y[part], groups), as_rows(x[part], kernel, stride, pads, dilation, groups)[0]))
        for part in _parts(len(y), y.shape[2:], kernel, x.shape[1])
    )
    w = functools.reduce(operator.add, products)  # (G, out / G, K * C / G)
    return w.view(y.shape[1], *kernel, x.shape[1] // groups).movedim(-1, 1)


@conv1d.kernel
@conv2d.kernel
@conv3d.kernel
def conv_forward(input, weight, bias, stride, pads, dilation, groups):
    y = _correlate(with_batch(input, stride), weight, bias, stride, pads, dilation, groups)
    return y if input.dim() == len(stride) + 2 else y.squeeze(0)


@conv1d.kernel_gradient
@conv2d.kernel_gradient
@conv3d.kernel_gradient
def conv_gradient(dy, needs, input, weight, stride, pads, dilation, groups):
    dy, x, dx, dweight = with_batch(dy, stride), with_batch(input, stride), None, None
    if needs.input:
        dx = _spread(dy, weight.conj(), tuple(x.shape[2:]), stride, pads, dilation, groups)
    if needs.weight:
        dweight = _outer(x.conj(), dy, tuple(weight.shape[2:]), stride, pads, dilation, groups)
    return dx, dweight, summed(dy.flatten(2), (0, 2)) if needs.bias else None


@conv_transpose1d.kernel
@conv_transpose2d.kernel
@conv_transpose3d.kernel
def conv_transpose_forward(input, weight, bias, stride, pads, extra, groups, dilation):
    size = transposed_size(input, weight, stride, pads, dilation, extra)
    y = _spread(with_batch(input, stride), weight, size, stride, pads, dilation, groups)
    if bias is not None:
        y += bias.view(-1, *(1 for _ in stride))
    return y if input.dim() == len(stride) + 2 else y.squeeze(0)


@conv_transpose1d.kernel_gradient
@conv_transpose2d.kernel_gradient
@conv_transpose3d.kernel_gradient
def conv_transpose_gradient(dy, needs, input, weight, stride, pads, groups, dilation):
    dy, x = with_batch(dy, stride), with_batch(input, stride)
    dx = dweight = None
    if needs.input:
        dx = _correlate(dy, weight.conj(), None, stride, pads, dilation, groups)
        within: tuple = (Ellipsis, *map(slice, x.shape[2:]))
        dx = dx[within]
    if needs.weight:
        inner = fitting(x, weight, dy, stride, pads, dilation)
        dweight = _outer(dy, x.conj(), tuple(weight.shape[2:]), stride, inner, dilation, groups)
    return dx, dweight, summed(dy.flatten(2), (0, 2)) if needs.bias else None
