"""Convolutions by parts of the batch: the windows of a few images at a time, which a cache holds.

The windows are copied, kernel times as many numbers as the images themselves: of a whole batch they would be most of the
memory that a step takes. What is copied once serves all products that need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from operator import mul

import torch
from torch import Tensor

from ..nn.common import HALF, finite, widened
from ..nn.conv import (
    ROWS,
    Ints,
    Pads,
    as_matrix,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    correlated_size,
    fitting,
    of_rows,
    short_sums,
    transposed_size,
    with_batch,
)
from ..nn.standardise import summed
from ..windows import padded

WINDOWS = 1 << 19  # numbers that are copied at once: 2 MB of float32, which a cache holds
PLACES = 64  # of an image, from which on it has a product of its own


def _alone(places: int, groups: int) -> bool:
    """Whether each image has a product of its own, in the order in which images lie: then its output is not transposed.

    Of 64 places and more that is faster, by a twentieth of the products' time of many channels to two thirds of few. Of 16
    places such products take a third longer than one of all images' rows.
    """
    return groups == 1 and places >= PLACES


def _parts(number: int, lines: int, each: int) -> Iterator[tuple[slice, slice]]:
    """The images that are taken together, and of one that is large the lines, so that the numbers that are copied, `each` of
    a line, stay few."""
    for images in _split(number, lines * each):
        for line in _split(lines, (images.stop - images.start) * each):
            yield images, line


def _split(number: int, each: int) -> list[slice]:
    most = max(1, WINDOWS // max(each, 1))
    step = max(1, -(-number // max(1, -(-number // most))))  # all parts alike
    return [slice(i, min(i + step, number)) for i in range(0, number, step)] or [slice(0, 0)]


def _windows(
    x: Tensor, size: Ints, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int
) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
    """Where each part stands in (N, C, *O), and its windows, (groups, N, O, K * C / groups), all in one place of memory.

    The channels come last, so that what is copied lies in runs of as many numbers as there are channels.
    """
    each, width = math.prod((*size[1:], *kernel, x.shape[1])), math.prod(kernel) * x.shape[1] // groups
    rows = None
    for part, line in _parts(len(x), size[0], each):
        if line.start == 0:
            images = padded(x[part].movedim(1, -1), 1, pads)
            if math.prod(kernel) > 1:
                images = images.contiguous()
            n, *_, channels = images.shape
            whole, *steps, near = images.stride()
            shape = groups, n, *size, *kernel, channels // groups
            strides = channels // groups * near, whole, *map(mul, steps, stride), *map(mul, steps, dilation), near
            found = images.as_strided(shape, strides)
        several = found[:, :, line]
        if rows is None:  # the first part is the largest
            rows = x.new_empty(several.numel())
        here = rows[: several.numel()].view(several.shape)
        here.copy_(several)
        if line.stop == size[0]:
            del images, found, several
        yield (part, slice(None), line), here.view(groups, n, math.prod(here.shape[2 : len(size) + 2]), width)


def _product(rows: Tensor, W: Tensor, bias: Tensor | None, y: Tensor) -> None:
    """Windows (G, N, O, K * C / G) times the weight (G, out / G, K * C / G), into y (N, out, *O)."""
    (groups, n, places, _), out = rows.shape, W.shape[1]
    if _alone(places, groups):
        factors, into = (W.expand(n, -1, -1), rows[0].mT), y.flatten(2)  # (N, out, O)
        if bias is None:
            torch.bmm(*factors, out=into)
        else:
            torch.baddbmm(bias.view(1, -1, 1), *factors, out=into)
    else:
        X = rows.flatten(1, 2)
        z = X @ W.mT if bias is None else torch.baddbmm(bias.view(groups, 1, -1), X, W.mT)  # (G, N * O, out / G)
        y.view(n, groups, out, places).copy_(z.view(groups, n, places, out).permute(1, 0, 3, 2))


def _outer(y: Tensor, rows: Tensor) -> Tensor:
    """The sum of the products of y (N, out, *O) with windows (G, N, O, K * C / G): (G, out / G, K * C / G).

    An image has a product of its own where the sums are as short all the same, or where y is most of what is read. Not in half
    precision, where each product is rounded.
    """
    groups, _, places, width = rows.shape
    if _alone(places, groups) and (places >= ROWS or width < y.shape[1]) and y.dtype not in HALF:
        return short_sums(y.flatten(2).mT, rows[0]).sum(0, keepdim=True)
    return widened(short_sums(of_rows(y, groups), rows.flatten(1, 2)))


def _sweep(
    x: Tensor,
    size: Ints,
    options: tuple[Ints, Ints, Pads, Ints, int],
    weight: Tensor | None,
    bias: Tensor | None,
    other: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """`correlate` of x with the weight, and `outer` of x with the other: of windows that are copied once for both.

    size: of the places O. options: kernel, stride, pads, dilation and groups. Either is None where its factor is.
    """
    kernel, *_, groups = options
    y = dweight = None
    if weight is not None:
        W, y = as_matrix(weight, groups), x.new_empty((len(x), weight.shape[0], *size))
    for here, rows in _windows(x, size, *options):
        if y is not None:
            _product(rows, W, bias, y[here])
        if other is not None:
            more = _outer(other[here], rows)
            dweight = more if dweight is None else dweight.add_(more)
    if other is not None and dweight is not None:
        dweight = dweight.view(other.shape[1], *kernel, x.shape[1] // groups).movedim(-1, 1)
    return y, dweight


def _spread(y: Tensor, weight: Tensor, size: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    """`spread`, by parts: what overlaps is added in place, a dimension of the kernel at a time, the last first.

    The kernel's last dimension stands first in the products, so that what is added lies in long runs.
    """
    n, places, kernel, width = len(size), tuple(y.shape[2:]), tuple(weight.shape[2:]), weight.shape[1]
    # In at least float32, since it is summed. (G, out / G, reversed K * C / G)
    W = widened(weight).permute(0, *range(n + 1, 1, -1), 1).reshape(groups, weight.shape[0] // groups, -1)
    grown = [length + before + after for length, (before, after) in zip(size, pads, strict=True)]
    inner = [(-before, -after) for before, after in pads]

    def one(part: slice) -> Tensor:
        x = of_rows(widened(y[part]), groups) @ W
        x = x.view(groups, part.stop - part.start, *places, *reversed(kernel), width)
        for i in reversed(range(n)):  # (G, N, *O, k_i, ..., k_0, C / G): of O those behind i are places of x by now
            terms, dim = x, 2 + i
            x = terms.new_zeros((*terms.shape[:dim], grown[i], *terms.shape[dim + 1 : 2 + n], *terms.shape[3 + n :]))
            for k in range(kernel[i]) if places[i] else ():
                first = k * dilation[i]
                met = (slice(None),) * dim + (slice(first, first + stride[i] * (places[i] - 1) + 1, stride[i]),)
                x[met] += terms.select(2 + n, k)
        del terms
        return padded(x, 2, inner).movedim((0, -1), (1, 2)).flatten(1, 2).to(y.dtype)  # (N, C, *L)

    return _together(one, _split(len(y), math.prod((*places, *kernel, width, groups))), len(y))


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


def _turned(weight: Tensor, groups: int) -> Tensor:
    """The weight (out, C / groups, *K) of the correlation that carries gradients back: (C, out / groups, *K), flipped."""
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(*range(2, weight.dim()))


def _turns(stride: Ints, out: int, channels: int) -> bool:
    """Whether the gradients of a convolution are taken of dy's windows, which serve both, and not of x's.

    For a stride of 1: then dx is a correlation too, without numbers that are added where windows overlap. It takes half the
    time with as many channels in as out, nine tenths with a quarter, and a fifth more with an eighth, where the windows of x
    are so much fewer numbers. (3 x 3, 4 x 4 to 16 x 16 places.)
    """
    return set(stride) == {1} and out <= 4 * channels


@conv1d.kernel
@conv2d.kernel
@conv3d.kernel
def conv_forward(input, weight, bias, stride, pads, dilation, groups):
    x = with_batch(input, stride)
    size = correlated_size(x, weight, stride, pads, dilation)
    y, _ = _sweep(x, size, (tuple(weight.shape[2:]), stride, pads, dilation, groups), weight, bias, None)
    assert y is not None
    return y if x is input else y.squeeze(0)


@conv1d.kernel_gradient
@conv2d.kernel_gradient
@conv3d.kernel_gradient
def conv_gradient(dy, needs, input, weight, stride, pads, dilation, groups):
    dy, x, dx, dweight = with_batch(dy, stride), with_batch(input, stride), None, None
    kernel, size = tuple(weight.shape[2:]), tuple(x.shape[2:])
    # Beside dy's windows stand zeros, of which an infinite weight makes NaN in places that it has no part in, as does an
    # infinite x below.
    if needs.input and _turns(stride, weight.shape[0], x.shape[1]) and finite(weight):
        # dx_l = sum_k W_k^T dy_(l + p - k d): with k' = K - 1 - k a correlation, padded by d (K - 1) - p.
        turned = tuple((d * (k - 1) - before, d * (k - 1) - after)
                       for k, d, (before, after) in zip(kernel, dilation, pads, strict=True))  # fmt: skip
        options, other = (kernel, stride, turned, dilation, groups), x.conj() if needs.weight else None
        dx, dweight = _sweep(dy, size, options, _turned(weight.conj(), groups), None, other)
        dweight = None if dweight is None else _turned(dweight, groups)
    elif needs.input:
        dx = _spread(dy, weight.conj(), size, stride, pads, dilation, groups)
    if needs.weight and (dweight is None or not finite(dweight)):
        _, dweight = _sweep(x.conj(), tuple(dy.shape[2:]), (kernel, stride, pads, dilation, groups), None, None, dy)
    return dx, dweight, summed(dy.flatten(2), (0, 2)) if needs.bias else None


@conv_transpose1d.kernel
@conv_transpose2d.kernel
@conv_transpose3d.kernel
def conv_transpose_forward(input, weight, bias, stride, pads, extra, groups, dilation):
    x = with_batch(input, stride)
    size = transposed_size(x, weight, stride, pads, dilation, extra)
    y = _spread(x, weight, size, stride, pads, dilation, groups)
    if bias is not None:
        y += bias.view(-1, *(1 for _ in stride))
    return y if x is input else y.squeeze(0)


@conv_transpose1d.kernel_gradient
@conv_transpose2d.kernel_gradient
@conv_transpose3d.kernel_gradient
def conv_transpose_gradient(dy, needs, input, weight, stride, pads, groups, dilation):
    dy, x = with_batch(dy, stride), with_batch(input, stride)
    inner = fitting(x, weight, dy, stride, pads, dilation)
    factors = weight.conj() if needs.input else None, None, x.conj() if needs.weight else None
    dx, dweight = _sweep(dy, tuple(x.shape[2:]), (tuple(weight.shape[2:]), stride, inner, dilation, groups), *factors)
    return dx, dweight, summed(dy.flatten(2), (0, 2)) if needs.bias else None
