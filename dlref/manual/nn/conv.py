"""Convolution and its transpose, in one, two and three dimensions: windows of the input times one matrix.

Three maps carry both: `correlate` (windows times weight), its transpose in the input (`spread`), and the gradient of the
weight (`outer`). What is forward in the one is gradient in the other.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..module import Manual, made_of
from ..op import Op, fusing, op
from ..windows import ntuple, overlap_add, padded, windows
from . import common
from .common import HALF, channels_last, plain, widened
from .padding import pad
from .standardise import summed

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
ROWS = 256  # places whose products are summed at once
WINDOWS = 1 << 19  # numbers that are copied at once: 2 MB of float32, which a cache holds


def _columns(x: Tensor, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> tuple[Tensor, Ints]:
    """Every window as a row, (groups, N * O, K * C / groups), and the output's size O; x (N, C, *L).

    The channels come last, so that what is copied lies in runs of as many numbers as there are channels.
    """
    n = len(kernel)
    w = windows(padded(x.movedim(1, -1), 1, pads), 1, kernel, stride, dilation)  # (N, *O, C, *K)
    size = tuple(w.shape[1 : n + 1])
    w = w.unflatten(n + 1, (groups, x.shape[1] // groups))  # (N, *O, G, C / G, *K)
    w = w.permute(n + 1, *range(n + 1), *range(n + 3, 2 * n + 3), n + 2)  # (G, N, *O, *K, C / G)
    rows = functools.reduce(operator.mul, (len(x), *size))
    columns = functools.reduce(operator.mul, (*kernel, w.shape[-1]))
    return w.reshape(groups, rows, columns), size


def _matrix(weight: Tensor, groups: int) -> Tensor:
    """The weight (out, C / groups, *K) as (groups, out / groups, K * C / groups), in the order of the columns."""
    return weight.movedim(1, -1).reshape(groups, weight.shape[0] // groups, weight[0].numel())


def _rows(y: Tensor, groups: int) -> Tensor:
    """(N, out, *O) as (groups, N * O, out / groups)."""
    return y.unflatten(1, (groups, y.shape[1] // groups)).movedim((1, 2), (0, -1)).flatten(1, -2)


def _in_parts(y: Tensor, kernel: Ints, channels: int) -> list[slice]:
    """The images that are taken together, so that their windows at the places of y, (N, *, *O), stay small.

    They are `kernel` times as many numbers as the images themselves. A compiler gets them all at once.
    """
    one = functools.reduce(operator.mul, (*y.shape[2:], *kernel, channels))
    step = len(y) if fusing() else max(1, WINDOWS // max(one, 1))
    return [slice(i, i + step) for i in range(0, len(y), step)] or [slice(0, 0)]


def _together(one: Callable[[slice], Tensor], parts: list[slice], number: int) -> Tensor:
    """What `one` makes of each part, (N, ...) as one tensor."""
    first = one(parts[0])
    if len(parts) == 1:
        return first.contiguous()
    if not plain():
        return torch.cat([first, *map(one, parts[1:])])
    whole = first.new_empty((number, *first.shape[1:]))  # written part by part, so that they are not held twice
    whole[parts[0]] = first
    del first
    for part in parts[1:]:
        whole[part] = one(part)
    return whole


def correlate(x: Tensor, weight: Tensor, bias, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    r"""$y_{o} = b + \sum_{k} W_k\, x_{o s + k d - p}$: x (N, C, *L), weight (out, C / groups, *K), y (N, out, *O)."""
    kernel = tuple(weight.shape[2:])
    matrix = _matrix(weight, groups).transpose(1, 2)
    row = None if bias is None else bias.view(groups, 1, matrix.shape[2])
    size = [
        (length + before + after - d * (k - 1) - 1) // s + 1
        for length, k, s, (before, after), d in zip(x.shape[2:], kernel, stride, pads, dilation, strict=True)
    ]

    def one(part: slice) -> Tensor:
        columns, size = _columns(x[part], kernel, stride, pads, dilation, groups)
        y = columns @ matrix if row is None else torch.baddbmm(row, columns, matrix)
        return y.view(groups, len(x[part]), *size, matrix.shape[2]).movedim((0, -1), (1, 2)).flatten(1, 2)

    return _together(one, _in_parts(x.new_empty(()).expand(len(x), 1, *size), kernel, x.shape[1]), len(x))


def spread(y: Tensor, weight: Tensor, size: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    r"""The transpose of `correlate` in x: $x_l = \sum_{o s + k d - p = l} W_k^\top y_o$, of size L."""
    n, kernel = len(size), tuple(weight.shape[2:])
    grown = [length + before + after for length, (before, after) in zip(size, pads, strict=True)]
    matrix = _matrix(widened(weight), groups)

    def one(part: slice) -> Tensor:
        # In at least float32, since it is summed where the windows overlap.
        w = _rows(widened(y[part]), groups) @ matrix
        w = w.view(groups, len(y[part]), *y.shape[2:], *kernel, weight.shape[1])
        w = w.movedim(-1, n + 2)  # (G, N, *O, C / G, *K)
        x = padded(overlap_add(w, 2, grown, stride, dilation), 2, [(-before, -after) for before, after in pads])
        return x.movedim((0, -1), (1, 2)).flatten(1, 2).to(y.dtype)  # (N, C, *L)

    return _together(one, _in_parts(y, kernel, weight.shape[1] * groups), len(y))


def outer(x: Tensor, y: Tensor, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Tensor:
    r"""The gradient of the weight in `correlate`: $\sum_o y_o\, x_{o s + k d - p}^\top$, (out, C / groups, *K)."""
    parts = []
    for part in _in_parts(y, kernel, x.shape[1]):
        columns, _ = _columns(x[part], kernel, stride, pads, dilation, groups)
        parts.append(widened(_outer(_rows(y[part], groups), columns)))  # (G, out / G, K * C / G)
    w = functools.reduce(operator.add, parts)
    return w.view(y.shape[1], *kernel, x.shape[1] // groups).movedim(-1, 1)


def _outer(rows: Tensor, columns: Tensor) -> Tensor:
    """The sum of the rows' products, (G, R, out) and (G, R, K) to (G, out, K), as a sum of short sums: the rounding of one
    grows with its length."""
    n = 0 if fusing() or rows.dtype in HALF else rows.shape[1] // ROWS * ROWS
    if not n:  # in half precision a product sums in float32 and is rounded once
        return common.outer(rows, columns)
    short = common.outer(*(t[:, :n].unflatten(1, (-1, ROWS)) for t in (rows, columns))).sum(1)
    return short + common.outer(rows[:, n:], columns[:, n:]) if n < rows.shape[1] else short


def _batched(x: Tensor, n: int) -> Tensor:
    return x if x.dim() == n + 2 else x.unsqueeze(0)


def _layout(input, weight, *_):
    """Channels last where the input or the weight has them last; not in float64 in three dimensions, as in torch's kernels."""
    if input.dtype == torch.float64 and weight.dim() == 5:
        return torch.contiguous_format
    form = channels_last(input)
    return channels_last(weight) if form is torch.contiguous_format else form


def _checked(name, n, input, weight, bias, stride, dilation, groups, out, channels):
    """The errors of both, and the options as tuples. out, channels: of what the weight maps."""
    options = []
    if weight.dim() != n + 2 or input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"{name}(): the input must have {n + 1} or {n + 2} dimensions and the weight {n + 2}, they have "
                           f"{input.dim()} and {weight.dim()}")  # fmt: skip
    for what, value, least in (("stride", stride, 1), ("dilation", dilation, 1)):
        options.append(ntuple(value, n))
        if len(options[-1]) != n or min(options[-1]) < least:
            raise RuntimeError(f"{name}(): {what} must be one positive number or {n}, it is {value}")
    if groups < 1:
        raise RuntimeError(f"{name}(): groups must be at least 1, it is {groups}")
    dtypes = {t.dtype for t in (input, weight, bias) if t is not None}
    if len(dtypes) > 1 and not torch.is_autocast_enabled(input.device.type):
        raise RuntimeError(f"{name}(): input, weight and bias must have one dtype, they have {dtypes}: convert them")
    if input.shape[-n - 1] != channels:
        raise RuntimeError(f"{name}(): the input must have {channels} channels for a weight of {tuple(weight.shape)} in "
                           f"{groups} groups, it has shape {tuple(input.shape)}")  # fmt: skip
    if weight.shape[0] % groups or weight.shape[0] < groups:
        raise RuntimeError(f"{name}(): the weight's first dimension must divide into {groups} groups, it is "
                           f"{weight.shape[0]}")  # fmt: skip
    if 0 in weight.shape[2:]:
        raise RuntimeError(f"{name}(): the kernel must have no size of 0, the weight has {tuple(weight.shape)}")
    if bias is not None and tuple(bias.shape) != (out,):
        raise RuntimeError(f"{name}(): bias must have shape ({out},), it has {tuple(bias.shape)}")
    return options


def _padding(name, n, padding, kernel, stride, dilation) -> Pads:
    """Zeros before and after each dimension."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * n
        if padding != "same":
            raise RuntimeError(f"{name}(): padding must be 'same', 'valid' or numbers, it is {padding!r}")
        if any(s != 1 for s in stride):
            raise RuntimeError(f"{name}(): padding='same' needs a stride of 1, it is {stride}")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in total)
    pads = ntuple(padding, n)
    if len(pads) != n or min(pads) < 0:
        raise RuntimeError(f"{name}(): padding must be one number of at least 0 or {n}, it is {padding}")
    return tuple((p, p) for p in pads)


def _convolution(n: int) -> Op:
    name = f"conv{n}d"

    def forward(input, weight, bias, stride, pads, dilation, groups):
        y = correlate(_batched(input, n), weight, bias, stride, pads, dilation, groups)
        return y if input.dim() == n + 2 else y.squeeze(0)

    forward.__name__, forward.__qualname__ = name, name
    forward.__doc__ = rf"""Cross-correlation in {n} dimensions:
    $y_o = b + \sum_k W_k\, x_{{o s + k d - p}}$ for every place o, stride s, dilation d, padding p.

    input (N, C, *L) or (C, *L), weight (out, C / groups, *K), bias (out,); output (N, out, *O) with
    $O = \lfloor (L + 2 p - d (K - 1) - 1) / s \rfloor + 1$. padding: numbers, "valid" (none) or "same" (O = L; stride 1).
    RuntimeError where channels, groups, dtypes or options do not fit or the kernel is larger than the padded input.
    LeCun et al. 1998 (Proc. IEEE 86), section II.
    """
    conv = op(builtin=getattr(F, name), autocast="low", layout=_layout)(forward)

    @conv.gradient
    def _(dy, needs, input, weight, stride, pads, dilation, groups):
        r"""$dx_l = \sum_{o s + k d - p = l} W_k^\top dy_o,\quad dW_k = \sum_o dy_o\, x_{o s + k d - p}^\top,\quad
        db = \sum_o dy_o$: y is linear in each, and every product $W_k x_l$ of the sum gives each factor's gradient."""
        dy, x = _batched(dy, n), _batched(input, n)
        dx = dw = None
        if needs.input:
            dx = spread(dy, weight.conj(), tuple(x.shape[2:]), stride, pads, dilation, groups)
        if needs.weight:
            dw = outer(x.conj(), dy, tuple(weight.shape[2:]), stride, pads, dilation, groups)
        return dx, dw, summed(dy.flatten(2), (0, 2)) if needs.bias else None

    @conv.prepare
    def _(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        channels = weight.shape[1] * groups if weight.dim() > 1 else 0
        out = weight.shape[0] if weight.dim() else 0
        stride, dilation = _checked(name, n, input, weight, bias, stride, dilation, groups, out, channels)
        kernel = tuple(weight.shape[2:])
        pads = _padding(name, n, padding, kernel, stride, dilation)
        for length, k, d, p in zip(input.shape[-n:], kernel, dilation, pads, strict=True):
            if length + sum(p) < d * (k - 1) + 1:
                raise RuntimeError(f"{name}(): the kernel must not be larger than the padded input, it spans "
                                   f"{d * (k - 1) + 1} of {length + sum(p)}: add padding")  # fmt: skip
        return input, weight, bias, stride, pads, dilation, groups

    return conv


def _transposed(n: int) -> Op:
    name = f"conv_transpose{n}d"

    def size_of(input, weight, stride, pads, dilation, extra):
        return tuple(
            (length - 1) * s - sum(p) + d * (k - 1) + 1 + e
            for length, k, s, p, d, e in zip(
                input.shape[-n:], weight.shape[2:], stride, pads, dilation, extra, strict=True
            )
        )

    def forward(input, weight, bias, stride, pads, extra, groups, dilation):
        size = size_of(input, weight, stride, pads, dilation, extra)
        y = spread(_batched(input, n), weight, size, stride, pads, dilation, groups)
        if bias is not None:
            y = y + bias.view(-1, *(1,) * n)
        return y if input.dim() == n + 2 else y.squeeze(0)

    forward.__name__, forward.__qualname__ = name, name
    forward.__doc__ = rf"""The transpose of a convolution in {n} dimensions:
    $y_l = b + \sum_{{o s + k d - p = l}} W_k^\top x_o$.

    input (N, C, *L) or (C, *L), weight (C, out / groups, *K), bias (out,); output (N, out, *O) with
    $O = (L - 1) s - 2 p + d (K - 1) + 1 + e$, e the output_padding. RuntimeError as in conv{n}d, and where e is not smaller
    than stride or dilation. Dumoulin & Visin 2016, arXiv:1603.07285, chapter 4.
    """
    conv = op(builtin=getattr(F, name), autocast="low", layout=_layout)(forward)

    @conv.gradient
    def _(dy, needs, input, weight, stride, pads, groups, dilation):
        r"""$dx_o = \sum_k W_k\, dy_{o s + k d - p},\quad dW_k = \sum_o x_o\, dy_{o s + k d - p}^\top,\quad
        db = \sum_l dy_l$: the transpose of the transpose is the convolution."""
        dy, x, dx, dw = _batched(dy, n), _batched(input, n), None, None
        if needs.input:
            dx = correlate(dy, weight.conj(), None, stride, pads, dilation, groups)
            dx = dx[(Ellipsis, *(slice(length) for length in x.shape[2:]))]  # with output_padding a window more may fit
        if needs.weight:
            cut = zip(x.shape[2:], weight.shape[2:], stride, pads, dilation, dy.shape[2:], strict=True)
            inner = tuple(
                (before, (length - 1) * s + d * (k - 1) + 1 - before - m) for length, k, s, (before, _), d, m in cut
            )
            dw = outer(dy, x.conj(), tuple(weight.shape[2:]), stride, inner, dilation, groups)
        return dx, dw, summed(dy.flatten(2), (0, 2)) if needs.bias else None

    @conv.prepare
    def _(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        out = weight.shape[1] * groups if weight.dim() > 1 else 0
        channels = weight.shape[0] if weight.dim() else 0
        stride, dilation = _checked(name, n, input, weight, bias, stride, dilation, groups, out, channels)
        if isinstance(padding, str):
            raise TypeError(f"{name}(): padding must be one number or {n}, it is {padding!r}")
        pads = _padding(name, n, padding, tuple(weight.shape[2:]), stride, dilation)
        extra = ntuple(output_padding, n)
        if len(extra) != n or min(extra) < 0:
            raise RuntimeError(
                f"{name}(): output_padding must be one number of at least 0 or {n}, it is {output_padding}"
            )
        if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
            raise RuntimeError(f"{name}(): output_padding must be smaller than stride or dilation, they are {extra}, {stride} "
                               f"and {dilation}")  # fmt: skip
        size = size_of(input, weight, stride, pads, dilation, extra)
        if min(size) < (input.shape[0] > 0 or input.dim() == n + 1):
            raise RuntimeError(
                f"{name}(): the output must have a size of at least 1, it would have {size}: take less padding"
            )
        return input, weight, bias, stride, pads, extra, groups, dilation

    return conv


conv1d, conv2d, conv3d = map(_convolution, (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_transposed, (1, 2, 3))


class Convolution(Manual):
    """What the three convolutions share: a padding mode other than zeros pads first."""

    def arguments(self):
        bound = super().arguments()
        return bound if self.padding_mode == "zeros" else {**bound, "padding": 0}

    def forward(self, input):
        if self.padding_mode != "zeros":
            input = pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return super().forward(input)

    def explicit(self, input):
        if self.padding_mode == "zeros":
            return super().explicit(input)
        grown, pull_pad = pad.vjp(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        output, pull = super().explicit(grown)

        def pullback(dy=None, needs=None):
            (dgrown,) = pull(dy, needs)
            return (None if dgrown is None else pull_pad(dgrown)[0],)

        return output, made_of(pullback, pull, pull_pad)


class Conv1d(Convolution, torch.nn.Conv1d):
    op = conv1d


class Conv2d(Convolution, torch.nn.Conv2d):
    op = conv2d


class Conv3d(Convolution, torch.nn.Conv3d):
    op = conv3d


class Transposed(Manual):
    """What the three transposed convolutions share: output_size decides the output_padding."""

    attributes = {n: n for n in ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")}

    def bound(self, input, output_size):
        if self.padding_mode != "zeros":
            raise ValueError(f"padding_mode of {type(self).__name__} must be 'zeros', it is {self.padding_mode!r}")
        n = len(self.kernel_size)
        options = self.stride, self.padding, self.kernel_size, n, self.dilation
        return {**self.arguments(), "output_padding": self._output_padding(input, output_size, *options)}

    def forward(self, input, output_size=None):
        return self.__op__(input, **self.bound(input, output_size))

    def explicit(self, input, output_size=None):
        output, pull = self.vjp_with(self.bound(input, output_size), (input,), {})
        if output_size is None:
            return output, pull

        def pullback(dy=None, needs=None):
            return (*pull(dy, needs if needs is None else needs[:1]), None)

        return output, made_of(pullback, pull)


class ConvTranspose1d(Transposed, torch.nn.ConvTranspose1d):
    op = conv_transpose1d


class ConvTranspose2d(Transposed, torch.nn.ConvTranspose2d):
    op = conv_transpose2d


class ConvTranspose3d(Transposed, torch.nn.ConvTranspose3d):
    op = conv_transpose3d


class LazyConv1d(Convolution, torch.nn.LazyConv1d):
    op, cls_to_become = conv1d, Conv1d


class LazyConv2d(Convolution, torch.nn.LazyConv2d):
    op, cls_to_become = conv2d, Conv2d


class LazyConv3d(Convolution, torch.nn.LazyConv3d):
    op, cls_to_become = conv3d, Conv3d


class LazyConvTranspose1d(Transposed, torch.nn.LazyConvTranspose1d):
    op, cls_to_become = conv_transpose1d, ConvTranspose1d


class LazyConvTranspose2d(Transposed, torch.nn.LazyConvTranspose2d):
    op, cls_to_become = conv_transpose2d, ConvTranspose2d


class LazyConvTranspose3d(Transposed, torch.nn.LazyConvTranspose3d):
    op, cls_to_become = conv_transpose3d, ConvTranspose3d
