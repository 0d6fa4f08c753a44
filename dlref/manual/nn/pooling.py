"""Pooling in one, two and three dimensions: the largest, the mean or the p-norm of each window.

A window is a product of one window a dimension, so each dimension is pooled by itself. `places` says which elements each of
its windows holds; strides, padding, dilation, ceil_mode and adaptive windows differ in that alone.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.module import Manual
from ...core.pair import Op, op
from ..windows import ntuple
from .common import channels_last, contiguous, own, plain, wide, widened

Ints = tuple[int, ...]


class Places(NamedTuple):
    """Of one dimension: the elements of each window (O, K), and which of them lie within the input (None: all).

    pieces: the windows are the dimension, cut into pieces. steps: element k of window o is $o s + k d$, all within.
    """

    at: Tensor
    inside: Tensor | None = None
    pieces: bool = False
    steps: tuple[int, int] | None = None

    def element(self, x: Tensor, dim: int, k: int) -> Tensor:
        """The k-th element of each window: where they stand in even steps, as a view."""
        if self.steps is None or not len(self.at):
            return x.index_select(dim, self.at[:, k])
        s, d = self.steps
        return x[(..., slice(k * d, k * d + s * (len(self.at) - 1) + 1, s), *(slice(None),) * (-dim - 1))]


def output_length(length: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """Number of windows: in ceil_mode a last one may hang over the end, but must begin within input or padding before."""
    rest = length + 2 * p - d * (k - 1) - 1
    count = (-(-rest // s) if ceil_mode else rest // s) + 1
    return count - 1 if ceil_mode and (count - 1) * s >= length + p else count


def places(length: int, k: int, s: int, p: int, d: int, ceil_mode: bool, device: torch.device) -> Places:
    """The windows of a dimension of pooling. What lies outside stands for the window's first element within."""
    o = output_length(length, k, s, p, d, ceil_mode)
    at = torch.arange(o, device=device).unsqueeze(1) * s - p + torch.arange(k, device=device) * d
    if p == 0 and (o - 1) * s + d * (k - 1) < length:
        return Places(at, pieces=s == k and d == 1 and o * k == length, steps=(s, d))
    first = torch.where(at < 0, length, at).amin(1, keepdim=True)
    inside = (at >= 0) & (at < length)
    return Places(torch.where(inside, at, first), inside)


def adaptive_places(length: int, o: int, device: torch.device) -> Places:
    r"""Windows $\lfloor i L / O \rfloor, \dots, \lceil (i + 1) L / O \rceil - 1$, padded to the longest."""
    i = torch.arange(o, device=device)
    begin, end = i * length // o, -(-(i + 1) * length // o)
    longest = max((-(-(j + 1) * length // o) - j * length // o for j in range(o)), default=1)
    at = begin.unsqueeze(1) + torch.arange(longest, device=device)
    if length % o == 0 if o else True:
        return Places(at, pieces=o > 0, steps=(length // o, 1) if o else None)
    inside = at < end.unsqueeze(1)
    return Places(torch.where(inside, at, begin.unsqueeze(1)), inside)


def largest(x: Tensor, by: Sequence[Places]) -> tuple[Tensor, Tensor]:
    """The largest of each window over the last dimensions, and its flat index in them: the first of equals, a NaN if any."""
    n = len(by)
    number = functools.reduce(operator.mul, x.shape[-n:])
    bare = plain()
    small = torch.int32 if number < 2**31 and bare else torch.int64
    index = torch.arange(number, dtype=small, device=x.device).view(x.shape[-n:]).expand(x.shape)
    for dim, (at, *_) in zip(range(-1, -n - 1, -1), reversed(by), strict=True):
        best, chosen = x.index_select(dim, at[:, 0]), index.index_select(dim, at[:, 0])
        for k in range(1, at.shape[1]):
            candidate, other = x.index_select(dim, at[:, k]), index.index_select(dim, at[:, k])
            if bare:  # bools and where would take ten times as long
                better = torch.gt(candidate, best, out=torch.empty_like(chosen))
                if x.is_floating_point():
                    better += torch.ne(candidate, candidate, out=torch.empty_like(chosen))  # then it is not larger
                chosen += other.sub_(chosen).mul_(better)
                best = torch.maximum(best, candidate)
            else:
                better = (candidate > best) | (candidate != candidate)
                best, chosen = torch.where(better, candidate, best), torch.where(better, other, chosen)
        x, index = best, chosen
    return x, index.long()


def total(x: Tensor, by: Sequence[Places]) -> Tensor:
    """The sum of each window over the last dimensions."""
    for dim, windows in zip(range(-len(by), 0), by, strict=True):
        parts, inside = [windows.element(x, dim, k) for k in range(windows.at.shape[1])], windows.inside
        if inside is not None:
            parts = [torch.where(_along(inside[:, k], dim), part, 0) for k, part in enumerate(parts)]
        x = functools.reduce(operator.add, parts)
    return x


def untotal(dy: Tensor, size: Ints, by: Sequence[Places]) -> Tensor:
    """The transpose of `total`: each window's gradient to all its elements."""
    for dim, length, (at, inside, pieces, _) in zip(range(-len(by), 0), size, by, strict=True):
        before, after = dy.shape[:dim], dy.shape[dim:][1:]
        if pieces:
            dy = dy.unsqueeze(len(before) + 1).expand(*before, *at.shape, *after).reshape(*before, length, *after)
            continue
        spread = dy.unsqueeze(len(before)).expand(*before, at.shape[1], at.shape[0], *after)
        if inside is not None:
            spread = torch.where(_along(inside.t(), dim), spread, 0)
        zeros = dy.new_zeros((*before, length, *after))
        spread = spread.flatten(len(before), len(before) + 1)
        dy = torch.index_add(zeros, dim, at.t().flatten(), spread, out=own(zeros))
    return dy


def _along(t: Tensor, dim: int) -> Tensor:
    return t[(..., *(None,) * (-dim - 1))]


def _options(name, n, input, kernel_size, stride, padding, dilation, ceil_mode):
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


def _by(input, options, ceil_mode):
    n = len(options)
    lengths = zip(input.shape[-n:], options, strict=True)
    return [places(length, k, s, p, d, ceil_mode, input.device) for length, (k, s, p, d) in lengths]


def _scatter(dy, indices, size):
    """Each upstream gradient to the element with the flat index."""
    n = len(size)
    flat = widened(dy).flatten(-n)
    zeros = flat.new_zeros((*dy.shape[:-n], functools.reduce(operator.mul, size)))
    return torch.scatter_add(zeros, -1, indices.flatten(-n), flat, out=own(zeros)).unflatten(-1, size)


def _named(name: str, doc: str):
    def decorate(function):
        function.__name__ = function.__qualname__ = name
        function.__doc__ = doc
        return function

    return decorate


# --- the largest ------------------------------------------------------------------------------------------------


def _max_pool(n: int) -> Op:
    name = f"max_pool{n}d"

    @op(builtin=getattr(F, name), outputs=("output", "indices"), autocast={"cpu": "float32"} if n == 3 else None,
        layout=channels_last)  # fmt: skip
    @_named(name, rf"""The largest element of each window in {n} dimensions: $y_o = \max_k x_{{o s + k d - p}}$.

    input (N, C, *L) or (C, *L); output (N, C, *O) with $O = \lfloor (L + 2 p - d (K - 1) - 1) / s \rfloor + 1$, or with
    ceil_mode the ceiling, for windows that begin within; padding never wins. return_indices: the flat index of each largest
    element beside it, the first of equals. RuntimeError where options do not fit.""")  # fmt: skip
    def max_pool(input, options, ceil_mode):
        return largest(input, _by(input, options, ceil_mode)), ()

    @max_pool.gradient
    def _(dy, indices, shapes, options):
        r"""$dx_l = \sum_{o : \arg\max_o = l} dy_o$."""
        return _scatter(dy[0], indices, tuple(shapes.input[-len(options) :]))

    @max_pool.prepare
    def _(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        return input, _options(name, n, input, kernel_size, stride, padding, dilation, ceil_mode), ceil_mode

    @max_pool.finish
    def _(output, indices, return_indices):
        return (output, indices) if return_indices else output

    return max_pool


def _adaptive_sizes(name, n, input, output_size):
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


def _adaptive_by(input, size):
    n = len(size)
    return [adaptive_places(length, o, input.device) for length, o in zip(input.shape[-n:], size, strict=True)]


def _adaptive_max_pool(n: int) -> Op:
    name = f"adaptive_max_pool{n}d"

    @op(builtin=getattr(F, name), outputs=("output", "indices"), autocast={"cpu": "float32"} if n == 3 else None,
        layout=contiguous if n == 3 else channels_last)  # fmt: skip
    @_named(name, rf"""The largest element of each of O windows that cover the input in {n} dimensions, $y_o = \max_l x_l$ over
    $\lfloor o L / O \rfloor \le l < \lceil (o + 1) L / O \rceil$.

    input (N, C, *L) or (C, *L), output_size O (None keeps L); output (N, C, *O), with return_indices the flat indices
    beside it. RuntimeError where sizes do not fit.""")  # fmt: skip
    def adaptive_max_pool(input, size):
        return largest(input, _adaptive_by(input, size)), ()

    @adaptive_max_pool.gradient
    def _(dy, indices, shapes, size):
        r"""$dx_l = \sum_{o : \arg\max_o = l} dy_o$."""
        return _scatter(dy[0], indices, tuple(shapes.input[-len(size) :]))

    @adaptive_max_pool.prepare
    def _(input, output_size, return_indices=False):
        return input, _adaptive_sizes(name, n, input, output_size)

    @adaptive_max_pool.finish
    def _(output, indices, return_indices):
        return (output, indices) if return_indices else output

    return adaptive_max_pool


# --- the mean ---------------------------------------------------------------------------------------------------


def _counts(input, options, ceil_mode, include, divisor):
    """What each window's sum is divided by: a number for each window, or one for all."""
    if divisor is not None:
        return divisor
    n, count = len(options), None
    whole = all(p == 0 and (output_length(length, k, s, 0, 1, ceil_mode) - 1) * s + k <= length
                for length, (k, s, p, _) in zip(input.shape[-n:], options, strict=True))  # fmt: skip
    if whole:
        return functools.reduce(operator.mul, (k for k, *_ in options))
    for i, (length, (k, s, p, _)) in enumerate(zip(input.shape[-n:], options, strict=True)):
        o = torch.arange(output_length(length, k, s, p, 1, ceil_mode), device=input.device) * s - p
        end = (o + k).clamp(max=length + p)
        held = end - o if include else end.clamp(max=length) - o.clamp(min=0)
        held = held[(..., *(None,) * (n - 1 - i))]
        count = held if count is None else count * held
    return count


def _avg_pool(n: int) -> Op:
    name = f"avg_pool{n}d"

    @op(builtin=getattr(F, name), autocast={"cpu": "float32"} if n == 3 else None,
        layout=contiguous if n == 3 else channels_last)  # fmt: skip
    @_named(name, rf"""The mean of each window in {n} dimensions: $y_o = \frac{{1}}{{c_o}} \sum_k x_{{o s + k - p}}$.

    input (N, C, *L) or (C, *L); output (N, C, *O) as of max_pool{n}d. $c_o$: the window's size with its padding, without it
    where count_include_pad is False, or divisor_override. RuntimeError where options do not fit.""")  # fmt: skip
    def avg_pool(input, options, ceil_mode, count_include_pad, divisor_override):
        y = total(widened(input), _by(input, options, ceil_mode))
        rounding = None if y.is_floating_point() or y.is_complex() else "trunc"
        count = _counts(input, options, ceil_mode, count_include_pad, divisor_override)
        return torch.div(y, count, rounding_mode=rounding).to(input.dtype)

    @avg_pool.gradient
    def _(dy, input, options, ceil_mode, count_include_pad, divisor_override):
        r"""$dx_l = \sum_{o s + k - p = l} dy_o / c_o$."""
        share = wide(dy) / _counts(input, options, ceil_mode, count_include_pad, divisor_override)
        return untotal(share, tuple(input.shape[-n:]), _by(input, options, ceil_mode))

    def prepared(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
        if divisor_override == 0:
            raise RuntimeError(f"{name}(): divisor_override must not be 0")
        options = _options(name, n, input, kernel_size, stride, padding, 1, ceil_mode)
        return input, options, ceil_mode, count_include_pad, divisor_override

    def line(input, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True):
        return prepared(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)

    def area(
        input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        return prepared(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

    avg_pool.prepare(line if n == 1 else area)

    return avg_pool


def _adaptive_avg_pool(n: int) -> Op:
    name = f"adaptive_avg_pool{n}d"

    def count(by):
        held = [at.shape[1] if inside is None else inside.sum(1) for at, inside, *_ in by]
        return functools.reduce(
            operator.mul, [h if isinstance(h, int) else _along(h, i - n) for i, h in enumerate(held)]
        )

    @op(builtin=getattr(F, name), autocast={"cpu": "float32"} if n == 3 else None,
        layout=contiguous if n == 3 else channels_last)  # fmt: skip
    @_named(
        name,
        rf"""The mean of each of O windows that cover the input in {n} dimensions: $y_o = \overline{{x_l}}$ over
    $\lfloor o L / O \rfloor \le l < \lceil (o + 1) L / O \rceil$.

    input (N, C, *L) or (C, *L), output_size O (None keeps L); output (N, C, *O). RuntimeError where sizes do not fit.""",
    )
    def adaptive_avg_pool(input, size):
        if 0 in input.shape[-n:]:
            return input.mean(tuple(range(-n, 0)), keepdim=True)
        by = _adaptive_by(input, size)
        return (total(wide(input), by) / count(by)).to(input.dtype)

    @adaptive_avg_pool.gradient
    def _(dy, input, size):
        r"""$dx_l = \sum_{o \ni l} dy_o / c_o$ with $c_o$ elements in window o."""
        if 0 in input.shape[-n:]:
            return torch.zeros_like(input)
        by = _adaptive_by(input, size)
        return untotal(wide(dy) / count(by), tuple(input.shape[-n:]), by)

    @adaptive_avg_pool.prepare
    def _(input, output_size):
        return input, _adaptive_sizes(name, n, input, output_size)

    return adaptive_avg_pool


# --- the p-norm -------------------------------------------------------------------------------------------------


def _lp_pool(n: int) -> Op:
    name = f"lp_pool{n}d"

    def scale(input, options, ceil_mode):
        """torch takes the mean of a window that hangs over, times the size of a whole one."""
        whole = functools.reduce(operator.mul, (k for k, *_ in options))
        return whole / _counts(input, options, ceil_mode, True, None) if ceil_mode else 1

    def layout(input, norm_type, *_):
        """That of torch's kernels: of the average in three dimensions, and of the maximum."""
        return contiguous() if n == 3 and not math.isinf(norm_type) else channels_last(input)

    @op(builtin=getattr(F, name), layout=layout)
    @_named(name, rf"""The p-norm of each window in {n} dimensions: $y_o = \left( \sum_k x_{{o s + k}}^p \right)^{{1/p}}$.

    input (N, C, *L) or (C, *L); norm_type p, $\pm\infty$ for the largest and the smallest $|x|$; output (N, C, *O) as of
    max_pool{n}d without padding. NaN where the sum is negative, which an odd p allows. ValueError where p is 0, RuntimeError
    where options do not fit.""")  # fmt: skip
    def lp_pool(input, norm_type, options, ceil_mode):
        if math.isinf(norm_type):
            sign = math.copysign(1, norm_type)
            return sign * largest(sign * input.abs(), _by(input, options, ceil_mode))[0]
        y = total(wide(input).pow(norm_type), _by(input, options, ceil_mode)) * scale(input, options, ceil_mode)
        return y.pow(1.0 / norm_type).to(input.dtype)

    @lp_pool.gradient
    def _(dy, output, input, norm_type, options, ceil_mode):
        r"""$dx_l = \sum_{o \ni l} dy_o\, y_o^{1 - p}\, x_l^{p - 1}$; 0 where $y_o = 0$. With $p = \pm\infty$ the sign of
        the x that was chosen, the first of equals, times $dy_o$."""
        if math.isinf(norm_type):
            _, chosen = largest(math.copysign(1, norm_type) * input.abs(), _by(input, options, ceil_mode))
            return _scatter(dy, chosen, tuple(input.shape[-n:])) * input.sign()
        x, y = wide(input), wide(output)
        none = y == 0
        slope = y.masked_fill(none, 1).pow(1 - norm_type).masked_fill(none, 0)
        dsum = wide(dy) * slope * scale(input, options, ceil_mode)
        return untotal(dsum, tuple(input.shape[-n:]), _by(input, options, ceil_mode)) * x.pow(norm_type - 1)

    @lp_pool.prepare
    def _(input, norm_type, kernel_size, stride=None, ceil_mode=False):
        if norm_type == 0:
            raise ValueError(f"{name}(): norm_type must not be 0: take inf for the largest |x|")
        return input, norm_type, _options(name, n, input, kernel_size, stride, 0, 1, ceil_mode), ceil_mode

    return lp_pool


# --- the way back -----------------------------------------------------------------------------------------------


def _max_unpool(n: int) -> Op:
    name = f"max_unpool{n}d"

    @op(builtin=getattr(F, name), autocast={"cpu": "float32"}, layout=contiguous if n == 3 else channels_last)
    @_named(name, rf"""The partial inverse of max_pool{n}d: $y_{{i_o}} = x_o$, zero elsewhere.

    input (N, C, *L) or (C, *L), indices as max_pool{n}d returns them; output (N, C, *O), O of output_size or
    $(L - 1) s - 2 p + K$. RuntimeError or ValueError where sizes do not fit or an index lies outside.""")  # fmt: skip
    def max_unpool(input, indices, size):
        flat = input.new_zeros((*input.shape[:-n], functools.reduce(operator.mul, size)))
        return flat.scatter(-1, indices.flatten(-n), input.flatten(-n)).unflatten(-1, size)

    @max_unpool.gradient
    def _(dy, indices):
        r"""$dx_o = dy_{i_o}$."""
        return dy.flatten(-n).gather(-1, indices.flatten(-n)).view(indices.shape)

    @max_unpool.prepare
    def _(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        kernel, padding = ntuple(kernel_size, n), ntuple(padding, n)
        stride = kernel if stride is None else ntuple(stride, n)
        if indices.dtype != torch.int64:
            raise RuntimeError(f"{name}(): indices must be int64, they are {indices.dtype}")
        if input.dim() not in (n + 1, n + 2):
            raise RuntimeError(f"{name}(): the input must have {n + 1} or {n + 2} dimensions, it has shape "
                               f"{tuple(input.shape)}")  # fmt: skip
        if indices.shape != input.shape:
            raise RuntimeError(f"{name}(): indices must have the input's shape {tuple(input.shape)}, they have "
                               f"{tuple(indices.shape)}")  # fmt: skip
        if min(stride) < 1:
            raise RuntimeError(f"{name}(): stride must be at least 1, it is {stride}")
        if 0 in input.shape[1 if input.dim() == n + 2 else 0 :]:
            raise RuntimeError(f"{name}(): only the batch may be empty, the input has shape {tuple(input.shape)}")
        size = F._unpool_output_size(input, list(kernel), list(stride), list(padding), output_size)
        return input, indices, tuple(size)[-n:]

    return max_unpool


max_pool1d, max_pool2d, max_pool3d = map(_max_pool, (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = map(_adaptive_max_pool, (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = map(_avg_pool, (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(_adaptive_avg_pool, (1, 2, 3))
lp_pool1d, lp_pool2d, lp_pool3d = map(_lp_pool, (1, 2, 3))
max_unpool1d, max_unpool2d, max_unpool3d = map(_max_unpool, (1, 2, 3))
MAX = {n: n for n in ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")}
UNPOOL = {n: n for n in ("kernel_size", "stride", "padding")}


class MaxUnpool(Manual):
    """What the three share: output_size comes with the call."""

    def forward(self, input, indices, output_size=None):
        return self.__op__(input, indices, **self.arguments(), output_size=output_size)

    def explicit(self, input, indices, output_size=None):
        output, pull = self.vjp_with({**self.arguments(), "output_size": output_size}, (input, indices), {})
        if output_size is None:
            return output, pull
        return output, lambda dy=None, needs=None: (*pull(dy, needs if needs is None else needs[:2]), None)


class MaxPool1d(Manual, torch.nn.MaxPool1d):
    op, attributes = max_pool1d, MAX


class AvgPool1d(Manual, torch.nn.AvgPool1d):
    op = avg_pool1d


class AdaptiveMaxPool1d(Manual, torch.nn.AdaptiveMaxPool1d):
    op = adaptive_max_pool1d


class AdaptiveAvgPool1d(Manual, torch.nn.AdaptiveAvgPool1d):
    op = adaptive_avg_pool1d


class LPPool1d(Manual, torch.nn.LPPool1d):
    op = lp_pool1d


class MaxUnpool1d(MaxUnpool, torch.nn.MaxUnpool1d):
    op, attributes = max_unpool1d, UNPOOL


class MaxPool2d(Manual, torch.nn.MaxPool2d):
    op, attributes = max_pool2d, MAX


class AvgPool2d(Manual, torch.nn.AvgPool2d):
    op = avg_pool2d


class AdaptiveMaxPool2d(Manual, torch.nn.AdaptiveMaxPool2d):
    op = adaptive_max_pool2d


class AdaptiveAvgPool2d(Manual, torch.nn.AdaptiveAvgPool2d):
    op = adaptive_avg_pool2d


class LPPool2d(Manual, torch.nn.LPPool2d):
    op = lp_pool2d


class MaxUnpool2d(MaxUnpool, torch.nn.MaxUnpool2d):
    op, attributes = max_unpool2d, UNPOOL


class MaxPool3d(Manual, torch.nn.MaxPool3d):
    op, attributes = max_pool3d, MAX


class AvgPool3d(Manual, torch.nn.AvgPool3d):
    op = avg_pool3d


class AdaptiveMaxPool3d(Manual, torch.nn.AdaptiveMaxPool3d):
    op = adaptive_max_pool3d


class AdaptiveAvgPool3d(Manual, torch.nn.AdaptiveAvgPool3d):
    op = adaptive_avg_pool3d


class LPPool3d(Manual, torch.nn.LPPool3d):
    op = lp_pool3d


class MaxUnpool3d(MaxUnpool, torch.nn.MaxUnpool3d):
    op, attributes = max_unpool3d, UNPOOL
