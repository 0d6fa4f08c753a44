"""Which elements each window of a pool holds, their sums and the largest of them; the errors of torch's pools.

A window of several dimensions is a product of one window a dimension. Strides, padding, dilation, ceil_mode and adaptive
windows differ in `elements` and `adaptive_elements` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..windows import ntuple, padded, windows
from .common import widened

Ints = tuple[int, ...]
Options = tuple[tuple[int, int, int, int], ...]  # kernel, stride, padding and dilation of each dimension


def output_length(length: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """Number of windows: in ceil_mode a last one may hang over the end, but must begin within input or padding before."""
    rest = length + 2 * p - d * (k - 1) - 1
    count = (-(-rest // s) if ceil_mode else rest // s) + 1
    return count - 1 if ceil_mode and (count - 1) * s >= length + p else count


# --- the largest ------------------------------------------------------------------------------------------------


def elements(x: Tensor, options: Options, ceil_mode: bool) -> list[Tensor]:
    """Of each dimension $o s + k d - p$, (O, K). What lies outside stands for the window's first or last element within."""
    found = []
    for length, (k, s, p, d) in zip(x.shape[-len(options) :], options, strict=True):
        o = torch.arange(output_length(length, k, s, p, d, ceil_mode), device=x.device)
        start = (o * s - p).unsqueeze(1)
        first, last = -(start.clamp(max=0) // d), (length - 1 - start) // d
        found.append(start + d * torch.arange(k, device=x.device).clamp(first, last))
    return found


def adaptive_span(length: int, o: int, device: torch.device) -> tuple[Tensor, Tensor]:
    r"""Windows $\lfloor i L / O \rfloor, \dots, \lceil (i + 1) L / O \rceil - 1$, (O, K), K of the longest: the elements, of
    which those after the end stand for the last within, and which lie within."""
    i = torch.arange(o, device=device).unsqueeze(1)
    begin, end = i * length // o, -(-(i + 1) * length // o)
    longest = max([-(-(j + 1) * length // o) - j * length // o for j in range(o)] or [1])
    at = begin + torch.arange(longest, device=device)
    return torch.minimum(at, end - 1), at < end


def adaptive_elements(x: Tensor, size: Ints) -> list[Tensor]:
    """Of each dimension the elements of adaptive windows, (O, K)."""
    return [adaptive_span(length, o, x.device)[0] for length, o in zip(x.shape[-len(size) :], size, strict=True)]


def first_largest(w: Tensor) -> Tensor:
    """Where the last dimension, which is kept, is largest: the first of equals, the last NaN."""
    nan = torch.where(w.isnan(), torch.arange(w.shape[-1], device=w.device), -1).amax(-1, keepdim=True)
    return torch.where(nan < 0, w.argmax(-1, keepdim=True), nan)


def largest(x: Tensor, by: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The largest of each window over the last dimensions, and its flat index in them: the first of equals, the last NaN.

    by: the elements of each window along each dimension, (O, K). The largest of a window is that of its rows' largest.
    """
    n = len(by)
    index = torch.arange(x.shape[-n:].numel(), device=x.device).view(x.shape[-n:]).expand(x.shape)
    for dim, at in reversed(list(enumerate(by, x.dim() - n))):
        w, i = (t[(slice(None),) * dim + (at,)].movedim(dim + 1, -1) for t in (x, index))  # (..., O, ..., K)
        k = first_largest(w)
        x, index = w.amax(-1), i.gather(-1, k).squeeze(-1)
    return x, index


def scattered(dy: Tensor, indices: Tensor, size: Ints) -> Tensor:
    r"""$x_l = \sum_{o : i_o = l} dy_o$, of the given size, i the flat indices in it."""
    flat, n = widened(dy).flatten(-len(size)), len(size)
    zeros = flat.new_zeros((*dy.shape[:-n], math.prod(size)))
    return zeros.scatter_add(-1, indices.flatten(-n), flat).unflatten(-1, size)


# --- sums -------------------------------------------------------------------------------------------------------


def total(x: Tensor, options: Options, ceil_mode: bool) -> Tensor:
    r"""The sum of each window over the last dimensions: $y_o = \sum_k x_{o s + k - p}$, 0 where it lies outside."""
    kernel, stride, padding, dilation = zip(*options, strict=True)
    n = len(options)
    sizes = zip(x.shape[-n:], options, strict=True)
    ends = [(output_length(length, k, s, p, 1, ceil_mode) - 1) * s + k - length - p for length, (k, s, p, _) in sizes]
    x = padded(x, x.dim() - n, list(zip(padding, ends, strict=True)))
    return windows(x, x.dim() - n, kernel, stride, dilation).sum(tuple(range(-n, 0)))


def untotal(y: Tensor, size: Ints, options: Options) -> Tensor:
    r"""The transpose of `total`: each window's number to all its elements, $x_l = \sum_{o s + k - p = l} y_o$."""
    for dim, length, (k, s, p, _) in zip(range(y.dim() - len(size), y.dim()), size, options, strict=True):
        o = y.shape[dim]
        y = y.repeat_interleave(k, dim)  # (..., O K, ...)
        if s == k and p == 0 and o * k == length:
            continue  # every element is of one window
        at = torch.arange(o, device=y.device).unsqueeze(1) * s + torch.arange(k, device=y.device)
        zeros = y.new_zeros((*y.shape[:dim], max(p + length, (o - 1) * s + k), *y.shape[dim + 1 :]))
        y = zeros.index_add(dim, at.flatten(), y).narrow(dim, p, length)
    return y


def counts(x: Tensor, options: Options, ceil_mode: bool, include_pad: bool = True) -> Tensor | int:
    """How many elements each window holds, those of the padding with them or not: (*O), or one number for all."""
    count: Tensor | int = 1
    for length, (k, s, p, _) in zip(x.shape[-len(options) :], options, strict=True):
        o = output_length(length, k, s, p, 1, ceil_mode)
        if p == 0 and (o - 1) * s + k <= length:
            held: Tensor | int = k
        else:
            begin = torch.arange(o, device=x.device) * s - p
            end = (begin + k).clamp(max=length + p)
            held = end - begin if include_pad else end.clamp(max=length) - begin.clamp(min=0)
        count = count * held if isinstance(count, int) else count.unsqueeze(-1) * held
    return count


def adaptive_total(x: Tensor, size: Ints) -> Tensor:
    r"""The sum of each adaptive window: $y_o = \sum_l x_l$ over $\lfloor o L / O \rfloor \le l < \lceil (o + 1) L / O \rceil$.

    Of size L it is its own transpose: those same windows of l, in O, are the o whose windows hold l.
    """
    if 0 in size or 0 in x.shape[-len(size) :]:
        return x.new_zeros((*x.shape[: -len(size)], *size))
    for dim, o in zip(range(x.dim() - len(size), x.dim()), size, strict=True):
        length = x.shape[dim]
        if length % o == 0:  # the windows cut the dimension
            x = x.unflatten(dim, (o, length // o)).sum(dim + 1)
        elif o % length == 0:  # each is of one element
            x = x.repeat_interleave(o // length, dim)
        else:
            at, inside = adaptive_span(length, o, x.device)
            w = x[(slice(None),) * dim + (at,)].movedim((dim, dim + 1), (-2, -1))  # (..., O, K)
            x = torch.where(inside, w, 0).sum(-1).movedim(-1, dim)
    return x


def adaptive_counts(x: Tensor, size: Ints) -> Tensor:
    """How many elements each adaptive window holds, (*O)."""
    return adaptive_total(x.new_ones(x.shape[-len(size) :]), size)


# --- what is checked --------------------------------------------------------------------------------------------


def pool_options(name, n, input, kernel_size, stride, padding, dilation, ceil_mode):
    """The errors of torch's pooling; the options of each dimension."""
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(
            f"{name}(): the input must have {n + 1} or {n + 2} dimensions, it has shape {tuple(input.shape)}"
        )
    if 0 in input.shape[-n - 1 if input.dim() == n + 1 or n == 1 else 1 :]:
        raise RuntimeError(f"{name}(): only the batch may be empty, the input has shape {tuple(input.shape)}")
    kernel = ntuple(kernel_size, n)
    stride = kernel if stride is None or stride == () or stride == [] else ntuple(stride, n)
    padding, dilation = ntuple(padding, n), ntuple(dilation, n)
    for what, values, least in (("kernel_size", kernel, 1), ("stride", stride, 1), ("padding", padding, 0),
                                ("dilation", dilation, 1)):  # fmt: skip
        if len(values) != n or min(values) < least:
            raise RuntimeError(f"{name}(): {what} must be one number of at least {least} or {n}, it is {values}")
    options = []
    for length, k, s, p, d in zip(input.shape[-n:], kernel, stride, padding, dilation, strict=True):
        if p > (d * (k - 1) + 1) // 2:
            raise RuntimeError(
                f"{name}(): padding must be at most half of the kernel's span {d * (k - 1) + 1}, it is {p}"
            )
        if output_length(length, k, s, p, d, ceil_mode) < 1:
            raise RuntimeError(f"{name}(): the kernel must not be larger than the padded input, it spans {d * (k - 1) + 1} of "
                               f"{length + 2 * p}")  # fmt: skip
        options.append((k, s, p, d))
    return tuple(options)


def adaptive_size(name, n, input, output_size):
    """The errors of torch's adaptive pooling; the output's size."""
    if n > 1 and isinstance(output_size, Sequence) and input.dim() <= len(output_size):
        raise ValueError(f"{name}(): the input must have at least {len(output_size) + 1} dimensions for an output_size of "
                         f"{output_size}, it has shape {tuple(input.shape)}")  # fmt: skip
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(
            f"{name}(): the input must have {n + 1} or {n + 2} dimensions, it has shape {tuple(input.shape)}"
        )
    values = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * n
    if len(values) != n:
        raise RuntimeError(f"{name}(): output_size must be one number or {n}, it is {output_size}")
    size = tuple(length if o is None else o for o, length in zip(values, input.shape[-n:], strict=True))
    if min(size) < 0:
        raise RuntimeError(f"{name}(): output_size must be at least 0, it is {output_size}")
    mean = name.startswith("adaptive_avg")
    one = mean and all(s == 1 for s in size)  # the mean of all places, NaN of none
    if not one and 0 in input.shape[-n if mean and n < 3 else 1 :]:
        raise RuntimeError(f"{name}(): only the batch may be empty, the input has shape {tuple(input.shape)}")
    return size
